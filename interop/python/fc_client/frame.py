"""The frame of a call: version, flags, header length, header, message (docs/protocol.md)."""
import enum
import struct
from typing import Dict, NamedTuple, Optional, Tuple, Type, Union

from google.protobuf.message import DecodeError, Message

from fc.rpc.v1 import rpc_pb2

VERSION = 1
HEADER_MAX_BYTES = 16 * 1024
MESSAGE_MAX_BYTES = 8 * 1024 * 1024 + 64 * 1024

# What each side of a stream may send before the other has taken anything out, and what a message takes of it besides
# its size, so that empty messages are not free.
STREAM_CREDIT_BYTES = 256 * 1024
STREAM_MESSAGE_COST_BYTES = 64
CREDIT_MAX_BYTES = 2 ** 31 - 1

# The request id of what is said about the connection. No call has it.
CONTROL_NUMBER = 0x8000_0000

_PREFIX = struct.Struct(">BBH")


class Flags(enum.IntFlag):
    """What a frame is. 0 is a call with one request and one reply."""

    OPEN = 0x01
    MESSAGE = 0x02
    END = 0x04
    CANCEL = 0x08
    CREDIT = 0x10
    CONTROL = 0x20


OPEN, MESSAGE, END, CANCEL, CREDIT, CONTROL = Flags

# The combinations that each side may send, with the header of each; None where there must be no header.
_Kinds = Dict[int, Optional[Type[Message]]]
_CLIENT_KINDS: _Kinds = {
    0: rpc_pb2.RequestHeader, OPEN: rpc_pb2.RequestHeader, OPEN | MESSAGE: rpc_pb2.RequestHeader,
    OPEN | END: rpc_pb2.RequestHeader, OPEN | MESSAGE | END: rpc_pb2.RequestHeader, MESSAGE: None, MESSAGE | END: None,
    END: None, CANCEL: None, CREDIT: rpc_pb2.Credit, CONTROL: rpc_pb2.Control}
_SERVER_KINDS: _Kinds = {
    0: rpc_pb2.ResponseHeader, MESSAGE: rpc_pb2.ResponseHeader, END: rpc_pb2.ResponseHeader, CREDIT: rpc_pb2.Credit,
    CONTROL: rpc_pb2.Control}


class FrameError(Exception):
    """Bytes that are not a frame of this version."""


class Frame(NamedTuple):
    """A frame in its parts. header is None only in the kinds that have none; message is encoded."""

    flags: int
    header: Optional[Message]
    message: bytes


def encode(header: Optional[Message], message: bytes = b"", flags: int = 0) -> bytes:
    """The bytes of a frame. Whether its header and its flags go together is the caller's affair."""
    encoded = b"" if header is None else header.SerializeToString()
    if len(encoded) > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {len(encoded)} bytes; {HEADER_MAX_BYTES} are allowed")
    return _PREFIX.pack(VERSION, flags, len(encoded)) + encoded + message


def _decode(data: Union[bytes, memoryview], kinds: _Kinds) -> Frame:
    if len(data) < _PREFIX.size:
        raise FrameError(f"a frame of {len(data)} bytes")
    version, flags, header_size = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise FrameError(f"a frame of version {version}")
    if flags not in kinds:
        raise FrameError(f"a frame with flags {flags:#04x}")
    end = _PREFIX.size + header_size
    if header_size > HEADER_MAX_BYTES or end > len(data):
        raise FrameError(f"a header of {header_size} bytes in a frame of {len(data)}")
    if flags != 0 and not flags & MESSAGE and end != len(data):
        raise FrameError(f"a message in a frame with flags {flags:#04x}")
    header_type = kinds[flags]
    if header_type is None:
        if header_size != 0:
            raise FrameError(f"a header in a frame with flags {flags:#04x}")
        return Frame(flags, None, bytes(data[end:]))
    try:
        return Frame(flags, header_type.FromString(bytes(data[_PREFIX.size:end])), bytes(data[end:]))
    except DecodeError as error:
        raise FrameError(f"a header that does not decode: {error}") from error


def decode_from_client(data: bytes) -> Frame:
    """Splits a frame that a client sent, as servers do."""
    return _decode(data, _CLIENT_KINDS)


def decode_from_server(data: Union[bytes, memoryview]) -> Frame:
    """Splits a frame that a server sent, of any kind."""
    return _decode(data, _SERVER_KINDS)


def decode_response(data: bytes) -> Tuple[rpc_pb2.ResponseHeader, bytes]:
    """Splits the reply to a call without flags into its header and the encoded message behind it."""
    flags, header, message = decode_from_server(data)
    if flags != 0:
        raise FrameError(f"a frame with flags {flags:#04x} instead of a reply")
    return header, message
