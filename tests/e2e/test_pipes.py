"""Encrypted rooms in scripts: pipes, JSON, no colours, and text that means to drive a terminal."""
import json
import os
import subprocess
import unittest

from fcd_process import DONE, USAGE, limit
from room_people import RoomTestCase
from terminal import Terminal

HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b31m\u202eback\x1bc\r\nsecond\x08 line\x1b[?1049l\x00"


class Pipes(RoomTestCase):
    def setUp(self):
        super().setUp()
        self.anna, self.bert = self.person("anna"), self.person("bert")
        self.room("team", self.anna, "bert")

    def shell(self, fc, script):
        return subprocess.run(["bash", "-o", "pipefail", "-c", script], env={**fc.env, "FC": os.environ["FC"]}, cwd=fc.cwd, capture_output=True,
                              timeout=limit(30), check=False)

    def test_lines_go_in_and_objects_come_out(self):
        result = self.shell(self.anna, "printf 'a\\nb' | $FC send team - --json")
        self.assertEqual((result.returncode, result.stderr), (DONE, b""))
        self.assertEqual([json.loads(line)["seq"] for line in result.stdout.splitlines()], [1, 2])
        self.assertEqual(self.texts(self.bert, "team"), ["a", "b"])

    def test_a_reader_that_takes_one_line_ends_it(self):
        self.anna.run("send", "team", "-", stdin="\n".join("x" * 2000 + str(i) for i in range(100)).encode())
        result = self.shell(self.bert, "$FC history team --since 0 --json | head -1")
        self.assertEqual((result.returncode, result.stderr), (DONE, b""))
        self.assertEqual(json.loads(result.stdout)["seq"], 1)
        result = self.shell(self.bert, "$FC join team --since 0 --json | head -1")
        self.assertEqual((result.returncode, result.stderr), (DONE, b""))
        self.assertEqual(json.loads(result.stdout)["seq"], 1)

    def test_each_object_is_one_line_and_whole(self):
        self.anna.run("send", "team", "-", stdin=HOSTILE.replace("\x00", "").replace("\r\n", "\u2028").encode())
        self.anna.run("send", "team", "two\nlines")
        result = self.bert.run("history", "team", "--json")
        first, second = result.objects
        self.assertEqual(first["text"], HOSTILE.replace("\x00", "").replace("\r\n", "\u2028"))
        self.assertEqual(second["text"], "two\nlines")
        self.assertNotRegex(result.stdout.replace(b"\n", b""), rb"[\x00-\x1f\x7f]")

    def test_hostile_text_names_and_topics_drive_no_terminal(self):
        text = HOSTILE.replace("\x00", "")
        self.anna.run("send", "team", text)
        for command in (("history", "team"), ("search", "red"), ("unread",), ("join", "team", "--since", "0", "--count", "1")):
            with self.subTest(command=command):
                output = self.bert.run(*command).text
                self.assertNotRegex(output, "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
        self.assertIn(r"\x1b]0;title\x07", self.bert.run("history", "team").text)
        self.anna.write("x", b"x")
        for name in ("bell\x07", "esc\x1b[31m"):
            self.assert_fails(self.anna.try_run("upload", "x", "--room", "team", "--name", name), USAGE)
        with Terminal([os.environ["FC"], "history", "team"], env=self.bert.env) as terminal:
            self.assertEqual(terminal.wait(), DONE)
        for sequence in (b"\x1b]0;", b"\x1b[2J", b"\x1bc", b"\x07", b"\x1b[?1049l", "\x9b".encode()):
            self.assertNotIn(sequence, terminal.output)

    def test_colours_are_for_terminals_that_want_them(self):
        self.anna.run("send", "team", "hello")
        self.assertNotIn(b"\x1b", self.bert.run("history", "team").stdout)

        def shown(**env):
            with Terminal([os.environ["FC"], "history", "team"], env={**self.bert.env, **env}) as terminal:
                output = terminal.wait_for(b": hello")
                self.assertEqual(terminal.wait(), DONE)
                return output
        self.assertIn(b"\x1b[", shown())
        self.assertNotIn(b"\x1b[", shown(NO_COLOR="1"))


if __name__ == "__main__":
    unittest.main()
