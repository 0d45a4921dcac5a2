"""What people say to each other is nowhere at the server and on no wire."""
import unittest

from fcd_process import DONE
from room_people import RoomTestCase


class Secrecy(RoomTestCase):
    def test_members_read_and_the_server_does_not(self):
        a, b, c = (self.person(name) for name in ("anna", "bert", "carl"))
        # In no alphabet that a database or a log has of itself.
        said = [f"canary-of-{name}-Zx7q" for name in ("anna", "bert", "carl")]
        topic, name, content = "topic-canary-Zx7q", "plans/name-canary-Zx7q.txt", b"content-canary-Zx7q" * 40000
        self.room("team", a)
        a.run("room", "amend", "team", "--add", "bert,carl")
        for fc, text in zip((a, b, c), said):
            fc.run("send", "team", text, "--topic", topic)
        a.run("edit", "team", "1", "edited-canary-Zx7q")
        b.run("react", "team", "1", ":canary-Zx7q:")
        c.run("delete", "team", "3")
        a.run("dm", "bert", "direct-canary-Zx7q")
        a.write("plan", content)
        a.run("upload", "plan", "--room", "team", "--name", name)

        expected = self.history(a, "team")
        self.assertEqual(expected[1]["text"], said[1])
        self.assertEqual(expected[-1]["file"]["name"], name)
        for fc in (b, c):
            self.assertEqual(self.history(fc, "team"), expected)
            self.assertEqual(fc.run("search", "zx7q", "in:team", "--json").code, DONE)
            fc.run("download", f"team/{name}", "-o", "plan")
            self.assertEqual(fc.read("plan"), content)
        self.assertEqual(self.texts(b, "@anna"), ["direct-canary-Zx7q"])

        self.assert_somewhere(b"team")
        self.assert_somewhere(b"anna")
        self.assert_nowhere(*said, topic, name, "plans/", content[:19], content[19:40], "edited-canary-Zx7q", ":canary-Zx7q:",
                            "direct-canary-Zx7q", "canary", "Zx7q")
        # Nor when it has ended, and has written everything to where it stays.
        self.fcd.restart()
        self.assert_nowhere(*said, "canary", "Zx7q")
        self.assertEqual(self.history(b, "team"), expected)

    def test_the_search_finds_what_a_plain_room_gives_away(self):
        d = self.person("dora")
        self.room("open", d, options=("--plain",))
        d.run("send", "open", "plain-canary-Qw3e")
        self.assert_somewhere(b"plain-canary-Qw3e")
        with self.assertRaises(AssertionError):
            self.assert_nowhere("plain-canary-Qw3e")


if __name__ == "__main__":
    unittest.main()
