"""A server made of a socket and frames, for what a real one does not do: the test plays it.

    server = FakeServer()
    channel = Channel(server.url)
    peer = server.accept()       # the other end of the channel's connection
    peer.greet()                 # Hello, and its answer
    call = channel.start(...)
    number, received = peer.receive()
    peer.reply(number, response)
"""
import base64
import hashlib
import queue
import re
import socket
import struct
import threading

from fc.rpc.v1 import rpc_pb2
from fc_client import frame
from fcd_process import limit

_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class Peer:
    """One connection, after its upgrade. Every wait has a limit."""

    def __init__(self, connection):
        self._socket = connection

    # WebSocket

    def _read(self, size):
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError("the client has closed the connection")
            data += more
        return data

    def receive_websocket(self):
        """(opcode, payload) of one frame."""
        first, second = self._read(2)
        size = second & 0x7f
        if size >= 126:
            size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
        mask = int.from_bytes(self._read(4) * (size // 4 + 1), "little")
        payload = int.from_bytes(self._read(size), "little") ^ mask & ((1 << 8 * size) - 1)
        return first & 0xf, payload.to_bytes(size, "little")

    def send_websocket(self, payload, opcode=_BINARY, is_last=True, announced=None):
        size = len(payload) if announced is None else announced
        if size < 126:
            length = bytes([size])
        elif size < 65536:
            length = b"\x7e" + struct.pack(">H", size)
        else:
            length = b"\x7f" + struct.pack(">Q", size)
        self._socket.sendall(bytes([opcode | (0x80 if is_last else 0)]) + length + payload)

    def ping_websocket(self, payload=b"hello"):
        self.send_websocket(payload, _PING)

    # Frames

    def receive(self):
        """(request id, frame) of the next message."""
        opcode, payload = self.receive_websocket()
        if opcode != _BINARY:
            raise AssertionError(f"a WebSocket frame with opcode {opcode} instead of a message")
        return struct.unpack_from(">I", payload)[0], frame.decode_from_client(payload[4:])

    def send(self, number, header, message=b"", flags=0):
        self.send_raw(number, frame.encode(header, message, flags))

    def send_raw(self, number, data):
        self.send_websocket(struct.pack(">I", number) + data)

    def receive_control(self):
        number, received = self.receive()
        if (number, received.flags) != (frame.CONTROL_NUMBER, frame.CONTROL):
            raise AssertionError(f"{received} of {number:#x} instead of a control frame")
        return received.header

    def control(self, **kind):
        self.send(frame.CONTROL_NUMBER, rpc_pb2.Control(**kind), b"", frame.CONTROL)

    def greet(self, max_message_bytes=frame.MESSAGE_MAX_BYTES):
        """As a server that takes flags does. Returns the client's Hello."""
        hello = self.receive_control().hello
        self.control(hello=rpc_pb2.Hello(max_message_bytes=max_message_bytes))
        return hello

    def greet_as_an_old_server(self):
        self.receive_control()
        self.send(frame.CONTROL_NUMBER, rpc_pb2.ResponseHeader(code=rpc_pb2.UNIMPLEMENTED, message="unknown flags"))

    def reply(self, number, response, **header):
        """Answers a call with one reply."""
        self.send(number, rpc_pb2.ResponseHeader(**header), response.SerializeToString())

    def fail(self, number, code, flags=0, **header):
        self.send(number, rpc_pb2.ResponseHeader(code=code, **header), b"", flags)

    def sync(self):
        """Waits until the client has read everything that was sent. Nothing else may come from it meanwhile."""
        self.control(ping=rpc_pb2.Ping(number=12345))
        answer = self.receive_control()
        if answer.pong.number != 12345:
            raise AssertionError(f"{answer} instead of a pong")

    def close(self):
        self._socket.close()


class FakeServer:
    """Takes WebSockets at a port of its own. A context manager."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections = queue.SimpleQueue()
        self._all = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for peer in self._all:
            peer.close()

    def accept(self):
        """The Peer of a client that has connected."""
        peer = self._connections.get(timeout=limit(10))
        self._all.append(peer)
        return peer

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(limit(10))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               b"Sec-WebSocket-Protocol: rep.sp.nanomsg.org\r\n"
                               b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            self._connections.put(Peer(connection))
