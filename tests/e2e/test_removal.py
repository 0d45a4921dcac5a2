"""Who has been removed from a room reads nothing of what follows: not with fc, nor with old keys and a stolen database."""
import unittest

from fcd_process import check_report, limit, running
from room_people import RoomTestCase, opens


class Removed(RoomTestCase):
    def test_old_keys_and_a_stolen_database_open_nothing(self):
        anna, bert, carl = (self.person(name) for name in ("anna", "bert", "carl"))
        room_id = self.room("team", anna, "bert", "carl")
        for fc, text in ((anna, "one"), (bert, "two"), (carl, "three")):
            fc.run("send", "team", text)
        anna.run("room", "amend", "team", "--rekey")
        carl.run("send", "team", "four")
        self.assertEqual(self.texts(carl, "team"), ["one", "two", "three", "four"])
        with running(carl.start("join", "team", "--json", "--since", "4")) as follower:
            bert.run("send", "team", "five")
            self.assertIn(b'"five"', follower.stdout.readline())
            anna.run("room", "amend", "team", "--remove", "carl")
            stdout, stderr = follower.communicate(timeout=limit(20))
            self.assertIn(follower.returncode, (5, 11), stderr)
            self.assertEqual(stdout, b"")
            check_report("fc join", stderr.decode())
        for fc, text in ((anna, "six"), (bert, "seven"), (anna, "eight")):
            fc.run("send", "team", text)
        anna.run("room", "amend", "team", "--rekey")
        bert.run("send", "team", "nine")
        self.assertEqual(self.texts(bert, "team"), ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])

        for command in (("history", "team"), ("join", "team"), ("join", "team", "--since", "0"), ("send", "team", "x"),
                        ("room", "show", "team"), ("room", "amend", "team", "--add", "carl"), ("react", "team", "1", "x"),
                        ("history", room_id.hex()), ("audit", "team")):
            with self.subTest(command=command):
                self.assert_shut_out(carl.try_run(*command))

        # It is said in words that mean something.
        self.assertNotIn(room_id.hex(), carl.try_run("send", "team", "x").stderr)

        stored, secrets = self.sealed_messages(room_id), self.all_secrets(carl, room_id)
        self.assertGreaterEqual(len(secrets), 2)
        for seq, sealed in stored.items():
            could = any(opens(sealed, secret) for secret in secrets)
            self.assertEqual(could, seq <= 5, f"message {seq}")
        # The others have what it takes.
        self.assertTrue(all(any(opens(sealed, secret) for secret in self.all_secrets(bert, room_id))
                            for sealed in stored.values()))


if __name__ == "__main__":
    unittest.main()
