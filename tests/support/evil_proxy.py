"""A malicious server: an honest fcd behind a proxy that changes what it says, by functions on decoded messages.

    with EvilProxy(fcd.url) as proxy:
        proxy.answers["GetLog"] = drop_newest      # (request, response): changes the response, or returns another
        proxy.requests["Send"] = swallow           # (request): raises Refusal to answer without the server
        proxy.events = alter                       # (topic, EventBatch): changes the batch
        ...
        proxy.be_honest()

`sent` has what clients asked for: pairs of a method's name and the request.
"""
import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

from google.protobuf import message_factory

from fc.auth.v1 import auth_pb2, keys_pb2
from fc.chat.v1 import chat_pb2
from fc.filestore.v1 import filestore_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import frame

HANDSHAKE_BYTES, LENGTH_BYTES, WORD_BYTES, TOPIC_BYTES = 8, 8, 4, 16
SUB = b"\x00\x21"
_SERVICES = [module.DESCRIPTOR.services_by_name[name] for module, name in (
    (auth_pb2, "Auth"), (keys_pb2, "Keys"), (chat_pb2, "Chat"), (filestore_pb2, "FileStore"))]


def _class(descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return descriptor._concrete_class


# "fc.chat.v1.Chat/Send": ("Send", request class, response class), of methods that do not stream.
_METHODS = {f"{service.full_name}/{method.name}": (method.name, _class(method.input_type), _class(method.output_type))
            for service in _SERVICES for method in service.methods
            if not method.client_streaming and not method.server_streaming}


class Refusal(Exception):
    """Raised in a function for requests: the server never sees the call, and the client gets this."""

    def __init__(self, code, message="no"):
        super().__init__(message)
        self.header = rpc_pb2.ResponseHeader(code=code, message=message)


class Answer(Exception):
    """Raised in a function for requests: the server never sees the call, and the client gets this response."""

    def __init__(self, response):
        super().__init__("an answer")
        self.response = response


def _read(connection, size):
    data = b""
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _read_message(connection):
    return _read(connection, struct.unpack(">Q", _read(connection, LENGTH_BYTES))[0])


def _split(message):
    """The words in front, whose last has the highest bit set, and the frame."""
    end = WORD_BYTES
    while not message[end - WORD_BYTES] & 0x80:
        end += WORD_BYTES
    return message[:end], message[end:]


class EvilProxy:
    def __init__(self, upstream_url):
        parts = urlsplit(upstream_url)
        self._upstream = parts.hostname, parts.port
        self.answers, self.requests, self.events, self.sent = {}, {}, None, []
        self.errors = []  # of functions, which are a test's mistakes
        self._sockets, self._lock = set(), threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def be_honest(self):
        self.answers, self.requests, self.events = {}, {}, None

    def close(self):
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @staticmethod
    def _start(target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client):
        with contextlib.suppress(OSError, EOFError), client:
            server = socket.create_connection(self._upstream)
            with self._lock:
                self._sockets |= {client, server}
            with server:
                hello = _read(client, HANDSHAKE_BYTES)
                server.sendall(hello)
                client.sendall(_read(server, HANDSHAKE_BYTES))
                connection = _Connection(self, client, server)
                is_subscription = hello[4:6] == SUB
                self._start(connection.downward_events if is_subscription else connection.downward)
                connection.upward(is_subscription)
        with self._lock:
            self._sockets -= {client}


class _Connection:
    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.outstanding = {}  # words in front: (method, request)
        self.write_lock = threading.Lock()

    def _send(self, connection, message):
        data = struct.pack(">Q", len(message)) + message
        if connection is self.client:
            with self.write_lock:
                connection.sendall(data)
        else:
            connection.sendall(data)

    def upward(self, is_subscription):
        try:
            while True:
                message = _read_message(self.client)
                if not is_subscription:
                    message = self._ask(message)
                if message is not None:
                    self._send(self.server, message)
        finally:
            with contextlib.suppress(OSError):
                self.server.shutdown(socket.SHUT_RDWR)

    def _ask(self, message):
        """What goes to the server instead, or None."""
        words, data = _split(message)
        flags, header, body = frame.decode_from_client(data)
        method = _METHODS.get(header.method) if flags == 0 else None
        if method is None:
            return message
        name, request_type, _ = method
        request = request_type.FromString(body)
        self.proxy.sent.append((name, request_type.FromString(body)))
        rule = self.proxy.requests.get(name)
        try:
            if rule is not None:
                self._call(rule, request)
        except Refusal as refusal:
            self._send(self.client, words + frame.encode(refusal.header))
            return None
        except Answer as answer:
            self._send(self.client, words + frame.encode(rpc_pb2.ResponseHeader(), answer.response.SerializeToString()))
            return None
        self.outstanding[words] = method, request
        return words + frame.encode(header, request.SerializeToString())

    def downward(self):
        with contextlib.suppress(OSError, EOFError):
            while True:
                self._send(self.client, self._answer(_read_message(self.server)))
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)

    def _answer(self, message):
        words, data = _split(message)
        if words not in self.outstanding:
            return message
        (name, _, response_type), request = self.outstanding.pop(words)
        rule = self.proxy.answers.get(name)
        flags, header, body = frame.decode_from_server(data)
        if rule is None or flags != 0 or header.code != rpc_pb2.OK:
            return message
        response = response_type.FromString(body)
        response = self._call(rule, request, response) or response
        return words + frame.encode(header, response.SerializeToString())

    def downward_events(self):
        with contextlib.suppress(OSError, EOFError):
            while True:
                message = _read_message(self.server)
                if self.proxy.events is not None:
                    batch = chat_pb2.EventBatch.FromString(message[TOPIC_BYTES:])
                    self._call(self.proxy.events, message[:TOPIC_BYTES], batch)
                    message = message[:TOPIC_BYTES] + batch.SerializeToString()
                self._send(self.client, message)
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)

    def _call(self, rule, *arguments):
        try:
            return rule(*arguments)
        except (Refusal, Answer):
            raise
        except BaseException as error:
            self.proxy.errors.append(error)
            raise
