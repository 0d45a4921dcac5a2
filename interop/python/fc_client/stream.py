"""Calls with a stream of requests, of responses, or of both."""
import threading
from collections import deque
from typing import TYPE_CHECKING, Deque, Generic, Iterable, Iterator, Optional, Type, TypeVar

from google.protobuf.message import DecodeError, Message

from fc.rpc.v1 import rpc_pb2

from . import frame, metadata
from .call import Pending
from .errors import RpcError

if TYPE_CHECKING:
    from .channel import Channel

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

# The server gets its credit back in pieces of this size; with less than all of it outstanding it can go on.
_CREDIT_STEP_BYTES = frame.STREAM_CREDIT_BYTES // 4


def cost(message: bytes) -> int:
    """What a message takes from the credit of its sender."""
    return len(message) + frame.STREAM_MESSAGE_COST_BYTES


class StreamState(Pending):
    """A stream as the channel and a feeding thread know it. Any thread."""

    def __init__(self, channel: "Channel", timeout_s: float):
        super().__init__(channel, timeout_s)
        self.metadata: metadata.Metadata = ()
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._may_send = frame.STREAM_CREDIT_BYTES
        self._may_receive = frame.STREAM_CREDIT_BYTES
        self._taken_out = 0  # bytes that the server has not been given back yet
        self._received: Deque[bytes] = deque()
        self._is_half_closed = False
        self._has_ended = False
        self._error: Optional[BaseException] = None

    def open_frame(self, header: rpc_pb2.RequestHeader, request: Optional[bytes]) -> bytes:
        """The first frame: with the only request, if there will be one, or alone."""
        if request is None:
            return frame.encode(header, b"", frame.OPEN)
        self._may_send -= cost(request)
        self._is_half_closed = True
        return frame.encode(header, request, frame.OPEN | frame.MESSAGE | frame.END)

    def send(self, message: bytes) -> bool:
        """Waits for credit and sends. False when the call has ended."""
        data = frame.encode(None, message, frame.MESSAGE)
        self._channel._check_size(data)
        with self._changed:
            if self._is_half_closed:
                raise ValueError("this side of the stream has been ended")
            self._changed.wait_for(lambda: self._may_send > 0 or self._has_ended)
            if self._has_ended:
                return False
            self._may_send -= cost(message)
            self._channel._post(self, data)  # under the lock, or END might overtake it
        return True

    def end(self) -> None:
        """Says that no more will be sent."""
        with self._changed:
            if not self._is_half_closed and not self._has_ended:
                self._channel._post(self, frame.encode(None, b"", frame.END))
            self._is_half_closed = True

    def feed(self, messages: Iterable[Message]) -> None:
        """Sends them all and ends this side. What their iterator raises ends the call, and is what its reader gets."""
        try:
            for message in messages:
                if not self.send(message.SerializeToString()):
                    return
            self.end()
        except BaseException as error:  # pylint: disable=broad-except
            self.give_up(error)

    def give_up(self, error: BaseException) -> bool:
        """Ends the call from this side."""
        return self._channel._give_up(self, error)

    def cancel(self) -> bool:
        """Gives the call up, and drops what has come."""
        if not self.give_up(RpcError(rpc_pb2.CANCELLED, "the caller gave up")):
            return False
        with self._changed:
            self._received.clear()
        return True

    def receive(self) -> Optional[bytes]:
        """Waits for a message. None when there will be none and the call succeeded; raises its error when not."""
        with self._changed:
            self._changed.wait_for(lambda: self._received or self._has_ended)
            if not self._received:
                if self._error is not None:
                    raise self._error
                return None
            message = self._received.popleft()
            self._taken_out += cost(message)
            if self._taken_out >= _CREDIT_STEP_BYTES and not self._has_ended:
                credit, self._taken_out = self._taken_out, 0
                self._may_receive += credit
                self._channel._post(self, frame.encode(rpc_pb2.Credit(bytes=credit), b"", frame.CREDIT))
            return message

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come from the server; what came may not have been taken out."""
        with self._changed:
            return self._has_ended

    # What the channel calls.

    def _take(self, received: frame.Frame) -> None:
        if received.flags == frame.CREDIT:
            self._take_credit(received.header.bytes)
        elif received.flags == frame.MESSAGE:
            self._take_message(received)
        elif received.flags not in (0, frame.END) or (received.flags == 0 and received.header.code == rpc_pb2.OK):
            raise frame.FrameError(f"a frame with flags {received.flags:#04x} in a stream")
        elif self._channel._take_out(self):
            # With END, or without flags by a server that could not take the call at all.
            header = received.header
            if header.metadata and not self.metadata:
                self.metadata = metadata.decode(header)
            error = None
            if header.code != rpc_pb2.OK:
                error = RpcError.from_header(header)
                error.metadata = self.metadata
            self._fail(error)

    def _take_credit(self, size: int) -> None:
        with self._changed:
            if self._may_send + size > frame.CREDIT_MAX_BYTES:
                raise frame.FrameError("more credit than a stream can have")
            self._may_send += size
            self._changed.notify_all()

    def _take_message(self, received: frame.Frame) -> None:
        with self._changed:
            if self._may_receive > 0:
                self._may_receive -= cost(received.message)
                if received.header.metadata and not self.metadata:
                    self.metadata = metadata.decode(received.header)
                self._received.append(received.message)
                self._changed.notify_all()
                return
        self.give_up(RpcError(rpc_pb2.INTERNAL, "the server sent a message without credit for it"))

    def _fail(self, error: Optional[BaseException]) -> None:
        """The call ends; None means with OK."""
        with self._changed:
            self._has_ended = True
            self._error = error
            self._changed.notify_all()


class Stream(Generic[Request, Response]):
    """A call that streams, opened. Iterating over it yields the responses.

        with channel.stream("fc.test.v1.Conformance/Mirror", Data, Data, timeout=60) as stream:
            stream.send(Data(text="one"))
            stream.end()
            for response in stream:
                print(response.text)

    The messages that the server sent before it ended the call come first; then the iteration ends, or raises RpcError
    when the call did not end with OK. Leaving the `with` gives the call up if it has not ended, and so does dropping
    the stream.

    One thread may send while another iterates. A stream whose responses are not taken out stops its server after
    256 KiB, and a server that takes nothing out stops send() as well; then only the timeout ends it. So who sends much
    and receives much does it on two threads, as the stubs do (stub.py).
    """

    def __init__(self, state: StreamState, request_type: Type[Request], response_type: Type[Response]):
        self._state = state
        self._request_type = request_type
        self._response_type = response_type
        self._result: Optional[Response] = None

    def __enter__(self) -> "Stream[Request, Response]":
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        # On whatever thread the garbage collector runs, which may hold any lock.
        if hasattr(self, "_state"):
            self._state._channel._abandon(self._state)

    @property
    def metadata(self) -> metadata.Metadata:
        """What the server sent beside its first message or, without one, its end; what has come by now."""
        return self._state.metadata

    def done(self) -> bool:
        """Whether nothing more will come. Iterate or ask for the result() to learn how it ended."""
        return self._state.has_ended

    def send(self, message: Request) -> bool:
        """Sends a message, once the server has room for it.

        False when the call has ended, so that more need not be sent; how it ended, the iteration or result() says.
        Raises ValueError after end(), and RpcError RESOURCE_EXHAUSTED for a message that no server takes; then the
        stream goes on.
        """
        if not isinstance(message, self._request_type):
            raise TypeError(f"{type(message).__name__} instead of {self._request_type.__name__}")
        return self._state.send(message.SerializeToString())

    def end(self) -> None:
        """Tells the server that no more will be sent. Responses still come. Again it does nothing."""
        self._state.end()

    def cancel(self) -> bool:
        """Gives the call up, which then fails with CANCELLED, and tells the server. False when it has ended already."""
        return self._state.cancel()

    def __iter__(self) -> Iterator[Response]:
        return self

    def __next__(self) -> Response:
        message = self._state.receive()
        if message is None:
            raise StopIteration
        try:
            return self._response_type.FromString(message)
        except DecodeError as error:
            failure = RpcError(rpc_pb2.INTERNAL, f"a message of the stream cannot be read: {error}")
            self._state.give_up(failure)
            raise failure from error

    def result(self) -> Response:
        """Ends this side and waits for the response of a method that has one. Raises RpcError."""
        if self._result is None:
            self.end()
            response = next(self, None)
            if response is None:
                raise RpcError(rpc_pb2.INTERNAL, "the server sent no response")
            if next(self, None) is not None:
                self.cancel()
                raise RpcError(rpc_pb2.INTERNAL, "the server sent more than one response")
            self._result = response
        return self._result
