"""Mirrors: what they have not got comes from the origin once, what they have they serve without it."""
import base64
import contextlib
import json
import os
import signal
import unittest

from fcd_process import FAILED, Fcd, Fc, FcTestCase, NOT_FOUND, UNREACHABLE, running, wait_until
from swarm_processes import Mirror, Reader, figure, segments_sent, sources, wait_for_state, write_token

MIB = 1024 * 1024


class Mirrors(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = Fc(cls.fcd.url)  # the first account administers
        cls.addClassCleanup(cls.admin.close)
        cls.admin.sign_up("operator")
        cls.reader = Fc(cls.fcd.url)
        cls.addClassCleanup(cls.reader.close)
        cls.reader.sign_up("reader")

    def mirror(self, name, *options, **settings):
        mirror = Mirror(self.fcd, self.admin, name, *options, **settings)
        self.addCleanup(mirror.close)
        return mirror

    def upload(self, name, size, owner=None):
        owner = owner or self.reader
        content = os.urandom(size)
        owner.write(name, content)
        owner.run("upload", name)
        return content, owner.run("stat", name, "--json").object

    def test_each_segment_comes_from_the_origin_once(self):
        content, file = self.upload("once", 5 * MIB // 2)
        mirror = self.mirror("once")
        readers = Reader(self.reader, file), Reader(self.reader, file)
        before = segments_sent(self.fcd)
        for index in range(readers[0].count):
            for reader in readers:
                self.assertEqual(reader.segment(mirror.url, index), reader.expected(content, index))
        self.assertEqual(segments_sent(mirror), 2 * readers[0].count)
        self.assertEqual(segments_sent(self.fcd) - before, readers[0].count)

    def test_the_rest_is_fetched_while_a_file_is_read_and_served_without_the_origin(self):
        with Fcd() as origin:
            admin = Fc(origin.url)
            self.addCleanup(admin.close)
            admin.sign_up("operator")
            content, file = self.upload("rest", 2 * MIB, admin)
            mirror = Mirror(origin, admin, "rest")
            self.addCleanup(mirror.close)
            reader = Reader(admin, file)
            reader.segment(mirror.url, reader.count // 2)
            wait_until(lambda: len(reader.holding(mirror.url)) == reader.count, "the rest to be fetched")
            origin.stop()
            for index in (0, reader.count - 1):
                self.assertEqual(reader.segment(mirror.url, index), reader.expected(content, index))
            # Also when it is started while the origin is away, after an end without warning.
            mirror.kill()
            mirror.start()
            self.assertEqual(reader.segment(mirror.url, 1), reader.expected(content, 1))
            origin.start()
            wait_for_state(admin, "rest", "up")

    def test_without_the_origin_what_is_missing_is_refused(self):
        with Fcd() as origin:
            admin = Fc(origin.url)
            self.addCleanup(admin.close)
            admin.sign_up("operator")
            _, file = self.upload("missing", MIB, admin)
            mirror = Mirror(origin, admin, "missing")
            self.addCleanup(mirror.close)
            reader = Reader(admin, file)
            origin.stop()
            self.assertEqual(reader.ask(mirror.url, 0).code, UNREACHABLE)
            origin.start()

    def test_the_budget_is_kept(self):
        budget = MIB
        mirror = self.mirror("small", "--budget", str(budget))
        files = [self.upload(f"budget-{number}", 3 * MIB // 4) for number in range(3)]
        for content, file in files:
            reader = Reader(self.reader, file)
            for index in range(reader.count):
                self.assertEqual(reader.segment(mirror.url, index), reader.expected(content, index))
            wait_until(lambda reader=reader: len(reader.holding(mirror.url)) == reader.count, "the file to be kept")
            folder = os.path.join(mirror.data, "segments")
            used = sum(os.stat(os.path.join(folder, name)).st_blocks * 512 for name in os.listdir(folder)
                       if name.endswith(".data"))
            self.assertLessEqual(used, budget + 4096 * len(files))
        self.assertLess(len(Reader(self.reader, files[0][1]).holding(mirror.url)), 3)
        big_content, big = self.upload("budget-big", 3 * MIB)
        reader = Reader(self.reader, big)
        for index in range(reader.count):
            self.assertEqual(reader.segment(mirror.url, index), reader.expected(big_content, index))
        self.assertLessEqual(len(reader.holding(mirror.url)) * reader.chunk, budget)

    def test_what_an_administrator_can_read_is_fetched_before_it_is_asked_for(self):
        _, file = self.upload("before", MIB, self.admin)
        mirror = self.mirror("before", "--prefetch", "all")
        reader = Reader(self.admin, file)
        wait_until(lambda: len(reader.holding(mirror.url)) == reader.count, "the file to be fetched")
        self.assertEqual(segments_sent(mirror), 0)

    def test_what_is_fetched_ahead_pushes_nothing_out(self):
        with Fcd() as origin:
            admin = Fc(origin.url)
            self.addCleanup(admin.close)
            admin.sign_up("operator")
            readers = [Reader(admin, self.upload(f"ahead-{number}", MIB // 2, admin)[1]) for number in range(3)]
            with Mirror(origin, admin, "ahead", "--budget", "1M", "--prefetch", "all") as mirror:
                wait_until(lambda: segments_sent(origin) == 4, "two files to be fetched")
                # One more look would fetch the third in the place of another.
                origin_looks = figure(origin.http_url, "fc_rpc_calls_total", method="fc.filestore.v1.FileStore/List")
                wait_until(lambda: figure(origin.http_url, "fc_rpc_calls_total",
                                          method="fc.filestore.v1.FileStore/List") > origin_looks, "another look", 20)
                self.assertEqual(segments_sent(origin), 4)
                self.assertEqual(sorted(len(reader.holding(mirror.url)) for reader in readers), [0, 2, 2])

    def test_readers_who_wait_for_the_same_segment_share_one_fetch(self):
        with Fcd("--limit-rate", "256K") as origin:  # a segment a second
            admin = Fc(origin.url)
            self.addCleanup(admin.close)
            admin.sign_up("operator")
            content, file = self.upload("shared", 3 * MIB // 2, admin)
            with Mirror(origin, admin, "shared") as mirror:
                reader = Reader(admin, file)
                last = reader.count - 1
                reader.segment(mirror.url, 0)  # those between are fetched in the background, and come first
                with contextlib.ExitStack() as stack:
                    calls = [stack.enter_context(running(reader.start(mirror.url, last))) for _ in range(4)]
                    for call in calls:
                        answer = json.loads(call.communicate()[0])
                        self.assertEqual(base64.b64decode(answer["data"]), reader.expected(content, last))
                wait_until(lambda: len(reader.holding(mirror.url)) == reader.count, "the rest")
                self.assertEqual(segments_sent(origin), reader.count)

    def test_one_file_is_fetched_before_it_is_asked_for(self):
        _, one = self.upload("chosen", MIB // 2, self.admin)
        _, other = self.upload("not-chosen", MIB // 2, self.admin)
        mirror = self.mirror("chosen", "--prefetch", "chosen")
        reader = Reader(self.admin, one)
        wait_until(lambda: len(reader.holding(mirror.url)) == reader.count, "the file to be fetched")
        self.assertEqual(Reader(self.admin, other).holding(mirror.url), set())

    def test_a_grant_is_needed(self):
        _, file = self.upload("granted", MIB // 2)
        mirror = self.mirror("granted")
        reader = Reader(self.reader, file)
        reader.grant = '{"grant":"","signature":""}'
        refused = reader.ask(mirror.url, 0)
        self.assertNotEqual(refused.code, 0)
        self.assertEqual(segments_sent(mirror), 0)
        self.assertEqual(figure(mirror.http_url, "fc_segment_grants_refused_total"), 1)

    def test_an_end_is_told_and_a_death_is_noticed(self):
        def deaths():
            return figure(self.fcd.http_url, "fc_tracker_deaths_total")
        mirror = self.mirror("mortal")
        wait_for_state(self.admin, "mortal", "up")
        before = deaths()
        mirror.kill()
        wait_for_state(self.admin, "mortal", "dead")
        self.assertEqual(deaths(), before + 1)
        mirror.start()
        wait_for_state(self.admin, "mortal", "up")
        mirror.stop()
        self.assertEqual(sources(self.admin)["mortal"]["state"], "dead")
        self.assertEqual(deaths(), before + 1)  # it has said goodbye

    def test_a_mirror_that_hangs_is_dead_until_it_wakes(self):
        mirror = self.mirror("hanging")
        wait_for_state(self.admin, "hanging", "up")
        mirror.process.send_signal(signal.SIGSTOP)
        try:
            wait_for_state(self.admin, "hanging", "dead")
        finally:
            mirror.process.send_signal(signal.SIGCONT)
        wait_for_state(self.admin, "hanging", "up")

    def test_orders_of_the_operator(self):
        content, file = self.upload("ordered", MIB // 2)
        mirror = self.mirror("ordered")
        reader = Reader(self.reader, file)
        wait_for_state(self.admin, "ordered", "up")
        for order, state in (("stop", "stopped"), ("wake", "up"), ("drain", "draining")):
            self.admin.run("segment", order, "ordered")
            wait_for_state(self.admin, "ordered", state)
            if state == "up":
                self.assertEqual(reader.segment(mirror.url, 0), reader.expected(content, 0))
            else:
                wait_until(lambda: reader.ask(mirror.url, 0).code == UNREACHABLE, f"the mirror to be {state}")

    def test_a_segment_that_a_reader_complains_about_is_checked_and_fetched_anew(self):
        content, file = self.upload("rotten", MIB // 2)
        mirror = self.mirror("rotten")
        reader = Reader(self.reader, file)
        reader.segment(mirror.url, 0)
        wait_until(lambda: len(reader.holding(mirror.url)) == reader.count, "all of it to be there")
        with open(os.path.join(mirror.data, "segments", file["id"] + ".data"), "r+b") as data:
            data.seek(reader.chunk + 100)
            data.write(b"rot")
        self.assertNotEqual(reader.segment(mirror.url, 1), reader.expected(content, 1))
        source = sources(self.admin)["rotten"]
        source_id = base64.b64encode(bytes.fromhex(source["id"])).decode()
        self.reader.run("call", "fc.tracker.v1.Tracker/Report",
                        f'{{"sourceId":"{source_id}","incarnation":"{source["incarnation"]}","failure":"CORRUPT",'
                        f'"fileId":"{reader.id}","segment":"1"}}')
        wait_until(lambda: reader.segment(mirror.url, 1) == reader.expected(content, 1), "the segment to be right")

    def refused(self, fc, pattern, mode=0o600):
        with self.assertRaisesRegex(AssertionError, pattern):
            settings = "--role", "segment", "--origin", self.fcd.url, "--token-file", write_token(fc, mode)
            Fcd(*settings)

    def test_only_an_administrators_token_in_a_private_file_makes_one(self):
        self.refused(self.reader, "does not take this mirror: only an administrator")
        self.refused(self.admin, "chmod 600", mode=0o644)

    def test_with_tls_it_is_known_by_its_fingerprint(self):
        _, file = self.upload("sealed", MIB // 2)
        self.mirror("tls", "--listen", "tls+tcp://127.0.0.1:0")
        urls = wait_for_state(self.admin, "tls", "up")["urls"]
        self.assertTrue(any(url.startswith("tls+tcp://") for url in urls), urls)
        reader = Reader(self.reader, file)
        secure = next(url for url in urls if url.startswith("tls+tcp://"))
        self.assertNotEqual(reader.ask(secure, 0).code, 0)  # not known to fc

    def test_a_file_that_is_gone_is_not_served_to_new_readers(self):
        _, file = self.upload("gone", MIB // 2)
        mirror = self.mirror("gone")
        reader = Reader(self.reader, file)
        other = self.person("stranger")
        refused = other.try_run("call", "fc.filestore.v1.FileStore/GetGrant", f'{{"fileId":"{reader.id}"}}')
        self.assertEqual(refused.code, NOT_FOUND)
        self.assertEqual(reader.ask(mirror.url, reader.count).code, FAILED)  # there is no such segment


if __name__ == "__main__":
    unittest.main()
