"""What happens in rooms, as it happens."""
from typing import Iterator, Optional, Sequence, Tuple

import websocket

from fc.chat.v1 import chat_pb2
from fc.rpc.v1 import rpc_pb2

from .channel import Channel
from .errors import RpcError
from .stub import Stub
from .transport import open_websocket
from .trust import Trust

TOPIC_BYTES = 16


class Subscription:
    """The events that a ticket stands for: an iterator of (topic, payload). One thread reads it.

    Read it all the time, so that the library answers the server's pings: who is silent for 90 s is disconnected.
    """

    def __init__(self, url: str, ticket: str, timeout: Optional[float] = None, trust: Trust = Trust()):
        """timeout is how many seconds to wait for the next message; None waits for ever."""
        try:
            self._websocket = open_websocket(url, f"/events/{ticket}", "pub.sp.nanomsg.org", trust)
        except websocket.WebSocketBadStatusException as error:
            code = rpc_pb2.NOT_FOUND if error.status_code == 404 else rpc_pb2.UNAVAILABLE
            raise RpcError(code, f"the ticket was refused: {error}") from error
        except (OSError, websocket.WebSocketException) as error:
            raise RpcError(rpc_pb2.UNAVAILABLE, f"cannot connect to {url}: {error}") from error
        self._websocket.settimeout(timeout)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._websocket.shutdown()

    def __iter__(self) -> Iterator[Tuple[bytes, bytes]]:
        return self

    def __next__(self) -> Tuple[bytes, bytes]:
        """StopIteration when the server has ended the subscription."""
        try:
            data = self._websocket.recv()
        except websocket.WebSocketTimeoutException:
            raise RpcError(rpc_pb2.DEADLINE_EXCEEDED, "nothing happened in time") from None
        except (OSError, websocket.WebSocketException) as error:
            raise RpcError(rpc_pb2.UNAVAILABLE, f"the subscription was lost: {error}") from error
        if not data:
            raise StopIteration
        if len(data) < TOPIC_BYTES:
            raise RpcError(rpc_pb2.INTERNAL, "an event without a topic")
        return data[:TOPIC_BYTES], data[TOPIC_BYTES:]


def room_events(channel: Channel, rooms: Sequence[str],
                timeout: Optional[float] = None) -> Iterator[Tuple[bytes, chat_pb2.Event]]:
    """Subscribes to rooms and yields (room id, event). The subscription is open when this returns, so nothing that is
    sent afterwards is missed."""
    chat = Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])
    subscription = Subscription(channel.url, chat.Subscribe(rooms=rooms).ticket, timeout, channel.trust)

    def events() -> Iterator[Tuple[bytes, chat_pb2.Event]]:
        with subscription:
            for room_id, payload in subscription:
                for event in chat_pb2.EventBatch.FromString(payload).events:
                    yield room_id, event

    return events()
