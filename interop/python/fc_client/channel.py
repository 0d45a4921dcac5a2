"""Calls over one WebSocket, any number outstanding at a time.

A channel has three threads. One reads and hands frames to their calls, without ever waiting for anything else: a server
that waits for its client to read would wait for ever. One writes what is in the outbox. One watches over deadlines and
over the silence of the server. Streams are bounded by their credit, and callers wait while too much is in the outbox.
"""
import heapq
import os
import struct
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import Callable, Dict, Iterable, List, Optional, Tuple, Type, TypeVar

import websocket
from google.protobuf.message import DecodeError, Message

from fc.rpc.v1 import rpc_pb2

from . import frame
from . import metadata as metadata_of
from .call import Call, Pending
from .errors import RpcError
from .stream import Stream, StreamState
from .transport import Duplex, open_websocket
from .trust import Trust

DEFAULT_TIMEOUT_S = 30.0
KEEPALIVE_S = 10.0

# The server takes no longer ones.
_TIMEOUT_MAX_MS = 3_600_000
# Requests that wait to be written: two of the largest, so that memory is bounded and the link is busy.
_OUTBOX_MAX_BYTES = 2 * frame.MESSAGE_MAX_BYTES
# Answers to pings that wait to be written. A server that sends more does not read them.
_PONGS_MAX = 64

_REQUEST_ID = struct.Struct(">I")
_REQUEST_ID_BIT = 0x8000_0000

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Channel:
    """A connection to one server. Any thread may use it; close it, or use it in a `with`.

    token is what calls carry for the methods that ask for one; log_in sets it. trust says which server is the right
    one behind an https:// URL.

    keepalive is in seconds: while calls are outstanding and nothing comes for so long, the server is asked whether it
    lives; after as long again without a sign of it the connection counts as lost. None does without.

    A lost connection fails the calls in flight with UNAVAILABLE; make a new channel then.
    """

    def __init__(self, url: str, token: str = "", trust: Trust = Trust(), keepalive: Optional[float] = KEEPALIVE_S):
        self.url = url
        self.trust = trust
        self.token = token
        self._keepalive_s = keepalive
        self._outbox: "SimpleQueue[Optional[Callable[[], None]]]" = SimpleQueue()
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._is_earlier = threading.Condition(self._lock)  # something is due sooner than the watching thread knows
        # Guarded by _lock:
        self._pending: Dict[int, Pending] = {}
        self._due: List[Tuple[float, int]] = []  # a heap of deadlines with their numbers; some have ended already
        self._busy_since = 0.0  # since when something is pending without a break
        self._asked_at: Optional[float] = None  # when the server was asked whether it lives, and has not answered
        self._last_number = 0
        self._outbox_bytes = 0
        self._pongs = 0
        self._lost: Optional[str] = None
        self._is_going_away = False
        self._takes_flags: Optional[bool] = None  # None until the server has answered Hello
        self._message_max = frame.MESSAGE_MAX_BYTES
        self._early_cancels: List[int] = []  # wait for that answer
        try:
            self._socket = open_websocket(url, "/rpc", "rep.sp.nanomsg.org", trust, Duplex)
        except (OSError, websocket.WebSocketException) as error:
            raise RpcError(rpc_pb2.UNAVAILABLE, f"cannot connect to {url}: {error}") from error
        self._socket.on_ping = lambda payload: self._answer_ping(partial(self._send_pong, payload))
        self._socket.share()
        self._control(hello=rpc_pb2.Hello(max_message_bytes=frame.MESSAGE_MAX_BYTES))
        self._threads = [threading.Thread(target=target, name=f"fc-channel-{name}", daemon=True)
                         for name, target in (("read", self._read), ("write", self._write), ("watch", self._watch))]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls in flight fail with UNAVAILABLE."""
        self._lose("the channel is closed")
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join()
        if len(others) == len(self._threads):
            self._socket.release()

    @property
    def takes_flags(self) -> Optional[bool]:
        """Whether the server knows streams and cancels; None until it has said so, which it does at once."""
        with self._lock:
            return self._takes_flags

    def start(self, method: str, request: Message, response_type: Type[Response], *,
              timeout: float = DEFAULT_TIMEOUT_S, request_id: Optional[bytes] = None,
              metadata: Iterable[Tuple[str, bytes]] = ()) -> "Call[Response]":
        """Sends a call of "package.Service/Method" and does not wait for its answer.

        timeout is in seconds. request_id, 16 bytes, is made anew unless a call is repeated: the server executes
        what changes something once for each. metadata is pairs of a key and bytes.

        Raises RpcError for a call that cannot be sent, and waits only while much else has yet to be sent.
        """
        call: "Call[Response]" = Call(self, response_type, timeout)
        header = self._header(method, timeout, request_id, metadata)
        self._open(call, frame.encode(header, request.SerializeToString()))
        return call

    def call(self, method: str, request: Message, response_type: Type[Response], *,
             timeout: float = DEFAULT_TIMEOUT_S, request_id: Optional[bytes] = None,
             metadata: Iterable[Tuple[str, bytes]] = ()) -> Response:
        """The same, and waits for the answer. Raises RpcError."""
        return self.start(method, request, response_type, timeout=timeout, request_id=request_id,
                          metadata=metadata).result()

    def stream(self, method: str, request_type: Type[Request], response_type: Type[Response], *,
               request: Optional[Request] = None, timeout: float = DEFAULT_TIMEOUT_S,
               request_id: Optional[bytes] = None,
               metadata: Iterable[Tuple[str, bytes]] = ()) -> "Stream[Request, Response]":
        """Opens a call that streams, and does not wait for the server.

        request is the only one, of a method that streams its responses only. timeout is for the whole stream.
        Raises RpcError for a call that cannot be sent; UNIMPLEMENTED by a server that knows no streams may also come
        when the stream is read.
        """
        if self.takes_flags is False:
            raise RpcError(rpc_pb2.UNIMPLEMENTED, "the server is too old for calls that stream")
        state = StreamState(self, timeout)
        header = self._header(method, timeout, request_id, metadata)
        self._open(state, state.open_frame(header, None if request is None else request.SerializeToString()))
        return Stream(state, request_type, response_type)

    # Sending.

    def _header(self, method: str, timeout_s: float, request_id: Optional[bytes],
                metadata: Iterable[Tuple[str, bytes]]) -> rpc_pb2.RequestHeader:
        return rpc_pb2.RequestHeader(
            method=method, timeout_ms=min(max(1, round(timeout_s * 1000)), _TIMEOUT_MAX_MS), token=self.token,
            request_id=os.urandom(16) if request_id is None else request_id,
            metadata=metadata_of.encode(metadata_of.check(metadata)))

    def _check_size(self, data: bytes) -> None:
        if len(data) + _REQUEST_ID.size > self._message_max:
            raise RpcError(rpc_pb2.RESOURCE_EXHAUSTED, f"a message of {len(data)} bytes is larger than the limit")

    def _open(self, pending: Pending, data: bytes) -> None:
        """Gives a call its number and puts its first frame into the outbox."""
        self._check_size(data)
        with self._lock:
            if threading.current_thread() not in self._threads:  # one of which makes the room
                is_in_time = self._has_room.wait_for(
                    lambda: self._lost is not None or self._outbox_bytes < _OUTBOX_MAX_BYTES,
                    max(0.0, pending._deadline - time.monotonic()))
                if not is_in_time:
                    raise RpcError(rpc_pb2.DEADLINE_EXCEEDED, "the call could not be sent in time")
            if self._lost is not None:
                raise RpcError(rpc_pb2.UNAVAILABLE, self._lost)
            if self._is_going_away:
                raise RpcError(rpc_pb2.UNAVAILABLE, "the server shuts down and takes no new calls on this connection",
                               "NOT_EXECUTED")
            if not self._pending:
                self._busy_since = time.monotonic()
            pending._number = self._next_number_locked()
            self._pending[pending._number] = pending
            self._remind_locked(pending)
            self._outbox_bytes += len(data)
            self._outbox.put(partial(self._send_open, pending, data))

    def _next_number_locked(self) -> int:
        number = frame.CONTROL_NUMBER
        while number == frame.CONTROL_NUMBER or number in self._pending:
            self._last_number = (self._last_number + 1) % _REQUEST_ID_BIT
            number = _REQUEST_ID_BIT | self._last_number
        return number

    def _remind_locked(self, pending: Pending) -> None:
        if len(self._due) > 64 + 2 * len(self._pending):
            self._due = [(each._deadline, number) for number, each in self._pending.items()]
            heapq.heapify(self._due)
        else:
            heapq.heappush(self._due, (pending._deadline, pending._number))
        if len(self._pending) == 1 or self._due[0][1] == pending._number:
            self._is_earlier.notify()

    def _post(self, pending: Pending, data: bytes) -> None:
        """Puts a further frame of a call into the outbox, which the stream's credit bounds."""
        self._outbox.put(partial(self._send_further, pending, data))

    def _control(self, **kind: Message) -> None:
        data = frame.encode(rpc_pb2.Control(**kind), b"", frame.CONTROL)
        self._outbox.put(partial(self._send, frame.CONTROL_NUMBER, data))

    # Ending calls.

    def _take_out(self, pending: Pending) -> bool:
        """Whether the call had not ended; then it is the caller's to end."""
        with self._lock:
            return self._pending.get(pending._number) is pending and bool(self._pending.pop(pending._number))

    def _give_up(self, pending: Pending, error: BaseException) -> bool:
        """Ends a call from this side, and tells the server. False when it has ended already."""
        if not self._take_out(pending):
            return False
        self._outbox.put(partial(self._send_cancel, pending))
        pending._fail(error)
        return True

    def _abandon(self, state: StreamState) -> None:
        """Nobody holds the stream any more. Takes no lock."""
        self._outbox.put(partial(self._give_up, state, RpcError(rpc_pb2.CANCELLED, "nobody reads the stream any more")))

    def _lose(self, reason: str) -> None:
        """The connection is lost; the first reason is kept."""
        with self._lock:
            if self._lost is None:
                self._lost = reason
            reason = self._lost
            lost, self._pending = self._pending, {}
            self._has_room.notify_all()
            self._is_earlier.notify_all()
        self._socket.cut()
        self._outbox.put(None)
        for pending in lost.values():
            pending._fail(RpcError(rpc_pb2.UNAVAILABLE, reason))

    # The thread that writes.

    def _write(self) -> None:
        try:
            for job in iter(self._outbox.get, None):
                job()
        except (OSError, websocket.WebSocketException) as error:
            self._lose(f"the connection was lost: {error}")

    def _send(self, number: int, data: bytes) -> None:
        self._socket.send_binary(_REQUEST_ID.pack(number) + data)

    def _send_open(self, pending: Pending, data: bytes) -> None:
        with self._lock:
            is_wanted = self._pending.get(pending._number) is pending
        if is_wanted:
            pending._was_sent = True
            self._send(pending._number, data)
        with self._lock:
            self._outbox_bytes -= len(data)
            self._has_room.notify_all()

    def _send_further(self, pending: Pending, data: bytes) -> None:
        with self._lock:
            is_wanted = self._pending.get(pending._number) is pending
        if is_wanted:
            self._send(pending._number, data)

    def _send_cancel(self, pending: Pending) -> None:
        if not pending._was_sent:
            return
        with self._lock:
            if self._takes_flags is None:
                self._early_cancels.append(pending._number)
            is_understood = self._takes_flags
        if is_understood:
            self._send(pending._number, frame.encode(None, b"", frame.CANCEL))

    def _send_pong(self, payload: bytes) -> None:
        self._socket.send(payload, websocket.ABNF.OPCODE_PONG)

    # The thread that reads.

    def _read(self) -> None:
        reason = "the client failed"  # and nobody waits for ever
        try:
            while True:
                self._take(memoryview(self._socket.receive()))
        except (OSError, websocket.WebSocketException, frame.FrameError) as error:
            reason = f"the connection was lost: {error}"
        finally:
            self._lose(reason)

    def _take(self, data: memoryview) -> None:
        if len(data) < _REQUEST_ID.size:
            raise frame.FrameError("a message without a request id")
        (number,) = _REQUEST_ID.unpack_from(data)
        if number == frame.CONTROL_NUMBER:
            self._take_control(data[_REQUEST_ID.size:])
            return
        with self._lock:
            pending = self._pending.get(number)
        if pending is None:
            return  # nobody waits any more
        try:
            pending._take(frame.decode_from_server(data[_REQUEST_ID.size:]))
        except (frame.FrameError, DecodeError) as error:
            self._give_up(pending, RpcError(rpc_pb2.INTERNAL, f"the answer cannot be read: {error}"))

    def _take_control(self, data: memoryview) -> None:
        try:
            flags, control, _ = frame.decode_from_server(data)
        except frame.FrameError:
            return  # it can do without what we cannot read
        if flags == 0:
            self._agree(takes_flags=False)  # a status: the server does not know Hello
            return
        if flags != frame.CONTROL:
            return
        kind = control.WhichOneof("kind")
        if kind == "hello":
            self._agree(takes_flags=True, message_max=control.hello.max_message_bytes)
        elif kind == "ping":
            pong = frame.encode(rpc_pb2.Control(pong=rpc_pb2.Pong(number=control.ping.number)), b"", frame.CONTROL)
            self._answer_ping(partial(self._send, frame.CONTROL_NUMBER, pong))
        elif kind == "going_away":
            with self._lock:
                self._is_going_away = True

    def _agree(self, takes_flags: bool, message_max: int = 0) -> None:
        """The server has answered Hello."""
        with self._lock:
            if self._takes_flags is not None:
                return
            self._takes_flags = takes_flags
            self._message_max = min(message_max or frame.MESSAGE_MAX_BYTES, frame.MESSAGE_MAX_BYTES)
            cancels, self._early_cancels = self._early_cancels, []
        if takes_flags:
            for number in cancels:
                self._outbox.put(partial(self._send, number, frame.encode(None, b"", frame.CANCEL)))

    def _answer_ping(self, answer: Callable[[], None]) -> None:
        with self._lock:
            if self._pongs == _PONGS_MAX:
                return
            self._pongs += 1
        self._outbox.put(partial(self._send_answer, answer))

    def _send_answer(self, answer: Callable[[], None]) -> None:
        with self._lock:
            self._pongs -= 1
        answer()

    # The thread that watches.

    def _watch(self) -> None:
        while True:
            with self._lock:
                if self._lost is not None:
                    return
                now = time.monotonic()
                late, next_deadline = self._late_locked(now)
                has_to_ask, is_dead, next_check = self._silence_locked(now)
                takes_flags = self._takes_flags
                if not late and not has_to_ask and not is_dead:
                    due = min(next_deadline, next_check)
                    self._is_earlier.wait(None if due == float("inf") else due - now)
                    continue
            for pending in late:
                error = RpcError(rpc_pb2.DEADLINE_EXCEEDED, f"no answer within {pending._timeout_s:g} s")
                self._give_up(pending, error)
            if has_to_ask:
                self._ask(takes_flags)
            if is_dead:
                self._lose(f"the server is dead: nothing has come from it for {self._keepalive_s:g} s, "
                           f"and nothing in {self._keepalive_s:g} s more after a ping")

    def _late_locked(self, now: float) -> Tuple[List[Pending], float]:
        """Calls whose deadline has passed, and when the next one passes."""
        late = []
        while self._due:
            deadline, number = self._due[0]
            pending = self._pending.get(number)
            if pending is not None and deadline > now:
                return late, deadline
            heapq.heappop(self._due)
            if pending is not None:
                late.append(pending)
        return late, float("inf")

    def _silence_locked(self, now: float) -> Tuple[bool, bool, float]:
        """Whether the server has to be asked, whether it is dead, and when to look again."""
        if not self._keepalive_s or not self._pending:
            self._asked_at = None
            return False, False, float("inf")
        heard_at = max(self._socket.last_received, self._busy_since)
        if self._asked_at is None or heard_at > self._asked_at:
            due = heard_at + self._keepalive_s
            self._asked_at = now if now >= due else None
            return now >= due, False, due
        # A ping that stands behind much else in the outbox has its time from when that has been sent.
        due = max(self._asked_at, self._socket.last_sent) + self._keepalive_s
        return False, now >= due, due

    def _ask(self, takes_flags: Optional[bool]) -> None:
        if takes_flags:
            self._control(ping=rpc_pb2.Ping(number=time.monotonic_ns()))
        else:  # every WebSocket server knows this one
            self._outbox.put(partial(self._socket.send, b"", websocket.ABNF.OPCODE_PING))
