"""Ten users in five rooms, all talking, while one of them is removed from all rooms: nothing leaves for who is removed."""
import threading
import unittest

import websocket

from fc.chat.v1 import chat_pb2
from fc_client import RpcError, Stub, Subscription, e2e
from fcd_process import check_report, limit, wait_until
from room_people import RoomTestCase, opens

CHAT = chat_pb2.DESCRIPTOR.services_by_name["Chat"]
ROOMS, PEOPLE = 5, 10


class Raw(threading.Thread):
    """Somebody who keeps to no rules: reads a subscription as it comes, and asks for History all the time."""

    def __init__(self, channel, rooms):
        super().__init__(daemon=True)
        self.chat = Stub(channel, CHAT)
        self.room_ids = [self.chat.GetRoom(room=room).room.id for room in rooms]
        self.subscription = Subscription(channel.url, self.chat.Subscribe(rooms=rooms).ticket, limit(60))
        self.received = []  # (topic, payload)
        self.start()

    def run(self):
        try:
            for topic, payload in self.subscription:
                self.received.append((topic, payload))
        except (RpcError, websocket.WebSocketException, OSError):
            pass

    def events(self, room_id):
        """[Event] of a room so far."""
        return [event for topic, payload in list(self.received) if topic == room_id
                for event in chat_pb2.EventBatch.FromString(payload).events]

    def refusals(self, room_id):
        """The codes with which all ways into a room are refused."""
        room = room_id.hex()
        codes = []
        for call in (lambda: self.chat.History(room=room), lambda: self.chat.GetLog(room=room),
                     lambda: self.chat.Subscribe(rooms=[room]), lambda: self.chat.GetRoom(room=room),
                     lambda: self.chat.Typing(room=room), lambda: self.chat.GetPresence(room=room)):
            try:
                call()
                codes.append("OK")
            except RpcError as error:
                codes.append(error.name)
        return codes


class Crowd(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.names = [f"user{i}" for i in range(PEOPLE)]
        self.people = {}
        threads = [threading.Thread(target=lambda name=name: self.people.__setitem__(name, self.person(name)))
                   for name in self.names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.owner, self.victim = self.people["user0"], self.people["user9"]
        self.rooms = [f"room{i}" for i in range(ROOMS)]
        self.ids = {room: self.room(room, self.owner, *self.names[1:]) for room in self.rooms}
        self.said = []  # canaries
        self.failures = []
        self.is_over = threading.Event()

    def talk(self, name):
        number = 0
        while not self.is_over.is_set():
            room = self.rooms[(number + int(name[4:])) % ROOMS]
            text = f"canary-{name}-{number}-Zx7q"
            number += 1
            self.said.append(text)
            result = self.people[name].try_run("send", room, text)
            if result.code != 0:
                self.failures.append(result)
                return

    def follow(self, room, stack_of_files):
        out = self.victim.path(f"seen-{room}")
        file = open(out, "wb")
        stack_of_files.append(file)
        return out, self.victim.start("join", room, "--json", "--since", "0", stdout=file)

    def test_nothing_leaves_for_who_is_removed(self):
        raw = Raw(self.channel("user9"), self.rooms)
        files, followers = [], {}
        try:
            for room in self.rooms:
                followers[room] = self.follow(room, files)
            talkers = [threading.Thread(target=self.talk, args=(name,)) for name in self.names[:3]]
            for thread in talkers:
                thread.start()
            try:
                wait_until(lambda: len(self.said) > 12, "talk", 60)
                for room in self.rooms:
                    self.owner.run("room", "amend", room, "--remove", "user9")
                said = len(self.said)
                wait_until(lambda: len(self.said) > said + 3 * ROOMS or self.failures, "more talk", 60)
            finally:
                self.is_over.set()
                for thread in talkers:
                    thread.join(limit(60))
            self.assertEqual(self.failures, [])
            for room, (_, process) in followers.items():
                _, stderr = process.communicate(timeout=limit(20))
                check_report("fc join", stderr.decode())
                self.assertIn(process.returncode, (5, 11), stderr)
        finally:
            for _, process in followers.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()
                process.stderr.close()
            for file in files:
                file.close()
        self.check_what_was_got(raw, followers)
        raw.subscription.close()
        raw.join(limit(20))

    def check_what_was_got(self, raw, followers):
        got = b"".join(payload for _, payload in raw.received)
        for room in self.rooms:
            room_id = self.ids[room]
            stored, secrets = self.sealed_messages(room_id), self.all_secrets(self.victim, room_id)
            # The removal began the second epoch: whatever was sealed in it came after.
            head = max((seq for seq, sealed in stored.items() if e2e.parse_message(sealed).header.epoch == 1), default=0)
            later = {seq: sealed for seq, sealed in stored.items() if seq > head}
            self.assertTrue(later, "nobody talked after the removal")
            events = raw.events(room_id)
            seen = [event.message.seq for event in events if event.WhichOneof("kind") == "message"]
            self.assertTrue(events and events[-1].WhichOneof("kind") == "membership_ended", f"{room}: {events[-1:]}")
            self.assertLessEqual(max(seen, default=0), head)
            # Nor is one of them in what came, in whatever form.
            for sealed in later.values():
                self.assertNotIn(sealed[-64:], got)
                self.assertFalse(any(opens(sealed, secret) for secret in secrets))
            self.assertEqual(set(raw.refusals(room_id)) - {"NOT_FOUND", "PERMISSION_DENIED"}, set())
            with open(followers[room][0], "rb") as file:
                shown = file.read()
            for message in self.history(self.owner, room):
                if message["seq"] > head:
                    self.assertNotIn(message["text"].encode(), shown)
        self.assert_nowhere(*self.said[:3], "canary-", "Zx7q")
        for room in self.rooms:
            self.assert_same_history(room, self.owner, self.people["user5"])


if __name__ == "__main__":
    unittest.main()
