"""The frame of a call: version, flags, header length, header, message (docs/protocol.md)."""
import struct
from typing import Tuple

from google.protobuf.message import DecodeError, Message

from fc.rpc.v1 import rpc_pb2

VERSION = 1
HEADER_MAX_BYTES = 16 * 1024
MESSAGE_MAX_BYTES = 8 * 1024 * 1024 + 64 * 1024

_PREFIX = struct.Struct(">BBH")


class FrameError(Exception):
    """Bytes that are not a frame of this version."""


def encode(header: Message, message: bytes) -> bytes:
    encoded = header.SerializeToString()
    if len(encoded) > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {len(encoded)} bytes; {HEADER_MAX_BYTES} are allowed")
    return _PREFIX.pack(VERSION, 0, len(encoded)) + encoded + message


def decode_response(data: bytes) -> Tuple[rpc_pb2.ResponseHeader, bytes]:
    """Splits a reply into its header and the encoded message behind it."""
    if len(data) < _PREFIX.size:
        raise FrameError(f"a frame of {len(data)} bytes")
    version, flags, header_size = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise FrameError(f"a frame of version {version}")
    if flags != 0:
        raise FrameError(f"a frame with flags {flags:#x}")
    if header_size > HEADER_MAX_BYTES or _PREFIX.size + header_size > len(data):
        raise FrameError(f"a header of {header_size} bytes in a frame of {len(data)}")
    header = rpc_pb2.ResponseHeader()
    end = _PREFIX.size + header_size
    try:
        header.ParseFromString(data[_PREFIX.size:end])
    except DecodeError as error:
        raise FrameError(f"a header that does not decode: {error}") from error
    return header, data[end:]
