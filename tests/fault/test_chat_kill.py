"""fcd is killed again and again while people send: what was acknowledged is there, in order, exactly once."""
import json
import os
import random
import signal
import threading
import unittest

from fcd_process import DONE, UNREACHABLE, FcTestCase, check_report, limit, running, wait_until

# Rounds of killing; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "12"))


class Sender(threading.Thread):
    """One loop of fc send. Every attempt has a text of its own."""

    def __init__(self, fc, name, stopping):
        super().__init__(name=name)
        self.fc, self.stopping = fc, stopping
        self.acknowledged = {}  # text -> what fc printed
        self.unsure = set()
        self.failure = None
        self.start()

    def run(self):
        number = 0
        try:
            while not self.stopping.is_set():
                number += 1
                text = f"{self.name}-{number}"
                result = self.fc.try_run("send", "team", text, "--json")
                if result.code == DONE:
                    self.acknowledged[text] = result.object
                elif result.code == UNREACHABLE:
                    self.unsure.add(text)
                else:
                    raise AssertionError(repr(result))
        except BaseException as error:  # told to the test's own thread
            self.failure = error


class ChatKill(FcTestCase):
    def acknowledged(self):
        for sender in self.senders:
            if sender.failure:
                raise sender.failure
        return sum(len(sender.acknowledged) for sender in self.senders)

    def kill_while_sending(self):
        choose = random.Random(20260102)
        for _ in range(KILLS):
            target = self.acknowledged() + choose.randint(1, 8)
            wait_until(lambda: self.acknowledged() >= target, "messages being acknowledged", 60)
            self.fcd.kill()
            self.fcd.start()

    def check_history(self, history):
        self.assertEqual([message["seq"] for message in history], list(range(1, len(history) + 1)))
        times = [message["sent_at"] for message in history]
        self.assertEqual(times, sorted(times))
        by_text = {message["text"]: message for message in history}
        self.assertEqual(len(by_text), len(history), "a message appears twice")
        for sender in self.senders:
            seqs = []
            for text, sent in sender.acknowledged.items():
                self.assertIn(text, by_text, "an acknowledged message is missing")
                self.assertEqual(by_text[text]["seq"], sent["seq"])
                seqs.append(sent["seq"])
            self.assertEqual(seqs, sorted(seqs))
        known = set().union(*(sender.acknowledged.keys() | sender.unsure for sender in self.senders))
        self.assertLessEqual(by_text.keys(), known)

    def test_acknowledged_messages_survive(self):
        alice, bob = self.person("alice"), self.person("bob")
        alice.run("room", "create", "team", "--plain")
        with open(bob.path("seen"), "wb") as seen, running(
                bob.start("join", "team", "--since", "0", "--json", stdout=seen)) as follower:
            wait_until(lambda: alice.run("room", "list", "--json").object["member_count"] == 2, "bob in the room")
            stopping = threading.Event()
            self.senders = [Sender(alice, "a", stopping), Sender(alice, "b", stopping), Sender(bob, "c", stopping)]
            try:
                self.kill_while_sending()
            finally:
                stopping.set()
                for sender in self.senders:
                    sender.join(limit(60))
            self.assertGreaterEqual(self.acknowledged(), KILLS)
            history = alice.run("history", "team", "--since", "0", "--json").objects
            self.check_history(history)

            # Whoever followed the room meanwhile saw the same, once each and in order.
            def followed():
                return [json.loads(line) for line in bob.read("seen").splitlines(keepends=True) if line.endswith(b"\n")]
            wait_until(lambda: len(followed()) >= len(history), "the follower to catch up", 30)
            self.assertEqual(followed(), history)
            follower.send_signal(signal.SIGINT)
            _, stderr = follower.communicate(timeout=limit(20))
            check_report("fc join", stderr.decode())
            self.assertEqual((follower.returncode, stderr), (DONE, b""))


if __name__ == "__main__":
    unittest.main()
