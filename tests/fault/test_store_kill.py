"""fcd is killed while files are uploaded, put and deleted: what it acknowledged reads back, and nothing is left over."""
import base64
import hashlib
import json
import os
import random
import subprocess
import threading
import unittest

from fcd_process import DONE, FcTestCase, check_report, clean_environment, limit

# Rounds of killing; a longer hunt sets FC_FAULT_KILLS.
KILLS = int(os.environ.get("FC_FAULT_KILLS", "8"))
MIB = 1024 * 1024


class StoreKill(FcTestCase):
    fcd_options = ("--delete-grace", "0")

    def setUp(self):
        self.random = random.Random(20260103)

    def fcd_tool(self, *arguments):
        result = subprocess.run([os.environ["FCD"], *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                env=clean_environment(), timeout=limit(120), check=False)
        check_report("fcd", result.stderr)
        return result

    def assert_check_passes(self):
        result = self.fcd_tool("check", "--data", self.fcd.data)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, "all is well\n$")

    def stored_files(self, *folders):
        return sorted(name for folder in folders for _, _, names in os.walk(os.path.join(self.fcd.data, folder))
                      for name in names)

    def content(self, number):
        """Every third is what another one has as well."""
        seed = number - 1 if number % 3 == 2 else number
        return random.Random(seed).randbytes(1 + seed * 7919 % (3 * MIB))

    def keep_busy(self, fc, first, acknowledged, done):
        """Stores and deletes until the server is gone for good; notes what was acknowledged, and what was asked."""
        number = first
        while not done.is_set():
            name, content = f"file-{number}", self.content(number)
            fc.write(name, content)
            if fc.try_run("upload", name, seconds=90).code == DONE:
                acknowledged[name] = hashlib.md5(content).hexdigest()
            if number % 5 == 0:
                self.put(fc, number, acknowledged)
            if number % 4 == 3:
                gone = f"file-{number - 2}"
                acknowledged.pop(gone, None)  # it may be gone although nobody says so
                fc.try_run("call", "fc.filestore.v1.FileStore/Delete", '{"file": "%s"}' % gone, seconds=90)
            number += 1

    @staticmethod
    def put(fc, number, acknowledged):
        """Ten small files in one call."""
        contents = {f"small/{number}-{i}": b"%d %d" % (number, i) * 50 for i in range(10)}
        files = [{"name": name, "data": base64.b64encode(content).decode(),
                  "md5": base64.b64encode(hashlib.md5(content).digest()).decode()} for name, content in contents.items()]
        result = fc.try_run("call", "fc.filestore.v1.FileStore/Put", json.dumps({"files": files}), seconds=90)
        if result.code == DONE:
            for name, answer in zip(contents, result.object["results"]):
                if not answer.get("code"):
                    acknowledged[name] = hashlib.md5(contents[name]).hexdigest()

    def test_kills_lose_nothing_and_leave_nothing(self):
        fc = self.person("ann")
        acknowledged, done = {}, threading.Event()
        worker = threading.Thread(target=self.keep_busy, args=(fc, 0, acknowledged, done))
        worker.start()
        try:
            for _ in range(KILLS):
                done.wait(self.random.uniform(0.05, 1.2))
                self.fcd.kill()
                self.fcd.start()
        finally:
            done.set()
            worker.join()
        self.assertTrue([name for name in acknowledged if name.startswith("file-")])
        for name, md5 in acknowledged.items():
            fc.run("download", name, "-o", "copy")
            self.assertEqual(hashlib.md5(fc.read("copy")).hexdigest(), md5, name)
            os.unlink(fc.path("copy"))
        # A start sweeps; after it only what the database names is there.
        self.fcd.restart()
        self.fcd.stop()
        self.assert_check_passes()
        self.assertLessEqual(len(self.stored_files("objects")), len(acknowledged) + KILLS)
        self.fcd.start()

    def test_a_backup_of_a_running_server_is_a_server(self):
        fc = self.person("bea")
        for number in range(4):
            fc.write(f"file-{number}", self.content(number))
            fc.run("upload", f"file-{number}")
        target = os.path.join(fc.folder, "backup")
        acknowledged, done = {}, threading.Event()
        worker = threading.Thread(target=self.keep_busy, args=(fc, 10, acknowledged, done))
        worker.start()
        try:
            result = self.fcd_tool("backup", "--data", self.fcd.data, target)
        finally:
            done.set()
            worker.join()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(self.fcd_tool("backup", "--data", self.fcd.data, target).returncode, 1)
        check = self.fcd_tool("check", "--data", target)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        data = self.fcd.data
        self.fcd.stop()
        self.fcd.data = target
        try:
            self.fcd.start()
            for number in range(4):
                fc.run("download", f"file-{number}", "-o", "copy")
                self.assertEqual(fc.read("copy"), self.content(number))
                os.unlink(fc.path("copy"))
            self.fcd.stop()
        finally:
            self.fcd.data = data
            self.fcd.start()

    def test_check_names_what_is_damaged(self):
        fc = self.person("cay")
        fc.write("precious", self.random.randbytes(MIB))
        fc.run("upload", "precious")
        before = set(self.stored_files("objects"))
        self.fcd.stop()
        try:
            for name in before:
                path = os.path.join(self.fcd.data, "objects", name[:2], name)
                if os.path.getsize(path) == MIB:
                    with open(path, "r+b") as file:
                        file.seek(300 * 1024)
                        byte = file.read(1)
                        file.seek(300 * 1024)
                        file.write(bytes([byte[0] ^ 1]))
            for arguments in ((), ("--repair",)):
                result = self.fcd_tool("check", "--data", self.fcd.data, *arguments)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertRegex(result.stdout, 'damaged: "precious" of cay, version [0-9]+, 1 damaged segments, .*: 1 ')
        finally:
            self.fcd.start()
        # What is uploaded again takes its place.
        fc.run("upload", "precious")
        fc.run("download", "precious", "-o", "copy")
        self.assertEqual(fc.read("copy"), fc.read("precious"))
        self.fcd.stop()
        self.assert_check_passes()
        self.fcd.start()


if __name__ == "__main__":
    unittest.main()
