"""The suite fc/1: what encrypted rooms are made of (docs/security.md has the formulas).

Bytes in, bytes out; nothing here talks to a server. What comes from outside and is not what it should be raises Refused.
It needs python3-cryptography.

    keys = Keys.generate()
    message = seal_message(header, epoch_secret, keys.sign_private, content)
    ...
    message = parse_message(received)
    message.verify(user)                    # a User, made of the entries of its chain
    content = message.open(epoch_secret)
"""
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Tuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import DecodeError

from fc.e2e.v1 import chain_pb2, message_pb2

SUITE = 1
ID_BYTES = 16
HASH_BYTES = KEY_BYTES = SECRET_BYTES = COMMITMENT_BYTES = 32
SALT_BYTES, NONCE_BYTES, TAG_BYTES, SIGNATURE_BYTES = 24, 12, 16, 64
SEAL_OVERHEAD_BYTES = SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES
MESSAGE_KEY_BYTES = KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES
CONTENT_MAX_BYTES = 66 * 1024
SEALED_MESSAGE_MAX_BYTES = 72 * 1024
HEADER_MAX_BYTES = 512
USER_ENTRY_MAX_BYTES = 16 * 1024
CHANGES_MAX = DEVICES_MAX = DEVICE_NAME_MAX_BYTES = 64
DEVICES_EVER_MAX = 1024
FILE_SEGMENT_MAX_BYTES = 16 * 1024 * 1024
FILE_MAX_BYTES = 1 << 48

CONTEXT_USER, CONTEXT_ROOM, CONTEXT_JOIN, CONTEXT_MESSAGE = "fc/1 sig user", "fc/1 sig room", "fc/1 sig join", "fc/1 sig msg"
LABEL_MESSAGE, LABEL_LADDER, LABEL_SENDER, LABEL_COMMITMENT = "fc/1 msg", "fc/1 hist", "fc/1 snd", "fc/1 kc"
LABEL_WRAP, LABEL_FILE = "fc/1 wrap", "fc/1 file"
LABEL_RECOVERY_DEVICE, LABEL_LINK_KEYS = "fc/1 recovery device", "fc/1 link keys"


class Refused(ValueError):
    """Not what it should be: changed, forged, for somebody else, or against the rules."""


class NotNext(Refused):
    """An entry that is not the next one of its chain."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# HKDF (RFC 5869)

def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(HASH_BYTES), ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, size: int) -> bytes:
    out = block = b""
    while len(out) < size:
        block = hmac.digest(prk, block + info + bytes([len(out) // HASH_BYTES + 1]), "sha256")
        out += block
    return out[:size]


def _hkdf(secret: bytes, salt: bytes, label: str, context: bytes, size: int) -> bytes:
    return hkdf_expand(hkdf_extract(salt, secret), label.encode() + b"\0" + context, size)


def derive(secret: bytes, label: str, context: bytes = b"") -> bytes:
    return _hkdf(secret, b"", label, context, SECRET_BYTES)


# Sealing

def seal(secret: bytes, label: str, context: bytes, plain: bytes, salt: Optional[bytes] = None) -> bytes:
    """`salt` is for known-answer tests: whoever gives one twice gives the plaintexts away."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    key = _hkdf(secret, salt, label, context, MESSAGE_KEY_BYTES)
    return salt + key[44:] + AESGCM(key[:32]).encrypt(key[32:44], plain, context)


def seal_key(secret: bytes, label: str, context: bytes, sealed: bytes) -> bytes:
    """The key of this one sealed thing."""
    if len(sealed) < SEAL_OVERHEAD_BYTES:
        raise Refused("too short to be sealed")
    return _hkdf(secret, sealed[:SALT_BYTES], label, context, MESSAGE_KEY_BYTES)


def open_with_key(key: bytes, context: bytes, sealed: bytes) -> bytes:
    if len(sealed) < SEAL_OVERHEAD_BYTES:
        raise Refused("too short to be sealed")
    if not hmac.compare_digest(sealed[SALT_BYTES:SALT_BYTES + COMMITMENT_BYTES], key[44:]):
        raise Refused("sealed with another key")
    return _decrypt(key[:32], key[32:44], sealed[SALT_BYTES + COMMITMENT_BYTES:], context)


def open_sealed(secret: bytes, label: str, context: bytes, sealed: bytes) -> bytes:
    return open_with_key(seal_key(secret, label, context, sealed), context, sealed)


def _decrypt(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    if len(sealed) < TAG_BYTES:
        raise Refused("too short to be sealed")
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Refused("not what was sealed") from None


# Keys

_P = 2**255 - 19
# y of the points whose order divides 8.
_SMALL_ORDER_Y = {0, 1, _P - 1, int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16),
                  int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)}


def _is_sound_point(encoded: bytes) -> bool:
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return len(encoded) == KEY_BYTES and y < _P and y not in _SMALL_ORDER_Y


def is_sign_key(public_key: bytes) -> bool:
    return _is_sound_point(public_key)


def is_box_key(public_key: bytes) -> bool:
    if len(public_key) != KEY_BYTES:
        return False
    try:
        _agree(b"\1" + bytes(31), public_key)
    except Refused:
        return False
    return True


def sign_public(private_key: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def box_public(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _agree(private_key: bytes, public_key: bytes) -> bytes:
    try:
        shared = X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:  # the all-zero secret
        raise Refused("nothing can be agreed on with this key") from None
    if not any(shared):
        raise Refused("nothing can be agreed on with this key")
    return shared


def sign(private_key: bytes, context: str, data: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(context.encode() + b"\0" + data)


def verify(public_key: bytes, context: str, data: bytes, signature: bytes) -> None:
    if len(signature) != SIGNATURE_BYTES or not _is_sound_point(public_key) or not _is_sound_point(signature[:32]):
        raise Refused("not a signature")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, context.encode() + b"\0" + data)
    except (InvalidSignature, ValueError):
        raise Refused("not signed by this key") from None


@dataclass(frozen=True)
class Keys:
    """Those of a device, or of the pseudo-device that a recovery key or the secret of an invite link becomes."""
    id: bytes
    sign_private: bytes
    box_private: bytes

    @property
    def sign_public(self) -> bytes:
        return sign_public(self.sign_private)

    @property
    def box_public(self) -> bytes:
        return box_public(self.box_private)

    @classmethod
    def generate(cls) -> "Keys":
        return cls(os.urandom(ID_BYTES), os.urandom(KEY_BYTES), os.urandom(KEY_BYTES))

    @classmethod
    def derived(cls, secret: bytes, label: str) -> "Keys":
        both = _hkdf(secret, b"", label, b"", 2 * KEY_BYTES)
        return cls(sha256(sign_public(both[:32]))[:ID_BYTES], both[:32], both[32:])


# HPKE (RFC 9180), base mode, one message

_KEM_SUITE = b"KEM\x00\x20"
_HPKE_SUITE = b"HPKE\x00\x20\x00\x01\x00\x02"


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hkdf_expand(prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


def _hpke_key(shared: bytes, enc: bytes, receiver_public: bytes, info: bytes) -> Tuple[bytes, bytes]:
    prk = _labeled_extract(_KEM_SUITE, b"", b"eae_prk", shared)
    secret = _labeled_expand(_KEM_SUITE, prk, b"shared_secret", enc + receiver_public, SECRET_BYTES)
    context = b"\0" + _labeled_extract(_HPKE_SUITE, b"", b"psk_id_hash", b"") + \
        _labeled_extract(_HPKE_SUITE, b"", b"info_hash", info)
    secret = _labeled_extract(_HPKE_SUITE, secret, b"secret", b"")
    return (_labeled_expand(_HPKE_SUITE, secret, b"key", context, KEY_BYTES),
            _labeled_expand(_HPKE_SUITE, secret, b"base_nonce", context, NONCE_BYTES))


def hpke_seal(receiver_public: bytes, info: bytes, aad: bytes, plain: bytes,
              ephemeral: Optional[bytes] = None) -> Tuple[bytes, bytes]:
    """(enc, ciphertext). `ephemeral` is for known-answer tests."""
    ephemeral = os.urandom(KEY_BYTES) if ephemeral is None else ephemeral
    enc = box_public(ephemeral)
    key, nonce = _hpke_key(_agree(ephemeral, receiver_public), enc, receiver_public, info)
    return enc, AESGCM(key).encrypt(nonce, plain, aad)


def hpke_open(receiver_private: bytes, enc: bytes, info: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    if len(enc) != KEY_BYTES:
        raise Refused("enc is not a key")
    key, nonce = _hpke_key(_agree(receiver_private, enc), enc, box_public(receiver_private), info)
    return _decrypt(key, nonce, ciphertext, aad)


# Epochs

def _place(room_id: bytes, epoch: int) -> bytes:
    return room_id + epoch.to_bytes(8, "big")


def _wrap_info(room_id: bytes, epoch: int, prev_hash: bytes, device_id: bytes) -> bytes:
    return LABEL_WRAP.encode() + b"\0" + _place(room_id, epoch) + prev_hash + device_id


def epoch_commitment(secret: bytes, room_id: bytes, epoch: int) -> bytes:
    return derive(secret, LABEL_COMMITMENT, _place(room_id, epoch))


def wrap_epoch(secret: bytes, room_id: bytes, epoch: int, prev_hash: bytes, device_id: bytes, box_key: bytes,
               ephemeral: Optional[bytes] = None) -> Tuple[bytes, bytes]:
    return hpke_seal(box_key, _wrap_info(room_id, epoch, prev_hash, device_id), b"", secret, ephemeral)


def unwrap_epoch(box_private: bytes, room_id: bytes, epoch: int, prev_hash: bytes, device_id: bytes, enc: bytes,
                 ciphertext: bytes) -> bytes:
    return _secret(hpke_open(box_private, enc, _wrap_info(room_id, epoch, prev_hash, device_id), b"", ciphertext))


def seal_previous(next_secret: bytes, room_id: bytes, epoch: int, secret: bytes, salt: Optional[bytes] = None) -> bytes:
    return seal(next_secret, LABEL_LADDER, _place(room_id, epoch), secret, salt)


def open_previous(next_secret: bytes, room_id: bytes, epoch: int, sealed: bytes) -> bytes:
    return _secret(open_sealed(next_secret, LABEL_LADDER, _place(room_id, epoch), sealed))


def _secret(opened: bytes) -> bytes:
    if len(opened) != SECRET_BYTES:
        raise Refused("not a secret")
    return opened


# What is signed has one encoding

def _parse(message_type, data: bytes, max_bytes: int):
    if len(data) > max_bytes:
        raise Refused(f"{len(data)} bytes; at most {max_bytes} are allowed")
    try:
        message = message_type.FromString(data)
    except DecodeError:
        raise Refused("cannot be read") from None
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise Refused("not in the form that all agree on, or with unknown fields")
    return message


# Messages

def padded(content: bytes) -> bytes:
    size = 4 + len(content)
    if size <= 1024:
        step = 64
    else:  # Padmé
        exponent = size.bit_length() - 1
        step = 1 << exponent - exponent.bit_length()
    return (len(content).to_bytes(4, "big") + content).ljust(-(-size // step) * step, b"\0")


def unpadded(data: bytes) -> bytes:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or size > len(data) - 4 or any(data[4 + size:]):
        raise Refused("padding that is none")
    return data[4:4 + size]


def _check_header(header: message_pb2.Header) -> None:
    ids = (header.room_id, header.user_id, header.device_id, header.message_id)
    if (header.suite != SUITE or any(len(one) != ID_BYTES for one in ids) or header.epoch == 0
            or len(header.log_head) != HASH_BYTES
            or len(header.seen_chain) != (HASH_BYTES if header.seen_seq else 0)
            or header.type not in (message_pb2.MESSAGE, message_pb2.DELETE)
            or (header.type == message_pb2.DELETE) != (header.target_seq != 0)):
        raise Refused("a header that says nonsense")


@dataclass(frozen=True)
class Message:
    wire: message_pb2.SealedMessage
    header: message_pb2.Header

    def verify(self, sender: "User") -> None:
        device = sender.devices.get(self.header.device_id)
        if self.header.user_id != sender.user_id or device is None:
            raise Refused("not by a device of this user's")
        verify(device.sign_key, CONTEXT_MESSAGE, self.wire.header + self.wire.sealed, self.wire.signature)

    def key(self, epoch_secret: bytes) -> bytes:
        """The key of this one message, for a report of abuse."""
        return seal_key(derive(epoch_secret, LABEL_SENDER, self.header.device_id), LABEL_MESSAGE, self.wire.header,
                        self.wire.sealed)

    def open_with_key(self, key: bytes) -> bytes:
        return unpadded(open_with_key(key, self.wire.header, self.wire.sealed))

    def open(self, epoch_secret: bytes) -> bytes:
        return self.open_with_key(self.key(epoch_secret))


def seal_message(header: message_pb2.Header, epoch_secret: bytes, sign_private: bytes, content: bytes,
                 salt: Optional[bytes] = None) -> bytes:
    """An encoded SealedMessage."""
    _check_header(header)
    if len(content) > CONTENT_MAX_BYTES:
        raise Refused("the content is too large")
    encoded = header.SerializeToString(deterministic=True)
    sealed = seal(derive(epoch_secret, LABEL_SENDER, header.device_id), LABEL_MESSAGE, encoded, padded(content), salt)
    signature = sign(sign_private, CONTEXT_MESSAGE, encoded + sealed)
    return message_pb2.SealedMessage(header=encoded, sealed=sealed, signature=signature).SerializeToString(
        deterministic=True)


def parse_message(data: bytes) -> Message:
    wire = _parse(message_pb2.SealedMessage, data, SEALED_MESSAGE_MAX_BYTES)
    if len(wire.signature) != SIGNATURE_BYTES or len(wire.sealed) < SEAL_OVERHEAD_BYTES + 4:
        raise Refused("lacks its signature or its content")
    header = _parse(message_pb2.Header, wire.header, HEADER_MAX_BYTES)
    _check_header(header)
    return Message(wire, header)


def message_chain(before: bytes, message: bytes) -> bytes:
    return sha256(before + sha256(message))


# Users

@dataclass
class Device:
    sign_key: bytes
    box_key: bytes
    name: str
    is_recovery: bool
    added_seq: int
    revoked_seq: int = 0  # 0: not revoked


_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)


@dataclass
class User:
    """A chain as far as it has been applied."""
    user_id: bytes
    user_name: str = ""
    seq: int = 0
    head_hash: bytes = b""
    identity_key: bytes = b""
    identity_seq: int = 0
    devices: Dict[bytes, Device] = field(default_factory=dict)

    def apply(self, body: bytes, signature: bytes) -> None:
        """Checks the next entry and applies it; a failure changes nothing."""
        entry = _parse(chain_pb2.UserEntry, body, USER_ENTRY_MAX_BYTES)
        if entry.suite != SUITE or entry.user_id != self.user_id or not 1 <= len(entry.changes) <= CHANGES_MAX:
            raise Refused("another suite, another user, or no changes")
        if entry.seq != self.seq + 1 or entry.prev_hash != self.head_hash:
            raise NotNext("not the next entry")
        if self.seq == 0 and entry.changes[0].WhichOneof("kind") != "set_identity":
            raise Refused("the first entry has to begin with the identity")
        after = User(self.user_id, self.user_name, self.seq, self.head_hash, self.identity_key, self.identity_seq,
                     {device_id: Device(**vars(device)) for device_id, device in self.devices.items()})
        for index, change in enumerate(entry.changes):
            after._change(change, index == 0, entry.seq)
        verify(after.identity_key, CONTEXT_USER, body, signature)
        after.seq, after.head_hash = entry.seq, sha256(body)
        vars(self).update(vars(after))

    def _change(self, change: chain_pb2.UserChange, is_first: bool, seq: int) -> None:
        kind = change.WhichOneof("kind")
        if kind == "set_identity" and is_first:
            self._set_identity(change.set_identity, seq)
        elif kind == "add_device":
            self._add_device(change.add_device, seq)
        elif kind == "revoke_device":
            device = self.devices.get(change.revoke_device)
            if device is None or device.revoked_seq or device.added_seq == seq:
                raise Refused("revokes a device that the user does not have")
            device.revoked_seq = seq
        else:
            raise Refused("a change of no kind, or an identity that is not in front")

    def _set_identity(self, identity: chain_pb2.Identity, seq: int) -> None:
        if not _USER_NAME.fullmatch(identity.user_name) or not is_sign_key(identity.identity_key):
            raise Refused("not an identity")
        if self.seq and (identity.user_name != self.user_name or identity.identity_key == self.identity_key):
            raise Refused("a reset to another name or to the same key")
        self.user_name, self.identity_key, self.identity_seq = identity.user_name, identity.identity_key, seq
        for device in self.devices.values():
            device.revoked_seq = device.revoked_seq or seq

    def _add_device(self, device: chain_pb2.Device, seq: int) -> None:
        active = sum(not one.revoked_seq for one in self.devices.values())
        if (len(device.device_id) != ID_BYTES or not is_sign_key(device.sign_key) or not is_box_key(device.box_key)
                or len(device.name.encode()) > DEVICE_NAME_MAX_BYTES or "\0" in device.name):
            raise Refused("not a device")
        if device.device_id in self.devices or active >= DEVICES_MAX or len(self.devices) >= DEVICES_EVER_MAX:
            raise Refused("a device id of before, or too many devices")
        self.devices[device.device_id] = Device(device.sign_key, device.box_key, device.name, device.is_recovery, seq)


def safety_number(one: User, other: User) -> str:
    """The 60 digits that two users compare."""
    return " ".join(sorted((_fingerprint(one.user_id, one.identity_key), _fingerprint(other.user_id, other.identity_key))))


def _fingerprint(user_id: bytes, identity_key: bytes) -> str:
    digest = user_id
    for _ in range(5200):
        digest = sha256(digest + identity_key)
    return " ".join(f"{int.from_bytes(digest[i:i + 5], 'big') % 100000:05}" for i in range(0, 30, 5))


# Recovery keys

RECOVERY_KEY_BYTES = 20
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_AS_TYPED = str.maketrans("OIL", "011", " -\t\r\n")


def format_recovery_key(key: bytes) -> str:
    bits = int.from_bytes(key + sha256(key)[:3], "big") >> 4
    text = "".join(_ALPHABET[bits >> 5 * i & 31] for i in reversed(range(36)))
    return "-".join(text[i:i + 4] for i in range(0, 36, 4))


def parse_recovery_key(text: str) -> bytes:
    typed = re.sub("[a-z]", lambda letter: letter[0].upper(), text).translate(_AS_TYPED)
    if len(typed) != 36 or any(character not in _ALPHABET for character in typed):
        raise Refused("not a recovery key")
    bits = 0
    for character in typed:
        bits = bits << 5 | _ALPHABET.index(character)
    key = (bits >> 20).to_bytes(RECOVERY_KEY_BYTES, "big")
    if bits & 0xfffff != int.from_bytes(sha256(key)[:3], "big") >> 4:
        raise Refused("a mistyped recovery key")
    return key


# Files

class FileKey(NamedTuple):
    """How to seal and open the segments of one file."""
    key: bytes
    base_nonce: bytes
    commitment: bytes
    segment_plain_bytes: int
    plain_size_bytes: int

    @classmethod
    def derived(cls, secret: bytes, salt: bytes, seal_id: bytes, segment_plain_bytes: int,
                plain_size_bytes: int) -> "FileKey":
        if (not 0 < segment_plain_bytes <= FILE_SEGMENT_MAX_BYTES or plain_size_bytes > FILE_MAX_BYTES
                or (len(secret), len(salt), len(seal_id)) != (SECRET_BYTES, SALT_BYTES, ID_BYTES)):
            raise Refused("no file has these sizes")
        key = _hkdf(secret, salt, LABEL_FILE, seal_id + segment_plain_bytes.to_bytes(8, "big"), MESSAGE_KEY_BYTES)
        return cls(key[:32], key[32:44], key[44:], segment_plain_bytes, plain_size_bytes)

    @classmethod
    def opened(cls, wire: message_pb2.FileKey) -> "FileKey":
        key = cls.derived(wire.secret, wire.salt, wire.seal_id, wire.segment_plain_bytes, wire.plain_size_bytes)
        if not hmac.compare_digest(key.commitment, wire.commitment):
            raise Refused("another file's key")
        return key

    @property
    def segment_count(self) -> int:
        """The last segment is shorter than the others, maybe empty."""
        return self.plain_size_bytes // self.segment_plain_bytes + 1

    def _nonce(self, index: int) -> bytes:
        return (int.from_bytes(self.base_nonce, "big") ^ index).to_bytes(NONCE_BYTES, "big")

    def _plain_size(self, index: int) -> int:
        if not 0 <= index < self.segment_count:
            raise Refused("no such segment")
        is_last = index + 1 == self.segment_count
        return self.plain_size_bytes % self.segment_plain_bytes if is_last else self.segment_plain_bytes

    def seal_segment(self, index: int, plain: bytes) -> bytes:
        if len(plain) != self._plain_size(index):
            raise Refused("not a segment of this file")
        return AESGCM(self.key).encrypt(self._nonce(index), plain, b"")

    def open_segment(self, index: int, sealed: bytes) -> bytes:
        if len(sealed) != self._plain_size(index) + TAG_BYTES:
            raise Refused("cut")
        return _decrypt(self.key, self._nonce(index), sealed, b"")
