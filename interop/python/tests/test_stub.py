"""Stubs: a line for each kind of method, against a server that the test plays."""
import threading
import unittest

from fc.rpc.v1 import rpc_pb2
from fc.test.v1 import conformance_pb2
from fc_client import RpcError, Stub, frame
from fcd_process import limit
from test_channel import LONG_S, ChannelTestCase

SERVICE = conformance_pb2.DESCRIPTOR.services_by_name["Conformance"]
Data = conformance_pb2.ConformanceData
UploadResponse = conformance_pb2.UploadResponse


class StubTestCase(ChannelTestCase):
    def stub(self):
        channel, peer = self.connect()
        return Stub(channel, SERVICE), peer

    def play(self, action):
        """Has the server play its part on another thread, for calls that block; an error there fails the test.
        Returns what waits for its end."""
        errors = []

        def run():
            try:
                action()
            except BaseException as error:  # pylint: disable=broad-except
                errors.append(error)

        def finish():
            thread.join(limit(20))
            self.assertFalse(thread.is_alive(), "the server's part is not over")
            if errors:
                raise errors[0]

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(finish)
        return finish

    def send(self, peer, number, *messages, code=rpc_pb2.OK):
        """Messages, and the end of the stream."""
        for message in messages:
            peer.send(number, None, message.SerializeToString(), frame.MESSAGE)
        peer.send(number, rpc_pb2.ResponseHeader(code=code), b"", frame.END)

    def receive_messages(self, peer):
        """What the client streams until it ends: (request id, messages)."""
        messages = []
        while True:
            number, received = peer.receive()
            if received.flags & frame.MESSAGE:
                messages.append(Data.FromString(received.message).number)
            if received.flags & frame.END:
                return number, messages


class OneLine(StubTestCase):
    def test_one_request_and_one_response(self):
        stub, peer = self.stub()

        def serve():
            number, received = peer.receive()
            self.assertEqual((received.flags, received.header.method), (0, "fc.test.v1.Conformance/Echo"))
            self.assertEqual(received.header.timeout_ms, round(LONG_S * 1000))
            peer.send(number, None, received.message)

        self.play(serve)
        self.assertEqual(stub.Echo(text="hello", timeout=LONG_S), Data(text="hello"))

    def test_a_stream_of_responses(self):
        stub, peer = self.stub()

        def serve():
            number, received = peer.receive()
            self.assertEqual(received.flags, frame.OPEN | frame.MESSAGE | frame.END)
            count = conformance_pb2.StreamRequest.FromString(received.message).count
            self.send(peer, number, *(Data(number=i) for i in range(count)))

        for arguments in ({"count": 3}, {"request": conformance_pb2.StreamRequest(count=3)}):
            finish = self.play(serve)
            self.assertEqual([item.number for item in stub.Stream(**arguments, timeout=LONG_S)], [0, 1, 2])
            finish()

    def test_a_stream_of_requests(self):
        stub, peer = self.stub()

        def serve():
            number, numbers = self.receive_messages(peer)
            self.send(peer, number, UploadResponse(messages=len(numbers)))

        self.play(serve)
        self.assertEqual(stub.Upload((Data(number=i) for i in range(5)), timeout=LONG_S).messages, 5)

    def test_streams_both_ways(self):
        stub, peer = self.stub()

        def serve():
            number, numbers = self.receive_messages(peer)
            self.send(peer, number, *(Data(number=i) for i in numbers))

        self.play(serve)
        self.assertEqual([item.number for item in stub.Mirror([Data(number=i) for i in (3, 1, 2)], timeout=LONG_S)],
                         [3, 1, 2])


class Asynchronous(StubTestCase):
    def test_one_request_and_one_response(self):
        stub, peer = self.stub()
        call = stub.Echo.start(text="hello", timeout=LONG_S, metadata=[("k", b"v")])
        number, received = peer.receive()
        self.assertEqual(received.header.metadata[0].key, "k")
        peer.reply(number, Data(text="hi"))
        self.assertEqual(call.result(limit(20)).text, "hi")

    def test_a_stream_of_responses(self):
        stub, peer = self.stub()
        stream = stub.Stream.start(count=1, timeout=LONG_S)
        number, _ = peer.receive()
        self.send(peer, number, Data(number=1))
        self.assertEqual([item.number for item in stream], [1])

    def test_a_stream_of_requests_with_messages(self):
        stub, peer = self.stub()
        stream = stub.Upload.start([Data(number=1), Data(number=2)], timeout=LONG_S)
        number, numbers = self.receive_messages(peer)
        self.assertEqual(numbers, [1, 2])
        self.send(peer, number, UploadResponse(messages=2))
        self.assertEqual(stream.result().messages, 2)

    def test_messages_are_sent_by_hand(self):
        stub, peer = self.stub()
        for method in (stub.Upload, stub.Mirror):
            with method.start(timeout=LONG_S) as stream:
                stream.send(Data(number=7))
                stream.end()
                self.assertEqual(self.receive_messages(peer)[1], [7])
            self.assertEqual(peer.receive()[1].flags, frame.CANCEL)


class Failures(StubTestCase):
    def test_what_the_messages_raise_ends_the_call_and_reaches_its_reader(self):
        stub, peer = self.stub()
        arrived = threading.Event()

        def broken():
            yield Data(number=1)
            self.assertTrue(arrived.wait(limit(20)))
            raise KeyError("as asked")

        def serve():
            self.assertEqual([peer.receive()[1].flags for _ in range(2)], [frame.OPEN, frame.MESSAGE])
            arrived.set()
            self.assertEqual(peer.receive()[1].flags, frame.CANCEL)

        for use in (lambda: stub.Upload(broken(), timeout=LONG_S), lambda: list(stub.Mirror(broken(), timeout=LONG_S))):
            arrived.clear()
            finish = self.play(serve)
            with self.assertRaisesRegex(KeyError, "as asked"):
                use()
            finish()

    def test_a_server_that_ends_early_stops_the_messages(self):
        stub, peer = self.stub()
        sent = []

        def endless():
            while True:
                sent.append(len(sent))
                yield Data(data=bytes(1000))

        def serve():
            number, _ = peer.receive()
            for _ in range(20):
                peer.receive()
            self.send(peer, number, code=rpc_pb2.ABORTED)

        self.play(serve)
        with self.assertRaises(RpcError) as raised:
            stub.Upload(endless(), timeout=LONG_S)
        self.assertEqual(raised.exception.name, "ABORTED")
        self.assertLess(len(sent), 1000)

    def test_arguments_that_do_not_fit(self):
        stub, _ = self.stub()
        for wrong in (lambda: stub.Echo(Data(), text="both"), lambda: stub.Stream(Data()),
                      lambda: stub.Upload([], text="x"), lambda: stub.Upload(), lambda: stub.Echo([Data()]),
                      lambda: stub.Mirror.start(text="x")):
            with self.assertRaises(TypeError):
                wrong()
        with self.assertRaises(ValueError):
            stub.Echo(no_such_field=1)


del ChannelTestCase, StubTestCase  # they are no tests

if __name__ == "__main__":
    unittest.main()
