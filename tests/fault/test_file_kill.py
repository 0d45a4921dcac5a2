"""fcd and fc are killed at random bytes of uploads, downloads and deletions: what was acknowledged reads back equal, what
was interrupted goes on with what is missing, and nothing is left over."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
import unittest

from cutting_relay import CuttingRelay
from fcd_process import DONE, NOT_FOUND, FcTestCase, check_report, clean_environment, limit, running, wait_until

# Rounds of killing; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "10"))
SEED = int(os.environ.get("FC_FAULT_SEED", "20260102"))
MIB = 1024 * 1024
CHUNK = 256 * 1024  # of files of this size
FILE_STORE = "fc.filestore.v1.FileStore/"
UPLOAD = FILE_STORE + "Upload"
DOWNLOAD = FILE_STORE + "Download"
JOURNAL_DURABLE = b"\xff" * 8


def chunks_of(size):
    return -(-size // CHUNK)


class FileKill(FcTestCase):
    fcd_options = ("--delete-grace", "0")

    def setUp(self):
        self.random = random.Random(SEED)
        self.relay = CuttingRelay(self.fcd.url)
        self.addCleanup(self.relay.close)
        self.fc = self.person()
        self.fc.env["FC_SERVER"] = self.relay.url
        self.fc.sign_up("ann")
        self.md5s = {}  # of what was acknowledged, by name
        self.kills = 0

    # --- Killing ------------------------------------------------------------------------------------------------------

    def kill_at(self, offset, is_to_client, victim, *arguments):
        """Runs fc and kills it or fcd when so many bytes have passed. Returns how it ended, once fcd is
        there again, and what was seen between, if anything was killed."""
        killed = threading.Event()
        seen = {}

        def strike():
            if victim == "fcd":
                self.fcd.kill()
            else:
                process.kill()
                process.wait()
            killed.set()

        is_armed = threading.Event()
        self.relay.at(offset, lambda: is_armed.wait() and strike(), is_to_client)
        with running(self.fc.start(*arguments)) as process:
            is_armed.set()
            wait_until(lambda: killed.is_set() or process.poll() is not None, "a kill or the end", 120)
            is_over = self.relay.disarm()
            if not is_over:
                wait_until(killed.is_set, "the kill to be over", 60)
            if killed.is_set():
                self.kills += 1
                if victim == "fcd":
                    self.relay.drain()
                    seen = self.look()
                    self.fcd.start()
            stdout, stderr = process.communicate(timeout=limit(120))
            check_report(f"fc {arguments}", stderr.decode(errors="replace"))
            if victim != "fcd" and killed.is_set():
                self.relay.drain()
                seen = self.look()
        return process.returncode, stdout.decode(), stderr.decode(errors="replace"), seen

    def look(self):
        """What counts when something was just killed."""
        return {"asked": {method: self.relay.calls(method) for method in (UPLOAD, DOWNLOAD)},
                "answered": self.relay.answered(UPLOAD), "noted": self.noted()}

    def noted(self):
        """The segments in the journal of the download."""
        try:
            journal = self.fc.read("copy.part.journal")
        except FileNotFoundError:
            return 0
        records = journal[journal.find(b"\n") + 1:]
        indexes = {records[at:at + 8] for at in range(0, len(records) - 15, 16)}
        return len(indexes - {JOURNAL_DURABLE})

    def finish(self, result, *arguments):
        """The same command again, if it was killed."""
        code, stdout, stderr, seen = result
        if code == -9:
            again = self.fc.try_run(*arguments, seconds=120)
            code, stdout, stderr = again.code, again.text, again.stderr
        return code, stdout, stderr, seen

    # --- What is done meanwhile -----------------------------------------------------------------------------------------

    def new_content(self):
        if self.md5s and self.random.random() < 0.15:  # what is there already
            name = self.random.choice(sorted(self.md5s))
            self.fc.run("download", name, "-o", "copy")
            content = self.fc.read("copy")
            os.unlink(self.fc.path("copy"))
            return content
        return self.random.randbytes(self.random.choice((
            self.random.randint(0, CHUNK), self.random.randint(CHUNK + 1, 16 * MIB))))

    def upload(self, number, victim):
        name, content = f"file-{number}", self.new_content()
        md5 = hashlib.md5(content).hexdigest()
        self.fc.write(name, content)
        before = self.relay.answered(UPLOAD)
        # The end is worth hitting more often than its few bytes are.
        size = len(content) + 2000 if self.random.random() < 0.8 else 2000
        offset = self.random.randint(0, size) + (len(content) if size == 2000 else 0)
        arguments = ("upload", name)
        code, stdout, stderr, seen = self.finish(self.kill_at(offset, False, victim, *arguments), *arguments)
        self.assertEqual((code, stdout), (DONE, f"{md5}  {name}\n"), stderr)
        self.md5s[name] = md5
        count = chunks_of(len(content))
        if seen:
            sent = self.relay.calls(UPLOAD) - seen["asked"][UPLOAD]
            acknowledged = seen["answered"] - before
            # One chunk is no upload to go on with when its sender is killed.
            self.assertLessEqual(sent, count - acknowledged if count > 1 else 1, f"{name}: {seen}")
        if count > 1:
            self.assertEqual(len(self.fc.run("ls", name, "--versions").text.splitlines()), 1, name)
        os.unlink(self.fc.path(name))

    def upload_folder(self, number, victim):
        folder = self.fc.path(f"tree-{number}")
        os.mkdir(folder)
        contents = {f"tree-{number}/{i:02}": b"%d %d" % (number, i) * self.random.randint(1, 4000) for i in range(40)}
        for name, content in contents.items():
            self.fc.write(name, content)
        offset = self.random.randint(0, sum(map(len, contents.values())) + 2000)
        arguments = ("upload", "-r", f"tree-{number}")
        code, _, stderr, _ = self.finish(self.kill_at(offset, False, victim, *arguments), *arguments)
        self.assertEqual(code, DONE, stderr)
        self.assertEqual(self.fc.run(*arguments).text, "")
        self.md5s.update({name: hashlib.md5(content).hexdigest() for name, content in contents.items()})
        shutil.rmtree(folder)

    def download(self, victim):
        name = self.random.choice(sorted(self.md5s))
        size = self.fc.run("stat", name, "--json").object["size"]
        offset = self.random.randint(0, size + 2000)
        arguments = ("download", name, "-o", "copy")
        code, stdout, stderr, seen = self.finish(self.kill_at(offset, True, victim, *arguments), *arguments)
        if code == DONE:
            self.assertEqual(stdout, f"{self.md5s[name]}  copy\n")
        self.assertEqual(code, DONE, stderr)
        self.assertEqual(hashlib.md5(self.fc.read("copy")).hexdigest(), self.md5s[name])
        if seen:
            fetched = self.relay.calls(DOWNLOAD) - seen["asked"][DOWNLOAD]
            self.assertLessEqual(fetched, chunks_of(size) - seen["noted"], f"{name}: {seen}")
        self.assertEqual(os.listdir(self.fc.cwd), ["copy"])
        os.unlink(self.fc.path("copy"))

    def remove(self, victim):
        name = self.random.choice(sorted(self.md5s))
        offset = self.random.randint(0, 1500)
        code, _, stderr, seen = self.kill_at(offset, self.random.random() < 0.5, victim, "rm", name)
        self.assertIn(code, (DONE, -9, NOT_FOUND) if seen else (DONE,), stderr)
        self.md5s.pop(name)
        self.assertIn(self.fc.try_run("rm", name).code, (DONE, NOT_FOUND))
        self.assertNotIn(name, [file["name"] for file in self.fc.run("ls", name, "--json").objects])

    # --- Afterwards -----------------------------------------------------------------------------------------------------

    def stored_files(self, folder):
        return [name for _, _, names in os.walk(os.path.join(self.fcd.data, folder)) for name in names]

    def assert_all_is_well(self):
        """The server's own check finds no damage and no orphan, and on the disk is what is left, once each."""
        for upload in self.fc.run("call", FILE_STORE + "ListUploads", "{}").object.get("uploads", []):
            # Of more than one chunk all went on.
            self.assertLessEqual(int(upload.get("sizeBytes", 0)), CHUNK)
            self.fc.run("call", FILE_STORE + "Cancel", json.dumps({"uploadId": upload["uploadId"]}))
        self.fcd.restart()  # which sweeps
        wait_until(lambda: len(self.stored_files("objects")) <= len(set(self.md5s.values())), "what is deleted to be gone")
        self.fcd.stop()
        result = subprocess.run([os.environ["FCD"], "check", "--data", self.fcd.data], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, env=clean_environment(), timeout=limit(120), check=False)
        check_report("fcd", result.stderr)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, "all is well\n$")
        self.assertNotIn("orphan:", result.stdout)
        self.assertEqual(self.stored_files("uploads"), [])
        self.fcd.start()

    def test_kills_lose_nothing_and_leave_nothing(self):
        number = 0
        while self.kills < KILLS:
            number += 1
            victim = self.random.choice(("fc", "fcd"))
            kind = self.random.random()
            if kind < 0.45 or len(self.md5s) < 3:
                self.upload(number, victim)
            elif kind < 0.8:
                self.download(victim)
            elif kind < 0.9:
                self.upload_folder(number, victim)
            else:
                self.remove(victim)
            if number % 25 == 0:
                self.assert_all_is_well()
        self.assertEqual(sorted(file["name"] for file in self.fc.run("ls", "--json").objects), sorted(self.md5s))
        for name, md5 in self.md5s.items():
            self.assertEqual(hashlib.md5(self.fc.run("cat", name, seconds=60).stdout).hexdigest(), md5, name)
        self.assert_all_is_well()
        for name in sorted(self.md5s):
            self.fc.run("rm", name)
        self.md5s.clear()
        self.assert_all_is_well()


if __name__ == "__main__":
    unittest.main()
