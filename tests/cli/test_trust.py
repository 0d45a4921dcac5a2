"""Whom fc trusts: first use, known servers, a changed key, authorities, client certificates."""
import os
import re
import subprocess
import unittest

from fcd_process import DONE, INTEGRITY, NOT_ALLOWED, USAGE, Fc, Fcd, limit
from terminal import Terminal

FINGERPRINT = r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}"


class TlsFcd(Fcd):
    """An fcd that is reached by TLS only."""

    def __init__(self, *options):
        self.url = None
        super().__init__(*options)

    def __setattr__(self, name, value):
        super().__setattr__(name, "tls+tcp://127.0.0.1:0" if name == "url" and value == "tcp://127.0.0.1:0" else value)


class TrustTest(unittest.TestCase):
    def setUp(self):
        self.fcd = TlsFcd()
        self.addCleanup(self.fcd.close)
        self.fc = Fc(self.fcd.url)
        self.addCleanup(self.fc.close)
        self.fingerprint = self.fingerprint_of(self.fcd)
        self.known = os.path.join(self.fc.config, "known_servers")
        self.name = self.fcd.url.removeprefix("tls+tcp://")

    def fingerprint_of(self, fcd):
        return subprocess.run([os.environ["FCD"], "--fingerprint", "--data", fcd.data], check=True, text=True,
                              capture_output=True, timeout=limit(20)).stdout.strip()

    def sign_up(self, *options):
        return self.fc.try_run("signup", "ann", "--password-stdin", *options, stdin=b"a long password")

    def read_known(self):
        with open(self.known, encoding="utf-8") as file:
            return file.read()

    def change_key(self):
        """The server comes back at the same address with another key."""
        self.fcd.stop()
        for name in ("certificate.pem", "key.pem"):
            os.remove(os.path.join(self.fcd.data, "tls", name))
        self.fcd.start()

    def test_an_unknown_server_is_refused_when_nobody_can_be_asked(self):
        for options in ([], ["--json"]):
            result = self.sign_up(*options)
            self.assertEqual(result.code, INTEGRITY, result)
            self.assertIn(f"--trust {self.fingerprint}", result.stderr)
            self.assertFalse(os.path.exists(self.known))

    def test_a_fingerprint_that_was_given_is_remembered(self):
        wrong = "00" + self.fingerprint[2:]
        result = self.sign_up("--trust", wrong)
        self.assertEqual(result.code, INTEGRITY, result)
        self.assertIn(self.fingerprint, result.stderr)
        self.assertEqual(self.sign_up("--trust", "nonsense").code, USAGE)
        self.assertFalse(os.path.exists(self.known))

        result = self.sign_up("--trust", self.fingerprint.lower().replace(":", ""))
        self.assertEqual(result.code, DONE, result)
        self.assertEqual(self.read_known(), f"{self.name} {self.fingerprint}\n")
        self.assertEqual(os.stat(self.known).st_mode & 0o777, 0o600)
        self.fc.run("whoami")

    def test_everything_works_over_tls(self):
        self.assertEqual(self.sign_up("--trust", self.fingerprint).code, DONE)
        self.fc.run("room", "create", "den", "--plain")
        content = os.urandom(3 * 1024 * 1024)
        self.fc.write("file", content)
        self.assertEqual(self.fc.try_run("upload", "file", "--room", "den").code, DONE)
        self.assertEqual(self.fc.try_run("download", "file", "-o", "again").code, DONE)
        self.assertEqual(self.fc.read("again"), content)
        self.fc.run("send", "den", "hello")
        joined = self.fc.try_run("join", "den", "--since", "0", "--count", "2", "--json")
        self.assertEqual(joined.code, DONE, joined)

    def test_a_terminal_is_asked(self):
        command = [os.environ["FC"], "signup", "ann", "--password-stdin"]
        for answer, code in (("no", INTEGRITY), ("y", INTEGRITY), ("yes", DONE)):
            with Terminal(command, streams=("stderr",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          env=self.fc.env) as terminal:
                terminal.process.stdin.write(b"a long password")
                terminal.process.stdin.close()
                terminal.wait_for(b"is not known yet")
                terminal.wait_for(self.fingerprint.encode())
                terminal.wait_for(b"(yes/no)? ")
                os.write(terminal.master, answer.encode() + b"\n")
                self.assertEqual(terminal.process.wait(limit(20)), code)
            self.assertEqual(os.path.exists(self.known), code == DONE)
        self.fc.run("whoami")

    def test_a_changed_key_is_refused_until_the_line_is_removed(self):
        self.assertEqual(self.sign_up("--trust", self.fingerprint).code, DONE)
        with open(self.known, "w", encoding="utf-8") as file:
            file.write(f"# servers\nelsewhere:1 {self.fingerprint}\n{self.name} {self.fingerprint}\n")
        self.fc.run("whoami")
        self.change_key()
        now = self.fingerprint_of(self.fcd)
        self.assertNotEqual(now, self.fingerprint)
        for options in ([], ["--trust", now], ["--json"]):
            result = self.fc.try_run("whoami", *options)
            self.assertEqual(result.code, INTEGRITY, result)
            self.assertRegex(result.stderr, f"KEY HAS CHANGED.*now {now}.*was {self.fingerprint}.*in between.*"
                                            f"remove line 3 of {re.escape(self.known)}")
        with open(self.known, "w", encoding="utf-8"):
            pass
        self.assertEqual(self.fc.try_run("whoami", "--trust", now).code, DONE)

    def test_known_servers_that_others_can_read_or_that_are_damaged(self):
        self.assertEqual(self.sign_up("--trust", self.fingerprint).code, DONE)
        os.chmod(self.known, 0o644)
        result = self.fc.try_run("whoami")
        self.assertNotEqual(result.code, DONE)
        self.assertIn("chmod 600", result.stderr)
        os.chmod(self.known, 0o600)
        with open(self.known, "w", encoding="utf-8") as file:
            file.write("damaged\n")
        result = self.fc.try_run("whoami")
        self.assertNotEqual(result.code, DONE)
        self.assertIn("line 1 of", result.stderr)

    def test_an_authority_instead(self):
        certificate = os.path.join(self.fcd.data, "tls", "certificate.pem")
        self.assertEqual(self.sign_up("--tls-ca", certificate).code, DONE)
        self.assertFalse(os.path.exists(self.known))
        self.change_key()
        copy = self.fc.write("old.pem", b"")
        self.assertEqual(self.fc.try_run("whoami", "--tls-ca", certificate).code, DONE)
        self.assertNotEqual(self.fc.try_run("whoami", "--tls-ca", copy).code, DONE)

    def test_a_client_certificate(self):
        certificate, key = self.fc.path("client.pem"), self.fc.path("client.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=client", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self.fcd.stop()
        self.fcd.options = ["--tls-client-ca", certificate]
        self.fcd.start()
        refused = self.sign_up("--trust", self.fingerprint)
        self.assertEqual(refused.code, NOT_ALLOWED, refused)
        self.assertIn("certificate", refused.stderr)
        result = self.sign_up("--trust", self.fingerprint, "--tls-cert", certificate, "--tls-key", key)
        self.assertEqual(result.code, DONE, result)


if __name__ == "__main__":
    unittest.main()
