"""Random operations of twenty people in three encrypted rooms, with kill -9 of clients and of the server. In the end all
members have the same history, and who may read a message is who has its key."""
import collections
import json
import os
import queue
import random
import signal
import subprocess
import threading
import unittest

from fc_client import e2e
from fcd_process import (CONFLICT, DONE, FAILED, NOT_ALLOWED, NOT_FOUND, UNREACHABLE, USAGE, check_report,
                         limit, running, wait_until)
from room_people import RoomTestCase, database_rows, opens, queued

OPERATIONS = int(os.environ.get("FC_E2E_OPERATIONS", "150"))
SEED = int(os.environ.get("FC_E2E_SEED", "20260401"))
PEOPLE, WORKERS, FOLLOWERS = 20, 4, 4
# The second one's new members read from when they joined.
ROOMS = {"red": "all", "green": "joined", "blue": "all"}
QUEUED = 10


class Person:
    def __init__(self, name, fc):
        self.name, self.fc = name, fc
        self.lock = threading.Lock()  # single commands one after the other; a follower may run beside
        self.begun = collections.defaultdict(list)  # room -> texts, in the order in which they were to be sent
        self.sent = collections.defaultdict(list)  # room -> [(seq, text)], as acknowledged
        self.unsure = collections.defaultdict(set)  # room -> texts that may be there, once


class Follower:
    """fc join --json, again and again from the beginning."""

    def __init__(self, person, room):
        self.person, self.room, self.runs = person, room, 0
        self.process = self.file = None
        self.seen = []  # the output of each run

    def start(self):
        self.runs += 1
        self.path = self.person.fc.path(f"seen-{self.room}-{self.runs}")
        self.file = open(self.path, "wb")
        self.process = self.person.fc.start("join", self.room, "--json", "--since", "0", stdout=self.file)

    def lines(self):
        with open(self.path, "rb") as file:
            return [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]

    def end(self, signal_number):
        """Ends it and keeps what it printed; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        _, stderr = self.process.communicate(timeout=limit(20))
        self.file.close()
        check_report("fc join", stderr.decode())
        self.seen.append(self.lines())
        return self.process.returncode


class Truth:
    """What a room's log says of who was in it, epoch by epoch."""

    def __init__(self, entries, history):
        self.is_all = history == "all"
        inside, epoch = set(), 0
        self.inside_by_epoch = collections.defaultdict(set)
        for entry in entries:
            for change in entry.changes:
                kind = change.WhichOneof("kind")
                if kind in ("create", "join_by_link"):
                    inside.add(entry.user_id)
                elif kind == "add_member":
                    inside.add(change.add_member.user_id)
                elif kind == "remove_member":
                    inside.discard(change.remove_member)
            if entry.HasField("rekey"):
                epoch = entry.rekey.epoch
            self.inside_by_epoch[epoch] |= inside
        self.inside = inside

    def may_read(self, user_id, epoch):
        return any(user_id in people for at, people in self.inside_by_epoch.items()
                   if at == epoch or (self.is_all and at > epoch))


class Storm(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.choose, self.choose_lock = random.Random(SEED), threading.Lock()
        made = {}
        names = [f"user{i:02}" for i in range(PEOPLE)]

        def sign_up(some):
            for name in some:
                made[name] = Person(name, self.person(name))
        self.in_threads([lambda some=names[i::WORKERS]: sign_up(some) for i in range(WORKERS)])
        self.people = [made[name] for name in names]
        self.rooms, self.failures, self.server = {}, [], threading.Lock()
        self.links = collections.defaultdict(list)
        self.by_link = {}  # (room, name) -> the epoch up to which a link may have let them read
        for number, (room, history) in enumerate(ROOMS.items()):
            owner, members = self.people[number], names[3 + number::2]
            self.rooms[room] = self.room(room, owner.fc, *members, options=("--history", history))
            owner.fc.run("room", "amend", room, "--role", f"{members[0]}=admin,{members[1]}=admin")
        # As far as the test knows, so that most operations mean something. What is true is in the rooms' logs.
        self.inside = {room: {names[i], *names[3 + i::2]} for i, room in enumerate(ROOMS)}
        self.admins = {room: [self.people[i]] + [self.people[3 + i], self.people[5 + i]] for i, room in enumerate(ROOMS)}
        self.followers = [Follower(self.people[3 + i], list(ROOMS)[i % 3]) for i in range(FOLLOWERS)]
        self.counts, self.story = collections.Counter(), []

    def in_threads(self, jobs):
        errors = []

        def run(job):
            try:
                job()
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    # Operations. What a person may not do (any more) is refused, and that is right; anything else that fails is not.

    def command(self, person, *arguments, kill_after=None, **options):
        """Runs fc, and maybe kills it. None: it was killed."""
        with person.lock:
            if arguments[0] == "send":
                person.begun[arguments[1]].append(arguments[2])
            if kill_after is not None:
                with running(person.fc.start(*arguments)) as process:
                    try:
                        process.wait(kill_after)
                    except subprocess.TimeoutExpired:
                        process.kill()
                    _, stderr = process.communicate(timeout=limit(20))
                    check_report("fc", stderr.decode())
                return None
            result = person.fc.try_run(*arguments, seconds=60, **options)
            self.counts[result.code] += 1
            self.story.append(f"{person.name} {arguments} {result.code} {result.stderr}")
            allowed = {DONE, UNREACHABLE, NOT_ALLOWED, NOT_FOUND, CONFLICT, QUEUED}
            if result.code in (FAILED, USAGE):
                self.assertRegex(result.stderr, "already|is not in|not in it|revoked|used|only owner", repr(result))
            else:
                self.assertIn(result.code, allowed, repr(result))
            return result

    def send(self, person, room, text, kill_after=None):
        result = self.command(person, "send", room, text, "--json", kill_after=kill_after)
        if result is not None and result.code == DONE:
            person.sent[room].append((result.object["seq"], text))
        elif result is None or result.code in (QUEUED, UNREACHABLE):
            person.unsure[room].add(text)

    def change(self, room):
        kind = self.choice(("add", "add", "remove", "leave", "invite", "link", "rekey", "read", "role"))
        admin = self.choice(self.admins[room])
        other = self.somebody(room, kind in ("remove", "leave", "read", "role"))
        kill_after = self.uniform(0.02, 0.3) if self.uniform(0, 1) < 0.1 else None
        amend = lambda *arguments: self.command(admin, "room", "amend", room, *arguments, kill_after=kill_after)
        if kind in ("add", "remove"):
            amend(f"--{kind}", other.name)
            self.believe(room, other, kind == "add")
        elif kind == "rekey":
            amend("--rekey")
        elif kind == "role":
            amend("--role", f"{other.name}=admin")
        elif kind == "leave":
            self.command(other, "leave", room, kill_after=kill_after)
            self.believe(room, other, False)
        elif kind == "read":
            self.command(other, "history", room, kill_after=kill_after)
        elif kind == "invite":
            self.command(admin, "invite", room, other.name, kill_after=kill_after)
            self.command(other, "join", room, "--no-follow")
            self.believe(room, other, True)
        else:
            result = self.command(admin, "invite", room, "--link", "--json", "--uses", str(self.choice((1, 2))))
            if result.code == DONE:
                self.links[room].append(result.object["link"])
            if self.links[room]:
                self.join_by_link(room, other, self.choice(self.links[room]))

    def join_by_link(self, room, person, link):
        result = self.command(person, "join", "-", "--no-follow", stdin=link.encode())
        if result.code == DONE:
            self.believe(room, person, True)
        elif ROOMS[room] == "all":
            # Who has a link has the keys, whether the last step succeeds or not.
            with self.server:
                epoch = max(entry.rekey.epoch for entry in self.log_entries(self.rooms[room]))
            self.by_link[room, person.name] = epoch

    def somebody(self, room, is_inside):
        """Of those who own no room: mostly one who is in this one, or is not."""
        names = self.inside[room]
        fitting = [person for person in self.people[3:] if (person.name in names) == is_inside]
        return self.choice(fitting if fitting and self.uniform(0, 1) < 0.9 else self.people[3:])

    def believe(self, room, person, is_inside):
        self.inside[room] = self.inside[room] | {person.name} if is_inside else self.inside[room] - {person.name}

    def choice(self, some):
        with self.choose_lock:
            return self.choose.choice(some)

    def uniform(self, low, high):
        with self.choose_lock:
            return self.choose.uniform(low, high)

    def operate(self, number):
        dice = self.uniform(0, 1)
        room = self.choice(list(ROOMS))
        if dice < 0.5:
            self.send(self.somebody(room, True), room, f"text {number}")
        elif dice < 0.58:
            self.send(self.somebody(room, True), room, f"text {number}", kill_after=self.uniform(0.02, 0.4))
        elif dice < 0.62:
            with self.server:
                if dice < 0.605:
                    self.fcd.kill()
                    self.fcd.start()
                else:
                    self.fcd.restart()
        elif dice < 0.68:
            follower = self.choice(self.followers)
            with self.server:
                self.check_end(follower.end(signal.SIGKILL))
                follower.start()
        else:
            self.change(room)

    def check_end(self, code):
        # Unreachable: the server was away when it began, and it had not come into the room yet.
        self.assertIn(code, (DONE, -signal.SIGKILL, NOT_ALLOWED, NOT_FOUND, UNREACHABLE))

    def work(self, numbers):
        while not self.failures:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            try:
                self.operate(number)
            except BaseException:
                self.failures.append(number)
                raise

    def test_a_storm(self):
        numbers = queue.SimpleQueue()
        for number in range(OPERATIONS):
            numbers.put(number)
        for follower in self.followers:
            follower.start()
        try:
            self.storm_and_check(numbers)
        except BaseException:
            print("\n".join(self.story))
            raise

    def storm_and_check(self, numbers):
        try:
            self.in_threads([lambda: self.work(numbers) for _ in range(WORKERS)])
            self.calm_down()
        finally:
            for follower in self.followers:
                if follower.process.poll() is None:
                    follower.process.kill()
                    follower.process.communicate()
                follower.file.close()
        self.check_everything()
        # A storm in which nothing gets through proves nothing.
        self.assertGreater(sum(len(sent) for person in self.people for sent in person.sent.values()), OPERATIONS / 10)
        self.assertGreater(self.counts[DONE], OPERATIONS / 5, self.counts)

    def calm_down(self):
        """All that waits is sent, or refused for good."""
        def flush(person):
            result = person.fc.try_run("outbox", "flush")
            self.assertIn(result.code, (DONE, NOT_ALLOWED, NOT_FOUND), repr(result))
            for _ in range(20):
                if not queued(person.fc):
                    return
                person.fc.try_run("outbox", "flush")
            self.fail(f"{person.name} cannot get rid of {queued(person.fc)}")
        self.in_threads([lambda some=self.people[i::WORKERS]: [flush(person) for person in some] for i in range(WORKERS)])
        heads = {room: len(self.sealed_messages(room_id)) for room, room_id in self.rooms.items()}
        for follower in self.followers:
            wait_until(lambda: follower.process.poll() is not None or len(follower.lines()) == heads[follower.room],
                       f"{follower.person.name} to catch up in {follower.room}", 30)
            self.check_end(follower.end(signal.SIGINT))

    def check_everything(self):
        ids = {name: user_id for name, user_id in
               database_rows(self.server_database(), "SELECT user_name, user_id FROM auth_accounts")}
        for room, room_id in self.rooms.items():
            stored = self.sealed_messages(room_id)
            self.assertEqual(list(stored), list(range(1, len(stored) + 1)))
            truth = Truth(self.log_entries(room_id), ROOMS[room])
            kept = {user_id for (user_id,) in database_rows(
                self.server_database(), "SELECT user_id FROM chat_members WHERE room_id = ?", (room_id,))}
            self.assertEqual(kept, truth.inside)
            members = {user_id for (user_id,) in database_rows(
                self.server_database(), "SELECT user_id FROM chat_members WHERE room_id = ? AND is_invited = 0", (room_id,))}
            epochs = {seq: e2e.parse_message(sealed).header.epoch for seq, sealed in stored.items()}
            histories = {}

            def read(person):
                if ids[person.name] in members:
                    histories[person.name] = self.history(person.fc, room)
                elif ids[person.name] not in kept:
                    self.assert_shut_out(person.fc.try_run("history", room, "--since", "0"))
            self.in_threads([lambda some=self.people[i::WORKERS]: [read(person) for person in some]
                             for i in range(WORKERS)])
            self.check_histories(room, stored, epochs, histories, truth, ids)
            self.check_keys(room, stored, epochs, truth, ids)
            inside = [person.fc for person in self.people if person.name in histories]
            self.assert_one_fingerprint(room, *inside[:4])
            inside[-1].run("audit", room)

    def check_histories(self, room, stored, epochs, histories, truth, ids):
        messages = {}  # seq -> text, as those who may read it see it
        for name, history in histories.items():
            self.assertEqual([message["seq"] for message in history], list(stored), f"{name} in {room}")
            for message in history:
                seq = message["seq"]
                self.assertEqual(bytes.fromhex(message["id"]), e2e.parse_message(stored[seq]).header.message_id)
                can = "unreadable" not in message
                self.assertEqual(can, truth.may_read(ids[name], epochs[seq]), f"{name} in {room}: {message}")
                if can:
                    self.assertEqual(messages.setdefault(seq, message["text"]), message["text"])
        texts = collections.Counter(messages.values())
        self.assertEqual({text: count for text, count in texts.items() if count > 1}, {}, "doubled")
        seqs = {text: seq for seq, text in messages.items()}
        for person in self.people:
            # What waited in the outbox went before what was written after it.
            order = [seqs[text] for text in person.begun[room] if text in seqs]
            self.assertEqual(order, sorted(order), f"{person.name} in {room} out of order")
            for seq, text in person.sent[room]:
                self.assertEqual(messages.get(seq, text), text, "lost")
                self.assertIn(seq, stored)
        known = {text for person in self.people for _, text in person.sent[room]}
        known |= {text for person in self.people for text in person.unsure[room]}
        self.assertLessEqual(set(texts), known)
        for follower in self.followers:
            for run in follower.seen if follower.room == room else ():
                self.assertEqual([message["seq"] for message in run], list(range(1, len(run) + 1)))
                for message in run:
                    if message.get("text") and message["seq"] in messages:
                        self.assertEqual(message["text"], messages[message["seq"]])

    def check_keys(self, room, stored, epochs, truth, ids):
        """Who has been given a key, by whatever way, is who may read."""
        for person in self.people:
            secrets = self.all_secrets(person.fc, self.rooms[room])
            by_link = self.by_link.get((room, person.name), 0)
            for seq, sealed in stored.items():
                could = any(opens(sealed, secret) for secret in secrets)
                may = truth.may_read(ids[person.name], epochs[seq])
                if may or epochs[seq] > by_link:
                    self.assertEqual(could, may, f"{person.name} in {room}, message {seq}")


if __name__ == "__main__":
    unittest.main()
