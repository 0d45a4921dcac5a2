"""The power fails, as a model: what fcd or fc does to its disk is recorded, and from the record is made what the disk
may hold at any moment of it. What was acknowledged is there, and no file has a name before it is whole."""
import hashlib
import os
import random
import subprocess
import tempfile
import unittest

from counting_proxy import CountingProxy
from disk_shim import DiskLog, disk_environment
from fcd_process import DONE, Fc, Fcd, FcTestCase, check_report, clean_environment, limit

# Moments at which the power fails; a longer hunt sets FC_FAULT_CUTS.
CUTS = int(os.environ.get("FC_FAULT_CUTS", "6"))
SEED = int(os.environ.get("FC_FAULT_SEED", "20260105"))
KIB, MIB = 1024, 1024 * 1024
PASSWORD = b"a long password"


class PowerOfTheServer(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(SEED)
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="fcd-power-"))
        self.log = os.path.join(self.folder, "log")
        self.root = os.path.join(self.folder, "root")
        os.mkdir(self.root)
        self.stored = []  # (name, content, when in the log, in bytes)
        self.removed = {}  # name -> when it was asked for

    def store(self, fc, name, content, *options):
        fc.write(name, content)
        self.assertEqual(fc.run("upload", name, *options).text, f"{hashlib.md5(content).hexdigest()}  {name}\n")
        self.stored.append((name, content, os.path.getsize(self.log)))

    def record(self):
        """A server's life. When its first account was acknowledged."""
        env = disk_environment(os.environ["FCD"], self.root, log=self.log)
        with Fcd("--delete-grace", "0", data=os.path.join(self.root, "data"), env=env) as fcd:
            fc = Fc(fcd.url)
            self.addCleanup(fc.close)
            fc.sign_up("ann")
            begin = os.path.getsize(self.log)
            for number, size in enumerate((700 * KIB, 100, 3 * MIB, 256 * KIB, 0, 40 * KIB, 2 * MIB + 1)):
                self.store(fc, f"file-{number}", self.random.randbytes(size))
            self.removed["file-2"] = os.path.getsize(self.log)
            fc.run("rm", "file-2")
            self.store(fc, "again", self.stored[0][1])
            os.mkdir(fc.path("tree"))
            for number in range(30):
                fc.write(f"tree/{number}", b"%d" % number * 1000)
            fc.run("upload", "-r", "tree")
            end = os.path.getsize(self.log)
            self.stored += [(f"tree/{number}", b"%d" % number * 1000, end) for number in range(30)]
            self.store(fc, "last", self.random.randbytes(1 * MIB))
        return begin

    def look(self, data, when):
        """What a server that starts on this disk has of what was acknowledged before a moment of the log."""
        with Fcd("--delete-grace", "0", data=data) as fcd:
            fc = Fc(fcd.url)
            try:
                fc.run("login", "ann", "--password-stdin", stdin=PASSWORD)
                listed = {file["name"]: file["md5"] for file in fc.run("ls", "--json").objects}
                for name, content, acknowledged in self.stored:
                    if acknowledged <= when and self.removed.get(name, when + 1) > when:
                        self.assertEqual(listed.get(name), hashlib.md5(content).hexdigest(), name)
                for name, content, _ in self.stored:
                    if name in listed and not name.startswith("tree/"):
                        self.assertEqual(fc.run("cat", name).stdout, content, name)
            finally:
                fc.close()
        result = subprocess.run([os.environ["FCD"], "check", "--data", data], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, env=clean_environment(), timeout=limit(60), check=False)
        check_report("fcd", result.stderr)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_what_was_acknowledged_is_there(self):
        begin = self.record()
        log = DiskLog(self.log, self.root)
        first, last = log.count_before(begin), len(log.records)
        self.assertGreater(last - first, 100)
        # The moments right after an acknowledgement are the hardest.
        hard = [log.count_before(when) for _, _, when in self.stored if when > begin]
        for cut in range(CUTS):
            count = self.random.choice(hard) if cut % 2 else self.random.randint(first, last)
            with self.subTest(cut=cut, count=count), tempfile.TemporaryDirectory(dir=self.folder) as place:
                state = os.path.join(place, "root")
                log.write(count, state, self.random)
                when = log.records[count - 1][-1]
                self.look(os.path.join(state, "data"), when)


class PowerOfTheClient(FcTestCase):
    SIZE = 80 * MIB  # more than what is synced at once

    def resumable(self, folder):
        """Makes the journal one that was begun here, before the system was started."""
        journal, part = os.path.join(folder, "copy.part.journal"), os.path.join(folder, "copy.part")
        if not os.path.exists(journal) or not os.path.exists(part):
            return
        status = os.stat(part)
        with open(journal, "rb") as file:
            header, newline, records = file.read().partition(b"\n")
        words = header.split(b" ")
        if newline and len(words) == 9:
            words[6:] = [b"%d" % status.st_dev, b"%d" % status.st_ino, b"another-boot"]
            with open(journal, "wb") as file:
                file.write(b" ".join(words) + newline + records)

    def test_no_name_before_the_whole(self):
        rng = random.Random(SEED)
        proxy = self.enterContext(CountingProxy(self.fcd.url))
        fc = Fc(proxy.url)
        self.addCleanup(fc.close)
        fc.sign_up("bea")
        content = rng.randbytes(self.SIZE)
        fc.write("file", content)
        fc.run("upload", "file", seconds=60)
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="fc-power-"))
        root, log_path = os.path.join(folder, "root"), os.path.join(folder, "log")
        os.mkdir(root)
        env = disk_environment(os.environ["FC"], root, log=log_path)
        command = ("download", "file", "-o", os.path.join(root, "copy"))
        fc.run(*command, env=env, seconds=120)
        log = DiskLog(log_path, root)
        synced = [position for position, (kind, *_) in enumerate(log.records) if kind == "S"]
        self.assertGreater(len(synced), 4)
        gone_on = 0
        for cut in range(CUTS):
            # One in two after data, journal and names were synced: then there is something to go on with.
            low = synced[2] + 1 if cut % 2 else 0
            count = rng.randint(low, len(log.records))
            with self.subTest(cut=cut, count=count), tempfile.TemporaryDirectory(dir=folder) as place:
                state = os.path.join(place, "root")
                log.write(count, state, rng)
                copy = os.path.join(state, "copy")
                if os.path.exists(copy):
                    with open(copy, "rb") as file:
                        self.assertEqual(hashlib.md5(file.read()).digest(), hashlib.md5(content).digest())
                    continue
                self.resumable(state)
                before = len(proxy.asked)
                self.assertEqual(fc.run("download", "file", "-o", copy, seconds=60).code, DONE)
                asked = len(proxy.asked) - before
                gone_on += asked < self.SIZE // (256 * KIB)
                if cut % 2:
                    self.assertLessEqual(asked, 16 * 4 + 8, "what was durable was fetched again")
                with open(copy, "rb") as file:
                    self.assertEqual(hashlib.md5(file.read()).digest(), hashlib.md5(content).digest())
                self.assertEqual(os.listdir(state), ["copy"])
        self.assertGreater(gone_on, 0, "nothing went on, so nothing was tried")


if __name__ == "__main__":
    unittest.main()
