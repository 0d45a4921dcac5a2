"""fcd as an operator meets it: start, the ready line, refusals, signals."""
import hashlib
import os
import re
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import unittest
import urllib.request
import warnings

from fcd_process import (DONE, NOT_ALLOWED, NOT_LOGGED_IN, Fc, Fcd, check_report, clean_environment, limit,
                         wait_until)


def run_fcd(*arguments, **env):
    """Runs an fcd that is expected to end by itself."""
    result = subprocess.run([os.environ["FCD"], *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            env=clean_environment(**env), timeout=limit(20), check=False)
    check_report("fcd", result.stderr)
    return result


def field(number, value):
    """A field of a protobuf message: bytes, text, or an integer."""
    def varint(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


class Caller:
    """A REQ peer over TCP that keeps many calls in flight: SP framing by hand, so that the test knows what it sends."""

    def __init__(self, url):
        host, port = url.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), limit(10))
        self.socket.settimeout(limit(30))
        self.socket.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0))
        self.receive_exactly(8)
        self.next_id = 0x80000001

    def receive_exactly(self, size):
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def send_login(self, user):
        """An attempt that the server spends a slow hash on."""
        header = field(1, "fc.auth.v1.Auth/Login") + field(2, 120000)
        message = field(1, user) + field(2, b"k" * 32)
        body = struct.pack(">IBBH", self.next_id, 1, 0, len(header)) + header + message
        self.socket.sendall(struct.pack(">Q", len(body)) + body)
        self.next_id += 1

    def receive_code(self):
        """The code of the next answer, whichever call it belongs to."""
        (size,) = struct.unpack(">Q", self.receive_exactly(8))
        body = self.receive_exactly(size)
        (header_size,) = struct.unpack(">H", body[6:8])
        header = body[8:8 + header_size]
        return header[1] if header[:1] == b"\x08" else 0

    def close(self):
        self.socket.close()


UNAUTHENTICATED = 16


class DaemonTest(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="fcd-test-")
        self.addCleanup(folder.cleanup)
        return folder.name

    def start(self, *options, **arguments):
        fcd = Fcd(*options, **arguments)
        self.addCleanup(fcd.close)
        return fcd

    def assert_ends(self, fcd, code):
        """It ends by itself; the harness is told, so that the test may start it again."""
        self.assertEqual(fcd.process.wait(limit(20)), code, fcd.stderr())
        check_report("fcd", fcd.stderr())
        fcd.process.stdout.close()
        fcd.process = None

    def assert_refuses(self, result, code, pattern):
        """It ended with this code and one line that says why."""
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertRegex(result.stderr, r"\Afcd: [^\n]+\n\Z")
        self.assertRegex(result.stderr, pattern)
        self.assertEqual(result.stdout, "")


class StartTest(DaemonTest):
    def test_ready_line_names_the_bound_addresses(self):
        fcd = self.start()
        self.assertRegex(fcd.ready_line,
                         r"\Aready rpc=tcp://127\.0\.0\.1:[1-9]\d* http=http://127\.0\.0\.1:[1-9]\d*\n\Z")

    def test_ready_line_lists_every_listener_and_http_off(self):
        ipc = "ipc://" + os.path.join(self.folder(), "s")
        fcd = self.start("--listen", "tcp://127.0.0.1:0", "--listen", ipc, "--http", "off")
        self.assertRegex(fcd.ready_line, rf"\Aready rpc=tcp://\S+:\d+,tcp://\S+:\d+,{re.escape(ipc)} http=off\n\Z")

    def test_nothing_follows_the_ready_line(self):
        fcd = self.start()
        fcd.process.send_signal(signal.SIGTERM)
        self.assertEqual(fcd.process.stdout.read(), b"")
        self.assert_ends(fcd, 0)

    def test_what_it_writes_is_private(self):
        fcd = self.start()
        for folder, _, names in os.walk(fcd.data):
            for path in [folder] + [os.path.join(folder, name) for name in names]:
                self.assertEqual(os.lstat(path).st_mode & 0o077, 0, path)

    def test_a_listener_for_other_machines_is_warned_about(self):
        quiet = self.start()
        loud = self.start("--listen", "tcp://0.0.0.0:0", "--allow-plaintext")
        safe = self.start("--listen", "tls+tcp://0.0.0.0:0")
        self.assertNotIn("FCD-NO-TLS", quiet.stderr())
        self.assertNotIn("FCD-NO-TLS", safe.stderr())
        self.assertRegex(loud.stderr(), r" warn FCD-NO-TLS .*tcp://0\.0\.0\.0:\d+ ")

    def test_starts_again_after_sigkill(self):
        fcd = self.start("--listen", "ipc://" + os.path.join(self.folder(), "s"))
        fcd.kill()
        fcd.start()
        fcd.restart()

    def test_default_folder_and_default_local_socket(self):
        taken = [socket.socket(), socket.socket()]
        try:
            for sock, port in zip(taken, (7420, 7421)):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
        except OSError:
            self.skipTest("the default ports are in use on this machine")
        finally:
            for sock in taken:
                sock.close()
        home = self.folder()
        process = subprocess.Popen([os.environ["FCD"], "--data", os.path.join(home, "d")], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=clean_environment(HOME=home))
        try:
            line = process.stdout.readline().decode()
            path = os.path.join(os.path.realpath(home), "d", "fcd.sock")
            self.assertEqual(line, f"ready rpc=tcp://127.0.0.1:7420,ipc://{path} http=http://127.0.0.1:7421\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(limit(20)), 0)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


class RefusalTest(DaemonTest):
    def free(self):
        return ["--data", os.path.join(self.folder(), "d"), "--listen", "tcp://127.0.0.1:0", "--http", "off"]

    def test_second_fcd_names_the_first(self):
        fcd = self.start()
        result = run_fcd("--data", fcd.data, "--listen", "tcp://127.0.0.1:0", "--http", "off")
        self.assert_refuses(result, 1, rf"{re.escape(fcd.data)} is in use by fcd with pid {fcd.process.pid}\n")

    def test_port_in_use_is_named(self):
        fcd = self.start()
        for option, url in (("--listen", fcd.url), ("--http", fcd.http_url)):
            result = run_fcd(*self.free(), option, url)
            self.assert_refuses(result, 1, rf"{re.escape(url)} is in use.*another address")

    def test_bad_urls(self):
        for option, url in (("--listen", "tcp://127.0.0.1"), ("--listen", "tcp://127.0.0.1:99999"),
                            ("--listen", "ipc://"), ("--listen", "ipc:///nowhere/at/all/s"),
                            ("--http", "http://127.0.0.1:port")):
            with self.subTest(option=option, url=url):
                self.assert_refuses(run_fcd(*self.free(), option, url), 1, re.escape(url))
        for option, url in (("--listen", "nonsense"), ("--listen", ""), ("--listen", "http://127.0.0.1:0"),
                            ("--http", "tcp://127.0.0.1:0")):
            with self.subTest(option=option, url=url):
                self.assert_refuses(run_fcd(*self.free(), option, url), 2, option + ".*" + re.escape(url))

    def test_plaintext_for_other_machines_has_to_be_asked_for(self):
        for option, url, better in (("--listen", "tcp://0.0.0.0:0", "tls+tcp://0.0.0.0:0"),
                                    ("--listen", "tcp://127.0.0.1.example:0", "tls+tcp://127.0.0.1.example:0"),
                                    ("--listen", "tcp://[::]:0", "tls+tcp://[::]:0"),
                                    ("--listen", "tcp://*:0", "tls+tcp://*:0"),
                                    ("--http", "http://192.0.2.1:0", "https://192.0.2.1:0")):
            with self.subTest(url=url):
                result = run_fcd(*self.free(), option, url)
                self.assert_refuses(result, 2, re.escape(url) + ".*" + re.escape(better) + ".*--allow-plaintext")

    def test_data_folder_that_cannot_be(self):
        blocked = os.path.join(self.folder(), "file")
        with open(blocked, "w", encoding="utf-8"):
            pass
        for data in (blocked, blocked + "/d", "/proc/none/d"):
            with self.subTest(data=data):
                self.assert_refuses(run_fcd("--data", data, "--listen", "tcp://127.0.0.1:0"), 1, re.escape(data))

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_data_folder_without_permission(self):
        data = self.folder()
        os.chmod(data, 0o500)
        self.assert_refuses(run_fcd("--data", data, "--listen", "tcp://127.0.0.1:0"), 1, re.escape(data))

    def test_no_home_to_keep_the_data_in(self):
        if os.geteuid() == 0:
            self.skipTest("root has a folder without a home")
        self.assert_refuses(run_fcd(HOME=""), 1, "--data")

    def test_database_of_a_newer_version(self):
        fcd = self.start()
        fcd.stop()
        database = sqlite3.connect(os.path.join(fcd.data, "fc.db"))
        with database:
            changed = database.execute("UPDATE schema_version SET version = version + 1 WHERE service = 'auth'")
            self.assertEqual(changed.rowcount, 1)
        database.close()
        result = run_fcd("--data", fcd.data, "--listen", "tcp://127.0.0.1:0", "--http", "off")
        self.assert_refuses(result, 1, "newer")

    def test_usage_errors(self):
        for arguments in (["--nonsense"], ["-x"], ["extra"], ["--data"], ["--data", ""], ["--signup", "maybe"], ["--metrics", "all"],
                          ["--max-users", "-1"], ["--max-users", "many"], ["--max-users", ""],
                          ["--max-rooms-per-user", "0"], ["--max-rooms-per-user", "few"], ["--max-members", "10001"],
                          ["--max-members", ""],
                          ["--token-ttl", "0"], ["--token-ttl", "-1"], ["--token-ttl", "5m"], ["--token-ttl", ""],
                          ["--token-ttl", "99999999999999999999"], ["--log-level", "loud"], ["--help=yes"],
                          ["--user-quota", "1X"], ["--user-quota", "-1"], ["--user-quota", "1GB"], ["--room-quota", ""],
                          ["--room-quota", "99999999999T"], ["--delete-grace", "7w"], ["--delete-grace", "20000d"],
                          ["--repair"], ["--copy"],
                          ["--tls-cert", "file"], ["--tls-key", "file"],
                          ["--listen", "tcp://127.0.0.1:0"] * 17):
            with self.subTest(arguments=arguments):
                self.assert_refuses(run_fcd(*arguments), 2, re.escape(arguments[0].split("=")[0]))

    def test_help_names_every_option_of_the_manual(self):
        result = run_fcd("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        manual = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "man", "fcd.8")
        with open(manual, encoding="utf-8") as file:
            documented = set(re.findall(r"^\.It Fl \\(-[a-z-]+)", file.read(), re.MULTILINE))
        self.assertEqual({"-" + name for name in documented}, set(re.findall(r"^  (--[a-z-]+)", result.stdout, re.MULTILINE)))
        self.assertTrue(documented)

    def test_version(self):
        result = run_fcd("--version")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"\Afcd \d+\.\d+\.\d+\n\Z")


class TlsTest(DaemonTest):
    TLS = ["--listen", "tls+tcp://127.0.0.1:0", "--http", "https://127.0.0.1:0"]

    def tls_url(self, fcd):
        return re.search(r"tls\+tcp://127\.0\.0\.1:(\d+)", fcd.ready_line)

    def certificate_of(self, port, **files):
        """What a server shows on a port, in DER. It is verified against `ca`, if that is given."""
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "ca" not in files:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", int(port)), limit(10)) as plain:
            with context.wrap_socket(plain, server_hostname=files.get("name", "localhost")) as secure:
                return secure.getpeercert(binary_form=True)

    def make_certificate(self, folder, name):
        certificate, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key

    def printed(self, der):
        digits = hashlib.sha256(der).hexdigest().upper()
        return ":".join(digits[i:i + 2] for i in range(0, 64, 2))

    def test_key_and_certificate_are_made_once(self):
        fcd = self.start("--listen", "tls+tcp://127.0.0.1:0")
        ca = os.path.join(fcd.data, "tls", "certificate.pem")
        port = self.tls_url(fcd)[1]
        der = self.certificate_of(port, ca=ca)
        self.assertEqual(self.certificate_of(port, ca=ca, name=socket.gethostname()), der)
        self.assertEqual(self.certificate_of(port, ca=ca, name="127.0.0.1"), der)
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.certificate_of(port, ca=ca, name="elsewhere.example")
        self.assertIn(self.printed(der), fcd.stderr())
        self.assertEqual(os.stat(os.path.join(fcd.data, "tls", "key.pem")).st_mode & 0o777, 0o600)
        result = run_fcd("--fingerprint", "--data", fcd.data)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, self.printed(der) + "\n", ""))
        fcd.restart()
        self.assertEqual(self.certificate_of(self.tls_url(fcd)[1]), der)

    def test_fingerprint_of_what_is_not_there(self):
        self.assert_refuses(run_fcd("--fingerprint", "--data", self.folder()), 1, "certificate.pem.*first runs")

    def test_https_and_wss(self):
        fcd = self.start()
        fcd.stop()
        fcd.http_url = "https://127.0.0.1:0"
        fcd.start()
        context = ssl.create_default_context(cafile=os.path.join(fcd.data, "tls", "certificate.pem"))
        page = urllib.request.urlopen(fcd.http_url, context=context, timeout=limit(10)).read()
        self.assertIn(b"fcd", page)
        host, port = fcd.http_url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), limit(10)) as plain:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                secure.sendall(f"GET /rpc HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                               f"Origin: https://{host}:{port}\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Protocol: rep.sp.nanomsg.org\r\n\r\n".encode())
                self.assertTrue(secure.recv(1000).startswith(b"HTTP/1.1 101 "))
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((host, int(port)), limit(10)) as plain:
            with self.assertRaises(ssl.SSLError):
                old.wrap_socket(plain)

    def test_sighup_reloads_given_files_and_keeps_them_when_they_are_broken(self):
        folder = self.folder()
        certificate, key = self.make_certificate(folder, "first")
        fcd = self.start("--listen", "tls+tcp://127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key)
        self.assertFalse(os.path.exists(os.path.join(fcd.data, "tls")))
        port = self.tls_url(fcd)[1]
        first = self.certificate_of(port)
        second_certificate, second_key = self.make_certificate(folder, "second")
        os.replace(second_certificate, certificate)
        fcd.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "FCD-TLS-NOT-RELOADED" in fcd.stderr(), "the refusal of a certificate without its key")
        self.assertEqual(self.certificate_of(port), first)
        os.replace(second_key, key)
        fcd.process.send_signal(signal.SIGHUP)
        wait_until(lambda: " FCD-TLS-RELOADED " in fcd.stderr(), "the reload")
        self.assertNotEqual(self.certificate_of(port), first)

    def test_clients_need_a_certificate_when_that_is_asked_for(self):
        certificate, key = self.make_certificate(self.folder(), "client")
        fcd = self.start("--tls-client-ca", certificate, *self.TLS[:2])
        port = self.tls_url(fcd)[1]
        context = ssl.create_default_context(cafile=os.path.join(fcd.data, "tls", "certificate.pem"))
        for is_shown in (False, True):
            if is_shown:
                context.load_cert_chain(certificate, key)
            with socket.create_connection(("127.0.0.1", int(port)), limit(10)) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                    try:
                        secure.sendall(b"\0SP\0\0\x30\0\0")
                        answer = secure.recv(8)
                    except OSError:
                        answer = b""
            self.assertEqual(answer, b"\0SP\0\0\x31\0\0" if is_shown else b"")


class OptionTest(DaemonTest):
    def person(self, fcd):
        fc = Fc(fcd.url)
        self.addCleanup(fc.close)
        return fc

    def test_a_token_ends_after_its_ttl(self):
        fcd = self.start("--token-ttl", "1")
        fc = self.person(fcd)
        fc.sign_up("ann")
        expired = wait_until(lambda: (lambda result: result.code != DONE and result)(fc.try_run("whoami")), "the end")
        self.assertEqual(expired.code, NOT_LOGGED_IN)
        self.assertIn("fc login", expired.stderr)

    def test_closed_sign_up_lets_only_those_in_who_are_there(self):
        fcd = self.start()
        ann = self.person(fcd)
        ann.sign_up("ann", "her password")
        fcd.stop()
        fcd.options = ["--signup", "closed"]
        fcd.start()
        bob = self.person(fcd).try_run("signup", "bob", "--password-stdin", stdin=b"his password")
        self.assertEqual(bob.code, NOT_ALLOWED, bob)
        self.assertIn("closed", bob.stderr)
        ann.run("login", "ann", "--password-stdin", stdin=b"her password")


class SignalTest(DaemonTest):
    def caller(self, fcd):
        caller = Caller(fcd.url)
        self.addCleanup(caller.close)
        return caller

    def test_sigterm_answers_the_calls_in_flight(self):
        fcd = self.start()
        caller = self.caller(fcd)
        count = 5
        for i in range(count):
            caller.send_login(f"ghost{i}")
        self.assertEqual(caller.receive_code(), UNAUTHENTICATED)  # so the server has the others too
        fcd.process.send_signal(signal.SIGTERM)
        for _ in range(count - 1):
            self.assertEqual(caller.receive_code(), UNAUTHENTICATED)
        with self.assertRaises((EOFError, ConnectionResetError)):
            caller.receive_code()
        self.assert_ends(fcd, 0)
        self.assertIn(" info FCD-END ", fcd.stderr())

    def test_second_signal_ends_it_at_once(self):
        fcd = self.start()
        caller = self.caller(fcd)
        for i in range(120):
            caller.send_login(f"ghost{i}")
        self.assertEqual(caller.receive_code(), UNAUTHENTICATED)
        fcd.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "FCD-DRAIN" in fcd.stderr(), "the drain to begin")
        fcd.process.send_signal(signal.SIGINT)
        self.assert_ends(fcd, 1)
        self.assertIn("FCD-CUT-SHORT", fcd.stderr())
        fcd.start()

    def test_broken_stdout_does_not_end_it(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        stderr_path = os.path.join(self.folder(), "stderr")
        with open(stderr_path, "wb") as stderr:
            process = subprocess.Popen([os.environ["FCD"], "--data", os.path.join(self.folder(), "d"), "--listen",
                                        "tcp://127.0.0.1:0", "--http", "off"], stdout=write_end, stderr=stderr,
                                       env=clean_environment())
        os.close(write_end)

        def log():
            with open(stderr_path, encoding="utf-8") as file:
                return file.read()

        try:
            wait_until(lambda: "FCD-READY" in log(), "fcd to be ready")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(limit(20)), 0)
        finally:
            process.kill()
            process.wait()
        self.assertIn(" warn FCD-STDOUT ", log())


if __name__ == "__main__":
    unittest.main()
