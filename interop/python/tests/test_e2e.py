"""The vectors of the suite fc/1 (interop/vectors): made again, opened, and refused where something was changed."""
import hashlib
import json
import os
import pathlib
import unittest

from fc.e2e.v1 import grant_pb2, message_pb2
from fc_client import e2e

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "vectors"


def load(name):
    """A file of vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def unhex(vector):
    """All values that are hex digits as bytes, but for those that are text."""
    texts = {"label", "text", "typed", "mistyped", "number", "what", "name", "user_name", "about", "fingerprint"}
    if isinstance(vector, dict):
        return {key: value if key in texts else unhex(value) for key, value in vector.items()}
    if isinstance(vector, list):
        return [unhex(value) for value in vector]
    return bytes.fromhex(vector) if isinstance(vector, str) else vector


def changed(data):
    """data with one bit changed, in each byte."""
    for i in range(len(data)):
        yield data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]


def tree_root(segment_sha256s):
    """RFC 6962, 2.1."""
    if not segment_sha256s:
        return hashlib.sha256().digest()
    if len(segment_sha256s) == 1:
        return hashlib.sha256(b"\0" + segment_sha256s[0]).digest()
    left = 1 << ((len(segment_sha256s) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + tree_root(segment_sha256s[:left]) + tree_root(segment_sha256s[left:])).digest()


class Vectors(unittest.TestCase):
    def vectors(self, name):
        for index, vector in enumerate(unhex(load(name)["vectors"])):
            with self.subTest(f"{name} {index}"):
                yield vector

    def assert_refused(self, function, *arguments):
        with self.assertRaises(e2e.Refused):
            function(*arguments)

    def test_seal(self):
        for v in self.vectors("seal"):
            sealed = e2e.seal(v["secret"], v["label"], v["context"], v["plain"], v["salt"])
            self.assertEqual(sealed, v["sealed"])
            key = e2e.seal_key(v["secret"], v["label"], v["context"], sealed)
            self.assertEqual(key, v["key_nonce_commitment"])
            self.assertEqual(e2e.open_sealed(v["secret"], v["label"], v["context"], sealed), v["plain"])
            self.assertEqual(e2e.derive(v["secret"], v["label"], v["context"]), v["derived"])
            for broken in changed(sealed):
                self.assert_refused(e2e.open_sealed, v["secret"], v["label"], v["context"], broken)
            for size in range(len(sealed)):
                self.assert_refused(e2e.open_sealed, v["secret"], v["label"], v["context"], sealed[:size])
            self.assert_refused(e2e.open_sealed, v["secret"], v["label"] + "x", v["context"], sealed)
            self.assert_refused(e2e.open_sealed, v["secret"], v["label"], v["context"] + b"x", sealed)

    def test_grant(self):
        file = unhex(load("grant"))
        self.assertEqual(e2e.sign_public(file["private_key"]), file["key"])
        for v in self.vectors("grant"):
            self.assertEqual(tree_root(v["segment_sha256s"]), v["root"])
            names = ("file_id", "user_id", "expires_at_ms", "size_bytes", "segment_size_bytes", "root")
            made = grant_pb2.Grant(**{name: v[name] for name in names})
            self.assertEqual(made.SerializeToString(deterministic=True), v["grant"])
            self.assertEqual(e2e.sign(file["private_key"], "fc/1 sig grant", v["grant"]), v["signature"])

    def test_hpke(self):
        for v in self.vectors("hpke"):
            self.assertEqual(e2e.box_public(v["receiver_private"]), v["receiver_public"])
            sealed = e2e.hpke_seal(v["receiver_public"], v["info"], v["aad"], v["plain"], v["ephemeral_private"])
            self.assertEqual(sealed, (v["enc"], v["ciphertext"]))
            self.assertEqual(e2e.hpke_open(v["receiver_private"], v["enc"], v["info"], v["aad"], v["ciphertext"]),
                             v["plain"])
            for enc in changed(v["enc"]):
                self.assert_refused(e2e.hpke_open, v["receiver_private"], enc, v["info"], v["aad"], v["ciphertext"])
            for ciphertext in changed(v["ciphertext"]):
                self.assert_refused(e2e.hpke_open, v["receiver_private"], v["enc"], v["info"], v["aad"], ciphertext)

    def test_epoch(self):
        for v in self.vectors("epoch"):
            place = v["room_id"], v["epoch"]
            self.assertEqual(e2e.epoch_commitment(v["secret"], *place), v["commitment"])
            wrap = v["wrap"]
            where = *place, wrap["prev_hash"], wrap["device_id"]
            self.assertEqual(e2e.wrap_epoch(v["secret"], *where, wrap["box_public"], wrap["ephemeral_private"]),
                             (wrap["enc"], wrap["ciphertext"]))
            self.assertEqual(e2e.unwrap_epoch(wrap["box_private"], *where, wrap["enc"], wrap["ciphertext"]), v["secret"])
            self.assert_refused(e2e.unwrap_epoch, wrap["box_private"], v["room_id"], v["epoch"] + 1,
                                wrap["prev_hash"], wrap["device_id"], wrap["enc"], wrap["ciphertext"])
            ladder = v["ladder"]
            self.assertEqual(e2e.seal_previous(ladder["next_secret"], *place, v["secret"], ladder["salt"]),
                             ladder["previous"])
            self.assertEqual(e2e.open_previous(ladder["next_secret"], *place, ladder["previous"]), v["secret"])
            self.assert_refused(e2e.open_previous, ladder["next_secret"], v["room_id"], v["epoch"] + 1,
                                ladder["previous"])

    def test_message(self):
        chain = bytes(32)
        for v in self.vectors("message"):
            header = message_pb2.Header.FromString(v["header"])
            self.assertEqual(e2e.seal_message(header, v["epoch_secret"], v["sign_private"], v["content"], v["salt"]),
                             v["message"])
            self.assertEqual(e2e.derive(v["epoch_secret"], e2e.LABEL_SENDER, header.device_id), v["sender_key"])
            message = e2e.parse_message(v["message"])
            device = e2e.Device(v["sign_public"], b"", "", False, 1)
            sender = e2e.User(header.user_id, devices={header.device_id: device})
            message.verify(sender)
            self.assertEqual(message.open(v["epoch_secret"]), v["content"])
            self.assertEqual(message.key(v["epoch_secret"]), v["key_nonce_commitment"])
            self.assertEqual(v["chain_before"], chain)
            chain = e2e.message_chain(chain, v["message"])
            self.assertEqual(v["chain_after"], chain)
            with self.assertRaises(e2e.Refused):
                message.verify(e2e.User(header.user_id))
            for broken in list(changed(v["message"]))[:400]:
                with self.assertRaises(e2e.Refused):
                    e2e.parse_message(broken).verify(sender)
        self.assertEqual(header.type, message_pb2.DELETE)

    def test_user_chain(self):
        v = unhex(load("user_chain"))
        user = e2e.User(v["user_id"])
        for entry in v["entries"]:
            with self.subTest(entry["what"]):
                self.assertEqual(e2e.sign(entry["signed_by"], e2e.CONTEXT_USER, entry["body"]), entry["signature"])
                user.apply(entry["body"], entry["signature"])
        self.assert_is(user, v["after"])
        self.assertTrue(v["refused"])
        for entry in v["refused"]:
            with self.subTest(entry["what"]):
                self.assert_refused(user.apply, entry["body"], entry["signature"])
                self.assert_is(user, v["after"])

    def assert_is(self, user, expected):
        devices = [{"device_id": device_id, **vars(device)} for device_id, device in user.devices.items()]
        actual = {**vars(user), "devices": devices}
        del actual["user_id"]
        self.assertEqual(actual, expected)

    def test_no_changed_entry_is_taken(self):
        v = unhex(load("user_chain"))
        entry = v["entries"][0]
        for body in changed(entry["body"]):
            self.assert_refused(e2e.User(v["user_id"]).apply, body, entry["signature"])

    def test_file(self):
        for v in self.vectors("file"):
            key = e2e.FileKey.derived(v["secret"], v["salt"], v["seal_id"], v["segment_plain_bytes"], len(v["plain"]))
            self.assertEqual((key.key, key.base_nonce, key.commitment), (v["key"], v["base_nonce"], v["commitment"]))
            self.assertEqual(key.segment_count, len(v["segments"]))
            size = v["segment_plain_bytes"]
            for i, sealed in enumerate(v["segments"]):
                plain = v["plain"][i * size:(i + 1) * size]
                self.assertEqual(key.seal_segment(i, plain), sealed)
                self.assertEqual(key.open_segment(i, sealed), plain)
                self.assert_refused(key.open_segment, i, sealed[:-1])
                self.assert_refused(key.open_segment, i + 1, sealed)
            whole = b"".join(v["segments"])
            self.assertEqual((e2e.sha256(whole), len(whole)), (v["sealed_sha256"], v["sealed_size_bytes"]))
            wire = message_pb2.FileKey(secret=v["secret"], salt=v["salt"], seal_id=v["seal_id"], segment_plain_bytes=size,
                                       plain_size_bytes=len(v["plain"]), commitment=v["commitment"])
            self.assertEqual(e2e.FileKey.opened(wire), key)
            wire.segment_plain_bytes += 1
            self.assert_refused(e2e.FileKey.opened, wire)

    def test_recovery(self):
        label = load("recovery")["label"]
        for v in self.vectors("recovery"):
            self.assertEqual(e2e.format_recovery_key(v["key"]), v["text"])
            self.assertEqual(e2e.parse_recovery_key(v["text"]), v["key"])
            self.assertEqual(e2e.parse_recovery_key(v["typed"]), v["key"])
            self.assert_refused(e2e.parse_recovery_key, v["mistyped"])
            self.assert_keys(e2e.Keys.derived(v["key"], label), v["keys"])

    def test_link_keys(self):
        label = load("link_keys")["label"]
        for v in self.vectors("link_keys"):
            self.assert_keys(e2e.Keys.derived(v["secret"], label), v["keys"])

    def assert_keys(self, keys, expected):
        self.assertEqual({name: getattr(keys, name) for name in expected}, expected)

    def test_safety_number(self):
        for v in self.vectors("safety_number"):
            users = [e2e.User(user["user_id"], identity_key=user["identity_key"]) for user in v["users"]]
            self.assertEqual(e2e.safety_number(*users), v["number"])
            self.assertEqual(e2e.safety_number(*reversed(users)), v["number"])


class Random(unittest.TestCase):
    """Without vectors: what is drawn at random opens as well, and keys that cannot hold anything are refused."""

    def test_what_is_sealed_opens(self):
        secret, keys = os.urandom(32), e2e.Keys.generate()
        self.assertEqual(e2e.open_sealed(secret, "label", b"context", e2e.seal(secret, "label", b"context", b"x")), b"x")
        enc, ciphertext = e2e.hpke_seal(keys.box_public, b"info", b"", secret)
        self.assertEqual(e2e.hpke_open(keys.box_private, enc, b"info", b"", ciphertext), secret)

    def test_keys_of_small_order_are_refused(self):
        for low in (0, 1):
            point = bytes([low]) + bytes(31)
            self.assertFalse(e2e.is_sign_key(point))
            self.assertFalse(e2e.is_box_key(point))
            with self.assertRaises(e2e.Refused):
                e2e.verify(point, "context", b"data", bytes([1]) + bytes(63))
        keys = e2e.Keys.generate()
        self.assertTrue(e2e.is_sign_key(keys.sign_public) and e2e.is_box_key(keys.box_public))

    def test_sizes_are_padded(self):
        for size, expected in ((0, 64), (60, 64), (61, 128), (1020, 1024), (1021, 1088), (2045, 2176), (65533, 67584)):
            self.assertEqual(len(e2e.padded(bytes(size))), expected)
            self.assertEqual(e2e.unpadded(e2e.padded(b"a" * size)), b"a" * size)


if __name__ == "__main__":
    unittest.main()
