"""Calls over one WebSocket, any number outstanding at a time."""
import os
import socket
import struct
import threading
import time
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from typing import Dict, Generic, Iterable, Optional, Tuple, Type, TypeVar
from urllib.parse import urlsplit

import websocket
from google.protobuf.message import DecodeError, Message

from fc.rpc.v1 import rpc_pb2

from . import frame
from .errors import RpcError
from .trust import Trust

DEFAULT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0

# The server ends a call at its deadline; the answer is given this much longer to arrive.
_ANSWER_GRACE_S = 1.0
_REQUEST_ID = struct.Struct(">I")
_REQUEST_ID_BIT = 0x8000_0000

Response = TypeVar("Response", bound=Message)


def websocket_url(url: str, path: str) -> str:
    """ws://HOST:PORT/path for the http://HOST:PORT that fcd prints, and wss:// for https://."""
    scheme, separator, authority = url.partition("://")
    if scheme not in ("http", "https") or not separator or not authority:
        raise ValueError(f"{url!r} is not https://HOST:PORT or http://HOST:PORT")
    return f"ws{scheme[4:]}://{authority.rstrip('/')}{path}"


def open_websocket(url: str, path: str, subprotocol: str, trust: Trust) -> websocket.WebSocket:
    target = websocket_url(url, path)
    secure = None
    if target.startswith("wss:"):
        address = urlsplit(target)
        secure = trust.connect((address.hostname or "", address.port or 443), CONNECT_TIMEOUT_S)
    try:
        # Origin is for browsers; http_no_proxy, because the environment's proxy is for the web.
        return websocket.create_connection(
            target, timeout=CONNECT_TIMEOUT_S, subprotocols=[subprotocol], suppress_origin=True, enable_multithread=True,
            skip_utf8_validation=True, http_no_proxy=["*"], sockopt=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            socket=secure)
    except BaseException:
        if secure is not None:
            secure.close()
        raise


class Call(Generic[Response]):
    """A call that has been started. result() waits for its end."""

    def __init__(self, channel: "Channel", number: int, response_type: Type[Response], timeout_s: float):
        self._channel = channel
        self._number = number
        self._response_type = response_type
        self._deadline = time.monotonic() + timeout_s + _ANSWER_GRACE_S
        self._reply: "Future[bytes]" = Future()

    def result(self) -> Response:
        """The response. Raises RpcError when the call has failed."""
        try:
            reply = self._reply.result(max(0.0, self._deadline - time.monotonic()))
        except FutureTimeoutError:
            self._channel._forget(self._number)
            raise RpcError(rpc_pb2.DEADLINE_EXCEEDED, "no answer in time") from None
        try:
            header, message = frame.decode_response(reply)
            if header.code != rpc_pb2.OK:
                raise RpcError.from_header(header)
            return self._response_type.FromString(message)
        except (frame.FrameError, DecodeError) as error:
            raise RpcError(rpc_pb2.INTERNAL, f"the answer cannot be read: {error}") from error


class Channel:
    """A connection to one server. Any thread may use it; close it, or use it in a `with`.

    token is what calls carry for the methods that ask for one; log_in sets it. trust says which server is the right
    one behind an https:// URL.
    A lost connection fails the calls in flight with UNAVAILABLE; make a new channel then.
    """

    def __init__(self, url: str, token: str = "", trust: Trust = Trust()):
        self.url = url
        self.trust = trust
        self.token = token
        self._lock = threading.Lock()
        self._calls: Dict[int, Call] = {}
        self._last_number = 0
        self._lost: Optional[str] = None
        try:
            self._websocket = open_websocket(url, "/rpc", "rep.sp.nanomsg.org", trust)
        except (OSError, websocket.WebSocketException) as error:
            raise RpcError(rpc_pb2.UNAVAILABLE, f"cannot connect to {url}: {error}") from error
        self._websocket.settimeout(None)
        self._reader = threading.Thread(target=self._read, name="fc-channel", daemon=True)
        self._reader.start()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls in flight fail with UNAVAILABLE."""
        try:
            self._websocket.sock.shutdown(socket.SHUT_RDWR)  # wakes the reader
        except (AttributeError, OSError):
            pass  # it has been lost already
        self._reader.join()
        self._websocket.shutdown()

    def start(self, method: str, request: Message, response_type: Type[Response], *,
              timeout: float = DEFAULT_TIMEOUT_S, request_id: Optional[bytes] = None,
              metadata: Iterable[Tuple[str, bytes]] = ()) -> "Call[Response]":
        """Sends a call of "package.Service/Method" and does not wait for its answer.

        timeout is in seconds. request_id, 16 bytes, is made anew unless a call is repeated: the server executes
        what changes something once for each.
        """
        header = rpc_pb2.RequestHeader(
            method=method, timeout_ms=max(1, round(timeout * 1000)), token=self.token,
            request_id=os.urandom(16) if request_id is None else request_id,
            metadata=[rpc_pb2.Metadata(key=key, value=value) for key, value in metadata])
        data = frame.encode(header, request.SerializeToString())
        if len(data) + _REQUEST_ID.size > frame.MESSAGE_MAX_BYTES:
            raise RpcError(rpc_pb2.RESOURCE_EXHAUSTED, f"a request of {len(data)} bytes is larger than the limit")
        with self._lock:
            if self._lost is not None:
                raise RpcError(rpc_pb2.UNAVAILABLE, self._lost)
            self._last_number = (self._last_number + 1) % _REQUEST_ID_BIT
            number = _REQUEST_ID_BIT | self._last_number
            call = Call(self, number, response_type, timeout)
            self._calls[number] = call
        try:
            self._websocket.send_binary(_REQUEST_ID.pack(number) + data)
        except (OSError, websocket.WebSocketException) as error:
            self._forget(number)
            raise RpcError(rpc_pb2.UNAVAILABLE, f"the connection was lost: {error}") from error
        return call

    def call(self, method: str, request: Message, response_type: Type[Response], **options) -> Response:
        """The same, and waits for the answer. Raises RpcError."""
        return self.start(method, request, response_type, **options).result()

    def _forget(self, number: int) -> None:
        with self._lock:
            self._calls.pop(number, None)

    def _read(self) -> None:
        try:
            while True:
                data = self._websocket.recv()
                if not data:
                    reason = "the server has closed the connection"
                    break
                self._take(data)
        except (OSError, websocket.WebSocketException, frame.FrameError) as error:
            reason = f"the connection was lost: {error}"
        with self._lock:
            self._lost = reason
            calls, self._calls = self._calls, {}
        for call in calls.values():
            call._reply.set_exception(RpcError(rpc_pb2.UNAVAILABLE, reason))

    def _take(self, data: bytes) -> None:
        if not isinstance(data, bytes) or len(data) < _REQUEST_ID.size:
            raise frame.FrameError("a message without a request id")
        (number,) = _REQUEST_ID.unpack_from(data)
        with self._lock:
            call = self._calls.pop(number, None)
        if call is not None:  # else nobody waits any more
            call._reply.set_result(data[_REQUEST_ID.size:])
