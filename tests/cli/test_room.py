"""fc room create, room list, leave, send, history."""
import re
import unittest

from fcd_process import CONFLICT, DONE, FAILED, LIMITED, NOT_ALLOWED, NOT_FOUND, USAGE, FcTestCase

TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


class Rooms(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.alice = self.person(f"alice{number}")
        self.name = f"alice{number}"
        self.room = f"room{number}"

    def enter(self):
        self.alice.run("room", "create", self.room, "--plain")
        return self.room

    def send(self, *texts):
        for text in texts:
            self.alice.run("send", self.room, text)

    def texts(self, *options):
        return [message["text"] for message in self.alice.run("history", self.room, "--json", *options).objects]

    def test_create_and_list(self):
        made = self.alice.run("room", "create", self.room, "--plain", "--json").object
        self.assertEqual(made["room"], self.room)
        self.assertRegex(made["id"], r"^[0-9a-f]{32}$")
        self.assertEqual((made["head_seq"], made["is_member"], made["member_count"], made["is_plain"]),
                         (0, True, 1, True))
        self.assertRegex(made["created_at"], TIME)
        rooms = {room["room"]: room for room in self.alice.run("room", "list", "--json").objects}
        self.assertEqual(rooms[self.room], made)
        self.assertRegex(self.alice.run("room", "list").text, rf"(?m)^\* +1 +0  {self.room}$")
        other = self.person("lister-" + self.room)
        self.assertNotIn(self.room, other.run("room", "list").text)
        self.assertRegex(other.run("room", "list", "--all").text, rf"(?m)^  +1 +0  {self.room}$")

    def test_without_plain_a_room_is_encrypted_and_not_for_everybody(self):
        other = self.person("lister-" + self.room)
        for options in ((), ("--json",)):
            room = self.room + "".join(options)
            self.assertIn(room, self.alice.run("room", "create", room, *options).text)
            rooms = {one["room"]: one for one in self.alice.run("room", "list", "--json").objects}
            self.assertEqual((rooms[room]["is_plain"], rooms[room]["kind"], rooms[room]["role"]), (False, "private", "owner"))
            self.assertNotIn(room, other.run("room", "list", "--all").text)
            self.assert_fails(other.try_run("join", room, "--no-follow"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("room", "create", self.room), CONFLICT)

    def test_a_taken_name(self):
        self.enter()
        self.assert_fails(self.alice.try_run("room", "create", self.room, "--plain"), CONFLICT)

    def test_bad_room_names(self):
        for name in ("", "-x", ".x", "a b", "a/b", "a\nb", "a\x1bb", "x" * 65):
            with self.subTest(name=name):
                self.assert_fails(self.alice.try_run("room", "create", "--plain", "--", name), USAGE)

    def test_unknown_rooms(self):
        for command in (("join", "nowhere"), ("leave", "nowhere"), ("send", "nowhere", "x"), ("history", "nowhere"),
                        ("history", "0" * 32)):
            with self.subTest(command=command):
                self.assert_fails(self.alice.try_run(*command), NOT_FOUND, "nowhere|no such room")

    def test_who_is_no_member_may_not_read_or_send(self):
        self.enter()
        other = self.person("stranger-" + self.room)
        self.assert_fails(other.try_run("history", self.room), NOT_ALLOWED)
        self.assert_fails(other.try_run("send", self.room, "x"), NOT_ALLOWED)
        self.assert_fails(other.try_run("leave", self.room), FAILED)

    def test_leave(self):
        self.enter()
        self.assertEqual(self.alice.run("leave", self.room).stdout, b"")
        self.assert_fails(self.alice.try_run("send", self.room, "x"), NOT_ALLOWED)

    def test_send_words_and_say_nothing(self):
        self.enter()
        self.assertEqual(self.alice.run("send", self.room, "several", "words", "", "here").stdout, b"")
        self.assertEqual(self.texts(), ["several words  here"])

    def test_send_json(self):
        self.enter()
        sent = [self.alice.run("send", self.room, "x", "--json").object for _ in range(2)]
        self.assertEqual([one["seq"] for one in sent], [1, 2])
        self.assertEqual(sent[0]["room"], self.room)
        self.assertRegex(sent[0]["sent_at"], TIME)
        history = self.alice.run("history", self.room, "--json").objects
        self.assertEqual([one["sent_at"] for one in sent], [message["sent_at"] for message in history])

    def test_send_words_that_look_like_options(self):
        self.enter()
        self.assert_fails(self.alice.try_run("send", self.room, "-x"), USAGE, "--")
        self.alice.run("send", self.room, "--", "-x", "--json", "-")
        self.alice.run("send", self.room, "--", "--")
        self.assertEqual(self.texts(), ["-x --json -", "--"])

    def test_send_lines(self):
        self.enter()
        result = self.alice.run("send", self.room, "-", "--json", stdin=b"one\n\ntwo \r\n three\tx\nlast")
        self.assertEqual([sent["seq"] for sent in result.objects], [1, 2, 3, 4])
        self.assertEqual(self.texts(), ["one", "two ", " three\tx", "last"])
        self.alice.run("send", self.room, "-", stdin=b"")
        self.assertEqual(len(self.texts()), 4)

    def test_send_many_lines_in_order(self):
        self.enter()
        lines = [f"line {i}" for i in range(300)]
        self.alice.run("send", self.room, "-", stdin="\n".join(lines).encode(), seconds=60)
        self.assertEqual(self.texts("--since", "0"), lines)

    def test_limits_of_a_message(self):
        self.enter()
        self.alice.run("send", self.room, "-", stdin=b"x" * 65536)
        for text in (b"y" * 65537, b"y" * 1000000):
            result = self.alice.try_run("send", self.room, "-", stdin=b"ok\n" + text + b"\nnever")
            self.assert_fails(result, FAILED, "line 2: .*65536")
        self.assert_fails(self.alice.try_run("send", self.room, ""), USAGE, "empty")
        self.assert_fails(self.alice.try_run("send", self.room, "-", stdin=b"ok\n\xff\xfe\n"), USAGE, "line 2")
        self.assertEqual([len(text) for text in self.texts()], [65536, 2, 2, 2])

    def test_message_json(self):
        self.enter()
        text = 'quote " backslash \\ tab \t bell \x07 escape \x1b[31m \u202e \U0001f600'
        self.send(text)
        message = self.alice.run("history", self.room, "--json").object
        self.assertEqual(set(message), {"room", "seq", "sender", "text", "sent_at", "id", "type"})
        self.assertEqual((message["room"], message["seq"], message["sender"], message["text"]),
                         (self.room, 1, self.name, text))
        self.assertRegex(message["sent_at"], TIME)
        self.assertRegex(message["id"], r"^[0-9a-f]{32}$")

    def test_text_output_cannot_drive_a_terminal(self):
        self.enter()
        self.send("red \x1b[31m \x9b31m bell \x07 \u202e back\b\r end\n2020-01-01 00:00:00  bob: lies")
        output = self.alice.run("history", self.room).text
        self.assertNotRegex(output, "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
        self.assertIn(r"\x1b[31m", output)
        first, second = output.splitlines()
        self.assertRegex(first, rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  {re.escape(self.name)}: red ")
        self.assertEqual(second, "    2020-01-01 00:00:00  bob: lies")

    def test_history_ranges(self):
        self.enter()
        self.alice.run("send", self.room, "-", stdin="\n".join(str(i) for i in range(1, 61)).encode(), seconds=60)
        numbers = lambda first, last: [str(i) for i in range(first, last + 1)]
        self.assertEqual(self.texts(), numbers(11, 60))
        self.assertEqual(self.texts("--limit", "3"), numbers(58, 60))
        self.assertEqual(self.texts("--limit", "0"), numbers(1, 60))
        self.assertEqual(self.texts("--since", "0"), numbers(1, 60))
        self.assertEqual(self.texts("--since", "57"), numbers(58, 60))
        self.assertEqual(self.texts("--since", "5", "--limit", "2"), numbers(6, 7))
        self.assertEqual(self.texts("--since", "60"), [])
        self.assertEqual(self.texts("--since", "18446744073709551615"), [])

    def test_a_room_by_its_id(self):
        self.enter()
        rooms = self.alice.run("room", "list", "--json").objects
        (room_id,) = [room["id"] for room in rooms if room["room"] == self.room]
        self.alice.run("send", room_id, "by id")
        self.assertEqual(self.alice.run("history", room_id, "--json").object["text"], "by id")
        self.assertEqual(self.texts(), ["by id"])
        self.alice.run("join", room_id, "--since", "0", "--count", "1")


class SmallServer(FcTestCase):
    fcd_options = ("--max-rooms-per-user", "1", "--max-members", "2")

    def test_limits_of_the_operator(self):
        people = [self.person(name) for name in ("alice", "bob", "carol")]
        people[0].run("room", "create", "first", "--plain")
        self.assert_fails(people[0].try_run("room", "create", "second", "--plain"), LIMITED, "leave one")
        people[0].run("send", "first", "hello")
        people[1].run("join", "first", "--since", "0", "--count", "1")
        self.assert_fails(people[2].try_run("join", "first", "--since", "0", "--count", "1"), LIMITED, "at most 2")


if __name__ == "__main__":
    unittest.main()
