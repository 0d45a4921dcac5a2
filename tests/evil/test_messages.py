"""A server that drops, changes, moves, repeats and ascribes messages. It numbers and chains what it shows, as it can."""
import unittest

from evil_case import INTEGRITY, EvilTestCase, copied, rechain, wait_until
from evil_proxy import Answer
from fc.chat.v1 import chat_pb2
from fc.e2e.v1 import message_pb2
from fc_client import e2e
from fcd_process import limit, running


class MessagesTestCase(EvilTestCase):
    def whole_history(self):
        return list(self.robot.chat.History(room=self.room_id.hex(), limit=1000).messages)

    def showing(self, change):
        """Shows a history that change(list of all messages) has altered, numbered and chained as if nothing had been."""
        def answer(request, response):
            messages = change([copied(message) for message in self.whole_history()])
            rechain(messages)
            del response.messages[:]
            response.messages.extend(message for message in messages if message.seq > request.after_seq)
            response.head_seq = len(messages)

        def answer_room(_, response):
            response.room.head_seq = min(response.room.head_seq, len(change(self.whole_history())))
        return {"History": answer, "GetRoom": answer_room}

    def assert_change_is_detected(self, change, pattern, fc=None):
        """What is honest can be read; what is changed cannot, and nothing is sent while it is shown."""
        fc = fc or self.bob
        fc.proxy.answers = self.showing(lambda messages: messages)
        before = self.texts(self.carol)
        fc.proxy.answers = self.showing(change)
        self.assert_detected(fc, pattern)
        self.assert_sends_nothing(fc, pattern)
        fc.proxy.be_honest()
        self.assertEqual(self.texts(fc), before)
        fc.run("send", self.room, "good again")
        fc.run("history", self.room)
        fc.run("audit", self.room)

    def message_of(self, wire):
        return message_pb2.SealedMessage.FromString(wire.sealed)


class Order(MessagesTestCase):
    def test_one_in_the_middle_is_missing(self):
        self.say(self.alice, "one", "two", "three")
        self.assert_change_is_detected(lambda messages: messages[:1] + messages[2:], "shown other messages before it")

    def test_one_is_missing_without_an_effort(self):
        self.say(self.alice, "one", "two", "three")

        def drop(_, response):
            kept = [message for message in response.messages if message.seq != 2]
            del response.messages[:]
            response.messages.extend(kept)
        self.bob.proxy.answers["History"] = drop
        self.assert_detected(self.bob, "keeps back the messages after 1")
        self.assert_sends_nothing(self.bob)

    def test_the_newest_is_missing(self):
        """Nobody can tell at once: it is noticed when somebody speaks who had seen it."""
        self.say(self.alice, "one", "two")
        self.bob.proxy.answers = self.showing(lambda messages: messages[:1])
        self.assertEqual(self.texts(self.bob), ["one"])
        self.say(self.carol, "three")
        self.assert_change_is_detected(lambda messages: messages[:1] + messages[2:], "shown other messages before it")

    def test_what_had_been_shown_is_taken_back(self):
        self.say(self.alice, "one", "two")
        self.bob.run("history", self.room)
        self.assert_change_is_detected(lambda messages: messages[:1], "ends at 1, and 2 had been seen")

    def test_one_that_was_acknowledged(self):
        """alice is told that it is on disk; it is nowhere, and then another one has its number."""
        self.say(self.alice, "one")
        self.alice.run("history", self.room)

        def swallow(_):
            raise Answer(chat_pb2.SendResponse(room_id=self.room_id, seq=2, sent_at_ms=1, chain=bytes(32)))
        self.alice.proxy.requests["Send"] = swallow
        self.alice.run("send", self.room, "two")
        self.alice.proxy.be_honest()
        self.assert_detected(self.alice, "ends at 1, and 2 had been seen")
        self.say(self.bob, "instead")
        self.assert_detected(self.alice, "acknowledged a message of yours as number 2")
        self.assert_sends_nothing(self.alice)

    def test_two_in_another_order(self):
        self.say(self.alice, "one")
        self.say(self.carol, "two", "three")
        self.assert_change_is_detected(lambda messages: [messages[1], messages[0], messages[2]], "shown other messages")

    def test_one_again_under_a_new_number(self):
        self.say(self.alice, "one", "two")
        self.assert_change_is_detected(lambda messages: messages + [copied(messages[0])], "repeats 1 earlier message")

    def test_one_again_of_those_that_had_been_read(self):
        self.say(self.alice, "one", "two")
        self.bob.run("history", self.room)
        self.assert_change_is_detected(lambda messages: messages + [copied(messages[0])], "repeats 1 earlier message")

    def test_another_one_under_the_same_number(self):
        """bob and carol are told different things: whoever sends the next message says what it follows."""
        self.say(self.alice, "one", "two")
        self.robot_room.sync_log()
        self.robot_room.send("unseen by bob")
        self.say(self.carol, "three")
        self.assert_change_is_detected(lambda messages: messages[:2] + [messages[3]], "shown other messages before it")

    def test_two_in_another_order_long_ago(self):
        """Whoever notices had read on since, in other runs, and the sender who tells had not."""
        for text in ("one", "two", "three"):
            self.alice.run("send", self.room, text)  # having seen nothing
        reorder = lambda messages: [messages[1], messages[0], *messages[2:]]
        self.bob.proxy.answers = self.showing(reorder)
        self.assertEqual(self.texts(self.bob), ["two", "one", "three"])
        self.carol.run("history", self.room)
        self.alice.run("send", self.room, "four")
        self.assertEqual(self.texts(self.bob)[-1], "four")
        self.carol.run("send", self.room, "five")
        self.assert_detected(self.bob, "shown other messages before it")
        self.assert_sends_nothing(self.bob)

    def test_an_audit_finds_what_was_changed_since(self):
        self.say(self.alice, "one", "two")
        self.bob.run("history", self.room)

        def swap(messages):
            messages[0].sealed, messages[1].sealed = messages[1].sealed, messages[0].sealed
            return messages
        self.bob.proxy.answers = self.showing(swap)
        self.assert_detected(self.bob, "message 1 ", "audit", self.room)
        # It is remembered, though there is nothing new that would show it.
        self.assert_sends_nothing(self.bob, "fc audit")
        self.bob.proxy.be_honest()
        self.assert_sends_nothing(self.bob, "fc audit")
        self.bob.run("audit", self.room)
        self.bob.run("send", self.room, "three")


class Content(MessagesTestCase):
    def assert_one_is_refused(self, change, pattern="not by .*, as the server says, or was changed"):
        """change alters the second message of two."""
        self.say(self.alice, "one", "two")

        def change_second(messages):
            change(messages[1], messages)
            return messages
        self.assert_change_is_detected(change_second, pattern)

    def test_a_byte(self):
        self.say(self.alice, "one", "two")
        for part in ("header", "sealed", "signature"):
            with self.subTest(part):
                def flip(messages, part=part):
                    sealed = self.message_of(messages[1])
                    data = bytearray(getattr(sealed, part))
                    data[len(data) // 2] ^= 1
                    setattr(sealed, part, bytes(data))
                    messages[1].sealed = sealed.SerializeToString(deterministic=True)
                    return messages
                self.bob.proxy.answers = self.showing(flip)
                self.assert_detected(self.bob, "message 2 .* or was changed")
        self.bob.proxy.be_honest()
        self.assertEqual(self.texts(self.bob), ["one", "two"])

    def test_a_byte_without_an_effort(self):
        self.say(self.alice, "one")

        def flip(_, response):
            for message in response.messages:
                message.sealed = message.sealed[:-1] + bytes([message.sealed[-1] ^ 1])
        self.bob.proxy.answers["History"] = flip
        self.assert_detected(self.bob, "does not follow from those before it")

    def test_a_byte_of_what_is_told_at_once(self):
        self.say(self.alice, "one")
        self.bob.run("history", self.room)

        def flip(_, batch):
            for event in batch.events:
                if event.HasField("message"):
                    event.message.sealed = event.message.sealed[:-1] + bytes([event.message.sealed[-1] ^ 1])
        def only_events(_, response):
            del response.messages[:]
            response.head_seq = 1
        self.bob.proxy.events, self.bob.proxy.answers["History"] = flip, only_events
        with running(self.bob.start("join", self.room, "--count", "1")) as process:
            wait_until(lambda: self.count_sent(self.bob, "Subscribe"), "bob to follow")
            self.alice.run("send", self.room, "two")
            _, stderr = process.communicate(timeout=limit(30))
        self.assertEqual((process.returncode, b"does not follow" in stderr), (INTEGRITY, True), stderr)

    def test_contents_of_two(self):
        def swap(second, messages):
            messages[0].sealed, second.sealed = second.sealed, messages[0].sealed
        self.assert_one_is_refused(swap, "message 1 ")

    def test_another_sender(self):
        def ascribe(second, _):
            second.sender, second.sender_id = self.carol.name, self.id_of("carol")
        self.assert_one_is_refused(ascribe, f"not by {self.carol.name}")

    def test_another_senders_name(self):
        """The name is the chain's, whatever the server calls them."""
        self.say(self.alice, "one")

        def rename(messages):
            messages[0].sender = self.carol.name
            return messages
        self.bob.proxy.answers = self.showing(rename)
        (message,) = self.bob.run("history", self.room, "--json").objects
        self.assertEqual(message["sender"], self.alice.name)

    def test_another_id(self):
        def rename(second, _):
            second.id = bytes(16)
        self.assert_one_is_refused(rename)

    def test_one_of_another_room(self):
        other = self.room + ".other"
        self.alice.run("room", "create", other, "--member", self.bob.name + "," + self.robot.user_name)
        self.alice.run("send", other, "elsewhere")
        (elsewhere,) = self.robot.chat.History(room=other).messages

        def insert(second, messages):
            second.CopyFrom(elsewhere)
            second.room_id = self.room_id
        self.assert_one_is_refused(insert)

    def test_by_somebody_who_is_not_in_the_room(self):
        """Sealed with the room's key, which a member may have passed on, and signed by who has never been in it."""
        room = self.robot_room

        def insert(messages):
            sealed, header = self.sealed_by(self.mallory, messages)
            messages.append(chat_pb2.Message(room_id=self.room_id, id=header.message_id, sender=self.mallory.user_name,
                                             sender_id=self.mallory.user_id, sealed=sealed, sent_at_ms=1))
            return messages
        self.say(self.alice, "one")
        room.sync_log()
        self.assert_change_is_detected(insert, f"not by {self.mallory.user_name}")

    def sealed_by(self, account, messages):
        room = self.robot_room
        header = room.header(bytes(range(16)))
        header.user_id, header.device_id = account.user_id, account.device.id
        header.seen_seq, header.seen_chain = 0, b""
        return e2e.seal_message(header, room.secret(room.log.epoch), account.device.sign_private,
                                chat_pb2.Content(text="hello").SerializeToString()), header


class Deletions(MessagesTestCase):
    @staticmethod
    def take_away(messages):
        messages[0].sealed_hash = e2e.sha256(messages[0].sealed)
        messages[0].sealed, messages[0].is_deleted = b"", True
        return messages

    def test_by_the_server(self):
        self.say(self.alice, "one", "two")
        self.assert_change_is_detected(self.take_away, "message 1 .* taken away")

    def test_by_its_sender(self):
        """That is as it should be."""
        self.say(self.alice, "one", "two")
        self.alice.run("delete", self.room, "1")
        self.assertEqual(self.texts(self.bob)[1:], ["two"])
        self.bob.run("audit", self.room)
        self.bob.run("send", self.room, "three")

    def test_what_only_the_server_says(self):
        self.say(self.alice, "one", "two")

        def mark(messages):
            messages[0].is_deleted = True
            messages[1].edited_at_ms = 5
            return messages
        self.bob.proxy.answers = self.showing(mark)
        messages = self.bob.run("history", self.room, "--json").objects
        self.assertEqual([message["text"] for message in messages], ["one", "two"])
        self.assertFalse(any("edited_at" in message or message.get("deleted") for message in messages), messages)


class Rooms(MessagesTestCase):
    def test_a_room_that_is_said_to_be_plain(self):
        self.say(self.alice, "one")
        self.bob.run("history", self.room)

        def flip(_, response):
            for room in response.rooms:
                room.is_plain = True
        self.bob.proxy.answers["ListRooms"] = flip
        self.assert_detected(self.bob, "no room ever becomes", "room", "list")
        self.bob.run("send", self.room, "two")
        for name, request in self.bob.proxy.sent:
            if name == "Send":
                self.assertEqual((request.text, bool(request.sealed)), ("", True))

    def test_a_link_to_a_room_that_is_said_to_be_plain(self):
        link = self.alice.run("invite", self.room, "--link").text.strip()
        dave = self.behind_proxy("dave")

        def flip(_, response):
            response.is_plain = True
        dave.proxy.answers["GetLink"] = flip
        self.assert_detected(dave, "leads this link to another room", "join", "-", "--no-follow", stdin=link.encode())
        dave.proxy.be_honest()
        dave.run("join", "-", "--no-follow", stdin=link.encode())

    def test_a_link_that_leads_to_another_room(self):
        other = self.room + ".other"
        self.alice.run("room", "create", other)
        links = [self.alice.run("invite", room, "--link").text.strip() for room in (self.room, other)]
        ids = [bytes.fromhex(link.split("/j/")[1].split("#")[0]) for link in links]
        dave = self.behind_proxy("dave")
        theirs = self.robot.chat.GetLink(link_id=ids[1])
        dave.proxy.answers["GetLink"] = lambda request, response: theirs
        self.assert_detected(dave, "leads this link to another room", "join", "-", "--no-follow", stdin=links[0].encode())

        def only_id(_, response):
            response.room_id = theirs.room_id
        dave.proxy.answers["GetLink"] = only_id
        self.assert_detected(dave, "leads this link to another room", "join", "-", "--no-follow", stdin=links[0].encode())

    def test_a_name_that_leads_to_another_room(self):
        other = self.room + ".other"
        self.robot.create_room(other, [self.bob.name, self.mallory.user_name])

        def rename(_, response):
            room = self.robot.chat.GetRoom(room=other).room
            response.room.id, response.room.log_seq = room.id, room.log_seq
            response.room.is_member, response.room.role = True, 1
        self.bob.proxy.answers["GetRoom"] = rename
        self.assert_detected(self.bob, f'another room than "{self.room}"', "send", self.room, "secret")
        self.assertEqual(self.count_sent(self.bob), 0)

        def swap(_, response):
            for room in response.rooms:
                room.name = other if room.name == self.room else self.room if room.name == other else room.name
        self.bob.proxy.answers = {"ListRooms": swap}
        self.bob.run("room", "list")
        self.bob.try_run("history", self.room)
        self.bob.proxy.answers = {"ListRooms": swap}
        self.bob.try_run("room", "list")
        self.assert_detected(self.bob, f'another room than "{self.room}"', "send", self.room, "secret")
        self.assertEqual(self.count_sent(self.bob), 0)


if __name__ == "__main__":
    unittest.main()
