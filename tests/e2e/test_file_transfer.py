"""Transfers that end without warning and go on, folders, streams, rates: the real programs."""
import hashlib
import os
import time
import unittest

from fcd_process import CONFLICT, DONE, NOT_FOUND, USAGE, FcTestCase, limit, running, wait_until
from recording_proxy import RecordingProxy

MIB = 1 << 20
CHUNK = 256 << 10
SAVE = "fc.filestore.v1.FileStore/Save"
UPLOAD = "fc.filestore.v1.FileStore/Upload"
DOWNLOAD = "fc.segment.v1.SegmentServer/GetSegment"
SEND = "fc.chat.v1.Chat/Send"
PUT = "fc.filestore.v1.FileStore/Put"


def md5(content):
    return hashlib.md5(content).hexdigest()


class Transfers(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.name = f"alice{self.number}"
        self.alice = self.person(self.name)
        self.proxy = RecordingProxy(self.fcd.url)
        self.addCleanup(self.proxy.close)
        self.token = None

    def through(self, *arguments, fc=None):
        """Arguments that go through the proxy."""
        return (*arguments, "--server", self.proxy.url)

    def login_through_proxy(self, fc=None):
        (fc or self.alice).run("login", self.name, "--password-stdin", "--server", self.proxy.url, stdin=b"a long password")

    def count(self, method):
        return len(self.proxy.request_ids(method))

    def kill_in_the_middle(self, method, after, *arguments):
        """Runs fc through the proxy and kills it when so many calls of the method have been made; how many there were."""
        with running(self.alice.start(*self.through(*arguments))) as process:
            wait_until(lambda: self.count(method) >= after, f"{after} calls of {method}", 60)
            process.kill()
            process.wait()
        return self.count(method)

    def test_an_upload_goes_on_after_kill_9(self):
        self.login_through_proxy()
        content = os.urandom(40 * CHUNK + 7)
        self.alice.write("file", content)
        self.kill_in_the_middle(UPLOAD, 12, "upload", "file", "--limit-rate", "2M")
        self.assertEqual(self.alice.run("ls").text, "")
        listed = self.alice.run(*self.through("upload", "--resume", "--dry-run")).text
        self.assertRegex(listed, rf"\A[0-9a-f]{{32}}  +{len(content)}  file  /.*/file\n\Z")
        before = self.count(UPLOAD)
        self.assertEqual(self.alice.run(*self.through("upload", "file")).text, f"{md5(content)}  file\n")
        # What had been acknowledged is not sent again; what was under way may be.
        self.assertLess(self.count(UPLOAD) - before, 41)
        self.assertEqual(len(set(self.proxy.request_ids(SAVE))), 1)
        self.assertEqual(self.alice.run("cat", "file").stdout, content)
        self.assertEqual(self.alice.run(*self.through("upload", "--resume", "--dry-run")).text, "")
        self.assertEqual(os.listdir(os.path.join(self.alice.data, "uploads")), [])

    def test_a_changed_file_does_not_go_on(self):
        self.login_through_proxy()
        self.alice.write("file", os.urandom(20 * CHUNK))
        self.kill_in_the_middle(UPLOAD, 4, "upload", "file", "--limit-rate", "1M")
        content = os.urandom(20 * CHUNK)
        self.alice.write("file", content)
        self.assertEqual(self.alice.run(*self.through("upload", "file")).text, f"{md5(content)}  file\n")
        self.assertEqual(len(set(self.proxy.request_ids(SAVE))), 2)
        self.assertEqual(self.alice.run("cat", "file").stdout, content)

    def test_all_unfinished_uploads_go_on(self):
        self.login_through_proxy()
        contents = {name: os.urandom(12 * CHUNK) for name in ("one", "two")}
        for name, content in contents.items():
            self.alice.write(name, content)
            self.kill_in_the_middle(UPLOAD, self.count(UPLOAD) + 3, "upload", name, "--limit-rate", "1M")
        self.alice.run(*self.through("upload", "--resume"))
        for name, content in contents.items():
            self.assertEqual(self.alice.run("cat", name).stdout, content)

    def test_another_machine_goes_on_with_an_upload(self):
        self.login_through_proxy()
        content = os.urandom(40 * CHUNK)
        self.alice.write("file", content)
        self.kill_in_the_middle(UPLOAD, 12, "upload", "file", "--limit-rate", "2M")
        upload_id = self.alice.run(*self.through("upload", "--resume", "--dry-run")).text.split()[0]
        laptop = self.person()
        self.login_through_proxy(laptop)
        laptop.write("copy", content)
        result = laptop.try_run(*self.through("upload", "--resume", upload_id))
        self.assert_fails(result, NOT_FOUND, upload_id)
        self.assertEqual(laptop.run(*self.through("upload", "--resume", "--dry-run")).text,
                         f"{upload_id}  {len(content):14}  file  -\n")
        listed = laptop.run(*self.through("upload", "--resume", "--dry-run", "--json")).object
        self.assertEqual(listed, {"id": upload_id, "name": "file", "size": len(content), "arrived": listed["arrived"]})
        self.assertGreater(listed["arrived"], 0)
        self.assertLess(listed["arrived"], len(content))
        self.assertEqual(self.person(self.name + "x").run("upload", "--resume", "--dry-run").text, "")
        before = self.count(UPLOAD)
        self.assertEqual(laptop.run(*self.through("upload", "--resume", upload_id, "copy")).text, f"{md5(content)}  file\n")
        self.assertEqual(laptop.run(*self.through("upload", "--resume", "--dry-run")).text, "")
        self.assert_fails(laptop.try_run(*self.through("upload", "--resume", upload_id, "copy")), NOT_FOUND, "ended")
        self.assertLess(self.count(UPLOAD) - before, 40)
        self.assertEqual(self.alice.run("cat", "file").stdout, content)

    def test_other_content_from_another_machine_is_refused(self):
        self.login_through_proxy()
        self.alice.write("file", os.urandom(20 * CHUNK))
        self.kill_in_the_middle(UPLOAD, 6, "upload", "file", "--limit-rate", "1M")
        upload_id = self.alice.run(*self.through("upload", "--resume", "--dry-run")).text.split()[0]
        laptop = self.person()
        self.login_through_proxy(laptop)
        laptop.write("file", os.urandom(20 * CHUNK))
        self.assertNotEqual(laptop.try_run(*self.through("upload", "--resume", upload_id, "file")).code, DONE)
        self.assertEqual(self.alice.run("ls").text, "")

    def test_a_download_goes_on_after_kill_9(self):
        self.login_through_proxy()
        content = os.urandom(40 * CHUNK + 7)
        self.alice.write("file", content)
        self.alice.run("upload", "file", "--server", self.fcd.url)
        self.kill_in_the_middle(DOWNLOAD, 20, "download", "file", "-o", "copy", "--limit-rate", "2M")
        self.assertEqual(sorted(os.listdir(self.alice.cwd)), ["copy.part", "copy.part.journal", "file"])
        noted = (os.path.getsize(self.alice.path("copy.part.journal")) - 100) // 16
        self.assertGreater(noted, 2)
        before = self.count(DOWNLOAD)
        self.assertEqual(self.alice.run(*self.through("download", "file", "-o", "copy")).text, f"{md5(content)}  copy\n")
        # Each segment that was noted is not fetched again.
        self.assertLessEqual(self.count(DOWNLOAD) - before, 41 - noted + 16)
        self.assertLess(self.count(DOWNLOAD) - before, 41)
        self.assertEqual(self.alice.read("copy"), content)
        self.assertEqual(sorted(os.listdir(self.alice.cwd)), ["copy", "file"])

    def test_a_journal_is_not_taken_for_another_file(self):
        self.login_through_proxy()
        first, second = os.urandom(20 * CHUNK), os.urandom(20 * CHUNK)
        self.alice.write("file", first)
        self.alice.run("upload", "file", "--server", self.fcd.url)
        self.kill_in_the_middle(DOWNLOAD, 6, "download", "file", "-o", "copy", "--limit-rate", "1M")
        self.alice.write("file", second)
        self.alice.run("upload", "file", "--server", self.fcd.url)
        self.alice.run(*self.through("download", "file", "-o", "copy"))
        self.assertEqual(self.alice.read("copy"), second)

    def test_a_damaged_journal_is_not_believed(self):
        self.login_through_proxy()
        content = os.urandom(20 * CHUNK)
        self.alice.write("file", content)
        self.alice.run("upload", "file", "--server", self.fcd.url)
        self.kill_in_the_middle(DOWNLOAD, 8, "download", "file", "-o", "copy", "--limit-rate", "1M")
        with open(self.alice.path("copy.part.journal"), "ab") as journal:
            for index in range(20):
                journal.write(index.to_bytes(8, "big") + b"\x01" * 8)
            journal.write(b"torn")
        self.alice.run(*self.through("download", "file", "-o", "copy"))
        self.assertEqual(self.alice.read("copy"), content)

    def test_a_rate_is_kept(self):
        self.alice.write("file", os.urandom(12 * CHUNK))
        for arguments in (("upload", "file"), ("download", "file", "-o", "copy")):
            begin = time.monotonic()
            self.alice.run(*arguments, "--limit-rate", "2M", seconds=60)
            # All chunks but the last one are waited for, less what may be caught up with.
            self.assertGreater(time.monotonic() - begin, 11 * CHUNK / (2 * MIB) - 0.3)
        for rate in ("0", "x", "10X", "-1", "", "1MM", "99999999999999999999", "99999999999G"):
            self.assert_fails(self.alice.try_run("upload", "file", "--limit-rate", rate), USAGE)

    def test_standard_input(self):
        for size in (0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB):
            with self.subTest(size=size):
                content = os.urandom(size)
                result = self.alice.run("upload", "-", "--name", "from/stdin", stdin=content)
                self.assertEqual(result.text, f"{md5(content)}  from/stdin\n")
                self.assertEqual(self.alice.run("cat", "from/stdin").stdout, content)
        self.assert_fails(self.alice.try_run("upload", "-"), USAGE, "--name")

    def test_the_same_content_is_not_sent_twice(self):
        self.login_through_proxy()
        content = os.urandom(8 * CHUNK)
        self.alice.write("file", content)
        self.alice.run(*self.through("upload", "file"))
        before = self.count(UPLOAD)
        self.alice.run(*self.through("upload", "file", "--name", "other"))
        self.assertEqual(self.count(UPLOAD), before)
        self.assertEqual(self.alice.run("cat", "other").stdout, content)

    def test_time_mode_and_type_come_along(self):
        self.alice.write("page.html", b"<p>")
        os.chmod(self.alice.path("page.html"), 0o640)
        os.utime(self.alice.path("page.html"), ns=(1, 1_500_000_000_123_000_000))
        sent = self.alice.run("upload", "page.html", "--json").object
        self.assertEqual((sent["mime_type"], sent["modified_at"], sent["mode"]),
                         ("text/html", "2017-07-14T02:40:00.123Z", "0640"))
        self.alice.run("download", "page.html", "-o", "copy")
        status = os.stat(self.alice.path("copy"))
        self.assertEqual((status.st_mtime_ns, status.st_mode & 0o777), (1_500_000_000_123_000_000, 0o640))
        self.alice.run("download", "page.html", "-o", "new", "--no-times")
        self.assertGreater(os.stat(self.alice.path("new")).st_mtime, 1_600_000_000)
        self.assertRegex(self.alice.run("ls", "-l").text, r"\Arw-r-----  +3  2017-07-14 .*  text/html  page.html\n\Z")

    def test_what_becomes_of_files_that_are_there(self):
        self.alice.write("file", b"new")
        os.utime(self.alice.path("file"), (2_000_000_000, 2_000_000_000))
        self.alice.run("upload", "file")
        self.alice.write("file", b"old")
        self.assert_fails(self.alice.try_run("download", "file"), CONFLICT)
        self.alice.run("download", "file", "--skip")
        self.assertEqual(self.alice.read("file"), b"old")
        os.utime(self.alice.path("file"), (2_000_000_001, 2_000_000_001))
        self.alice.run("download", "file", "--newer")
        self.assertEqual(self.alice.read("file"), b"old")
        os.utime(self.alice.path("file"), (1_999_999_999, 1_999_999_999))
        self.alice.run("download", "file", "--newer")
        self.assertEqual(self.alice.read("file"), b"new")

    def test_a_sealed_file_goes_on_in_both_directions(self):
        self.login_through_proxy()
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--server", self.proxy.url)
        content = os.urandom(40 * CHUNK)
        self.alice.write("file", content)
        self.kill_in_the_middle(UPLOAD, 12, "upload", "file", "--room", room, "--limit-rate", "2M")
        (spool,) = [name for name in os.listdir(self.alice.data) if name.startswith("sealed-")]
        before = self.count(UPLOAD)
        self.assertEqual(self.alice.run(*self.through("upload", "file", "--room", room)).text, f"{md5(content)}  file\n")
        self.assertLess(self.count(UPLOAD) - before, 41)
        self.assertEqual(len(set(self.proxy.request_ids(SAVE))), 1)
        self.assertNotIn(spool, os.listdir(self.alice.data))
        self.assertEqual(os.listdir(os.path.join(self.alice.data, "sealing")), [])
        self.kill_in_the_middle(DOWNLOAD, 20, "download", f"{room}/file", "-o", "copy", "--limit-rate", "2M")
        before = self.count(DOWNLOAD)
        self.assertEqual(self.alice.run(*self.through("download", f"{room}/file", "-o", "copy")).text, f"{md5(content)}  copy\n")
        self.assertLess(self.count(DOWNLOAD) - before, 41)
        self.assertEqual(self.alice.read("copy"), content)
        self.assertEqual(sorted(os.listdir(self.alice.cwd)), ["copy", "file"])
        self.assertEqual([name for name in os.listdir(self.alice.data) if name.startswith(("sealed-", "fetched-"))], [])

    def test_a_file_is_announced_once_although_its_sender_dies_right_after(self):
        self.login_through_proxy()
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--server", self.proxy.url)
        self.alice.write("file", b"announced")
        self.proxy.lose_replies(SEND, 1000)
        with running(self.alice.start(*self.through("upload", "file", "--room", room))) as process:
            wait_until(lambda: self.proxy.lost > 0, "an announcement", 60)
            process.kill()
            process.wait()
        self.proxy.lose_replies(SEND, 0)
        self.alice.run(*self.through("upload", "file", "--room", room))
        history = self.alice.run(*self.through("history", room, "--since", "0", "--json")).objects
        self.assertEqual([message["file"]["name"] for message in history], ["file"])
        self.assertEqual(os.listdir(os.path.join(self.alice.data, "sealing")), [])
        self.assertEqual(self.alice.run(*self.through("outbox")).text, "")

    def test_a_sealed_file_that_changed_is_sealed_anew(self):
        self.login_through_proxy()
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--server", self.proxy.url)
        self.alice.write("file", os.urandom(20 * CHUNK))
        self.kill_in_the_middle(UPLOAD, 4, "upload", "file", "--room", room, "--limit-rate", "1M")
        content = os.urandom(20 * CHUNK)
        self.alice.write("file", content)
        self.alice.run(*self.through("upload", "file", "--room", room))
        self.assertEqual(self.alice.run(*self.through("cat", f"{room}/file")).stdout, content)

    def test_a_folder_goes_on_after_kill_9(self):
        self.login_through_proxy()
        os.mkdir(self.alice.path("tree"))
        for i in range(300):
            self.alice.write(f"tree/{i:03}", os.urandom(32 << 10))
        with running(self.alice.start(*self.through("upload", "-r", "tree"))) as process:
            wait_until(lambda: self.count(PUT) >= 3, "three batches", 60)
            process.kill()
            process.wait()
        there = len(self.alice.run("find", "tree/*").text.splitlines())
        sent = len(self.alice.run(*self.through("upload", "-r", "tree")).text.splitlines())
        self.assertLessEqual(sent, 300 - there)
        self.assertEqual(len(self.alice.run("find", "tree/*").text.splitlines()), 300)

    def test_an_upload_goes_on_when_the_connection_breaks(self):
        self.login_through_proxy()
        content = os.urandom(20 * CHUNK)
        self.alice.write("file", content)
        self.proxy.lose_replies(UPLOAD, 3)
        self.assertEqual(self.alice.run(*self.through("upload", "file")).text, f"{md5(content)}  file\n")
        self.assertGreater(self.proxy.lost, 0)
        self.assertEqual(len(set(self.proxy.request_ids(SAVE))), 1)
        self.assertEqual(self.alice.run("cat", "file").stdout, content)

    def test_a_file_that_is_written_to_meanwhile_is_not_stored(self):
        self.login_through_proxy()
        self.alice.write("file", os.urandom(20 * CHUNK))
        path = self.alice.path("file")
        times = os.stat(path).st_mtime_ns

        def change(method):
            if method == UPLOAD and self.proxy.on_request:
                self.proxy.on_request = None
                with open(path, "r+b") as file:
                    file.write(b"changed")
                os.utime(path, ns=(times, times))  # the time of the last change of the inode still tells

        self.proxy.on_request = change
        result = self.alice.try_run(*self.through("upload", "file", "--limit-rate", "4M"))
        self.assert_fails(result, CONFLICT, "changed")
        self.assertEqual(self.alice.run("ls").text, "")

    def test_a_version_that_comes_during_a_sync_is_not_lost(self):
        self.login_through_proxy()
        os.mkdir(self.alice.path("d"))
        self.alice.write("d/a", b"base")
        self.alice.run(*self.through("sync", "d", "remote"))
        laptop = self.person()
        laptop.run("login", self.name, "--password-stdin", stdin=b"a long password")
        laptop.write("a", b"of the laptop")
        self.alice.write("d/a", b"of the desk")

        def interfere(method):
            if method == PUT and self.proxy.on_request:
                self.proxy.on_request = None
                laptop.run("upload", "a", "--name", "remote/a")

        self.proxy.on_request = interfere
        result = self.alice.try_run(*self.through("sync", "d", "remote"))
        self.assertEqual(result.code, CONFLICT, repr(result))
        self.assertEqual(laptop.run("cat", "remote/a").stdout, b"of the laptop")
        self.assertEqual(self.alice.read("d/a"), b"of the desk")
        self.assertIn("conflict", self.alice.run(*self.through("sync", "d", "remote")).text)
        self.assertEqual(sorted(self.alice.read(f"d/{name}") for name in os.listdir(self.alice.path("d"))),
                         [b"of the desk", b"of the laptop"])


if __name__ == "__main__":
    unittest.main()
