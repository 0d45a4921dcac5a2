"""Admins who change a room at the same time: every change is in one log, and nobody sees another room than the others."""
import threading
import unittest

from fcd_process import DONE, limit
from room_people import AMEND, RoomTestCase


class Admins(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.anna, self.bert, self.carl = (self.person(name) for name in ("anna", "bert", "carl"))
        self.room_id = self.room("team", self.anna, "bert", "carl")
        self.anna.run("room", "amend", "team", "--role", "bert=admin,carl=admin")

    def at_once(self, *changes):
        """Runs fc for each (person, arguments); none reaches the server before all have made their entry."""
        gate = threading.Barrier(len(changes))
        results = [None] * len(changes)
        waited = threading.local()
        passed = []

        def on_request(method):
            # Each connection has a thread of its own in the proxy.
            if method == AMEND and not getattr(waited, "is_done", False) and len(passed) < len(changes):
                waited.is_done = True
                passed.append(method)
                gate.wait(limit(30))
        self.proxy.on_request = on_request

        def run(index, fc, arguments):
            results[index] = fc.try_run(*arguments, seconds=60)
        threads = [threading.Thread(target=run, args=(index, fc, arguments))
                   for index, (fc, arguments) in enumerate(changes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.proxy.on_request = None
        self.assertEqual(len(passed), len(changes))
        for result in results:
            self.assertEqual((result.code, result.stderr), (DONE, ""), repr(result))

    def members(self, fc):
        return {member["user"]: member["role"] for member in fc.run("room", "show", "team", "--json").object["members"]}

    def test_two_admins_add_and_remove_at_once(self):
        dora, emil = self.person("dora"), self.person("emil")
        change = lambda *arguments: ("room", "amend", "team", *arguments)
        self.at_once((self.anna, change("--add", "dora")), (self.bert, change("--add", "emil")))
        everybody = (self.anna, self.bert, self.carl, dora, emil)
        self.assert_one_fingerprint("team", *everybody)
        self.at_once((self.anna, change("--remove", "dora")), (self.bert, change("--remove", "emil")),
                     (self.carl, change("--topic", "what is left")))
        self.assertEqual(self.members(self.anna), {"anna": "owner", "bert": "admin", "carl": "admin"})
        # One log, with an epoch for each removal: 2 entries at the beginning, and one for each change.
        log = self.log_entries(self.room_id)
        self.assertEqual(len(log), 2 + 2 + 3)
        self.assertEqual([entry.rekey.epoch for entry in log if entry.HasField("rekey")], [1, 2, 3])
        for fc in (self.anna, self.bert, self.carl):
            fc.run("send", "team", "still one room")
            self.assertEqual(fc.run("audit", "team", "--json").object["log_entries"], len(log))
        self.assert_one_fingerprint("team", self.anna, self.bert, self.carl)
        self.assertEqual(len(self.assert_same_history("team", self.anna, self.bert, self.carl)), 3)
        for fc in (dora, emil):
            self.assert_shut_out(fc.try_run("history", "team"))

    def test_the_same_change_by_two(self):
        dora = self.person("dora")
        self.anna.run("room", "amend", "team", "--add", "dora")
        results = []
        threads = [threading.Thread(target=lambda fc=fc: results.append(fc.try_run("room", "amend", "team", "--remove", "dora")))
                   for fc in (self.anna, self.bert)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertIn(DONE, [result.code for result in results], results)
        self.assertNotIn("dora", self.members(self.carl))
        self.assert_shut_out(dora.try_run("history", "team"))
        self.assert_one_fingerprint("team", self.anna, self.bert, self.carl)


if __name__ == "__main__":
    unittest.main()
