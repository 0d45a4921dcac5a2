"""Sources of the tracker that a test plays, readers that watch, and a server of segments that damages what it passes on."""
import contextlib
import os
import queue
import socket
import threading
import time
from urllib.parse import urlsplit

from fc.filestore.v1 import filestore_pb2
from fc.segment.v1 import segment_pb2
from fc.tracker.v1 import tracker_pb2
from fc_client import Channel, RpcError, Stub, auth
from fcd_process import limit, wait_until

PASSWORD = "a long password"
STREAM_S = 600
HEARTBEAT_S = 0.25


def service(channel, module, name):
    return Stub(channel, module.DESCRIPTOR.services_by_name[name])


class Person:
    """An account with its channel; the first one of an fcd administers it."""

    def __init__(self, http_url, name):
        self.channel = Channel(http_url)
        auth.sign_up(self.channel, name, PASSWORD)
        auth.log_in(self.channel, name, PASSWORD)
        self.tracker = service(self.channel, tracker_pb2, "Tracker")
        self.files = service(self.channel, filestore_pb2, "FileStore")
        self.segments = service(self.channel, segment_pb2, "SegmentServer")

    def close(self):
        self.channel.close()

    def grant(self, file_id):
        given = self.files.GetGrant(file_id=file_id)
        return segment_pb2.SignedGrant(grant=given.grant, signature=given.signature)


class Events:
    """The responses of a stream, taken out by a thread, so that a test waits for one with a limit."""

    def __init__(self, stream):
        self.stream = stream
        self.error = None
        self._queue = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            for event in self.stream:
                self._queue.put(event)
        except RpcError as error:
            self.error = error
        self._queue.put(None)

    def next(self, seconds=20):
        """The next one; None at the stream's end."""
        return self._queue.get(timeout=limit(seconds))

    def until(self, matches, what, seconds=20):
        """The first that matches, and all before it."""
        before = []
        deadline = time.monotonic() + limit(seconds)
        while True:
            try:
                event = self._queue.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited in vain for {what}; there came {before}") from None
            if event is None:
                raise AssertionError(f"the stream ended before {what}: {self.error}; there came {before}")
            if matches(event):
                return event, before
            before.append(event)

    def end(self, seconds=20):
        """Waits for the stream's end and returns its error's name, or None."""
        while self.next(seconds) is not None:
            pass
        return self.error and self.error.name

    def close(self):
        self.stream.cancel()
        self._thread.join(limit(20))


class Source:
    """A source that announces itself and sends heartbeats until it is closed, or told to be silent."""

    def __init__(self, person, name, url, *, kind=tracker_pb2.PEER, source_id=None, load=None):
        self.id = source_id or os.urandom(16)
        self.load = load or segment_pb2.Load()
        self.state = tracker_pb2.UP
        self.is_silent = False
        self.welcome = None
        self._stop = threading.Event()
        self.stream = person.tracker.Announce.start(timeout=STREAM_S)
        self.responses = Events(self.stream)
        self.send(hello=tracker_pb2.Source(id=self.id, name=name, kind=kind, urls=[url]))
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def expect_welcome(self):
        first = self.responses.next()
        if first is None:
            raise self.responses.error
        self.welcome = first.welcome
        return self

    def send(self, **what):
        return self.stream.send(tracker_pb2.AnnounceRequest(**what))

    def beat(self):
        self.send(heartbeat=tracker_pb2.Heartbeat(load=self.load, state=self.state))

    def _beat(self):
        while not self._stop.wait(HEARTBEAT_S):
            if not self.is_silent:
                with contextlib.suppress(ValueError):  # ended meanwhile
                    self.beat()

    def has(self, file_id, count, segments=b"", is_complete=False):
        self.send(holding=segment_pb2.Holding(file_id=file_id, segment_count=count, segments=segments,
                                              is_complete=is_complete))

    def change(self, file_id, count, *ranges):
        """Ranges are (first, count) or (first, count, is_gone)."""
        self.send(change=tracker_pb2.HoldingChange(file_id=file_id, segment_count=count, ranges=[
            tracker_pb2.SegmentRange(first=r[0], count=r[1], is_gone=len(r) > 2 and r[2]) for r in ranges]))

    def goodbye(self):
        self._stop.set()
        self._thread.join()
        self.send(goodbye=tracker_pb2.Goodbye())

    def close(self):
        self._stop.set()
        self._thread.join()
        self.responses.close()


class Relay:
    """Passes a TCP port on to another. With `damages` the last byte of each large SP message to the client is changed: of
    a segment, for its bytes come last."""

    LARGE = 1000

    def __init__(self, url, damages=False):
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self.damages = damages
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = set()
        self._lock = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                if self._is_closed:
                    client.close()
                    server.close()
                    return
                self._sockets |= {client, server}
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    @staticmethod
    def _pass(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _answer(self, source, target):
        with contextlib.suppress(OSError):
            stream = source.makefile("rb")
            target.sendall(stream.read(8))
            while len(prefix := stream.read(8)) == 8:
                message = bytearray(stream.read(int.from_bytes(prefix, "big")))
                if self.damages and len(message) >= self.LARGE:
                    message[-1] ^= 1
                target.sendall(prefix + message)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Nobody can connect any more, and who was connected is not."""
        with self._lock:
            self._is_closed = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._sockets.clear()


def store(person, content, name="file", **options):
    """Stores content and returns what the server says of the file."""
    from fc_client import files  # pylint: disable=import-outside-toplevel
    path = f"{options.pop('folder')}/{name}"
    with open(path, "wb") as file:
        file.write(content)
    return files.upload(person.channel, path, name=name, **options)


__all__ = ["Events", "Person", "Relay", "Source", "service", "store", "wait_until"]
