"""fcd and fc are killed during uploads, and the server's disk fills up: a file is whole or not there."""
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import unittest

from fcd_process import DONE, LIMITED, QUEUED, NOT_FOUND, Fcd, FcTestCase, limit, running, wait_until

# Rounds of killing; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "8"))
MIB = 1024 * 1024


def stored_bytes(data):
    """How much of unfinished uploads is on the server's disk."""
    total = 0
    for folder, _, names in os.walk(data):
        if os.path.basename(folder) == "uploads":
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    pass
    return total


def names_of(fc):
    return [file["name"] for file in fc.run("ls", "--json").objects]


class FileKill(FcTestCase):
    def setUp(self):
        self.random = random.Random(20260102)

    def make_file(self, fc, name, size):
        content = self.random.randbytes(size)
        fc.write(name, content)
        return content

    def upload_until(self, fc, name, fraction, size):
        """Starts an upload and returns it when about this part of it is on the server's disk, or it has ended."""
        before = stored_bytes(self.fcd.data)
        process = fc.start("upload", name)
        wait_until(lambda: stored_bytes(self.fcd.data) - before >= fraction * size or process.poll() is not None,
                   "chunks on the disk", 30)
        return process

    def assert_reads_back(self, fc, name, content):
        fc.run("download", name, "-o", "copy")
        self.assertEqual(hashlib.md5(fc.read("copy")).digest(), hashlib.md5(content).digest())

    def test_uploads_survive_kills_of_fcd(self):
        fc = self.person("ann")
        contents = {}
        before = stored_bytes(self.fcd.data)
        for number in range(KILLS):
            name, size = f"file-{number}", self.random.randint(1, 24 * MIB)
            contents[name] = self.make_file(fc, name, size)
            # The last rounds are for the moments around the commit.
            fraction = self.random.random() if number < KILLS - 3 else 1
            with running(self.upload_until(fc, name, fraction, size)) as process:
                self.fcd.kill()
                self.fcd.start()
                stdout, stderr = process.communicate(timeout=limit(60))
                self.assertEqual(process.returncode, DONE, stderr)
                self.assertIn(hashlib.md5(contents[name]).hexdigest(), stdout.decode())
        self.assertEqual(names_of(fc), sorted(contents))
        for name, content in contents.items():
            self.assert_reads_back(fc, name, content)
        self.assertEqual(stored_bytes(self.fcd.data), before)

    def test_an_upload_whose_sender_was_killed_is_not_there_and_can_be_sent_again(self):
        fc = self.person("bea")
        for number in range(3):
            name, size = f"file-{number}", 24 * MIB
            content = self.make_file(fc, name, size)
            with running(self.upload_until(fc, name, self.random.random() / 2, size)) as process:
                process.kill()
                process.wait()
            self.fcd.kill()
            self.fcd.start()
            self.assertNotIn(name, names_of(fc))
            self.assert_fails(fc.try_run("download", name, "-o", "none"), NOT_FOUND, "no file")
            self.assertEqual([entry for entry in os.listdir(fc.cwd) if entry.startswith("none")], [])
            fc.run("upload", name)
            self.assert_reads_back(fc, name, content)


class DiskFull(FcTestCase):
    """A server whose disk holds 64 MiB."""

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("mounting a small tmpfs needs root")
        cls.disk = tempfile.mkdtemp(prefix="fcd-disk-")
        cls.addClassCleanup(shutil.rmtree, cls.disk, ignore_errors=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", cls.disk], check=False).returncode != 0:
            raise unittest.SkipTest("a tmpfs cannot be mounted here")
        cls.addClassCleanup(subprocess.run, ["umount", "-l", cls.disk], check=True)
        cls.filler = os.path.join(cls.disk, "filler")
        cls.fcd = Fcd(data=os.path.join(cls.disk, "data"))
        cls.addClassCleanup(cls.fcd.close)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(65536))
            except OSError:
                return

    def test_what_does_not_fit_is_refused_and_harms_nothing(self):
        fc = self.person("cleo")
        small = os.urandom(3 * MIB)
        fc.write("small", small)
        fc.run("upload", "small")
        fc.write("large", os.urandom(80 * MIB))
        self.assert_fails(fc.try_run("upload", "large"), LIMITED, "no room")

        # Now it fits when it is planned, and the disk fills up while it comes.
        fc.write("large", os.urandom(32 * MIB))
        with running(fc.start("upload", "large", "--timeout", "1")) as process:
            wait_until(lambda: stored_bytes(self.fcd.data) > 0 or process.poll() is not None, "chunks on the disk")
            self.fill()
            _, stderr = process.communicate(timeout=limit(60))
            self.assertEqual(process.returncode, LIMITED, stderr)
            self.assertRegex(stderr.decode(), r"\Afc[^\n]*: [^\n]*disk is full[^\n]*\n\Z")
        wait_until(lambda: stored_bytes(self.fcd.data) == 0, "the upload's chunks to be removed")
        fc.run("download", "small", "-o", "copy")
        self.assertEqual(fc.read("copy"), small)

        os.unlink(self.filler)
        fc.run("upload", "large")
        self.assertEqual(names_of(fc), ["large", "small"])
        fc.run("download", "large", "-o", "copy")
        self.assertEqual(fc.read("copy"), fc.read("large"))

    def test_what_cannot_be_stored_is_not_acknowledged(self):
        """Accounts, logins and rooms are refused while the disk is full, and made when it is not. Messages wait."""
        fc, newcomer = self.person("dora"), self.person()
        fc.run("room", "create", "den", "--plain")
        fc.run("send", "den", "before")
        self.fill()
        password = b"a long password"
        full = "disk is full.*try again"
        for number in range(2):
            self.assert_fails(fc.try_run("send", "den", f"during {number}"), QUEUED, full)
            self.assert_fails(fc.try_run("room", "create", "attic", "--plain"), LIMITED, full)
            self.assert_fails(fc.try_run("login", "dora", "--password-stdin", stdin=password), LIMITED, full)
            self.assert_fails(newcomer.try_run("signup", "emil", "--password-stdin", stdin=password), LIMITED, full)
        fc.run("whoami")
        os.unlink(self.filler)
        newcomer.sign_up("emil")
        fc.run("login", "dora", "--password-stdin", stdin=password)
        fc.run("room", "create", "attic", "--plain")
        fc.run("send", "den", "after")
        self.fcd.restart()
        self.assertEqual([one["text"] for one in fc.run("history", "den", "--json").objects],
                         ["before", "during 0", "during 1", "after"])
        newcomer.run("whoami")


if __name__ == "__main__":
    unittest.main()
