"""fc upload, download, ls, stat."""
import hashlib
import os
import re
import stat
import subprocess
import unittest

from fcd_process import CONFLICT, DONE, NOT_ALLOWED, NOT_FOUND, USAGE, FcTestCase

TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
BIG = bytes(range(256)) * 12289  # 3 MiB and a little: several chunks, the last one short


def md5(content):
    return hashlib.md5(content).hexdigest()


class Files(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.name = f"alice{self.number}"
        self.alice = self.person(self.name)

    def upload(self, content, *options, name="file.bin"):
        self.alice.write(name, content)
        return self.alice.run("upload", name, *options)

    def test_upload_prints_what_md5sum_prints(self):
        for name, content in (("empty", b""), ("one byte", b"x"), ("big", BIG), ("b\u00e4r", b"umlaut"), ("-dash", b"d")):
            with self.subTest(name=name):
                self.alice.write(name, content)
                result = self.alice.run("upload", "--", name)
                expected = subprocess.run(["md5sum", "--", name], cwd=self.alice.cwd, check=True, capture_output=True)
                self.assertEqual(result.stdout, expected.stdout)

    def test_upload_by_path_keeps_the_last_component(self):
        os.mkdir(self.alice.path("folder"))
        self.alice.write("folder/inner.txt", b"inner")
        self.assertEqual(self.alice.run("upload", "folder/inner.txt").text, f"{md5(b'inner')}  inner.txt\n")
        self.alice.run("stat", "inner.txt")

    def test_upload_json(self):
        self.alice.write("a", b"first")
        self.alice.write("b", b"")
        first, second = self.alice.run("upload", "--json", "a", "b").objects
        self.assertEqual((first["name"], first["size"], first["md5"], first["sha256"]),
                         ("a", 5, md5(b"first"), hashlib.sha256(b"first").hexdigest()))
        self.assertRegex(first["id"], r"^[0-9a-f]{32}$")
        self.assertEqual((second["name"], second["size"], second["md5"]), ("b", 0, md5(b"")))
        self.assertEqual(first["owner"], self.name)
        self.assertRegex(first["created_at"], TIME)
        self.assertNotIn("room", first)

    def test_upload_under_another_name(self):
        self.assertEqual(self.upload(b"x", "--name", "docs/other name.txt").text, f"{md5(b'x')}  docs/other name.txt\n")
        self.assertEqual(self.alice.run("download", "docs/other name.txt").text, f"{md5(b'x')}  other name.txt\n")
        self.assertEqual(self.alice.read("other name.txt"), b"x")

    def test_bad_names(self):
        self.alice.write("file", b"x")
        for name in ("", "../x", "/x", "x/", "a//b", ".", "..", "a/../b", "y" * 300, "a/" * 600 + "a", "bell\x07", "line\nbreak",
                     "esc\x1b[31m", b"not utf-8 \xff"):
            with self.subTest(name=name):
                self.assert_fails(self.alice.try_run("upload", "file", "--name", name), USAGE)
        self.assertEqual(self.alice.run("ls").text, "")

    def test_files_that_cannot_be_read(self):
        self.assert_fails(self.alice.try_run("upload", "missing"), NOT_FOUND, "missing")
        os.mkdir(self.alice.path("folder"))
        result = self.alice.try_run("upload", "folder")
        self.assertNotEqual(result.code, DONE)
        self.assert_fails(result, result.code, "folder")
        if os.geteuid() != 0:
            os.chmod(self.alice.write("secret", b"x"), 0)
            self.assert_fails(self.alice.try_run("upload", "secret"), NOT_ALLOWED, "secret")

    def test_upload_ends_with_the_first_failure(self):
        self.alice.write("good", b"x")
        self.alice.write("late", b"x")
        result = self.alice.try_run("upload", "good", "missing", "late")
        self.assertEqual((result.code, result.text), (NOT_FOUND, f"{md5(b'x')}  good\n"))
        self.assert_fails(self.alice.try_run("stat", "late"), NOT_FOUND)

    def test_upload_to_a_room_announces_it(self):
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--plain")
        uploaded = self.upload(BIG, "--room", room, "--json", name="plan.bin").object
        self.assertEqual(uploaded["room"], room)
        bob = self.person(f"bob{self.number}")
        self.assert_fails(bob.try_run("download", f"{room}/plan.bin"), NOT_FOUND)
        message = bob.run("join", room, "--since", "0", "--count", "1", "--json").object
        self.assertEqual(message["file"], {"id": uploaded["id"], "name": "plan.bin", "size": len(BIG), "md5": md5(BIG)})
        self.assertRegex(bob.run("history", room).text, rf"alice\d+: \[file {room}/plan.bin, {len(BIG)} bytes\]\n\Z")
        self.assertEqual(bob.run("download", f"{room}/plan.bin").text, f"{md5(BIG)}  plan.bin\n")
        self.assertEqual(bob.read("plan.bin"), BIG)
        self.assertEqual(bob.run("download", uploaded["id"], "-o", "by-id").text, f"{md5(BIG)}  by-id\n")
        self.assertRegex(bob.run("ls").text, rf"(?m)^ *{len(BIG)}  \S+ \S+  {self.name}  {room}/plan.bin$")

    def test_upload_to_a_room_of_others(self):
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--plain")
        bob = self.person(f"bob{self.number}")
        bob.write("file", b"x")
        self.assert_fails(bob.try_run("upload", "file", "--room", room), NOT_ALLOWED)
        self.assert_fails(bob.try_run("upload", "file", "--room", "nowhere"), NOT_FOUND)
        self.assertEqual(bob.run("ls").text, "")

    def test_download_refuses_to_overwrite(self):
        self.upload(b"new content")
        self.alice.write("file.bin", b"old")
        self.assert_fails(self.alice.try_run("download", "file.bin"), CONFLICT, "--force")
        self.assertEqual(self.alice.read("file.bin"), b"old")
        self.assertEqual(self.alice.run("download", "file.bin", "--force").text, f"{md5(b'new content')}  file.bin\n")
        self.assertEqual(self.alice.read("file.bin"), b"new content")

    def test_download_to_a_path_replaces_it(self):
        self.upload(BIG)
        self.alice.write("target", b"old")
        self.assertEqual(self.alice.run("download", "file.bin", "-o", "target").text, f"{md5(BIG)}  target\n")
        self.assertEqual(self.alice.read("target"), BIG)
        self.alice.run("download", "file.bin", "--output=target")
        self.alice.run("download", "-otarget", "file.bin", "--json")
        self.assertEqual(sorted(os.listdir(self.alice.cwd)), ["file.bin", "target"])
        umask = os.umask(0o022)
        os.umask(umask)
        self.assertEqual(stat.S_IMODE(os.stat(self.alice.path("target")).st_mode) & 0o077 & umask, 0)

    def test_download_of_nothing(self):
        self.upload(b"")
        self.alice.run("download", "file.bin", "-o", "empty")
        self.assertEqual(self.alice.read("empty"), b"")
        self.assertEqual(self.alice.run("download", "file.bin", "-o", "-").stdout, b"")

    def test_download_to_standard_output(self):
        self.upload(BIG)
        result = self.alice.run("download", "file.bin", "-o", "-")
        self.assertEqual(result.stdout, BIG)
        self.assertEqual(os.listdir(self.alice.cwd), ["file.bin"])

    def test_download_to_a_reader_that_goes(self):
        self.upload(BIG * 4)
        process = self.alice.start("download", "file.bin", "-o", "-")
        process.stdout.read(10)
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate()
        self.assertEqual((process.returncode, stderr), (DONE, b""))

    def test_downloads_that_fail_leave_nothing(self):
        self.assert_fails(self.alice.try_run("download", "missing"), NOT_FOUND, "missing")
        self.assert_fails(self.alice.try_run("download", "0" * 32), NOT_FOUND)
        self.assert_fails(self.alice.try_run("download", "missing", "-o", "-"), NOT_FOUND)
        self.upload(b"x")
        result = self.alice.try_run("download", "file.bin", "-o", "no/such/folder")
        self.assert_fails(result, NOT_FOUND, "no/such/folder")
        self.assertEqual(os.listdir(self.alice.cwd), ["file.bin"])

    def test_files_of_others_do_not_exist(self):
        self.upload(b"mine")
        file_id = self.alice.run("stat", "file.bin", "--json").object["id"]
        bob = self.person(f"bob{self.number}")
        for name in ("file.bin", file_id):
            self.assert_fails(bob.try_run("stat", name), NOT_FOUND)
            self.assert_fails(bob.try_run("download", name), NOT_FOUND)
        self.assertEqual(bob.run("ls").text, "")

    def test_ls(self):
        for name in ("b.txt", "a.txt", "docs/c.txt"):
            self.upload(b"123", "--name", name)
        self.assertEqual([file["name"] for file in self.alice.run("ls", "--json").objects],
                         ["a.txt", "b.txt", "docs/c.txt"])
        self.assertEqual([file["name"] for file in self.alice.run("ls", "docs/", "--json").objects], ["docs/c.txt"])
        self.assertEqual(self.alice.run("ls", "nothing").text, "")
        self.assertRegex(self.alice.run("ls", "a").text,
                         rf"\A *3  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  {self.name}  a\.txt\n\Z")

    def test_stat(self):
        uploaded = self.upload(BIG, "--json").object
        self.assertEqual(self.alice.run("stat", "file.bin", "--json").object, uploaded)
        self.assertEqual(self.alice.run("stat", uploaded["id"], "--json").object, uploaded)
        text = self.alice.run("stat", "file.bin").text
        for expected in (f"size     {len(BIG)} bytes", f"md5      {md5(BIG)}", uploaded["sha256"], uploaded["id"]):
            self.assertIn(expected, text)
        self.assert_fails(self.alice.try_run("stat", "missing"), NOT_FOUND)

    def test_names_mean_the_newest_version(self):
        self.upload(b"old")
        self.upload(b"newer")
        self.assertEqual(self.alice.run("download", "file.bin", "-o", "-").stdout, b"newer")

    def test_names_from_others_cannot_drive_a_terminal(self):
        self.upload(b"x", "--name", "right\u202eleft\u2066")
        for command in (("ls",), ("stat", "right\u202eleft\u2066"), ("download", "right\u202eleft\u2066")):
            self.assertNotRegex(self.alice.run(*command).text, "[\u202e\u2066]")
        self.assertEqual(self.alice.run("ls", "right", "--json").object["name"], "right\u202eleft\u2066")


if __name__ == "__main__":
    unittest.main()
