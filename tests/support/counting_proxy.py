"""A TCP proxy between clients and fcd that passes bytes as they come, does something after so many of them, and knows
which chunks of files have been sent, acknowledged and asked for.

    with CountingProxy(fcd.url) as proxy:
        proxy.after(TO_SERVER, 100000, lambda: os.kill(pid, signal.SIGKILL))
"""
import select
import socket
import threading

from fc.filestore.v1 import filestore_pb2
from fc.rpc.v1 import rpc_pb2
from fc.segment.v1 import segment_pb2
from fc_client import frame
from google.protobuf.message import DecodeError

HELLO_BYTES, LENGTH_BYTES, NUMBER_BYTES = 8, 8, 4
TO_SERVER, TO_CLIENT = "to the server", "to the client"
UPLOAD = "fc.filestore.v1.FileStore/Upload"
DOWNLOAD = "fc.filestore.v1.FileStore/Download"
SEGMENT = "fc.segment.v1.SegmentServer/GetSegment"


def _address(url):
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host, int(port)


class _Messages:
    """The messages in one direction of SP over TCP."""

    def __init__(self):
        self._pending, self._is_begun = bytearray(), False

    def add(self, data):
        self._pending += data
        if not self._is_begun and len(self._pending) >= HELLO_BYTES:
            self._is_begun = True
            del self._pending[:HELLO_BYTES]
        while self._is_begun and len(self._pending) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._pending[:LENGTH_BYTES], "big")
            if len(self._pending) < end:
                return
            message = bytes(self._pending[LENGTH_BYTES:end])
            del self._pending[:end]
            yield message


class CountingProxy:
    """url is where clients connect. sent and acknowledged hold the MD5s of chunks, asked (file id, index) of segments,
    each in order; calls counts the calls of each method, and tries what connected."""

    def __init__(self, server_url):
        self._server = _address(server_url)
        self._lock = threading.Lock()
        self._trigger = None  # [direction, bytes that are left, function]
        self._sockets = set()
        self.sent, self.acknowledged, self.asked, self.calls, self.tries = [], [], [], {}, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_closing = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._is_closing = True
        self._accepting.join(20)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            self._shut(one)

    def after(self, direction, count, function):
        """Calls it once when so many more bytes have gone that way, and before any more do. None instead forgets it."""
        with self._lock:
            self._trigger = [direction, count, function] if function else None

    @staticmethod
    def _shut(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while not self._is_closing:
            readable, _, _ = select.select([self._listener], [], [], 0.1)
            if not readable:
                continue
            client, _ = self._listener.accept()
            self.tries += 1
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            threading.Thread(target=self._connect, args=(client, server), daemon=True).start()

    def _connect(self, client, server):
        calls = {}  # number -> (method, MD5 of the chunk)
        there = threading.Thread(target=self._pump, daemon=True,
                                 args=(client, server, TO_SERVER, lambda message: self._see_request(message, calls)))
        there.start()
        self._pump(server, client, TO_CLIENT, lambda message: self._see_reply(message, calls))
        there.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _cut(self, direction, size):
        """How many of these bytes may pass before something has to be done, and what."""
        with self._lock:
            trigger = self._trigger
            if trigger is None or trigger[0] != direction:
                return size, None
            if trigger[1] > size:
                trigger[1] -= size
                return size, None
            self._trigger = None
            return trigger[1], trigger[2]

    def _pump(self, source, target, direction, see):
        messages = _Messages()
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                count, function = self._cut(direction, len(data))
                for part in (data[:count], data[count:]):
                    # What an acknowledgement says is true before anybody has read it.
                    for message in messages.add(part):
                        see(message)
                    target.sendall(part)
                    if function:
                        function()
                        function = None
        except OSError:
            pass
        finally:
            self._shut(source)
            self._shut(target)

    def _see_request(self, message, calls):
        try:
            _, header, body = frame.decode_from_client(message[NUMBER_BYTES:])
            if not isinstance(header, rpc_pb2.RequestHeader):
                return
            md5 = None
            with self._lock:
                self.calls[header.method] = self.calls.get(header.method, 0) + 1
                if header.method == UPLOAD:
                    md5 = filestore_pb2.UploadRequest.FromString(body).md5
                    self.sent.append(md5)
                elif header.method in (DOWNLOAD, SEGMENT):
                    kind = filestore_pb2.DownloadRequest if header.method == DOWNLOAD else segment_pb2.GetSegmentRequest
                    request = kind.FromString(body)
                    self.asked.append((request.file_id, request.index))
                calls[message[:NUMBER_BYTES]] = (header.method, md5)
        except (frame.FrameError, DecodeError):
            pass

    def _see_reply(self, message, calls):
        method, md5 = calls.pop(message[:NUMBER_BYTES], (None, None))
        if method != UPLOAD:
            return
        try:
            header, _ = frame.decode_response(message[NUMBER_BYTES:])
        except (frame.FrameError, DecodeError):
            return
        if header.code == 0:
            with self._lock:
                self.acknowledged.append(md5)
