"""fc download from several servers: what dies, hangs, lies or comes and goes does not matter, and nothing that was
verified is fetched twice. What is asserted is counted, not timed."""
import contextlib
import hashlib
import json
import os
import signal
import time
import unittest

from fcd_process import DONE, INTEGRITY, UNREACHABLE, USAGE, Fc, FcTestCase, limit, running, wait_until
from segment_proxy import SegmentProxy
from swarm_processes import Mirror, Reader, wait_for_state

SEGMENT = 256 * 1024
COUNT = 64
RATE = "2M"  # of each server, so that there is a middle to do things in
RECORD_BYTES = 16


def md5(content):
    return hashlib.md5(content).hexdigest()


class Swarm(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fc = Fc(cls.fcd.url)  # the first account administers
        cls.addClassCleanup(cls.fc.close)
        cls.fc.sign_up("reader")
        cls.content = os.urandom(COUNT * SEGMENT - 5)
        cls.fc.write("file", cls.content)
        cls.fc.run("upload", "file")
        cls.file = cls.fc.run("stat", "file", "--json").object
        cls.mirrors = []
        for number in range(4):
            mirror = Mirror(cls.fcd, cls.fc, f"mirror-{number}", "--prefetch", "all", "--limit-rate", RATE)
            cls.addClassCleanup(mirror.close)
            cls.mirrors.append(mirror)
        reader = Reader(cls.fc, cls.file)
        for mirror in cls.mirrors:
            wait_until(lambda mirror=mirror: len(reader.holding(mirror.url)) == COUNT, "all of it at the mirror", 60)

    def setUp(self):
        for mirror in self.mirrors:
            if mirror.process is None:
                mirror.start()
        self.proxies = [SegmentProxy(mirror.url) for mirror in self.mirrors]
        for proxy in self.proxies:
            self.addCleanup(proxy.close)
        for name in ("copy", "copy.part", "copy.part.journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.fc.path(name))

    def from_proxies(self, *options):
        named = [word for proxy in self.proxies for word in ("--from", proxy.url)]
        return ("download", "file", "-o", "copy", "--json", "-v", *named, *options)

    def noted(self):
        """How many segments the journal has."""
        try:
            with open(self.fc.path("copy.part.journal"), "rb") as journal:
                return len(journal.read().split(b"\n", 1)[1]) // RECORD_BYTES
        except (FileNotFoundError, IndexError):
            return 0

    def wait_for(self, fraction, process):
        wait_until(lambda: self.noted() >= fraction * COUNT or process.poll() is not None, f"{fraction:.0%} of it", 60)
        self.assertIsNone(process.poll())

    def finish(self, process):
        """Waits for its end; its summary."""
        stdout, stderr = process.communicate(timeout=limit(90))
        self.assertEqual(process.returncode, DONE, stderr)
        self.assertEqual(self.fc.read("copy"), self.content)
        self.assertEqual([name for name in os.listdir(self.fc.cwd) if ".part" in name], [])
        summary = [json.loads(line) for line in stdout.splitlines()][-2]
        self.assertEqual(summary["event"], "summary")
        self.stderr = stderr.decode()
        return summary

    def served(self):
        """How often each segment came whole, by all proxies that there were."""
        return sum((proxy.served for proxy in self.proxies), start=type(self.proxies[0].served)())

    def assert_once(self, summary, count=COUNT, lost=0):
        self.assertEqual(sum(source["segments"] for source in summary["sources"]), count)
        again = sum(self.served().values()) - COUNT
        self.assertLessEqual(again, summary["duplicates"] + lost)

    def test_all_give_and_the_sum_is_the_whole(self):
        summary = self.finish(self.fc.start(*self.from_proxies()))
        self.assert_once(summary)
        self.assertEqual(min(source["segments"] for source in summary["sources"]) > 0, True, summary)
        self.assertEqual(sum(source["bytes"] for source in summary["sources"]), len(self.content))
        self.assertEqual(self.stderr, "")

    def test_deaths_and_returns_of_servers(self):
        with running(self.fc.start(*self.from_proxies())) as process:
            self.wait_for(0.37, process)
            self.mirrors[1].kill()
            self.wait_for(0.6, process)
            self.mirrors[1].start()
            self.wait_for(0.8, process)
            for mirror in self.mirrors:
                mirror.kill()
            noted = wait_until(self.noted, "segments that are noted")
            self.assertLess(noted, COUNT)
            for mirror in self.mirrors[:2]:
                mirror.start()
            summary = self.finish(process)
        # Answers that were cut, or had passed the proxy when their server died, come again.
        self.assert_once(summary, lost=8)
        self.assertIn("no server can be reached", self.stderr)
        self.assertRegex(self.stderr, rf"of {COUNT} segments are missing")

    def test_the_same_with_an_end_without_warning_of_fc(self):
        with running(self.fc.start(*self.from_proxies())) as process:
            self.wait_for(0.37, process)
            process.kill()
            process.wait()
        noted = self.noted()
        self.mirrors[1].kill()
        with running(self.fc.start(*self.from_proxies())) as process:
            self.wait_for(0.6, process)
            self.mirrors[1].start()
            summary = self.finish(process)
        self.assertGreaterEqual(noted, 0.37 * COUNT)
        self.assertEqual(sum(source["segments"] for source in summary["sources"]), COUNT - noted)

    def test_a_server_that_hangs_does_not_hold_it_up(self):
        with running(self.fc.start(*self.from_proxies())) as process:
            self.wait_for(0.25, process)
            self.mirrors[2].process.send_signal(signal.SIGSTOP)
            try:
                summary = self.finish(process)
            finally:
                self.mirrors[2].process.send_signal(signal.SIGCONT)
        self.assert_once(summary, lost=8)

    def test_liars_are_named_and_the_file_is_right(self):
        for number in (0, 1):
            self.proxies[number].close()
            self.proxies[number] = SegmentProxy(self.mirrors[number].url, bad_one_in=4)
            self.addCleanup(self.proxies[number].close)
        summary = self.finish(self.fc.start(*self.from_proxies()))
        corrupt = [source["corrupt_segments"] for source in summary["sources"]]
        self.assertEqual(corrupt[2:], [0, 0])
        self.assertEqual(corrupt[:2], [min(3, proxy.bad) for proxy in self.proxies[:2]])
        self.assertGreater(sum(corrupt), 0)
        for number in (0, 1):
            if corrupt[number]:
                self.assertIn(self.proxies[number].url.removeprefix("tcp://"), self.stderr)
        self.assert_once(summary, lost=sum(corrupt))

    def test_only_liars_end_it(self):
        with SegmentProxy(self.mirrors[0].url, bad_one_in=1) as proxy:
            result = self.fc.try_run("download", "file", "-o", "copy", "--from", proxy.url)
        self.assertEqual(result.code, INTEGRITY)
        self.assertIn("damaged", result.stderr)
        self.assertFalse(os.path.exists(self.fc.path("copy")))

    def test_a_server_that_comes_and_goes(self):
        with running(self.fc.start(*self.from_proxies("--limit-rate", "3M"))) as process:
            for _ in range(3):
                before = self.noted()
                self.mirrors[3].kill()
                wait_until(lambda before=before: self.noted() > before + 3 or process.poll() is not None, "more of it", 60)
                self.mirrors[3].start()
            summary = self.finish(process)
        self.assert_once(summary, lost=12)

    def test_in_order_to_standard_output(self):
        result = self.fc.run("download", "file", "-o", "-", *self.from_proxies()[6:], seconds=90)
        self.assertEqual(md5(result.stdout), md5(self.content))
        self.assertLessEqual(sum(self.served().values()), COUNT + 2)
        self.assertGreater(min(sum(proxy.served.values()) for proxy in self.proxies), 0)

    def test_the_tracker_tells_who_there_is(self):
        summary = self.finish(self.fc.start("download", "file", "-o", "copy", "--json", "-v", "--limit-rate", "8M"))
        kinds = {source["name"]: source["kind"] for source in summary["sources"]}
        self.assertEqual(sorted(kinds.values()), ["mirror"] * 4 + ["origin"])
        self.assertEqual(sum(source["segments"] for source in summary["sources"]), COUNT)
        self.assertGreater(sum(source["segments"] > 0 for source in summary["sources"]), 1)

    def test_a_server_that_comes_in_the_middle_is_taken_up(self):
        for mirror in self.mirrors[1:]:
            mirror.stop()
        with running(self.fc.start("download", "file", "-o", "copy", "--json", "-v", "--limit-rate", "4M")) as process:
            self.wait_for(0.2, process)
            self.mirrors[1].start()
            summary = self.finish(process)
        given = {source["name"]: source["segments"] for source in summary["sources"]}
        self.assertGreater(given["mirror-1"], 0)

    def test_a_server_that_an_operator_stops_and_wakes(self):
        for mirror in self.mirrors[:2]:
            wait_for_state(self.fc, mirror.name, "up")
        self.fc.run("segment", "stop", "mirror-0")
        self.addCleanup(self.fc.run, "segment", "wake", "mirror-0")
        summary = self.finish(self.fc.start(*self.from_proxies()))
        self.assertEqual(sum(self.proxies[0].served.values()), 0)
        self.assertEqual(sum(source["segments"] for source in summary["sources"]), COUNT)

    def test_patience_ends_when_it_is_limited(self):
        for mirror in self.mirrors:
            mirror.stop()
        begun = time.monotonic()
        result = self.fc.try_run(*self.from_proxies("--timeout", "2"))
        self.assertEqual(result.code, UNREACHABLE, result)
        self.assertGreater(time.monotonic() - begun, 2)
        # It is gone on with: nothing of it is lost.
        for mirror in self.mirrors[:1]:
            mirror.start()
        self.finish(self.fc.start(*self.from_proxies()))

    def test_lines_at_an_interval_add_up(self):
        result = self.fc.run(*self.from_proxies("-i", "1"), seconds=90)
        lines = [one for one in result.objects if one.get("event") == "progress"]
        self.assertGreater(len(lines), 0)
        for line in lines:
            self.assertEqual(line["bytes_per_s"], sum(source["bytes_per_s"] for source in line["sources"]))
            self.assertEqual(line["done_bytes"], sum(source["bytes"] for source in line["sources"]))

    def test_strategies(self):
        for name in ("round-robin", "random", "least-cpu", "two-choices"):
            with self.subTest(name):
                summary = self.finish(self.fc.start(*self.from_proxies("--balance", name)))
                self.assertGreater(min(source["segments"] for source in summary["sources"]), 0)
                os.unlink(self.fc.path("copy"))
        for mirror in self.mirrors:
            wait_for_state(self.fc, mirror.name, "up")
        self.finish(self.fc.start("download", "file", "-o", "copy", "--json", "-v", "--balance", "mediator"))
        self.assert_fails(self.fc.try_run("download", "file", "--balance", "best"), USAGE, "adaptive")

    def test_the_token_is_for_the_session_s_server_only(self):
        self.finish(self.fc.start(*self.from_proxies()))
        with open(self.fc.credentials_path(), "rb") as file:
            token = file.read().split()[2]
        for proxy in self.proxies:
            self.assertNotIn(token, proxy.recorded())


if __name__ == "__main__":
    unittest.main()
