"""fc health: what scripts and load balancers go by."""
import signal
import socket
import struct
import unittest

from fcd_process import DONE, FAILED, NOT_FOUND, UNREACHABLE, USAGE, Fc, Fcd, FcTestCase
from test_other_server import FakeServer


def reply(message, code=b""):
    """A frame with a header, empty on success, and a message."""
    return struct.pack(">BBH", 1, 0, len(code)) + code + message


class Health(FcTestCase):
    def test_a_server_that_serves(self):
        self.assertEqual(self.person().run("health").text, "serving\n")
        self.assertEqual(self.person().run("health", "--json").object,
                         {"server": self.fcd.url, "service": "", "status": "SERVING"})

    def test_it_needs_no_login_and_minds_no_wrong_one(self):
        self.assertEqual(self.person(FC_TOKEN="fct_wrong").run("health").text, "serving\n")

    def test_each_service_can_be_asked_about(self):
        for service in ("fc.auth.v1.Auth", "fc.chat.v1.Chat", "fc.filestore.v1.FileStore", "fc.rpc.v1.Health", "fc.rpc.v1.Stats",
                        "fc.rpc.v1.Reflection"):
            with self.subTest(service=service):
                self.assertEqual(self.person().run("health", service, "--json").object["service"], service)

    def test_a_service_that_is_not_there(self):
        for service in ("fc.chat.v1.Nothing", "fc.chat.v1.Chat/Send", "x" * 300):
            with self.subTest(service=service):
                self.assert_fails(self.person().try_run("health", service), NOT_FOUND, "no service")

    def test_usage(self):
        self.assert_fails(self.person().try_run("health", "fc.chat.v1.Chat", "more"), USAGE, "usage: fc health")

    def test_a_server_that_is_ending(self):
        with FakeServer(lambda frame: reply(b"\x08\x02")) as server:
            fc = self.person()
            for options, output in (((), b"not serving\n"), (("--json",), b'"status":"NOT_SERVING"')):
                result = fc.try_run("health", "--server", server.url, *options)
                self.assertEqual(result.code, FAILED, repr(result))
                self.assertIn(output, result.stdout.replace(b'": "', b'":"'))
                self.assertRegex(result.stderr, r"\Afc health: [^\n]*shutting down[^\n]*\n\Z")

    def test_an_answer_that_says_nothing_is_not_serving(self):
        with FakeServer(lambda frame: reply(b"")) as server:
            self.assertEqual(self.person().try_run("health", "--server", server.url).code, FAILED)

    def test_a_server_without_health(self):
        unimplemented = b"\x08\x0c"
        with FakeServer(lambda frame: reply(b"", unimplemented)) as server:
            self.assert_fails(self.person().try_run("health", "--server", server.url), FAILED)

    def test_nobody_is_there(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        self.assert_fails(self.person().try_run("health", "--server", url), UNREACHABLE)

    def test_a_server_that_does_not_answer(self):
        with Fcd() as fcd:
            fc = Fc(fcd.url)
            self.addCleanup(fc.close)
            self.assertEqual(fc.try_run("health").code, DONE)
            fcd.process.send_signal(signal.SIGSTOP)
            try:
                self.assert_fails(fc.try_run("health"), UNREACHABLE)
            finally:
                fcd.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
