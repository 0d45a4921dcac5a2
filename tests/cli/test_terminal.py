"""fc on a terminal: passwords, progress bars, Ctrl-C during transfers."""
import os
import re
import signal
import subprocess
import unittest

from fcd_process import DONE, NOT_LOGGED_IN, FcTestCase, check_report, limit, running, wait_until
from terminal import Terminal

PASSWORD = b"correct horse"
HUGE_BYTES = 512 << 20  # a sparse file: it takes a second or more to send, and no space here


class OnTerminal(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.name = f"alice{next(self.numbers)}"

    def terminal(self, fc, *arguments, **options):
        return Terminal([os.environ["FC"], *arguments], env=fc.env, cwd=fc.cwd, **options)

    def answer(self, terminal, prompt, password):
        terminal.wait_for(prompt)
        wait_until(lambda: not terminal.echoes(), "echo to be off")
        terminal.type(password)

    def test_signup_asks_twice_and_login_once_without_echo(self):
        fc = self.person()
        with self.terminal(fc, "signup", self.name) as terminal:
            self.answer(terminal, b"New password: ", PASSWORD + b"\n")
            self.answer(terminal, b"again: ", PASSWORD + b"\n")
            shown = terminal.wait_for(b"signed up and logged in")
            self.assertNotIn(PASSWORD, shown)
            self.assertEqual(terminal.wait(), DONE)
            self.assertTrue(terminal.echoes())
        with self.terminal(fc, "login", self.name) as terminal:
            self.answer(terminal, b"Password: ", PASSWORD + b"\n")
            terminal.wait_for(b"logged in as")
            self.assertEqual(terminal.wait(), DONE)
        with self.terminal(fc, "login", self.name) as terminal:
            self.answer(terminal, b"Password: ", PASSWORD + b"x\n")
            self.assertEqual(terminal.wait(), NOT_LOGGED_IN)

    def test_two_passwords_that_differ(self):
        fc = self.person()
        with self.terminal(fc, "signup", self.name) as terminal:
            self.answer(terminal, b"New password: ", PASSWORD + b"\n")
            self.answer(terminal, b"again: ", PASSWORD + b"x\n")
            terminal.wait_for(b"differ")
            self.assertNotEqual(terminal.wait(), DONE)
        self.assertFalse(os.path.exists(fc.credentials_path()))

    def test_no_password(self):
        for keys in (b"\n", b"\x04"):
            with self.terminal(self.person(), "login", self.name) as terminal:
                self.answer(terminal, b"Password: ", keys)
                terminal.wait_for(b"empty")
                self.assertNotEqual(terminal.wait(), DONE)
                self.assertTrue(terminal.echoes())

    def test_the_terminal_is_asked_though_streams_are_redirected(self):
        fc = self.person(self.name)
        with self.terminal(fc, "login", self.name, "--json", streams=(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE) as terminal:
            self.answer(terminal, b"Password: ", b"a long password\n")
            stdout, stderr = terminal.process.communicate(timeout=limit(20))
            self.assertEqual((terminal.process.returncode, stderr), (DONE, b""))
            self.assertIn(self.name.encode(), stdout)

    def test_without_a_terminal_it_says_how_to_give_the_password(self):
        fc = self.person()
        process = fc.start("login", self.name, start_new_session=True)
        stdout, stderr = process.communicate(timeout=limit(20))
        self.assertEqual((process.returncode, stdout), (1, b""))
        self.assertRegex(stderr, rb"\Afc login: [^\n]*--password-stdin\n\Z")

    def test_ctrl_c_at_the_password_brings_the_echo_back(self):
        for keys, signal_number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):
            with self.terminal(self.person(), "login", self.name) as terminal:
                self.answer(terminal, b"Password: ", b"half a pass" + keys)
                self.assertEqual(terminal.wait(), -signal_number)
                self.assertTrue(terminal.echoes())
                self.assertNotIn(b"half", terminal.output)

    def huge_file(self, fc):
        with open(fc.path("huge"), "wb") as file:
            file.truncate(HUGE_BYTES)

    def stored_bytes(self):
        total = 0
        for folder, _, names in os.walk(self.fcd.data):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    pass
        return total

    def test_progress_is_shown_and_taken_away(self):
        fc = self.person(self.name)
        fc.write("file\u202e.bin", os.urandom(8 << 20))
        with self.terminal(fc, "upload", "file\u202e.bin", "--name", "f") as terminal:
            terminal.wait_for(b"100% 8.0 MiB / 8.0 MiB")
            self.assertRegex(terminal.wait_for(b"\r\x1b[K"), rb"MiB/s  ETA +0:00")
            terminal.wait_for(b"  f\r\n")
            self.assertEqual(terminal.wait(), DONE)
            self.assertEqual(terminal.output, b"")
        with self.terminal(fc, "download", "f", columns=200) as terminal:
            shown = terminal.wait_for(b"100% 8.0 MiB / 8.0 MiB")
            self.assertRegex(shown, rb"f \[#+")
            terminal.wait_for(b"\r\x1b[K")
            terminal.wait_for(b"  f\r\n")
            self.assertEqual(terminal.wait(), DONE)

    def test_progress_stays_on_one_line_of_a_narrow_terminal(self):
        fc = self.person(self.name)
        fc.write("file with a long name.bin", os.urandom(8 << 20))
        for columns in (60, 34, 12, 1):
            with self.subTest(columns=columns), \
                    self.terminal(fc, "upload", "file with a long name.bin", "--name", "f", columns=columns) as terminal:
                shown = terminal.wait_for(b"  f\r\n").decode()
                self.assertEqual(terminal.wait(), DONE)
                lines = [line.removesuffix("\x1b[K") for line in shown.split("\r")[1:-1]]
                self.assertGreater(len(lines), 0)
                self.assertLess(max(map(len, lines)), max(columns, 8))
                self.assertIn("100%", lines[-1])

    def test_no_progress_where_no_terminal_is(self):
        fc = self.person(self.name)
        fc.write("file", os.urandom(1 << 20))
        self.assertEqual(fc.run("upload", "file").stderr, "")

    def test_ctrl_c_in_an_upload_leaves_nothing_on_the_server(self):
        fc = self.person(self.name)
        self.huge_file(fc)
        before = self.stored_bytes()
        with self.terminal(fc, "upload", "huge") as terminal:
            terminal.wait_for(b" MiB / 512.0 MiB")
            terminal.type(b"\x03")
            shown = terminal.wait_for(b"fc upload: ")
            self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-100:])
            self.assertEqual(terminal.wait(), 128 + signal.SIGINT)
        self.assertEqual(fc.run("ls").text, "")
        wait_until(lambda: self.stored_bytes() < before + (1 << 20), "the chunks to be removed")

    def test_ctrl_c_in_a_download_leaves_nothing_here(self):
        fc = self.person(self.name)
        self.huge_file(fc)
        fc.run("upload", "huge", seconds=120)
        for arguments in (("-o", "target"), ("--force",)):
            with self.terminal(fc, "download", "huge", *arguments) as terminal:
                terminal.wait_for(b" MiB / 512.0 MiB")
                terminal.type(b"\x03")
                self.assertEqual(terminal.wait(), 128 + signal.SIGINT)
        self.assertEqual(os.listdir(fc.cwd), ["huge"])
        self.assertEqual(os.stat(fc.path("huge")).st_size, HUGE_BYTES)

    def test_sigterm_in_an_upload(self):
        fc = self.person(self.name)
        self.huge_file(fc)
        before = self.stored_bytes()
        with running(fc.start("upload", "huge")) as process:
            wait_until(lambda: self.stored_bytes() > before + (8 << 20), "the upload to begin")
            process.terminate()
            stdout, stderr = process.communicate(timeout=limit(20))
        check_report("fc upload", stderr.decode())
        self.assertEqual((process.returncode, stdout), (128 + signal.SIGTERM, b""))
        self.assertTrue(re.fullmatch(rb"fc upload: [^\n]*\n", stderr), stderr)
        self.assertEqual(fc.run("ls").text, "")

    def test_a_terminal_is_not_fed_with_bytes_of_a_file(self):
        fc = self.person(self.name)
        fc.write("file", b"\x1b[31mred")
        fc.run("upload", "file")
        with self.terminal(fc, "download", "file", "-o", "-") as terminal:
            terminal.wait_for(b"--force")
            self.assertEqual(terminal.wait(), 2)
            self.assertNotIn(b"\x1b[31m", terminal.output)


if __name__ == "__main__":
    unittest.main()
