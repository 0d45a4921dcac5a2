"""What fc says without a server: help, version, usage errors, the manual."""
import os
import pathlib
import re
import unittest

from fcd_process import DONE, FAILED, USAGE, Fc

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Help(unittest.TestCase):
    def setUp(self):
        # Whatever needs the server or the configuration fails here.
        self.fc = Fc("tcp://127.0.0.1:1", HOME="/nonexistent")
        self.addCleanup(self.fc.close)

    def commands(self):
        return re.findall(r"^  (\w+(?: \w+)?)  +\w", self.fc.run("help").text.split("options of")[0], re.MULTILINE)

    def assert_usage(self, *arguments, pattern):
        result = self.fc.try_run(*arguments)
        self.assertEqual(result.code, USAGE, repr(result))
        self.assertEqual(result.stdout, b"")
        self.assertRegex(result.stderr, r"\Afc[^\n]*: [^\n]*\n\Z")
        self.assertRegex(result.stderr, pattern)

    def test_version(self):
        self.assertRegex(self.fc.run("--version").text, r"\Afc \d+\.\d+\.\d+\n\Z")

    def test_help_lists_every_command_once(self):
        commands = self.commands()
        self.assertEqual(len(commands), len(set(commands)))
        for expected in ("signup", "login", "logout", "whoami", "passwd", "session ls", "session revoke", "device ls",
                         "device offer", "device add", "device remove", "recover", "verify", "room create", "room list",
                         "room show", "room amend", "room transfer", "room fingerprint", "invite", "invite ls",
                         "invite revoke", "join", "leave", "dm", "send", "react", "edit", "delete", "history", "search",
                         "unread", "read", "outbox", "outbox flush", "audit", "block", "unblock", "blocks", "presence", "who", "report",
                         "reports", "upload", "download", "ls", "stat", "find", "cat", "mv", "rm", "restore", "share", "du", "sync", "peer start", "peer status",
                         "peer update", "peer stop", "peer end", "segment ls", "segment stop", "segment wake",
                         "segment drain", "top", "health", "call", "describe", "shellenv",
                         "completion", "help"):
            self.assertIn(expected, commands)
        self.assertEqual(self.fc.run("--help").text, self.fc.run("help").text)
        self.assertEqual(self.fc.run("-h").text, self.fc.run("help").text)

    def test_every_command_explains_itself_in_80_columns(self):
        for command in self.commands():
            with self.subTest(command=command):
                text = self.fc.run(*command.split(), "--help").text
                self.assertTrue(text.startswith(f"usage: fc {command}"), text)
                self.assertEqual(text, self.fc.run("help", *command.split()).text)
                self.assertIn("--server URL", text)
                self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_help_wins_over_missing_and_wrong_arguments(self):
        self.assertIn("usage: fc send", self.fc.run("send", "--help").text)
        self.assertIn("usage: fc join", self.fc.run("join", "room", "--count", "x", "--help").text)

    def test_help_of_a_group(self):
        text = self.fc.run("help", "room").text
        self.assertIn("usage: fc room create", text)
        self.assertIn("usage: fc room list", text)
        self.assertEqual(self.fc.run("room", "--help").text, text)

    def test_usage_errors_say_what_to_do(self):
        self.assert_usage(pattern="fc help")
        self.assert_usage("nope", pattern='"nope".*fc help')
        self.assert_usage("nope", "--help", pattern='"nope".*fc help')
        self.assert_usage("help", "nope", pattern='"nope"')
        self.assert_usage("room", pattern="fc help room")
        self.assert_usage("room", "nope", pattern="fc help room")
        self.assert_usage("--nope", pattern="--nope")
        self.assert_usage("ls", "-z", pattern="-z")
        self.assert_usage("ls", "--jso", pattern="--jso")
        self.assert_usage("ls", "--json=yes", pattern="--json takes no value")
        self.assert_usage("ls", "--server", pattern="--server needs a value")
        self.assert_usage("ls", "--count", "3", pattern="--count")
        self.assert_usage("ls", "a", "b", pattern='"b"')
        self.assert_usage("send", "room", pattern="usage: fc send ROOM")
        self.assert_usage("login", pattern="usage: fc login USER")
        self.assert_usage("completion", "tcsh", pattern="bash, zsh and fish")

    def test_a_group_that_is_a_command_too(self):
        text = self.fc.run("help", "invite").text
        self.assertTrue(text.startswith("usage: fc invite ROOM"), text)
        self.assertIn("usage: fc invite ls ROOM", text)
        self.assertTrue(self.fc.run("help", "invite", "ls").text.startswith("usage: fc invite ls ROOM"))
        self.assert_usage("invite", "ls", pattern="usage: fc invite ls ROOM")
        self.assert_usage("invite", pattern="usage: fc invite ROOM")

    def test_numbers_are_checked_before_anything_is_done(self):
        for value in ("", "-1", "1x", "x", "18446744073709551616", " 1", "0x10"):
            with self.subTest(value=value):
                self.assert_usage("history", "room", f"--since={value}", pattern="--since needs a number")
                self.assert_usage("history", "room", f"--limit={value}", pattern="--limit needs a number")
                self.assert_usage("join", "room", f"--count={value}", pattern="--count needs a number")
                self.assert_usage("join", "room", f"--since={value}", pattern="--since needs a number")
        self.assert_usage("join", "room", "--count", "0", pattern="at least 1")

    def test_name_is_for_one_file(self):
        self.assert_usage("upload", "a", "b", "--name", "c", pattern="--name")

    def test_hostile_arguments_come_back_harmless(self):
        self.assert_usage("no\x1b[31mpe", pattern=r"no\\x1b\[31mpe")
        self.assert_usage("--no\npe", pattern=r"--no\\x0ape")

    def test_output_that_cannot_be_written_is_an_error(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "wb") as full:
            process = self.fc.start("help", stdout=full)
            _, stderr = process.communicate()
        self.assertRegex(stderr, rb"\Afc help: cannot write the output: [^\n]*\n\Z")
        self.assertNotEqual(process.returncode, DONE)
        closed = self.fc.start("help", stdout=None, preexec_fn=lambda: os.close(1))
        _, stderr = closed.communicate()
        self.assertEqual(closed.returncode, FAILED, stderr)

    def test_a_reader_that_has_gone_is_no_error(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        process = self.fc.start("help", stdout=write_end)
        os.close(write_end)
        _, stderr = process.communicate()
        self.assertEqual((process.returncode, stderr), (DONE, b""))

    def test_the_manual_names_every_command_and_option(self):
        manual = (ROOT / "docs/man/fc.1").read_text(encoding="utf-8").replace("\\-", "-")
        for command in self.commands():
            name = re.escape(command)
            self.assertRegex(manual, rf'(?m)^\.B[IR]? "?{name}\b', f"fc.1 has nothing about {command}")
            for option in re.findall(r"--[a-z-]+", self.fc.run("help", *command.split()).text.split("options:")[1]):
                self.assertIn(option, manual, f"{option} of {command}")


if __name__ == "__main__":
    unittest.main()
