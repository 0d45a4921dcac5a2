"""The client against a real fcd."""
import gc
import hashlib
import os
import subprocess
import sys
import tempfile
import unittest
import warnings

from fc.auth.v1 import auth_pb2
from fc.chat.v1 import chat_pb2
from fc.filestore.v1 import filestore_pb2
from fc_client import Channel, RpcError, Stub, Subscription, download, log_in, room_events, sign_up, upload
from fcd_process import FcTestCase, limit

AUTH = auth_pb2.DESCRIPTOR.services_by_name["Auth"]
CHAT = chat_pb2.DESCRIPTOR.services_by_name["Chat"]
FILESTORE = filestore_pb2.DESCRIPTOR.services_by_name["FileStore"]
PASSWORD = "a long password"


class ClientTestCase(FcTestCase):
    def channel(self, token=""):
        channel = Channel(self.fcd.http_url, token)
        self.addCleanup(channel.close)
        return channel

    def person(self, user):
        """A channel of somebody new, logged in."""
        channel = self.channel()
        sign_up(channel, user, PASSWORD)
        log_in(channel, user, PASSWORD)
        return channel

    def assert_code(self, code):
        test = self

        class Expectation:
            def __enter__(self):
                return self

            def __exit__(self, kind, error, trace):
                test.assertIsInstance(error, RpcError, "no RpcError was raised")
                test.assertEqual(error.name, code, error)
                self.error = error
                return True

        return Expectation()

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name


class Calls(ClientTestCase):
    def test_a_call_without_a_token_is_told_so(self):
        with self.assert_code("UNAUTHENTICATED"):
            Stub(self.channel(), CHAT).ListRooms()

    def test_unknown_methods_and_services(self):
        channel = self.channel()
        for method in ("fc.chat.v1.Chat/Fly", "fc.chat.v1.Chess/Send", "Chat", "/", "x" * 300, ""):
            with self.subTest(method), self.assert_code("UNIMPLEMENTED"):
                channel.call(method, chat_pb2.SendRequest(), chat_pb2.SendResponse)

    def test_a_request_over_the_limit_is_refused_and_the_connection_goes_on(self):
        channel = self.channel()
        with self.assert_code("RESOURCE_EXHAUSTED"):
            Stub(channel, AUTH).GetLoginParameters(user_name="x" * 300_000)
        with self.assert_code("RESOURCE_EXHAUSTED"):
            Stub(channel, AUTH).GetLoginParameters(user_name="x" * 9_000_000)
        Stub(channel, AUTH).GetLoginParameters(user_name="nobody")

    def test_many_calls_outstanding_get_their_own_answers(self):
        channel = self.person("pipeline")
        chat = Stub(channel, CHAT)
        chat.CreateRoom(name="pipeline", is_plain=True)
        calls = [chat.Send.start(room="pipeline", text=str(i), timeout=limit(30)) for i in range(500)]
        sequences = [call.result().seq for call in calls]
        self.assertEqual(sorted(sequences), list(range(1, 501)))
        texts = {message.seq: message.text for message in chat.History(room="pipeline", limit=1000).messages}
        self.assertEqual([texts[seq] for seq in sequences], [str(i) for i in range(500)])

    def test_a_repeated_request_id_gets_the_first_answer(self):
        chat = Stub(self.person("repeat"), CHAT)
        chat.CreateRoom(name="repeat", is_plain=True)
        request_id = os.urandom(16)
        first = chat.Send(room="repeat", text="once", request_id=request_id)
        again = chat.Send(room="repeat", text="once", request_id=request_id)
        self.assertEqual(first, again)
        self.assertEqual(chat.History(room="repeat").head_seq, 1)

    def test_a_closed_channel_is_unavailable(self):
        channel = self.channel()
        channel.close()
        with self.assert_code("UNAVAILABLE"):
            Stub(channel, AUTH).GetLoginParameters(user_name="nobody")

    def test_no_server_is_unavailable(self):
        with warnings.catch_warnings():
            # python3-websocket leaves the socket of a refused connection to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            with self.assert_code("UNAVAILABLE"):
                Channel("http://127.0.0.1:1")
            gc.collect()

    def test_a_stub_knows_its_methods(self):
        chat = Stub(self.channel(), CHAT)
        self.assertIn("Send", dir(chat))
        with self.assertRaises(AttributeError):
            chat.Fly  # pylint: disable=pointless-statement
        with self.assertRaises(TypeError):
            chat.Send(chat_pb2.SendRequest(), room="both")


class Accounts(ClientTestCase):
    def test_sign_up_log_in_log_out(self):
        channel = self.person("anna")
        auth = Stub(channel, AUTH)
        self.assertEqual(auth.WhoAmI().user_name, "anna")
        auth.Logout()
        with self.assert_code("UNAUTHENTICATED"):
            auth.WhoAmI()

    def test_a_name_is_taken_once(self):
        sign_up(self.channel(), "once", PASSWORD)
        with self.assert_code("ALREADY_EXISTS"):
            sign_up(self.channel(), "once", PASSWORD)

    def test_a_wrong_password_and_a_wrong_name_look_alike(self):
        sign_up(self.channel(), "wrong", PASSWORD)
        with self.assert_code("UNAUTHENTICATED") as password:
            log_in(self.channel(), "wrong", "another password")
        with self.assert_code("UNAUTHENTICATED") as name:
            log_in(self.channel(), "nosuchuser", PASSWORD)
        self.assertEqual(password.error.message, name.error.message)


class Subscriptions(ClientTestCase):
    def test_messages_of_others_arrive(self):
        alice, bob = self.person("alice"), self.person("bob")
        Stub(alice, CHAT).CreateRoom(name="kitchen", is_plain=True)
        room = Stub(bob, CHAT).Join(room="kitchen").room
        events = room_events(bob, ["kitchen"], timeout=limit(20))
        self.addCleanup(events.close)
        for text in ("one", "two", "three"):
            Stub(alice, CHAT).Send(room="kitchen", text=text)
        received = []
        for room_id, event in events:
            self.assertEqual(room_id, room.id)
            if event.HasField("message"):
                received.append((event.message.seq, event.message.sender, event.message.text))
            if len(received) == 3:
                break
        self.assertEqual(received, [(1, "alice", "one"), (2, "alice", "two"), (3, "alice", "three")])

    def test_a_ticket_is_for_one_connection(self):
        channel = self.person("ticket")
        Stub(channel, CHAT).CreateRoom(name="ticket", is_plain=True)
        ticket = Stub(channel, CHAT).Subscribe(rooms=["ticket"]).ticket
        with Subscription(self.fcd.http_url, ticket):
            with self.assert_code("NOT_FOUND"):
                Subscription(self.fcd.http_url, ticket)
        with self.assert_code("NOT_FOUND"):
            Subscription(self.fcd.http_url, "guessed")

    def test_who_leaves_is_told_and_gets_nothing_more(self):
        alice, bob = self.person("ann"), self.person("ben")
        Stub(alice, CHAT).CreateRoom(name="hall", is_plain=True)
        Stub(bob, CHAT).Join(room="hall")
        events = room_events(bob, ["hall"], timeout=limit(20))
        self.addCleanup(events.close)
        Stub(bob, CHAT).Leave(room="hall")
        Stub(alice, CHAT).Send(room="hall", text="now that he has gone")
        kinds = []
        for _, event in events:
            kinds.append(event.WhichOneof("kind"))
            if kinds[-1] != "heartbeat":
                break
        self.assertEqual(kinds[-1], "membership_ended")


class Files(ClientTestCase):
    def write(self, size):
        path = os.path.join(self.folder(), "data.bin")
        with open(path, "wb") as file:
            file.write(os.urandom(size))
        return path

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def test_there_and_back(self):
        channel = self.person("carol")
        for size in (0, 1, 256 * 1024, 256 * 1024 + 1, 20_000_000):
            with self.subTest(size=size):
                path = self.write(size)
                done = []
                stored = upload(channel, path, name=f"size-{size}", progress=lambda now, _: done.append(now))
                self.assertEqual(stored.md5, hashlib.md5(self.read(path)).digest())
                self.assertEqual(stored.size_bytes, size)
                self.assertEqual(done[-1:], [size] if size else [])
                copy = path + ".copy"
                download(channel, f"size-{size}", copy)
                self.assertEqual(self.read(copy), self.read(path))

    def test_an_upload_goes_on_where_it_was_cut(self):
        channel = self.person("dave")
        filestore = Stub(channel, FILESTORE)
        path, request_id = self.write(3_000_000), os.urandom(16)
        plan = filestore.Save(name="resumed", size_bytes=3_000_000, request_id=request_id)
        data = self.read(path)[:plan.chunk_size_bytes]
        filestore.Upload(upload_id=plan.upload_id, index=0, md5=hashlib.md5(data).digest(), data=data)
        sent = []
        stored = upload(channel, path, name="resumed", request_id=request_id, progress=lambda now, _: sent.append(now))
        self.assertEqual(len(sent), plan.chunk_count - 1)
        self.assertEqual(stored.md5, hashlib.md5(self.read(path)).digest())

    def test_a_damaged_chunk_is_refused(self):
        filestore = Stub(self.person("erin"), FILESTORE)
        plan = filestore.Save(name="damaged", size_bytes=5)
        with self.assert_code("DATA_LOSS") as refused:
            filestore.Upload(upload_id=plan.upload_id, index=0, md5=bytes(16), data=b"hello")
        self.assertEqual(refused.error.reason, "CHUNK_MD5_MISMATCH")
        with self.assert_code("FAILED_PRECONDITION") as refused:
            filestore.Commit(upload_id=plan.upload_id)
        self.assertEqual(refused.error.reason, "CHUNKS_MISSING")

    def test_a_failed_download_leaves_nothing_behind(self):
        folder = self.folder()
        with self.assert_code("NOT_FOUND"):
            download(self.person("frank"), "no such file", os.path.join(folder, "copy"))
        self.assertEqual(os.listdir(folder), [])


class Example(ClientTestCase):
    def test_the_example_runs_twice(self):
        path = os.path.join(self.folder(), "plan.pdf")
        with open(path, "wb") as file:
            file.write(os.urandom(700_000))
        example = os.path.join(os.path.dirname(__file__), "..", "example.py")
        for _ in range(2):
            result = subprocess.run([sys.executable, example, self.fcd.http_url, "grace", "library", path],
                                    env={**os.environ, "FC_PASSWORD": PASSWORD}, capture_output=True, text=True,
                                    timeout=limit(60), check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
            self.assertIn("grace: hello from Python", result.stdout)
            self.assertIn("the same bytes", result.stdout)


if __name__ == "__main__":
    unittest.main()
