"""What fc says of servers that are not the fcd it was made for."""
import contextlib
import socket
import struct
import threading
import unittest

from fcd_process import FAILED, UNREACHABLE, Fc, FcTestCase

HANDSHAKE_OF_REP = b"\0SP\0\0\x31\0\0"


class FakeServer:
    """Takes SP connections and answers each call with what `answer` makes of its frame; None leaves it unanswered, and
    closes the connection. A context manager."""

    def __init__(self, answer):
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept)]
        self.calls = 0

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
                self.threads[-1].start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, struct.error):
            connection.sendall(HANDSHAKE_OF_REP)
            stream.read(8)
            while True:
                (size,) = struct.unpack(">Q", stream.read(8))
                message = stream.read(size)
                self.calls += 1
                reply = self.answer(message[4:])
                if reply is None:
                    return
                connection.sendall(struct.pack(">Q", 4 + len(reply)) + message[:4] + reply)


class OtherServers(FcTestCase):
    @classmethod
    def setUpClass(cls):
        """None of these tests needs an fcd."""

    def try_commands(self, url, code, pattern):
        fc = Fc(url, FC_TOKEN="fct_" + "a" * 43)
        self.addCleanup(fc.close)
        fc.write("file", b"content")
        for command in (("whoami",), ("room", "create", "x", "--plain"), ("room", "list"), ("join", "x"), ("send", "x", "y"),
                        ("history", "x"), ("upload", "file"), ("download", "file", "-o", "copy"), ("ls",), ("stat", "file")):
            with self.subTest(command=command):
                self.assert_fails(fc.try_run(*command), code, pattern)
        for command in ("signup", "login"):
            with self.subTest(command=command):
                result = fc.try_run(command, "alice", "--password-stdin", stdin=b"a long password")
                self.assert_fails(result, code, pattern)

    def test_a_newer_version_of_the_protocol(self):
        with FakeServer(lambda frame: b"\2" + b"what only version 2 knows") as server:
            self.try_commands(server.url, FAILED, "version 2.*version 1.*upgrade")
            self.assertGreaterEqual(server.calls, 12)

    def test_a_server_that_hangs_up_on_every_call(self):
        with FakeServer(lambda frame: None) as server:
            self.try_commands(server.url, UNREACHABLE, "was lost.*may have been executed|broke.*may have arrived")

    def test_nobody_is_there(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        self.try_commands(url, UNREACHABLE, "fcd (runs|running) there")
        self.try_commands("ipc:///nonexistent/fcd.sock", UNREACHABLE, "fcd (runs|running) there")


if __name__ == "__main__":
    unittest.main()
