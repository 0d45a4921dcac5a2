"""Disks that are full and clocks that are wrong: nothing that was acknowledged is lost, and the order holds."""
import contextlib
import ctypes.util
import glob
import os
import subprocess
import tempfile
import unittest

from fcd_process import DONE, LIMITED, QUEUED, Fcd, FcTestCase

DISK_BYTES = 48 << 20
LIBRARY = "libfaketime.so.1"


class Disk:
    """A small disk that can be filled. A context manager."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", self.folder]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            raise unittest.SkipTest(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        return self

    def __exit__(self, *exception):
        subprocess.run(["umount", "-l", self.folder], check=True)

    @contextlib.contextmanager
    def full(self):
        """Not a byte is free meanwhile."""
        path = os.path.join(self.folder, "ballast")
        with open(path, "wb", buffering=0) as ballast:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"x" * 65536)
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"x" * 512)
        try:
            yield
        finally:
            os.unlink(path)


class FullDisk(FcTestCase):
    @classmethod
    def setUpClass(cls):
        cls.numbers = iter(range(1000))

    def run_server(self, **options):
        self.fcd = self.enterContext(Fcd(**options))
        number = next(self.numbers)
        self.alice, self.bob = self.person(f"alice{number}"), self.person(f"bob{number}")
        self.rooms = ("vault", "plain")
        for room in self.rooms:
            self.alice.run("room", "create", room, *(("--plain",) if room == "plain" else ()))
            self.alice.run("room", "amend", room, "--add", f"bob{number}")
        self.acknowledged = {room: [] for room in self.rooms}
        self.queued = {room: [] for room in self.rooms}

    def send(self, fc, room, text):
        result = fc.try_run("send", room, text)
        if result.code == DONE:
            self.acknowledged[room].append(text)
        elif result.code == QUEUED:
            self.queued[room].append(text)
        return result

    def check(self, *flushing):
        for fc in flushing:
            fc.run("outbox", "flush")
        for room in self.rooms:
            history = self.bob.run("history", room, "--since", "0", "--json").objects
            texts = [message["text"] for message in history]
            self.assertEqual([message["seq"] for message in history], list(range(1, len(history) + 1)))
            self.assertEqual(sorted(texts), sorted(self.acknowledged[room] + self.queued[room]))
            self.assertEqual([text for text in texts if text in self.acknowledged[room]], self.acknowledged[room])
            self.assertEqual(self.alice.run("history", room, "--since", "0", "--json").objects, history)
        self.bob.run("audit")

    def test_of_the_server(self):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="fcd-test-"))
        with Disk(folder) as disk:
            self.run_server(data=os.path.join(folder, "data"))
            try:
                for number in range(5):
                    for room in self.rooms:
                        self.assertEqual(self.send(self.alice, room, f"before {number}").code, DONE)
                with disk.full():
                    results = [self.send(self.alice, room, f"meanwhile {number} {'x' * 20000}")
                               for number in range(20) for room in self.rooms]
                    refused = [result for result in results if result.code != DONE]
                    self.assertTrue(refused, "the disk is not full")
                    for result in refused:
                        self.assertEqual(result.code, QUEUED, repr(result))
                        self.assertRegex(result.stderr, "space|disk is full", repr(result))
                    # What is there can be read.
                    self.assertEqual(self.bob.try_run("history", "plain").code, DONE)
                for room in self.rooms:
                    self.assertEqual(self.send(self.alice, room, "after").code, DONE)
                # And is there when it starts anew.
                self.fcd.kill()
                self.fcd.start()
                self.check(self.alice)
            finally:
                self.fcd.close()

    def test_of_a_member(self):
        self.run_server()
        with Disk(self.alice.path("disk")) as disk:
            moved = self.person()
            moved.env["FC_DATA_DIR"] = disk.folder
            moved.run("login", self.alice.run("whoami", "--json").object["user"], "--password-stdin",
                      stdin=b"a long password")
            moved.run("unread")
            for room in self.rooms:
                self.assertEqual(self.send(moved, room, "before").code, DONE)
            # There is more to fetch than fits.
            for room in self.rooms:
                lines = [f"{number} {'y' * 20000}" for number in range(40)]
                self.bob.run("send", room, "-", stdin="\n".join(lines).encode(), seconds=60)
                self.acknowledged[room] += lines
            with disk.full():
                for room in self.rooms:
                    for command in (("history", room), ("send", room, f"meanwhile {'x' * 20000}")):
                        result = moved.try_run(*command)
                        if result.code == DONE:
                            continue  # what it needed was there already
                        self.assertIn(result.code, (LIMITED, QUEUED), repr(result))
                        self.assertRegex(result.stderr, "space|disk is full", repr(result))
            for room in self.rooms:
                texts = [one["text"] for one in moved.run("history", room, "--since", "0", "--json").objects]
                self.assertEqual([text for text in texts if not text.startswith("meanwhile")], self.acknowledged[room])
                self.assertEqual(self.send(moved, room, "after").code, DONE)


def clock_library():
    found = sorted(glob.glob(f"/usr/lib/*/faketime/{LIBRARY}"))
    return found[0] if found else ctypes.util.find_library("faketime")


class Clock(FcTestCase):
    @classmethod
    def setUpClass(cls):
        library = clock_library()
        if not library:
            raise unittest.SkipTest("there is no libfaketime (Debian: apt-get install libfaketime)")
        cls.clock = os.path.join(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="fcd-test-")), "clock")
        cls.set_clock("+0")
        preload = [library]
        linked = subprocess.run(["ldd", os.environ["FCD"]], capture_output=True, text=True, check=True).stdout
        for name in ("libasan.so", "libtsan.so"):
            preload = [line.split()[2] for line in linked.splitlines() if name in line] + preload
        cls.fcd = Fcd(env={"LD_PRELOAD": " ".join(preload), "FAKETIME_TIMESTAMP_FILE": cls.clock,
                           "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"})
        cls.addClassCleanup(cls.fcd.close)

    @classmethod
    def set_clock(cls, difference):
        with open(cls.clock + "-new", "w", encoding="ascii") as file:
            file.write(difference + "\n")
        os.replace(cls.clock + "-new", cls.clock)

    def test_the_server_s_clock_jumps(self):
        alice, bob = self.person("alice"), self.person("bob")
        for room in ("vault", "plain"):
            alice.run("room", "create", room, *(("--plain",) if room == "plain" else ()))
            alice.run("room", "amend", room, "--add", "bob")
        sent = []
        for difference in ("+0", "-1d", "+2d", "-1d", "+0"):
            self.set_clock(difference)
            for number in range(3):
                sent.append(f"{number} at {difference}")
                for room, fc in (("vault", alice), ("plain", bob)):
                    fc.run("send", room, sent[-1])
            if difference == "+2d":
                alice.run("room", "amend", "vault", "--rekey")
                self.fcd.kill()
                self.fcd.start()
        for room in ("vault", "plain"):
            for fc in (alice, bob):
                history = fc.run("history", room, "--since", "0", "--json").objects
                self.assertEqual([message["text"] for message in history], sent)
                self.assertEqual([message["seq"] for message in history], list(range(1, len(sent) + 1)))
                self.assertEqual([one["text"] for one in fc.run("history", room, "--limit", "4", "--json").objects],
                                 sent[-4:])
        days = {message["sent_at"][:10] for message in history}
        self.assertGreater(len(days), 1, "the clock did not jump")
        alice.run("audit")


if __name__ == "__main__":
    unittest.main()
