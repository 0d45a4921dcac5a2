"""Folders, and what can be done with files on the server: fc upload -r, download -r, ls, find, cat, mv, rm, restore, share, du."""
import hashlib
import os
import urllib.request
import unittest

from fcd_process import CONFLICT, DONE, NOT_FOUND, USAGE, FcTestCase

SMALL_MAX = 128 << 10  # larger files go by themselves


def md5(content):
    return hashlib.md5(content).hexdigest()


def tree_of(folder):
    """The files below a folder: name -> content."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


class Files(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.name = f"alice{self.number}"
        self.alice = self.person(self.name)

    def calls(self, method):
        """How many calls of a method of the FileStore the server has ended."""
        with urllib.request.urlopen(self.fcd.http_url + "/metrics", timeout=20) as answer:
            text = answer.read().decode()
        return sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith("fc_rpc_calls_total{") and f'/{method}"' in line)

    def make(self, tree, below="tree"):
        for name, content in tree.items():
            path = self.alice.path(os.path.join(below, name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        return tree

    def names(self, *arguments, fc=None):
        return [file["name"] for file in (fc or self.alice).run("ls", *arguments, "--json").objects]

    def test_a_folder_there_and_back(self):
        tree = self.make({"a": b"", "b.txt": b"text", "sub/deep/c": b"c" * SMALL_MAX, "sub/d": b"d" * (SMALL_MAX + 1),
                          ".hidden": b"h", "b\u00e4r": b"u", "sub.txt": b"s"})
        sent = self.alice.run("upload", "-r", "tree").text
        self.assertEqual(sorted(sent.splitlines()), sorted(f"{md5(content)}  tree/{name}" for name, content in tree.items()))
        self.alice.run("download", "-r", "tree", "-o", "copy")
        self.assertEqual(tree_of(self.alice.path("copy")), tree)
        for name in tree:
            self.assertEqual(os.stat(self.alice.path(f"copy/{name}")).st_mtime_ns // 10**6,
                             os.stat(self.alice.path(f"tree/{name}")).st_mtime_ns // 10**6, name)
        self.assertEqual(self.alice.run("download", "-r", "tree", "-o", "copy").text, "")
        self.assertEqual(self.alice.run("upload", "-r", "tree").text, "")
        self.make({"b.txt": b"other"})
        self.assertEqual(self.alice.run("upload", "-r", "tree").text, f"{md5(b'other')}  tree/b.txt\n")

    def test_many_small_files_take_few_calls(self):
        tree = self.make({f"{i % 10}/{i:04}": b"%d" % i for i in range(1000)})
        before = {method: self.calls(method) for method in ("Put", "Save", "Upload", "Commit")}
        self.assertEqual(len(self.alice.run("upload", "-r", "tree", seconds=120).text.splitlines()), 1000)
        after = {method: self.calls(method) - count for method, count in before.items()}
        self.assertEqual(after, {"Put": 1, "Save": 0, "Upload": 0, "Commit": 0})
        self.assertEqual(len(self.names("tree/")), 1000)
        self.assertEqual(self.alice.run("cat", "tree/7/0007").stdout, tree["7/0007"])
        # Each batch has at most 1 MiB.
        tree = self.make({f"{i}": os.urandom(100 << 10) for i in range(35)}, "large")
        before = self.calls("Put")
        self.alice.run("upload", "-r", "large", seconds=120)
        self.assertEqual(self.calls("Put") - before, 4)
        self.alice.run("download", "-r", "large", "-o", "copy", seconds=120)
        self.assertEqual(tree_of(self.alice.path("copy")), tree)

    def test_many_small_files_for_a_room_take_few_calls(self):
        for kind in ((), ("--plain",)):
            with self.subTest(kind=kind):
                room = f"room{self.number}{len(kind)}"
                self.alice.run("room", "create", room, *kind)
                tree = self.make({f"{i:03}": b"%d of " % i + room.encode() for i in range(120)}, f"tree{len(kind)}")
                tree |= self.make({"large": os.urandom(SMALL_MAX + 1)}, f"tree{len(kind)}")
                before = {method: self.calls(method) for method in ("Put", "Save", "Upload", "Commit")}
                sent = self.alice.run("upload", "-r", f"tree{len(kind)}", "--name", "tree", "--room", room, seconds=120).text
                self.assertEqual(sorted(sent.splitlines()),
                                 sorted(f"{md5(content)}  tree/{name}" for name, content in tree.items()))
                after = {method: self.calls(method) - count for method, count in before.items()}
                self.assertEqual({**after, "Put": None}, {"Put": None, "Save": 1, "Upload": 1, "Commit": 1})
                self.assertLessEqual(after["Put"], 2)
                announced = self.alice.run("history", room, "--since", "0", "--limit", "1000", "--json").objects
                self.assertEqual(sorted(message["file"]["name"] for message in announced), sorted(f"tree/{name}" for name in tree))
                for name in ("007", "119", "large"):
                    self.assertEqual(self.alice.run("cat", f"{room}/tree/{name}").stdout, tree[name])
                self.assertEqual([name for name in os.listdir(self.alice.data) if name.startswith("sealed-")], [])
        # What a plain room has is not sent again.
        self.make({"007": b"changed"}, "tree1")
        self.assertEqual(self.alice.run("upload", "-r", "tree1", "--name", "tree", "--room", room).text,
                         f"{md5(b'changed')}  tree/007\n")

    def test_dry_runs_change_nothing(self):
        self.make({"a": b"1", "b/c": b"22"})
        self.assertEqual(self.alice.run("upload", "-r", "tree", "--dry-run").text,
                         f"{1:14}  tree/a\n{2:14}  tree/b/c\n")
        self.assertEqual(self.names(), [])
        self.assertEqual(self.alice.run("upload", "tree/a", "--dry-run").text, f"{1:14}  a\n")
        self.alice.run("upload", "-r", "tree")
        self.assertEqual(self.alice.run("download", "-r", "tree", "-o", "copy", "--dry-run").text,
                         f"{1:14}  a\n{2:14}  b/c\n")
        self.assertFalse(os.path.exists(self.alice.path("copy")))
        self.assertEqual(self.alice.run("rm", "-r", "tree", "--dry-run").text, "tree/a\ntree/b/c\n")
        self.assertEqual(self.names(), ["tree/a", "tree/b/c"])

    def test_what_is_no_file_is_left_out(self):
        self.make({"a": b"1"})
        self.alice.write("secret", b"secret")
        os.mkdir(self.alice.path("outside"))
        self.alice.write("outside/x", b"x")
        os.symlink("../secret", self.alice.path("tree/link"))
        os.symlink("../outside", self.alice.path("tree/folder"))
        os.mkfifo(self.alice.path("tree/pipe"))
        result = self.alice.try_run("upload", "-r", "tree")
        self.assertEqual((result.code, result.text), (DONE, f"{md5(b'1')}  tree/a\n"))
        self.assertEqual(len(result.stderr.splitlines()), 3)
        self.assertRegex(result.stderr, r"note: tree/link is left out: a symbolic link")
        self.assertEqual(self.names(), ["tree/a"])

    def test_a_folder_needs_r_and_a_name(self):
        self.make({"a": b"1"})
        self.assert_fails(self.alice.try_run("upload", "tree"), USAGE)
        self.alice.run("upload", "-r", "tree", "--name", "other/place")
        self.assertEqual(self.names(), ["other/place/a"])
        self.assertEqual(self.alice.try_run("upload", "-r", "missing").code, NOT_FOUND)

    def test_names_do_not_lead_out_of_the_folder(self):
        self.alice.write("f", b"x")
        os.mkdir(self.alice.path("outside"))
        os.mkdir(self.alice.path("copy"))
        os.symlink("../outside", self.alice.path("copy/sub"))
        self.alice.write("copy/file", b"in the way")
        for name in ("t/sub/evil", "t/file/below", "t/good"):
            self.alice.run("upload", "f", "--name", name)
        for name in ("../x", "t/../../x", "/x", "t/./x"):
            self.assert_fails(self.alice.try_run("upload", "f", "--name", name), USAGE)
        result = self.alice.try_run("download", "-r", "t", "-o", "copy")
        self.assertEqual(result.code, CONFLICT)
        self.assertIn("2 files were not fetched", result.stderr)
        self.assertEqual(self.alice.read("copy/good"), b"x")
        self.assertEqual(os.listdir(self.alice.path("outside")), [])
        self.assertEqual(self.alice.read("copy/file"), b"in the way")

    def test_a_link_at_the_end_is_replaced_and_not_followed(self):
        self.alice.write("f", b"new")
        self.alice.run("upload", "f", "--name", "t/leaf")
        os.mkdir(self.alice.path("copy"))
        self.alice.write("victim", b"old")
        os.symlink("../victim", self.alice.path("copy/leaf"))
        self.assertEqual(self.alice.try_run("download", "-r", "t", "-o", "copy").code, CONFLICT)
        self.alice.run("download", "-r", "t", "-o", "copy", "--force")
        self.assertEqual(self.alice.read("victim"), b"old")
        self.assertFalse(os.path.islink(self.alice.path("copy/leaf")))

    def test_versions_rename_delete_and_restore(self):
        for content in (b"one", b"two"):
            self.alice.write("f", content)
            self.alice.run("upload", "f")
        self.assertEqual(self.names(), ["f"])
        versions = self.alice.run("ls", "--versions", "--json").objects
        self.assertEqual([file["md5"] for file in versions], [md5(b"two"), md5(b"one")])
        self.assertEqual(self.alice.run("cat", versions[1]["id"]).stdout, b"one")
        self.alice.run("mv", "f", "folder/")
        self.assertEqual(self.names(), ["folder/f"])
        self.alice.run("mv", "folder/f", "g")
        self.assertEqual(len(self.alice.run("ls", "--versions", "--json").objects), 2)
        self.alice.run("upload", "f")
        self.assert_fails(self.alice.try_run("mv", "g", "f"), CONFLICT)
        self.assert_fails(self.alice.try_run("mv", "missing", "x"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("mv", "g", "../x"), USAGE)
        self.alice.run("rm", "g")
        self.assertEqual(self.names(), ["f"])
        self.assert_fails(self.alice.try_run("cat", "g"), NOT_FOUND)
        self.assertIn("g", self.names("--deleted"))
        self.assertEqual(self.alice.run("restore", "g").text, f"{md5(b'two')}  g\n")
        self.assertEqual(self.alice.run("cat", "g").stdout, b"two")
        self.assert_fails(self.alice.try_run("rm", "missing"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("restore", "missing"), NOT_FOUND)

    def test_rm_of_a_folder(self):
        self.make({"a": b"1", "b/c": b"2"})
        self.alice.run("upload", "-r", "tree")
        self.alice.write("f", b"x")
        self.alice.run("upload", "f", "--name", "treehouse")
        self.assert_fails(self.alice.try_run("rm", "tree"), NOT_FOUND)
        self.alice.run("rm", "-r", "tree")
        self.assertEqual(self.names(), ["treehouse"])
        self.assert_fails(self.alice.try_run("rm", "-r", "tree"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("rm", "-r", "/"), USAGE)

    def test_find(self):
        self.make({"a.txt": b"1", "b/c.txt": b"2", "b/d.pdf": b"3"})
        self.alice.run("upload", "-r", "tree")
        self.assertEqual(self.alice.run("find", "*.txt").text, "tree/a.txt\ntree/b/c.txt\n")
        self.assertEqual(self.alice.run("find", "d.*").text, "tree/b/d.pdf\n")
        self.assertEqual(self.alice.run("find", "tree/b/*").text, "tree/b/c.txt\ntree/b/d.pdf\n")
        self.assertEqual(self.alice.run("find", "nothing").text, "")

    def test_share_with_a_user_and_a_room(self):
        self.alice.write("f", b"shared")
        file_id = self.alice.run("upload", "f", "--json").object["id"]
        bob = self.person(f"bob{self.number}")
        room = f"room{self.number}"
        self.alice.run("room", "create", room, "--plain")
        carol = self.person(f"carol{self.number}")
        carol.run("join", room, "--no-follow")
        self.assert_fails(bob.try_run("cat", file_id), NOT_FOUND)
        self.alice.run("share", "f", f"@bob{self.number}", room)
        self.assertEqual(bob.run("cat", file_id).stdout, b"shared")
        self.assertRegex(bob.run("ls").text, rf"(?m)^ *6  \S+ \S+  {self.name}  @{self.name}/f$")
        bob.run("download", f"@{self.name}/f")
        self.assertEqual(bob.read("f"), b"shared")
        self.assert_fails(carol.try_run("cat", f"@{self.name}/f"), NOT_FOUND)
        self.assert_fails(bob.try_run("cat", f"@carol{self.number}/f"), NOT_FOUND)
        self.assert_fails(bob.try_run("cat", f"@{self.name}/g"), NOT_FOUND)
        self.assertEqual(bob.run("stat", f"@{self.name}/f", "--json").object["id"], file_id)
        self.assertEqual(carol.run("cat", file_id).stdout, b"shared")
        self.assertNotEqual(bob.try_run("rm", file_id).code, DONE)
        self.alice.run("share", "f", f"@bob{self.number}", "--undo")
        self.assert_fails(bob.try_run("cat", file_id), NOT_FOUND)
        self.assertEqual(carol.run("cat", file_id).stdout, b"shared")
        self.assert_fails(self.alice.try_run("share", "f", "@nobody-of-this-name"), NOT_FOUND)

    def test_du(self):
        self.assertEqual(self.alice.run("du", "--json").object["files"], 0)
        self.alice.write("f", b"12345")
        self.alice.run("upload", "f")
        usage = self.alice.run("du", "--json").object
        self.assertEqual((usage["used"], usage["files"]), (5, 1))
        self.assertRegex(self.alice.run("du").text, r"\A5 bytes in 1 files")


if __name__ == "__main__":
    unittest.main()
