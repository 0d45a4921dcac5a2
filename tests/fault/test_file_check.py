"""fcd backup and fcd check: of a server at work, and of one whose disk has a bit that rotted."""
import base64
import hashlib
import json
import os
import random
import subprocess
import threading
import unittest

from fcd_process import DONE, INTEGRITY, FcTestCase, check_report, clean_environment, limit

MIB = 1024 * 1024


class FileCheck(FcTestCase):
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
        fc.write("sound", self.random.randbytes(MIB // 2))
        fc.run("upload", "sound")
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
                self.assertEqual(result.stdout.count("damaged:"), 1)
        finally:
            self.fcd.start()
        # The rest can be had, and a download says what is wrong.
        self.assertEqual(fc.run("cat", "sound").stdout, fc.read("sound"))
        self.assert_fails(fc.try_run("download", "precious", "-o", "copy"), INTEGRITY, "precious")
        self.assertFalse(os.path.exists(fc.path("copy")))
        # What is uploaded again takes its place.
        fc.run("upload", "precious")
        fc.run("download", "precious", "-o", "copy")
        self.assertEqual(fc.read("copy"), fc.read("precious"))
        self.fcd.stop()
        self.assert_check_passes()
        self.fcd.start()


if __name__ == "__main__":
    unittest.main()
