"""The WebSocket below a channel or a subscription."""
import functools
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from typing import Callable, Optional, Type
from urllib.parse import urlsplit

import websocket

from .frame import MESSAGE_MAX_BYTES
from .trust import Trust

CONNECT_TIMEOUT_S = 5.0

_READ_BYTES = 16 * 1024  # what is read at once, unless a frame is known to have more
_TOO_LARGE = f"a message is larger than {MESSAGE_MAX_BYTES} bytes"


def websocket_url(url: str, path: str) -> str:
    """ws://HOST:PORT/path for the http://HOST:PORT that fcd prints, and wss:// for https://."""
    scheme, separator, authority = url.partition("://")
    if scheme not in ("http", "https") or not separator or not authority:
        raise ValueError(f"{url!r} is not https://HOST:PORT or http://HOST:PORT")
    return f"ws{scheme[4:]}://{authority.rstrip('/')}{path}"


def open_websocket(url: str, path: str, subprotocol: str, trust: Trust,
                   class_: Type[websocket.WebSocket] = websocket.WebSocket) -> websocket.WebSocket:
    """Connects. Raises OSError or WebSocketException."""
    target = websocket_url(url, path)
    secure = None
    if target.startswith("wss:"):
        address = urlsplit(target)
        secure = trust.connect((address.hostname or "", address.port or 443), CONNECT_TIMEOUT_S)
    try:
        # Origin is for browsers; http_no_proxy, because the environment's proxy is for the web.
        return websocket.create_connection(
            target, timeout=CONNECT_TIMEOUT_S, class_=class_, subprotocols=[subprotocol], suppress_origin=True,
            enable_multithread=True, skip_utf8_validation=True, http_no_proxy=["*"],
            sockopt=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),), socket=secure)
    except BaseException:
        if secure is not None:
            secure.close()
        raise


@functools.lru_cache(maxsize=256)
def _xor_table(byte: int) -> bytes:
    return bytes(byte ^ other for other in range(256))


def masked_frame(opcode: int, payload: bytes) -> bytearray:
    """A frame as clients send them: RFC 6455, 5.2 and 5.3, each byte of the payload by the mask's in turn.

    By tables, which is the fastest that Python has by itself.
    """
    size, mask = len(payload), os.urandom(4)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    frame = bytearray(head + mask + payload)
    for at, byte in enumerate(mask):
        frame[len(head) + len(mask) + at::4] = payload[at::4].translate(_xor_table(byte))
    return frame


class Duplex(websocket.WebSocket):
    """A WebSocket that one thread reads while another writes, and neither waits for the other.

    The library answers a ping while it reads, and would wait there until the server takes the answer. A server that
    waits for us to read would never do that; so pings are handed to `on_ping`. And OpenSSL allows one call at a time on
    a connection, so that a read may not wait inside of it either.
    """

    def __init__(self, **options: object):
        super().__init__(**options)
        # When bytes last came, and when the system last took some of ours: time.monotonic().
        self.last_received = self.last_sent = time.monotonic()
        self.on_ping: Callable[[bytes], None] = lambda payload: None
        self._io = threading.Lock()
        self._message_bytes = 0
        self._read = bytearray(_READ_BYTES)  # from _read_at to _read_end is what no frame has taken yet
        self._read_at = self._read_end = 0

    def share(self) -> None:
        """Once connected: from now on two threads may use it."""
        self.sock.setblocking(False)
        self._readable = selectors.DefaultSelector()
        self._writable = selectors.DefaultSelector()
        self._readable.register(self.sock, selectors.EVENT_READ)
        self._writable.register(self.sock, selectors.EVENT_WRITE)

    def receive(self) -> bytearray:
        """The next message. Raises OSError or WebSocketException when there will be none, or it is not binary."""
        self._message_bytes = 0
        opcode, data = self.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise websocket.WebSocketConnectionClosedException("the server has closed the connection")
        if opcode != websocket.ABNF.OPCODE_BINARY:
            raise websocket.WebSocketProtocolException("the server has sent a text message")
        if len(data) > MESSAGE_MAX_BYTES:
            raise websocket.WebSocketProtocolException(_TOO_LARGE)
        return data

    def cut(self) -> None:
        """Ends the connection, so that the threads that wait for it wake up. Any thread; again it does nothing."""
        shared = self.sock
        try:
            if shared is not None:
                # Not SSLSocket's own, which takes the TLS away from under the threads that use it.
                socket.socket.shutdown(shared, socket.SHUT_RDWR)
        except OSError:
            pass  # it has been lost already

    def release(self) -> None:
        """Frees it, when no thread uses it any more."""
        self._readable.close()
        self._writable.close()
        self.shutdown()

    # What the library calls, and we do in our way.

    def pong(self, payload: bytes = b"") -> None:
        self.on_ping(payload)

    def send_close(self, status: int = websocket.STATUS_NORMAL, reason: bytes = b"") -> None:
        """Says farewell if that can be done at once; a thread that writes may be in the middle of a frame."""
        if self.lock.acquire(blocking=False):
            try:
                farewell = websocket.ABNF.create_frame(status.to_bytes(2, "big") + reason, websocket.ABNF.OPCODE_CLOSE)
                with self._io:
                    self.sock.send(farewell.format())
            except OSError:
                pass  # nobody hears it
            finally:
                self.lock.release()

    def recv_frame(self) -> websocket.ABNF:
        first, second = self._take(2)
        opcode, size = first & 0x0f, second & 0x7f
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        is_data = opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_CONT)
        if self._message_bytes + size > MESSAGE_MAX_BYTES:
            raise websocket.WebSocketProtocolException(_TOO_LARGE)  # before any of it is here
        if second & 0x80:
            raise websocket.WebSocketProtocolException("the server has masked a frame")
        self._message_bytes += size if is_data else 0
        received = websocket.ABNF(first >> 7, first >> 6 & 1, first >> 5 & 1, first >> 4 & 1, opcode, 0, self._take(size))
        received.validate(skip_utf8_validation=True)
        return received

    def _take(self, size: int) -> bytearray:
        """The next bytes from the server."""
        taken = bytearray(size)
        there = 0
        while there < size:
            if self._read_at == self._read_end and size - there >= _READ_BYTES:
                there += self._receive_into(memoryview(taken)[there:])
                continue
            if self._read_at == self._read_end:
                self._read_at, self._read_end = 0, self._receive_into(memoryview(self._read))
            end = min(self._read_end, self._read_at + size - there)
            taken[there:there + end - self._read_at] = self._read[self._read_at:end]
            there += end - self._read_at
            self._read_at = end
        return taken

    def _receive_into(self, buffer: memoryview) -> int:
        size = self._patiently(lambda: self.sock.recv_into(buffer))
        if not size:
            raise websocket.WebSocketConnectionClosedException("the server has closed the connection")
        self.last_received = time.monotonic()
        return size

    def send(self, payload: bytes, opcode: int = websocket.ABNF.OPCODE_TEXT) -> int:
        frame = masked_frame(opcode, payload)
        with self.lock:
            return self._send(frame)

    def _send(self, data: bytearray) -> int:
        view = memoryview(data)
        while view:
            # The same bytes again after an attempt that did nothing, as OpenSSL asks for.
            sent = self._patiently(lambda: self.sock.send(view), is_write=True)
            view = view[sent:]
            self.last_sent = time.monotonic()
        return len(data)

    def _patiently(self, action: Callable, is_write: bool = False) -> Optional[object]:
        """The result of an action on the socket, as soon as it can be done."""
        while True:
            try:
                with self._io:
                    return action()
            except ssl.SSLWantReadError:
                self._readable.select()
            except ssl.SSLWantWriteError:
                self._writable.select()
            except BlockingIOError:
                (self._writable if is_write else self._readable).select()
