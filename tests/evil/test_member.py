"""A member who has the room's keys and means no good, alone and together with the server."""
import os
import unittest

from evil_case import DONE, EvilTestCase, rechain
from fc.chat.v1 import chat_pb2
from fc.e2e.v1 import chain_pb2, message_pb2
from fc_client import RpcError, e2e
from fc_client.room_log import active_devices


class MemberTestCase(EvilTestCase):
    def setUp(self):
        super().setUp()
        self.room_here = self.robot_room
        self.room_here.sync_log()

    def header(self):
        return self.room_here.header(os.urandom(16))

    def seal(self, header, text="forged"):
        room = self.room_here
        return e2e.seal_message(header, room.secret(room.log.epoch), self.robot.device.sign_private,
                                chat_pb2.Content(text=text).SerializeToString())

    def send(self, sealed, header):
        return self.robot.chat.Send(room=self.room_id.hex(), sealed=sealed, request_id=header.message_id)

    def assert_server_refuses(self, function, *arguments):
        with self.assertRaises(RpcError) as context:
            function(*arguments)
        return context.exception

    def show_message(self, fc, sealed, header, sender, sender_id):
        """The server helps: this one comes behind all others."""
        def answer(request, response):
            messages = list(self.robot.chat.History(room=self.room_id.hex(), limit=1000).messages)
            messages.append(chat_pb2.Message(room_id=self.room_id, id=header.message_id, sender=sender,
                                             sender_id=sender_id, sealed=sealed, sent_at_ms=1))
            rechain(messages)
            del response.messages[:]
            response.messages.extend(message for message in messages if message.seq > request.after_seq)
            response.head_seq = len(messages)
        fc.proxy.answers["History"] = answer

    def show_entry(self, fc, signed):
        def answer(request, response):
            entry = chain_pb2.RoomEntry.FromString(signed.body)
            if request.after_seq < entry.seq:
                response.entries.append(signed)
            response.head_seq = entry.seq
        fc.proxy.answers["GetLog"] = answer


class Forgeries(MemberTestCase):
    def test_a_message_of_somebody_else(self):
        self.say(self.alice, "one")
        header = self.header()
        header.user_id = self.id_of("alice")
        header.device_id = next(iter(active_devices(self.robot.user_named(self.alice.name), 1)))
        sealed = self.seal(header)
        self.assert_server_refuses(self.send, sealed, header)
        self.show_message(self.bob, sealed, header, self.alice.name, header.user_id)
        self.assert_detected(self.bob, f"message 2 .* not by {self.alice.name}")
        self.assert_sends_nothing(self.bob)
        self.bob.proxy.be_honest()
        self.assertEqual(self.texts(self.bob), ["one"])

    def test_a_message_of_somebody_else_by_a_device_of_ones_own(self):
        self.say(self.alice, "one")
        header = self.header()
        header.user_id = self.id_of("alice")
        sealed = self.seal(header)
        self.assert_server_refuses(self.send, sealed, header)
        self.show_message(self.bob, sealed, header, self.alice.name, header.user_id)
        self.assert_detected(self.bob, f"message 2 .* not by {self.alice.name}")

    def test_somebody_elses_ciphertext_under_ones_own_header(self):
        """The server cannot know. The key is the sender's, so that it does not open; the room goes on."""
        self.say(self.alice, "I will pay")
        (theirs,) = self.robot.chat.History(room=self.room_id.hex()).messages
        ciphertext = message_pb2.SealedMessage.FromString(theirs.sealed).sealed
        header = self.header()
        encoded = header.SerializeToString(deterministic=True)
        mine = message_pb2.SealedMessage(
            header=encoded, sealed=ciphertext,
            signature=e2e.sign(self.robot.device.sign_private, e2e.CONTEXT_MESSAGE, encoded + ciphertext))
        self.send(mine.SerializeToString(deterministic=True), header)
        self.say_with_warning(self.alice, "two")
        result = self.assert_warned(self.bob, f"message 2 .* by {self.robot.user_name}, cannot be opened",
                                    "history", self.room, "--json")
        messages = result.objects
        self.assertEqual([message.get("text") for message in messages if "unreadable" not in message],
                         ["I will pay", "two"])
        self.assertEqual(self.bob.try_run("send", self.room, "three").code, DONE)

    def say_with_warning(self, fc, text):
        self.assertEqual(fc.try_run("history", self.room).code, DONE)
        fc.run("send", self.room, text)

    def test_a_claim_to_have_seen_what_was_not_there(self):
        """Else anybody could make the server look like a liar, and stop the room."""
        self.say(self.alice, "one")
        for change in ({"seen_seq": 1, "seen_chain": bytes(32)}, {"seen_seq": 7, "seen_chain": bytes(32)},
                       {"log_head": bytes(32)}):
            header = self.header()
            for name, value in change.items():
                setattr(header, name, value)
            self.assert_server_refuses(self.send, self.seal(header), header)
        self.assertEqual(self.texts(self.bob), ["one"])

    def test_an_id_again(self):
        header = self.header()
        first = self.send(self.seal(header, "one"), header)
        again = self.send(self.seal(header, "two"), header)
        self.assertEqual((again.seq, self.texts(self.bob)), (first.seq, ["one"]))


class Keys(MemberTestCase):
    def rekey(self, change):
        """An entry that starts an epoch, after change(draft, secret)."""
        room = self.room_here
        draft = room.draft(is_rekey=True)
        change(draft, draft.secret)
        return draft.signed(self.robot.device)

    def devices_of(self, fc):
        user = self.robot.user_named(fc.name)
        return {device_id: user.devices[device_id].box_key for device_id in active_devices(user, user.seq)}

    def wrong_for(self, fc):
        def change(draft, _):
            devices = self.devices_of(fc)
            for wrap in draft.entry.wraps:
                if wrap.device_id in devices:
                    wrap.enc, wrap.ciphertext = e2e.wrap_epoch(
                        bytes(32), self.room_id, wrap.epoch, draft.entry.prev_hash, wrap.device_id,
                        devices[wrap.device_id])
        return change

    def test_a_wrong_key_for_one_member(self):
        """The server cannot know. The commitment says that it is wrong; it is not used, and whose fault it is is on record."""
        self.say(self.alice, "one")
        self.bob.run("history", self.room)
        self.robot.chat.Amend(room=self.room_id.hex(), entry=self.rekey(self.wrong_for(self.bob)))
        self.alice.run("send", self.room, "two")
        self.assertEqual(self.texts(self.carol), ["one", "two"])
        result = self.assert_warned(self.bob, f'a wrong key for "{self.room}"', "history", self.room, "--json")
        self.assertIn(self.robot.user_name, result.stderr)
        (unreadable,) = [message for message in result.objects if "unreadable" in message]
        self.assertEqual(unreadable["seq"], 2)
        # Nothing is sealed with it; somebody's next key helps.
        result = self.bob.try_run("send", self.room, "secret")
        self.assertNotEqual(result.code, DONE, repr(result))
        for name, request in self.bob.proxy.sent:
            if name == "Send" and request.sealed:
                with self.assertRaises(e2e.Refused):
                    e2e.parse_message(request.sealed).open(bytes(32))
        self.alice.run("room", "amend", self.room, "--rekey")
        self.assertEqual(self.texts(self.bob), ["one", "two"])  # down the ladder
        self.bob.run("send", self.room, "three")

    def leave_out(self, draft, _):
        devices = self.devices_of(self.carol)
        kept = [wrap for wrap in draft.entry.wraps if wrap.device_id not in devices]
        del draft.entry.wraps[:]
        draft.entry.wraps.extend(kept)

    def add_intruder(self, draft, secret):
        draft.wrap(self.mallory.device.id, self.mallory.device.box_public, draft.entry.rekey.epoch, secret)

    def test_a_device_that_is_left_out_or_in(self):
        for change in (self.leave_out, self.add_intruder):
            with self.subTest(change.__name__):
                entry = self.rekey(change)
                self.assert_server_refuses(
                    lambda entry=entry: self.robot.chat.Amend(room=self.room_id.hex(), entry=entry))
                self.show_entry(self.bob, entry)
                self.assert_detected(self.bob, "from entry 2 on: .*exactly")
                self.assert_sends_nothing(self.bob)
                self.bob.proxy.be_honest()
                self.bob.run("history", self.room)

    def test_a_member_that_is_left_out(self):
        def leave_out(draft, secret):
            self.leave_out(draft, secret)
            kept = [head for head in draft.entry.heads if head.user_id != self.id_of("carol")]
            del draft.entry.heads[:]
            draft.entry.heads.extend(kept)
        entry = self.rekey(leave_out)
        self.assert_server_refuses(lambda: self.robot.chat.Amend(room=self.room_id.hex(), entry=entry))
        self.show_entry(self.bob, entry)
        self.assert_detected(self.bob, f"leaves out {self.carol.name}")

    def test_a_key_for_the_intruder_without_a_new_epoch(self):
        draft = self.room_here.draft()
        draft.wrap(self.mallory.device.id, self.mallory.device.box_public, 1, self.room_here.secret(1))
        entry = draft.signed(self.robot.device)
        self.assert_server_refuses(lambda: self.robot.chat.Amend(room=self.room_id.hex(), entry=entry))
        self.show_entry(self.bob, entry)
        self.assert_detected(self.bob, "no device or link of the room")
        self.assert_sends_nothing(self.bob)

    def test_more_than_the_role_allows(self):
        room = self.room_here
        changes = {
            "add": chain_pb2.RoomChange(set_role=chain_pb2.SetRole(user_id=self.robot.user_id, role=chain_pb2.OWNER)),
            "topic": chain_pb2.RoomChange(set_topic="mine"),
            "remove": chain_pb2.RoomChange(remove_member=self.id_of("carol"))}
        for name, change in changes.items():
            with self.subTest(name):
                entry = room.draft(change).signed(self.robot.device)
                self.assert_server_refuses(
                    lambda entry=entry: self.robot.chat.Amend(room=self.room_id.hex(), entry=entry))
                self.show_entry(self.bob, entry)
                self.assert_detected(self.bob, "from entry 2 on: only")
                self.bob.proxy.be_honest()


if __name__ == "__main__":
    unittest.main()
