"""Peers: members' machines that serve what they have to those who may read it."""
import os
import re
import shutil
import unittest

from fcd_process import CONFLICT, Fc, FcTestCase, NOT_FOUND, UNREACHABLE, running, wait_until
from swarm_processes import Reader, sources, wait_for_state

MIB = 1024 * 1024


class PeerTestCase(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = Fc(cls.fcd.url)  # the first account administers
        cls.addClassCleanup(cls.admin.close)
        cls.admin.sign_up("operator")

    def peer(self, name, *arguments):
        """A person with a peer that runs. Its URL is fc.peer_url."""
        fc = self.person(name)
        fc.name = name
        self.start(fc, *arguments)
        return fc

    def start(self, fc, *arguments):
        fc.peer_url = fc.run("peer", "start", "--json", *arguments).object["url"]
        self.addCleanup(fc.try_run, "peer", "stop")

    def status(self, fc):
        return fc.run("peer", "status", "--json").object

    def shared(self, fc):
        """What is shared and whole, by path."""
        return {file["path"]: file for file in self.status(fc)["shared"] if file["segments"] == file["held_segments"]}

    def upload(self, fc, name, size=MIB):
        content = os.urandom(size)
        fc.write(name, content)
        fc.run("upload", name)
        return content, fc.run("stat", name, "--json").object

    def source(self, fc):
        return next((source for name, source in sources(self.admin).items() if name.startswith(fc.name + "@")), None)

    def share_folder(self, name, size=MIB):
        """A person who has uploaded a file and shares the folder that it is in."""
        fc = self.person(name)
        fc.name = name
        os.mkdir(fc.path("shared"))
        content = os.urandom(size)
        fc.write("shared/film", content)
        fc.run("upload", "shared/film", "--name", "film")
        self.start(fc, fc.path("shared"))
        wait_until(lambda: self.shared(fc), "the folder to be looked through")
        return fc, content, Reader(fc, fc.run("stat", "film", "--json").object)


class Peers(PeerTestCase):
    def test_a_folder_is_shared(self):
        fc, content, reader = self.share_folder("anna")
        for index in range(reader.count):
            self.assertEqual(reader.segment(fc.peer_url, index), reader.expected(content, index))
        status = self.status(fc)
        self.assertTrue(status["is_announced"])
        self.assertEqual(status["sent_segments"], reader.count)
        (file,) = status["shared"]
        self.assertEqual((file["name"], file["path"]), ("film", os.path.realpath(fc.path("shared/film"))))
        source = wait_until(lambda: (found := self.source(fc)) and found["segments"] == reader.count and found,
                            "the tracker to know")
        self.assertEqual((source["kind"], source["state"], source["files"]), ("peer", "up", 1))

    def test_what_has_another_name_is_found_by_its_content(self):
        fc = self.person("bert")
        content, file = self.upload(fc, "original")
        folder = os.path.join(fc.cwd, "folder")
        os.mkdir(folder)
        fc.write("folder/copy", content)
        fc.write("folder/unknown", b"x" * 1000)
        self.start(fc, folder)
        wait_until(lambda: self.shared(fc), "the folder to be looked through")
        self.assertEqual(fc.run("peer", "update", "--json").object, {"shared": 1, "unknown": 1})
        reader = Reader(fc, file)
        self.assertEqual(reader.segment(fc.peer_url, 1), reader.expected(content, 1))

    def test_update_finds_what_is_new_and_what_is_gone(self):
        fc, content, _ = self.share_folder("carla")
        shutil.copy(fc.path("shared/film"), fc.path("shared/film2"))
        more = os.urandom(MIB // 2)
        fc.write("shared/later", more)
        self.assertEqual(fc.run("peer", "update", "--json").object["unknown"], 1)
        fc.run("upload", "shared/later", "--name", "later")
        self.assertEqual(fc.run("peer", "update", "--json").object["unknown"], 0)
        self.assertIn(os.path.realpath(fc.path("shared/later")), self.shared(fc))
        os.remove(fc.path("shared/later"))
        fc.run("peer", "update")
        self.assertNotIn(os.path.realpath(fc.path("shared/later")), self.shared(fc))
        self.assertEqual(len(content), MIB)

    def test_a_file_that_changed_is_served_no_more(self):
        fc, content, reader = self.share_folder("dora")
        self.assertEqual(reader.segment(fc.peer_url, 0), reader.expected(content, 0))
        with open(fc.path("shared/film"), "r+b") as file:
            file.seek(reader.chunk)
            file.write(b"something else")
        self.assertEqual(reader.ask(fc.peer_url, 0).code, NOT_FOUND)
        self.assertEqual(self.shared(fc), {})
        wait_until(lambda: (found := self.source(fc)) and found["segments"] == 0, "the tracker to know")

    def test_nothing_is_served_without_a_grant_of_this_server(self):
        fc, _, reader = self.share_folder("emil")
        grant = reader.grant
        for forged in ('{"grant":"","signature":""}', re.sub(r'"signature":"..', '"signature":"AA', grant)):
            reader.grant = forged
            self.assertNotEqual(reader.ask(fc.peer_url, 0).code, 0)
        _, other = self.upload(fc, "another")
        reader.grant = Reader(fc, other).grant
        self.assertNotEqual(reader.ask(fc.peer_url, 0).code, 0)
        self.assertEqual(self.status(fc)["sent_segments"], 0)

    def test_one_at_a_time_and_it_stops(self):
        fc = self.peer("fritz")
        self.assert_fails(fc.try_run("peer", "start"), CONFLICT, "runs already")
        wait_until(lambda: self.source(fc), "the tracker to know")
        fc.run("peer", "stop")
        self.assertNotEqual((self.source(fc) or {"state": "gone"})["state"], "up")
        self.assert_fails(fc.try_run("peer", "status"), NOT_FOUND, "no peer of this account runs")
        self.assert_fails(fc.try_run("peer", "end"), NOT_FOUND)
        self.start(fc)
        fc.run("peer", "end")

    def test_it_starts_again_after_an_end_without_warning(self):
        fc = self.person("gerd")
        with running(fc.start("peer", "start", "--foreground")) as process:
            self.assertIn(b"shares files", process.stdout.readline())
            process.kill()
        self.assert_fails(fc.try_run("peer", "status"), NOT_FOUND, "no peer of this account runs")
        self.start(fc)
        self.status(fc)

    def test_what_was_shared_is_shared_after_a_restart(self):
        fc, content, reader = self.share_folder("greta")
        fc.run("peer", "stop")
        self.start(fc)  # without the folder
        self.assertEqual(len(self.shared(fc)), 1)
        self.assertEqual(reader.segment(fc.peer_url, 2), reader.expected(content, 2))
        fc.run("peer", "stop")
        fc.write("shared/film", os.urandom(MIB))
        self.start(fc)
        wait_until(lambda: self.shared(fc) == {}, "the change to be noticed")

    def test_uploads_are_limited(self):
        fc, _, reader = self.share_folder("hans", 2 * MIB)
        fc.run("peer", "stop")
        self.start(fc, "--limit-rate", "1M")
        self.assertEqual(self.status(fc)["limit_bytes_per_s"], MIB)
        self.assertEqual(len(reader.segment(fc.peer_url, 0)), reader.chunk)

    def test_mistakes_are_told_in_the_terminal(self):
        fc = self.person("ida")
        self.assert_fails(fc.try_run("peer", "start", "/nonexistent"), NOT_FOUND, "cannot be shared")
        self.assert_fails(fc.try_run("peer", "start", "--listen", "tcp://0.0.0.0:0"), 2, "without encryption")
        stranger = Fc("tcp://127.0.0.1:1", FC_TOKEN="fct_" + "x" * 43)
        self.addCleanup(stranger.close)
        self.assert_fails(stranger.try_run("peer", "start"), UNREACHABLE)

    def test_with_tls_and_in_the_foreground(self):
        fc = self.person("jana")
        process = fc.start("peer", "start", "--foreground", "--json", "--listen", "tls+tcp://127.0.0.1:0")
        try:
            line = process.stdout.readline().decode()
            self.assertIn("tls+tcp://127.0.0.1:", line)
            fc.name = "jana"
            wait_until(lambda: (found := self.source(fc)) and found["state"] == "up", "the tracker to reach it")
            fc.run("peer", "stop")
            self.assertEqual(process.wait(60), 0)
        finally:
            process.kill()
            process.communicate()


class Downloads(PeerTestCase):
    fcd_options = "--limit-rate", "1M"  # so that a download takes its time

    def test_a_download_is_shared_while_it_arrives_and_afterwards(self):
        uploader = self.person("karl")
        content, file = self.upload(uploader, "series", 4 * MIB)
        fc = self.peer("lena")
        uploader.run("share", "series", "@lena")
        reader = Reader(fc, file)
        with running(fc.start("download", file["id"], "-o", "series")) as download:
            wait_until(lambda: self.status(fc)["shared"], "the peer to hear of the download")
            held = wait_until(lambda: reader.holding(fc.peer_url), "the peer to have something")
            self.assertIsNone(download.poll(), "the download is still under way")
            index = min(held)
            self.assertEqual(reader.segment(fc.peer_url, index), reader.expected(content, index))
            self.assertEqual(download.wait(120), 0)
        wait_until(lambda: os.path.realpath(fc.path("series")) in self.shared(fc), "the whole file to be shared")
        self.assertEqual(reader.segment(fc.peer_url, reader.count - 1), reader.expected(content, reader.count - 1))
        fc.run("peer", "stop")
        self.start(fc)
        self.assertEqual(reader.segment(fc.peer_url, 0), reader.expected(content, 0))


if __name__ == "__main__":
    unittest.main()
