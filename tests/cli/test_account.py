"""fc signup, login, logout, whoami."""
import os
import re
import stat
import unittest

from fcd_process import (CONFLICT, DONE, FAILED, NOT_ALLOWED, NOT_LOGGED_IN, UNREACHABLE, USAGE, FcTestCase,
                         wait_until)

FORGED = "fct_" + "A" * 43


class Account(FcTestCase):
    def test_signup_logs_in_and_says_so(self):
        fc = self.person()
        result = fc.sign_up("alice")
        self.assertEqual(result.text, f"signed up and logged in as alice on {self.fcd.url}\n")
        self.assertEqual(fc.run("whoami").text, "alice\n")
        self.assertEqual(stat.S_IMODE(os.stat(fc.credentials_path()).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(fc.config).st_mode), 0o700)

    def test_json(self):
        fc = self.person()
        signup = fc.run("--json", "signup", "json", "--password-stdin", stdin=b"pw")
        self.assertEqual(signup.object, {"user": "json", "server": self.fcd.url, "keys": "made"})
        login = fc.run("login", "json", "--password-stdin", "--json", stdin=b"pw")
        self.assertEqual(login.object, {"user": "json", "server": self.fcd.url, "keys": "ready"})
        account = fc.run("whoami", "--json").object
        self.assertEqual((account["user"], account["server"]), ("json", self.fcd.url))
        self.assertIsInstance(account["is_admin"], bool)
        self.assertRegex(account["token_expires_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_one_final_newline_is_no_part_of_the_password(self):
        fc = self.person()
        fc.run("signup", "newline", "--password-stdin", stdin=b"pass word\n")
        fc.run("login", "newline", "--password-stdin", stdin=b"pass word")
        fc.run("login", "newline", "--password-stdin", stdin=b"pass word\r\n")
        result = fc.try_run("login", "newline", "--password-stdin", stdin=b"pass word\n\n")
        self.assert_fails(result, NOT_LOGGED_IN)

    def test_passwords_may_be_any_bytes_of_1_to_1024(self):
        fc = self.person()
        fc.run("signup", "bytes", "--password-stdin", stdin=b"\0\xff\x01 ")
        fc.run("login", "bytes", "--password-stdin", stdin=b"\0\xff\x01 ")
        self.assert_fails(fc.try_run("login", "bytes", "--password-stdin", stdin=b"\0\xff"), NOT_LOGGED_IN)
        fc.run("signup", "longest", "--password-stdin", stdin=b"x" * 1024 + b"\n")
        for password in (b"", b"\n", b"\r\n"):
            self.assert_fails(fc.try_run("signup", "empty", "--password-stdin", stdin=password), USAGE, "empty")
        for size in (1025, 5000):
            result = fc.try_run("signup", "toolong", "--password-stdin", stdin=b"x" * size)
            self.assert_fails(result, USAGE, "longer than 1024")

    def test_wrong_password_and_unknown_user_are_told_alike(self):
        fc = self.person("wrong")
        wrong = fc.try_run("login", "wrong", "--password-stdin", stdin=b"not it")
        self.assert_fails(wrong, NOT_LOGGED_IN)
        unknown = fc.try_run("login", "nobody-here", "--password-stdin", stdin=b"not it")
        self.assert_fails(unknown, NOT_LOGGED_IN)
        self.assertEqual(wrong.stderr, unknown.stderr)
        self.assertEqual(fc.run("whoami").text, "wrong\n", "a failed login leaves the old one")

    def test_a_taken_name(self):
        self.person("taken")
        self.assert_fails(self.person().try_run("signup", "taken", "--password-stdin", stdin=b"x"), CONFLICT)

    def test_bad_user_names(self):
        for name in ("", "Upper", "-dash", "a" * 33, "sp ace", "tab\t", "\u00e9", "../x"):
            with self.subTest(name=name):
                result = self.person().try_run("signup", "--password-stdin", "--", name, stdin=b"x")
                self.assert_fails(result, USAGE)

    def test_not_logged_in(self):
        fc = self.person()
        for command in (("whoami",), ("logout",), ("room", "list"), ("ls",), ("send", "r", "x"), ("join", "r"),
                        ("history", "r"), ("upload", "f"), ("download", "f"), ("stat", "f"), ("leave", "r")):
            with self.subTest(command=command):
                self.assert_fails(fc.try_run(*command), NOT_LOGGED_IN, "fc login")

    def test_logout_revokes_and_forgets(self):
        fc = self.person("leaver")
        with open(fc.credentials_path(), encoding="ascii") as file:
            token = file.read().split()[-1]
        self.assertTrue(token.startswith("fct_"))
        self.assertEqual(self.person().run("whoami", env={"FC_TOKEN": token}).text, "leaver\n")
        fc.run("logout")
        self.assert_fails(fc.try_run("whoami"), NOT_LOGGED_IN)
        self.assert_fails(self.person().try_run("whoami", env={"FC_TOKEN": token}), NOT_LOGGED_IN)
        self.assert_fails(fc.try_run("logout"), NOT_LOGGED_IN)

    def test_logout_with_a_token_of_the_environment_keeps_the_stored_one(self):
        fc, other = self.person("stays"), self.person("guest")
        with open(other.credentials_path(), encoding="ascii") as file:
            token = file.read().split()[-1]
        fc.run("logout", env={"FC_TOKEN": token})
        self.assertEqual(fc.run("whoami").text, "stays\n")
        self.assert_fails(other.try_run("whoami"), NOT_LOGGED_IN)
        other.run("logout")  # the dead token is forgotten all the same

    def test_forged_tokens(self):
        fc = self.person("victim")
        self.assert_fails(fc.try_run("whoami", env={"FC_TOKEN": FORGED}), NOT_LOGGED_IN)
        self.assert_fails(fc.try_run("room", "list", env={"FC_TOKEN": FORGED}), NOT_LOGGED_IN)
        with open(fc.credentials_path(), encoding="ascii") as file:
            token = file.read().split()[-1]
        changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
        self.assert_fails(fc.try_run("whoami", env={"FC_TOKEN": changed}), NOT_LOGGED_IN)

    def test_credentials_that_others_can_read_are_refused(self):
        fc = self.person("careless")
        for mode in (0o644, 0o640, 0o604, 0o620):
            os.chmod(fc.credentials_path(), mode)
            self.assert_fails(fc.try_run("whoami"), FAILED, "chmod 600")
        os.chmod(fc.credentials_path(), 0o600)
        fc.run("whoami")

    def test_damaged_credentials(self):
        fc = self.person()
        os.mkdir(fc.config, 0o700)
        for content in (b"\0\0\0", b"one two", b"x" * 100000, b"tcp://h:1 user tok\x1b[31men\n"):
            with open(fc.credentials_path(), "wb") as file:
                file.write(content)
            os.chmod(fc.credentials_path(), 0o600)
            result = fc.try_run("whoami")
            self.assertNotIn(result.code, (DONE, 99), repr(result))
            self.assertRegex(result.stderr, r"\Afc whoami: [^\n\x1b]*\n\Z")

    def test_the_server_given_stands_before_the_one_of_the_environment(self):
        fc = self.person("chooser")
        self.assertEqual(fc.run("whoami", "--server", self.fcd.url, env={"FC_SERVER": "tcp://127.0.0.1:1"}).text,
                         "chooser\n")
        self.assertEqual(fc.run("--server", self.fcd.url, "whoami", env={"FC_SERVER": "tcp://127.0.0.1:1"}).text,
                         "chooser\n")
        del fc.env["FC_SERVER"]
        self.assertEqual(fc.run("whoami").text, "chooser\n", "the server used last")
        for url in ("", "nonsense", "http://x", "tcp://"):
            result = fc.try_run("whoami", "--server", url, env={"FC_TOKEN": FORGED})
            self.assert_fails(result, USAGE)


class ShortLogins(FcTestCase):
    fcd_options = ("--token-ttl", "2")

    def test_an_expired_login(self):
        fc = self.person("mayfly")
        result = wait_until(lambda: (r := fc.try_run("whoami")).code != DONE and r, "the login to expire")
        self.assert_fails(result, NOT_LOGGED_IN, "log in")
        fc.run("login", "mayfly", "--password-stdin", stdin=b"a long password")
        fc.run("whoami")


class Closed(FcTestCase):
    fcd_options = ("--signup", "closed")

    def test_closed_signup(self):
        self.assert_fails(self.person().try_run("signup", "late", "--password-stdin", stdin=b"x"), NOT_ALLOWED)


class ServerDown(FcTestCase):
    def test_a_server_that_is_not_there(self):
        fc = self.person("lonely")
        fc.write("file", b"x")
        self.fcd.stop()
        try:
            for command in (("whoami",), ("room", "list"), ("room", "create", "x", "--plain"), ("send", "r", "x"),
                            ("history", "r"), ("join", "r"), ("leave", "r"), ("ls",), ("stat", "f"),
                            ("upload", "file"), ("download", "f"), ("logout",)):
                with self.subTest(command=command):
                    self.assert_fails(fc.try_run(*command), UNREACHABLE, re.escape(self.fcd.url) + "|--server")
            result = fc.try_run("login", "lonely", "--password-stdin", stdin=b"x")
            self.assert_fails(result, UNREACHABLE)
        finally:
            self.fcd.start()
        self.assertEqual(fc.run("whoami").text, "lonely\n", "the login outlives the server")


if __name__ == "__main__":
    unittest.main()
