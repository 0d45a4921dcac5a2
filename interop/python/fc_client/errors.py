"""How a call can fail."""
from typing import Sequence, Tuple

from google.protobuf.message import DecodeError

from fc.rpc.v1 import rpc_pb2


class RpcError(Exception):
    """A call ended with another code than OK.

    code            a number of fc.rpc.v1.Code, for example rpc_pb2.NOT_FOUND, also one that is not known here
    name            the same as text: "NOT_FOUND", and "UNKNOWN" for a code that is not known here
    message         for the person who reads it
    reason          for programs, for example "CHUNKS_MISSING"; may be empty
    retry_after_ms  how long to wait before trying again, or 0
    metadata        pairs of a key and bytes that the server sent with the error
    """

    def __init__(self, code: int, message: str, reason: str = "", retry_after_ms: int = 0,
                 metadata: Sequence[Tuple[str, bytes]] = ()):
        super().__init__(code, message, reason)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.metadata = metadata

    @property
    def name(self) -> str:
        """The code as text."""
        known = rpc_pb2.Code.DESCRIPTOR.values_by_number.get(self.code)
        return known.name if known else "UNKNOWN"

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.name}{reason}: {self.message}"

    @classmethod
    def from_header(cls, header: rpc_pb2.ResponseHeader) -> "RpcError":
        """The error that a server's header describes."""
        info = rpc_pb2.ErrorInfo()
        for detail in header.details:
            if detail.type == rpc_pb2.ErrorInfo.DESCRIPTOR.full_name:
                try:
                    info.ParseFromString(detail.value)
                except DecodeError:
                    info.Clear()  # the code says enough
        return cls(header.code, header.message, info.reason, info.retry_after_ms,
                   [(pair.key, pair.value) for pair in header.metadata])
