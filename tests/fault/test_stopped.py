#!/usr/bin/env python3
"""A server that is stopped (SIGSTOP) and goes on later: callers are told in time, and what was asked happens once."""
import os
import signal
import threading
import time
import unittest

from fcd_process import FcTestCase, limit

from fc.chat.v1 import chat_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import Channel, RpcError, Stub, log_in, sign_up

CALLERS = 16
DEADLINE_S = 1.0


def thread_states(pid):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as stat:
            yield stat.read().rpartition(")")[2].split()[0]


class Stopped(FcTestCase):
    def setUp(self):
        self.channel = self.open_channel()
        self.name = f"n{os.urandom(4).hex()}"  # of a user and of a room
        sign_up(self.channel, self.name, "a long password")
        log_in(self.channel, self.name, "a long password")
        self.chat = Stub(self.channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])
        self.chat.CreateRoom(name=self.name, is_plain=True)

    def open_channel(self):
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        return channel

    def stop(self):
        pid = self.fcd.process.pid
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        # The signal is sent, and yet a thread on another processor may run on for a while.
        give_up_at = time.monotonic() + limit(10)
        while not all(state == "T" for state in thread_states(pid)):
            self.assertLess(time.monotonic(), give_up_at, "the server does not stop")

    def send(self, number, request_id, timeout):
        return self.chat.Send(room=self.name, text=f"message {number}", request_id=request_id, timeout=timeout)

    def texts(self):
        messages = self.chat.History(room=self.name, after_seq=0, timeout=limit(20)).messages
        return [message.text for message in messages]

    def test_callers_are_told_in_time_and_nothing_happens_twice(self):
        request_ids = [os.urandom(16) for _ in range(CALLERS)]
        ends = {}

        def call(number):
            start = time.monotonic()
            try:
                self.send(number, request_ids[number], DEADLINE_S)
                ends[number] = (None, time.monotonic() - start)
            except RpcError as error:
                ends[number] = (error.code, time.monotonic() - start)

        self.stop()
        callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(limit(30))
            self.assertFalse(caller.is_alive(), "a caller is stuck")
        for number, (code, took) in ends.items():
            self.assertEqual(code, rpc_pb2.DEADLINE_EXCEEDED, f"caller {number}")
            self.assertGreaterEqual(took, DEADLINE_S)
        os.kill(self.fcd.process.pid, signal.SIGCONT)
        # Some of the calls may have been executed and others dropped; the same calls again settle it.
        for number in range(CALLERS):
            self.send(number, request_ids[number], limit(20))
        self.assertEqual(sorted(self.texts()), sorted(f"message {number}" for number in range(CALLERS)))

    def test_a_call_that_still_waits_is_executed_once(self):
        request_id = os.urandom(16)
        call = self.chat.Send.start(room=self.name, text="message 0", request_id=request_id, timeout=limit(60))
        call.result()
        self.stop()
        waiting = self.chat.Send.start(room=self.name, text="message 1", request_id=os.urandom(16), timeout=limit(60))
        again = self.chat.Send.start(room=self.name, text="message 0", request_id=request_id, timeout=limit(60))
        with self.assertRaises(RpcError):
            self.chat.History(room=self.name, after_seq=0, timeout=0.3)
        os.kill(self.fcd.process.pid, signal.SIGCONT)
        waiting.result()
        self.assertEqual(again.result().seq, call.result().seq)
        self.assertEqual(self.texts(), ["message 0", "message 1"])


if __name__ == "__main__":
    unittest.main()
