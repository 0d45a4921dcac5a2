"""Who comes later: what they can read without anybody being there, and invite links, whose secret no server sees."""
import base64
import re
import unittest

from fc_client import e2e
from fcd_process import DONE, wait_until
from room_people import RoomTestCase, opens


class Late(RoomTestCase):
    """No fc of the others runs when the late one reads: theirs are single commands that have ended."""

    def begin(self, history):
        anna, bert = self.person("anna"), self.person("bert")
        room_id = self.room("team", anna, options=("--history", history))
        anna.run("send", "team", "the first message")
        anna.run("room", "amend", "team", "--rekey")
        anna.run("send", "team", "the second message")
        carl = self.person("carl")
        anna.run("room", "amend", "team", "--add", "bert")
        bert.run("send", "team", "the third message")
        anna.run("room", "amend", "team", "--remove", "bert")
        anna.run("room", "amend", "team", "--add", "carl")
        return anna, carl, room_id

    def test_with_all_the_history_the_first_message_is_read(self):
        anna, carl, _ = self.begin("all")
        self.assertEqual(self.texts(carl, "team"), ["the first message", "the second message", "the third message"])
        carl.run("send", "team", "hello")
        self.assertEqual(len(self.assert_same_history("team", anna, carl)), 4)
        self.assertEqual(carl.run("audit", "team", "--json").object["unreadable"], 0)

    def test_with_the_history_since_joining_nothing_before_is_read(self):
        anna, carl, room_id = self.begin("joined")
        anna.run("send", "team", "the fourth message")
        said = carl.run("history", "team", "--json", "--since", "0")
        self.assertNotIn(b"first message", said.stdout)
        self.assertEqual([message["text"] for message in said.objects if message.get("text")], ["the fourth message"])
        before = [message for message in said.objects if message["seq"] < 4]
        self.assertEqual(len(before), 3, "they are there, and it is said why they cannot be read")
        for message in before:
            self.assertRegex(message["unreadable"], "before this device, or its user, was given the room.s key")
        self.assertRegex(carl.run("history", "team", "--since", "0").text, "was given the room.s key")
        for seq, sealed in self.sealed_messages(room_id).items():
            could = any(opens(sealed, secret) for secret in self.all_secrets(carl, room_id))
            self.assertEqual(could, seq == 4)
        self.assertEqual(self.texts(anna, "team")[0], "the first message")


class Links(RoomTestCase):
    def link(self, fc, *options):
        link = fc.run("invite", "team", "--link", "--json", *options).object["link"]
        link_id, secret = re.fullmatch(r"fc://j/([0-9a-f]{32})#([A-Za-z0-9_-]{43})", link).groups()
        self.secrets.append(secret)
        return link, link_id

    def setUp(self):
        super().setUp()
        self.secrets = []
        self.anna, self.bert, self.carl = (self.person(name) for name in ("anna", "bert", "carl"))
        self.room_id = self.room("team", self.anna)
        self.anna.run("send", "team", "before the link")

    def join(self, fc, link):
        return fc.try_run("join", "-", "--no-follow", stdin=link.encode() + b"\n")

    def epoch(self):
        return max(entry.rekey.epoch for entry in self.log_entries(self.room_id) if entry.HasField("rekey"))

    def assert_secrets_are_nowhere(self):
        for secret in self.secrets:
            raw = base64.urlsafe_b64decode(secret + "=")
            self.assert_nowhere(secret, raw, secret[:20], raw[:16], raw[16:])

    def test_a_link_lets_in_without_anybody_being_there(self):
        link, _ = self.link(self.anna)
        joined = self.join(self.bert, link)
        self.assertEqual((joined.code, joined.stderr), (DONE, ""), repr(joined))
        self.assertEqual(self.texts(self.bert, "team"), ["before the link"])
        self.bert.run("send", "team", "by link")
        self.assertEqual(self.texts(self.anna, "team"), ["before the link", "by link"])
        self.assert_one_fingerprint("team", self.anna, self.bert)
        self.assertNotIn("#", "".join(self.fcd.stderr().splitlines()[2:]))
        self.assert_secrets_are_nowhere()
        self.fcd.restart()
        self.assert_secrets_are_nowhere()

    def test_a_link_gives_nothing_from_before_where_history_begins_with_joining(self):
        self.room("fresh", self.anna, options=("--history", "joined"))
        room_id = bytes.fromhex(self.listed(self.anna, "fresh")["id"])
        link = self.anna.run("invite", "fresh", "--link", "--json").object["link"]
        self.secrets.append(link.split("#")[1])
        self.anna.run("room", "amend", "fresh", "--rekey")
        self.anna.run("send", "fresh", "after the link, before bert")
        self.assertEqual(self.join(self.bert, link).code, DONE)
        self.anna.run("send", "fresh", "with bert")
        said = self.history(self.bert, "fresh")
        self.assertEqual([message.get("text") for message in said if "unreadable" not in message], ["with bert"])
        keys = e2e.Keys.derived(base64.urlsafe_b64decode(self.secrets[-1] + "="), e2e.LABEL_LINK_KEYS)
        self.assertEqual(self.wraps_for(room_id, keys), set())
        sealed = self.sealed_messages(room_id)
        self.assertEqual([any(opens(sealed[seq], secret) for secret in self.all_secrets(self.bert, room_id))
                          for seq in sealed], [False, True])
        # Where all is read, the link's keys are among the wraps: the search would have found them.
        link = self.anna.run("invite", "team", "--link", "--json").object["link"]
        keys = e2e.Keys.derived(base64.urlsafe_b64decode(link.split("#")[1] + "="), e2e.LABEL_LINK_KEYS)
        self.assertEqual(len(self.wraps_for(self.room_id, keys)), 1)

    def test_a_revoked_link_leads_nowhere(self):
        link, link_id = self.link(self.anna)
        before = self.epoch()
        self.anna.run("invite", "revoke", "team", link_id)
        self.assertEqual(self.epoch(), before + 1)
        self.assert_shut_out(self.join(self.bert, link))
        self.assert_shut_out(self.bert.try_run("history", "team"))
        self.anna.run("send", "team", "after the link")
        self.assert_secrets_are_nowhere()

    def test_a_link_outlives_its_maker_in_the_room(self):
        self.anna.run("room", "amend", "team", "--add", "bert")
        self.anna.run("room", "transfer", "team", "bert")
        link, _ = self.link(self.anna)
        self.anna.run("leave", "team")
        joined = self.join(self.carl, link)
        self.assertEqual(joined.code, DONE, joined)
        self.bert.run("send", "team", "after anna")
        self.assertIn("after anna", self.texts(self.carl, "team"))

    def test_a_link_that_is_used_up(self):
        link, link_id = self.link(self.anna, "--uses", "1")
        self.assertEqual(self.join(self.bert, link).code, DONE)
        self.assert_shut_out(self.join(self.carl, link))
        before = self.epoch()
        self.bert.run("send", "team", "the link is spent")
        self.assertGreater(self.epoch(), before, "the first to write takes the link out")
        self.assertEqual(self.anna.run("invite", "ls", "team", "--json").objects, [])
        self.assertFalse(any(bytes.fromhex(link_id) == wrap.device_id for entry in self.log_entries(self.room_id)
                             if entry.HasField("rekey") and entry.rekey.epoch > before for wrap in entry.wraps))
        self.assert_shut_out(self.join(self.carl, link))
        self.assert_secrets_are_nowhere()

    def test_a_link_that_has_expired(self):
        link, link_id = self.link(self.anna, "--expires", "1s")
        before = self.epoch()
        wait_until(lambda: not self.anna.run("invite", "ls", "team", "--json").objects, "the link to expire", 20)
        self.assert_shut_out(self.join(self.bert, link))
        self.anna.run("send", "team", "the link is over")
        self.assertGreater(self.epoch(), before)
        self.assertFalse(any(bytes.fromhex(link_id) == wrap.device_id for entry in self.log_entries(self.room_id)
                             if entry.HasField("rekey") and entry.rekey.epoch > before for wrap in entry.wraps))
        self.assert_secrets_are_nowhere()

    def test_a_changed_secret_lets_nobody_in(self):
        link, _ = self.link(self.anna)
        wrong = link[:-5] + ("A" if link[-5] != "A" else "B") + link[-4:]
        result = self.join(self.bert, wrong)
        self.assertNotEqual(result.code, DONE)
        self.assertEqual(result.stdout, b"")
        self.assert_shut_out(self.bert.try_run("history", "team"))


if __name__ == "__main__":
    unittest.main()
