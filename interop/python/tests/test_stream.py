"""Calls that stream, against a server that the test plays."""
import gc
import threading
import time
import unittest

from fc.rpc.v1 import rpc_pb2
from fc.test.v1 import conformance_pb2
from fc_client import RpcError, frame
from fcd_process import limit, wait_until
from test_channel import LONG_S, ChannelTestCase

Data = conformance_pb2.ConformanceData
StreamRequest = conformance_pb2.StreamRequest
UploadResponse = conformance_pb2.UploadResponse
MIRROR = "fc.test.v1.Conformance/Mirror"
COST = frame.STREAM_MESSAGE_COST_BYTES
WINDOW = frame.STREAM_CREDIT_BYTES


def sized(size):
    """A message that is encoded in so many bytes."""
    message = Data(data=bytes(size))
    message.data = bytes(size - (message.ByteSize() - size))
    assert message.ByteSize() == size
    return message


class Background:
    """Something that blocks, on a thread of its own."""

    def __init__(self, action):
        self._thread = threading.Thread(target=self._run, args=[action], daemon=True)
        self._result = None
        self._thread.start()

    def _run(self, action):
        self._result = action()

    def is_done(self):
        return not self._thread.is_alive()

    def result(self):
        self._thread.join(limit(20))
        if self._thread.is_alive():
            raise AssertionError("it blocks still")
        return self._result


class StreamTestCase(ChannelTestCase):
    def open(self, channel, peer, **options):
        """A stream both ways, and its request id."""
        stream = channel.stream(MIRROR, Data, Data, **{"timeout": LONG_S, **options})
        number, received = peer.receive()
        self.assertEqual((received.flags, received.header.method, received.message), (frame.OPEN, MIRROR, b""))
        return stream, number

    def send(self, peer, number, *messages):
        for message in messages:
            peer.send(number, None, message.SerializeToString(), frame.MESSAGE)

    def end(self, peer, number, code=rpc_pb2.OK, **header):
        peer.send(number, rpc_pb2.ResponseHeader(code=code, **header), b"", frame.END)

    def assert_ends(self, stream, code, pattern="."):
        """What is left of the stream is this error. Returns it."""
        with self.assertRaises(RpcError) as raised:
            next(stream)
        self.assertEqual(raised.exception.name, code, raised.exception)
        self.assertRegex(raised.exception.message, pattern)
        return raised.exception


class Frames(StreamTestCase):
    def test_a_stream_of_responses_is_opened_by_one_frame(self):
        channel, peer = self.connect()
        stream = channel.stream("a.B/C", StreamRequest, Data, request=StreamRequest(count=2), timeout=5,
                                request_id=bytes(range(16)), metadata=[("k", b"v")])
        number, received = peer.receive()
        self.assertEqual(received.flags, 0x07)
        self.assertEqual(StreamRequest.FromString(received.message), StreamRequest(count=2))
        self.assertEqual((received.header.timeout_ms, received.header.request_id, received.header.metadata[0].key),
                         (5000, bytes(range(16)), "k"))
        self.send(peer, number, Data(number=0), Data(number=1))
        self.end(peer, number)
        self.assertEqual([message.number for message in stream], [0, 1])
        with self.assertRaises(ValueError):
            stream.send(StreamRequest())

    def test_messages_both_ways_and_two_ends(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        for i in range(3):
            self.assertTrue(stream.send(Data(number=i)))
            self.assertEqual(peer.receive(), (number, (frame.MESSAGE, None, Data(number=i).SerializeToString())))
            self.send(peer, number, Data(number=i))
            self.assertEqual(next(stream).number, i)
        stream.end()
        stream.end()
        self.assertEqual(peer.receive(), (number, (frame.END, None, b"")))
        self.assertFalse(stream.done())
        self.end(peer, number)
        self.assertEqual(list(stream), [])
        self.assertTrue(stream.done())
        self.assertFalse(stream.cancel())
        self.assert_works(channel, peer)

    def test_no_messages(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.end(peer, number)
        self.assertEqual(list(stream), [])
        self.assertEqual(list(stream), [])

    def test_after_the_servers_end_nothing_is_sent(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.end(peer, number)
        wait_until(stream.done, "the end")
        self.assertFalse(stream.send(Data()))
        stream.end()
        self.assert_works(channel, peer)

    def test_messages_of_another_type_are_not_sent(self):
        channel, peer = self.connect()
        stream, _ = self.open(channel, peer)
        with self.assertRaises(TypeError):
            stream.send(StreamRequest())

    def test_a_message_too_large_for_any_server_leaves_the_stream_whole(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        with self.assertRaises(RpcError) as raised:
            stream.send(sized(frame.MESSAGE_MAX_BYTES))
        self.assertEqual(raised.exception.name, "RESOURCE_EXHAUSTED")
        stream.send(Data(number=1))
        self.assertEqual(peer.receive()[0], number)

    def test_streams_and_calls_interleave(self):
        channel, peer = self.connect()
        opened = [self.open(channel, peer) for _ in range(3)]
        for i in range(10):
            for stream, number in opened:
                self.send(peer, number, Data(number=number + i))
            self.assert_works(channel, peer)
        for stream, number in reversed(opened):
            self.end(peer, number)
            self.assertEqual([message.number for message in stream], list(range(number, number + 10)))


class Ends(StreamTestCase):
    def test_messages_come_before_the_error_that_follows_them(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.send(peer, number, Data(number=1), Data(number=2))
        self.end(peer, number, rpc_pb2.CANCELLED, message="as asked")
        wait_until(stream.done, "the end")
        self.assertEqual([next(stream).number for _ in range(2)], [1, 2])
        self.assert_ends(stream, "CANCELLED", "as asked")
        self.assert_ends(stream, "CANCELLED", "as asked")

    def test_metadata_of_the_first_message_belongs_to_the_error_too(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        header = rpc_pb2.ResponseHeader(metadata=[rpc_pb2.Metadata(key="k", value=b"v")])
        peer.send(number, header, Data(number=1).SerializeToString(), frame.MESSAGE)
        next(stream)
        self.assertEqual(stream.metadata, [("k", b"v")])
        self.end(peer, number, 99, message="new")
        error = self.assert_ends(stream, "UNKNOWN")
        self.assertEqual((error.code, error.metadata), (99, [("k", b"v")]))

    def test_metadata_of_the_end(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.end(peer, number, rpc_pb2.NOT_FOUND, message="none", metadata=[rpc_pb2.Metadata(key="k", value=b"v")])
        self.assertEqual(self.assert_ends(stream, "NOT_FOUND").metadata, [("k", b"v")])
        self.assertEqual(stream.metadata, [("k", b"v")])

    def test_an_old_server_streams_nothing(self):
        channel, peer = self.connect(greet=False)
        stream = channel.stream(MIRROR, Data, Data, timeout=LONG_S)
        peer.greet_as_an_old_server()
        number, _ = peer.receive()
        peer.fail(number, rpc_pb2.UNIMPLEMENTED)
        with self.assertRaises(RpcError) as raised:
            next(stream)
        self.assertEqual(raised.exception.name, "UNIMPLEMENTED")
        with self.assertRaises(RpcError) as raised:
            channel.stream(MIRROR, Data, Data)
        self.assertEqual(raised.exception.name, "UNIMPLEMENTED")
        self.assertIn("old", raised.exception.message)

    def test_a_cancel_drops_what_has_come_and_tells_the_server(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.send(peer, number, Data(), Data())
        peer.sync()
        next(stream)
        self.assertTrue(stream.cancel())
        self.assert_cancels(peer, number)
        self.assert_ends(stream, "CANCELLED")
        self.assertFalse(stream.send(Data()))
        self.send(peer, number, Data())
        self.end(peer, number)
        self.assert_works(channel, peer)

    def test_a_cancel_wakes_who_waits(self):
        channel, peer = self.connect()
        stream, _ = self.open(channel, peer)
        stream.send(sized(WINDOW))
        sender = Background(lambda: stream.send(Data()))
        reader = Background(lambda: self.assert_ends(stream, "CANCELLED"))
        stream.cancel()
        self.assertFalse(sender.result())
        self.assertTrue(reader.result())

    def test_a_passed_deadline_ends_the_stream_and_wakes_who_waits(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer, timeout=limit(0.2))
        self.send(peer, number, Data(number=1))
        stream.send(sized(WINDOW))
        self.assertFalse(stream.send(Data()))
        peer.receive()
        self.assert_cancels(peer, number)
        self.assertEqual(next(stream).number, 1)
        self.assert_ends(stream, "DEADLINE_EXCEEDED")

    def test_a_lost_connection_ends_the_stream(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.send(peer, number, Data(number=1))
        peer.sync()
        peer.close()
        self.assertEqual(next(stream).number, 1)
        self.assert_ends(stream, "UNAVAILABLE")

    def test_streams_in_flight_end_after_going_away(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        peer.control(going_away=rpc_pb2.GoingAway())
        peer.sync()
        with self.assertRaises(RpcError) as raised:
            channel.stream(MIRROR, Data, Data)
        self.assertEqual((raised.exception.name, raised.exception.reason), ("UNAVAILABLE", "NOT_EXECUTED"))
        stream.send(Data(number=1))
        self.assertEqual(peer.receive()[0], number)
        self.send(peer, number, Data(number=1))
        self.end(peer, number)
        self.assertEqual([message.number for message in stream], [1])

    def test_leaving_the_with_gives_up(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        with stream:
            pass
        self.assert_cancels(peer, number)

    def test_dropping_the_stream_gives_up(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.send(peer, number, Data(), Data())
        for _ in stream:
            break
        del stream, _
        gc.collect()
        self.assert_cancels(peer, number)


class Results(StreamTestCase):
    def upload(self, *responses, code=rpc_pb2.OK):
        channel, peer = self.connect()
        stream = channel.stream("a.B/C", Data, UploadResponse, timeout=LONG_S)
        number, _ = peer.receive()
        self.send(peer, number, *responses)
        self.end(peer, number, code)
        return stream

    def test_the_only_response(self):
        stream = self.upload(UploadResponse(messages=3))
        self.assertEqual(stream.result().messages, 3)
        self.assertEqual(stream.result().messages, 3)

    def test_none_and_two_are_errors_of_the_server(self):
        for responses in ([], [UploadResponse()] * 2):
            with self.assertRaises(RpcError) as raised:
                self.upload(*responses).result()
            self.assertEqual(raised.exception.name, "INTERNAL")

    def test_an_error(self):
        with self.assertRaises(RpcError) as raised:
            self.upload(code=rpc_pb2.ABORTED).result()
        self.assertEqual(raised.exception.name, "ABORTED")
        with self.assertRaises(RpcError) as raised:
            self.upload(UploadResponse(), code=rpc_pb2.ABORTED).result()
        self.assertEqual(raised.exception.name, "ABORTED")

    def test_it_ends_this_side(self):
        channel, peer = self.connect()
        stream = channel.stream("a.B/C", Data, UploadResponse, timeout=LONG_S)
        peer.receive()
        waiting = Background(stream.result)
        number, received = peer.receive()
        self.assertEqual(received.flags, frame.END)
        self.send(peer, number, UploadResponse(messages=0))
        self.end(peer, number)
        self.assertEqual(waiting.result(), UploadResponse())


class Credit(StreamTestCase):
    def test_a_sender_goes_on_while_its_credit_is_above_0(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        stream.send(sized(WINDOW - COST - 1))  # leaves 1
        stream.send(sized(100_000))  # leaves much less than 0
        waiting = Background(lambda: stream.send(Data(number=3)))
        for _ in range(2):
            peer.receive()
        peer.sync()
        self.assertFalse(waiting.is_done())
        owed = 100_000 + COST - 1
        peer.send(number, rpc_pb2.Credit(bytes=owed), b"", frame.CREDIT)  # 0 is not above 0
        peer.sync()
        self.assertFalse(waiting.is_done())
        peer.send(number, rpc_pb2.Credit(bytes=1), b"", frame.CREDIT)
        self.assertTrue(waiting.result())
        self.assertEqual(Data.FromString(peer.receive()[1].message).number, 3)

    def test_empty_messages_are_not_free(self):
        channel, peer = self.connect()
        stream, _ = self.open(channel, peer)
        for _ in range(WINDOW // COST):
            stream.send(Data())
            self.assertEqual(peer.receive()[1].message, b"")
        waiting = Background(lambda: stream.send(Data()))
        peer.sync()
        self.assertFalse(waiting.is_done())
        stream.cancel()
        self.assertFalse(waiting.result())

    def test_a_sender_without_credit_may_end(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        stream.send(sized(WINDOW))
        stream.end()
        peer.receive()
        self.assertEqual(peer.receive(), (number, (frame.END, None, b"")))

    def test_more_credit_than_can_be_is_refused(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        peer.send(number, rpc_pb2.Credit(bytes=2 ** 31 - WINDOW), b"", frame.CREDIT)
        self.assert_ends(stream, "INTERNAL", "credit")
        self.assert_cancels(peer, number)

    def test_credit_comes_back_as_messages_are_taken_out(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        size = 50_000
        may_send, sent, taken_out = WINDOW, 0, 0
        for _ in range(20):
            while may_send > 0:
                self.send(peer, number, sized(size))
                may_send -= size + COST
                sent += 1
            peer.sync()  # nothing was given back for what has not been taken out
            while may_send <= 0:
                next(stream)
                taken_out += 1
                if taken_out * (size + COST) - (sent * (size + COST) + may_send - WINDOW) >= WINDOW // 2:
                    credited, received = peer.receive()
                    self.assertEqual((credited, received.flags), (number, frame.CREDIT))
                    may_send += received.header.bytes
        self.assertLessEqual(sent * (size + COST) + may_send - WINDOW, taken_out * (size + COST))

    def test_a_server_without_credit_has_its_call_ended(self):
        channel, peer = self.connect()
        stream, number = self.open(channel, peer)
        self.send(peer, number, sized(WINDOW - COST), Data(number=1))
        self.assert_cancels(peer, number)
        next(stream)
        self.assert_ends(stream, "INTERNAL", "credit")
        self.assert_works(channel, peer)

    def test_a_reader_that_stops_delays_nobody(self):
        channel, peer = self.connect()
        _stream, number = self.open(channel, peer)
        self.send(peer, number, sized(WINDOW - COST - 1), sized(8_000_000))
        other, other_number = self.open(channel, peer)
        self.send(peer, other_number, Data(number=1))
        self.assertEqual(next(other).number, 1)
        self.assert_works(channel, peer)


class Malformed(StreamTestCase):
    def test_frames_that_cannot_be_read_end_their_stream_only(self):
        channel, peer = self.connect()
        whole = frame.encode(rpc_pb2.ResponseHeader(code=5, message="none"), b"", frame.END)
        answers = [whole[:size] for size in range(len(whole))]
        # Flags 0 are among them: a reply of OK cannot end a stream.
        answers += [bytes([1, flags, 0, 0]) for flags in range(256)
                    if flags not in (frame.MESSAGE, frame.END, frame.CREDIT)]
        answers += [b"\x02\2\0\0", b"\x01\2\xff\xff", b"\x01\x10\0\1\xff", b"\x01\4\0\0x"]
        for answer in answers:
            with self.subTest(answer.hex()):
                stream, number = self.open(channel, peer)
                peer.send_raw(number, answer)
                self.assert_ends(stream, "INTERNAL", "cannot be read")
                self.assert_cancels(peer, number)
        self.assert_works(channel, peer)

    def test_a_message_that_does_not_decode(self):
        channel, peer = self.connect()
        for data in (b"\xff", b"\x12\x05cut", b"\x12"):
            stream, number = self.open(channel, peer)
            peer.send(number, None, data, frame.MESSAGE)
            self.assert_ends(stream, "INTERNAL", "cannot be read")
            self.assert_cancels(peer, number)
            self.assert_ends(stream, "INTERNAL")

    def test_a_server_that_never_answers(self):
        channel, peer = self.connect(keepalive=0.05)
        stream, _ = self.open(channel, peer)
        begin = time.monotonic()
        self.assert_ends(stream, "UNAVAILABLE", "dead")
        self.assertGreaterEqual(time.monotonic() - begin, 0.05)


del ChannelTestCase, StreamTestCase  # they are no tests

if __name__ == "__main__":
    unittest.main()
