"""The vectors of logs (interop/vectors/room_log.json): each entry applied, compared, opened, and refused where it is changed."""
import unittest

from fc.e2e.v1 import chain_pb2
from fc_client import e2e
from fc_client.room_log import Draft, RoomLog
from test_e2e import load, unhex


class RoomLogs(unittest.TestCase):
    def setUp(self):
        vector = unhex({**load("room_log"), "about": ""})
        self.vector, self.room_id = vector, vector["room_id"]
        self.fingerprints = [entry["after"]["fingerprint"] for entry in load("room_log")["entries"]]
        self.users, self.secrets = {}, {epoch["epoch"]: epoch["secret"] for epoch in vector["epochs"]}
        for one in vector["users"]:
            user = e2e.User(one["user_id"])
            user.apply(one["body"], one["signature"])
            self.users[user.user_id] = user

    def find_user(self, head):
        user = self.users[head.user_id]
        if (head.seq, head.hash) != (user.seq, user.head_hash):
            raise e2e.Refused("another chain")
        return user

    @staticmethod
    def signed(vector):
        return chain_pb2.Signed(body=vector["body"], signature=vector["signature"],
                                link_signature=vector["link_signature"])

    def applied(self, count):
        log = RoomLog(self.room_id)
        for entry in self.vector["entries"][:count]:
            log.apply(self.signed(entry), self.find_user)
        return log

    def test_what_each_entry_makes_of_the_room(self):
        log = RoomLog(self.room_id)
        for vector, fingerprint in zip(self.vector["entries"], self.fingerprints):
            with self.subTest(vector["what"]):
                log.apply(self.signed(vector), self.find_user)
                after = vector["after"]
                for name in ("seq", "head_hash", "name", "kind", "history", "epoch", "is_rekey_needed"):
                    self.assertEqual(getattr(log, name), after[name], name)
                self.assertEqual(log.epochs[log.epoch].commitment, after["commitment"])
                self.assertEqual(log.members.keys(), {member["user_id"] for member in after["members"]})
                for member in after["members"]:
                    for name in ("user_name", "role", "is_invited", "identity_key", "head_seq", "head_hash"):
                        self.assertEqual(getattr(log.members[member["user_id"]], name), member[name], name)
                self.assertEqual({link_id: link.use_count for link_id, link in log.links.items()},
                                 {link["link_id"]: link["use_count"] for link in after["links"]})
                self.assertEqual(log.fingerprint(), fingerprint)

    def test_keys(self):
        """Every wrap opens with its receiver's key, to the secret that its epoch's commitment is of."""
        keys = {one["device_id"]: one["box_private"] for one in self.vector["users"]}
        link = e2e.Keys.derived(self.vector["link_secret"], e2e.LABEL_LINK_KEYS)
        keys[link.id] = link.box_private
        log, count = self.applied(len(self.vector["entries"])), 0
        for vector in self.vector["entries"]:
            entry = chain_pb2.RoomEntry.FromString(vector["body"])
            for wrap in entry.wraps:
                secret = e2e.unwrap_epoch(keys[wrap.device_id], self.room_id, wrap.epoch, entry.prev_hash, wrap.device_id,
                                          wrap.enc, wrap.ciphertext)
                self.assertEqual(secret, self.secrets[wrap.epoch])
                self.assertEqual(e2e.epoch_commitment(secret, self.room_id, wrap.epoch), log.epochs[wrap.epoch].commitment)
                count += 1
            if entry.HasField("rekey") and entry.rekey.epoch > 1:
                before = e2e.open_previous(self.secrets[entry.rekey.epoch], self.room_id, entry.rekey.epoch - 1,
                                           entry.rekey.previous)
                self.assertEqual(before, self.secrets[entry.rekey.epoch - 1])
        self.assertEqual(count, 10)

    def test_what_is_refused(self):
        log = self.applied(len(self.vector["entries"]))
        before = log.fingerprint()
        for vector in self.vector["refused"]:
            with self.subTest(vector["what"]), self.assertRaises(e2e.Refused):
                log.apply(self.signed(vector), self.find_user)
        self.assertEqual(log.fingerprint(), before)

    def test_changed_bytes_are_refused(self):
        for index, vector in enumerate(self.vector["entries"]):
            log = self.applied(index)
            for name in ("body", "signature", "link_signature"):
                data = vector[name]
                for at in range(0, len(data), 7):
                    broken = {**vector, name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]}
                    with self.assertRaises((e2e.Refused, KeyError), msg=f"{vector['what']}: {name} {at}"):
                        log.apply(self.signed(broken), self.find_user)
            self.assertEqual(log.seq, index)

    def test_what_is_made_here_is_the_same(self):
        """But for what is drawn at random: the bytes around it are those of C."""
        vector = self.vector["entries"][1]
        entry = chain_pb2.RoomEntry.FromString(vector["body"])
        (alice, carol) = (self.vector["users"][index] for index in (0, 2))
        draft = Draft.next(self.applied(1), alice["user_id"], alice["device_id"], entry.created_at_ms)
        draft.entry.changes.add().add_member.CopyFrom(chain_pb2.AddMember(
            user_id=carol["user_id"], user_name="carol", role=chain_pb2.MEMBER))
        draft.name_head(self.users[alice["user_id"]])
        draft.wrap_for_user(self.users[carol["user_id"]], 1, self.secrets[1])
        (draft.entry.wraps[0].enc, draft.entry.wraps[0].ciphertext) = (entry.wraps[0].enc, entry.wraps[0].ciphertext)
        device = e2e.Keys(alice["device_id"], alice["sign_private"], alice["box_private"])
        self.assertEqual(draft.signed(device), self.signed(vector))


if __name__ == "__main__":
    unittest.main()
