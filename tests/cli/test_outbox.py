"""Without a server: what is sent waits in the outbox, and what was fetched can be read."""
import signal
import subprocess
import unittest

from fcd_process import DONE, NOT_FOUND, QUEUED, UNREACHABLE, FcTestCase, limit, running, wait_until

ROOMS = (("sealed", ()), ("open", ("--plain",)))


class Outbox(FcTestCase):
    def setUp(self):
        self.alice, self.bob = self.person(), self.person()
        for fc, name in ((self.alice, "alice"), (self.bob, "bob")):
            name += self.id().rpartition(".")[2][:20]
            fc.name = name
            fc.sign_up(name)
        self.rooms = []
        for kind, options in ROOMS:
            self.rooms.append(f"{kind}-{self.alice.name}")
            self.alice.run("room", "create", self.rooms[-1], "--member", self.bob.name, *options)

    def texts(self, fc, room):
        return [message["text"] for message in fc.run("history", room, "--json").objects]

    def assert_away(self, result, code):
        self.assertEqual(result.code, code, repr(result))
        self.assertRegex(result.stderr, r"\Afc[^\n]*\n\Z")

    def test_what_is_sent_waits_and_goes_in_order(self):
        for room in self.rooms:
            self.alice.run("send", room, "one")
            self.assertEqual(self.texts(self.alice, room), ["one"])
        self.fcd.stop()
        for room in self.rooms:
            self.assert_away(self.alice.try_run("send", room, "two"), QUEUED)
            queued = self.alice.try_run("send", room, "-", "--json", stdin=b"three\nfour")
            self.assert_away(queued, QUEUED)
            self.assertEqual([one["is_queued"] for one in queued.objects], [True, True])
            self.assert_away(self.alice.try_run("react", room, "1", "eek"), QUEUED)
        waiting = self.alice.run("outbox", "--json").objects
        self.assertEqual([one["room"] for one in waiting], [self.rooms[0]] * 4 + [self.rooms[1]] * 4)
        self.assertRegex(waiting[0]["id"], r"^[0-9a-f]{32}$")
        self.assertEqual(len(self.alice.run("outbox").text.splitlines()), 8)
        self.assert_away(self.alice.try_run("outbox", "flush"), UNREACHABLE)
        self.fcd.start()
        self.assertEqual(self.alice.run("outbox", "flush", "--json").object, {"sent_count": 8})
        self.assertEqual(self.alice.run("outbox", "flush").text, "sent 0\n")
        self.assertEqual(self.alice.run("outbox").stdout, b"")
        for room in self.rooms:
            self.assertEqual(self.texts(self.bob, room), ["one", "two", "three", "four"])

    def test_the_next_message_takes_those_before_it_along(self):
        room = self.rooms[0]
        self.alice.run("send", room, "one")
        self.fcd.stop()
        self.assert_away(self.alice.try_run("send", room, "two"), QUEUED)
        self.fcd.start()
        self.alice.run("send", room, "three")
        self.assertEqual(self.texts(self.bob, room), ["one", "two", "three"])

    def test_what_was_fetched_can_be_read(self):
        for room in self.rooms:
            self.alice.run("send", room, "the plan")
            self.assertEqual(self.texts(self.bob, room), ["the plan"])
            self.alice.run("send", room, "not fetched")
        self.fcd.stop()
        for room in self.rooms:
            for command in (("history", room), ("search", "plan"), ("unread",), ("room", "list")):
                result = self.bob.try_run(*command)
                self.assert_away(result, DONE)
                self.assertRegex(result.stderr, r"\Afc \w+( \w+)?: note: ")
                self.assertIn(room, self.bob.run("search", "plan", "--offline").text)
            self.assertIn("the plan", self.bob.try_run("history", room).text)
            self.assertNotIn("not fetched", self.bob.run("history", room, "--offline").text)
        self.assertIn(self.bob.try_run("history", "nowhere", "--offline").code, (NOT_FOUND, UNREACHABLE))
        self.assert_away(self.bob.try_run("room", "create", "x"), UNREACHABLE)
        self.assert_away(self.bob.try_run("join", self.rooms[0], "--no-follow"), UNREACHABLE)
        self.fcd.start()

    def test_join_sends_what_was_typed_meanwhile(self):
        room = self.rooms[0]
        self.bob.run("history", room)
        with running(self.bob.start("join", room, stdin=subprocess.PIPE)) as process:
            process.stdin.write(b"before\n")
            process.stdin.flush()
            wait_until(lambda: self.texts(self.alice, room) == ["before"], "the first line")
            self.fcd.stop()
            process.stdin.write(b"meanwhile\n")
            process.stdin.flush()
            wait_until(lambda: self.bob.run("outbox").stdout, "the line to be kept", seconds=40)
            self.fcd.start()
            wait_until(lambda: self.texts(self.alice, room) == ["before", "meanwhile"], "the second line", seconds=40)
            process.send_signal(signal.SIGTERM)
            stdout, _ = process.communicate(timeout=limit(20))
        self.assertEqual((process.returncode, stdout.count(b"meanwhile")), (DONE, 1))


if __name__ == "__main__":
    unittest.main()
