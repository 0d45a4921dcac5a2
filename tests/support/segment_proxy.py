"""A proxy in front of a server of segments that counts what it sends, and may send it damaged.

    with SegmentProxy(mirror.url, bad_one_in=10) as proxy:
        fc.run("download", "file", "--from", proxy.url)
        proxy.served  # {segment: how many whole answers have passed}
"""
import collections

from fc.rpc.v1 import rpc_pb2
from fc.segment.v1 import segment_pb2
from fc_client import frame
from google.protobuf.message import DecodeError
from recording_proxy import HELLO_BYTES, LENGTH_BYTES, NUMBER_BYTES, RecordingProxy, _Messages

METHODS = {"fc.segment.v1.SegmentServer/GetSegment"}
ANSWER_BYTES_MIN = 1024  # a shorter answer is an error


class SegmentProxy(RecordingProxy):
    def __init__(self, server_url, bad_one_in=0):
        self.served = collections.Counter()
        self.asked = collections.Counter()
        self.bad = 0
        self._bad_one_in = bad_one_in
        self._answers = 0
        super().__init__(server_url)

    def _see_request(self, message, calls):
        try:
            parsed = frame.decode_from_client(message[NUMBER_BYTES:])
            if isinstance(parsed.header, rpc_pb2.RequestHeader) and parsed.header.method in METHODS:
                request = segment_pb2.GetSegmentRequest.FromString(parsed.message)
                with self._lock:
                    self.asked[request.index] += 1
                    calls[message[:NUMBER_BYTES]] = request.index
        except (frame.FrameError, DecodeError):
            pass
        return True

    def _is_to_pass(self, message, calls):
        with self._lock:
            index = calls.pop(message[:NUMBER_BYTES], None)
            if index is not None and len(message) > ANSWER_BYTES_MIN:
                self.served[index] += 1
        return True

    def _damage(self, message, whole):
        """Turns a bit of the content of one in so many answers: what stands last in them."""
        with self._lock:
            self._answers += 1
            if not self._bad_one_in or self._answers % self._bad_one_in:
                return whole
            self.bad += 1
        return whole[:-1] + bytes([whole[-1] ^ 1])

    def _pump(self, source, target, is_to_pass):
        messages, kept = _Messages(), bytearray()
        with self._lock:
            self._recorded.append(kept)
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                with self._lock:
                    kept += data
                for message, whole in messages.add(data):
                    is_answer = len(whole) > LENGTH_BYTES + ANSWER_BYTES_MIN and len(whole) > HELLO_BYTES
                    is_to_pass(message)
                    target.sendall(self._damage(message, whole) if is_answer else whole)
        except OSError:
            pass
        finally:
            self._shut(source)
            self._shut(target)
