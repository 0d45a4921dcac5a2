"""People in encrypted rooms, each behind a malicious server of their own, and an intruder who gets what is sealed to them."""
import os

from evil_proxy import EvilProxy
from fc.e2e.v1 import chain_pb2
from fc_client import Channel, e2e, log_in, sign_up
from fc_client.rooms import Account
from fcd_process import CONFLICT, DONE, INTEGRITY, NO_KEY, Fc, FcTestCase, wait_until

PASSWORD = "a long password"
__all__ = ["CONFLICT", "DONE", "INTEGRITY", "NO_KEY", "EvilTestCase", "copied", "rechain", "wait_until"]


def copied(message):
    return type(message).FromString(message.SerializeToString())


def rechain(messages, first_seq=1, before=bytes(32)):
    """Numbers and chains messages as the server that made them would have."""
    for seq, message in enumerate(messages, first_seq):
        message.seq = seq
        before = e2e.sha256(before + (e2e.sha256(message.sealed) if message.sealed else message.sealed_hash))
        message.chain = before


class EvilTestCase(FcTestCase):
    """Tests have a room of alice's with bob, carol and robot, whose program is in Python, in it; mallory is not."""

    numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.room = self.name_of("kitchen")
        self.intruder_keys = []
        self.alice, self.bob, self.carol = (self.behind_proxy(name) for name in ("alice", "bob", "carol"))
        self.robot, self.mallory = self.account("robot"), self.account("mallory")
        self.intruder_keys.append(self.mallory.device)
        self.alice.run("room", "create", self.room, "--member",
                       ",".join(self.name_of(name) for name in ("bob", "carol", "robot")))
        self.robot_room = self.robot.room(self.room)
        self.room_id = self.robot_room.room_id

    def name_of(self, name):
        return f"{name}{self.number}"

    def behind_proxy(self, name):
        """An fc of somebody new, whose server is a proxy."""
        proxy = EvilProxy(self.fcd.url)
        self.addCleanup(proxy.close)
        fc = Fc(proxy.url)
        self.addCleanup(fc.close)
        fc.proxy, fc.name = proxy, self.name_of(name)
        fc.sign_up(fc.name)
        return fc

    def account(self, name):
        """Somebody new, whose program is in Python, and whose server is honest."""
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        sign_up(channel, self.name_of(name), PASSWORD)
        log_in(channel, self.name_of(name), PASSWORD)
        return Account.create(channel, self.name_of(name))

    def id_of(self, name):
        return self.robot.user_named(self.name_of(name)).user_id

    def texts(self, fc, room=None):
        return [message["text"] for message in fc.run("history", room or self.room, "--json").objects]

    def say(self, fc, *texts):
        """Sends, having read what there is: so the message says what its sender has seen."""
        for text in texts:
            fc.run("history", self.room)
            fc.run("send", self.room, text)

    def entries(self):
        """The log as the honest server has it."""
        return list(self.robot.chat.GetLog(room=self.room_id.hex()).entries)

    # What is found out

    def assert_detected(self, fc, pattern, *arguments, code=INTEGRITY, stdin=b""):
        """The command ends with the code and says in its last line what is wrong, which matches the pattern."""
        result = fc.try_run(*(arguments or ("history", self.room, "--since", "0")), stdin=stdin)
        self.assertEqual(fc.proxy.errors, [], "the test's own mistake")
        self.assertEqual(result.code, code, repr(result))
        lines = result.stderr.splitlines()
        self.assertTrue(lines, repr(result))
        self.assertRegex(lines[-1], r"\Afc[^\n]*: " )
        self.assertRegex(lines[-1], pattern)
        return result

    def assert_warned(self, fc, pattern, *arguments):
        result = fc.try_run(*arguments)
        self.assertEqual((fc.proxy.errors, result.code), ([], DONE), repr(result))
        self.assertRegex(result.stderr, pattern)
        return result

    def assert_nothing_is_sealed_to_the_intruder(self):
        """Of all that the people have sent since their proxies exist, the intruder's keys open nothing."""
        secrets = set()
        for fc in (self.alice, self.bob, self.carol):
            for entry in self._entries_sent(fc):
                for wrap in entry.wraps:
                    for keys in self.intruder_keys:
                        self._assert_stays_closed(entry, wrap, keys)
        for secret in secrets:
            self.fail(f"the intruder has {secret}")

    @staticmethod
    def _entries_sent(fc):
        for name, request in fc.proxy.sent:
            if name in ("Amend", "CreateRoom", "Join", "Leave") and request.HasField("entry"):
                yield chain_pb2.RoomEntry.FromString(request.entry.body)

    def _assert_stays_closed(self, entry, wrap, keys):
        self.assertNotEqual(wrap.device_id, keys.id, "a wrap for the intruder's device")
        for device_id in {wrap.device_id, keys.id}:
            with self.assertRaises(e2e.Refused, msg="the intruder opens a wrap"):
                e2e.unwrap_epoch(keys.box_private, entry.room_id, wrap.epoch, entry.prev_hash, device_id, wrap.enc,
                                 wrap.ciphertext)

    def count_sent(self, fc, name="Send"):
        return sum(sent == name for sent, _ in fc.proxy.sent)

    def assert_sends_nothing(self, fc, pattern="."):
        """A message is refused before anything of it leaves."""
        before = self.count_sent(fc)
        self.assert_detected(fc, pattern, "send", self.room, "secret")
        self.assertEqual(self.count_sent(fc), before)
        self.assert_nothing_is_sealed_to_the_intruder()

    # What an intruder makes

    def forged_chain(self, user_id, user_name):
        """(chain entries, keys of its device, identity key) of somebody who claims to be this user."""
        identity, device = os.urandom(32), e2e.Keys.generate()
        self.intruder_keys.append(device)
        entry = chain_pb2.UserEntry(suite=1, user_id=user_id, seq=1, created_at_ms=1, changes=[
            chain_pb2.UserChange(set_identity=chain_pb2.Identity(
                user_name=user_name, identity_key=e2e.sign_public(identity))),
            Account.add_device_change(device, "forged")])
        return [self.signed_user_entry(entry, identity)], device, identity

    @staticmethod
    def signed_user_entry(entry, identity):
        body = entry.SerializeToString(deterministic=True)
        return chain_pb2.Signed(body=body, signature=e2e.sign(identity, e2e.CONTEXT_USER, body))
