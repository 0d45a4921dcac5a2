"""Encrypted rooms that C and Python are in together: each reads, checks and answers the other."""
import os
import pathlib
import subprocess
import sys
import unittest

from fc.e2e.v1 import chain_pb2
from fc_client import Channel, RpcError, log_in, sign_up
from fc_client.e2e import Refused
from fc_client.rooms import Account, NoKey
from fcd_process import FcTestCase, limit

PASSWORD = "a long password"
EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "example_rooms.py"


class RoomsTestCase(FcTestCase):
    numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.room, self.alice_name = f"kitchen{number}", f"alice{number}"
        self.alice = self.person(self.alice_name)
        self.robot = self.account(f"robot{number}")

    def account(self, user_name):
        """Somebody new, whose program is in Python."""
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        sign_up(channel, user_name, PASSWORD)
        log_in(channel, user_name, PASSWORD)
        return Account.create(channel, user_name)

    def texts(self, fc, room=None):
        return [message["text"] for message in fc.run("history", room or self.room, "--json").objects]

    def audit(self, fc, **expected):
        result = fc.run("audit", self.room, "--json").object
        self.assertEqual({name: result[name] for name in expected}, expected)
        return result

    def contents(self, room):
        return [(message.sender, message.content and message.content.text) for message in room.messages()]


class Together(RoomsTestCase):
    def test_a_room_made_by_c(self):
        self.alice.run("room", "create", self.room, "--member", self.robot.user_name)
        self.alice.run("send", self.room, "are you there?")
        room = self.robot.room(self.room)
        self.assertEqual(self.contents(room), [(self.alice_name, "are you there?")])
        self.assertEqual(room.send("I am"), 2)
        self.assertEqual(self.texts(self.alice), ["are you there?", "I am"])
        self.alice.run("send", self.room, "good")
        self.assertEqual(self.contents(room), [(self.robot.user_name, "I am"), (self.alice_name, "good")])
        audit = self.audit(self.alice, messages=3, unreadable=0)
        self.assertEqual(audit["fingerprint"], room.fingerprint())

    def test_a_room_made_by_python(self):
        room = self.robot.create_room(self.room, [self.alice_name])
        room.send("welcome")
        self.alice.run("send", self.room, "thank you")
        self.assertEqual(self.texts(self.alice), ["welcome", "thank you"])
        self.assertEqual([text for _, text in self.contents(room)], ["welcome", "thank you"])
        self.audit(self.alice, log_entries=1, messages=2)

    def test_a_link_of_c(self):
        self.alice.run("room", "create", self.room)
        self.alice.run("send", self.room, "from before")
        link = self.alice.run("invite", self.room, "--link").text.strip()
        room = self.robot.join_by_link(link)
        self.assertEqual([text for _, text in self.contents(room)], ["from before"])
        room.send("found it")
        self.assertEqual(self.texts(self.alice), ["from before", "found it"])
        self.audit(self.alice, messages=2, fingerprint=room.fingerprint())
        with self.assertRaises(Refused):
            self.robot.join_by_link(link[:-2] + ("aa" if link[-2:] != "aa" else "bb"))

    def test_a_link_of_python(self):
        room = self.robot.create_room(self.room)
        room.send("from before")
        self.alice.run("join", "-", "--no-follow", stdin=room.create_link().encode())
        self.assertEqual(self.texts(self.alice), ["from before"])
        self.audit(self.alice, log_entries=3, messages=1, fingerprint=room.fingerprint())

    def test_a_link_that_is_used_up(self):
        room = self.robot.create_room(self.room)
        self.alice.run("join", "-", "--no-follow", stdin=room.create_link(max_uses=1).encode())
        room.sync_log()
        self.assertTrue(room.log.is_rekey_needed)
        room.send("with a new key")
        self.assertEqual((room.log.epoch, room.log.links), (2, {}))
        self.assertEqual(self.texts(self.alice), ["with a new key"])
        self.audit(self.alice, messages=1, unreadable=0, fingerprint=room.fingerprint())

    def test_the_example(self):
        self.alice.run("room", "create", self.room)
        self.alice.run("send", self.room, "from before")
        link = self.alice.run("invite", self.room, "--link").text.strip()
        output = subprocess.run([sys.executable, EXAMPLE, self.fcd.http_url, "example", link], check=True,
                                env={**os.environ, "FC_PASSWORD": PASSWORD}, stdout=subprocess.PIPE,
                                timeout=limit(30)).stdout.decode()
        self.assertIn(f"1: {self.alice_name}: from before\nsent 2\n2: example: hello from Python\n", output)
        self.assertIn(self.alice.run("audit", self.room, "--json").object["fingerprint"], output)

    def test_members_go_and_keys_change(self):
        bob = self.person(self.alice_name.replace("alice", "bob"))
        bob_name = self.alice_name.replace("alice", "bob")
        room = self.robot.create_room(self.room, [self.alice_name, bob_name])
        room.send("all three")
        self.assertEqual(self.texts(bob), ["all three"])
        room.remove(bob_name)
        self.assertEqual(room.log.epoch, 2)
        room.send("only two")
        self.assertEqual(self.texts(self.alice), ["all three", "only two"])
        # The other way round: C removes, and Python is out.
        member = self.account(f"{self.robot.user_name}.two")
        room.add(member.user_name)
        theirs = member.room(self.room)
        self.assertEqual([text for _, text in self.contents(theirs)], ["all three", "only two"])
        robot_name = self.robot.user_name
        room.amend(chain_pb2.RoomChange(set_role=chain_pb2.SetRole(
            user_id=self.robot.user_named(self.alice_name).user_id, role=chain_pb2.OWNER)))
        self.alice.run("room", "amend", self.room, "--remove", robot_name)
        self.alice.run("send", self.room, "without the robot")
        with self.assertRaises(RpcError):
            list(room.messages())
        self.assertNotIn(3, room.secrets)
        with self.assertRaises(NoKey):
            room.secret(3)
        self.assertEqual(self.contents(theirs)[-1], (self.alice_name, "without the robot"))
        self.audit(self.alice, messages=3, unreadable=0, fingerprint=theirs.fingerprint())

    def test_a_new_member_of_a_room_without_history(self):
        room = self.robot.create_room(self.room, history=chain_pb2.HISTORY_JOINED)
        room.send("from before")
        room.add(self.alice_name)
        room.send("from now on")
        self.assertEqual(self.texts(self.alice)[-1:], ["from now on"])
        self.audit(self.alice, messages=2, unreadable=1)

    def test_what_is_written_while_somebody_has_left(self):
        room = self.robot.create_room(self.room, [self.alice_name])
        self.alice.run("leave", self.room)
        room.send("alone")
        self.assertEqual((room.log.epoch, self.contents(room)), (2, [(self.robot.user_name, "alone")]))

    def test_files(self):
        self.alice.run("room", "create", self.room, "--member", self.robot.user_name)
        content = os.urandom((1 << 20) + 17)
        self.alice.write("plan.bin", content)
        self.alice.run("upload", "plan.bin", "--room", self.room)
        room = self.robot.room(self.room)
        (message,) = room.messages()
        self.assertEqual((message.content.file.name, message.content.file.key.plain_size_bytes),
                         ("plan.bin", len(content)))
        room.save_file(message.content.file, self.alice.path("copy"))
        self.assertEqual(self.alice.read("copy"), content)


if __name__ == "__main__":
    unittest.main()
