"""What can happen to a transfer with one server, by scenario: the real programs (docs/testing.md has the table)."""
import hashlib
import json
import os
import signal
import time
import unittest

from counting_proxy import CountingProxy
from fcd_process import (CONFLICT, DONE, LIMITED, NOT_LOGGED_IN, Fc, Fcd, FcTestCase, limit, running,
                         wait_until)
from recording_proxy import RecordingProxy

KIB, MIB = 1024, 1024 * 1024
CHUNK = 256 * KIB
SERVICE = "fc.filestore.v1.FileStore/"
UPLOAD, PUT = SERVICE + "Upload", SERVICE + "Put"
SEGMENTS = (SERVICE + "Download", "fc.segment.v1.SegmentServer/GetSegment")
PASSWORD = b"a long password"


def md5(content):
    return hashlib.md5(content).hexdigest()


class Transfer(FcTestCase):
    """One server and one proxy for each test."""

    proxy_class = CountingProxy
    fcd_options = ()

    @classmethod
    def setUpClass(cls):
        pass

    def setUp(self):
        self.fcd = self.enterContext(Fcd(*self.fcd_options))
        self.proxy = self.enterContext(self.proxy_class(self.fcd.url))
        self.fc = self.machine()
        self.fc.sign_up("ann")

    def machine(self, user=None):
        """One more machine, logged in as somebody who is there."""
        fc = Fc(self.proxy.url)
        self.addCleanup(fc.close)
        if user:
            fc.run("login", user, "--password-stdin", stdin=PASSWORD)
        return fc

    def write(self, name, size, fc=None):
        content = os.urandom(size)
        (fc or self.fc).write(name, content)
        return content

    def names(self, fc=None):
        return [file["name"] for file in (fc or self.fc).run("ls", "--json").objects]

    def objects(self):
        return [name for _, _, names in os.walk(os.path.join(self.fcd.data, "objects")) for name in names]

    def assert_stored(self, name, content, fc=None):
        self.assertEqual((fc or self.fc).run("cat", name).stdout, content)

    def assert_nothing_left(self):
        self.assertEqual(os.listdir(os.path.join(self.fcd.data, "uploads")), [])
        self.assertEqual([name for name in os.listdir(self.fc.cwd) if ".part" in name], [])
        self.assertEqual(os.listdir(os.path.join(self.fc.data, "uploads")), [])


class OnTheWay(Transfer):
    proxy_class = RecordingProxy

    def count(self, method):
        return len(self.proxy.request_ids(method))

    def test_a_flipped_bit_costs_one_chunk(self):
        content = self.write("file", 12 * CHUNK)
        flipped = []

        def flip(method, message):
            if method == UPLOAD and not flipped:
                flipped.append(method)
                return message[:-1000] + bytes([message[-1000] ^ 4]) + message[-999:]
            return message

        self.proxy.alter = flip
        self.assertEqual(self.fc.run("upload", "file").text, f"{md5(content)}  file\n")
        self.assertEqual(self.count(UPLOAD), 13)
        self.assert_stored("file", content)
        self.assert_nothing_left()

    def test_an_answer_to_a_commit_that_is_lost(self):
        content = self.write("file", 4 * CHUNK)
        self.proxy.lose_replies(SERVICE + "Commit", 1)
        self.assertEqual(self.fc.run("upload", "file").text, f"{md5(content)}  file\n")
        self.assertEqual((self.proxy.lost, self.count(SERVICE + "Commit")), (1, 2))
        self.assertEqual(len(self.fc.run("ls", "--versions", "--json").objects), 1)

    def test_a_file_is_announced_once(self):
        """Its sender is killed after the room has the announcement and before that is noted."""
        self.fc.run("room", "create", "den")
        content = self.write("file", 4 * CHUNK)
        self.proxy.lose_replies("fc.chat.v1.Chat/Send", 1000)
        with running(self.fc.start("upload", "file", "--room", "den")) as process:
            wait_until(lambda: self.proxy.lost >= 1, "the announcement", 60)
            process.kill()
            process.wait()
        self.proxy.lose_replies("fc.chat.v1.Chat/Send", 0)
        commits = self.count(SERVICE + "Commit")
        self.assertEqual(self.fc.run("upload", "file", "--room", "den").text, f"{md5(content)}  file\n")
        self.assertEqual(self.count(SERVICE + "Commit"), commits)
        files = [message for message in self.fc.run("history", "den", "--json").objects if "file" in message]
        self.assertEqual(len(files), 1, files)
        self.assert_stored("den/file", content)
        # Whoever sends it once more means it.
        self.fc.run("upload", "file", "--room", "den")
        files = [message for message in self.fc.run("history", "den", "--json").objects if "file" in message]
        self.assertEqual(len(files), 2, files)

    def test_a_newer_version_is_not_mixed_in(self):
        first = self.write("file", 12 * CHUNK)
        self.fc.run("upload", "file")
        laptop = self.machine("ann")
        second = self.write("file", 12 * CHUNK, laptop)

        def replace(method):
            if method in SEGMENTS and sum(map(self.count, SEGMENTS)) >= 3:
                self.proxy.on_request = None
                laptop.run("upload", "file", "--server", self.proxy.url)

        self.proxy.on_request = replace
        self.fc.run("download", "file", "-o", "copy", "--limit-rate", "4M")
        self.assertIsNone(self.proxy.on_request)
        self.assertEqual(self.fc.read("copy"), first)
        self.assert_stored("file", second)

    def test_what_is_appended_or_cut_off_meanwhile_is_noticed(self):
        for number, change in enumerate((lambda file: file.seek(0, 2) and file.write(b"more"),
                                         lambda file: file.truncate(5 * CHUNK))):
            with self.subTest(number=number):
                name = f"file-{number}"
                self.write(name, 20 * CHUNK)
                begin = self.count(UPLOAD)

                def interfere(method):
                    if method == UPLOAD and self.count(UPLOAD) == begin + 2:
                        self.proxy.on_request = None
                        with open(self.fc.path(name), "r+b") as file:
                            change(file)

                self.proxy.on_request = interfere
                self.assert_fails(self.fc.try_run("upload", name, "--limit-rate", "4M"), CONFLICT, "changed")
                self.assertEqual(self.names(), [])
                self.assert_nothing_left()

    def test_a_folder_that_becomes_a_link_leads_nowhere(self):
        """A parent of the files of a folder is swapped for a symbolic link while they come."""
        os.makedirs(self.fc.path("tree/sub"))
        for number in range(3):
            self.write(f"tree/sub/{number}", 2 * CHUNK)
        self.fc.run("upload", "-r", "tree")
        outside = os.path.join(self.fc.folder, "outside")
        os.mkdir(outside)

        def swap(method):
            if method in SEGMENTS:
                self.proxy.on_request = None
                os.rename(self.fc.path("copy/sub"), self.fc.path("moved"))
                os.symlink(outside, self.fc.path("copy/sub"))

        self.proxy.on_request = swap
        result = self.fc.try_run("download", "-r", "tree", "-o", "copy")
        self.assert_fails_after(result, CONFLICT, "no folder")
        self.assertEqual(os.listdir(outside), [])
        self.assertEqual(os.listdir(self.fc.path("moved")), ["0"])

    def assert_fails_after(self, result, code, pattern):
        self.assertEqual(result.code, code, repr(result))
        self.assertRegex(result.stderr, pattern)

    def test_links_that_were_there_before_are_not_followed(self):
        content = self.write("file", 3 * CHUNK)
        self.fc.run("upload", "file")
        outside = os.path.join(self.fc.folder, "outside")
        os.mkdir(outside)
        victim = os.path.join(outside, "victim")
        with open(victim, "wb") as file:
            file.write(b"untouched")
        for name in ("copy.part", "copy.part.journal"):
            os.symlink(victim, self.fc.path(name))
            self.assert_fails(self.fc.try_run("download", "file", "-o", "copy"), CONFLICT, "in the way")
            os.unlink(self.fc.path(name))
            self.assertFalse(os.path.exists(self.fc.path("copy")))
        # The name itself is replaced, and not what it leads to.
        os.symlink(victim, self.fc.path("copy"))
        self.fc.run("download", "file", "-o", "copy")
        self.assertFalse(os.path.islink(self.fc.path("copy")))
        self.assertEqual(self.fc.read("copy"), content)
        # Nor is a link in a folder on the way.
        os.mkdir(self.fc.path("tree"))
        self.write("tree/a", 10)
        os.mkdir(self.fc.path("tree/sub"))
        self.write("tree/sub/b", 10)
        self.fc.run("upload", "-r", "tree")
        os.mkdir(self.fc.path("target"))
        os.symlink(outside, self.fc.path("target/sub"))
        self.assert_fails_after(self.fc.try_run("download", "-r", "tree", "-o", "target"), CONFLICT, "no folder")
        self.assertEqual(os.listdir(outside), ["victim"])
        with open(victim, "rb") as file:
            self.assertEqual(file.read(), b"untouched")


class Server(Transfer):
    def away(self, arguments, is_under_way):
        """Runs fc and takes the server away while it is at work; until fc has said that it waits."""
        stderr_path = os.path.join(self.fc.folder, "stderr")
        with open(stderr_path, "wb") as stderr, running(self.fc.start(*arguments, stderr=stderr)) as process:
            wait_until(lambda: is_under_way() or process.poll() is not None, "half of the work", 60)
            self.fcd.kill()
            begin, tries = time.monotonic(), self.proxy.tries

            def said():
                with open(stderr_path, encoding="utf-8") as file:
                    return file.read()

            try:
                wait_until(lambda: "waiting" in said(), "a word of it", 60)
                self.assertIsNone(process.poll())
                # It does not knock all the time: a connection or two of the session and of the transfer each.
                self.assertLess(self.proxy.tries - tries, 20 + 6 * (time.monotonic() - begin))
            finally:
                self.fcd.start()
            self.assertEqual(process.wait(limit(60)), DONE, said())
            return process.stdout.read().decode()

    def test_transfers_wait_for_a_server_that_is_gone(self):
        content = self.write("file", 40 * CHUNK)
        text = self.away(("upload", "file", "--limit-rate", "4M"), lambda: len(self.proxy.acknowledged) >= 12)
        self.assertEqual(text, f"{md5(content)}  file\n")
        text = self.away(("download", "file", "-o", "copy", "--limit-rate", "4M"), lambda: len(self.proxy.asked) >= 12)
        self.assertEqual(text, f"{md5(content)}  copy\n")
        self.assertEqual(self.fc.read("copy"), content)
        self.assert_nothing_left()

    def test_sizes_around_chunks(self):
        sizes = [0, 1, 63, 64, 65, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1]
        contents = {f"file-{size}": self.write(f"file-{size}", size) for size in sizes}
        text = self.fc.run("upload", *contents, seconds=60).text
        self.assertEqual(text, "".join(f"{md5(content)}  {name}\n" for name, content in contents.items()))
        for name, content in contents.items():
            self.fc.run("download", name, "-o", "copy")
            self.assertEqual(self.fc.read("copy"), content, name)
        self.assertIn("d41d8cd98f00b204e9800998ecf8427e  file-0\n", text)
        self.assert_nothing_left()

    def test_tiny_files_share_calls(self):
        os.mkdir(self.fc.path("tree"))
        for number in range(1500):
            self.fc.write(f"tree/{number}", os.urandom(number % 4096))
        before = sum(self.proxy.calls.values())
        self.assertEqual(len(self.fc.run("upload", "-r", "tree", seconds=60).text.splitlines()), 1500)
        # A thousand files or a MiB go with each; besides there are a login's calls and a page of what is there.
        self.assertLessEqual(self.proxy.calls[PUT], 6)
        self.assertLessEqual(sum(self.proxy.calls.values()) - before, 12)
        before = self.proxy.calls[PUT]
        self.assertEqual(self.fc.run("upload", "-r", "tree", seconds=60).text, "")
        self.assertEqual(self.proxy.calls[PUT], before)

    def test_content_is_stored_once(self):
        content = self.write("file", 12 * CHUNK)
        laptop = self.machine("ann")
        laptop.write("file", content)
        processes = [fc.start("upload", "file", "--name", name) for fc, name in ((self.fc, "one"), (laptop, "two"))]
        for process in processes:
            with running(process):
                _, stderr = process.communicate(timeout=limit(60))
                self.assertEqual(process.returncode, DONE, stderr)
        sent = len(self.proxy.sent)
        self.fc.run("upload", "file", "--name", "three")
        self.fc.run("upload", "file", "--name", "one")
        self.assertEqual(len(self.proxy.sent), sent)
        self.assertEqual(self.names(), ["one", "three", "two"])
        self.fcd.restart()  # sweeps what the slower of the two has sent
        self.assertEqual(len(self.objects()), 1)
        # Each name counts as a whole, so that nobody pays when others delete theirs.
        usage = self.fc.run("call", SERVICE + "GetUsage", "{}").object
        self.assertEqual(int(usage["usedBytes"]), 4 * len(content))
        self.fc.run("rm", "one")
        self.assert_stored("two", content)
        # Another user learns nothing of it: the server takes the bytes as if it had none.
        bob = self.machine()
        bob.sign_up("bob")
        bob.write("file", content)
        sent = len(self.proxy.sent)
        bob.run("upload", "file")
        self.assertEqual(len(self.proxy.sent) - sent, 12)
        self.assertEqual(self.names(bob), ["file"])

    def upload_half(self, *options):
        """Begins an upload of "file" and stops it in its middle with SIGSTOP. (process, content)"""
        content = self.write("file", 40 * CHUNK)
        process = self.fc.start("upload", "file", "--limit-rate", "4M", *options)
        wait_until(lambda: len(self.proxy.acknowledged) >= 12, "some chunks", 60)
        process.send_signal(signal.SIGSTOP)
        return process, content

    def test_a_token_that_ends_meanwhile(self):
        process, content = self.upload_half()
        with running(process):
            other = self.machine("ann")
            for session in other.run("call", "fc.auth.v1.Auth/ListSessions", "{}").object["sessions"]:
                if not session.get("isCurrent"):
                    other.run("call", "fc.auth.v1.Auth/RevokeSession", json.dumps({"sessionId": session["sessionId"]}))
            acknowledged, sent = set(self.proxy.acknowledged), len(self.proxy.sent)
            process.send_signal(signal.SIGCONT)
            _, stderr = process.communicate(timeout=limit(60))
            self.assertEqual(process.returncode, NOT_LOGGED_IN, stderr)
        self.fc.run("login", "ann", "--password-stdin", stdin=PASSWORD)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.fc.run("upload", "file").text, f"{md5(content)}  file\n")
        self.assertFalse(acknowledged & set(self.proxy.sent[sent:]), "a chunk was sent again")
        self.assert_stored("file", content)
        self.assert_nothing_left()

    def test_a_quota_that_falls_meanwhile(self):
        process, content = self.upload_half()
        with running(process):
            self.fcd.stop()
            self.fcd.options += ["--user-quota", "1M"]
            self.fcd.start()
            process.send_signal(signal.SIGCONT)
            _, stderr = process.communicate(timeout=limit(60))
            self.assertEqual(process.returncode, LIMITED, stderr)
            self.assertRegex(stderr.decode(), r"\Afc upload: [^\n]*(quota|1048576)[^\n]*\n\Z")
        self.assertEqual(self.names(), [])
        wait_until(lambda: os.listdir(os.path.join(self.fcd.data, "uploads")) == [], "the chunks to go")
        self.fcd.stop()
        self.fcd.options = self.fcd.options[:-2]
        self.fcd.start()
        self.fc.run("upload", "file")
        self.assert_stored("file", content)

    def test_two_machines_with_one_upload(self):
        """A machine that has stalled comes back when another has ended its upload."""
        process, content = self.upload_half()
        with running(process):
            (listed,) = self.fc.run("upload", "--resume", "--dry-run").text.splitlines()
            laptop = self.machine("ann")
            laptop.write("file", content)
            self.assertEqual(laptop.run("upload", "--resume", listed.split()[0], "file").text, f"{md5(content)}  file\n")
            process.send_signal(signal.SIGCONT)
            stdout, stderr = process.communicate(timeout=limit(60))
            self.assertEqual((process.returncode, stdout.decode()), (DONE, f"{md5(content)}  file\n"), stderr)
        self.assert_stored("file", content)
        self.assertEqual(len(self.fc.run("ls", "--versions", "--json").objects), 1)
        self.assert_nothing_left()

    def test_two_machines_with_one_upload_and_two_contents(self):
        """The same, and the other machine had something else: whatever comes out is one of the two."""
        process, content = self.upload_half()
        with running(process):
            (listed,) = self.fc.run("upload", "--resume", "--dry-run").text.splitlines()
            laptop = self.machine("ann")
            other = self.write("file", len(content), laptop)
            self.assertNotEqual(laptop.try_run("upload", "--resume", listed.split()[0], "file").code, DONE)
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=limit(60))
        if self.names():
            self.assertIn(self.fc.run("cat", "file").stdout, (content, other))
        self.fc.run("upload", "file")
        self.assert_stored("file", content)

    def test_streams_both_ways(self):
        content = os.urandom(5 * MIB + 3)
        self.assertEqual(self.fc.run("upload", "-", "--name", "stream", stdin=content).text, f"{md5(content)}  stream\n")
        self.assert_stored("stream", content)
        with running(self.fc.start("cat", "stream")) as process:
            process.stdout.read(100000)
            process.stdout.close()
            process.stdout = None
            _, stderr = process.communicate(timeout=limit(30))
            self.assertEqual((process.returncode, stderr), (DONE, b""))
        # A writer that breaks off leaves no file.
        with running(self.fc.start("upload", "-", "--name", "broken", stdin=-1)) as process:
            process.stdin.write(content)
            process.stdin.flush()
            wait_until(lambda: len(self.proxy.sent) >= 8, "chunks")
            process.kill()
            process.wait()
        self.assertEqual(self.names(), ["stream"])


if __name__ == "__main__":
    unittest.main()
