"""A second device has the same history and the same files, by pairing and by the recovery key alone."""
import json
import unittest

from fcd_process import DONE, INTEGRITY, limit, running
from room_people import PASSWORD, RoomTestCase

CONTENT = bytes(range(256)) * 9000  # over two segments of 1 MiB


class SecondDevice(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.bert = self.person("bert")
        self.old = self.person()
        text = self.old.run("signup", "anna", "--password-stdin", "--recovery", "offline", "--json",
                            stdin=PASSWORD.encode()).object
        self.recovery_key = text["recovery_key"]
        self.room("team", self.bert, "anna")
        self.room("later", self.bert, options=("--history", "joined"))
        self.bert.run("send", "later", "before anna")
        self.bert.run("room", "amend", "later", "--add", "anna")
        self.bert.run("send", "team", "one")
        self.old.write("plan.bin", CONTENT)
        self.old.run("upload", "plan.bin", "--room", "team")
        self.bert.run("room", "amend", "team", "--rekey")
        self.old.run("send", "team", "two")
        self.bert.run("send", "later", "after anna")
        self.bert.run("dm", "anna", "just us")
        self.rooms = ("team", "later", "@bert")
        self.expected = {room: self.history(self.old, room) for room in self.rooms}
        self.assertEqual([message.get("text") for message in self.expected["team"]], ["one", "", "two"])

    def log_in(self):
        new = self.person()
        new.run("login", "anna", "--password-stdin", stdin=PASSWORD.encode())
        return new

    def assert_has_everything(self, new):
        for room in self.rooms:
            self.assertEqual(self.history(new, room), self.expected[room], room)
        new.run("download", "team/plan.bin")
        self.assertEqual(new.read("plan.bin"), CONTENT)
        self.assertEqual(new.run("search", "two", "--json").object["text"], "two")
        # And speaks for anna, as the old one does.
        new.run("send", "team", "from the new one")
        self.assertEqual(self.texts(self.bert, "team")[-1], "from the new one")
        self.assertEqual(self.history(self.bert, "team")[-1]["sender"], "anna")
        self.bert.run("send", "team", "to both")
        self.assertEqual(self.texts(new, "team")[-1], "to both")
        self.assert_one_fingerprint("team", self.bert, new)

    def test_by_pairing(self):
        new = self.log_in()
        with running(new.start("device", "offer", "--json")) as process:
            code = json.loads(process.stdout.readline())["code"]
            changed = code[:-1] + ("0" if code[-1] != "0" else "1")
            wrong = self.old.try_run("device", "add", changed)
            self.assertEqual(wrong.code, INTEGRITY, repr(wrong))
            self.old.run("device", "add", code)
            _, stderr = process.communicate(timeout=limit(30))
            self.assertEqual((process.returncode, stderr), (DONE, b""))
        self.assert_has_everything(new)
        self.assertEqual(self.texts(self.old, "team")[-1], "to both")

    def test_by_the_recovery_key_when_all_devices_are_lost(self):
        self.old.close()
        new = self.log_in()
        wrong = ("0" if self.recovery_key[5] != "0" else "1").join((self.recovery_key[:5], self.recovery_key[6:]))
        self.assertNotEqual(new.try_run("recover", stdin=wrong.encode()).code, DONE)
        new.run("recover", stdin=self.recovery_key.encode())
        self.assert_has_everything(new)


if __name__ == "__main__":
    unittest.main()
