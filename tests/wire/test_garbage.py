"""Garbage on every listener: refused as docs/protocol.md says, and nobody else notices."""
import os
import random
import struct
import unittest

from fc.rpc.v1 import rpc_pb2
from peers import (METHOD, NUMBER, PAIR, PUB, REP, REQ, SUB, Listeners, Peer, answer_of, call_frame, call_message,
                   handshake, upgrade, websocket_frame)

MESSAGE_MAX_BYTES = 8 * 1024 * 1024 + 64 * 1024


class Garbage(Listeners):
    def tearDown(self):
        self.assert_all_answer()
        self.wait_for_sockets()

    def urls(self):
        return (self.tcp, self.ipc, self.http)


class Bytes(Garbage):
    """What is not even a connection of its kind."""

    def test_random_bytes(self):
        source = random.Random(1)
        for url in self.urls():
            for _ in range(100):
                with Peer(url) as peer:
                    peer.send(source.randbytes(source.randrange(1, 4096)))
                    peer.finish()
                    peer.receive_all()

    def test_random_bytes_after_a_good_start(self):
        source = random.Random(2)
        for url in self.urls():
            start = upgrade(url) if url == self.http else handshake(REQ)
            for _ in range(100):
                with Peer(url) as peer:
                    peer.send(start + source.randbytes(source.randrange(1, 4096)))
                    peer.finish()
                    peer.receive_all()

    def test_http_to_the_sp_ports(self):
        for url in (self.tcp, self.ipc):
            with Peer(url) as peer:
                peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self.assertIn(peer.receive_all(), (b"", handshake(REP)))

    def test_sp_to_the_http_port(self):
        with Peer(self.http) as peer:
            peer.send(handshake(REQ) + peer.message(call_message()))
            peer.finish()
            self.assertNotIn(NUMBER, peer.receive_all())

    def test_protocols_that_the_server_does_not_speak(self):
        for url in (self.tcp, self.ipc):
            for protocol in (PAIR, PUB, REP, 0, 0xFFFF):
                with self.subTest(url=url, protocol=protocol), Peer(url) as peer:
                    peer.greet(protocol)
                    self.assertEqual(peer.receive_all(), b"")

    def test_a_handshake_cut_anywhere(self):
        for url in (self.tcp, self.ipc):
            for size in range(8):
                with Peer(url) as peer:
                    peer.send(handshake(REQ)[:size])
                    peer.finish()
                    peer.receive_all()


class Native(Garbage):
    """SP messages that are none."""

    def assert_cut(self, data_of):
        for url in (self.tcp, self.ipc):
            with self.subTest(url=url), Peer(url) as peer:
                self.assertEqual(peer.greet(), handshake(REP))
                peer.send(data_of(peer))
                self.assertIsNone(peer.receive_message())

    def test_a_message_without_a_request_id(self):
        for data in (b"", b"\x80\0\0", bytes(64), bytes(16 * 4) + NUMBER):
            self.assert_cut(lambda peer, data=data: peer.message(data))

    def test_lengths_beyond_the_limit_cost_no_memory(self):
        before = self.memory_kb()
        for announced in (MESSAGE_MAX_BYTES + 1, 1 << 30, 1 << 32, 1 << 63, (1 << 64) - 1):
            self.assert_cut(lambda peer, announced=announced: peer.message(bytes(100), announced))
        self.assertLess(self.memory_kb() - before, 20_000)

    def test_an_announced_length_that_never_comes_costs_no_memory(self):
        self.assert_all_answer()
        before = self.memory_kb()
        peers = [Peer(self.tcp) for _ in range(100)]
        for peer in peers:
            peer.greet()
            peer.send(peer.message(b"x", MESSAGE_MAX_BYTES))
        self.assert_all_answer()
        self.assertLess(self.memory_kb() - before, 100_000)
        for peer in peers:
            peer.socket.close()

    def test_another_byte_before_an_ipc_message(self):
        with Peer(self.ipc) as peer:
            peer.greet()
            peer.send(b"\2" + peer.message(call_message())[1:])
            self.assertIsNone(peer.receive_message())

    def test_a_message_cut_anywhere(self):
        for url in (self.tcp, self.ipc):
            with Peer(url) as peer:
                whole = handshake(REQ) + peer.message(call_message())
            for size in range(8, len(whole)):
                with Peer(url) as peer:
                    peer.send(whole[:size])
                    peer.finish()
                    self.assertEqual(peer.receive_all(), handshake(REP))

    def test_hops_in_front_of_the_request_id_come_back(self):
        for url in (self.tcp, self.ipc):
            with Peer(url) as peer:
                peer.greet()
                route = b"".join(struct.pack(">I", hop) for hop in range(15))
                peer.send(peer.message(route + call_message()))
                reply = peer.receive_message()
                self.assertEqual(reply[:60], route)
                self.assertEqual(answer_of(reply[60:])[0], "OK")

    def test_tickets_that_are_none(self):
        for ticket in (b"", b"guessed", b"\1guessed", bytes(64), os.urandom(200), b"x" * 100_000):
            with Peer(self.tcp) as peer:
                self.assertEqual(peer.greet(SUB), handshake(PUB))
                peer.send(peer.message(ticket))
                self.assertIsNone(peer.receive_message())


class Frames(Garbage):
    """Frames and headers that are none are answered, and the connection goes on."""

    def cases(self):
        header = rpc_pb2.RequestHeader(method=METHOD).SerializeToString()
        prefix = struct.Struct(">BBH")
        good = call_frame()
        yield "INVALID_ARGUMENT", "no bytes", b""
        for size in range(1, 4 + len(header)):
            yield "INVALID_ARGUMENT", f"cut after {size} bytes", good[:size]
        yield "INVALID_ARGUMENT", "a header longer than the frame", prefix.pack(1, 0, len(header) + 1) + header
        yield "RESOURCE_EXHAUSTED", "a header over the limit", prefix.pack(1, 0, 16385) + bytes(16385)
        yield "UNIMPLEMENTED", "version 0", b"\0" + good[1:]
        yield "UNIMPLEMENTED", "version 2", b"\2" + good[1:]
        yield "UNIMPLEMENTED", "an unknown flag", b"\1\x40" + good[2:]
        yield "INVALID_ARGUMENT", "a message without its flag", b"\1\1" + good[2:]
        yield "INVALID_ARGUMENT", "flags that do not go together", b"\1\x0c" + bytes(2)
        yield "INVALID_ARGUMENT", "a frame about the connection with a call's request id", b"\1\x20" + bytes(2)
        yield "UNIMPLEMENTED", "an empty header", prefix.pack(1, 0, 0)
        yield "INVALID_ARGUMENT", "a header that is not protobuf", prefix.pack(1, 0, 3) + b"\xff\xff\xff"
        yield "INVALID_ARGUMENT", "a method that is not UTF-8", prefix.pack(1, 0, 3) + b"\x0a\x01\xff"
        yield "UNIMPLEMENTED", "an unknown method", call_frame("fc.auth.v1.Auth/Fly")
        yield "UNIMPLEMENTED", "an unknown service", call_frame("fc.chess.v1.Chess/Move")
        yield "UNAUTHENTICATED", "no token", call_frame("fc.auth.v1.Auth/WhoAmI", b"")
        yield "UNAUTHENTICATED", "a wrong token", call_frame("fc.auth.v1.Auth/WhoAmI", b"", token="fct_" + "x" * 43)
        yield "UNAUTHENTICATED", "a long token", call_frame("fc.auth.v1.Auth/WhoAmI", b"", token="x" * 200)
        yield "INVALID_ARGUMENT", "a short request id", call_frame(request_id=b"short")
        yield "RESOURCE_EXHAUSTED", "much metadata", call_frame(metadata=[rpc_pb2.Metadata(key="k")] * 33)
        yield "RESOURCE_EXHAUSTED", "long metadata", call_frame(metadata=[rpc_pb2.Metadata(key="k", value=bytes(8192))])
        yield "INVALID_ARGUMENT", "a reserved key of metadata", call_frame(metadata=[rpc_pb2.Metadata(key="fc-x")])
        yield "INVALID_ARGUMENT", "a key of metadata in capitals", call_frame(metadata=[rpc_pb2.Metadata(key="K")])
        yield "INVALID_ARGUMENT", "a request that is not protobuf", call_frame(request=b"\xff")
        yield "INVALID_ARGUMENT", "a request cut inside a field", call_frame(request=b"\x0a\x05nob")
        yield "INVALID_ARGUMENT", "a NUL in a text", call_frame(request=b"\x0a\x03a\0b")
        yield "INVALID_ARGUMENT", "field number 0", call_frame(request=b"\x02\x01x")
        yield "INVALID_ARGUMENT", "another wire type", call_frame(request=b"\x08\x01")
        yield "INVALID_ARGUMENT", "a group", call_frame(request=b"\x0b\x0c")
        yield "INVALID_ARGUMENT", "a varint of 11 bytes", call_frame(request=b"\x10" + b"\xff" * 10 + b"\x01")
        yield "RESOURCE_EXHAUSTED", "a request over the limit", call_frame(request=b"\x0a\x80\x80\x20" + b"x" * 524288)
        yield "OK", "a field that is not known", call_frame(request=b"\x0a\x06nobody\x7a\x03abc")

    def test_each_on_one_connection(self):
        for url in (self.tcp, self.ipc):
            with Peer(url) as peer:
                peer.greet()
                for code, what, data in self.cases():
                    with self.subTest(what, url=url):
                        peer.send(peer.message(NUMBER + data))
                        self.assertEqual(answer_of(peer.receive_message())[0], code)

    def test_each_on_one_websocket(self):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http))
            self.assertIn(b" 101 ", peer.receive_head())
            for code, what, data in self.cases():
                with self.subTest(what):
                    peer.send(websocket_frame(NUMBER + data))
                    self.assertEqual(answer_of(peer.receive_frame()[1])[0], code)

    def test_random_changes_of_a_good_frame(self):
        source = random.Random(3)
        good = call_frame(token="fct_x", request_id=bytes(16))
        with Peer(self.tcp) as peer:
            peer.greet()
            for _ in range(2000):
                changed = bytearray(good)
                for _ in range(source.randrange(1, 4)):
                    changed[source.randrange(len(changed))] = source.randrange(256)
                peer.send(peer.message(NUMBER + bytes(changed)))
                answer_of(peer.receive_message())


class Web(Garbage):
    """HTTP and WebSocket."""

    def ask(self, data):
        with Peer(self.http) as peer:
            peer.send(data)
            return peer.receive_all()

    def assert_status(self, status, data):
        self.assertRegex(self.ask(data), b"\\AHTTP/1.[01] %d " % status)

    def test_requests(self):
        host = b"Host: localhost\r\n"
        for status, request in ((200, b"GET / HTTP/1.1\r\n"), (404, b"GET /nothing HTTP/1.1\r\n"),
                                (404, b"GET /rpc HTTP/1.1\r\n"), (404, b"POST / HTTP/1.1\r\nContent-Length: 0\r\n"),
                                (404, b"GET /../../etc/passwd HTTP/1.1\r\n"), (404, b"GET /%41 HTTP/1.1\r\n")):
            with self.subTest(request):
                self.assert_status(status, request + host + b"\r\n")

    def test_requests_that_are_none(self):
        for request in (b"\r\n" * 1000, b"GET /%4 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
                        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with self.subTest(request[:30]), Peer(self.http) as peer:
                peer.send(request)
                peer.finish()
                self.assertNotIn(b" 200 ", peer.receive_all())

    def test_only_one_request_is_answered_on_a_connection(self):
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.assertEqual(self.ask(request * 3).count(b"HTTP/1.1 200"), 1)
        # The library would read freed memory for this one if the connection were kept.
        self.ask(request + b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")

    def test_upgrades_that_are_refused(self):
        for status, changes in ((404, {"path": "/other"}), (404, {"path": "/events/guessed", "subprotocol":
                                "pub.sp.nanomsg.org"}), (404, {"path": "/events/", "subprotocol": "pub.sp.nanomsg.org"}),
                                (400, {"subprotocol": None}), (400, {"subprotocol": "pub.sp.nanomsg.org"}),
                                (400, {"subprotocol": "rep.sp.nanomsg.org, pub.sp.nanomsg.org"}),
                                (400, {"Sec_WebSocket_Version": "12"}), (400, {"Sec_WebSocket_Key": None}),
                                (400, {"Upgrade": "h2c"}), (403, {"Upgrade": "other"}),
                                (403, {"Origin": "http://elsewhere.example"}), (403, {"Origin": "null"}),
                                (403, {"Origin": self.http + "0"})):
            with self.subTest(changes):
                self.assert_status(status, upgrade(self.http, **changes))

    def test_the_page_of_this_very_server_may_connect(self):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http, Origin=self.http))
            self.assertIn(b" 101 ", peer.receive_head())

    def assert_closed_with(self, code, data):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http))
            self.assertIn(b" 101 ", peer.receive_head())
            peer.send(data)
            first_byte, payload = peer.receive_frame()
            self.assertEqual((first_byte, payload[:2]), (0x88, struct.pack(">H", code)))

    def test_messages_that_are_refused(self):
        self.assert_closed_with(1003, websocket_frame(b"text", 0x81))
        self.assert_closed_with(1002, websocket_frame(b""))
        self.assert_closed_with(1002, websocket_frame(b"\x80\0\0"))
        self.assert_closed_with(1009, websocket_frame(b"x" * 100, announced=MESSAGE_MAX_BYTES + 1))
        self.assert_closed_with(1009, websocket_frame(b"x" * 100, announced=1 << 30))

    def test_fragments_beyond_the_limit(self):
        part = websocket_frame(bytes(1 << 20), 0x00)
        self.assert_closed_with(1009, websocket_frame(NUMBER, 0x02) + part * 9)

    def test_a_call_in_fragments_with_a_ping_between(self):
        whole = call_message()
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http))
            peer.receive_head()
            peer.send(websocket_frame(whole[:10], 0x02) + websocket_frame(b"beat", 0x89))
            self.assertEqual(peer.receive_frame(), (0x8A, b"beat"))
            peer.send(websocket_frame(whole[10:20], 0x00) + websocket_frame(whole[20:], 0x80))
            self.assertEqual(answer_of(peer.receive_frame()[1])[0], "OK")

    def test_a_frame_length_of_2_to_the_63(self):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http) + websocket_frame(b"x" * 100, announced=1 << 63))
            peer.receive_all()

    def test_many_calls_in_one_write(self):
        with Peer(self.http) as peer:
            peer.send(upgrade(self.http))
            peer.receive_head()
            peer.send(websocket_frame(call_message()) * 1000)
            for _ in range(1000):
                self.assertEqual(answer_of(peer.receive_frame()[1])[0], "OK")


if __name__ == "__main__":
    unittest.main()
