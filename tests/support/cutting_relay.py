"""A TCP relay between clients and fcd that counts what passes, and at a chosen byte does something to the connection.

    with CuttingRelay(fcd.url) as relay:
        relay.at(to_server=100_000, do=fcd_process.kill)
        fc.run("upload", "file", "--server", relay.url)
        assert relay.calls("fc.filestore.v1.FileStore/Upload") < 10
"""
import select
import socket
import struct
import threading

from fc.rpc.v1 import rpc_pb2
from fc_client import frame
from google.protobuf.message import DecodeError

HELLO_BYTES, LENGTH_BYTES, NUMBER_BYTES = 8, 8, 4
HEAD_BYTES = 4096  # of a message are kept, in which its header is
TO_SERVER, TO_CLIENT = 0, 1


def _address(url):
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host, int(port)


class _Watcher:
    """Follows the messages of one direction of SP over TCP without keeping them, in pieces of any size."""

    def __init__(self):
        self._skip, self._head, self._size = HELLO_BYTES, b"", None

    def add(self, data):
        """Yields the first bytes of each message that is whole now."""
        while data:
            if self._skip:
                step = min(self._skip, len(data))
                self._skip -= step
                data = data[step:]
                if self._skip == 0 and self._size is not None:
                    yield self._head
                    self._head, self._size = b"", None
                continue
            wanted = LENGTH_BYTES if self._size is None else min(self._size, HEAD_BYTES)
            step = min(wanted - len(self._head), len(data))
            self._head += data[:step]
            data = data[step:]
            if len(self._head) < wanted:
                return
            if self._size is None:
                (self._size,) = struct.unpack(">Q", self._head)
                self._head = b""
            else:
                self._skip = self._size - len(self._head)
                if self._skip == 0:
                    yield self._head
                    self._head, self._size = b"", None


class CuttingRelay:
    """url is where clients connect. Methods may be called from any thread.

    Calls are counted when the last byte of their request has been passed on, and answered ones when that of a reply with
    code 0 has. connections is how often a client has come.
    """

    def __init__(self, server_url):
        self._server = _address(server_url)
        self._lock = threading.Lock()
        self._sockets = set()
        self._threads = []
        self._passed = [0, 0]
        self._trigger = None  # (direction, bytes, action)
        self._flip = None  # (direction, bytes)
        self._calls, self._answered = {}, {}
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_closing = False
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._is_closing = True
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            self._shut(one)
        for thread in self._threads:
            thread.join(20)

    def at(self, offset, do, is_to_client=False):
        """Calls do() once, on a thread of the relay, when so many bytes from now on have been passed on in a direction, all
        connections together, and before the next one is."""
        with self._lock:
            direction = TO_CLIENT if is_to_client else TO_SERVER
            self._trigger = (direction, self._passed[direction] + offset, do)

    def disarm(self):
        """Forgets what at() was told. False: it is done, or being done."""
        with self._lock:
            is_there, self._trigger = self._trigger is not None, None
            return is_there

    def flip(self, offset, is_to_client=False):
        """Changes one bit of the byte at this offset from now on."""
        with self._lock:
            direction = TO_CLIENT if is_to_client else TO_SERVER
            self._flip = (direction, self._passed[direction] + offset)

    @property
    def has_flipped(self):
        return self._flip is None

    def passed(self, is_to_client=False):
        with self._lock:
            return self._passed[TO_CLIENT if is_to_client else TO_SERVER]

    def calls(self, method):
        with self._lock:
            return self._calls.get(method, 0)

    def answered(self, method):
        with self._lock:
            return self._answered.get(method, 0)

    def drain(self):
        """Waits until the connections that were there have ended and all that they said is counted."""
        with self._lock:
            threads = [one for one in self._threads[1:] if one.is_alive()]
        for thread in threads:
            thread.join(60)

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive() or one.ident is None] + [thread]
        thread.start()

    @staticmethod
    def _shut(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while not self._is_closing:
            try:
                readable, _, _ = select.select([self._listener], [], [], 0.1)
                if not readable:
                    continue
                client, _ = self._listener.accept()
            except (OSError, ValueError):
                return
            self.connections += 1
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._connect, client, server)

    def _connect(self, client, server):
        calls = {}
        there = threading.Thread(target=self._pump, args=(client, server, TO_SERVER, calls), daemon=True)
        there.start()
        self._pump(server, client, TO_CLIENT, calls)
        there.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pump(self, source, target, direction, calls):
        watcher = _Watcher()
        note = self._note_request if direction == TO_SERVER else self._note_reply
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                for piece, action in self._cut(data, direction):
                    target.sendall(piece)
                    for head in watcher.add(piece):
                        note(head, calls)
                    if action:
                        action()
        except OSError:
            pass
        finally:
            self._shut(source)
            self._shut(target)

    def _cut(self, data, direction):
        """Pieces of data, each with what is to be done behind it."""
        with self._lock:
            begin = self._passed[direction]
            self._passed[direction] += len(data)
            if self._flip and self._flip[0] == direction and begin <= self._flip[1] < begin + len(data):
                at = self._flip[1] - begin
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                self._flip = None
            trigger = self._trigger
            if not trigger or trigger[0] != direction or trigger[1] > begin + len(data):
                return [(data, None)]
            self._trigger = None
            at = max(0, trigger[1] - begin)
            return [(data[:at], trigger[2]), (data[at:], None)]

    @staticmethod
    def _header(head, kind):
        try:
            header = frame.decode_from_client(head[NUMBER_BYTES:]).header
        except (frame.FrameError, DecodeError):
            return None
        return header if isinstance(header, kind) else None

    def _note_request(self, head, calls):
        header = self._header(head, rpc_pb2.RequestHeader)
        if header:
            with self._lock:
                calls[head[:NUMBER_BYTES]] = header.method
                self._calls[header.method] = self._calls.get(header.method, 0) + 1

    def _note_reply(self, head, calls):
        with self._lock:
            method = calls.pop(head[:NUMBER_BYTES], None)
            if method and self._code(head) == 0:
                self._answered[method] = self._answered.get(method, 0) + 1

    @staticmethod
    def _code(head):
        try:
            return frame.decode_from_server(head[NUMBER_BYTES:]).header.code
        except (frame.FrameError, DecodeError):
            return None
