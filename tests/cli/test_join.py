"""fc join: pipes, counts, reconnection, and a terminal."""
import json
import os
import select
import signal
import subprocess
import time
import unittest

from fcd_process import DONE, NOT_ALLOWED, FcTestCase, check_report, limit, running
from terminal import Terminal


class Lines:
    """Reads the lines of a process without waiting for ever."""

    def __init__(self, process):
        self.process, self.pending = process, b""

    def next(self, seconds=20):
        deadline = time.monotonic() + limit(seconds)
        while b"\n" not in self.pending:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            if not chunk:
                raise AssertionError(f"no line came; there is {self.pending!r}")
            self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def next_text(self):
        return json.loads(self.next())["text"]


class Join(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.room = f"room{number}"
        self.alice = self.person(f"alice{number}")
        self.bob = self.person(f"bob{number}")
        self.alice.run("room", "create", self.room, "--plain")

    def send(self, *texts):
        for text in texts:
            self.alice.run("send", self.room, text)

    def end(self, process, signal_number=signal.SIGINT):
        """Ends fc join as a person does, which is a success and makes no noise."""
        process.send_signal(signal_number)
        stdout, stderr = process.communicate(timeout=limit(20))
        check_report("fc join", stderr.decode())
        self.assertEqual((process.returncode, stderr), (DONE, b""))
        return stdout

    def wait_for_member(self, count):
        deadline = time.monotonic() + limit(20)
        while True:
            rooms = {room["room"]: room for room in self.alice.run("room", "list", "--json").objects}
            if rooms[self.room]["member_count"] == count:
                return
            self.assertLess(time.monotonic(), deadline)

    def test_since_and_count(self):
        self.send("one", "two", "three")
        result = self.bob.run("join", self.room, "--since", "1", "--count", "2", "--json")
        self.assertEqual([(m["seq"], m["text"]) for m in result.objects], [(2, "two"), (3, "three")])
        result = self.bob.run("join", self.room, "--since", "0", "--count", "1")
        self.assertRegex(result.text, r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  alice\d+: one\n\Z")

    def test_joining_makes_a_member(self):
        self.send("before")
        self.bob.run("join", self.room, "--since", "0", "--count", "1")
        self.bob.run("send", self.room, "now I may")

    def test_messages_come_at_once_and_in_order(self):
        with running(self.bob.start("join", self.room, "--json", "--since", "0")) as process:
            lines = Lines(process)
            for number in range(20):
                self.send(f"message {number}")
                self.assertEqual(lines.next_text(), f"message {number}")
            self.assertEqual(self.end(process), b"")

    def test_begins_with_what_is_sent_from_now_on(self):
        self.send("old")
        with running(self.bob.start("join", self.room, "--count", "1", "--json")) as process:
            self.wait_for_member(2)
            # The membership is there before the subscription: what is sent between the two is not lost.
            self.send("new")
            stdout, stderr = process.communicate(timeout=limit(20))
        self.assertEqual((process.returncode, stderr), (DONE, b""))
        self.assertEqual(json.loads(stdout)["text"], "new")

    def test_lines_piped_in_are_sent_and_come_back(self):
        result = self.bob.run("join", self.room, "--count", "3", "--json", stdin=b"one\n\ntwo\nthree")
        self.assertEqual([message["text"] for message in result.objects], ["one", "two", "three"])

    def test_the_end_of_a_pipe_does_not_end_it(self):
        with running(self.bob.start("join", self.room, "--json", stdin=subprocess.PIPE)) as process:
            lines = Lines(process)
            process.stdin.write(b"question\n")
            process.stdin.close()
            process.stdin = None
            self.assertEqual(lines.next_text(), "question")
            self.send("answer")
            self.assertEqual(lines.next_text(), "answer")
            self.end(process)

    def test_closed_standard_input(self):
        process = self.bob.start("join", self.room, "--json", "--since", "0", stdin=None,
                                 preexec_fn=lambda: os.close(0))
        with running(process):
            lines = Lines(process)
            self.send("one")
            self.assertEqual(lines.next_text(), "one")
            self.end(process, signal.SIGTERM)

    def test_a_reader_that_goes_ends_it_quietly(self):
        with running(self.bob.start("join", self.room, "--since", "0")) as process:
            lines = Lines(process)
            self.send("one")
            lines.next()
            process.stdout.close()
            process.stdout = None
            self.send("two")
            _, stderr = process.communicate(timeout=limit(20))
            self.assertEqual((process.returncode, stderr), (DONE, b""))

    def test_nothing_is_missed_when_the_server_restarts(self):
        with running(self.bob.start("join", self.room, "--json", "--since", "0")) as process:
            lines = Lines(process)
            self.send("before")
            self.assertEqual(lines.next_text(), "before")
            self.fcd.kill()
            self.fcd.start()
            self.send("after", "and after")
            self.assertEqual([lines.next_text(), lines.next_text()], ["after", "and after"])
            self.end(process)

    def test_the_end_of_the_membership_ends_it(self):
        with running(self.bob.start("join", self.room, "--since", "0")) as process:
            lines = Lines(process)
            self.send("one")
            lines.next()
            self.bob.run("leave", self.room)
            stdout, stderr = process.communicate(timeout=limit(20))
        self.assertEqual((process.returncode, stdout), (NOT_ALLOWED, b""), stderr)
        self.assertRegex(stderr, rb"\Afc join: [^\n]*\n\Z")

    def on_terminal(self, *arguments):
        return Terminal([os.environ["FC"], "join", self.room, *arguments], env=self.bob.env)

    def test_on_a_terminal_the_last_ten_come_first(self):
        self.alice.run("send", self.room, "-", stdin="\n".join(f"m{i}." for i in range(1, 13)).encode())
        with self.on_terminal() as terminal:
            before = terminal.wait_for(b"m12.")
            self.assertNotIn(b"m2.", before)
            self.assertIn(b"m3.", before)
            terminal.type(b"\x03")
            self.assertEqual(terminal.wait(), DONE)

    def test_talking_on_a_terminal(self):
        with self.on_terminal() as terminal:
            self.wait_for_member(2)
            terminal.type(b"hello from bob\n")
            terminal.wait_for(b": hello from bob\r\n")
            self.assertEqual(self.alice.run("history", self.room, "--json").object["text"], "hello from bob")
            self.send("hello \x1b]0;title\x07 bob")
            terminal.wait_for(rb": hello \x1b]0;title\x07 bob")
            self.assertTrue(terminal.echoes())
            terminal.type(b"\x04")  # Ctrl-D
            self.assertEqual(terminal.wait(), DONE)

    def test_ctrl_c_on_a_terminal_leaves_no_mess(self):
        with self.on_terminal("--since", "0") as terminal:
            self.send("one")
            terminal.wait_for(b": one\r\n")
            terminal.type(b"\x03")
            self.assertEqual(terminal.wait(), DONE)
            self.assertRegex(terminal.output, rb"\A(\^C)?\Z")

    def test_the_state_of_the_connection_is_shown_on_a_terminal(self):
        with self.on_terminal("--since", "0") as terminal:
            self.send("one")
            terminal.wait_for(b": one\r\n")
            self.fcd.stop()
            terminal.wait_for(b"trying again")
            self.fcd.start()
            terminal.wait_for(b"connected again", seconds=40)
            self.send("two")
            terminal.wait_for(b": two\r\n")
            terminal.type(b"\x03")
            self.assertEqual(terminal.wait(), DONE)


if __name__ == "__main__":
    unittest.main()
