"""Files of encrypted rooms that the server changes: no download of them succeeds, and nothing is left under their name."""
import hashlib
import os
import sqlite3
import unittest

from fcd_process import INTEGRITY
from room_people import RoomTestCase

SEGMENT_BYTES = (1 << 20) + 16  # sealed
CONTENT = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(3 << 15)) + b"the end"  # 3 segments, and a little


class SealedFiles(RoomTestCase):
    """The server is in on it: it changes its digests with the bytes, so that only the seal can tell."""

    def setUp(self):
        super().setUp()
        self.anna, self.bert = self.person("anna"), self.person("bert")
        self.room("team", self.anna, "bert")
        self.anna.write("plan.bin", CONTENT)
        self.file_id = self.anna.run("upload", "plan.bin", "--room", "team", "--json").object["id"]
        self.bert.run("download", "team/plan.bin")
        self.assertEqual(self.bert.read("plan.bin"), CONTENT)
        os.unlink(self.bert.path("plan.bin"))

    def blob(self, file_id):
        (path,) = [os.path.join(folder, name) for folder, _, names in os.walk(self.fcd.data) for name in names
                   if name == file_id]
        return path

    def rewrite(self, file_id, change):
        """Changes the bytes that the server has of a file, and all that it says of them."""
        self.fcd.stop()
        path = self.blob(file_id)
        with open(path, "rb") as file:
            data = change(file.read())
        with open(path, "wb") as file:
            file.write(data)
        database = sqlite3.connect(self.server_database())
        with database:
            ((chunk_bytes,),) = database.execute("SELECT chunk_bytes FROM filestore_files WHERE file_id = ?",
                                                 (bytes.fromhex(file_id),)).fetchall()
            chunks = [data[at:at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
            database.execute("UPDATE filestore_files SET size_bytes = ?, md5 = ?, sha256 = ? WHERE file_id = ?",
                             (len(data), hashlib.md5(data).digest(), hashlib.sha256(data).digest(), bytes.fromhex(file_id)))
            database.execute("UPDATE filestore_contents SET size_bytes = ?, md5 = ?, sha256 = ? WHERE blob_id = ?",
                             (len(data), hashlib.md5(data).digest(), hashlib.sha256(data).digest(), bytes.fromhex(file_id)))
            database.execute("DELETE FROM filestore_chunks WHERE blob_id = ?", (bytes.fromhex(file_id),))
            database.executemany("INSERT INTO filestore_chunks (blob_id, chunk, md5, sha256, size_bytes) VALUES (?, ?, ?, ?, ?)",
                                 [(bytes.fromhex(file_id), index, hashlib.md5(chunk).digest(), hashlib.sha256(chunk).digest(),
                                   len(chunk)) for index, chunk in enumerate(chunks)])
        database.close()
        self.fcd.start()

    def assert_is_noticed(self):
        before = sorted(os.listdir(self.bert.data))
        for options in ((), ("-o", "elsewhere"), ("--force",)):
            result = self.bert.try_run("download", "team/plan.bin", *options)
            self.assert_fails(result, INTEGRITY, "changed or cut|announced")
            self.assertEqual(os.listdir(self.bert.cwd), [])
        result = self.bert.try_run("download", "team/plan.bin", "-o", "-")
        self.assert_fails(result, INTEGRITY)
        self.assertEqual(sorted(os.listdir(self.bert.data)), before, "nothing is left beside the local store")

    def test_each_change(self):
        with open(self.blob(self.file_id), "rb") as file:
            original = file.read()
        flip = lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        changes = {
            "a bit of the first segment": lambda data: flip(data, 5),
            "a bit of a tag": lambda data: flip(data, SEGMENT_BYTES - 1),
            "a bit at the end": lambda data: flip(data, len(data) - 1),
            "two segments swapped": lambda data: data[SEGMENT_BYTES:2 * SEGMENT_BYTES] + data[:SEGMENT_BYTES]
            + data[2 * SEGMENT_BYTES:],
            "the last segment cut off": lambda data: data[:3 * SEGMENT_BYTES],
            "a byte cut off": lambda data: data[:-1],
            "a segment left out": lambda data: data[SEGMENT_BYTES:],
            "a byte appended": lambda data: data + b"x",
            "a segment repeated at the end": lambda data: data + data[:SEGMENT_BYTES],
            "nothing left": lambda data: b"",
        }
        for what, change in changes.items():
            with self.subTest(what):
                self.rewrite(self.file_id, lambda _, change=change: change(original))
                self.assert_is_noticed()
        self.rewrite(self.file_id, lambda _: original)
        self.bert.run("download", "team/plan.bin")
        self.assertEqual(self.bert.read("plan.bin"), CONTENT)

    def test_another_file_of_the_room_in_its_place(self):
        self.anna.write("other.bin", CONTENT[::-1])
        other_id = self.anna.run("upload", "other.bin", "--room", "team", "--json").object["id"]
        with open(self.blob(other_id), "rb") as file:
            other = file.read()
        self.rewrite(self.file_id, lambda _: other)
        self.assert_is_noticed()

    def test_a_bit_that_rots_on_the_disk(self):
        path = self.blob(self.file_id)
        with open(path, "r+b") as file:
            file.seek(SEGMENT_BYTES + 100)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0x80]))
        result = self.bert.try_run("download", "team/plan.bin")
        self.assert_fails(result, INTEGRITY)
        self.assertEqual(os.listdir(self.bert.cwd), [])


if __name__ == "__main__":
    unittest.main()
