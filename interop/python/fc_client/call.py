"""A call with one request and one reply."""
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, Optional, Type, TypeVar

from google.protobuf.message import Message

from fc.rpc.v1 import rpc_pb2

from . import frame, metadata
from .errors import RpcError

if TYPE_CHECKING:
    from .channel import Channel

Response = TypeVar("Response", bound=Message)


class Pending:
    """What a channel keeps of a call that has not ended. Whoever takes it out of the channel's table ends it, once."""

    def __init__(self, channel: "Channel", timeout_s: float):
        self._channel = channel
        self._number = 0  # its request id on this connection; the channel gives it
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._was_sent = False  # only on the thread that writes

    def _take(self, received: frame.Frame) -> None:
        """A frame came for it. Only on the thread that reads; must not wait. Raises FrameError or DecodeError."""
        raise NotImplementedError

    def _fail(self, error: RpcError) -> None:
        """It has been taken out of the table, and ends so."""
        raise NotImplementedError


class Call(Pending, Future, Generic[Response]):
    """A call that has been started: a concurrent.futures.Future of its response.

    result() waits for the end and raises RpcError when the call has failed; exception() returns that error. With the
    functions of concurrent.futures (`wait`, `as_completed`) and with `asyncio.wrap_future` it is used as any other.
    Callbacks run on a thread of the channel, which they must not keep: they may start calls, and must not wait for one.

    metadata is what the server sent beside the response, pairs of a key and bytes, once the call has succeeded.
    """

    def __init__(self, channel: "Channel", response_type: Type[Response], timeout_s: float):
        Pending.__init__(self, channel, timeout_s)
        Future.__init__(self)
        self.metadata: metadata.Metadata = ()
        self._response_type = response_type

    def result(self, timeout: Optional[float] = None) -> Response:
        """The response. Raises RpcError when the call has failed, DEADLINE_EXCEEDED when there was no answer in time.

        timeout bounds only this waiting, by a TimeoutError; the call has its own.
        """
        return super().result(timeout)

    def cancel(self) -> bool:
        """Gives the call up, which then fails with CANCELLED, and tells the server. False when it ended otherwise."""
        return self._channel._give_up(self, RpcError(rpc_pb2.CANCELLED, "the caller gave up")) or self.cancelled()

    def cancelled(self) -> bool:
        """Whether it has ended with CANCELLED."""
        return self.done() and getattr(self.exception(), "code", None) == rpc_pb2.CANCELLED

    def _take(self, received: frame.Frame) -> None:
        if received.flags != 0:
            raise frame.FrameError(f"a frame with flags {received.flags:#04x} instead of a reply")
        header = received.header
        if header.code != rpc_pb2.OK:
            if self._channel._take_out(self):
                self._fail(RpcError.from_header(header))
            return
        response = self._response_type.FromString(received.message)
        if self._channel._take_out(self):
            self.metadata = metadata.decode(header)
            self.set_result(response)

    def _fail(self, error: RpcError) -> None:
        self.set_exception(error)
