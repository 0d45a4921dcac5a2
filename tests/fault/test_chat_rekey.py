"""fcd is killed while members of an encrypted room are added and removed, and while its people send."""
import os
import random
import threading
import time
import unittest

from chat_senders import Senders
from fcd_process import DONE, NOT_FOUND, UNREACHABLE, FcTestCase, limit, wait_until

# Members removed, each under fire; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "6"))


class ChatRekey(FcTestCase):
    def setUp(self):
        self.number = getattr(type(self), "count", 0)
        type(self).count = self.number + 1
        self.names = [f"{name}{self.number}" for name in ("alice", "bob", "carol")]
        self.alice, self.bob, self.carol = (self.person(name) for name in self.names)
        self.room = f"vault{self.number}"
        self.alice.run("room", "create", self.room)
        self.alice.run("room", "amend", self.room, "--add", self.names[1])

    def members(self, fc):
        self.assertEqual(fc.try_run("room", "fingerprint", self.room).code, DONE)
        return {one["room"]: one["member_count"] for one in fc.run("room", "list", "--json").objects}[self.room]

    def amend(self, *options):
        """Until it has been said to have happened; a change that had happened already is not made a second time."""
        def attempt():
            result = self.alice.try_run("room", "amend", self.room, *options, seconds=60)
            self.assertIn(result.code, (DONE, UNREACHABLE), repr(result))
            return result.code == DONE
        wait_until(attempt, f"the room to be amended by {options}", 60)

    def kill_soon(self, seconds):
        """fcd is killed within that time, and started again."""
        def kill():
            time.sleep(seconds)  # the moment is what varies: nothing waits for it
            self.fcd.kill()
            self.fcd.start()
        thread = threading.Thread(target=kill)
        thread.start()
        return thread

    def check(self, senders):
        senders.flush()
        history = self.alice.run("history", self.room, "--since", "0", "--json", seconds=60).objects
        senders.check(self, history)
        self.assertEqual(self.bob.run("history", self.room, "--since", "0", "--json", seconds=60).objects, history)
        self.assertEqual(self.alice.run("room", "fingerprint", self.room).text,
                         self.bob.run("room", "fingerprint", self.room).text)
        for fc in (self.alice, self.bob):
            fc.run("audit", self.room, seconds=60)

    def test_killed_while_members_come_and_go(self):
        choose = random.Random(20260103)
        with Senders((self.alice, "a"), (self.bob, "b"), room=self.room) as senders:
            for _ in range(KILLS):
                for option in ("--add", "--remove"):
                    killer = self.kill_soon(choose.uniform(0, 0.3))
                    self.amend(option, self.names[2])
                    killer.join(limit(60))
                    self.assertEqual(self.members(self.alice), 3 if option == "--add" else 2)
                target = senders.acknowledged() + 2
                wait_until(lambda: senders.acknowledged() >= target, "messages after the removal", 60)
        self.check(senders)
        # Who is out reads nothing more.
        self.assertEqual(self.carol.try_run("history", self.room).code, NOT_FOUND)

    def test_two_processes_of_each_send_while_keys_change(self):
        people = ((self.alice, "a"), (self.alice, "b"), (self.bob, "c"), (self.bob, "d"))
        with Senders(*people, room=self.room) as senders:
            for _ in range(KILLS):
                target = senders.acknowledged() + 8
                self.alice.run("room", "amend", self.room, "--rekey", seconds=60)
                wait_until(lambda: senders.acknowledged() >= target, "messages under the new keys", 60)
        self.check(senders)


if __name__ == "__main__":
    unittest.main()
