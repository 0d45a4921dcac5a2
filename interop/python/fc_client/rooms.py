"""Encrypted rooms for programs: chains and logs are fetched and checked, messages opened and sent.

    with Channel(url) as channel:
        log_in(channel, "robot", PASSWORD)
        account = Account.create(channel, "robot")       # once; keep account.identity_private and account.device
        room = account.join_by_link(link)                # or account.room("kitchen"), when somebody has added it
        for message in room.messages():                  # from the first one on, each checked
            print(message.sender, message.content.text)
        room.send("good morning")

What does not check raises Refused, and nothing is sent. Rooms keep what they have checked in memory only: a program that
runs again fetches all of it again, so that it notices less of a server that changes what it said. room_log.py says
what of the rules for logs is left to the C client.
"""
import base64
import os
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from fc.auth.v1 import auth_pb2, keys_pb2
from fc.chat.v1 import chat_pb2
from fc.e2e.v1 import chain_pb2, message_pb2
from fc.rpc.v1 import rpc_pb2

from . import e2e
from .channel import Channel
from .e2e import Device, FileKey, Keys, Refused, User
from .errors import RpcError
from .files import download
from .room_log import Draft, RoomLog, needs_rekey
from .stub import Stub

LABEL_LINK_INFO = "fc/1 link"
ATTEMPTS = 8
_NO_CHAIN = bytes(e2e.HASH_BYTES)


class NoKey(Exception):
    """Sealed in an epoch whose secret this device was not given."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Chain:
    """A user's chain with what it was after each entry."""

    def __init__(self, user_id: bytes):
        self.states: List[User] = [User(user_id)]

    @property
    def newest(self) -> User:
        return self.states[-1]

    def apply(self, signed: chain_pb2.Signed) -> None:
        before = self.newest
        after = replace(before, devices={device_id: Device(**vars(device))
                                         for device_id, device in before.devices.items()})
        after.apply(signed.body, signed.signature)
        self.states.append(after)


@dataclass(frozen=True)
class Received:
    """A message that has been checked. content is None when it was deleted; then its sender is the server's word."""
    seq: int
    sender: str
    sent_at_ms: int
    header: Optional[message_pb2.Header]
    content: Optional[chat_pb2.Content]


class Account:
    """Somebody with keys: those of an identity, or none when others sign for it, and those of one device."""

    def __init__(self, channel: Channel, user_name: str, user_id: bytes, device: Keys,
                 identity_private: Optional[bytes] = None):
        self.channel, self.user_name, self.user_id = channel, user_name, user_id
        self.device, self.identity_private = device, identity_private
        self.chat = Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])
        self.keys = Stub(channel, keys_pb2.DESCRIPTOR.services_by_name["Keys"])
        self._chains: Dict[bytes, Chain] = {}
        self._ids: Dict[str, bytes] = {}

    @classmethod
    def create(cls, channel: Channel, user_name: str, device_name: str = "fc_client") -> "Account":
        """Makes the keys of an account that has none, on a channel that is logged in."""
        user_id = Stub(channel, auth_pb2.DESCRIPTOR.services_by_name["Auth"]).WhoAmI().user_id
        account = cls(channel, user_name, user_id, Keys.generate(), os.urandom(e2e.KEY_BYTES))
        identity = chain_pb2.Identity(user_name=user_name, identity_key=e2e.sign_public(account.identity_private))
        account.append_to_chain(chain_pb2.UserChange(set_identity=identity),
                                account.add_device_change(account.device, device_name))
        return account

    # Chains

    @staticmethod
    def add_device_change(device: Keys, name: str) -> chain_pb2.UserChange:
        return chain_pb2.UserChange(add_device=chain_pb2.Device(
            device_id=device.id, sign_key=device.sign_public, box_key=device.box_public, name=name))

    def append_to_chain(self, *changes: chain_pb2.UserChange) -> None:
        """Signs an entry of one's own chain. For an identity that changes, set identity_private first."""
        own = self.user(self.user_id, is_fresh=True)
        entry = chain_pb2.UserEntry(suite=e2e.SUITE, user_id=self.user_id, seq=own.seq + 1, prev_hash=own.head_hash,
                                    created_at_ms=_now_ms(), changes=changes)
        body = entry.SerializeToString(deterministic=True)
        signed = chain_pb2.Signed(body=body, signature=e2e.sign(self.identity_private, e2e.CONTEXT_USER, body))
        self.keys.AppendUserEntry(entry=signed)
        self.user(self.user_id, is_fresh=True)

    def _fetch(self, wanted: keys_pb2.WantedUser) -> Optional[Chain]:
        chain = self._chains.get(wanted.user_id)
        while True:
            # Beginning with the newest entry that is here: another one in its place is found out.
            known_seq = chain.newest.seq if chain else 0
            wanted.after_seq = max(known_seq - 1, 0)
            answer = self.keys.GetUsers(users=[wanted]).users
            if not answer:
                return None
            (wire,) = answer
            if wanted.user_id and wire.user_id != wanted.user_id:
                raise Refused("the server answers with another user")
            chain = chain or self._chains.get(wire.user_id) or Chain(wire.user_id)
            self._take_entries(chain, wire, wanted.after_seq)
            self._chains[wire.user_id] = chain
            self._ids[wire.user_name] = wire.user_id
            if chain.newest.seq >= wire.head_seq:
                return chain
            if chain.newest.seq == known_seq:
                raise Refused(f"the server keeps back keys of {wire.user_name}")

    @staticmethod
    def _take_entries(chain: Chain, wire: keys_pb2.UserChain, after_seq: int) -> None:
        if wire.head_seq < chain.newest.seq:
            raise Refused(f"the keys of {wire.user_name} have gone back")
        for seq, signed in enumerate(wire.entries, after_seq + 1):
            if seq < len(chain.states):
                if e2e.sha256(signed.body) != chain.states[seq].head_hash:
                    raise Refused(f"the server shows other keys of {wire.user_name} than before")
                continue
            chain.apply(signed)
            if chain.newest.user_name != wire.user_name:
                raise Refused(f"the keys of {wire.user_name} are those of {chain.newest.user_name}")

    def user(self, user_id: bytes, is_fresh: bool = False) -> User:
        chain = self._chains.get(user_id)
        if chain is None or is_fresh:
            chain = self._fetch(keys_pb2.WantedUser(user_id=user_id))
        if chain is None:
            raise Refused("there is no such user")
        return chain.newest

    def user_named(self, user_name: str) -> User:
        known = self._ids.get(user_name, b"")
        chain = self._fetch(keys_pb2.WantedUser(user_id=known) if known else keys_pb2.WantedUser(user_name=user_name))
        if chain is None or not chain.newest.seq:
            raise Refused(f"there is no user {user_name}, or they have no keys yet")
        if chain.newest.user_name != user_name:
            raise Refused(f"the server answers with {chain.newest.user_name} for {user_name}")
        return chain.newest

    def find_user(self, head: chain_pb2.UserHead) -> User:
        """A user as their chain was at a head that a log names."""
        chain = self._chains.get(head.user_id)
        if chain is None or chain.newest.seq < head.seq:
            chain = self._fetch(keys_pb2.WantedUser(user_id=head.user_id))
        if chain is None or not 1 <= head.seq < len(chain.states):
            raise Refused("the log names a user whose keys the server does not have")
        if chain.states[head.seq].head_hash != head.hash:
            raise Refused(f"the log's author was shown other keys of {chain.newest.user_name}")
        return chain.states[head.seq]

    # Rooms

    def room(self, name: str) -> "Room":
        """A room that this account is in or invited to."""
        wire = self.chat.GetRoom(room=name).room
        if wire.is_plain:
            raise Refused(f"the server says that {name} is not encrypted")
        room = Room(self, wire.id)
        room.sync_log()
        if room.log.kind != chain_pb2.DIRECT and len(name) != 2 * e2e.ID_BYTES and room.log.name != name:
            raise Refused(f"the server calls a room {name} that its members call {room.log.name}")
        return room

    def create_room(self, name: str, members: Sequence[str] = (), history: int = chain_pb2.HISTORY_ALL) -> "Room":
        room = Room(self, os.urandom(e2e.ID_BYTES))
        draft = Draft.next(room.log, self.user_id, self.device.id)
        draft.entry.changes.add().create.CopyFrom(
            chain_pb2.CreateRoom(name=name, kind=chain_pb2.PRIVATE, history=history))
        users = [self.user(self.user_id, is_fresh=True)] + [self.user_named(member) for member in members]
        for user in users[1:]:
            draft.entry.changes.add().add_member.CopyFrom(
                chain_pb2.AddMember(user_id=user.user_id, user_name=user.user_name, role=chain_pb2.MEMBER))
        draft.rekey(1, users, (), None)
        self.chat.CreateRoom(name=name, entry=draft.signed(self.device))
        room.sync_log()
        return room

    def join_by_link(self, link: str) -> "Room":
        """Joins by fc://j/ID#SECRET. Where the link leads is checked with its secret, which the server never gets."""
        link_id, secret, keys = parse_link(link)
        answer = self.chat.GetLink(link_id=link_id)
        info = e2e.open_sealed(secret, LABEL_LINK_INFO, link_id, answer.link_info)
        room_id, identity_key = info[:e2e.ID_BYTES], info[e2e.ID_BYTES:]
        if len(info) != e2e.ID_BYTES + e2e.KEY_BYTES or room_id != answer.room_id or answer.is_plain or not any(identity_key):
            raise Refused("the server leads this link elsewhere")
        room = Room(self, room_id, keys)
        for _ in range(ATTEMPTS):
            room.sync_log()
            made = room.log.links.get(link_id)
            if made is None or made.maker_key != identity_key:
                raise Refused("whoever made this link has not made one in the room that the server shows")
            draft = room.draft(chain_pb2.RoomChange(join_by_link=chain_pb2.JoinByLink(
                link_id=link_id, user_name=self.user_name)))
            try:
                self.chat.Join(link_id=link_id, entry=draft.signed(self.device, keys))
                break
            except RpcError as error:
                if error.code != rpc_pb2.ABORTED:
                    raise
        room.forget_link()
        room.sync_log()
        return room


def parse_link(link: str) -> Tuple[bytes, bytes, Keys]:
    """The id, the secret and the keys of a link."""
    try:
        link_id, encoded = link.rsplit("/j/", 1)[1].split("#")
        secret = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        keys = Keys.derived(secret, e2e.LABEL_LINK_KEYS)
    except (ValueError, IndexError):
        raise Refused("not an invite link") from None
    if len(secret) != e2e.SECRET_BYTES or keys.id.hex() != link_id:
        raise Refused("not an invite link, or one that was cut")
    return keys.id, secret, keys


class Room:
    """An encrypted room: its log, its keys, its messages."""

    def __init__(self, account: Account, room_id: bytes, link: Optional[Keys] = None):
        self.account, self.room_id = account, room_id
        self.log = RoomLog(room_id)
        self.secrets: Dict[int, bytes] = {}  # of epochs
        self.chains: List[bytes] = [_NO_CHAIN]  # after each message that has been read
        self._link = link
        self._is_entered = link is None
        self._ids_used: set = set()

    @property
    def id_text(self) -> str:
        return self.room_id.hex()

    # The log

    def forget_link(self) -> None:
        """After joining by it: from now on the log is asked for as a member."""
        self._is_entered = True

    def sync_log(self) -> None:
        """Fetches what is new of the log, checks it, and takes the keys that it has for this device."""
        while True:
            where = {"room": self.id_text} if self._is_entered else {"link_id": self._link.id}
            page = self.account.chat.GetLog(after_seq=self.log.seq, **where)
            if page.head_seq < self.log.seq:
                raise Refused("the server shows an older log than before")
            for signed in page.entries:
                entry = self.log.apply(signed, self.account.find_user)
                self._take_wraps(entry)
            if self.log.seq >= page.head_seq:
                break
            if not page.entries:
                raise Refused("the server keeps back the log")
        self._descend()

    def _take_wraps(self, entry: chain_pb2.RoomEntry) -> None:
        for keys in filter(None, (self.account.device, self._link)):
            for wrap in entry.wraps:
                if wrap.device_id != keys.id:
                    continue
                try:
                    secret = e2e.unwrap_epoch(keys.box_private, self.room_id, wrap.epoch, entry.prev_hash, keys.id,
                                              wrap.enc, wrap.ciphertext)
                except Refused:
                    continue  # ids of devices are their users' choice: it may be another's
                self._keep_secret(wrap.epoch, secret)

    def _keep_secret(self, epoch: int, secret: bytes) -> None:
        # Only the one that the epoch's author committed to; another is as good as none.
        if e2e.epoch_commitment(secret, self.room_id, epoch) == self.log.epochs[epoch].commitment:
            self.secrets[epoch] = secret

    def _descend(self) -> None:
        for epoch in range(self.log.epoch, 1, -1):
            previous = self.log.epochs[epoch].previous
            if previous and epoch in self.secrets and epoch - 1 not in self.secrets:
                try:
                    self._keep_secret(epoch - 1, e2e.open_previous(self.secrets[epoch], self.room_id, epoch - 1, previous))
                except Refused:
                    pass  # whoever spoils it spoils it for all

    def secret(self, epoch: int) -> bytes:
        if epoch not in self.secrets:
            raise NoKey(f"this device has no key of epoch {epoch}")
        return self.secrets[epoch]

    def draft(self, *changes: chain_pb2.RoomChange, is_rekey: bool = False) -> Draft:
        """The next entry, with the keys that it has to give to those whom it lets in."""
        account, log = self.account, self.log
        draft = Draft.next(log, account.user_id, account.device.id)
        draft.entry.changes.extend(changes)
        draft.name_head(account.user(account.user_id, is_fresh=True))
        kinds = [(change.WhichOneof("kind"), change) for change in changes]
        added = [change.add_member.user_id for kind, change in kinds if kind == "add_member"]
        added += [account.user_id for kind, _ in kinds if kind == "join_by_link"]
        if is_rekey or log.is_rekey_needed or needs_rekey(log, draft.entry):
            self._rekey(draft, kinds, added)
            return draft
        for user_id in added:
            draft.wrap_for_user(account.user(user_id, is_fresh=True), log.epoch, self.secret(log.epoch))
        for kind, change in kinds:
            if kind == "add_link" and log.history == chain_pb2.HISTORY_ALL:
                draft.wrap(change.add_link.link_id, change.add_link.box_key, log.epoch, self.secret(log.epoch))
        return draft

    def _rekey(self, draft: Draft, kinds: list, added: List[bytes]) -> None:
        log = self.log
        # Whoever makes the next key takes out the links that are used up.
        for link_id, link in log.links.items():
            if link.is_used_up and all(change.revoke_link != link_id for _, change in kinds):
                change = draft.entry.changes.add(revoke_link=link_id)
                kinds = [*kinds, ("revoke_link", change)]
        removed = [change.remove_member for kind, change in kinds if kind == "remove_member"]
        revoked = [change.revoke_link for kind, change in kinds if kind == "revoke_link"]
        ids = [user_id for user_id in dict.fromkeys([*log.members, *added]) if user_id not in removed or user_id in added]
        users = [self.account.user(user_id, is_fresh=True) for user_id in ids]
        for user in users:
            draft.name_head(user)
        # Who has another identity than the room knows gets nothing.
        users = [user for user in users if user.user_id in added
                 or user.identity_key == log.members[user.user_id].identity_key]
        links = [link.link for link_id, link in log.links.items() if link_id not in revoked]
        links += [change.add_link for kind, change in kinds if kind == "add_link"]
        has_ladder = log.history == chain_pb2.HISTORY_ALL and all(kind != "set_history" for kind, _ in kinds)
        history = next((change.set_history for kind, change in kinds if kind == "set_history"), log.history)
        draft.rekey(log.epoch + 1, users, links if history == chain_pb2.HISTORY_ALL else (), self.secret(log.epoch) if has_ladder else None)

    def amend(self, *changes: chain_pb2.RoomChange, is_rekey: bool = False, link_info: bytes = b"") -> None:
        """Makes changes, again on top of those of others who were faster."""
        for attempt in range(ATTEMPTS):
            self.sync_log()
            draft = self.draft(*changes, is_rekey=is_rekey)
            try:
                self.account.chat.Amend(room=self.id_text, entry=draft.signed(self.account.device), link_info=link_info)
                break
            except RpcError as error:
                if error.code != rpc_pb2.ABORTED or attempt == ATTEMPTS - 1:
                    raise
        self.sync_log()

    def add(self, user_name: str, role: int = chain_pb2.MEMBER) -> None:
        user = self.account.user_named(user_name)
        self.amend(chain_pb2.RoomChange(add_member=chain_pb2.AddMember(
            user_id=user.user_id, user_name=user_name, role=role)))

    def remove(self, user_name: str) -> None:
        """Removes somebody and starts a new epoch, in one step."""
        self.amend(chain_pb2.RoomChange(remove_member=self.account.user_named(user_name).user_id))

    def create_link(self, max_uses: int = 0) -> str:
        """An invite link: whoever has it can join and read. max_uses: 0 for any number."""
        secret = os.urandom(e2e.SECRET_BYTES)
        keys = Keys.derived(secret, e2e.LABEL_LINK_KEYS)
        identity_key = self.account.user(self.account.user_id).identity_key
        info = e2e.seal(secret, LABEL_LINK_INFO, keys.id, self.room_id + identity_key)
        self.amend(chain_pb2.RoomChange(add_link=chain_pb2.InviteLink(
            link_id=keys.id, sign_key=keys.sign_public, box_key=keys.box_public, role=chain_pb2.MEMBER,
            max_uses=max_uses)), link_info=info)
        return f"fc://j/{keys.id.hex()}#{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"

    def fingerprint(self) -> str:
        """The 60 digits that members compare: the same ones see the same log and the same people."""
        self.sync_log()
        return self.log.fingerprint()

    # Messages

    def messages(self) -> Iterator[Received]:
        """Those that have not been read yet, in order. Raises Refused at the first that is wrong."""
        self.sync_log()
        while True:
            seq = len(self.chains) - 1
            page = self.account.chat.History(room=self.id_text, after_seq=seq, limit=1000)
            if page.head_seq < seq:
                raise Refused("the server takes messages back")
            for wire in page.messages:
                received = self._open(wire)
                if received is not None:
                    yield received
            if len(self.chains) - 1 >= page.head_seq:
                return
            if not page.messages:
                raise Refused("the server keeps messages back")

    def _open(self, wire: chat_pb2.Message) -> Optional[Received]:
        seq = len(self.chains)
        if wire.seq != seq or wire.room_id != self.room_id:
            raise Refused(f"message {seq} is missing")
        after = e2e.sha256(self.chains[-1] + (e2e.sha256(wire.sealed) if wire.sealed else wire.sealed_hash))
        if after != wire.chain:
            raise Refused(f"message {seq} does not follow from those before it")
        received = None
        if wire.sealed:
            received = self._check(wire, seq)
        self.chains.append(after)
        return received or Received(seq, wire.sender, wire.sent_at_ms, None, None)

    def _check(self, wire: chat_pb2.Message, seq: int) -> Optional[Received]:
        message = e2e.parse_message(wire.sealed)
        header = message.header
        if (header.room_id, header.message_id, header.user_id) != (self.room_id, wire.id, wire.sender_id):
            raise Refused(f"message {seq} was sent as another one")
        if (header.device_id, header.message_id) in self._ids_used:
            raise Refused(f"message {seq} is a copy of an earlier one")
        if header.user_id not in self.log.authors:
            raise Refused(f"message {seq} is by somebody who has never been in the room")
        sender = self.account.user(header.user_id)
        if header.device_id not in sender.devices:
            sender = self.account.user(header.user_id, is_fresh=True)
        message.verify(sender)
        if header.seen_seq >= seq or (header.seen_seq and header.seen_chain != self.chains[header.seen_seq]):
            raise Refused(f"the sender of message {seq} was shown other messages before it")
        if header.log_head not in self.log.hashes:
            self.sync_log()
        if header.log_head not in self.log.hashes:
            raise Refused(f"the sender of message {seq} was shown another log")
        self._ids_used.add((header.device_id, header.message_id))
        if header.epoch not in self.secrets:
            return Received(seq, sender.user_name, wire.sent_at_ms, header, None)
        content = chat_pb2.Content.FromString(message.open(self.secret(header.epoch)))
        return Received(seq, sender.user_name, wire.sent_at_ms, header, content)

    def header(self, message_id: bytes) -> message_pb2.Header:
        """Of the next message to be sent: what this account has seen, and where."""
        seen_seq = len(self.chains) - 1
        return message_pb2.Header(
            suite=e2e.SUITE, room_id=self.room_id, epoch=self.log.epoch, user_id=self.account.user_id,
            device_id=self.account.device.id, message_id=message_id, created_at_ms=_now_ms(), log_head=self.log.head_hash,
            seen_seq=seen_seq, seen_chain=self.chains[-1] if seen_seq else b"")

    def send(self, text: str = "", content: Optional[chat_pb2.Content] = None) -> int:
        """Sends a text, or whatever content says, and returns the message's number."""
        encoded = (content or chat_pb2.Content(text=text)).SerializeToString()
        message_id = os.urandom(e2e.ID_BYTES)
        if not self.log.seq:
            self.sync_log()
        for attempt in range(ATTEMPTS):
            if self.log.is_rekey_needed or attempt > 1:
                self.amend(is_rekey=True)
            sealed = e2e.seal_message(self.header(message_id), self.secret(self.log.epoch),
                                      self.account.device.sign_private, encoded)
            try:
                return self.account.chat.Send(room=self.id_text, sealed=sealed, request_id=message_id).seq
            except RpcError as error:
                if error.reason != "EPOCH_STALE" or attempt == ATTEMPTS - 1:
                    raise
            # The epoch is over, or a device has ended and somebody has to start another.
            self.sync_log()
        raise AssertionError("not reached")

    def save_file(self, file: chat_pb2.FileAnnouncement, path: str) -> None:
        """Fetches and opens a file that a message announces."""
        key = FileKey.opened(file.key)
        step = key.segment_plain_bytes + e2e.TAG_BYTES
        with tempfile.TemporaryDirectory() as folder:
            sealed_path = os.path.join(folder, "sealed")
            download(self.account.channel, file.file_id.hex(), sealed_path)
            with open(sealed_path, "rb") as sealed, open(f"{path}.part", "wb") as out:
                for index in range(key.segment_count):
                    out.write(key.open_segment(index, sealed.read(step)))
                if sealed.read(1):
                    raise Refused("the file has more than it should")
        os.replace(f"{path}.part", path)
