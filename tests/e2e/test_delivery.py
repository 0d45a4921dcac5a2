"""A message is sent once: when the answer is lost, when fc is killed on the way, and when the room's key changes meanwhile."""
import random
import threading
import unittest

from fc.chat.v1 import chat_pb2
from fc_client import e2e
from fcd_process import DONE, check_report, limit, running
from room_people import AMEND, SEND, RoomTestCase, opens, queued

KILLS = 12


class LostAnswers(RoomTestCase):
    def test_an_answer_that_is_lost_doubles_nothing(self):
        anna, bert = self.person("anna"), self.person("bert")
        room_id = self.room("team", anna, "bert")
        anna.run("send", "team", "first")
        self.proxy.lose_replies(SEND, 3)
        sent = anna.run("send", "team", "second", "--json").object
        self.assertEqual(self.proxy.lost, 3)
        ids = self.proxy.request_ids(SEND)[1:]
        self.assertEqual((len(ids), len(set(ids))), (4, 1))
        self.assertEqual(sent["seq"], 2)
        after = anna.run("send", "team", "third", "--json").object
        self.assertEqual(after["seq"], 3)
        for fc in (anna, bert):
            self.assertEqual(self.texts(fc, "team"), ["first", "second", "third"])
        self.assertEqual(self.history(bert, "team")[1]["id"], ids[0].hex())
        self.assertEqual(len(self.sealed_messages(room_id)), 3)

    def test_a_change_whose_answer_is_lost_is_made_once(self):
        anna, bert, carl = (self.person(name) for name in ("anna", "bert", "carl"))
        room_id = self.room("team", anna)
        self.proxy.lose_replies(AMEND, 2)
        anna.run("room", "amend", "team", "--add", "bert,carl")
        self.assertEqual(self.proxy.lost, 2)
        self.assertEqual(len(self.log_entries(room_id)), 2)
        carl.run("send", "team", "here")
        self.assertEqual(self.texts(bert, "team"), ["here"])
        self.assert_one_fingerprint("team", anna, bert, carl)


class KilledSenders(RoomTestCase):
    def kill_at(self, fc, moment, text):
        """Starts to send and kills it: after so many seconds, or with the call on its way."""
        is_reached = threading.Event()

        def on_request(method):
            if method == SEND:
                is_reached.set()
        self.proxy.on_request = on_request
        with running(fc.start("send", "team", text)) as process:
            is_reached.wait(limit(20) if moment is None else moment)
            process.kill()
            _, stderr = process.communicate(timeout=limit(20))
            check_report("fc send", stderr.decode())
        self.proxy.on_request = None

    def test_a_killed_sender_sends_identical_bytes_once(self):
        anna, bert = self.person("anna"), self.person("bert")
        room_id = self.room("team", anna, "bert")
        choose = random.Random(20260301)
        left = 0
        for number in range(KILLS):
            self.kill_at(anna, None if number % 3 == 0 else choose.uniform(0.01, 0.25), f"message {number}")
            waiting = {message_id: chat_pb2.SendRequest.FromString(request).sealed for message_id, request in queued(anna)}
            left += bool(waiting)
            anna.run("outbox", "flush")
            self.assertEqual(queued(anna), [])
            stored = {e2e.parse_message(sealed).header.message_id: sealed
                      for sealed in self.sealed_messages(room_id).values()}
            for message_id, sealed in waiting.items():
                self.assertEqual(stored[message_id], sealed, "it was sealed anew")
        self.assertTrue(left, "no kill came while something was on its way")
        texts = [message["text"] for message in self.assert_same_history("team", anna, bert)]
        self.assertEqual(len(set(texts)), len(texts))
        # In the order in which they were written; a kill may have come before anything was written.
        self.assertEqual(texts, sorted(texts, key=lambda text: int(text.split()[1])))
        for number in range(0, KILLS, 3):
            self.assertIn(f"message {number}", texts, "it had been with the server's door already")


class Stale(RoomTestCase):
    def test_a_message_that_meets_a_removal_is_sealed_anew(self):
        anna, bert, carl = (self.person(name) for name in ("anna", "bert", "carl"))
        room_id = self.room("team", anna, "bert", "carl")
        for fc in (anna, bert, carl):
            fc.run("send", "team", "all are here")
        # What bert sends is held back at the server's door until carl is out.
        is_held, is_out = threading.Event(), threading.Event()

        def on_request(method):
            if method == SEND and not is_held.is_set():
                is_held.set()
                is_out.wait(limit(30))
        self.proxy.on_request = on_request
        with running(bert.start("send", "team", "not for carl", "--json")) as process:
            self.assertTrue(is_held.wait(limit(30)))
            ((message_id, request),) = queued(bert)
            anna.run("room", "amend", "team", "--remove", "carl")
            is_out.set()
            stdout, stderr = process.communicate(timeout=limit(30))
        self.assertEqual((process.returncode, stderr), (DONE, b""), stdout)
        first = chat_pb2.SendRequest.FromString(request).sealed
        ids = self.proxy.request_ids(SEND)[3:]
        self.assertEqual(ids, [message_id] * 2, "refused, and sent again under the same id")
        stored = self.sealed_messages(room_id)
        self.assertEqual([e2e.parse_message(sealed).header.message_id for sealed in stored.values()].count(message_id), 1)
        self.assertEqual((e2e.parse_message(first).header.epoch, e2e.parse_message(stored[4]).header.epoch), (1, 2))
        self.assertEqual(self.texts(anna, "team")[3:], ["not for carl"])
        self.assert_same_history("team", anna, bert)
        for secret in self.all_secrets(carl, room_id):
            self.assertFalse(opens(stored[4], secret))
        self.assert_shut_out(carl.try_run("send", "team", "let me in"))


if __name__ == "__main__":
    unittest.main()
