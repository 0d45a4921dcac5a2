"""One who follows a room and stops reading: nobody else notices, and the server does not keep everything for them."""
import os
import unittest

from fcd_process import Fcd, FcTestCase, limit

from fc.chat.v1 import chat_pb2
from fc_client import Channel, RpcError, Stub, Subscription, log_in, sign_up

MESSAGES = 1200
TEXT = "x" * 60_000  # 70 MB in all


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


class ChatSlow(FcTestCase):
    @classmethod
    def setUpClass(cls):
        # A sanitizer that keeps what has been freed would look like a server that does.
        cls.fcd = Fcd(env={"ASAN_OPTIONS": "exitcode=99:quarantine_size_mb=1:thread_local_quarantine_size_kb=64"})
        cls.addClassCleanup(cls.fcd.close)

    def log_in(self, name):
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        sign_up(channel, name, "a long password")
        log_in(channel, name, "a long password")
        return Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])

    def subscribe(self, chat):
        subscription = Subscription(self.fcd.http_url, chat.Subscribe(rooms=["hall"]).ticket, limit(30))
        self.addCleanup(subscription.close)
        return subscription

    @staticmethod
    def seqs(subscription):
        """Of the messages, as they come; ends where the server cuts."""
        try:
            for _, payload in subscription:
                for event in chat_pb2.EventBatch.FromString(payload).events:
                    if event.HasField("message"):
                        yield event.message.seq
        except RpcError:
            return

    def test_one_stops_reading(self):
        alice, bob, sleeper = (self.log_in(name) for name in ("alice", "bob", "sleeper"))
        alice.CreateRoom(name="hall", is_plain=True)
        for chat in (bob, sleeper):
            chat.Join(room="hall")
        stalled = self.subscribe(sleeper)
        reading = self.seqs(self.subscribe(bob))
        before = resident_mb(self.fcd.process.pid)
        most = before
        for number in range(1, MESSAGES + 1):
            sent = alice.Send(room="hall", text=f"{number} {TEXT}", request_id=os.urandom(16), timeout=limit(60))
            self.assertEqual(sent.seq, number)
            self.assertEqual(next(reading), number, "somebody else misses a message")
            most = max(most, resident_mb(self.fcd.process.pid))
        self.assertLess(most - before, MESSAGES * len(TEXT) / 1e6 / 2, "MB that the server grew by")
        # When they read again: what was kept, in order and with gaps, up to the newest one.
        got = []
        for seq in self.seqs(stalled):
            got.append(seq)
            if seq == MESSAGES:
                break
        self.assertEqual(got[-1], MESSAGES)
        self.assertLess(len(got), MESSAGES, "the server has kept everything")
        self.assertEqual(got, sorted(set(got)))
        # They go on after the last one before the first gap.
        seen = next(i for i, seq in enumerate(got + [0]) if seq != i + 1)
        while seen < MESSAGES:
            page = sleeper.History(room="hall", after_seq=seen, limit=50, timeout=limit(30)).messages
            self.assertEqual([message.seq for message in page], list(range(seen + 1, seen + 1 + len(page))))
            seen += len(page)
        alice.Send(room="hall", text="the last", request_id=os.urandom(16))
        self.assertEqual(next(self.seqs(stalled)), MESSAGES + 1)


if __name__ == "__main__":
    unittest.main()
