"""What the protocol promises, asked of the conformance server (tests/proto/fc/test/v1/conformance.proto): one test for
each promise, over http:// and over https://.

FC_CONFORMANCE_SERVER is the path of the server; ctest sets it.
"""
import concurrent.futures
import itertools
import os
import queue
import shutil
import struct
import subprocess
import tempfile
import threading
import unittest

import websocket

from fc.rpc.v1 import rpc_pb2
from fc.test.v1 import conformance_pb2
from fc_client import Channel, RpcError, Stub, Trust, frame
from fc_client.transport import open_websocket
from fcd_process import check_report, clean_environment, limit, wait_until

SERVICE = conformance_pb2.DESCRIPTOR.services_by_name["Conformance"]
PREFIX = "fc.test.v1.Conformance/"
TOKEN, USER_NAME = "fct_conformance", "conformance"
Data = conformance_pb2.ConformanceData
Nothing = conformance_pb2.ConformanceNothing

LONG_S = limit(60)  # for calls that are not meant to time out
NEVER_MS = 60_000  # how long a sleeper sleeps that is not meant to wake up

# Of the server: what Echo takes, and what the other methods take.
ECHO_MAX_BYTES = 4 * 1024 * 1024
REQUEST_MAX_BYTES = 256 * 1024
WINDOW, COST = frame.STREAM_CREDIT_BYTES, frame.STREAM_MESSAGE_COST_BYTES

_labels = itertools.count()


def new_label():
    """What nobody else has counted under."""
    return f"label-{os.getpid()}-{next(_labels)}"


def sized(size):
    """A message that is encoded in exactly so many bytes."""
    message = Data(data=bytes(size))
    message.data = bytes(size - (message.ByteSize() - size))
    assert message.ByteSize() == size
    return message


class Server:
    """A conformance server with a listener for each scheme: urls["http"], urls["https"]."""

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="fc-conformance-")
        self._stderr_path = os.path.join(self._folder, "stderr")
        with open(self._stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                [os.environ["FC_CONFORMANCE_SERVER"], "--tls-dir", self._folder, "http://127.0.0.1:0",
                 "https://127.0.0.1:0"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=clean_environment())
        lines = queue.SimpleQueue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        words = lines.get(timeout=limit(20)).decode().split()
        if words[:1] != ["ready"] or len(words) != 3:
            self.process.kill()
            raise AssertionError(f"the server said {words} instead of ready\n{self.stderr()}")
        self.urls = {url.partition(":")[0]: url for url in words[1:]}
        self.trust = Trust(ca=os.path.join(self._folder, "cert.pem"))

    def stderr(self):
        with open(self._stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        """Tells it to end, and does not wait."""
        self.process.stdin.close()

    def close(self):
        """It ends by itself when its input does, with 0."""
        try:
            self.end()
            code = self.process.wait(limit(30))
            check_report("conformance_server", self.stderr())
            if code != 0:
                raise AssertionError(f"the server ended with {code}\n{self.stderr()}")
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            shutil.rmtree(self._folder, ignore_errors=True)


class Raw:
    """A connection of bytes, for what the client would not send. A context manager."""

    NUMBER = 0x8000_0007

    def __init__(self, server, scheme):
        self._socket = open_websocket(server.urls[scheme], "/rpc", "rep.sp.nanomsg.org", server.trust)
        self._socket.settimeout(limit(20))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._socket.shutdown()

    def send(self, data, number=NUMBER):
        self._socket.send_binary(struct.pack(">I", number) + data)

    def receive(self):
        """(request id, frame)."""
        data = self._socket.recv()
        return struct.unpack_from(">I", data)[0], frame.decode_from_server(data[4:])

    def close_code(self):
        """With which the server has closed."""
        opcode, data = self._socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE, opcode
        return int.from_bytes(data[:2], "big")

    def status(self, data, number=NUMBER):
        """The header of the answer to a frame, which has to be the next to come."""
        self.send(data, number)
        answered, received = self.receive()
        if answered != number or received.flags not in (0, frame.END):
            raise AssertionError(f"{received} of {answered:#x} instead of a status")
        return received.header

    def code(self, data):
        """The name of its code."""
        return rpc_pb2.Code.Name(self.status(data).code)

    def still_works(self):
        """Whether a call goes through, and nothing else came."""
        number = self.NUMBER + 1
        return self.status(call_frame("Empty"), number).code == rpc_pb2.OK


def call_frame(method, message=b"", flags=0, **header):
    return frame.encode(rpc_pb2.RequestHeader(method=PREFIX + method, **header), message, flags)


class ConformanceTests:
    """The promises. scheme says over what."""

    scheme = ""

    def channel(self, **options):
        channel = Channel(server.urls[self.scheme], trust=server.trust, **options)
        self.addCleanup(channel.close)
        return channel

    def stub(self, **options):
        return Stub(self.channel(**options), SERVICE)

    def raw(self):
        connection = Raw(server, self.scheme)
        self.addCleanup(connection.__exit__)
        return connection

    def error_of(self, call, code=None):
        """The error that a call, a stream or something callable ends with."""
        with self.assertRaises(RpcError) as raised:
            if callable(call):
                call()
            elif isinstance(call, concurrent.futures.Future):
                call.result(LONG_S)
            else:
                next(call)
        if code is not None:
            self.assertEqual(raised.exception.name, code, raised.exception)
        return raised.exception

    def assert_works(self, stub):
        self.assertEqual(stub.Empty(timeout=LONG_S), Nothing())

    def wait_for_sleepers(self, stub, label, started=None):
        """Until as many have begun as are expected; or, without a number, until all that did have given up."""
        def is_so():
            sleepers = stub.Sleepers(label=label, timeout=LONG_S)
            return sleepers.started == started if started is not None else sleepers.started == sleepers.gave_up
        wait_until(is_so, f"the sleepers of {label}", 20)

    # Sizes

    def test_a_call_without_a_byte(self):
        self.assert_works(self.stub())

    def test_a_large_request_and_a_large_response(self):
        stub = self.stub()
        up = os.urandom(271_828)
        self.assertEqual(stub.Echo(number=2 ** 64 - 1, text="e", data=up, timeout=LONG_S),
                         Data(number=2 ** 64 - 1, text="e", data=up))
        self.assertEqual(len(stub.Sized(size=314_159, timeout=LONG_S).data), 314_159)

    def test_requests_around_their_limits(self):
        channel = self.channel()
        for method, most in (("Echo", ECHO_MAX_BYTES), ("Empty", REQUEST_MAX_BYTES)):
            for size in (most - 1, most):
                channel.call(PREFIX + method, sized(size), Data, timeout=LONG_S)
            self.error_of(channel.start(PREFIX + method, sized(most + 1), Data, timeout=LONG_S), "RESOURCE_EXHAUSTED")
            self.assert_works(Stub(channel, SERVICE))

    def test_responses_around_the_largest_message(self):
        stub = self.stub()
        # Request id, prefix, no header, tag and length of the field.
        most = frame.MESSAGE_MAX_BYTES - 4 - 4 - 0 - 1 - 4
        for size in (most - 1, most):
            self.assertEqual(len(stub.Sized(size=size, timeout=LONG_S).data), size)
        self.error_of(lambda: stub.Sized(size=most + 1, timeout=LONG_S))
        self.assert_works(stub)

    def test_messages_around_the_largest(self):
        raw = self.raw()
        whole = call_frame("Echo")
        filler = bytes(frame.MESSAGE_MAX_BYTES - 4 - len(whole))
        self.assertEqual(raw.code(whole + filler), "RESOURCE_EXHAUSTED")
        self.assertTrue(raw.still_works())
        raw.send(whole + filler + b"\0")
        self.assertEqual(raw.close_code(), 1009)

    def test_headers_around_their_limit(self):
        raw = self.raw()
        whole = rpc_pb2.RequestHeader(method=PREFIX + "Empty").SerializeToString()
        for size, code in ((frame.HEADER_MAX_BYTES, "OK"), (frame.HEADER_MAX_BYTES + 1, "RESOURCE_EXHAUSTED")):
            filler = size - len(whole) - 4  # an unknown field 15, with its tag and a length of 2 bytes and one more
            unknown = b"\x7a" + bytes([filler & 0x7f | 0x80, filler >> 7 & 0x7f | 0x80, filler >> 14]) + bytes(filler)
            header = whole + unknown
            self.assertEqual(len(header), size)
            self.assertEqual(raw.code(struct.pack(">BBH", 1, 0, size) + header), code)

    # Many at once

    def test_a_thousand_calls_at_once_get_their_own_answers(self):
        stub = self.stub()
        requests = [Data(number=i, text=f"call {i}", data=struct.pack(">I", i) * 5000) for i in range(1000)]
        calls = [stub.Echo.start(request, timeout=LONG_S) for request in requests]
        for request, call in zip(requests, calls):
            self.assertEqual(call.result(), request)

    # Errors

    def test_every_code_with_what_belongs_to_it(self):
        stub = self.stub()
        for code in (*range(1, 17), 99):
            error = self.error_of(lambda: stub.Fail(code=code, message=f"code {code}", reason=f"REASON_{code}",
                                                    retry_after_ms=code * 100, timeout=LONG_S))
            self.assertEqual((error.code, error.message, error.reason, error.retry_after_ms),
                             (code, f"code {code}", f"REASON_{code}", code * 100))
            self.assertEqual(error.name, rpc_pb2.Code.Name(code) if code < 17 else "UNKNOWN")

    def test_messages_of_errors_arrive_as_they_are(self):
        stub = self.stub()
        for message in ("", "käse, 鍵, \U0001f511", "\"quotes\" and 'quotes'", "two\nlines\r\n\ttab", "x" * 8192,
                        "ü" * 4096):
            self.assertEqual(self.error_of(lambda: stub.Fail(code=9, message=message, timeout=LONG_S)).message, message)

    def test_an_unknown_method_and_an_unknown_service_differ(self):
        channel = self.channel()
        errors = [self.error_of(channel.start(name, Nothing(), Nothing, timeout=LONG_S), "UNIMPLEMENTED")
                  for name in (PREFIX + "Fly", "fc.test.v1.Chess/Empty")]
        self.assertNotEqual(errors[0].message, errors[1].message)
        self.assert_works(Stub(channel, SERVICE))

    def test_a_token_is_asked_for_and_known(self):
        self.assertEqual(self.stub(token=TOKEN).WhoAmI(timeout=LONG_S).name, USER_NAME)
        for token in ("", "fct_wrong", TOKEN + "x", TOKEN[:-1], "x" * 128):
            stub = self.stub(token=token)
            self.error_of(lambda: stub.WhoAmI(timeout=LONG_S), "UNAUTHENTICATED")

    # Metadata

    PAIRS = [("text", "grün".encode()), ("bytes", b"\xab" * 3), ("empty", b""), ("zeros", bytes(5)), ("a-_.9", b"1"),
             ("text", b"again"), ("a-_.9", b"2"), ("z" * 64, b"3")]

    def test_metadata_of_a_success(self):
        for pairs in (self.PAIRS, [], [("a", b"")] * 32, [("a", bytes(8191))]):
            call = self.stub().Metadata.start(metadata=pairs, timeout=LONG_S)
            self.assertEqual([(pair.key, pair.value) for pair in call.result().pairs], pairs)
            self.assertEqual(call.metadata, pairs)

    def test_metadata_of_an_error(self):
        error = self.error_of(lambda: self.stub().Metadata(fails=True, metadata=self.PAIRS, timeout=LONG_S))
        self.assertEqual(error.metadata, self.PAIRS)

    def test_metadata_over_its_limits(self):
        raw = self.raw()
        for pairs, code in ((33 * [("a", b"")], "RESOURCE_EXHAUSTED"), ([("a", bytes(8192))], "RESOURCE_EXHAUSTED"),
                            ([("fc-x", b"")], "INVALID_ARGUMENT"), ([("A", b"")], "INVALID_ARGUMENT"),
                            ([("", b"")], "INVALID_ARGUMENT"), ([("a" * 65, b"")], "INVALID_ARGUMENT")):
            metadata = [rpc_pb2.Metadata(key=key, value=value) for key, value in pairs]
            with self.subTest(pairs[0][0], code=code):
                self.assertEqual(raw.code(call_frame("Metadata", metadata=metadata)), code)
        self.assertTrue(raw.still_works())

    # Deadlines

    def test_a_passed_deadline_ends_the_call_at_both_ends(self):
        stub, label = self.stub(), new_label()
        self.error_of(lambda: stub.Sleep(delay_ms=NEVER_MS, label=label, timeout=0.05), "DEADLINE_EXCEEDED")
        self.wait_for_sleepers(stub, label)

    def test_the_server_keeps_the_deadline_by_itself(self):
        raw, stub, label = self.raw(), self.stub(), new_label()
        request = conformance_pb2.SleepRequest(delay_ms=NEVER_MS, label=label).SerializeToString()
        self.assertEqual(raw.code(call_frame("Sleep", request, timeout_ms=50)), "DEADLINE_EXCEEDED")
        self.wait_for_sleepers(stub, label)

    def test_two_thousand_deadlines_at_once(self):
        stubs, label = [self.stub(), self.stub()], new_label()
        calls = [stub.Sleep.start(delay_ms=NEVER_MS, label=label, timeout=limit(0.2))
                 for _ in range(1000) for stub in stubs]
        for call in calls:
            self.error_of(call, "DEADLINE_EXCEEDED")
        for stub in stubs:
            self.wait_for_sleepers(stub, label)
            self.assert_works(stub)

    def test_the_time_left_is_what_was_given(self):
        stub = self.stub()
        for timeout in (20, 45):
            left_ms = stub.TimeLeft(timeout=timeout).ms
            self.assertLessEqual(left_ms, timeout * 1000)
            self.assertGreater(left_ms, timeout * 1000 - limit(10) * 1000)
        raw = self.raw()
        for given_ms, most_ms in ((0, 30_000), (2 ** 32 - 1, 3_600_000)):
            raw.send(call_frame("TimeLeft", timeout_ms=given_ms))
            left_ms = conformance_pb2.TimeLeftResponse.FromString(raw.receive()[1].message).ms
            self.assertLessEqual(left_ms, most_ms)
            self.assertGreater(left_ms, most_ms - limit(10) * 1000)

    # Cancels

    def test_cancels_of_calls_that_wait_to_be_sent(self):
        stub, label = self.stub(), new_label()
        calls = [stub.Sleep.start(delay_ms=NEVER_MS, label=label, timeout=LONG_S) for _ in range(500)]
        for call in reversed(calls):
            self.assertTrue(call.cancel())
        for call in calls:
            self.error_of(call, "CANCELLED")
        self.wait_for_sleepers(stub, label)
        self.assert_works(stub)

    def test_a_cancel_of_a_call_at_work(self):
        stub, label = self.stub(), new_label()
        call = stub.Sleep.start(delay_ms=NEVER_MS, label=label, timeout=LONG_S)
        self.wait_for_sleepers(stub, label, started=1)
        self.assertTrue(call.cancel())
        self.error_of(call, "CANCELLED")
        self.wait_for_sleepers(stub, label)

    def test_a_closed_connection_cancels_its_calls(self):
        stub, channel, label = self.stub(), self.channel(), new_label()
        Stub(channel, SERVICE).Sleep.start(delay_ms=NEVER_MS, label=label, timeout=LONG_S)
        self.wait_for_sleepers(stub, label, started=1)
        channel.close()
        self.wait_for_sleepers(stub, label)

    def test_a_late_reply_reaches_no_other_call(self):
        stub = self.stub()
        for i in range(300):
            late = stub.Sleep.start(delay_ms=i % 3, timeout=LONG_S)
            calls = [stub.Echo.start(number=j, timeout=LONG_S) for j in (2 * i, 2 * i + 1)]
            late.cancel()
            self.assertEqual([call.result().number for call in calls], [2 * i, 2 * i + 1])

    def test_a_cancel_after_the_first_message(self):
        stub = self.stub()
        with stub.Stream(count=10_000, size=1000, gap_ms=1, timeout=LONG_S) as stream:
            self.assertEqual(next(stream).number, 0)
            self.assertTrue(stream.cancel())
            self.error_of(stream, "CANCELLED")
        self.assert_works(stub)

    def test_after_a_cancel_nothing_comes_back(self):
        raw = self.raw()
        request = conformance_pb2.StreamRequest(count=100_000, gap_ms=1).SerializeToString()
        sleep = conformance_pb2.SleepRequest(delay_ms=20).SerializeToString()
        raw.send(call_frame("Stream", request, 0x07))
        self.assertEqual(raw.receive()[1].flags, frame.MESSAGE)
        raw.send(frame.encode(None, b"", frame.CANCEL))
        raw.send(call_frame("Empty"), 0x8000_0008)
        while raw.receive()[0] != 0x8000_0008:
            pass  # was on its way
        raw.send(call_frame("Sleep", sleep), 0x8000_0009)
        self.assertEqual(raw.receive()[0], 0x8000_0009)

    # At most once

    def test_one_request_id_executes_once(self):
        stubs, label, request_id = [self.stub(token=TOKEN), self.stub(token=TOKEN)], new_label(), os.urandom(16)
        options = {"label": label, "request_id": request_id, "timeout": LONG_S}
        calls = [stub.Count.start(delay_ms=100, **options) for stub in stubs * 5]
        self.assertEqual([call.result().executions for call in calls], [1] * 10)
        self.assertEqual(stubs[0].Count(delay_ms=100, **options).executions, 1)
        self.assertEqual(stubs[0].CountOf(label=label, timeout=LONG_S).executions, 1)

    def test_other_request_ids_are_other_executions(self):
        stub, label = self.stub(token=TOKEN), new_label()
        self.assertEqual([stub.Count(label=label, timeout=LONG_S).executions for _ in range(3)], [1, 2, 3])
        self.assertEqual(stub.CountOf(label=label, timeout=LONG_S).executions, 3)

    # Streams

    def test_messages_of_different_sizes_in_order(self):
        sizes = [0, 1, 200_000, 30]
        sent = [Data(number=i, data=os.urandom(size)) for i, size in enumerate(sizes)]
        self.assertEqual(list(self.stub().Mirror(sent, timeout=LONG_S)), sent)

    def test_a_stream_of_responses(self):
        stub = self.stub()
        for count, size in ((4, 1000), (0, 0), (3, 1_000_000), (3000, 1000), (10_000, 0)):
            received = [(item.number, len(item.data)) for item in stub.Stream(count=count, size=size, timeout=LONG_S)]
            self.assertEqual(received, [(i, size) for i in range(count)])

    def test_a_stream_of_requests(self):
        stub = self.stub()
        for count, size in ((4, 1000), (0, 0), (3, 200_000), (3000, 1000), (10_000, 0)):
            response = stub.Upload((Data(data=bytes(size)) for _ in range(count)), timeout=LONG_S)
            self.assertEqual((response.messages, response.bytes), (count, count * size))

    def test_a_stream_of_nothing_both_ways(self):
        self.assertEqual(list(self.stub().Mirror([], timeout=LONG_S)), [])

    def test_the_server_goes_on_after_the_clients_end(self):
        with self.stub().Mirror.start(timeout=LONG_S) as stream:
            for i in range(2):
                stream.send(Data(number=i))
            self.assertEqual(next(stream).number, 0)
            stream.end()
            self.assertEqual([item.number for item in stream], [1])

    def test_messages_come_before_the_error_after_them(self):
        stub = self.stub()
        for code in ("NOT_FOUND", "INTERNAL"):
            stream = stub.Stream(count=2, size=100_000, code=rpc_pb2.Code.Value(code), timeout=LONG_S)
            self.assertEqual([next(stream).number for _ in range(2)], [0, 1])
            self.error_of(stream, code)

    def test_a_deadline_holds_for_the_whole_stream(self):
        stream = self.stub().Stream(count=10_000, gap_ms=20, timeout=limit(0.3))
        self.assertEqual(next(stream).number, 0)
        with self.assertRaises(RpcError) as raised:
            for _ in stream:
                pass
        self.assertEqual(raised.exception.name, "DEADLINE_EXCEEDED")

    def test_a_message_over_the_limit_ends_its_stream(self):
        stub = self.stub()
        with stub.Upload.start(timeout=LONG_S) as stream:
            stream.send(sized(REQUEST_MAX_BYTES + 1))
            self.error_of(stream, "RESOURCE_EXHAUSTED")
            self.assertFalse(stream.send(Data()))
        self.assert_works(stub)

    def sender(self, stream, size):
        """Sends without an end on a thread of its own: a list that grows with every message that was taken."""
        sent = []

        def send():
            while stream.send(Data(number=len(sent), data=bytes(size))):
                sent.append(len(sent))

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        return sent, thread

    def test_a_reader_that_takes_nothing_stops_its_sender_only(self):
        stub = self.stub()
        size = 10_000
        cost = Data(number=1, data=bytes(size)).ByteSize() + COST
        with stub.Stall.start(timeout=LONG_S) as stream:
            sent, thread = self.sender(stream, size)
            window = -(-WINDOW // cost)  # while the credit is above 0
            wait_until(lambda: len(sent) >= window, "the sender to use its credit", 20)
            for i in range(100):
                self.assertEqual(stub.Echo(number=i, timeout=LONG_S).number, i)
            self.assertEqual(len(list(stub.Stream(count=100, size=size, timeout=LONG_S))), 100)
            self.assertEqual(len(sent), window)
            stream.cancel()
            thread.join(limit(20))
            self.assertFalse(thread.is_alive())

    def test_a_client_that_takes_nothing_stops_its_server_and_loses_nothing(self):
        stub = self.stub()
        size = 10_000
        with stub.Mirror.start(timeout=LONG_S) as stream:
            sent, thread = self.sender(stream, size)
            window = WINDOW // (size + COST)
            wait_until(lambda: len(sent) > window, "the server to take messages out", 20)
            for i in range(100):
                self.assertEqual(stub.Echo(number=i, timeout=LONG_S).number, i)
            self.assertLess(len(sent), 4 * window)
            for i in range(500):  # now it is read again
                self.assertEqual(next(stream).number, i)
            stream.cancel()
            thread.join(limit(20))
            self.assertFalse(thread.is_alive())
        self.assert_works(stub)

    def test_a_sender_without_credit_has_its_call_ended(self):
        raw = self.raw()
        raw.send(call_frame("Stall", flags=frame.OPEN))
        for _ in range(2):
            raw.send(frame.encode(None, sized(200_000).SerializeToString(), frame.MESSAGE))
        self.assertEqual(raw.code(frame.encode(None, b"", frame.MESSAGE)), "INVALID_ARGUMENT")
        self.assertTrue(raw.still_works())

    def test_many_streams_at_once(self):
        stub = self.stub()
        sent = [Data(number=i, data=bytes(3000)) for i in range(20)]
        streams = [stub.Mirror(sent, timeout=LONG_S) for _ in range(50)]
        for stream in streams:
            self.assertEqual(list(stream), sent)

    # Calls of the wrong kind

    def test_a_method_that_streams_says_so_to_a_call_without_flags(self):
        raw = self.raw()
        for method in ("Stream", "Upload", "Mirror", "Stall"):
            status = raw.status(call_frame(method))
            self.assertEqual(status.code, rpc_pb2.UNIMPLEMENTED)
            self.assertRegex(status.message, "stream")
        self.assertTrue(raw.still_works())

    def test_a_method_that_does_not_stream_refuses_open(self):
        raw = self.raw()
        for flags in (0x01, 0x03, 0x05, 0x07):
            self.assertEqual(raw.code(call_frame("Empty", flags=flags)), "UNIMPLEMENTED")
        self.assertTrue(raw.still_works())

    # The connection

    def test_hello_ping_and_pong(self):
        raw = self.raw()
        for said, kind in ((rpc_pb2.Control(hello=rpc_pb2.Hello(max_message_bytes=frame.MESSAGE_MAX_BYTES)), "hello"),
                           (rpc_pb2.Control(ping=rpc_pb2.Ping(number=2 ** 64 - 1)), "pong")):
            raw.send(frame.encode(said, b"", frame.CONTROL), frame.CONTROL_NUMBER)
            number, received = raw.receive()
            self.assertEqual((number, received.flags, received.header.WhichOneof("kind")),
                             (frame.CONTROL_NUMBER, frame.CONTROL, kind))
            if kind == "hello":
                self.assertEqual(received.header.hello.max_message_bytes, frame.MESSAGE_MAX_BYTES)
            else:
                self.assertEqual(received.header.pong.number, 2 ** 64 - 1)

    def test_the_channel_learns_that_the_server_takes_flags(self):
        channel = self.channel()
        self.assert_works(Stub(channel, SERVICE))
        wait_until(lambda: channel.takes_flags, "the answer to Hello")

    def test_a_long_call_outlasts_the_keepalive(self):
        stub = self.stub(keepalive=limit(0.2))
        stub.Sleep(delay_ms=round(limit(1) * 1000), timeout=LONG_S)

    # Versions

    def test_unknown_fields_are_ignored(self):
        raw = self.raw()
        unknown = b"\xa2\x06\x03new\x9d\x06\0\0\0\0\x90\x06\x01\x99\x06" + bytes(8)  # fields 100, 99, 98 and 99 again
        header = rpc_pb2.RequestHeader(method=PREFIX + "Echo").SerializeToString() + unknown
        message = Data(number=5).SerializeToString() + unknown
        raw.send(struct.pack(">BBH", 1, 0, len(header)) + header + message)
        received = raw.receive()[1]
        self.assertEqual((received.header.code, Data.FromString(received.message).number), (rpc_pb2.OK, 5))

    def test_another_version_of_the_frame_is_refused(self):
        raw = self.raw()
        for version in (0, 2, 255):
            self.assertEqual(raw.code(bytes([version]) + call_frame("Empty")[1:]), "UNIMPLEMENTED")
        self.assertTrue(raw.still_works())

    def test_unknown_flags_are_refused(self):
        raw = self.raw()
        for flags in (0x40, 0x80, 0xc0, 0x47, 0xff):
            self.assertNotEqual(raw.code(call_frame("Empty", flags=flags)), "OK")
        self.assertTrue(raw.still_works())

    # What cannot be read

    def test_bad_messages_are_refused(self):
        raw = self.raw()
        cut = Data(text="hello").SerializeToString()
        for what, message in {
                "nesting of 10,000": b"\x4b" * 10_000 + b"\x4c" * 10_000, "field number 0": b"\x02\0",
                "text that is not UTF-8": b"\x12\x02\xff\xfe", "U+0000 in text": b"\x12\x03a\0b",
                "cut inside a field": cut[:-1], "another wire type": b"\x0d\0\0\0\0", "no end of a number": b"\x08\xff",
                "a number of 11 bytes": b"\x08" + b"\xff" * 10 + b"\x01"}.items():
            with self.subTest(what):
                self.assertEqual(raw.code(call_frame("Echo", message)), "INVALID_ARGUMENT")
                raw.send(call_frame("Upload", flags=frame.OPEN), 0x8000_0009)
                status = raw.status(frame.encode(None, message, frame.MESSAGE), 0x8000_0009)
                self.assertEqual(status.code, rpc_pb2.INVALID_ARGUMENT)
        self.assertTrue(raw.still_works())

    def test_bad_headers_are_refused(self):
        raw = self.raw()
        whole = call_frame("Empty")
        for size in range(len(whole)):
            self.assertEqual(raw.code(whole[:size]), "INVALID_ARGUMENT", size)
        for header in (b"\xff", b"\x0a\x02\xff\xfe", b"\x02\0", b"\x4b" * 5000 + b"\x4c" * 5000):
            self.assertEqual(raw.code(struct.pack(">BBH", 1, 0, len(header)) + header), "INVALID_ARGUMENT")
        self.assertTrue(raw.still_works())


class Http(ConformanceTests, unittest.TestCase):
    scheme = "http"


class Https(ConformanceTests, unittest.TestCase):
    scheme = "https"


class Shutdown(unittest.TestCase):
    def test_calls_in_flight_are_answered_and_new_ones_refused(self):
        for scheme in ("http", "https"):
            ending = Server()
            try:
                with Channel(ending.urls[scheme], trust=ending.trust) as channel:
                    stub, label = Stub(channel, SERVICE), new_label()
                    call = stub.Sleep.start(delay_ms=round(limit(1) * 1000), label=label, timeout=LONG_S)
                    wait_until(lambda: stub.Sleepers(label=label).started == 1, "the sleeper")
                    ending.end()

                    def is_refused():
                        try:
                            stub.Empty(timeout=LONG_S)
                            return None
                        except RpcError as error:
                            return error

                    error = wait_until(is_refused, "a new call to be refused")
                    self.assertEqual((error.name, error.reason), ("UNAVAILABLE", "NOT_EXECUTED"), error)
                    self.assertEqual(call.result(LONG_S), conformance_pb2.SleepResponse())
            finally:
                ending.close()


server = None


def setUpModule():
    global server  # pylint: disable=global-statement
    server = Server()
    unittest.addModuleCleanup(server.close)


if __name__ == "__main__":
    unittest.main()
