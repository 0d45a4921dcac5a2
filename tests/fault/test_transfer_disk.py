"""Disks that fail, are full or cannot be written, and quotas: transfers wait or end with a clear error, go on by
themselves when they can, and nothing else is harmed."""
import errno
import hashlib
import os
import subprocess
import tempfile
import unittest

from counting_proxy import CountingProxy
from disk_shim import disk_environment
from fcd_process import (DONE, FAILED, INTEGRITY, LIMITED, UNREACHABLE, Fc, Fcd, FcTestCase, check_report,
                         clean_environment, limit, running, wait_until)

CHUNK = 256 * 1024
MIB = 1024 * 1024


class Disk(FcTestCase):
    """One server for each test, whose disk obeys `stop_path`: as long as there is a number of an error in it, nothing can
    be written."""

    @classmethod
    def setUpClass(cls):
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="fcd-disk-"))
        self.stop_path = os.path.join(self.folder, "stop")

    def start(self, *options, **settings):
        data = os.path.join(self.folder, "data")
        os.mkdir(data)
        env = disk_environment(os.environ["FCD"], data, stop=self.stop_path, **settings)
        self.fcd = self.enterContext(Fcd(*options, data=data, env=env))
        self.proxy = self.enterContext(CountingProxy(self.fcd.url))
        self.fc = Fc(self.proxy.url)
        self.addCleanup(self.fc.close)
        self.fc.sign_up(f"ann{next(self.numbers)}")

    def stop(self, error_number):
        with open(self.stop_path + "-new", "w", encoding="ascii") as file:
            file.write(str(error_number))
        os.replace(self.stop_path + "-new", self.stop_path)

    def go_on(self):
        os.unlink(self.stop_path)

    def write(self, name, size):
        content = os.urandom(size)
        self.fc.write(name, content)
        return content

    def assert_stored(self, name, content):
        self.assertEqual(self.fc.run("cat", name).stdout, content)

    def unfinished(self):
        return os.listdir(os.path.join(self.fcd.data, "uploads"))


class OfTheServer(Disk):
    def test_a_sync_that_fails_once_costs_its_chunks_only(self):
        self.start(fail=f"sync:/uploads/:{errno.EIO}:2:1")
        content = self.write("file", 20 * CHUNK)
        self.fc.run("upload", "file")
        self.assert_stored("file", content)
        self.assertIn("BLOB-SYNC", self.fcd.stderr())
        self.assertGreater(len(self.proxy.sent), 20)
        # None was acknowledged twice, so none that failed was acknowledged.
        self.assertEqual(sorted(self.proxy.acknowledged), sorted(set(self.proxy.acknowledged)))

    def test_a_disk_that_fails_for_good_is_told(self):
        self.start()
        good = self.write("good", 8 * CHUNK)
        self.fc.run("upload", "good")
        self.write("bad", 40 * CHUNK)
        with running(self.fc.start("upload", "bad", "--limit-rate", "4M", "--timeout", "1")) as process:
            wait_until(lambda: len(self.proxy.acknowledged) >= 18, "chunks")
            self.stop(errno.EIO)
            _, stderr = process.communicate(timeout=limit(60))
        self.assertEqual(process.returncode, UNREACHABLE, stderr)
        self.assertRegex(stderr.decode(), r"\Afc upload: the server's disk has failed, and chunk [0-9]+ was not stored[^\n]*\n\Z")
        self.assertEqual([file["name"] for file in self.fc.run("ls", "--json").objects], ["good"])
        self.assert_stored("good", good)

    def test_an_upload_waits_for_room_and_goes_on_by_itself(self):
        self.start()
        small = self.write("small", 3 * CHUNK)
        self.fc.run("upload", "small")
        content = self.write("file", 40 * CHUNK)
        self.write("other", 40 * CHUNK)
        with running(self.fc.start("upload", "file", "--limit-rate", "4M")) as process:
            before = len(self.proxy.acknowledged)
            wait_until(lambda: len(self.proxy.acknowledged) - before >= 10, "chunks")
            self.stop(errno.ENOSPC)
            refused = len(self.proxy.sent)
            wait_until(lambda: len(self.proxy.sent) - refused >= 8, "tries", 30)
            acknowledged = list(self.proxy.acknowledged)
            self.assertLess(len(acknowledged), 43)
            # What is there can be read, and what is planned now is refused before any of it is sent.
            self.assert_stored("small", small)
            sent = len(self.proxy.sent)
            self.assert_fails(self.fc.try_run("upload", "other"), LIMITED, f"no room for \"other\" \\({40 * CHUNK} bytes\\)")
            self.assertLess(len(self.proxy.sent) - sent, 40)
            self.assertIsNone(process.poll())
            self.go_on()
            stdout, stderr = process.communicate(timeout=limit(60))
        self.assertEqual((process.returncode, stdout.decode()), (DONE, f"{hashlib.md5(content).hexdigest()}  file\n"), stderr)
        self.assert_stored("file", content)
        self.assertFalse(set(acknowledged) & set(self.proxy.sent[sent:]), "a chunk was sent again")

    def test_room_that_does_not_come_ends_the_upload(self):
        self.start()
        self.write("file", 40 * CHUNK)
        with running(self.fc.start("upload", "file", "--limit-rate", "4M", "--timeout", "1")) as process:
            wait_until(lambda: len(self.proxy.acknowledged) >= 10, "chunks")
            self.stop(errno.ENOSPC)
            _, stderr = process.communicate(timeout=limit(60))
        self.assertEqual(process.returncode, LIMITED, stderr)
        self.assertRegex(stderr.decode(), r"\Afc[^\n]*: [^\n]*disk is full[^\n]*\n\Z")
        self.go_on()
        self.fc.run("upload", "file")

    def test_a_disk_that_cannot_be_written(self):
        self.start()
        content = self.write("file", 20 * CHUNK)
        self.fc.run("upload", "file")
        self.write("other", 20 * CHUNK)
        self.write("little", 100)
        self.stop(errno.EROFS)
        for name in ("other", "little"):
            self.assert_fails(self.fc.try_run("upload", name, "--timeout", "1"), FAILED, "server's disk cannot be written")
        self.assert_stored("file", content)
        self.assertIn("read-only", self.fcd.stderr())
        self.go_on()
        self.fc.run("upload", "other")
        self.fc.run("upload", "little")
        self.assertEqual([file["name"] for file in self.fc.run("ls", "--json").objects], ["file", "little", "other"])

    def test_a_disk_that_is_mounted_read_only(self):
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", disk], check=False)
        if mounted.returncode != 0:
            self.skipTest("a tmpfs cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=True)
        with Fcd(data=os.path.join(disk, "data")) as fcd:
            self.fcd = fcd
            self.fc = self.person("rob")
            content = self.write("file", 4 * CHUNK)
            self.fc.run("upload", "file")
            fcd.stop()
            # The system refuses as long as somebody writes, and so would it a disk that is in use.
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            result = subprocess.run([os.environ["FCD"], "--data", fcd.data, "--listen", "tcp://127.0.0.1:0"],
                                    capture_output=True, text=True, env=clean_environment(), timeout=limit(30), check=False)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertRegex(result.stderr, "(?i)read-only|cannot be (written|opened|locked)")
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            fcd.start()
            self.assert_stored("file", content)

    def test_quotas(self):
        self.start("--user-quota", "2M", "--room-quota", "1M")
        name = self.fc.run("whoami", "--json").object["user"]
        first = self.write("first", MIB)
        self.fc.run("upload", "first")
        self.write("second", 2 * MIB)
        self.assert_fails(self.fc.try_run("upload", "second"), LIMITED, "quota|2097152")
        self.fc.run("room", "create", "den", "--plain")
        self.write("for-den", MIB - 1)
        self.fc.run("upload", "for-den", "--room", "den")
        other = self.person("bob" + name)
        self.fc.run("room", "amend", "den", "--add", "bob" + name)
        other.write("more", os.urandom(300 * 1024))
        self.assert_fails(other.try_run("upload", "more", "--room", "den"), LIMITED, "quota|1048576")
        # Others are not concerned, and neither is what is there.
        other.run("upload", "more")
        self.assert_stored("first", first)
        self.fc.run("rm", "first")
        self.fc.run("upload", "first")
        self.assertEqual(self.unfinished(), [])

    def test_a_damaged_byte_is_named_and_harms_no_other_file(self):
        self.start()
        contents = {name: self.write(name, 12 * CHUNK) for name in ("precious", "sound")}
        for name in contents:
            self.fc.run("upload", name)
        objects = os.path.join(self.fcd.data, "objects")
        for folder, _, names in os.walk(objects):
            for one in names:
                with open(os.path.join(folder, one), "r+b") as file:
                    if file.read() == contents["precious"]:
                        file.seek(7 * CHUNK + 5)
                        file.write(bytes([contents["precious"][7 * CHUNK + 5] ^ 1]))
        result = self.fc.try_run("download", "precious", "-o", "copy")
        self.assertEqual((result.code, result.stdout), (INTEGRITY, b""), repr(result))
        self.assertRegex(result.stderr, 'segment 7 of "precious"')
        self.assertEqual(sorted(os.listdir(self.fc.cwd)), ["precious", "sound"])
        self.assert_stored("sound", contents["sound"])
        self.fcd.stop()
        result = subprocess.run([os.environ["FCD"], "check", "--data", self.fcd.data], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, env=clean_environment(), timeout=limit(60), check=False)
        check_report("fcd", result.stderr)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r'damaged: "precious" of ann\d+, version \d+, 1 damaged segments, counted from 0: 7 ')
        self.assertNotIn("sound", result.stdout)
        self.fcd.start()


class OfTheReader(Disk):
    """Downloads onto a disk that misbehaves."""

    def setUp(self):
        super().setUp()
        self.start()
        self.root = os.path.join(self.folder, "here")
        os.mkdir(self.root)

    def command(self, *options):
        return ("download", "file", "-o", os.path.join(self.root, "copy"), *options)

    def env(self, **settings):
        return disk_environment(os.environ["FC"], self.root, **settings)

    def assert_here(self, content):
        with open(os.path.join(self.root, "copy"), "rb") as file:
            self.assertEqual(hashlib.md5(file.read()).digest(), hashlib.md5(content).digest())
        self.assertEqual(os.listdir(self.root), ["copy"])

    def test_what_a_failed_sync_may_have_lost_is_fetched_again(self):
        # The first sync comes after 64 MiB, the second at the end.
        for size, skipped, most in ((80 * MIB, 2, 80 * 4 + 70), (4 * CHUNK, 0, 8)):
            with self.subTest(size=size):
                content = self.write("file", size)
                self.fc.run("upload", "file", seconds=60)
                before = len(self.proxy.asked)
                self.fc.run(*self.command("--force"), env=self.env(fail=f"sync:.part:{errno.EIO}:{skipped}:1"), seconds=60)
                asked = len(self.proxy.asked) - before
                self.assertGreater(asked, size // CHUNK)
                self.assertLessEqual(asked, most)
                self.assert_here(content)
                os.unlink(os.path.join(self.root, "copy"))

    def test_a_disk_that_always_fails_is_told(self):
        self.write("file", 4 * CHUNK)
        self.fc.run("upload", "file")
        result = self.fc.try_run(*self.command(), env=self.env(fail=f"sync:.part:{errno.EIO}:0:100"))
        self.assert_fails(result, FAILED, "copy.part\" to the disk")
        self.assertEqual(os.listdir(self.root), [])

    def test_a_download_waits_for_room_and_goes_on_by_itself(self):
        content = self.write("file", 8 * CHUNK)
        self.fc.run("upload", "file")
        stop = os.path.join(self.folder, "here-stop")
        with open(stop, "w", encoding="ascii") as file:
            file.write(str(errno.ENOSPC))
        result = self.fc.try_run(*self.command("--timeout", "1"), env=self.env(stop=stop))
        self.assert_fails(result, LIMITED, f"\"[^\"]*copy\" needs {8 * CHUNK} bytes|disk is full|space")
        stderr_path = os.path.join(self.folder, "stderr")
        with open(stderr_path, "wb") as stderr, \
                running(self.fc.start(*self.command(), env=self.env(stop=stop), stderr=stderr)) as process:
            def said():
                with open(stderr_path, encoding="utf-8") as file:
                    return file.read()
            wait_until(lambda: "waiting" in said(), "a word of it", 30)
            self.assertEqual(len(self.proxy.asked), 0)
            self.assertIsNone(process.poll())
            os.unlink(stop)
            self.assertEqual(process.wait(limit(30)), DONE, said())
        self.assertEqual(said().count("\n"), 1)
        self.assert_here(content)


if __name__ == "__main__":
    unittest.main()
