"""One user who sends far too much, and many sign-ups at once: they are told to wait, and others are not made to."""
import os
import threading
import unittest

from fcd_process import DONE, FcTestCase, limit

from fc.auth.v1 import auth_pb2
from fc.chat.v1 import chat_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import Channel, RpcError, Stub, log_in, sign_up

SENDS, SIGN_UPS = 1000, 100


class FloodTestCase(FcTestCase):
    def open_channel(self):
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        return channel

    def log_in(self, name):
        channel = self.open_channel()
        sign_up(channel, name, "a long password")
        log_in(channel, name, "a long password")
        return channel, Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])

    def send(self, chat, text):
        return chat.Send.start(room="hall", text=text, request_id=os.urandom(16), timeout=limit(60))


class Messages(FloodTestCase):
    fcd_options = ("--send-rate", "10", "--call-rate", "100")

    def test_a_thousand_messages_by_one_user(self):
        _, alice = self.log_in("alice")
        _, bob = self.log_in("bob")
        alice.CreateRoom(name="hall", is_plain=True)
        bob.Join(room="hall")
        flood = [self.send(alice, f"flood {number}") for number in range(SENDS)]
        # Meanwhile somebody else talks, within the limits.
        for number in range(10):
            self.send(bob, f"talk {number}").result()
            bob.History(room="hall", limit=1)
        taken, refused = [], []
        for call in flood:
            try:
                taken.append(call.result().seq)
            except RpcError as error:
                self.assertEqual(error.code, rpc_pb2.RESOURCE_EXHAUSTED, error)
                self.assertGreater(error.retry_after_ms, 0)
                refused.append(error)
        self.assertGreater(len(taken), 0)
        self.assertGreater(len(refused), SENDS // 2)
        texts = [message.text for message in bob.History(room="hall", after_seq=0, limit=1000).messages]
        self.assertEqual(len([text for text in texts if text.startswith("flood")]), len(taken))
        self.assertEqual([text for text in texts if text.startswith("talk")], [f"talk {n}" for n in range(10)])

    def test_fc_waits_as_it_is_told(self):
        carol = self.person("carol")
        carol.run("room", "create", "den")
        lines = [f"line {number}" for number in range(30)]
        carol.run("send", "den", "-", stdin="\n".join(lines).encode(), seconds=60)
        history = carol.run("history", "den", "--since", "0", "--json").objects
        self.assertEqual([message["text"] for message in history], lines)
        self.assertEqual(carol.run("outbox", "--json").objects, [])


class SignUps(FloodTestCase):
    def test_a_hundred_sign_ups_do_not_hold_up_others(self):
        channel, dave = self.log_in("dave")
        dave.CreateRoom(name="hall", is_plain=True)
        ended = []

        def sign_one_up(number):
            try:
                # The work for the password is the server's here: what is sent needs none.
                with Channel(self.fcd.http_url) as own:
                    auth = Stub(own, auth_pb2.DESCRIPTOR.services_by_name["Auth"])
                    kdf = auth_pb2.KdfParameters(salt=os.urandom(16), log2_n=15, r=8, p=1)
                    auth.SignUp(user_name=f"user{number}", kdf=kdf, auth_key=os.urandom(32), timeout=limit(120))
                ended.append(DONE)
            except RpcError as error:
                ended.append(error)

        threads = [threading.Thread(target=sign_one_up, args=(number,)) for number in range(SIGN_UPS)]
        for thread in threads:
            thread.start()
        for number in range(50):
            self.send(dave, f"talk {number}").result()
        # Each sign-up costs more than a message by far: had they been first in the queue, most of them would be over.
        over = len(ended)
        self.assertLess(over, SIGN_UPS, "the messages waited until all the sign-ups were over")
        for thread in threads:
            thread.join(limit(180))
        for end in ended:
            if end != DONE:
                self.assertEqual(end.code, rpc_pb2.RESOURCE_EXHAUSTED, end)
                self.assertGreater(end.retry_after_ms, 0)
        self.assertIn(DONE, ended)


if __name__ == "__main__":
    unittest.main()
