"""Messages of people whose server is away, or whose fc is killed: they go later, in order, once, and under new keys."""
import os
import random
import signal
import time
import unittest

from fcd_process import DONE, QUEUED, FcTestCase, limit, running

# Sends that are killed; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "30"))


class ChatOutbox(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.names = [f"{name}{number}" for name in ("alice", "bob", "carol")]
        self.alice, self.bob, self.carol = (self.person(name) for name in self.names)
        self.rooms = [f"vault{number}", f"plain{number}", f"attic{number}"]
        for room in self.rooms:
            self.alice.run("room", "create", room, *(("--plain",) if room.startswith("plain") else ()))
            self.alice.run("room", "amend", room, "--add", ",".join(self.names[1:]))
            self.alice.run("send", room, "hello")

    def queue(self, fc, *texts):
        """Each text to each room, one room after the other."""
        for text in texts:
            for room in self.rooms:
                result = fc.try_run("send", room, text, "--json")
                self.assertEqual(result.code, QUEUED, repr(result))
                self.assertEqual(result.object, {"room": room, "is_queued": True})

    def texts(self, fc, room):
        return [message["text"] for message in fc.run("history", room, "--since", "0", "--json").objects]

    def test_what_waits_goes_in_order(self):
        texts = ["one", "two", "three"]
        self.fcd.kill()
        self.queue(self.alice, *texts)
        waiting = self.alice.run("outbox", "--json").objects
        self.assertEqual([one["room"] for one in waiting], self.rooms * len(texts))
        self.assertTrue(waiting[0]["last_error"])
        self.assertEqual(len(self.alice.run("outbox").text.splitlines()), len(waiting))
        # What is here can be read meanwhile.
        away = self.alice.try_run("history", self.rooms[0])
        self.assertEqual(away.code, DONE)
        self.assertRegex(away.stderr, "note: .*this is what was here already")
        self.fcd.start()
        # With the next message, and before it.
        self.alice.run("send", self.rooms[0], "four")
        self.assertEqual(self.alice.run("outbox", "--json").objects, [])
        self.assertEqual(self.texts(self.bob, self.rooms[0]), ["hello", *texts, "four"])
        for room in self.rooms[1:]:
            self.assertEqual(self.texts(self.bob, room), ["hello", *texts])

    def test_what_waits_is_sealed_anew_for_those_who_are_left(self):
        self.texts(self.bob, self.rooms[0])
        self.fcd.kill()
        self.queue(self.alice, "not for carol")
        self.fcd.start()
        # Another device of alice's, so that what waits stays where it is.
        other = self.person()
        other.run("login", self.names[0], "--password-stdin", stdin=b"a long password")
        for room in self.rooms:
            other.run("room", "amend", room, "--remove", self.names[2])
        self.assertEqual(self.alice.run("outbox", "flush", "--json").object, {"sent_count": len(self.rooms)})
        for room in self.rooms:
            self.assertEqual(self.texts(self.bob, room), ["hello", "not for carol"])
            self.assertEqual(self.texts(other, room), ["hello", "not for carol"])

    def test_killed_while_sending(self):
        """kill -9 of fc at any moment: what it had queued goes with the next command, and once."""
        choose = random.Random(20260104)
        room = self.rooms[0]
        known = []
        for number in range(KILLS):
            known.append(f"message {number}")
            with running(self.alice.start("send", room, known[-1])) as process:
                time.sleep(choose.uniform(0, 0.08))  # the moment is what varies: nothing waits for it
                process.send_signal(signal.SIGKILL)
                process.wait(limit(20))
        self.alice.run("outbox", "flush")
        self.assertEqual(self.alice.run("outbox", "--json").objects, [])
        texts = self.texts(self.bob, room)[1:]
        self.assertEqual(len(set(texts)), len(texts), "a message appears twice")
        self.assertEqual(texts, [text for text in known if text in texts], "the order is another one")
        self.assertEqual(self.texts(self.alice, room)[1:], texts)
        self.alice.run("audit", room)

    def test_a_new_machine_that_is_killed_learns_the_keys_all_the_same(self):
        choose = random.Random(20260105)
        room = self.rooms[0]
        for _ in range(KILLS // 5 + 1):
            fresh = self.person()
            fresh.run("login", self.names[1], "--password-stdin", stdin=b"a long password")
            for _ in range(3):
                with running(fresh.start("history", room)) as process:
                    time.sleep(choose.uniform(0, 0.15))  # as above
                    process.send_signal(signal.SIGKILL)
                    process.wait(limit(20))
            self.assertEqual(self.texts(fresh, room), ["hello"])
            fresh.run("send", room, "-", stdin=b"")


if __name__ == "__main__":
    unittest.main()
