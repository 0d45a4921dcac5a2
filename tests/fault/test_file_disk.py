"""Disks that are full, cannot be written or lie, of the server and of a client: errors are clear, nothing else is harmed."""
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

from fcd_process import DONE, FAILED, LIMITED, QUEUED, Fcd, FcTestCase, limit, running, wait_until

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


@contextlib.contextmanager
def small_disk(size):
    """A folder that is a disk of its own. Skips the test where that cannot be."""
    folder = tempfile.mkdtemp(prefix="fcd-disk-")
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True,
                                 text=True, check=False)
        if mounted.returncode != 0:
            raise unittest.SkipTest(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shim_environment(program, control):
    """For a program with the shim that reads `control`; a sanitizer's library has to come first."""
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    sanitizers = [line.split()[2] for line in linked.splitlines() if "libasan.so" in line or "libtsan.so" in line]
    return {"LD_PRELOAD": " ".join([*sanitizers, os.environ["DISK_SHIM"]]), "FC_DISK_SHIM": control}


def ask_for(control, kind, path):
    """Tells the shim what is to happen to files whose paths contain this."""
    with open(control + "-new", "w", encoding="utf-8") as file:
        file.write(f"{kind} {path}\n")
    os.replace(control + "-new", control)


def names_of(fc):
    return [file["name"] for file in fc.run("ls", "--json").objects]


class DiskFull(FcTestCase):
    """A server whose disk holds 64 MiB."""

    @classmethod
    def setUpClass(cls):
        cls.disk = cls.enterClassContext(small_disk("64m"))
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
        with running(fc.start("upload", "large")) as process:
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


class ClientDiskFull(FcTestCase):
    """A machine whose disk holds 8 MiB."""

    def test_what_does_not_fit_is_not_begun(self):
        fc = self.person("ann")
        content = os.urandom(12 * MIB)
        fc.write("file", content)
        fc.run("upload", "file")
        with small_disk("8m") as disk:
            path = os.path.join(disk, "copy")
            self.assert_fails(fc.try_run("download", "file", "-o", path), LIMITED,
                              rf"needs {len(content)} bytes, but the disk has [0-9]+ free")
            self.assertEqual(os.listdir(disk), [])
            subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
            fc.run("download", "file", "-o", path)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content)

    def test_a_disk_that_fills_up_meanwhile(self):
        """The room was taken before anything was fetched, so that nothing can go wrong any more."""
        fc = self.person("bea")
        content = os.urandom(4 * MIB)
        fc.write("file", content)
        fc.run("upload", "file")
        with small_disk("8m") as disk:
            path = os.path.join(disk, "copy")
            with running(fc.start("download", "file", "-o", path, "--limit-rate", "4M")) as process:
                wait_until(lambda: os.path.exists(path + ".part.journal") or process.poll() is not None,
                           "the download to begin")
                with contextlib.suppress(OSError), open(os.path.join(disk, "filler"), "wb", buffering=0) as filler:
                    while True:
                        filler.write(bytes(65536))
                _, stderr = process.communicate(timeout=limit(60))
            self.assertEqual(process.returncode, DONE, stderr)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content)


class BadDisk(FcTestCase):
    """Disks whose calls fail, by way of a shim around the system's."""

    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="fcd-shim-"))
        cls.control = os.path.join(cls.folder, "control")
        cls.fcd = Fcd(env=shim_environment(os.environ["FCD"], cls.control))
        cls.addClassCleanup(cls.fcd.close)

    def test_a_sync_of_the_server_s_fails_once(self):
        fc = self.person("cay")
        content = os.urandom(6 * MIB)
        fc.write("file", content)
        ask_for(self.control, "eio-once", self.fcd.data + "/uploads/")
        self.assertEqual(fc.run("upload", "file").text, f"{hashlib.md5(content).hexdigest()}  file\n")
        self.assertFalse(os.path.exists(self.control), "no sync has failed")
        self.assertIn("BLOB-SYNC", self.fcd.stderr())
        self.assertEqual(fc.run("cat", "file").stdout, content)

    def test_a_sync_of_the_client_s_fails_once(self):
        fc = self.person("dan")
        control = os.path.join(fc.folder, "control")
        fc.env.update(shim_environment(os.environ["FC"], control))
        content = os.urandom(3 * MIB)
        fc.write("file", content)
        fc.run("upload", "file")
        ask_for(control, "eio-once", "copy.part")
        fc.run("download", "file", "-o", "copy")
        self.assertFalse(os.path.exists(control), "no sync has failed")
        self.assertEqual(fc.read("copy"), content)
        self.assertEqual(sorted(os.listdir(fc.cwd)), ["copy", "file"])

    def test_a_disk_that_cannot_be_written_any_more(self):
        fc = self.person("eve")
        content = os.urandom(MIB)
        fc.write("file", content)
        fc.run("upload", "file")
        fc.write("other", os.urandom(MIB))
        ask_for(self.control, "rofs", self.fcd.data)
        try:
            self.assertEqual(fc.run("cat", "file").stdout, content)
            self.assertEqual(names_of(fc), ["file"])
            for arguments in (("upload", "other"), ("rm", "file"), ("mv", "file", "moved")):
                self.assert_fails(fc.try_run(*arguments), FAILED, "the server's disk (cannot be written|has failed): tell its operator")
        finally:
            os.unlink(self.control)
        self.assertEqual(names_of(fc), ["file"])
        fc.run("upload", "other")
        self.assertEqual(names_of(fc), ["file", "other"])


if __name__ == "__main__":
    unittest.main()
