"""Metadata: pairs of a key and bytes that travel beside a request or a response. Order is kept and keys may repeat."""
import re
from typing import Iterable, Sequence, Tuple

from fc.rpc.v1 import rpc_pb2

from .errors import RpcError

MAX_ENTRIES = 32
MAX_BYTES = 8 * 1024

Metadata = Sequence[Tuple[str, bytes]]

_KEY = re.compile(r"[a-z0-9_.-]{1,64}")
_RESERVED_PREFIX = "fc-"


def check(metadata: Iterable[Tuple[str, bytes]]) -> Metadata:
    """The same as a list. Raises the RpcError that the server would answer with."""
    pairs = [(key, bytes(value)) for key, value in metadata]
    for key, _ in pairs:
        if not _KEY.fullmatch(key):
            raise RpcError(rpc_pb2.INVALID_ARGUMENT,
                           f"{key!r} is no key of metadata: 1 to 64 of a-z, 0-9, '-', '_' and '.'")
        if key.startswith(_RESERVED_PREFIX):
            raise RpcError(rpc_pb2.INVALID_ARGUMENT, f"{key!r} is reserved: it begins with {_RESERVED_PREFIX}")
    size = sum(len(key) + len(value) for key, value in pairs)
    if len(pairs) > MAX_ENTRIES or size > MAX_BYTES:
        raise RpcError(rpc_pb2.RESOURCE_EXHAUSTED,
                       f"{len(pairs)} entries of metadata with {size} bytes; {MAX_ENTRIES} and {MAX_BYTES} are allowed")
    return pairs


def encode(metadata: Metadata) -> Iterable[rpc_pb2.Metadata]:
    """For a header."""
    return [rpc_pb2.Metadata(key=key, value=value) for key, value in metadata]


def decode(header: rpc_pb2.ResponseHeader) -> Metadata:
    """What a server has sent."""
    return [(pair.key, pair.value) for pair in header.metadata]
