"""A member who has the room's key, and the server with them, cannot speak for somebody else."""
import os
import sqlite3
import unittest

from fc.chat.v1 import chat_pb2
from fc.e2e.v1 import message_pb2
from fc_client import RpcError, Stub, e2e
from fcd_process import INTEGRITY
from room_people import RoomTestCase, epoch_secrets, own_keys

CHAT = chat_pb2.DESCRIPTOR.services_by_name["Chat"]


class Forgery(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.anna, self.bert, self.carl = (self.person(name) for name in ("anna", "bert", "carl"))
        self.room_id = self.room("team", self.anna, "bert", "carl")
        self.bert.run("send", "team", "by bert")
        self.carl.run("send", "team", "by carl")
        self.history(self.anna, "team")
        self.secret = epoch_secrets(self.carl)[self.room_id, 1]
        self.bert_id, self.bert_keys = own_keys(self.bert)  # of whom carl knows what is public
        self.carl_id, self.carl_keys = own_keys(self.carl)
        self.of_bert = self.sealed_messages(self.room_id)[1]

    def header(self, user_id, keys, **changes):
        log_head = e2e.parse_message(self.of_bert).header.log_head
        return message_pb2.Header(**{"suite": 1, "room_id": self.room_id, "epoch": 1, "user_id": user_id,
                                     "device_id": keys.id, "message_id": os.urandom(16), "created_at_ms": 1,
                                     "log_head": log_head, **changes})

    def sealed(self, header, sign_private, text="I owe carl a thousand"):
        content = chat_pb2.Content(text=text).SerializeToString(deterministic=True)
        return e2e.seal_message(header, self.secret, sign_private, content)

    def forgeries(self):
        """{what it is: an encoded SealedMessage} of what carl can make."""
        as_bert = self.sealed(self.header(self.bert_id, self.bert_keys), self.carl_keys.sign_private)
        parsed = e2e.parse_message(self.of_bert)
        # What bert said, signed by carl as carl's own.
        own_header = self.header(self.carl_id, self.carl_keys).SerializeToString(deterministic=True)
        resigned = message_pb2.SealedMessage(
            header=own_header, sealed=parsed.wire.sealed,
            signature=e2e.sign(self.carl_keys.sign_private, e2e.CONTEXT_MESSAGE, own_header + parsed.wire.sealed))
        # Another text under bert's own signature.
        swapped = message_pb2.SealedMessage.FromString(self.of_bert)
        swapped.sealed = e2e.parse_message(as_bert).wire.sealed
        return {
            "bert's name and device, carl's signature": as_bert,
            "bert's name, carl's device": self.sealed(self.header(self.bert_id, self.carl_keys), self.carl_keys.sign_private),
            "carl's name, bert's device": self.sealed(self.header(self.carl_id, self.bert_keys), self.carl_keys.sign_private),
            "bert's text in carl's name": resigned.SerializeToString(deterministic=True),
            "another text in bert's message": swapped.SerializeToString(deterministic=True),
            "bert's message once more": self.of_bert,
        }

    def test_the_server_refuses_it(self):
        chat = Stub(self.channel("carl"), CHAT)
        bert_chat = Stub(self.channel("bert"), CHAT)
        for what, sealed in self.forgeries().items():
            if what == "bert's text in carl's name":
                continue  # well signed, and sealed as none can see who has no key: see below
            message_id = e2e.parse_message(sealed).header.message_id
            for who, stub in (("carl", chat), ("bert", bert_chat)):
                if who == "bert" and message_id == e2e.parse_message(self.of_bert).header.message_id:
                    continue  # which is answered as the first time, whatever it holds
                with self.subTest(what=what, who=who), self.assertRaises(RpcError):
                    stub.Send(room="team", sealed=sealed, request_id=message_id)
            with self.subTest(what=what), self.assertRaises(RpcError):
                chat.Send(room="team", sealed=sealed, request_id=os.urandom(16))
        for what in ("bert's message once more", "another text in bert's message"):
            sealed = self.forgeries()[what]
            again = bert_chat.Send(room="team", sealed=sealed, request_id=e2e.parse_message(sealed).header.message_id)
            self.assertEqual(again.seq, 1)
        self.assertEqual(self.sealed_messages(self.room_id)[1], self.of_bert)
        self.assertEqual(self.texts(self.anna, "team"), ["by bert", "by carl"])
        # A message that carl may send goes through on the same way.
        header = self.header(self.carl_id, self.carl_keys)
        sent = chat.Send(room="team", sealed=self.sealed(header, self.carl_keys.sign_private, "as myself"),
                         request_id=header.message_id)
        self.assertEqual((sent.seq, self.texts(self.anna, "team")[-1]), (3, "as myself"))

    def plant(self, sealed):
        """The server takes its part: puts a message behind the others, with a chain that fits."""
        self.fcd.stop()
        database = sqlite3.connect(self.server_database())
        with database:
            database.row_factory = sqlite3.Row
            row = dict(database.execute("SELECT * FROM chat_messages WHERE room_id = ? ORDER BY seq DESC LIMIT 1",
                                        (self.room_id,)).fetchone())
            header = e2e.parse_message(sealed).header
            row.update(seq=row["seq"] + 1, message_id=header.message_id, sender_id=header.user_id, sealed=sealed,
                       chain=e2e.message_chain(row["chain"], sealed))
            if header.user_id == self.bert_id:
                row.update(sender_name="bert")
            if header.message_id == e2e.parse_message(self.of_bert).header.message_id:
                row.update(message_id=os.urandom(16))  # the database has each of them once
            database.execute(f"INSERT INTO chat_messages ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                             tuple(row.values()))
            database.execute("UPDATE chat_rooms SET head_seq = ?, chain = ? WHERE room_id = ?",
                             (row["seq"], row["chain"], self.room_id))
        database.close()
        self.fcd.start()
        return row["seq"]

    def uproot(self, seq):
        """The server repents."""
        self.fcd.stop()
        database = sqlite3.connect(self.server_database())
        with database:
            database.execute("DELETE FROM chat_messages WHERE room_id = ? AND seq = ?", (self.room_id, seq))
            database.execute("UPDATE chat_rooms SET head_seq = ?, chain = (SELECT chain FROM chat_messages WHERE room_id = ? "
                             "AND seq = ?) WHERE room_id = ?", (seq - 1, self.room_id, seq - 1, self.room_id))
        database.close()
        self.fcd.start()

    def test_every_client_rejects_it_when_the_server_takes_part(self):
        forgeries = self.forgeries()
        # What the server cannot see is no lie of the server's: it is told, not shown, and the room goes on.
        resigned = forgeries.pop("bert's text in carl's name")
        for what, sealed in forgeries.items():
            seq = self.plant(sealed)
            for fc in (self.anna, self.bert, self.carl):
                with self.subTest(what=what):
                    result = fc.try_run("history", "team", "--json", "--since", "0")
                    self.assertEqual(result.code, INTEGRITY, repr(result))
                    self.assertRegex(result.stderr, r"message %d |earlier messages" % seq)
                    self.assertNotIn(b"thousand", result.stdout)
                    # What came before it is good, and nothing is said to such a server.
                    offline = fc.run("history", "team", "--json", "--since", "0", "--offline")
                    self.assertEqual([message["text"] for message in offline.objects], ["by bert", "by carl"])
                    self.assertEqual(fc.try_run("send", "team", "secret").code, INTEGRITY)
            self.uproot(seq)
        seq = self.plant(resigned)
        for fc in (self.anna, self.bert, self.carl):
            result = fc.try_run("history", "team", "--json", "--since", "0")
            self.assertRegex(result.stderr, f"message {seq} .* by carl, cannot be opened")
            self.assertTrue(result.objects[-1]["unreadable"])
            self.assertEqual([message["text"] for message in result.objects if message.get("text")],
                             ["by bert", "by carl"])
        self.anna.run("send", "team", "it goes on")
        self.assertEqual(self.texts(self.bert, "team")[-1], "it goes on")

    def test_a_new_machine_rejects_it_among_many(self):
        """So many that they are opened on several threads at once."""
        lines = [f"line {number}" for number in range(200)]
        forgeries = self.forgeries()
        resigned = forgeries.pop("bert's text in carl's name")
        self.bert.run("send", "team", "-", stdin="\n".join(lines[:150]).encode(), seconds=60)
        planted = self.plant(resigned)
        self.bert.run("send", "team", "-", stdin="\n".join(lines[150:]).encode(), seconds=60)
        fresh = self.person()
        fresh.run("login", "anna", "--password-stdin", stdin=b"a long password")
        result = fresh.try_run("history", "team", "--json", "--since", "0")
        self.assertEqual({one["seq"] for one in result.objects if one.get("unreadable")}, {planted})
        self.assertEqual([one["text"] for one in result.objects if one["seq"] != planted], ["by bert", "by carl", *lines])
        self.assertEqual(result.stderr.count("cannot be opened"), 1, result.stderr)
        for what, sealed in forgeries.items():
            with self.subTest(what=what):
                seq = self.plant(sealed)
                result = fresh.try_run("history", "team", "--json", "--since", "0")
                self.assertEqual((result.code, result.stdout), (INTEGRITY, b""), repr(result))
                self.assertIn(f"message {seq} ", result.stderr)
                self.uproot(seq)


if __name__ == "__main__":
    unittest.main()
