"""A TCP proxy between clients and fcd that keeps all that passes, and can lose what is on its way back.

    with RecordingProxy(fcd.url) as proxy:
        fc = Fc(proxy.url)
        ...
        assert b"secret" not in proxy.recorded()
"""
import select
import socket
import struct
import threading

from fc.rpc.v1 import rpc_pb2
from fc_client import frame
from google.protobuf.message import DecodeError

HELLO_BYTES, LENGTH_BYTES, NUMBER_BYTES = 8, 8, 4


def _address(url):
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host, int(port)


class _Messages:
    """The messages of one direction of SP over TCP, as their bytes come."""

    def __init__(self):
        self._pending, self._is_begun = b"", False

    def add(self, data):
        """Yields what is whole: (message, its bytes on the wire). The hello has no message."""
        self._pending += data
        if not self._is_begun and len(self._pending) >= HELLO_BYTES:
            self._is_begun = True
            hello, self._pending = self._pending[:HELLO_BYTES], self._pending[HELLO_BYTES:]
            yield b"", hello
        while self._is_begun and len(self._pending) >= LENGTH_BYTES:
            (size,) = struct.unpack_from(">Q", self._pending)
            if len(self._pending) < LENGTH_BYTES + size:
                return
            whole, self._pending = self._pending[:LENGTH_BYTES + size], self._pending[LENGTH_BYTES + size:]
            yield whole[LENGTH_BYTES:], whole


class RecordingProxy:
    """url is where clients connect. Methods may be called from any thread.

    on_request(method) is told of each call before the server gets it, on a thread of the proxy; lose_replies(method, n)
    makes the next n replies of a method vanish with their connection, after the server has given them. What
    alter(method, message) returns goes to the server in the place of a call's message, which has the same size.
    """

    def __init__(self, server_url):
        self._server = _address(server_url)
        self._lock = threading.Lock()
        self._recorded = []
        self._to_lose = {}
        self._lost = 0
        self._requests = {}  # method -> [request id]
        self._sockets = set()
        self._threads = []
        self.on_request = None
        self.alter = None
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

    def recorded(self):
        """All bytes that passed, each direction of each connection in one piece."""
        with self._lock:
            return b"\0".join(bytes(one) for one in self._recorded)

    def request_ids(self, method):
        """Of the calls of a method, in the order in which they came."""
        with self._lock:
            return list(self._requests.get(method, []))

    def lose_replies(self, method, count):
        with self._lock:
            self._to_lose[method] = count

    @property
    def lost(self):
        """How many replies have been lost."""
        with self._lock:
            return self._lost

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
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
        """One connection to its end."""
        calls = {}  # number -> method, of those without an answer
        there = threading.Thread(target=self._pump, daemon=True,
                                 args=(client, server, lambda message: self._see_request(message, calls)))
        there.start()
        self._pump(server, client, lambda message: self._is_to_pass(message, calls))
        there.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pump(self, source, target, is_to_pass):
        messages, kept = _Messages(), bytearray()
        with self._lock:
            self._recorded.append(kept)
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                with self._lock:
                    kept += data
                for message, whole in messages.add(data):
                    passing = is_to_pass(message)
                    if not passing:
                        return
                    target.sendall(whole if passing is True else whole[:-len(message)] + passing)
        except OSError:
            pass
        finally:
            self._shut(source)
            self._shut(target)

    def _see_request(self, message, calls):
        try:
            header = frame.decode_from_client(message[NUMBER_BYTES:]).header
        except (frame.FrameError, DecodeError):
            return True
        if isinstance(header, rpc_pb2.RequestHeader):
            if self.on_request:
                self.on_request(header.method)
            with self._lock:
                calls[message[:NUMBER_BYTES]] = header.method
                self._requests.setdefault(header.method, []).append(header.request_id)
            if self.alter:
                return self.alter(header.method, message)
        return True

    def _is_to_pass(self, message, calls):
        with self._lock:
            method = calls.pop(message[:NUMBER_BYTES], None)
            if method is None or not self._to_lose.get(method):
                return True
            self._to_lose[method] -= 1
            self._lost += 1
            return False
