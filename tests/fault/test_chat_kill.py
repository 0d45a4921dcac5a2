"""fcd is killed again and again while people send: what was acknowledged is there, in order, exactly once."""
import json
import os
import random
import signal
import unittest

from chat_senders import Senders
from fcd_process import DONE, FcTestCase, check_report, limit, running, wait_until

# Rounds of killing; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "10"))


class ChatKill(FcTestCase):
    def kill_while_sending(self, senders):
        choose = random.Random(20260102)
        for _ in range(KILLS):
            target = senders.acknowledged() + choose.randint(1, 8)
            wait_until(lambda: senders.acknowledged() >= target, "messages being acknowledged", 60)
            self.fcd.kill()
            self.fcd.start()

    def check_followed(self, follower, fc, history):
        """Whoever followed the room meanwhile saw the same, once each and in order."""
        def followed():
            return [json.loads(line) for line in fc.read("seen").splitlines(keepends=True) if line.endswith(b"\n")]
        wait_until(lambda: len(followed()) >= len(history), "the follower to catch up", 30)
        self.assertEqual(followed(), history)
        follower.send_signal(signal.SIGINT)
        _, stderr = follower.communicate(timeout=limit(20))
        check_report("fc join", stderr.decode())
        self.assertEqual((follower.returncode, stderr), (DONE, b""))

    @staticmethod
    def is_full(fc, room):
        return any(one["room"] == room and one["member_count"] == 2 for one in fc.run("room", "list", "--json").objects)

    def run_room(self, alice, bob, room):
        with open(bob.path("seen"), "wb") as seen, running(
                bob.start("join", room, "--since", "0", "--json", stdout=seen)) as follower:
            wait_until(lambda: self.is_full(alice, room), "both in the room")
            with Senders((alice, "a"), (alice, "b"), (bob, "c"), room=room) as senders:
                self.kill_while_sending(senders)
            self.assertGreaterEqual(senders.acknowledged(), KILLS)
            senders.flush()
            history = alice.run("history", room, "--since", "0", "--json").objects
            senders.check(self, history)
            self.check_followed(follower, bob, history)

    def test_a_plain_room(self):
        alice, bob = self.person("alice"), self.person("bob")
        alice.run("room", "create", "team", "--plain")
        self.run_room(alice, bob, "team")

    def test_an_encrypted_room(self):
        alice, bob = self.person("carol"), self.person("dave")
        alice.run("room", "create", "vault", "--private")
        alice.run("invite", "vault", "dave")
        self.run_room(alice, bob, "vault")
        for fc in (alice, bob):
            fc.run("audit")
        self.assertEqual(bob.run("history", "vault", "--since", "0", "--json").objects,
                         alice.run("history", "vault", "--since", "0", "--json").objects)


if __name__ == "__main__":
    unittest.main()
