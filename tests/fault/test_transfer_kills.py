"""fcd or fc is killed at random bytes of uploads and downloads: all that was acknowledged reads back, what was cut
short goes on with what is missing and nothing else, and nothing is left over."""
import hashlib
import os
import random
import signal
import subprocess
import threading
import unittest

from counting_proxy import TO_CLIENT, TO_SERVER, CountingProxy
from fcd_process import DONE, Fc, FcTestCase, check_report, clean_environment, limit, running, wait_until

# Processes that are killed; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "10"))
SEED = int(os.environ.get("FC_FAULT_SEED", "20260104"))
CHUNK = 256 * 1024
JOURNAL_RECORD_BYTES = 16
KEPT_FILES = 12  # more are removed as the test goes on


def noted_segments(part_path):
    """Which segments the journal of a download says to be there."""
    try:
        with open(part_path + ".journal", "rb") as journal:
            _, _, records = journal.read().partition(b"\n")
    except FileNotFoundError:
        return set()
    whole = len(records) - len(records) % JOURNAL_RECORD_BYTES
    indices = {int.from_bytes(records[at:at + 8], "big") for at in range(0, whole, JOURNAL_RECORD_BYTES)}
    return indices - {2 ** 64 - 1}


class Kill:
    """One kill that is to happen after some bytes. `has_happened` is set when it has."""

    def __init__(self, get_pid, part_path=None):
        self._get_pid, self._part_path = get_pid, part_path
        self.noted = set()
        self.asked_before = 0
        self.has_happened = threading.Event()

    def __call__(self, proxy):
        os.kill(self._get_pid(), signal.SIGKILL)
        if self._part_path:
            self.noted = noted_segments(self._part_path)
        self.asked_before = len(proxy.asked)
        self.has_happened.set()


class TransferKills(FcTestCase):
    fcd_options = ("--delete-grace", "0")

    def setUp(self):
        self.random = random.Random(SEED)
        self.proxy = CountingProxy(self.fcd.url)
        self.addCleanup(self.proxy.close)
        self.fc = Fc(self.proxy.url)
        self.addCleanup(self.fc.close)
        self.fc.sign_up("ann")
        self.killed = {"fc": 0, "fcd": 0}
        self.resumed = 0  # transfers that had something to go on with

    def run_once(self, kill_at, *arguments, part_path=None):
        """Runs fc; at (victim, direction, bytes) something is killed. The Kill, and whether fc has done its work."""
        victim, direction, count = kill_at
        process = self.fc.start(*arguments)
        kill = Kill((lambda: process.pid) if victim == "fc" else (lambda: self.fcd.process.pid), part_path)
        with running(process):
            self.proxy.after(direction, count, lambda: kill(self.proxy))
            wait_until(lambda: kill.has_happened.is_set() or process.poll() is not None, "the moment to kill", 60)
            self.proxy.after(direction, 0, None)
            if kill.has_happened.is_set():
                self.killed[victim] += 1
                if victim == "fcd":
                    self.fcd.kill()
                    self.fcd.start()
            _, stderr = process.communicate(timeout=limit(60))
            check_report("fc", stderr.decode(errors="replace"))
            if victim == "fcd" or not kill.has_happened.is_set():
                self.assertEqual(process.returncode, DONE, stderr)
        return kill, process.returncode == DONE

    def choose_kill(self, size):
        return (self.random.choice(("fc", "fcd")), self.random.choice((TO_SERVER, TO_CLIENT)),
                self.random.choice((self.random.randint(0, 4000), self.random.randint(0, size + 4000))))

    def is_wanted_more(self):
        return sum(self.killed.values()) < KILLS

    def upload(self, name, content):
        """Until it is acknowledged. A chunk that was acknowledged is not sent again."""
        self.fc.write(name, content)
        begin = len(self.proxy.sent)
        is_done = False
        for _ in range(self.random.randint(1, 3)):
            if not is_done and self.is_wanted_more():
                acknowledged, sent = set(self.proxy.acknowledged), len(self.proxy.sent)
                kill, is_done = self.run_once(self.choose_kill(len(content)), "upload", name)
                self.resumed += sent > begin
                self.assertFalse(acknowledged & set(self.proxy.sent[sent:]), "a chunk was sent again")
        acknowledged, sent = set(self.proxy.acknowledged), len(self.proxy.sent)
        text = self.fc.run("upload", name, seconds=60).text
        self.assertEqual(text, f"{hashlib.md5(content).hexdigest()}  {name}\n")
        self.assertFalse(acknowledged & set(self.proxy.sent[sent:]), "a chunk was sent again")
        self.assertLessEqual(set(self.proxy.acknowledged[-1:]), set(self.proxy.sent))

    def download(self, name, content):
        """Until it is there. A segment that was noted is not asked for again."""
        part_path = self.fc.path("copy.part")
        noted, is_done = set(), False
        command = ("download", name, "-o", "copy")
        for _ in range(self.random.randint(1, 3)):
            if not is_done and self.is_wanted_more():
                asked = len(self.proxy.asked)
                kill, is_done = self.run_once(self.choose_kill(len(content)), *command, part_path=part_path)
                self.assert_not_asked(noted, asked)
                self.resumed += bool(noted)
                if kill.has_happened.is_set():
                    self.assert_not_asked(kill.noted, kill.asked_before)
                noted = noted_segments(part_path)
        if not is_done:
            asked = len(self.proxy.asked)
            self.fc.run(*command, seconds=60)
            self.assert_not_asked(noted, asked)
            self.resumed += bool(noted)
        self.assertEqual(self.fc.read("copy"), content)
        os.unlink(self.fc.path("copy"))

    def assert_not_asked(self, noted, since):
        again = noted & {index for _, index in self.proxy.asked[since:]}
        self.assertFalse(again, f"segments {again} were asked for again")

    def fcd_check(self):
        result = subprocess.run([os.environ["FCD"], "check", "--data", self.fcd.data], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, env=clean_environment(), timeout=limit(120), check=False)
        check_report("fcd", result.stderr)
        return result

    def stored_files(self, folder):
        return [name for _, _, names in os.walk(os.path.join(self.fcd.data, folder)) for name in names]

    def test_kills_at_random_bytes(self):
        files, number = {}, 0
        while self.is_wanted_more():
            name, content = f"file-{number}", self.random.randbytes(self.random.randint(CHUNK + 1, 24 * CHUNK))
            number += 1
            self.upload(name, content)
            files[name] = content
            if self.random.random() < 0.6 and self.is_wanted_more():
                chosen = self.random.choice(list(files))
                self.download(chosen, files[chosen])
            if len(files) > KEPT_FILES:
                gone = next(iter(files))
                self.assertEqual(self.fc.run("cat", gone).stdout, files.pop(gone))
                self.fc.run("rm", gone)
        self.assertEqual([file["name"] for file in self.fc.run("ls", "--json").objects], sorted(files))
        for name, content in files.items():
            self.assertEqual(self.fc.run("cat", name).stdout, content, name)
        self.assertEqual([name for name in os.listdir(self.fc.cwd) if "part" in name], [])
        self.assertEqual(os.listdir(os.path.join(self.fc.data, "uploads")), [])
        # A start sweeps; after it only what has a name is there.
        self.fcd.restart()
        self.fcd.stop()
        result = self.fcd_check()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, "all is well\n$")
        self.assertEqual(self.stored_files("uploads"), [])
        self.assertEqual(len(self.stored_files("objects")), len(files))
        self.fcd.start()
        print(f"killed {self.killed}, {self.resumed} transfers went on")


if __name__ == "__main__":
    unittest.main()
