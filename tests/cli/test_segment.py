"""fc segment and fc top: what an operator of servers of segments sees and does."""
import json
import os
import unittest

from fcd_process import CONFLICT, DONE, Fc, FcTestCase, NOT_ALLOWED, NOT_FOUND, USAGE, running, wait_until
from screen import FullScreen
from swarm_processes import Mirror, sources, wait_for_state

DOWN = b"\x1bOB"


class Operators(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = Fc(cls.fcd.url)  # the first account administers
        cls.addClassCleanup(cls.admin.close)
        cls.admin.sign_up("operator")
        cls.mirror = Mirror(cls.fcd, cls.admin, "atlas")
        cls.addClassCleanup(cls.mirror.close)

    def setUp(self):
        self.admin.run("segment", "wake", "atlas")
        wait_for_state(self.admin, "atlas", "up")

    def test_ls(self):
        by_kind = {source["kind"]: source for source in sources(self.admin).values()}
        self.assertEqual(set(by_kind), {"origin", "mirror"})
        mirror = sources(self.admin)["atlas"]
        self.assertEqual((mirror["name"], mirror["user"], mirror["urls"]), ("atlas", "operator", [self.mirror.url]))
        self.assertRegex(mirror["id"], r"\A[0-9a-f]{32}\Z")
        lines = self.admin.run("segment", "ls").text.splitlines()
        self.assertRegex(lines[0], r"\Astate +kind +cpu .* name\Z")
        self.assertTrue(any(line.startswith("up ") and line.endswith("  atlas") for line in lines), lines)

    def test_orders(self):
        mirror_id = sources(self.admin)["atlas"]["id"]
        for order, source, state in (("stop", "atlas", "stopped"), ("wake", mirror_id, "up"),
                                     ("drain", "atlas", "draining")):
            self.assertEqual(self.admin.run("segment", order, source, "--json").object["name"], "atlas")
            wait_for_state(self.admin, "atlas", state)
        self.assertEqual(self.admin.run("segment", "wake", "atlas").text, "")

    def test_mistakes(self):
        self.assert_fails(self.admin.try_run("segment", "stop", "nobody"), NOT_FOUND)
        self.assert_fails(self.admin.try_run("segment", "stop"), USAGE)
        with Mirror(self.fcd, self.admin, "twin"), Mirror(self.fcd, self.admin, "twin"):
            self.assert_fails(self.admin.try_run("segment", "stop", "twin"), CONFLICT)
        self.assert_fails(self.admin.try_run("top", "-i", "0"), USAGE)

    def test_others_may_not(self):
        fc = self.person("somebody")
        for arguments in (["segment", "ls"], ["segment", "stop", "atlas"], ["segment", "wake", "atlas"],
                          ["segment", "drain", "atlas"], ["top", "--json"]):
            self.assert_fails(fc.try_run(*arguments), NOT_ALLOWED)

    def test_top_prints_lines_where_no_terminal_is(self):
        with running(self.admin.start("top", "-i", "1", "--json")) as top:
            seen = set()
            while len(seen) < 2:  # the next look shows them again
                source = json.loads(top.stdout.readline())
                if source["name"] == "atlas":
                    seen.add(source["state"])
                    self.admin.run("segment", "stop", "atlas")
            self.assertEqual(seen, {"up", "stopped"})
        with running(self.admin.start("top")) as top:
            self.assertRegex(top.stdout.readline(), rb"\Astate +kind")

    def test_top_on_a_screen(self):
        with FullScreen([os.environ["FC"], "top"], env=self.admin.env, cwd=self.admin.cwd, columns=120) as screen:
            screen.shows("atlas")
            screen.shows(" 2 of ")
            screen.type(DOWN + b"s")
            screen.shows("stopped")
            screen.shows(" 1 of ")
            wait_for_state(self.admin, "atlas", "stopped")
            screen.type(b"w")
            screen.shows(" 2 of ")
            screen.type(b"q")
            self.assertEqual(screen.wait(), DONE)

    def test_top_goes_on_after_the_server_was_away(self):
        with running(self.admin.start("top", "-i", "1", "--json")) as top:
            top.stdout.readline()
            self.fcd.restart()
            wait_for_state(self.admin, "atlas", "up")
            self.admin.run("segment", "drain", "atlas")

            def is_draining():
                source = json.loads(top.stdout.readline())
                return source["name"] == "atlas" and source["state"] == "draining"
            wait_until(is_draining, "fc top to see it")


if __name__ == "__main__":
    unittest.main()
