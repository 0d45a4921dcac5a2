"""A server that gives people other keys: at first contact, later, in secret, and for good."""
import os
import unittest

from evil_case import CONFLICT, NO_KEY, EvilTestCase
from fc.auth.v1 import keys_pb2
from fc.e2e.v1 import chain_pb2
from fc_client import e2e
from fc_client.room_log import Draft, RoomLog
from fc_client.rooms import Chain


class UsersTestCase(EvilTestCase):
    def showing(self, user_id, entries):
        """Shows this chain for the user, whatever the server has."""
        def answer(request, response):
            wanted = {user.user_id or user.user_name: user.after_seq for user in request.users}
            for user in response.users:
                if user.user_id == user_id:
                    after_seq = wanted.get(user.user_id, wanted.get(user.user_name, 0))
                    del user.entries[:]
                    user.entries.extend(entries[after_seq:])
                    user.head_seq = len(entries)
        return {"GetUsers": answer}

    def chain_of(self, user_id):
        (user,) = self.robot.keys.GetUsers(users=[keys_pb2.WantedUser(user_id=user_id)]).users
        return list(user.entries)

    def last_of(self, user_id):
        chain = Chain(user_id)
        for signed in self.chain_of(user_id):
            chain.apply(signed)
        return chain.newest

    def next_entry(self, user_id, *changes):
        user = self.last_of(user_id)
        return chain_pb2.UserEntry(suite=1, user_id=user_id, seq=user.seq + 1, prev_hash=user.head_hash,
                                   created_at_ms=1, changes=changes)

    def forged_device(self):
        keys = e2e.Keys.generate()
        self.intruder_keys.append(keys)
        return keys

    def number_for(self, one, other):
        return one.run("verify", other.name, "--json").object["safety_number"]


class FirstContact(UsersTestCase):
    def test_another_identity(self):
        """The first one is believed. Whoever compares numbers finds out, and so does who sees the real one later."""
        dave = self.behind_proxy("dave")
        dave_id = self.robot.user_named(dave.name).user_id
        real = self.chain_of(dave_id)
        forged, _, _ = self.forged_chain(dave_id, dave.name)
        erin = self.behind_proxy("erin")
        erin.proxy.answers = self.showing(dave_id, forged)
        number = self.number_for(dave, erin)
        self.assert_detected(erin, "safety numbers differ", "verify", dave.name, "--code", number)
        erin.proxy.be_honest()
        self.assert_detected(erin, f"keys of {dave.name} that cannot be right", "verify", dave.name, "--code", number)
        self.assert_detected(erin, f"keys of {dave.name}", "room", "create", self.room + ".erin", "--member", dave.name)
        self.assertEqual(self.count_sent(erin, "CreateRoom"), 0)
        # Who was never lied to is told that all is well.
        self.assertNotEqual(real, forged)
        self.alice.run("verify", dave.name, "--code", self.number_for(dave, self.alice))

    def test_another_identity_behind_a_link(self):
        """The whole room is forged, with its log and its maker: but the link says who made it."""
        link = self.alice.run("invite", self.room, "--link").text.strip()
        link_id = bytes.fromhex(link.split("/j/")[1].split("#")[0])
        (real_link,) = [change.add_link for signed in self.entries()
                        for change in chain_pb2.RoomEntry.FromString(signed.body).changes
                        if change.WhichOneof("kind") == "add_link"]
        alice_id = self.id_of("alice")
        chain, device, _ = self.forged_chain(alice_id, self.alice.name)
        forged_alice = Chain(alice_id)
        forged_alice.apply(chain[0])
        log = RoomLog(self.room_id)
        draft = Draft.next(log, alice_id, device.id)
        draft.entry.changes.add().create.CopyFrom(chain_pb2.CreateRoom(name=self.room, kind=chain_pb2.PRIVATE))
        draft.entry.changes.add().add_link.CopyFrom(real_link)
        draft.rekey(1, [forged_alice.newest], [real_link], None)
        entry = draft.signed(device)
        log.apply(entry, lambda _: forged_alice.newest)  # nothing is wrong with it

        dave = self.behind_proxy("dave")

        def show_log(request, response):
            del response.entries[:]
            response.entries.extend([entry][request.after_seq:])
            response.head_seq = 1
        dave.proxy.answers = {**self.showing(alice_id, chain), "GetLog": show_log}
        self.assert_detected(dave, "whoever made this link has not made one in the room", "join", "-", "--no-follow",
                             stdin=link.encode())
        self.assertEqual(self.count_sent(dave, "Join"), 0)
        self.assertIn("GetLink", {name for name, _ in dave.proxy.sent})
        self.assertTrue(link_id)


class Chains(UsersTestCase):
    def assert_chain_is_refused(self, entries, pattern):
        """alice has seen bob's chain as it is; what is shown now is refused, whatever she does with it."""
        for arguments in (("verify", self.bob.name), ("room", "amend", self.room, "--rekey")):
            self.alice.proxy.be_honest()
            self.alice.run(*arguments)
            self.alice.proxy.answers = self.showing(self.id_of("bob"), entries)
            before = self.count_sent(self.alice, "Amend")
            self.assert_detected(self.alice, pattern, *arguments)
            self.assertEqual(self.count_sent(self.alice, "Amend"), before)
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_a_device_more(self):
        bob_id = self.id_of("bob")
        device = self.forged_device()
        entry = self.next_entry(bob_id, self.robot.add_device_change(device, "phone"))
        forged = self.signed_user_entry(entry, os.urandom(32))
        self.assert_chain_is_refused(self.chain_of(bob_id) + [forged], "the signature is not theirs")

    def test_another_device_in_the_place_of_one(self):
        bob_id = self.id_of("bob")
        entries = self.chain_of(bob_id)
        entry = chain_pb2.UserEntry.FromString(entries[0].body)
        for change in entry.changes:
            if change.WhichOneof("kind") == "add_device":
                change.add_device.box_key = self.forged_device().box_public
        entries[0] = chain_pb2.Signed(body=entry.SerializeToString(deterministic=True), signature=entries[0].signature)
        self.assert_chain_is_refused(entries, "cannot be right: they differ from those that this machine has seen")

    def test_another_device_at_first_contact(self):
        bob_id = self.id_of("bob")
        entries = self.chain_of(bob_id)
        entry = chain_pb2.UserEntry.FromString(entries[0].body)
        entry.changes[1].add_device.box_key = self.forged_device().box_public
        entries[0] = chain_pb2.Signed(body=entry.SerializeToString(deterministic=True), signature=entries[0].signature)
        erin = self.behind_proxy("erin")
        erin.proxy.answers = self.showing(bob_id, entries)
        self.assert_detected(erin, "the signature is not theirs", "room", "create", self.room + ".erin", "--member",
                             self.bob.name)
        self.assertEqual(self.count_sent(erin, "CreateRoom"), 0)

    def test_a_chain_of_somebody_else(self):
        self.assert_chain_is_refused(self.chain_of(self.mallory.user_id), "keys of bob")


class Devices(UsersTestCase):
    """The robot adds and revokes devices, as a person with two computers does."""

    def setUp(self):
        super().setUp()
        self.stolen = self.forged_device()
        self.robot.append_to_chain(self.robot.add_device_change(self.stolen, "stolen"))
        self.with_stolen = self.chain_of(self.robot.user_id)
        self.intruder_keys.remove(self.stolen)
        self.alice.run("room", "amend", self.room, "--rekey")
        self.intruder_keys.append(self.stolen)
        for fc in (self.alice, self.bob, self.carol):
            fc.proxy.sent.clear()

    def revoke(self):
        self.robot.append_to_chain(chain_pb2.UserChange(revoke_device=self.stolen.id))

    def test_a_revocation_that_is_hidden_by_a_proxy(self):
        """An honest server behind it does not take keys for a device that has ended."""
        self.revoke()
        self.alice.proxy.answers = self.showing(self.robot.user_id, self.with_stolen)
        self.assert_detected(self.alice, ".", "room", "amend", self.room, "--rekey", code=CONFLICT)
        self.assertEqual(len(self.entries()), 2)
        self.assert_detected(self.alice, ".", "send", self.room, "secret", code=CONFLICT)
        self.alice.proxy.be_honest()
        self.alice.proxy.sent.clear()
        self.alice.run("send", self.room, "good again")
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_a_revocation_that_the_log_knows_of(self):
        self.revoke()
        self.robot_room.sync_log()
        self.robot_room.send("with new keys")  # which names the chain after the revocation
        self.alice.proxy.answers = self.showing(self.robot.user_id, self.with_stolen)
        self.assert_detected(self.alice, "does not have the keys of somebody that the room's log names")
        self.assert_sends_nothing(self.alice)
        self.alice.proxy.be_honest()
        self.alice.run("send", self.room, "good again")
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_a_revocation_that_had_been_shown(self):
        self.revoke()
        self.alice.run("verify", self.robot.user_name)
        self.alice.proxy.answers = self.showing(self.robot.user_id, self.with_stolen)
        self.assert_detected(self.alice, "gone back to an earlier state", "verify", self.robot.user_name)
        self.assert_detected(self.alice, "gone back to an earlier state", "room", "amend", self.room, "--rekey")
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_a_fork_that_is_signed(self):
        """The robot is told that it was too slow, and signs again; alice gets the first entry, all others the second."""
        fork = self.signed_user_entry(self.next_entry(self.robot.user_id, self.robot.add_device_change(
            e2e.Keys.generate(), "tablet")), self.robot.identity_private)
        self.alice.proxy.answers = self.showing(self.robot.user_id, self.with_stolen + [fork])
        self.alice.run("verify", self.robot.user_name)
        self.revoke()
        self.robot_room.sync_log()
        self.robot_room.send("with new keys")
        self.assert_detected(self.alice, "has been shown other keys of robot")
        self.assert_sends_nothing(self.alice)
        self.alice.proxy.be_honest()
        self.assert_detected(self.alice, "keys of robot.* cannot be right", "verify", self.robot.user_name)


class Resets(UsersTestCase):
    def reset(self, user_id, user_name):
        """A reset is signed by the new identity alone: anybody can make one, and the server can show it."""
        identity, device = os.urandom(32), self.forged_device()
        entry = self.next_entry(user_id, chain_pb2.UserChange(set_identity=chain_pb2.Identity(
            user_name=user_name, identity_key=e2e.sign_public(identity))),
            self.robot.add_device_change(device, "forged"))
        return self.chain_of(user_id) + [self.signed_user_entry(entry, identity)]

    def test_of_somebody_not_verified(self):
        """It is told once, and the room's log does not believe it: no keys go there."""
        bob_id = self.id_of("bob")
        self.alice.run("verify", self.bob.name)
        self.alice.proxy.answers = self.showing(bob_id, self.reset(bob_id, self.bob.name))
        self.assert_warned(self.alice, f"{self.bob.name} has new keys", "verify", self.bob.name)
        result = self.alice.try_run("room", "amend", self.room, "--rekey")
        self.assertRegex(result.stderr, f"{self.bob.name} has a new identity and gets no key")
        self.assert_nothing_is_sealed_to_the_intruder()
        self.alice.proxy.be_honest()
        self.assert_detected(self.alice, "gone back", "verify", self.bob.name)

    def test_of_somebody_verified(self):
        bob_id = self.id_of("bob")
        self.alice.run("verify", self.bob.name, "--code", self.number_for(self.bob, self.alice))
        self.alice.proxy.answers = self.showing(bob_id, self.reset(bob_id, self.bob.name))
        pattern = f"{self.bob.name}, whom you have verified, has another identity now"
        for arguments in (("room", "amend", self.room, "--rekey"),
                          ("room", "create", self.room + ".new", "--member", self.bob.name),
                          ("dm", self.bob.name, "secret")):
            self.assert_detected(self.alice, pattern, *arguments)
        self.assertEqual((self.count_sent(self.alice, "Amend"), self.count_sent(self.alice)), (0, 0))
        self.assert_nothing_is_sealed_to_the_intruder()
        self.alice.run("verify", self.bob.name, "--accept")
        self.assertIn("Not verified", self.alice.run("verify", self.bob.name).text)

    def test_of_oneself(self):
        """The intruder would be the author's own device, and get a key of whatever the author makes."""
        bob_id = self.id_of("bob")
        self.bob.proxy.answers = self.showing(bob_id, self.reset(bob_id, self.bob.name))
        self.assert_detected(self.bob, "a reset of your account", "room", "create", self.room + ".new", "--member",
                             self.alice.name)
        # From then on this machine is no device of the account.
        self.assert_detected(self.bob, "no keys of bob", "room", "amend", self.room, "--rekey", code=NO_KEY)
        self.assertEqual((self.count_sent(self.bob, "CreateRoom"), self.count_sent(self.bob, "Amend")), (0, 0))
        self.assert_nothing_is_sealed_to_the_intruder()

    def test_a_user_of_another_id(self):
        """The name stays, the account behind it is another one."""
        self.alice.run("verify", self.bob.name)

        def swap(_, response):
            for user in response.users:
                if user.user_name == self.bob.name:
                    user.user_id = self.mallory.user_id
        self.alice.proxy.answers["GetUsers"] = swap
        self.assert_detected(self.alice, "another account than the one of that name before", "verify", self.bob.name)


if __name__ == "__main__":
    unittest.main()
