"""Calls and what is said about the connection, against a server that the test plays."""
import asyncio
import concurrent.futures
import threading
import time
import unittest

from fc.chat.v1 import chat_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import Channel, RpcError, frame
from fake_server import FakeServer
from fcd_process import limit, wait_until

METHOD = "fc.chat.v1.Chat/Send"
REQUEST = chat_pb2.SendRequest(room="kitchen", text="hello")
RESPONSE = chat_pb2.SendResponse(seq=7)
LONG_S = limit(60)  # for calls that are not meant to time out


class ChannelTestCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.close)

    def connect(self, greet=True, **options):
        """A channel, and the server's end of it."""
        channel = Channel(self.server.url, **{"keepalive": None, **options})
        self.addCleanup(channel.close)
        peer = self.server.accept()
        if greet:
            peer.greet()
            wait_until(lambda: channel.takes_flags, "the channel to take Hello")
        return channel, peer

    def start(self, channel, timeout=LONG_S, **options):
        return channel.start(METHOD, REQUEST, chat_pb2.SendResponse, timeout=timeout, **options)

    def hold(self, channel):
        """Has the channel write nothing, as a slow link does, until the event that is returned."""
        is_held, go_on = threading.Event(), threading.Event()
        channel._outbox.put(lambda: (is_held.set(), go_on.wait(limit(20))))
        self.assertTrue(is_held.wait(limit(20)))
        return go_on

    def assert_fails(self, call, code, pattern="."):
        """The call ends with this code. Returns the error."""
        with self.assertRaises(RpcError) as raised:
            call.result(limit(20))
        self.assertEqual(raised.exception.name, code, raised.exception)
        self.assertRegex(raised.exception.message, pattern)
        return raised.exception

    def assert_works(self, channel, peer):
        """A call goes there and back, and nothing else was waiting to be read by the server."""
        call = self.start(channel)
        number, received = peer.receive()
        self.assertEqual((received.flags, received.header.method), (0, METHOD))
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)

    def assert_cancels(self, peer, number):
        """The server is told that this call is given up."""
        self.assertEqual(peer.receive(), (number, (frame.CANCEL, None, b"")))


class Hello(ChannelTestCase):
    def test_a_client_says_hello_first(self):
        _, peer = self.connect(greet=False)
        self.assertEqual(peer.greet().max_message_bytes, frame.MESSAGE_MAX_BYTES)

    def test_calls_do_not_wait_for_the_answer(self):
        channel, peer = self.connect(greet=False)
        call = self.start(channel)
        peer.receive_control()
        number, _ = peer.receive()
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)
        self.assertIsNone(channel.takes_flags)

    def test_an_old_server_gets_no_flags(self):
        channel, peer = self.connect(greet=False)
        peer.greet_as_an_old_server()
        wait_until(lambda: channel.takes_flags is False, "the channel to take the status")
        call = self.start(channel)
        peer.receive()
        self.assertTrue(call.cancel())
        self.assert_works(channel, peer)

    def test_a_cancel_before_the_answer_waits_for_it(self):
        channel, peer = self.connect(greet=False)
        call = self.start(channel)
        peer.receive_control()
        number, _ = peer.receive()
        self.assertTrue(call.cancel())
        self.assert_works(channel, peer)  # and no cancel has come
        peer.control(hello=rpc_pb2.Hello())
        self.assert_cancels(peer, number)

    def test_a_request_larger_than_the_server_takes_is_not_sent(self):
        channel, peer = self.connect(greet=False)
        peer.greet(max_message_bytes=1000)
        wait_until(lambda: channel.takes_flags, "the channel to take Hello")
        with self.assertRaises(RpcError) as raised:
            channel.start(METHOD, chat_pb2.SendRequest(text="x" * 1000), chat_pb2.SendResponse)
        self.assertEqual(raised.exception.name, "RESOURCE_EXHAUSTED")
        self.assert_works(channel, peer)


class Control(ChannelTestCase):
    def test_a_ping_is_answered_at_once(self):
        _, peer = self.connect()
        for number in (0, 1, 2 ** 64 - 1):
            peer.control(ping=rpc_pb2.Ping(number=number))
            self.assertEqual(peer.receive_control(), rpc_pb2.Control(pong=rpc_pb2.Pong(number=number)))

    def test_a_ping_of_the_websocket_is_answered(self):
        _, peer = self.connect()
        peer.ping_websocket(b"payload")
        self.assertEqual(peer.receive_websocket(), (10, b"payload"))

    def test_a_server_that_pings_and_does_not_read_is_read(self):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        large = chat_pb2.SendRequest(text="x" * 6_000_000)
        for _ in range(2):
            channel.start(METHOD, large, chat_pb2.SendResponse, timeout=LONG_S)
        for _ in range(1000):
            peer.ping_websocket()
            peer.control(ping=rpc_pb2.Ping())
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)

    def test_answers_that_nobody_reads_do_not_pile_up(self):
        channel, peer = self.connect()
        go_on = self.hold(channel)
        call = self.start(channel)
        for number in range(1000):
            peer.control(ping=rpc_pb2.Ping(number=number))
        peer.reply(call._number, RESPONSE)
        call.result(limit(20))
        go_on.set()
        self.assertEqual([peer.receive_control().pong.number for _ in range(64)], list(range(64)))
        self.assert_works(channel, peer)

    def test_unknown_and_unreadable_control_frames_are_ignored(self):
        channel, peer = self.connect()
        peer.control()
        peer.send_raw(frame.CONTROL_NUMBER, bytes([1, frame.CONTROL, 0, 2, 0x7a, 0x00]))  # a kind of the future
        for data in (b"", b"\x01", b"\x02\x20\0\0", bytes([1, frame.CONTROL, 0, 9, 0x12]),
                     bytes([1, frame.CANCEL, 0, 0]), bytes([1, 0, 0, 0])):
            peer.send_raw(frame.CONTROL_NUMBER, data)
        peer.sync()
        self.assertTrue(channel.takes_flags)
        self.assert_works(channel, peer)

    def test_after_going_away_calls_in_flight_end_and_new_ones_are_refused(self):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        peer.control(going_away=rpc_pb2.GoingAway())
        peer.sync()
        with self.assertRaises(RpcError) as raised:
            self.start(channel)
        self.assertEqual((raised.exception.name, raised.exception.reason), ("UNAVAILABLE", "NOT_EXECUTED"))
        self.assertIn("shuts down", raised.exception.message)
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)


class Answers(ChannelTestCase):
    def test_no_call_has_the_number_of_the_connection(self):
        channel, peer = self.connect()
        channel._last_number = 0x7fff_fffe
        numbers = []
        for _ in range(3):
            self.start(channel)
            numbers.append(peer.receive()[0])
        self.assertEqual(numbers, [0xffff_ffff, 0x8000_0001, 0x8000_0002])

    def test_a_number_in_use_is_left_out(self):
        channel, peer = self.connect()
        self.start(channel)
        first, _ = peer.receive()
        channel._last_number = 0
        self.start(channel)
        self.assertEqual(peer.receive()[0], first + 1)

    def test_replies_in_another_order_find_their_calls(self):
        channel, peer = self.connect()
        calls = [self.start(channel) for _ in range(50)]
        numbers = [peer.receive()[0] for _ in calls]
        for i in reversed(range(50)):
            peer.reply(numbers[i], chat_pb2.SendResponse(seq=i + 1))
        self.assertEqual([call.result(limit(20)).seq for call in calls], list(range(1, 51)))

    def test_a_reply_in_fragments(self):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        message = number.to_bytes(4, "big") + frame.encode(rpc_pb2.ResponseHeader(), RESPONSE.SerializeToString())
        for i, byte in enumerate(message):
            peer.send_websocket(bytes([byte]), 2 if i == 0 else 0, is_last=i == len(message) - 1)
        self.assertEqual(call.result(limit(20)), RESPONSE)

    def test_answers_that_cannot_be_read_fail_their_call_only(self):
        channel, peer = self.connect()
        whole = frame.encode(rpc_pb2.ResponseHeader(code=5, message="none"), b"")
        answers = [whole[:size] for size in range(len(whole))]
        answers += [bytes([1, flags, 0, 0]) for flags in range(1, 256)]
        answers += [b"\x02\0\0\0", b"\x01\0\xff\xff", b"\x01\0\0\0\xff"]
        for answer in answers:
            with self.subTest(answer.hex()):
                call = self.start(channel)
                number, _ = peer.receive()
                peer.send_raw(number, answer)
                self.assert_fails(call, "INTERNAL", "cannot be read")
                self.assert_cancels(peer, number)
        self.assert_works(channel, peer)

    def test_answers_to_nobody_are_dropped(self):
        channel, peer = self.connect()
        for number in (0x8000_0001, 0xffff_ffff, 1, 0):
            peer.reply(number, RESPONSE)
            peer.send_raw(number, b"")
        peer.sync()
        self.assert_works(channel, peer)

    def test_an_answer_counts_once(self):
        channel, peer = self.connect()
        first, second = self.start(channel), self.start(channel)
        number, _ = peer.receive()
        for seq in (1, 2, 3):
            peer.reply(number, chat_pb2.SendResponse(seq=seq))
        peer.receive()
        peer.sync()
        self.assertEqual(first.result(limit(20)).seq, 1)
        self.assertFalse(second.done())


class Errors(ChannelTestCase):
    def failed(self, **header):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        peer.send(number, rpc_pb2.ResponseHeader(**header))
        with self.assertRaises(RpcError) as raised:
            call.result(limit(20))
        return raised.exception

    def test_an_unknown_code_keeps_its_number(self):
        error = self.failed(code=99, message="new")
        self.assertEqual((error.code, error.name, error.message), (99, "UNKNOWN", "new"))

    def test_details_that_are_unknown_or_damaged_change_nothing(self):
        error = self.failed(code=5, details=[rpc_pb2.Detail(type="a.B", value=b"\xff"),
                                             rpc_pb2.Detail(type="fc.rpc.v1.ErrorInfo", value=b"\xff")])
        self.assertEqual((error.name, error.reason), ("NOT_FOUND", ""))

    def test_an_error_has_metadata(self):
        error = self.failed(code=5, metadata=[rpc_pb2.Metadata(key="a", value=b"\0\xff"), rpc_pb2.Metadata(key="a")])
        self.assertEqual(error.metadata, [("a", b"\0\xff"), ("a", b"")])


class Metadata(ChannelTestCase):
    def test_both_ways_in_order(self):
        channel, peer = self.connect()
        pairs = [("b", b"1"), ("a-_.9", b"\xab" * 3), ("b", b""), ("z" * 64, b"\0")]
        call = self.start(channel, metadata=iter(pairs))
        number, received = peer.receive()
        self.assertEqual([(pair.key, pair.value) for pair in received.header.metadata], pairs)
        peer.reply(number, RESPONSE, metadata=received.header.metadata)
        call.result(limit(20))
        self.assertEqual(call.metadata, pairs)

    def test_what_may_not_be_sent_is_not(self):
        channel, peer = self.connect()
        for key in ("", "A", "ä", "a b", "a\n", "a" * 65, "fc-x", "fc-"):
            with self.subTest(key), self.assertRaises(RpcError) as raised:
                self.start(channel, metadata=[(key, b"")])
            self.assertEqual(raised.exception.name, "INVALID_ARGUMENT")
        for pairs in ([("a", b"")] * 33, [("a", bytes(8192))], [("a", bytes(4096)), ("b", bytes(4095))]):
            with self.assertRaises(RpcError) as raised:
                self.start(channel, metadata=pairs)
            self.assertEqual(raised.exception.name, "RESOURCE_EXHAUSTED")
        with self.assertRaises(TypeError):
            self.start(channel, metadata=[("a", "text")])
        self.assert_works(channel, peer)

    def test_as_much_as_may_be_sent(self):
        channel, peer = self.connect()
        for pairs in ([("a", b"")] * 32, [("a", bytes(8191))]):
            self.start(channel, metadata=pairs)
            self.assertEqual(len(peer.receive()[1].header.metadata), len(pairs))


class GivingUp(ChannelTestCase):
    def test_a_cancel_ends_the_call_and_tells_the_server(self):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        self.assertTrue(call.cancel())
        self.assertTrue(call.cancelled())
        self.assert_fails(call, "CANCELLED")
        self.assert_cancels(peer, number)
        self.assertTrue(call.cancel())  # nothing more happens
        peer.reply(number, RESPONSE)
        self.assert_works(channel, peer)

    def test_a_cancel_after_the_answer_does_nothing(self):
        channel, peer = self.connect()
        call = self.start(channel)
        number, _ = peer.receive()
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)
        self.assertFalse(call.cancel())
        self.assertEqual(call.result(), RESPONSE)
        self.assert_works(channel, peer)

    def test_a_passed_deadline_ends_the_call_and_tells_the_server(self):
        channel, peer = self.connect()
        call = self.start(channel, timeout=0.05)
        number, received = peer.receive()
        self.assertEqual(received.header.timeout_ms, 50)
        self.assert_fails(call, "DEADLINE_EXCEEDED", "0.05 s")
        self.assert_cancels(peer, number)
        peer.reply(number, RESPONSE)
        self.assert_works(channel, peer)

    def test_the_sooner_deadline_comes_first(self):
        channel, peer = self.connect()
        calls = [self.start(channel, timeout=timeout) for timeout in (LONG_S, 0.2, 0.05, 0.1)]
        numbers = [peer.receive()[0] for _ in calls]
        self.assertEqual([peer.receive()[0] for _ in range(3)], [numbers[2], numbers[3], numbers[1]])
        self.assertFalse(calls[0].done())

    def test_deadlines_of_ended_calls_are_forgotten(self):
        channel, peer = self.connect()
        self.start(channel, timeout=LONG_S / 2)  # stays before the others
        peer.receive()
        for _ in range(300):
            self.assert_works(channel, peer)
        self.assertLess(len(channel._due), 100)

    def test_a_call_that_was_not_sent_yet_never_is(self):
        channel, peer = self.connect()
        go_on = self.hold(channel)
        self.assertTrue(self.start(channel).cancel())
        call = self.start(channel, timeout=0.01)
        self.assert_fails(call, "DEADLINE_EXCEEDED")
        go_on.set()
        self.assert_works(channel, peer)

    def test_callers_wait_while_much_has_yet_to_be_sent(self):
        channel, peer = self.connect()
        large = chat_pb2.SendRequest(text="x" * 4_000_000)
        calls = []
        with self.assertRaises(RpcError) as raised:
            for _ in range(100):  # the server reads nothing
                calls.append(channel.start(METHOD, large, chat_pb2.SendResponse, timeout=limit(0.2)))
        self.assertEqual(raised.exception.name, "DEADLINE_EXCEEDED")
        self.assertLess(len(calls), 10)
        for call in calls:
            call.cancel()


class Futures(ChannelTestCase):
    def test_a_callback_is_called_with_the_call(self):
        channel, peer = self.connect()
        call = self.start(channel)
        called = concurrent.futures.Future()
        call.add_done_callback(called.set_result)
        number, _ = peer.receive()
        peer.reply(number, RESPONSE)
        self.assertIs(called.result(limit(20)), call)

    def test_a_callback_may_start_calls(self):
        channel, peer = self.connect()
        second = concurrent.futures.Future()
        first = self.start(channel)
        first.add_done_callback(lambda _: second.set_result(self.start(channel)))
        for seq in (1, 2):
            number, _ = peer.receive()
            peer.reply(number, chat_pb2.SendResponse(seq=seq))
        self.assertEqual(second.result(limit(20)).result(limit(20)).seq, 2)

    def test_waiting_for_several(self):
        channel, peer = self.connect()
        calls = [self.start(channel) for _ in range(3)]
        numbers = [peer.receive()[0] for _ in calls]
        peer.fail(numbers[1], rpc_pb2.ABORTED)
        done, _ = concurrent.futures.wait(calls, limit(20), concurrent.futures.FIRST_COMPLETED)
        self.assertEqual(done, {calls[1]})

    def test_asyncio(self):
        channel, peer = self.connect()

        async def use():
            first, second, third = (asyncio.wrap_future(self.start(channel)) for _ in range(3))
            numbers = [peer.receive()[0] for _ in range(3)]
            peer.reply(numbers[0], RESPONSE)
            peer.fail(numbers[1], rpc_pb2.ABORTED)
            self.assertEqual(await first, RESPONSE)
            with self.assertRaises(RpcError):
                await second
            third.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await third
            return numbers[2]

        self.assert_cancels(peer, asyncio.run(use()))

    def test_the_wait_for_a_result_can_be_bounded(self):
        channel, _ = self.connect()
        with self.assertRaises(concurrent.futures.TimeoutError):
            self.start(channel).result(0.01)


class Sizes(ChannelTestCase):
    def test_messages_of_every_length_come_whole(self):
        channel, peer = self.connect()
        for size in [*range(8), *range(60, 130), 16383, 16384, 16385, 65400, 65535, 65536, 300_001, 4_000_000]:
            with self.subTest(size=size):
                text = ("0123456789abcdefghijklmnopqrstu" * (size // 31 + 1))[:size]
                call = channel.start(METHOD, chat_pb2.SendRequest(text=text), chat_pb2.SendRequest, timeout=LONG_S)
                number, received = peer.receive()
                self.assertEqual(chat_pb2.SendRequest.FromString(received.message).text, text)
                peer.reply(number, chat_pb2.SendRequest(room=text))
                self.assertEqual(call.result(limit(20)).room, text)


class Loss(ChannelTestCase):
    def test_a_closed_connection_fails_the_calls_in_flight_and_later_ones(self):
        channel, peer = self.connect()
        calls = [self.start(channel) for _ in range(3)]
        for _ in calls:
            peer.receive()
        peer.send_websocket(b"\x03\xe9", 8)
        for call in calls:
            self.assert_fails(call, "UNAVAILABLE", "the server has closed the connection")
        with self.assertRaises(RpcError) as raised:
            self.start(channel)
        self.assertEqual(raised.exception.name, "UNAVAILABLE")

    def test_messages_that_are_none_end_the_connection(self):
        for what, send in {
                "text": lambda peer: peer.send_websocket(b"hello", 1),
                "no request id": lambda peer: peer.send_websocket(b"\x80\0\0"),
                "empty": lambda peer: peer.send_websocket(b""),
                "reserved bits": lambda peer: peer.send_websocket(b"", 0x42),
                "half a frame": lambda peer: (peer.send_websocket(b"half", announced=8), peer.close()),
                "masked": lambda peer: peer._socket.sendall(b"\x82\x81\0\0\0\0h"),
                # Refused before any of it has come.
                "one byte too large": lambda peer: peer.send_websocket(b"", announced=frame.MESSAGE_MAX_BYTES + 1),
                "one byte too large in two frames": self.send_too_much_in_two,
                "much too large": lambda peer: peer.send_websocket(b"", announced=1 << 40)}.items():
            with self.subTest(what):
                channel, peer = self.connect()
                call = self.start(channel)
                peer.receive()
                send(peer)
                self.assert_fails(call, "UNAVAILABLE", "lost")

    def send_too_much_in_two(self, peer):
        peer.send_websocket(bytes(10), is_last=False)
        peer.send_websocket(b"", 0, announced=frame.MESSAGE_MAX_BYTES - 9)

    def test_close_fails_the_calls_in_flight(self):
        channel, _ = self.connect()
        call = self.start(channel)
        channel.close()
        self.assert_fails(call, "UNAVAILABLE", "closed")
        channel.close()

    def test_a_callback_may_close_the_channel(self):
        channel, peer = self.connect()
        call = self.start(channel)
        closed = threading.Event()
        call.add_done_callback(lambda _: (channel.close(), closed.set()))
        number, _ = peer.receive()
        peer.reply(number, RESPONSE)
        self.assertTrue(closed.wait(limit(20)))


class Keepalive(ChannelTestCase):
    def test_a_silent_server_is_asked_and_then_given_up(self):
        channel, peer = self.connect(keepalive=0.05)
        call = self.start(channel)
        peer.receive()
        self.assertEqual(peer.receive_control().WhichOneof("kind"), "ping")
        self.assert_fails(call, "UNAVAILABLE", "the server is dead")

    def test_an_old_server_is_asked_by_the_websocket(self):
        channel, peer = self.connect(greet=False, keepalive=0.05)
        peer.greet_as_an_old_server()
        wait_until(lambda: channel.takes_flags is False, "the channel to take the status")
        call = self.start(channel)
        peer.receive()
        self.assertEqual(peer.receive_websocket(), (9, b""))
        self.assert_fails(call, "UNAVAILABLE", "the server is dead")

    def test_a_server_that_answers_lives(self):
        keepalive = limit(0.3)
        channel, peer = self.connect(keepalive=keepalive)
        call = self.start(channel)
        number, _ = peer.receive()
        begin = time.monotonic()
        for _ in range(3):
            ping = peer.receive_control().ping
            peer.control(pong=rpc_pb2.Pong(number=ping.number))
        self.assertGreaterEqual(time.monotonic() - begin, 2 * keepalive)
        peer.reply(number, RESPONSE)
        self.assertEqual(call.result(limit(20)), RESPONSE)

    def test_an_idle_connection_is_left_alone(self):
        channel, peer = self.connect(keepalive=limit(0.3))
        self.assert_works(channel, peer)
        with self.assertRaises(TimeoutError):
            peer._socket.settimeout(limit(0.7))
            peer.receive()
        peer._socket.settimeout(limit(10))
        self.start(channel)
        peer.receive()
        peer.sync()  # no ping came in between: the silence before does not count


if __name__ == "__main__":
    unittest.main()
