"""fc sync: both ways, without losing either side's change."""
import os
import re
import unittest

from fcd_process import DONE, FAILED, FcTestCase, running, wait_until
from test_files import tree_of


class Sync(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.name = f"alice{next(self.numbers)}"
        self.home = self.person(self.name)
        self.work = self.person()
        self.work.run("login", self.name, "--password-stdin", stdin=b"a long password")
        for fc in (self.home, self.work):
            os.mkdir(fc.path("d"))
        self.times = iter(range(1_700_000_000, 1_800_000_000, 1000))

    def write(self, fc, name, content):
        """A file with a time of its own."""
        path = fc.path(f"d/{name}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        time = next(self.times)
        os.utime(path, (time, time))

    def sync(self, fc, *options):
        return sorted(tuple(line.split(maxsplit=1)) for line in fc.run("sync", "d", "remote", *options).text.splitlines())

    def tree(self, fc):
        return tree_of(fc.path("d"))

    def remote(self):
        return {name.removeprefix("remote/") for name in self.home.run("find", "remote/*").text.splitlines()}

    def test_changes_go_both_ways(self):
        self.write(self.home, "a", b"1")
        self.write(self.home, "sub/b", b"2")
        self.write(self.home, "large", b"x" * (300 << 10))
        self.assertEqual(self.sync(self.home), [("upload", "a"), ("upload", "large"), ("upload", "sub/b")])
        self.assertEqual(self.sync(self.home), [])
        self.write(self.work, "c", b"3")
        self.assertEqual(self.sync(self.work), [("download", "a"), ("download", "large"), ("download", "sub/b"), ("upload", "c")])
        self.assertEqual(self.sync(self.work), [])
        self.write(self.work, "a", b"new")
        self.assertEqual(self.sync(self.work), [("upload", "a")])
        self.assertEqual(self.sync(self.home), [("download", "a"), ("download", "c")])
        self.assertEqual(self.tree(self.home), self.tree(self.work))
        self.assertEqual(self.tree(self.home)["a"], b"new")

    def test_both_changes_are_kept(self):
        for name in ("a", "big"):
            self.write(self.home, name, b"base")
        self.sync(self.home)
        self.sync(self.work)
        self.write(self.home, "a", b"of home")
        self.write(self.work, "a", b"of work")
        self.write(self.home, "big", b"h" * (200 << 10))
        self.write(self.work, "big", b"w" * (200 << 10))
        self.sync(self.home)
        self.assertEqual(self.sync(self.work), [("conflict", "a"), ("conflict", "big")])
        tree = self.tree(self.work)
        self.assertEqual(len(tree), 4)
        self.assertEqual((tree["a"], tree["big"]), (b"of home", b"h" * (200 << 10)))
        (copy,) = [name for name in tree if name.startswith("a.conflict-")]
        self.assertRegex(copy, rf"\Aa\.conflict-{self.name}-\d{{8}}-\d{{6}}\Z")
        self.assertEqual(tree[copy], b"of work")
        self.assertEqual(self.sync(self.work), [])
        self.sync(self.home)
        self.assertEqual(self.tree(self.home), tree)

    def test_the_same_change_on_both_sides_is_none(self):
        self.write(self.home, "a", b"same")
        self.write(self.work, "a", b"same")
        self.sync(self.home)
        self.assertEqual(self.sync(self.work), [])
        self.write(self.home, "a", b"changed")
        self.write(self.work, "a", b"changed")
        self.assertEqual(self.sync(self.home), [("upload", "a")])
        self.assertEqual(self.sync(self.work), [])
        os.utime(self.work.path("d/a"), (1, 1))
        self.assertEqual(self.sync(self.work), [])

    def test_the_first_run_loses_nothing(self):
        self.write(self.home, "a", b"of home")
        self.write(self.work, "a", b"of work")
        self.sync(self.home)
        self.assertEqual(self.sync(self.work), [("conflict", "a")])
        self.assertEqual(sorted(self.tree(self.work).values()), [b"of home", b"of work"])

    def test_nothing_is_deleted_unless_asked_for(self):
        for name in ("a", "b", "c"):
            self.write(self.home, name, b"x")
        self.sync(self.home)
        self.sync(self.work)
        os.remove(self.home.path("d/a"))
        self.assertEqual(self.sync(self.home), [("deleted-here", "a")])
        self.assertEqual(self.sync(self.home), [("deleted-here", "a")])
        self.assertEqual(self.remote(), {"a", "b", "c"})
        self.assertEqual(self.sync(self.home, "--delete"), [("delete-there", "a")])
        self.assertEqual(self.remote(), {"b", "c"})
        self.assertEqual(self.sync(self.home, "--delete"), [])
        self.assertEqual(self.sync(self.work), [("deleted-there", "a")])
        self.assertIn("a", self.tree(self.work))
        self.assertEqual(self.sync(self.work, "--delete"), [("delete-here", "a")])
        self.assertEqual(set(self.tree(self.work)), {"b", "c"})
        self.home.run("restore", "remote/a")
        self.assertEqual(self.sync(self.work), [("download", "a")])

    def test_a_change_wins_over_a_deletion(self):
        for name in ("a", "b"):
            self.write(self.home, name, b"x")
        self.sync(self.home)
        self.sync(self.work)
        os.remove(self.home.path("d/a"))
        self.write(self.work, "a", b"changed")
        self.write(self.home, "b", b"changed, too")
        self.home.run("rm", "remote/b")
        self.assertEqual(self.sync(self.work), [("deleted-there", "b"), ("upload", "a")])
        self.assertEqual(self.sync(self.home, "--delete"), [("download", "a"), ("upload", "b")])
        self.assertEqual(self.tree(self.home), {"a": b"changed", "b": b"changed, too"})

    def test_all_being_gone_is_not_believed(self):
        for name in ("a", "b"):
            self.write(self.home, name, b"x")
        self.sync(self.home)
        self.home.run("rm", "-r", "remote")
        result = self.home.try_run("sync", "d", "remote", "--delete")
        self.assert_fails(result, FAILED, "gone on the server")
        self.assertEqual(set(self.tree(self.home)), {"a", "b"})

    def test_a_dry_run_changes_nothing(self):
        self.write(self.home, "a", b"1")
        self.assertEqual(self.sync(self.home, "--dry-run"), [("upload", "a")])
        self.assertEqual(self.remote(), set())
        self.sync(self.home)
        self.write(self.work, "a", b"other")
        before = self.tree(self.work)
        self.assertEqual(self.sync(self.work, "--dry-run"), [("conflict", "a")])
        self.assertEqual(self.tree(self.work), before)

    def test_a_killed_run_loses_nothing(self):
        for i in range(6):
            self.write(self.home, f"{i}", os.urandom(300 << 10))
        with running(self.home.start("sync", "d", "remote", "--limit-rate", "600K")) as process:
            wait_until(lambda: len(self.remote()) >= 2, "two files to be there", 60)
            process.kill()
            process.wait()
        sent = self.remote()
        self.assertLess(len(sent), 6)
        self.write(self.home, "0", b"changed meanwhile")
        actions = self.sync(self.home)
        self.assertIn(("conflict", "0"), actions)  # what was alike is not remembered
        self.assertEqual(self.sync(self.home), [])
        self.sync(self.work)
        self.assertEqual(self.tree(self.home), self.tree(self.work))
        self.assertEqual(len(self.tree(self.work)), 7)

    def test_links_lead_nowhere(self):
        os.mkdir(self.home.path("outside"))
        self.home.write("outside/x", b"outside")
        self.write(self.work, "sub/x", b"from work")
        self.sync(self.work)
        os.symlink("../outside", self.home.path("d/sub"))
        result = self.home.try_run("sync", "d", "remote")
        self.assertNotEqual(result.code, DONE)
        self.assertTrue(re.search("sub is left out: a symbolic link", result.stderr), result.stderr)
        self.assertEqual(self.home.read("outside/x"), b"outside")
        self.assertEqual(os.listdir(self.home.path("outside")), ["x"])


if __name__ == "__main__":
    unittest.main()
