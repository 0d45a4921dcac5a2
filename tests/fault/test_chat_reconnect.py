"""Clients that were away for many messages: they catch up in order, without a gap and without a message twice."""
import json
import os
import random
import signal
import time
import unittest

from fcd_process import DONE, UNREACHABLE, FcTestCase, check_report, limit, running, wait_until
from terminal import Terminal

# In all, in rooms of 200 to 250 messages; a longer run sets FC_FAULT_MESSAGES=50000, which makes 200 rooms.
MESSAGES = int(os.environ.get("FC_FAULT_MESSAGES", "1000"))
ROOMS = max(5, min(200, MESSAGES // 250))
BEGINNINGS = int(os.environ.get("FC_FAULT_KILLS", "12"))
SECONDS = 60 + MESSAGES / 20


class ChatReconnect(FcTestCase):
    def fill(self, alice, room, texts):
        alice.run("send", room, "-", stdin="\n".join(texts).encode(), seconds=SECONDS)

    def check(self, fc, room, texts, *options):
        history = fc.run("history", room, "--since", "0", "--json", *options, seconds=SECONDS).objects
        self.assertEqual([message["seq"] for message in history], list(range(1, len(texts) + 1)))
        self.assertEqual([message["text"] for message in history], texts)

    def test_offline_for_many_messages_in_many_rooms(self):
        alice, bob = self.person("alice"), self.person("bob")
        rooms = {f"room{number}": [f"message {i} in room {number}" for i in range(MESSAGES // ROOMS)]
                 for number in range(ROOMS)}
        for number, room in enumerate(rooms):
            # Every fifth is plain.
            alice.run("room", "create", room, *(("--plain",) if number % 5 == 4 else ()))
            alice.run("room", "amend", room, "--add", "bob")
        first = next(iter(rooms))
        bob.run("unread", seconds=SECONDS)
        for room, texts in rooms.items():
            self.fill(alice, room, texts)
        # One command for all rooms.
        unread = {one["room"]: one["unread_count"] for one in bob.run("unread", "--json", seconds=SECONDS).objects}
        self.assertEqual(unread, {room: len(texts) for room, texts in rooms.items()})
        for room, texts in rooms.items():
            self.check(bob, room, texts, "--offline")
        bob.run("audit", first, seconds=SECONDS)

    def follow(self, fc, room, path):
        with open(path, "wb") as seen:
            return fc.start("join", room, "--since", "0", "--json", stdout=seen)

    def assert_followed(self, process, path, texts, errors=b""):
        def lines():
            with open(path, "rb") as seen:
                return [json.loads(line)["text"] for line in seen.read().splitlines(keepends=True) if line.endswith(b"\n")]
        wait_until(lambda: len(lines()) >= len(texts), "the follower to catch up", 60)
        self.assertEqual(lines(), texts)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=limit(20))
        check_report("fc join", stderr.decode())
        self.assertEqual((process.returncode, stderr), (DONE, errors))

    def test_followers_on_two_machines_that_sleep(self):
        """Two machines of one user are stopped, as in sleep, while messages are sent and the server is killed."""
        alice, bob = self.person("carol"), self.person("dave")
        other = self.person()
        other.run("login", "dave", "--password-stdin", stdin=b"a long password")
        alice.run("room", "create", "den")
        alice.run("room", "amend", "den", "--add", "dave")
        texts = [f"message {i}" for i in range(300)]
        paths = [fc.path("seen") for fc in (bob, bob, other)]
        # Two processes share the first machine's store.
        paths[1] += "-too"
        with running(self.follow(bob, "den", paths[0])) as one, running(self.follow(bob, "den", paths[1])) as two, \
                running(self.follow(other, "den", paths[2])) as three:
            self.fill(alice, "den", texts[:100])
            for process in (one, three):
                process.send_signal(signal.SIGSTOP)
            self.fill(alice, "den", texts[100:200])
            self.fcd.kill()
            self.fcd.start()
            self.fill(alice, "den", texts[200:])
            for process in (one, three):
                process.send_signal(signal.SIGCONT)
            for process, path in zip((one, two, three), paths):
                self.assert_followed(process, path, texts)
        self.check(bob, "den", texts)

    def test_killed_while_a_follower_begins(self):
        """Whenever the server dies, a follower that has begun prints everything, once and in order."""
        choose = random.Random(20260106)
        alice, bob = self.person("frank"), self.person("grace")
        alice.run("room", "create", "loft")
        alice.run("room", "amend", "loft", "--add", "grace")
        texts = [f"message {i}" for i in range(100)]
        self.fill(alice, "loft", texts[:-BEGINNINGS])
        bob.run("history", "loft")
        begun = 0
        for number in range(BEGINNINGS):
            count = len(texts) - BEGINNINGS + number + 1
            self.fill(alice, "loft", texts[count - 1:count])
            path = bob.path(f"seen-{number}")
            with running(self.follow(bob, "loft", path)) as process:
                time.sleep(choose.uniform(0, 0.25))  # the moment is what varies: nothing waits for it
                self.fcd.kill()
                self.fcd.start()

                def has_ended():
                    with open(path, "rb") as seen:
                        return process.poll() is not None or seen.read().count(b"\n") >= count
                wait_until(has_ended, "the follower to catch up or to give up", 60)
                if process.poll() is not None:
                    self.assertEqual(process.returncode, UNREACHABLE, process.stderr.read())
                    continue
                begun += 1
                with open(path, "rb") as seen:
                    self.assertEqual([json.loads(line)["text"] for line in seen.read().splitlines()], texts[:count])
        self.assertGreater(begun, 0)

    def test_the_state_of_the_link_is_shown(self):
        alice = self.person("erin")
        alice.run("room", "create", "hall")
        alice.run("send", "hall", "before")
        command = [os.environ["FC"], "join", "hall"]
        with Terminal(command, env=alice.env, cwd=alice.cwd) as screen:
            screen.wait_for(b"before")
            self.fcd.kill()
            screen.wait_for(b"trying again until it works")
            # What is typed meanwhile waits.
            screen.type(b"typed meanwhile\n")
            screen.wait_for(b"kept to be sent")
            self.fcd.start()
            screen.wait_for(b"connected again", 60)
            screen.wait_for(b"typed meanwhile", 60)
            screen.type(b"\x04")
            self.assertEqual(screen.wait(), DONE)
        self.check(alice, "hall", ["before", "typed meanwhile"])


if __name__ == "__main__":
    unittest.main()
