"""What members do with messages: fc send, dm, react, edit, delete, history, search, unread, read, block, report."""
import datetime
import os
import subprocess
import unittest

from fcd_process import DONE, FAILED, NO_KEY, NOT_ALLOWED, NOT_FOUND, USAGE, FcTestCase, limit, running
from terminal import Terminal

ROOMS = (("sealed", ()), ("open", ("--plain",)))


class Messages(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.names = {name: f"{name}{number}" for name in ("alice", "bob")}
        self.alice, self.bob = (self.person(self.names[name]) for name in ("alice", "bob"))
        self.rooms = [f"{kind}{number}" for kind, _ in ROOMS]
        for room, (_, options) in zip(self.rooms, ROOMS):
            self.alice.run("room", "create", room, "--member", self.names["bob"], *options)

    def history(self, fc, room, *options):
        return fc.run("history", room, "--json", *options).objects

    def texts(self, fc, room, *options):
        return [message["text"] for message in self.history(fc, room, *options)]

    def seqs(self, fc, room, *options):
        return [message["seq"] for message in self.history(fc, room, *options)]

    def test_reply_topic_mention_and_emote(self):
        for room in self.rooms:
            self.alice.run("send", room, f"hello @{self.names['bob']}, and @nobody", "--topic", "greetings")
            self.bob.run("send", room, "hello", "--reply", "1")
            self.bob.run("send", room, "waves", "--me")
            first, second, third = self.history(self.alice, room)
            self.assertEqual((first["type"], first["topic"]), ("text", "greetings"))
            self.assertIn(self.names["bob"], first["mentions"])
            self.assertEqual((second["reply_to_seq"], "topic" in second), (1, False))
            self.assertEqual((third["type"], third["text"]), ("emote", "waves"))
            lines = self.alice.run("history", room, "-n").text.splitlines()
            self.assertRegex(lines[0], rf"  #1 {self.names['alice']} \[greetings\]: hello @")
            self.assertRegex(lines[1], rf"  #2 {self.names['bob']} > #1: hello$")
            self.assertRegex(lines[2], rf"  #3 \* {self.names['bob']} waves$")
            self.assertEqual(self.seqs(self.bob, room, "--topic", "greetings"), [1])
            self.assertEqual(self.seqs(self.bob, room, "--topic", "other"), [])

    def test_react_edit_and_delete(self):
        for room in self.rooms:
            self.alice.run("send", room, "frist")
            self.alice.run("send", room, "secret")
            self.bob.run("react", room, "1", "\N{THUMBS UP SIGN}")
            self.alice.run("react", room, "#1", "\N{THUMBS UP SIGN}")
            self.bob.run("react", room, "1", "eek")
            self.bob.run("react", room, "1", "eek", "--undo")
            self.assertEqual(self.alice.run("edit", room, "1", "first", "--json").object["seq"], 7)
            self.alice.run("delete", room, "2")
            first, second = self.history(self.bob, room)
            self.assertEqual(first["text"], "first")
            self.assertIn("edited_at", first)
            self.assertEqual({(one["emoji"], one["user"]) for one in first["reactions"]},
                             {("\N{THUMBS UP SIGN}", name) for name in self.names.values()})
            self.assertEqual((second["text"], second["deleted"]), ("", True))
            text = self.bob.run("history", room).text
            self.assertRegex(text, r": first \(edited\)\n      \[\N{THUMBS UP SIGN} \w+, \w+\]\n")
            self.assertRegex(text, r": \[deleted\]\n")
            events = self.bob.run("history", room, "--events").text
            self.assertRegex(events, rf"{self.names['bob']} reacted to #1 with eek\n")
            self.assertRegex(events, rf"{self.names['bob']} took back from #1 eek\n")
            self.assertRegex(events, rf"{self.names['alice']} edited #1: first\n")
            self.assertRegex(events, rf"{self.names['alice']} deleted #2\n")
            self.assertEqual([message["type"] for message in self.history(self.bob, room, "--events")],
                             ["text", "text", "reaction", "reaction", "reaction", "unreaction", "edit", "delete"])

    def test_what_others_wrote_is_theirs(self):
        for room in self.rooms:
            self.alice.run("send", room, "mine")
            self.assert_fails(self.bob.try_run("edit", room, "1", "yours"), NOT_ALLOWED)
            self.assert_fails(self.bob.try_run("delete", room, "1"), NOT_ALLOWED)
            self.assertEqual(self.texts(self.alice, room), ["mine"])
            self.bob.run("send", room, "bob's")
            self.alice.run("delete", room, "2")  # as the owner
            self.assertEqual(self.texts(self.bob, room), ["mine", ""])
            for command in (("edit", room, "2", "again"), ("react", room, "2", "eek"), ("delete", room, "2")):
                self.assert_fails(self.bob.try_run(*command), FAILED, "deleted")

    def test_topics_of_messages_are_checked(self):
        for room in self.rooms:
            self.assert_fails(self.alice.try_run("send", room, "x", "--topic", "t" * 65), USAGE, "64 bytes")
            self.assert_fails(self.alice.try_run("send", room, "x", "--topic", "\udcff"), USAGE, "UTF-8")
            self.alice.run("send", room, "x", "--topic", "t" * 64)
            self.assertEqual(len(self.history(self.bob, room)), 1)

    def test_numbers_of_messages_are_checked(self):
        room = self.rooms[0]
        for command in (("react", room, "x", "eek"), ("react", room, "0", "eek"), ("edit", room, "-- 1", "x"), ("delete", room, ""),
                        ("read", room, "1x"), ("report", room, "18446744073709551616", "x"), ("react", room, "1", ""),
                        ("react", room, "1", "x" * 33), ("edit", room, "1", ""), ("send", room, "x", "--reply", "0")):
            with self.subTest(command=command):
                self.assert_fails(self.alice.try_run(*command), USAGE)
        for room in self.rooms:
            for command in (("react", room, "99", "eek"), ("edit", room, "99", "x"), ("delete", room, "99")):
                self.assert_fails(self.alice.try_run(*command), NOT_FOUND, "99")

    def test_pipes(self):
        for room in self.rooms:
            sent = self.alice.run("send", room, "-", "--json", stdin=b"a\nb\n").objects
            self.assertEqual([one["seq"] for one in sent], [1, 2])
            self.alice.run("send", room, "-", "--me", "--topic", "t", stdin=b"c\nd")
            self.assertEqual([(m["text"], m["type"], m.get("topic")) for m in self.history(self.bob, room)],
                             [("a", "text", None), ("b", "text", None), ("c", "emote", "t"), ("d", "emote", "t")])

    def test_a_reader_that_has_enough_ends_history_quietly(self):
        room = self.rooms[0]
        self.alice.run("send", room, "-", stdin=b"\n".join(b"%0500d" % i for i in range(300)), seconds=120)
        process = subprocess.Popen(["sh", "-c", f'"$FC" history {room} --limit 0 --json | head -1; echo done'],
                                   env={**self.bob.env, "FC": os.environ["FC"]}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with running(process):
            stdout, stderr = process.communicate(timeout=limit(30))
        self.assertRegex(stdout.decode(), r'\A\{[^\n]*"seq":1,[^\n]*\}\ndone\n\Z')
        self.assertEqual(stderr, b"")

    def test_ranges_of_history(self):
        for room in self.rooms:
            self.alice.run("send", room, "-", stdin=b"\n".join(b"%d" % i for i in range(1, 11)))
            for options, expected in ((("--before", "4"), [1, 2, 3]), (("--before", "4", "--limit", "2"), [2, 3]),
                                      (("--around", "5", "--limit", "3"), [4, 5, 6]), (("--since", "8"), [9, 10]),
                                      (("--after-time", "1h", "--limit", "2"), [1, 2]), (("--after-time", "2100-01-01"), []),
                                      (("--after-time", "2020-01-01T00:00:00Z", "--limit", "1"), [1])):
                self.assertEqual(self.seqs(self.bob, room, *options), expected, options)
            future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
            self.assertEqual(self.seqs(self.bob, room, "--after-time", future.strftime("%Y-%m-%dT%H:%M:%SZ")), [])
            self.assertEqual(self.seqs(self.bob, room, "--after-time", future.strftime("%Y-%m-%dT%H:%M:%S+02:00"), "--limit", "1"), [1])
        for options in (("--since", "1", "--before", "3"), ("--after-time", "yesterday"), ("--after-time", "2020-13-01"),
                        ("--after-time", "2020-01-01T00:00:00+2"), ("--before", "0"), ("--around", "x")):
            with self.subTest(options=options):
                self.assert_fails(self.alice.try_run("history", self.rooms[0], *options), USAGE, "--")

    def test_hostile_text_cannot_drive_a_terminal(self):
        evil = "\x1b]0;title\x07 \x9b31m \u202e back\b\nfake: line"
        for room in self.rooms:
            self.alice.run("send", room, evil, "--topic", "\x1b[2Jtopic")
            self.alice.run("send", room, evil, "--me")
            self.alice.run("react", room, "1", "\x1b[31mred")
            self.alice.run("edit", room, "2", evil)
            self.alice.run("room", "amend", room, "--topic", "\x1b[31m")
            for command in (("history", room), ("history", room, "--events"), ("search", "title"), ("room", "list"),
                            ("room", "show", room), ("unread",), ("join", room, "--since", "0", "--count", "4")):
                self.assertNotRegex(self.bob.run(*command).text, "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", command)
                with Terminal([os.environ["FC"], *command], env=self.bob.env) as terminal:
                    self.assertEqual(terminal.wait(), DONE)
                    self.assertNotRegex(terminal.output, rb"\x1b\]|\x1b\[2J|\x1b\[31mred|\x07|\x9b", command)
            self.assertEqual(self.texts(self.bob, room)[0], evil)

    def test_colours_are_for_terminals_and_NO_COLOR_forbids_them(self):
        room = self.rooms[0]
        self.alice.run("send", room, "hello")
        self.assertNotIn(b"\x1b", self.bob.run("history", room).stdout)
        command = [os.environ["FC"], "history", room]
        for changes, is_coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
            with Terminal(command, env={**self.bob.env, **changes}) as terminal:
                self.assertEqual(terminal.wait(), DONE)
                self.assertEqual(b"\x1b[" in terminal.output, is_coloured, (changes, terminal.output))
                self.assertIn(b": hello\r\n", terminal.output)
        with Terminal([*command, "--json"], env=self.bob.env) as terminal:
            self.assertEqual(terminal.wait(), DONE)
            self.assertNotIn(b"\x1b", terminal.output)

    def test_unread_and_read(self):
        for room in self.rooms:
            self.alice.run("send", room, "one")
            self.alice.run("send", room, f"two @{self.names['bob']}")
            unread = {one["room"]: one for one in self.bob.run("unread", "--json").objects}
            self.assertEqual((unread[room]["unread_count"], unread[room]["mention_count"]), (2, 1))
            self.assertRegex(self.bob.run("unread").text, rf"(?m)^ +2 +1  {room}$")
            self.assertRegex(self.bob.run("room", "list").text, rf"(?m)  {room}  \(2 new, 1 for you\)$")
            self.bob.run("read", room, "1")
            unread = {one["room"]: one for one in self.bob.run("unread", "--json").objects}
            self.assertEqual((unread[room]["unread_count"], unread[room]["read_seq"]), (1, 1))
            self.bob.run("read", room)
            self.assertNotIn(room, self.bob.run("unread").text)
            self.assertNotIn(room, self.alice.run("unread").text)  # one's own are read
        self.assert_fails(self.bob.try_run("read", "nowhere"), NOT_FOUND)

    def test_search(self):
        for room in self.rooms:
            self.alice.run("send", room, f"The Plan of {room}")
            self.bob.run("send", room, "no plans")
        text = self.bob.run("search", "plan").text
        self.assertEqual(len(text.splitlines()), 4)
        self.assertRegex(text, rf"(?m)  {self.rooms[0]} #1 {self.names['alice']}: The Plan of")
        self.assertEqual([one["room"] for one in self.bob.run("search", "the plan", "--json").objects], self.rooms[::-1])
        self.assertEqual(len(self.bob.run("search", "plan", "--room", self.rooms[0], "--json").objects), 2)
        self.assertEqual(len(self.bob.run("search", "plan", f"in:{self.rooms[1]}", "--json").objects), 2)
        self.assertEqual(len(self.bob.run("search", f"from:{self.names['bob']}", "plan", "--json").objects), 2)
        self.assertEqual(len(self.bob.run("search", "plan", "--limit", "1", "--json").objects), 1)
        self.assertEqual(self.bob.run("search", "lorem").stdout, b"")
        self.assert_fails(self.bob.try_run("search", "x", "--room", "nowhere"), NOT_FOUND)
        self.assert_fails(self.bob.try_run("search", ""), USAGE)

    def test_direct_messages(self):
        bob, alice = self.names["bob"], self.names["alice"]
        self.assertEqual(self.alice.run("dm", bob, "psst", "--json").object["seq"], 1)
        self.bob.run("dm", alice, "-", stdin=b"what\nis it")
        self.assertEqual(self.texts(self.bob, "@" + alice), ["psst", "what", "is it"])
        self.assertEqual(self.texts(self.alice, "@" + bob), ["psst", "what", "is it"])
        self.alice.run("send", "@" + bob, "nothing", "--reply", "2")
        followed = self.bob.run("dm", alice, "--since", "3", "--count", "1", "--json").object
        self.assertEqual((followed["text"], followed["reply_to_seq"]), ("nothing", 2))
        shown = self.bob.run("room", "show", "@" + alice, "--json").object
        self.assertEqual((shown["kind"], shown["is_plain"]), ("direct", False))
        self.assert_fails(self.alice.try_run("dm", "nobody-here", "x"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("dm", bob, "x", "--count", "1"), USAGE)
        self.assert_fails(self.alice.try_run("dm", bob, "--me"), USAGE)
        self.assert_fails(self.alice.try_run("dm", alice, "x"), USAGE, "somebody else")

    def test_a_computer_without_keys(self):
        room = self.rooms[0]
        name = "keyless" + room
        person, elsewhere = self.person(), self.person()
        person.try_run("signup", name, "--password-stdin", "--recovery", "offline", stdin=b"a long password")
        self.alice.run("room", "amend", room, "--add", name)
        self.alice.run("send", room, "sealed for others")
        elsewhere.try_run("login", name, "--password-stdin", stdin=b"a long password")
        self.assert_fails(elsewhere.try_run("send", room, "x"), NO_KEY, "keys")
        self.assert_fails(elsewhere.try_run("dm", self.names["bob"], "x"), NO_KEY)
        self.assert_fails(elsewhere.try_run("room", "create", "x" + room), NO_KEY)
        message = elsewhere.run("history", room, "--json").object
        self.assertEqual((message["text"], message["encrypted"]), ("", True))
        self.assertRegex(message["unreadable"], "no key")
        self.assertEqual(self.texts(person, room), ["sealed for others"])
        elsewhere.run("room", "create", "plain" + room, "--plain")
        elsewhere.run("send", "plain" + room, "x")

    def test_block(self):
        bob, alice = self.names["bob"], self.names["alice"]
        self.alice.run("block", bob)
        self.assertEqual(self.alice.run("blocks").text, f"{bob}\n")
        self.assertEqual(self.alice.run("blocks", "--json").object, {"user": bob})
        self.assert_fails(self.bob.try_run("dm", alice, "x"), NOT_ALLOWED)
        self.bob.run("room", "create", "trap" + bob)
        self.assert_fails(self.bob.try_run("room", "amend", "trap" + bob, "--add", alice), NOT_ALLOWED)
        self.alice.run("unblock", bob)
        self.alice.run("unblock", bob)
        self.bob.run("dm", alice, "x")
        self.assert_fails(self.alice.try_run("block", "nobody-here"), NOT_FOUND)

    def test_report(self):
        for room in self.rooms:
            self.alice.run("send", room, "rude \x1b[31m")
            self.assertEqual(self.bob.run("report", room, "1", "it is", "rude").stdout, b"")
            self.assert_fails(self.bob.try_run("report", room, "99", "x"), NOT_FOUND)
            self.assert_fails(self.bob.try_run("report", room, "1", "x" * 1001), USAGE)
        self.assert_fails(self.bob.try_run("report", "nowhere", "1", "x"), NOT_FOUND)
        self.assert_fails(self.bob.try_run("reports"), NOT_ALLOWED)


class Reports(FcTestCase):
    def test_the_first_account_sees_what_was_reported(self):
        admin, bob = self.person("admin"), self.person("bob")
        for room, options in (("sealed", ()), ("open", ("--plain",))):
            bob.run("room", "create", room, "--member", "admin", *options)
            bob.run("send", room, "rude \x1b[31m")
            admin.run("report", room, "1", "it is\x07", "rude")
        bob.run("send", "sealed", "worse")
        admin.run("report", "sealed", "2", "look", "--reveal")
        self.assert_fails(admin.try_run("report", "open", "1", "x", "--reveal"), FAILED, "not encrypted")
        self.assert_fails(admin.try_run("report", "sealed", "3", "x", "--reveal"), NOT_FOUND)
        first, second, third = admin.run("reports", "--json").objects
        self.assertEqual((third["text"], third["is_encrypted"], third["is_revealed"]), ("worse", True, True))
        self.assertEqual((first["is_encrypted"], first["is_revealed"]), (True, False))
        self.assertEqual((first["room"], first["seq"], first["sender"], first["reporter"], first["reason"], first["text"]),
                         ("sealed", 1, "bob", "admin", "it is\x07 rude", ""))
        self.assertEqual((second["room"], second["text"], second["is_encrypted"]), ("open", "rude \x1b[31m", False))
        self.assertEqual(len(admin.run("reports", "--since", str(first["id"]), "--json").objects), 2)
        self.assertRegex(admin.run("reports").text, r"admin reported open #1 of bob: it is\\x07 rude\n    rude \\x1b\[31m\n")


if __name__ == "__main__":
    unittest.main()
