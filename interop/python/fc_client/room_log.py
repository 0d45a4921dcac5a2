"""The log of an encrypted room: what its entries make of it, and whether they were right to (docs/security.md).

Checked here: who signed, the hash chain, numbers, heads of users' chains, roles, who comes in and how, that a new key
goes to exactly those who are to have it. Left to the C client: rules of direct rooms beyond their two people, that an
owner is left, names and sizes, and the time when links expire.
"""
import copy
import os
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional

from fc.e2e.v1 import chain_pb2

from . import e2e
from .e2e import Keys, NotNext, Refused, User

ENTRY_MAX_BYTES = 1024 * 1024
MEMBER, ADMIN, OWNER = chain_pb2.MEMBER, chain_pb2.ADMIN, chain_pb2.OWNER

# A user as their chain was at a head; raises Refused when the chain is another one there.
FindUser = Callable[[chain_pb2.UserHead], User]


def active_devices(user: User, seq: int) -> List[bytes]:
    """The ids of the devices that the user had after entry seq."""
    return [device_id for device_id, device in user.devices.items()
            if device.added_seq <= seq and not 0 < device.revoked_seq <= seq]


@dataclass
class Member:
    user_name: str
    role: int
    is_invited: bool
    identity_key: bytes
    head_seq: int
    head_hash: bytes


@dataclass
class Link:
    link: chain_pb2.InviteLink
    maker_key: bytes  # the identity of who made it, who may have left since
    use_count: int = 0

    @property
    def is_used_up(self) -> bool:
        return 0 < self.link.max_uses <= self.use_count


@dataclass
class Epoch:
    commitment: bytes
    previous: bytes


@dataclass
class RoomLog:
    """A room as far as its log has been applied."""
    room_id: bytes
    seq: int = 0
    head_hash: bytes = b""
    name: str = ""
    topic: str = ""
    kind: int = 0
    history: int = 0
    is_archived: bool = False
    epoch: int = 0
    is_rekey_needed: bool = False
    members: Dict[bytes, Member] = field(default_factory=dict)
    links: Dict[bytes, Link] = field(default_factory=dict)
    epochs: Dict[int, Epoch] = field(default_factory=dict)
    hashes: List[bytes] = field(default_factory=list)  # of all entries, in order
    authors: Dict[bytes, int] = field(default_factory=dict)  # who has ever been in the room, since which entry

    def apply(self, signed: chain_pb2.Signed, find_user: FindUser) -> chain_pb2.RoomEntry:
        """Checks the next entry and applies it; a failure changes nothing."""
        entry = e2e._parse(chain_pb2.RoomEntry, signed.body, ENTRY_MAX_BYTES)
        if entry.suite != e2e.SUITE or entry.room_id != self.room_id:
            raise Refused("another suite or another room")
        if entry.seq != self.seq + 1 or entry.prev_hash != self.head_hash:
            raise NotNext("not the next entry")
        heads = {head.user_id: find_user(head) for head in entry.heads}
        if len(heads) != len(entry.heads):
            raise Refused("names a head twice")
        _check_signatures(self, signed, entry, heads)
        after = copy.deepcopy(self)
        _Step(self, after, entry, heads).take()
        after.seq, after.head_hash = entry.seq, e2e.sha256(signed.body)
        after.hashes.append(after.head_hash)
        for user_id, member in after.members.items():
            if not member.is_invited:
                after.authors.setdefault(user_id, entry.seq)
        vars(self).update(vars(after))
        return entry

    def fingerprint(self) -> str:
        """The 60 digits that members compare."""
        data = self.room_id + self.seq.to_bytes(8, "big") + self.head_hash
        data += b"".join(user_id + member.identity_key for user_id, member in sorted(self.members.items()))
        groups = e2e.hkdf_expand(e2e.hkdf_extract(b"", data), b"fc/1 room number", 60)
        return " ".join(f"{int.from_bytes(groups[i:i + 5], 'big') % 100000:05}" for i in range(0, 60, 5))


def _check_signatures(room: RoomLog, signed: chain_pb2.Signed, entry: chain_pb2.RoomEntry,
                      heads: Dict[bytes, User]) -> None:
    author = heads.get(entry.user_id)
    if author is None or entry.device_id not in active_devices(author, author.seq):
        raise Refused("not by a device of its author's")
    e2e.verify(author.devices[entry.device_id].sign_key, e2e.CONTEXT_ROOM, signed.body, signed.signature)
    joins = [change.join_by_link for change in entry.changes if change.WhichOneof("kind") == "join_by_link"]
    if not joins and signed.link_signature:
        raise Refused("a link's signature without a link")
    for join in joins:
        link = room.links.get(join.link_id)
        if link is None:
            raise Refused("joins by a link that there is not")
        e2e.verify(link.link.sign_key, e2e.CONTEXT_JOIN, signed.body, signed.link_signature)


class _Step:
    """One entry that is being applied."""

    def __init__(self, before: RoomLog, after: RoomLog, entry: chain_pb2.RoomEntry, heads: Dict[bytes, User]):
        self.before, self.after, self.entry, self.heads = before, after, entry, heads
        self.author_id = entry.user_id

    def take(self) -> None:
        entry, after = self.entry, self.after
        if not entry.changes and not entry.HasField("rekey") and not entry.wraps:
            raise Refused("an entry that does nothing")
        for index, change in enumerate(entry.changes):
            kind = change.WhichOneof("kind")
            if kind is None or (kind == "create") != (entry.seq == 1 and index == 0):
                raise Refused("a change of no kind, or a room that is not made first")
            if kind != "create" and not (kind == "remove_member" and change.remove_member == self.author_id):
                self._check_identity()
            getattr(self, "_" + kind)(getattr(change, kind))
        if entry.seq == 1 and not entry.changes:
            raise Refused("a room has to be made first")
        if not entry.changes:
            self._check_identity()
        if (not entry.changes or entry.HasField("rekey") or entry.wraps) and not self._role():
            raise Refused("only members give keys")
        if after.kind == chain_pb2.DIRECT and len(after.members) != 2:
            raise Refused("a direct room is of two")
        self._take_keys()

    def _role(self) -> int:
        author = self.after.members.get(self.author_id)
        return 0 if author is None or author.is_invited else author.role

    def _require(self, role: int) -> None:
        if self._role() < role:
            raise Refused("the author's role does not allow this")

    def _check_identity(self) -> None:
        author = self.after.members.get(self.author_id)
        if author is not None and author.identity_key != self.heads[self.author_id].identity_key:
            raise Refused("the author has another identity than the one that the room knows")

    def _let_in(self, user_id: bytes, user_name: Optional[str], role: int, is_invited: bool) -> None:
        user = self.heads.get(user_id)
        if user is None or (user_name is not None and user_name != user.user_name):
            raise Refused("lets somebody in without their head, or by another name")
        if not is_invited and all(member.is_invited for member in self.after.members.values()):
            role = OWNER  # the first one in
        self.after.members[user_id] = Member(user.user_name, role, is_invited, user.identity_key, user.seq,
                                             user.head_hash)

    def _create(self, create: chain_pb2.CreateRoom) -> None:
        if create.kind not in (chain_pb2.PRIVATE, chain_pb2.DIRECT) or create.is_plain:
            raise Refused("no encrypted room")
        self.after.name, self.after.kind, self.after.history = create.name, create.kind, create.history
        self._let_in(self.author_id, None, OWNER, False)

    def _add_member(self, add: chain_pb2.AddMember) -> None:
        self._require(ADMIN)
        present = self.after.members.get(add.user_id)
        if add.role not in (MEMBER, ADMIN, OWNER) or add.role > self._role():
            raise Refused("a role that the author cannot give")
        if present is not None and (not present.is_invited or add.is_invited):
            raise Refused("is in the room already")
        self._let_in(add.user_id, add.user_name, add.role, add.is_invited)

    def _remove_member(self, user_id: bytes) -> None:
        member = self.after.members.get(user_id)
        if user_id != self.author_id:
            self._require(OWNER if member is not None and member.role >= ADMIN else ADMIN)
        if member is None:
            raise Refused("is not in the room")
        if user_id == self.author_id and self.after.kind == chain_pb2.DIRECT:
            member.is_invited = True
            return
        del self.after.members[user_id]
        self.after.is_rekey_needed = self.after.is_rekey_needed or user_id == self.author_id

    def _set_role(self, change: chain_pb2.SetRole) -> None:
        self._require(OWNER)
        if change.user_id not in self.after.members or change.role not in (MEMBER, ADMIN, OWNER):
            raise Refused("a role for nobody, or that there is not")
        self.after.members[change.user_id].role = change.role

    def _accept(self, _: chain_pb2.Accept) -> None:
        author = self.after.members.get(self.author_id)
        if author is None or not author.is_invited:
            raise Refused("has not been invited")
        if all(member.is_invited for member in self.after.members.values()):
            author.role = OWNER
        author.is_invited = False

    def _add_link(self, link: chain_pb2.InviteLink) -> None:
        self._require(ADMIN)
        if (len(link.link_id) != e2e.ID_BYTES or not e2e.is_sign_key(link.sign_key) or not e2e.is_box_key(link.box_key)
                or link.role not in (MEMBER, ADMIN) or link.link_id in self.after.links):
            raise Refused("not a link")
        self.after.links[link.link_id] = Link(link, self.heads[self.author_id].identity_key)

    def _revoke_link(self, link_id: bytes) -> None:
        link = self.after.links.get(link_id)
        if link is None:
            raise Refused("there is no such link")
        is_over = link.is_used_up or 0 < link.link.expires_at_ms <= self.entry.created_at_ms
        self._require(MEMBER if is_over else ADMIN)
        del self.after.links[link_id]

    def _join_by_link(self, join: chain_pb2.JoinByLink) -> None:
        link = self.after.links.get(join.link_id)
        present = self.after.members.get(self.author_id)
        if link is None or link.is_used_up or (present is not None and not present.is_invited):
            raise Refused("joins by a link that is used up, or is in the room")
        link.use_count += 1
        # Who has it still has the key.
        if link.is_used_up and self.after.history == chain_pb2.HISTORY_ALL:
            self.after.is_rekey_needed = True
        self._let_in(self.author_id, join.user_name, max(link.link.role, present.role if present else 0), False)

    def _set_name(self, name: str) -> None:
        self._require(ADMIN)
        self.after.name = name

    def _set_topic(self, topic: str) -> None:
        self._require(ADMIN)
        self.after.topic = topic

    def _set_history(self, history: int) -> None:
        self._require(OWNER)
        self.after.history = history

    def _set_archived(self, is_archived: bool) -> None:
        self._require(OWNER)
        self.after.is_archived = is_archived

    # Keys

    def _take_keys(self) -> None:
        for user_id, user in self.heads.items():
            member = self.after.members.get(user_id)
            if member is None and user_id != self.author_id:
                raise Refused("names the head of somebody who is not in the room")
            if member is not None:
                if user.seq < member.head_seq or (user.seq == member.head_seq and user.head_hash != member.head_hash):
                    raise Refused("goes back behind what the room knows of somebody's devices")
                member.head_seq, member.head_hash = user.seq, user.head_hash
        wraps = sorted((wrap.device_id, wrap.epoch) for wrap in self.entry.wraps)
        if self.entry.HasField("rekey"):
            self._take_rekey(self.entry.rekey, wraps)
        elif needs_rekey(self.before, self.entry):
            raise Refused("such an entry has to start a new epoch")
        else:
            self._check_wraps(wraps)

    def _receivers(self) -> Iterable[bytes]:
        for user_id, member in self.after.members.items():
            user = self.heads.get(user_id)
            if user is not None and user.identity_key == member.identity_key:
                yield from active_devices(user, user.seq)
        if self.after.history == chain_pb2.HISTORY_ALL:  # else who joins by a link makes a new key
            yield from self.after.links

    def _take_rekey(self, rekey: chain_pb2.Rekey, wraps: list) -> None:
        has_ladder = self.before.seq > 0 and self.before.history == self.after.history == chain_pb2.HISTORY_ALL
        if rekey.epoch != self.after.epoch + 1 or len(rekey.commitment) != e2e.COMMITMENT_BYTES:
            raise Refused("not the next epoch, or no commitment")
        if rekey.previous and not has_ladder:
            raise Refused("gives the epoch before to those who must not have it")
        if not self.after.members.keys() <= self.heads.keys():
            raise Refused("the rekey leaves somebody out")
        if wraps != sorted((receiver, rekey.epoch) for receiver in self._receivers()):
            raise Refused("the rekey does not give its key to exactly the devices and links of the room")
        self.after.epoch = rekey.epoch
        self.after.is_rekey_needed = self.after.history == chain_pb2.HISTORY_ALL and any(
            link.is_used_up for link in self.after.links.values())
        self.after.epochs[rekey.epoch] = Epoch(rekey.commitment, rekey.previous)

    def _check_wraps(self, wraps: list) -> None:
        receivers = set(self._receivers())
        if len(set(wraps)) != len(wraps) or any(
                device_id not in receivers or not 0 < epoch <= self.after.epoch for device_id, epoch in wraps):
            raise Refused("gives a key to what is not in the room, or twice, or of an epoch that there is not")
        wanted = []
        for change in self.entry.changes:
            kind = change.WhichOneof("kind")
            if kind in ("add_member", "join_by_link"):
                user = self.heads[change.add_member.user_id if kind == "add_member" else self.author_id]
                wanted += active_devices(user, user.seq)
            elif kind == "add_link" and self.after.history == chain_pb2.HISTORY_ALL:
                wanted.append(change.add_link.link_id)
        if any((device_id, self.after.epoch) not in wraps for device_id in wanted):
            raise Refused("lets somebody in without the key for each device")


def needs_rekey(room: RoomLog, entry: chain_pb2.RoomEntry) -> bool:
    """Whether the entry has to start an epoch, going by what it changes."""
    kinds = [change.WhichOneof("kind") for change in entry.changes]
    return (room.seq == 0 or "revoke_link" in kinds or "set_history" in kinds
            or any(kind == "remove_member" and change.remove_member != entry.user_id
                   for kind, change in zip(kinds, entry.changes))
            or (room.history == chain_pb2.HISTORY_JOINED
                and not {"add_member", "accept", "join_by_link"}.isdisjoint(kinds)))


# Making entries

@dataclass
class Draft:
    """An entry that is being made, and the secret of the epoch that it starts, if it does."""
    entry: chain_pb2.RoomEntry
    secret: Optional[bytes] = None

    @classmethod
    def next(cls, room: RoomLog, author_id: bytes, device_id: bytes, created_at_ms: Optional[int] = None) -> "Draft":
        return cls(chain_pb2.RoomEntry(
            suite=e2e.SUITE, room_id=room.room_id, seq=room.seq + 1, prev_hash=room.head_hash, user_id=author_id,
            device_id=device_id,
            created_at_ms=time.time_ns() // 1_000_000 if created_at_ms is None else created_at_ms))

    def name_head(self, user: User) -> None:
        if all(head.user_id != user.user_id for head in self.entry.heads):
            self.entry.heads.add(user_id=user.user_id, seq=user.seq, hash=user.head_hash)

    def wrap(self, receiver_id: bytes, box_key: bytes, epoch: int, secret: bytes) -> None:
        enc, ciphertext = e2e.wrap_epoch(secret, self.entry.room_id, epoch, self.entry.prev_hash, receiver_id, box_key)
        self.entry.wraps.add(device_id=receiver_id, epoch=epoch, enc=enc, ciphertext=ciphertext)

    def wrap_for_user(self, user: User, epoch: int, secret: bytes) -> None:
        self.name_head(user)
        for device_id in active_devices(user, user.seq):
            self.wrap(device_id, user.devices[device_id].box_key, epoch, secret)

    def rekey(self, epoch: int, users: Iterable[User], links: Iterable[chain_pb2.InviteLink],
              previous: Optional[bytes]) -> bytes:
        """Starts an epoch and returns its secret. previous: that of the one before, where later members may have it."""
        self.secret = os.urandom(e2e.SECRET_BYTES)
        room_id = self.entry.room_id
        self.entry.rekey.epoch = epoch
        self.entry.rekey.commitment = e2e.epoch_commitment(self.secret, room_id, epoch)
        if previous is not None:
            self.entry.rekey.previous = e2e.seal_previous(self.secret, room_id, epoch - 1, previous)
        for user in users:
            self.wrap_for_user(user, epoch, self.secret)
        for link in links:
            self.wrap(link.link_id, link.box_key, epoch, self.secret)
        return self.secret

    def signed(self, device: Keys, link: Optional[Keys] = None) -> chain_pb2.Signed:
        body = self.entry.SerializeToString(deterministic=True)
        signed = chain_pb2.Signed(body=body, signature=e2e.sign(device.sign_private, e2e.CONTEXT_ROOM, body))
        if link is not None:
            signed.link_signature = e2e.sign(link.sign_private, e2e.CONTEXT_JOIN, body)
        return signed
