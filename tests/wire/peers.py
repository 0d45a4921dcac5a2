"""Peers made of sockets and bytes: what a stranger can send to each of fcd's listeners."""
import contextlib
import os
import re
import socket
import struct
import tempfile
import unittest
import urllib.parse

from fc.auth.v1 import auth_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import frame
from fcd_process import Fcd, limit, wait_until

REQ, REP, SUB, PUB, PAIR = 0x30, 0x31, 0x21, 0x20, 0x10
METHOD = "fc.auth.v1.Auth/GetLoginParameters"
REQUEST = auth_pb2.GetLoginParametersRequest(user_name="nobody").SerializeToString()
NUMBER = b"\x80\0\0\1"


def call_frame(method=METHOD, request=REQUEST, **header):
    return frame.encode(rpc_pb2.RequestHeader(method=method, **header), request)


def call_message(**options):
    return NUMBER + call_frame(**options)


def handshake(protocol):
    return b"\0SP\0" + struct.pack(">HH", protocol, 0)


def upgrade(url, path="/rpc", subprotocol="rep.sp.nanomsg.org", **headers):
    """The request for a WebSocket; headers replace or, when None, remove."""
    lines = {"Host": urllib.parse.urlsplit(url).netloc, "Connection": "Upgrade", "Upgrade": "websocket",
             "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
             "Sec-WebSocket-Protocol": subprotocol}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"GET {path} HTTP/1.1\r\n{text}\r\n".encode()


def websocket_frame(payload, first_byte=0x82, announced=None):
    """A client's frame; its mask is zero, so that the payload stands there as it is."""
    size = len(payload) if announced is None else announced
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    return bytes([first_byte]) + length + bytes(4) + payload


class Peer:
    """A connection to one of fcd's listeners. A context manager."""

    def __init__(self, url, seconds=10):
        parts = urllib.parse.urlsplit(url)
        self.is_ipc = parts.scheme == "ipc"
        self.url = url
        if self.is_ipc:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.connect(url[len("ipc://"):])  # blocks while the backlog is full, as it would not with a limit
            self.socket.settimeout(limit(seconds))
        else:
            self.socket = socket.create_connection((parts.hostname, parts.port), limit(seconds))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def send(self, data):
        """Sends; a server that has cut the connection already is no error."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def receive(self, size):
        """Exactly so many bytes, or fewer when the server closes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while len(data) < size:
                more = self.socket.recv(size - len(data))
                if not more:
                    break
                data += more
        return data

    def receive_all(self):
        """Everything until the server closes, which it has to do in time."""
        return self.receive(1 << 30)

    def finish(self):
        """Says that nothing more will come."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with RST, as a process does whose machine has lost its memory of the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # SP

    def message(self, data, announced=None):
        """One SP message on the wire."""
        length = struct.pack(">Q", len(data) if announced is None else announced)
        return (b"\1" if self.is_ipc else b"") + length + data

    def greet(self, protocol=REQ):
        self.send(handshake(protocol))
        return self.receive(8)

    def receive_message(self):
        """None when the server has closed."""
        prefix = self.receive(9 if self.is_ipc else 8)
        if len(prefix) < 8:
            return None
        return self.receive(struct.unpack(">Q", prefix[-8:])[0])

    # WebSocket

    def receive_head(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.receive(1)
            if not byte:
                break
            head += byte
        return head

    def receive_frame(self):
        """(first byte, payload) of one frame; None when the server has closed."""
        start = self.receive(2)
        if len(start) < 2:
            return None
        size = start[1]
        if size >= 126:
            size = int.from_bytes(self.receive(2 if size == 126 else 8), "big")
        return start[0], self.receive(size)


def answer_of(reply):
    """(code, message) of a reply, whose request id has to be ours."""
    if not reply or reply[:4] != NUMBER:
        raise AssertionError(f"a reply that is not ours: {reply!r}")
    header, _ = frame.decode_response(reply[4:])
    return rpc_pb2.Code.Name(header.code), header.message


class Listeners(unittest.TestCase):
    """Tests against one fcd per class with all three listeners: self.tcp, self.ipc, self.http are their URLs."""

    fcd_options = ()

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="fcd-test-")
        cls.addClassCleanup(folder.cleanup)
        cls.ipc = f"ipc://{folder.name}/socket"
        # Freed memory that the sanitizer keeps would look like a leak.
        cls.fcd = Fcd("--listen", cls.ipc, *cls.fcd_options, env={"ASAN_OPTIONS": "exitcode=99:quarantine_size_mb=1"})
        cls.addClassCleanup(cls.fcd.close)
        cls.tcp, cls.http = cls.fcd.url, cls.fcd.http_url
        cls.idle_sockets = cls.sockets()

    # One call by a polite client.

    def call_native(self, url, **options):
        with Peer(url) as peer:
            self.assertEqual(peer.greet(), handshake(REP))
            peer.send(peer.message(call_message(**options)))
            return answer_of(peer.receive_message())

    def call_web(self, **options):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http))
            self.assertIn(b" 101 ", peer.receive_head())
            peer.send(websocket_frame(call_message(**options)))
            first_byte, reply = peer.receive_frame()
            self.assertEqual(first_byte, 0x82)
            return answer_of(reply)

    def assert_all_answer(self):
        """A stranger has done his worst: the others are served as ever."""
        for url in (self.tcp, self.ipc):
            self.assertEqual(self.call_native(url)[0], "OK", url)
        self.assertEqual(self.call_web()[0], "OK")

    # What fcd holds.

    @classmethod
    def sockets(cls):
        """Descriptors of sockets. Others are opened as worker threads come to need them, and stay."""
        count = 0
        folder = f"/proc/{cls.fcd.process.pid}/fd"
        for descriptor in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(f"{folder}/{descriptor}").startswith("socket:")
        return count

    def wait_for_sockets(self):
        """As many as when nobody was connected."""
        wait_until(lambda: self.sockets() <= self.idle_sockets,
                   f"{self.sockets()} sockets to become {self.idle_sockets} again", 20)

    def memory_kb(self):
        with open(f"/proc/{self.fcd.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1])
