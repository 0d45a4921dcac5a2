"""People in encrypted rooms behind a proxy that records, what their machines keep, and what the server has.

Stores and databases are read from copies, as a thief would.
"""
import base64
import glob
import os
import shutil
import sqlite3
import tempfile

from fc.e2e.v1 import chain_pb2
from fc_client import Channel, e2e, log_in
from fcd_process import NOT_ALLOWED, NOT_FOUND, Fc, Fcd, FcTestCase
from recording_proxy import RecordingProxy

PASSWORD = "a long password"
SEND = "fc.chat.v1.Chat/Send"
AMEND = "fc.chat.v1.Chat/Amend"


def database_rows(path, query, arguments=()):
    """What a query finds in a copy of an SQLite database and its log."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copy(path + suffix, os.path.join(folder, "copy.db" + suffix))
        connection = sqlite3.connect(os.path.join(folder, "copy.db"))
        try:
            return connection.execute(query, arguments).fetchall()
        finally:
            connection.close()


def store_path(fc):
    (path,) = glob.glob(os.path.join(glob.escape(fc.data), "*.db"))
    return path


def epoch_secrets(fc):
    """{(room id, epoch): secret}: all that a machine could open messages with."""
    rows = database_rows(store_path(fc), "SELECT r.room_id, e.epoch, e.secret FROM epoch e JOIN room r ON r.id = e.room")
    return {(room_id, epoch): secret for room_id, epoch, secret in rows}


def own_keys(fc):
    """(user id, Keys) of a machine's device."""
    ((user_id, device_id, sign_private, box_private),) = database_rows(
        store_path(fc), "SELECT user_id, device_id, sign_private, box_private FROM account")
    return user_id, e2e.Keys(device_id, sign_private, box_private)


def queued(fc):
    """[(message id, request)] of a machine's outbox."""
    return database_rows(store_path(fc), "SELECT message_id, request FROM outgoing ORDER BY position")


def opens(sealed, secret):
    """Whether a message opens with an epoch's secret, whatever its header says."""
    try:
        e2e.parse_message(sealed).open(secret)
        return True
    except e2e.Refused:
        return False


class RoomTestCase(FcTestCase):
    """One fcd and one proxy for each test; people connect through it."""

    @classmethod
    def setUpClass(cls):
        pass

    def setUp(self):
        super().setUp()
        self.fcd = Fcd(*self.fcd_options)
        self.addCleanup(self.fcd.close)
        self.proxy = RecordingProxy(self.fcd.url)
        self.addCleanup(self.proxy.close)

    def person(self, user=None, **env):
        fc = Fc(self.proxy.url, **env)
        self.addCleanup(fc.close)
        if user:
            fc.sign_up(user, PASSWORD)
        return fc

    def room(self, name, owner, *members, options=()):
        owner.run("room", "create", name, *options, *(("--member", ",".join(members)) if members else ()))
        return bytes.fromhex(self.listed(owner, name)["id"])

    @staticmethod
    def listed(fc, room):
        (found,) = [one for one in fc.run("room", "list", "--json").objects if one["room"] == room]
        return found

    @staticmethod
    def history(fc, room, *options):
        return fc.run("history", room, "--json", "--since", "0", "--events", *options).objects

    def texts(self, fc, room):
        return [message["text"] for message in self.history(fc, room)]

    def assert_shut_out(self, result):
        self.assertIn(result.code, (NOT_ALLOWED, NOT_FOUND), repr(result))
        self.assertEqual(result.stdout, b"")

    def assert_same_history(self, room, *people):
        histories = [self.history(fc, room) for fc in people]
        self.assertEqual([message["seq"] for message in histories[0]], list(range(1, len(histories[0]) + 1)))
        for one in histories[1:]:
            self.assertEqual(one, histories[0])
        return histories[0]

    def assert_one_fingerprint(self, room, *people):
        numbers = {fc.run("room", "fingerprint", room).text for fc in people}
        self.assertEqual(len(numbers), 1, numbers)

    def channel(self, user):
        """A channel for a person who uses no fc, logged in."""
        channel = Channel(self.fcd.http_url)
        self.addCleanup(channel.close)
        log_in(channel, user, PASSWORD)
        return channel

    # What the server has

    def server_database(self):
        return os.path.join(self.fcd.data, "fc.db")

    def sealed_messages(self, room_id):
        """{seq: an encoded SealedMessage}"""
        return dict(database_rows(self.server_database(), "SELECT seq, sealed FROM chat_messages WHERE room_id = ?"
                                  " ORDER BY seq", (room_id,)))

    def log_entries(self, room_id):
        """[RoomEntry] in order"""
        rows = database_rows(self.server_database(), "SELECT body FROM chat_log WHERE room_id = ? ORDER BY seq", (room_id,))
        return [chain_pb2.RoomEntry.FromString(body) for (body,) in rows]

    def server_bytes(self):
        """Yields (where, bytes) of all that the server has, has logged, and of what went to it and came from it."""
        for folder, _, names in os.walk(self.fcd.data):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        yield path, file.read()
        yield "the log", self.fcd.stderr().encode()
        yield "the wire", self.proxy.recorded()

    def assert_nowhere(self, *canaries):
        """The server has never seen any of these, plain or spelled otherwise."""
        for where, data in self.server_bytes():
            for canary in canaries:
                canary = canary.encode() if isinstance(canary, str) else canary
                for spelled in (canary, canary.hex().encode(), base64.b64encode(canary).rstrip(b"=")):
                    self.assertFalse(spelled in data, f"{canary[:80]!r} is in {where}")

    def assert_somewhere(self, canary):
        """The search finds what is there."""
        self.assertTrue(any(canary in data for _, data in self.server_bytes()), f"{canary!r} is not there")

    def wraps_for(self, room_id, keys):
        """The secrets that the log gives a device."""
        return {e2e.unwrap_epoch(keys.box_private, room_id, wrap.epoch, entry.prev_hash, keys.id, wrap.enc, wrap.ciphertext)
                for entry in self.log_entries(room_id) for wrap in entry.wraps if wrap.device_id == keys.id}

    def all_secrets(self, fc, room_id):
        """Every secret of a room that a machine has, and that its keys and the ladder of a stolen log give it."""
        secrets = {secret for (room, _), secret in epoch_secrets(fc).items() if room == room_id}
        _, keys = own_keys(fc)
        secrets |= self.wraps_for(room_id, keys)
        rekeys = [entry.rekey for entry in self.log_entries(room_id) if entry.HasField("rekey")]
        while True:
            more = set()
            for rekey in rekeys:
                for secret in secrets if rekey.previous else ():
                    try:
                        more.add(e2e.open_previous(secret, room_id, rekey.epoch - 1, rekey.previous))
                    except e2e.Refused:
                        pass
            if more <= secrets:
                return secrets
            secrets |= more
