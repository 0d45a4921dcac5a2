"""Uploads in chunks with MD5 checks, and downloads that verify every segment (proto/fc/filestore/v1/filestore.proto)."""
import contextlib
import hashlib
import os
from collections import deque
from typing import Callable, Deque, Iterator, Optional, Tuple

from fc.filestore.v1 import filestore_pb2
from fc.rpc.v1 import rpc_pb2

from .call import Call
from .channel import Channel
from .errors import RpcError
from .stub import Stub

# Chunks on their way at a time: enough to fill a fast link, and at most 32 MiB of the server's memory.
IN_FLIGHT = 4
BULK_TIMEOUT_S = 120.0

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def _filestore(channel: Channel) -> Stub:
    return Stub(channel, filestore_pb2.DESCRIPTOR.services_by_name["FileStore"])


def _damaged(what: str) -> RpcError:
    return RpcError(rpc_pb2.DATA_LOSS, f"{what} does not match its digest")


def _has_arrived(bits: bytes, index: int) -> bool:
    # What the field is too short for has not arrived.
    return index // 8 < len(bits) and bool(bits[index // 8] >> (index % 8) & 1)


def upload(channel: Channel, path: str, *, name: str = "", room: str = "", request_id: Optional[bytes] = None,
           progress: Optional[Progress] = None) -> filestore_pb2.File:
    """Stores a file and returns what the server says of it, MD5 included. name: the path's last part.

    To resume an upload that was cut short, call it again with the request_id that was given then.
    """
    filestore = _filestore(channel)
    size = os.path.getsize(path)
    plan = filestore.Save(name=name or os.path.basename(path), size_bytes=size, room=room,
                          request_id=request_id or os.urandom(16))
    whole = hashlib.md5()
    pending: Deque[Tuple[Call, bytes]] = deque()

    def finish_one() -> None:
        call, md5 = pending.popleft()
        if call.result().md5 != md5:
            raise _damaged("a stored chunk")

    with open(path, "rb") as file:
        for index in range(plan.chunk_count):
            data = file.read(plan.chunk_size_bytes)
            whole.update(data)
            if _has_arrived(plan.arrived, index):
                continue
            md5 = hashlib.md5(data).digest()
            if len(pending) == IN_FLIGHT:
                finish_one()
            pending.append((filestore.Upload.start(upload_id=plan.upload_id, index=index, md5=md5, data=data,
                                                   timeout=BULK_TIMEOUT_S), md5))
            if progress:
                progress(min((index + 1) * plan.chunk_size_bytes, size), size)
    while pending:
        finish_one()
    return filestore.Commit(upload_id=plan.upload_id, md5=whole.digest(), timeout=BULK_TIMEOUT_S).file


def _digests(filestore: Stub, file: str) -> Tuple[filestore_pb2.File, bytes]:
    """The file, and the SHA-256 of each of its segments one after the other."""
    stat = filestore.Stat(file=file)
    found, sha256s = stat.file, stat.segment_sha256s
    count = -(-found.size_bytes // found.chunk_size_bytes) if found.size_bytes else 0
    while len(sha256s) < count * 32:
        more = filestore.Stat(file=found.id.hex(), first_segment=len(sha256s) // 32).segment_sha256s
        if not more:
            raise RpcError(rpc_pb2.INTERNAL, "the server has digests for a part of the file only")
        sha256s += more
    return found, sha256s


def _segments(filestore: Stub, file: filestore_pb2.File, sha256s: bytes) -> Iterator[bytes]:
    """The file's segments in order, verified, some of them always on their way."""
    count = len(sha256s) // 32
    pending: Deque[Call] = deque()
    started = 0
    for index in range(count):
        while started < count and len(pending) < IN_FLIGHT:
            pending.append(filestore.Download.start(file_id=file.id, index=started, timeout=BULK_TIMEOUT_S))
            started += 1
        data = pending.popleft().result().data
        if hashlib.sha256(data).digest() != sha256s[index * 32:index * 32 + 32]:
            raise _damaged(f"segment {index}")
        yield data


def download(channel: Channel, file: str, path: str, *, progress: Optional[Progress] = None) -> filestore_pb2.File:
    """Fetches a file (its id in hex, its name, or "ROOM/NAME") to path, which appears when it is whole and verified."""
    filestore = _filestore(channel)
    found, sha256s = _digests(filestore, file)
    whole, done = hashlib.md5(), 0
    part = f"{path}.part"
    try:
        with open(part, "wb") as out:
            for data in _segments(filestore, found, sha256s):
                out.write(data)
                whole.update(data)
                done += len(data)
                if progress:
                    progress(done, found.size_bytes)
        if done != found.size_bytes or whole.digest() != found.md5:
            raise _damaged("the file")
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return found
