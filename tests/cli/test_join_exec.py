"""fc join --exec: a command of the user's for each message."""
import json
import os
import signal
import subprocess
import unittest

from fcd_process import DONE, NOT_FOUND, USAGE, FcTestCase, check_report, limit, running, wait_until


class Exec(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.alice, self.bob = self.person(f"alice{number}"), self.person(f"bob{number}")
        self.bob_name, self.alice_name = f"bob{number}", f"alice{number}"
        self.room = f"room{number}"
        self.alice.run("room", "create", self.room, "--member", self.bob_name)

    def send(self, *texts):
        for text in texts:
            self.alice.run("send", self.room, text)

    def lines(self, name="out"):
        return self.bob.read(name).decode().splitlines() if os.path.exists(self.bob.path(name)) else []

    def test_gets_the_message_and_its_circumstances(self):
        self.send("one \x1b[31m 'quoted' $(touch no)")
        result = self.bob.run("join", self.room, "--since", "0", "--count", "1", "--exec",
                              'printf "%s %s %s\\n" "$FC_ROOM" "$FC_SEQ" "$FC_SENDER"; cat')
        first, second = result.text.splitlines()
        self.assertEqual(first, f"{self.room} 1 {self.alice_name}")
        message = json.loads(second)
        self.assertEqual((message["text"], message["seq"]), ("one \x1b[31m 'quoted' $(touch no)", 1))
        self.assertFalse(os.path.exists(self.bob.path("no")))

    def test_one_after_the_other_and_nothing_is_printed(self):
        self.send(*(f"m{number}" for number in range(5)))
        command = 'echo "begin $FC_SEQ" >>out; sleep 0.05; echo "end $FC_SEQ" >>out'
        result = self.bob.run("join", self.room, "--since", "0", "--count", "5", "--exec", command)
        self.assertEqual(result.stdout, b"")
        self.assertEqual(self.lines(), [f"{what} {number}" for number in range(1, 6) for what in ("begin", "end")])

    def test_own_messages_are_left_out(self):
        self.bob.run("send", self.room, "mine")
        self.send("yours")
        for options, expected in ((("--count", "1"), ["2"]), (("--count", "2", "--own"), ["1", "2"])):
            result = self.bob.run("join", self.room, "--since", "0", "--exec", "echo $FC_SEQ", *options)
            self.assertEqual(result.text.split(), expected)
        self.assert_fails(self.bob.try_run("join", self.room, "--own"), USAGE, "--exec")

    def test_a_command_that_fails_ends_nothing(self):
        self.send("one", "two")
        for command, pattern in (("exit 3", "ended with 3"), ("kill -9 $$", "signal 9"), ("no-such-program", "ended with 127")):
            result = self.bob.try_run("join", self.room, "--since", "0", "--count", "2", "--exec", command + " 2>/dev/null")
            self.assertEqual((result.code, result.stdout), (DONE, b""), repr(result))
            self.assertRegex(result.stderr, rf"\Afc join: [^\n]*{pattern} for #1 of {self.room}\nfc join: [^\n]*#2[^\n]*\n\Z")

    def test_a_command_need_not_read(self):
        self.alice.run("send", self.room, "-", stdin=b"x" * 65536)
        self.send("last")
        result = self.bob.run("join", self.room, "--since", "0", "--count", "2", "--exec", "echo $FC_SEQ")
        self.assertEqual(result.text.split(), ["1", "2"])

    def test_the_pipe_of_a_command_breaks_as_usual(self):
        self.send("one")
        result = self.bob.run("join", self.room, "--since", "0", "--count", "1", "--exec", "yes | head -1")
        self.assertEqual(result.text, "y\n")

    def test_the_command_may_use_fc_itself(self):
        self.send("ping")
        with running(self.bob.start("join", self.room, "--since", "0", "--exec",
                                    f'"{os.environ["FC"]}" send "$FC_ROOM" pong --reply "$FC_SEQ"')) as process:
            wait_until(lambda: "pong" in self.alice.run("history", self.room).text, "the answer", seconds=30)
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=limit(20))
        self.assertEqual((process.returncode, stdout, stderr), (DONE, b"", b""))
        self.assertEqual([m["text"] for m in self.alice.run("history", self.room, "--json").objects], ["ping", "pong"])

    def test_the_end_takes_the_command_along(self):
        self.send("one")
        command = 'echo $$ >pid; sleep 1000 & echo $! >>pid; wait'
        with running(self.bob.start("join", self.room, "--since", "0", "--exec", command)) as process:
            wait_until(lambda: len(self.lines("pid")) == 2, "the command to run", seconds=20)
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=limit(20))
        check_report("fc join", stderr.decode())
        self.assertEqual(process.returncode, DONE, stderr)
        for pid in self.lines("pid"):
            wait_until(lambda number=pid: self.is_gone(int(number)), "the end of the command")

    @staticmethod
    def is_gone(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    def test_unknown_room(self):
        self.assert_fails(self.bob.try_run("join", "nowhere", "--exec", "true"), NOT_FOUND)

    def test_typed_lines_are_sent_while_a_command_runs(self):
        self.send("one")
        process = self.bob.start("join", self.room, "--since", "0", "--exec", "echo x >>out; while ! [ -e go ]; do sleep 0.1; done",
                                 stdin=subprocess.PIPE)
        with running(process):
            wait_until(lambda: self.lines() == ["x"], "the command to run", seconds=20)
            process.stdin.write(b"typed\n")
            process.stdin.flush()
            wait_until(lambda: "typed" in self.alice.run("history", self.room).text, "the typed line", seconds=20)
            self.bob.write("go", b"")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=limit(20))
        self.assertEqual(process.returncode, DONE)


if __name__ == "__main__":
    unittest.main()
