"""A server that changes the logs of rooms: who is in them, what they are called, which keys hold."""
import unittest

from evil_case import EvilTestCase, copied
from evil_proxy import Answer, Refusal
from fc.chat.v1 import chat_pb2
from fc.e2e.v1 import chain_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import e2e
from fc_client.room_log import Draft


def appending(*entries):
    """Shows these behind the log."""
    def change(request, response):
        for number, entry in enumerate(entries, response.head_seq + 1):
            if request.after_seq < number:
                response.entries.append(entry)
        response.head_seq += len(entries)
    return change


class Additions(EvilTestCase):
    def add_mallory(self, author_id, device, names=()):
        """The entry that lets mallory in, whoever signs it."""
        room = self.robot_room
        room.sync_log()
        draft = Draft.next(room.log, author_id, device.id)
        mallory = self.robot.user(self.mallory.user_id)
        draft.entry.changes.add().add_member.CopyFrom(chain_pb2.AddMember(
            user_id=mallory.user_id, user_name=mallory.user_name, role=chain_pb2.MEMBER))
        for user_id in {author_id, *names}:
            draft.name_head(self.robot.user(user_id))
        draft.wrap_for_user(mallory, room.log.epoch, room.secret(room.log.epoch))
        return draft.signed(device)

    def assert_refused(self, entry, pattern):
        self.say(self.alice, "one")
        self.assertEqual(self.texts(self.bob), ["one"])
        self.bob.proxy.answers["GetLog"] = appending(entry)
        self.assert_detected(self.bob, f"from entry 2 on: .*{pattern}")
        self.assert_detected(self.bob, f"from entry 2 on: .*{pattern}", "room", "fingerprint", self.room)
        self.assert_sends_nothing(self.bob)
        # With an honest server it goes on.
        self.bob.proxy.be_honest()
        self.bob.run("send", self.room, "two")
        self.assertEqual(self.texts(self.alice), ["one", "two"])
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_by_a_device_of_the_servers(self):
        self.assert_refused(self.add_mallory(self.id_of("alice"), e2e.Keys.generate()), "none of alice")

    def test_with_the_id_of_a_real_device(self):
        (device_id, *_) = self.robot.user_named(self.name_of("alice")).devices
        forged = e2e.Keys(device_id, e2e.Keys.generate().sign_private, e2e.Keys.generate().box_private)
        self.assert_refused(self.add_mallory(self.id_of("alice"), forged), "not signed by the device")

    def test_by_the_intruder_herself(self):
        self.assert_refused(self.add_mallory(self.mallory.user_id, self.mallory.device), "nobody adds themselves")

    def test_by_a_member_who_may_not(self):
        self.assert_refused(self.add_mallory(self.robot.user_id, self.robot.device), "only admins")

    def test_by_an_entry_of_before(self):
        self.alice.run("room", "amend", self.room, "--topic", "stew")
        self.bob.run("history", self.room)
        self.bob.proxy.answers["GetLog"] = appending(self.entries()[1])
        self.assert_detected(self.bob, "from entry 3 on")
        self.assert_sends_nothing(self.bob)


class Omissions(EvilTestCase):
    def hide_from(self, seq):
        def change(_, response):
            kept = [entry for entry in response.entries
                    if chain_pb2.RoomEntry.FromString(entry.body).seq < seq]
            del response.entries[:]
            response.entries.extend(kept)
            response.head_seq = min(response.head_seq, seq - 1)
        return change

    def test_a_removal(self):
        self.say(self.alice, "one")
        self.assertEqual(self.texts(self.bob), ["one"])
        self.alice.run("room", "amend", self.room, "--remove", self.carol.name)
        self.bob.proxy.answers["GetLog"] = self.hide_from(2)
        # What alice says next names the log that she has seen.
        self.say(self.alice, "two")
        self.assert_detected(self.bob, "shown another log of the room than you")
        self.assert_sends_nothing(self.bob)
        self.bob.proxy.be_honest()
        self.assertEqual(self.texts(self.bob), ["one", "two"])
        self.bob.run("send", self.room, "three")

    def test_entries_that_had_been_shown(self):
        self.alice.run("room", "amend", self.room, "--topic", "stew")
        self.bob.run("history", self.room)
        self.bob.proxy.answers["GetLog"] = self.hide_from(2)
        self.assert_detected(self.bob, "older log")
        self.assert_detected(self.bob, "older log", "room", "fingerprint", self.room)
        self.assert_sends_nothing(self.bob)

    def test_a_log_that_is_announced_and_not_shown(self):
        self.bob.run("history", self.room)

        def announce(_, response):
            response.head_seq += 1
        self.bob.proxy.answers["GetLog"] = announce
        self.assert_detected(self.bob, "keeps back the log")


    def test_what_was_acknowledged(self):
        """alice is told that carol is out, and she is not."""
        def swallow(_):
            raise Answer(chat_pb2.AmendResponse())
        self.alice.proxy.requests["Amend"] = swallow
        self.assert_detected(self.alice, "has none of it", "room", "amend", self.room, "--remove", self.carol.name)
        self.assertEqual(len(self.entries()), 1)
        self.alice.proxy.be_honest()
        self.alice.run("room", "amend", self.room, "--remove", self.carol.name)


class Alterations(EvilTestCase):
    def test_an_entry_that_is_rewritten(self):
        self.alice.run("room", "amend", self.room, "--topic", "stew")

        def rewrite(_, response):
            for signed in response.entries:
                entry = chain_pb2.RoomEntry.FromString(signed.body)
                if entry.seq == 2:
                    entry.changes[0].set_topic = "poison"
                    signed.body = entry.SerializeToString(deterministic=True)
        self.bob.proxy.answers["GetLog"] = rewrite
        self.assert_detected(self.bob, "from entry 2 on: .*not signed")
        self.bob.proxy.be_honest()
        self.bob.run("history", self.room)
        self.bob.run("audit", self.room)
        # What was believed is held against what is shown.
        self.bob.proxy.answers["GetLog"] = rewrite
        self.assert_detected(self.bob, "entry 2 of the log", "audit", self.room)

    def test_entries_in_another_order(self):
        for topic in ("stew", "cake"):
            self.alice.run("room", "amend", self.room, "--topic", topic)

        def reorder(_, response):
            if len(response.entries) == 3:
                second = copied(response.entries[1])
                response.entries[1].CopyFrom(response.entries[2])
                response.entries[2].CopyFrom(second)
        self.bob.proxy.answers["GetLog"] = reorder
        self.assert_detected(self.bob, "from entry 2 on")
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_two_logs_that_are_both_signed(self):
        """alice is told that she was too slow, and signs again; bob gets the first entry, all others the second."""
        self.say(self.alice, "one")
        self.bob.run("history", self.room)
        fork = []

        def refuse_once(request):
            if not fork:
                fork.append(copied(request.entry))
                raise Refusal(rpc_pb2.ABORTED, "too slow")
        self.alice.proxy.requests["Amend"] = refuse_once
        self.alice.run("room", "amend", self.room, "--topic", "stew")
        (entry,) = fork
        self.assertNotEqual(entry.body, self.entries()[1].body)

        def show_fork(request, response):
            del response.entries[:]
            if request.after_seq < 2:
                response.entries.append(entry)
        self.bob.proxy.answers["GetLog"] = show_fork
        theirs = [fc.run("room", "fingerprint", self.room).text for fc in (self.alice, self.bob, self.carol)]
        self.assertEqual(theirs[0], theirs[2])
        self.assertNotEqual(theirs[0], theirs[1])
        self.say(self.alice, "two")
        self.assertEqual(self.texts(self.carol), ["one", "two"])
        self.assert_detected(self.bob, f"fc room fingerprint {self.room}")
        self.assert_sends_nothing(self.bob)


if __name__ == "__main__":
    unittest.main()
