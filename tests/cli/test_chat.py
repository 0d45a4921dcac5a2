"""fc chat: rooms and messages on a full screen, as a person sees them."""
import os
import re
import signal
import unittest

from fcd_process import DONE, USAGE, FcTestCase, limit
from screen import FullScreen, new_terminal_modes

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-79]|4[0-79]|9[0-7]|10[0-7])(?:;\d+)*m")
PAGE_UP, PAGE_DOWN, UP, ALT_UP, ALT_DOWN = b"\x1b[5~", b"\x1b[6~", b"\x1bOA", b"\x1b[1;3A", b"\x1b[1;3B"


class ChatTestCase(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.room, self.other = f"kitchen{number}", f"attic{number}"
        self.alice_name, self.bob_name = f"alice{number}", f"bob{number}"
        self.alice, self.bob = self.person(self.alice_name), self.person(self.bob_name)
        self.modes = new_terminal_modes()
        for room in (self.room, self.other):
            self.alice.run("room", "create", room, "--plain")

    def bob_joins(self, *rooms):
        for room in rooms:
            self.alice.run("send", room, "welcome")
            self.bob.run("join", room, "--since", "0", "--count", "1")

    def chat(self, fc, *arguments, **options):
        env = {**fc.env, **options.pop("env", {})}
        return FullScreen([os.environ["FC"], "chat", *arguments], env=env, cwd=fc.cwd, **options)

    def open(self, fc, *arguments, **options):
        screen = self.enterContext(self.chat(fc, *arguments, **options))
        screen.shows(": connected")
        screen.shows(self.room)
        return screen

    def leave(self, screen, keys=b"\x03"):
        """It ends with 0, and the terminal is as it was."""
        screen.type(keys)
        self.assertEqual(screen.wait(), DONE)
        self.assert_given_back(screen)

    def assert_given_back(self, screen):
        self.assertEqual(screen.modes(), self.modes)
        self.assertIn(b"\x1b[?1049l", screen.output)
        for mode in (b"?2004", b"?1006;1000"):
            self.assertGreater(screen.output.rfind(b"\x1b[%sl" % mode), screen.output.rfind(b"\x1b[%sh" % mode), mode)


class Talking(ChatTestCase):
    def test_two_people_talk(self):
        self.bob_joins(self.room)
        alice, bob = self.open(self.alice, self.room), self.open(self.bob, self.room)
        alice.enter("good morning")
        bob.shows(f"{self.alice_name}: good morning")
        bob.enter("grüße, 日本 👍")
        alice.shows(f"{self.bob_name}: grüße, 日本 👍")
        self.assertEqual(self.alice.run("history", self.room, "--json").objects[-1]["text"], "grüße, 日本 👍")
        bob.enter("/me waves")
        alice.shows(f"* {self.bob_name} waves")
        for screen in (alice, bob):
            self.leave(screen)

    def test_what_is_done_to_messages(self):
        self.bob_joins(self.room)
        alice, bob = self.open(self.alice, self.room), self.open(self.bob, self.room)
        alice.enter("are we their yet")
        bob.shows("#2 ")
        bob.enter("/reply 2 no")
        alice.shows(f"> #2 {self.alice_name}: are we their yet")
        alice.enter("/edit 2 are we there yet")
        bob.shows(f"#2 {self.alice_name}: are we there yet (edited)")
        bob.shows(f"> #2 {self.alice_name}: are we there yet (edited)")
        bob.enter("/react 2 +1")
        for screen in (alice, bob):
            screen.shows(f"[+1 {self.bob_name}]")
        bob.enter("/react 2 +1")
        alice.shows_no(f"[+1 {self.bob_name}]")
        bob.enter("/delete 3")
        alice.shows("(deleted)")
        alice.enter("/delete 1x")
        alice.shows("usage: /delete SEQ")

    def test_unread_messages_and_mentions(self):
        self.bob_joins(self.room, self.other)
        bob = self.open(self.bob, self.room)
        list_row = lambda screen: next((row[:24] for row in screen.rows if row.startswith(self.other)), "")
        bob.wait_until(lambda screen: re.search(r"\b1$", list_row(screen)), "the welcome to be unread")
        self.alice.run("send", self.other, "one more")
        bob.wait_until(lambda screen: re.search(r" 2$", list_row(screen)), "two unread ones")
        self.alice.run("send", self.other, f"@{self.bob_name} look")
        bob.wait_until(lambda screen: re.search(r"@3$", list_row(screen)), "a mention")
        bob.type(b"\x10")  # Ctrl-P
        bob.shows(f"@{self.bob_name} look")
        bob.wait_until(lambda screen: list_row(screen).strip() == self.other, "everything to be read")
        # Also when it looks the next time.
        self.leave(bob)
        bob = self.open(self.bob, self.room)
        bob.wait_until(lambda screen: list_row(screen).strip() == self.other, "nothing to be unread")

    def test_somebody_is_typing(self):
        self.bob_joins(self.room)
        alice, bob = self.open(self.alice, self.room), self.open(self.bob, self.room)
        bob.type(b"hel")
        alice.shows(f"{self.bob_name} is typing")
        bob.type(b"lo\r")
        alice.shows(f"{self.bob_name}: hello")
        alice.shows_no("is typing")

    def test_direct_rooms(self):
        alice, bob = self.open(self.alice, self.room), self.enterContext(self.chat(self.bob))
        bob.shows("connected")
        bob.shows("you are in no room yet")
        alice.enter(f"/dm {self.bob_name}")
        alice.wait_until(lambda screen: screen.rows[0][25:].startswith(f"@{self.bob_name}"), "the direct room")
        alice.enter("psst")
        bob.shows(f"@{self.alice_name}", seconds=40)
        bob.shows("psst")
        bob.enter("what?")
        alice.shows("what?")

    def test_encrypted_rooms(self):
        den = "den" + self.room
        alice, bob = self.open(self.alice, self.room), self.enterContext(self.chat(self.bob))
        bob.shows(": connected")
        alice.enter(f"/create {den}")
        alice.wait_until(lambda screen: screen.rows[0][25:] == den, "the new room")
        alice.enter(f"/invite {self.bob_name}")
        alice.shows("invited")
        bob.shows("invited", seconds=40)
        bob.enter(f"/join {den}")
        bob.wait_until(lambda screen: screen.rows[0][25:] == den, "the room")
        alice.enter("behind the sofa")
        bob.shows(f"{self.alice_name}: behind the sofa", seconds=40)
        bob.enter(f"@{self.alice_name} got it")
        alice.shows("got it")
        self.bob.write("map.bin", b"here")
        bob.enter("/file map.bin")
        alice.shows("[file map.bin, 4 B]", seconds=40)
        alice.enter("/get map.bin")
        alice.shows("map.bin is in the current folder", seconds=40)
        self.assertEqual(self.alice.read("map.bin"), b"here")
        alice.enter("/search sofa")
        alice.shows(f"  {den} #1 {self.alice_name}: behind the sofa")
        alice.enter(f"/verify {self.bob_name}")
        number = self.bob.run("verify", self.alice_name).text.split("\n")[0]
        alice.shows(number)

    def test_files(self):
        self.bob_joins(self.room)
        content = os.urandom(1 << 20)
        self.alice.write("plan.bin", content)
        alice, bob = self.open(self.alice, self.room), self.open(self.bob, self.room)
        alice.enter("/file plan.bin")
        alice.shows("plan.bin is sent", seconds=40)
        bob.shows("[file plan.bin, 1.0 MiB]")
        bob.enter("/get plan.bin")
        bob.shows("plan.bin is in the current folder", seconds=40)
        self.assertEqual(self.bob.read("plan.bin"), content)
        bob.enter("/get plan.bin")
        bob.shows("here already")
        bob.enter("/file nothing.here")
        bob.shows("nothing.here")


class FindingTheWay(ChatTestCase):
    def test_rooms_are_changed_by_keys_and_by_the_mouse(self):
        alice = self.open(self.alice, self.room)
        shown = lambda screen: screen.rows[0][25:].split(" ")[0]
        self.assertEqual(shown(alice), self.room)
        alice.type(b"draft")
        for keys, room in ((b"\x0e", self.other), (ALT_UP, self.room), (ALT_DOWN, self.other), (b"\x10", self.room)):
            alice.type(keys)
            alice.wait_until(lambda screen, room=room: shown(screen) == room, f"{room} after {keys!r}")
            alice.wait_until(lambda screen, room=room: ("> draft" in screen.text) == (room == self.room), "its draft")
        row, column = alice.find(self.other)
        alice.click(row, column)
        alice.wait_until(lambda screen: shown(screen) == self.other, "the room that was clicked")

    def test_completion(self):
        self.bob_joins(self.room)
        alice = self.open(self.alice, self.room)
        alice.shows(f"{self.alice_name}: welcome")
        alice.type(b"/memb\t")
        alice.shows("> /members")
        alice.type(b"\r")
        alice.shows(f"{self.bob_name}  member")
        alice.type(b"hi @bob\t")
        alice.shows(f"> hi @{self.bob_name}")
        alice.type(b"there\r")
        alice.shows(f"{self.alice_name}: hi @{self.bob_name} there")
        alice.type(b"/join att\t\r")
        alice.wait_until(lambda screen: screen.rows[0][25:].startswith(self.other), "the other room")

    def test_rooms_that_are_entered_and_left(self):
        bob = self.enterContext(self.chat(self.bob))
        bob.shows("you are in no room yet")
        bob.enter("hello?")
        bob.shows("there is no room here")
        bob.type(b"\x15")
        bob.enter(f"/join {self.room}")
        bob.wait_until(lambda screen: screen.rows[0][25:].startswith(self.room), "the room")
        bob.enter("/create den{0} plain".format(self.room))
        bob.wait_until(lambda screen: screen.rows[0][25:].startswith("den"), "the new room")
        bob.enter("/topic where the lion sleeps")
        bob.wait_until(lambda screen: "where the lion sleeps" in screen.rows[0], "the topic")
        bob.enter("/leave")
        bob.wait_until(lambda screen: screen.rows[0][25:].startswith(self.room), "the room that is left")
        bob.enter("/jion x")
        bob.shows("there is no command /jion")
        bob.type(b"\x15")
        bob.enter("/help")
        bob.shows("/verify USER")
        self.leave(bob, b"/quit\r")

    def test_scrolling_back(self):
        self.alice.run("send", self.room, "-", stdin="\n".join(f"m{i}." for i in range(1, 301)).encode())
        alice = self.open(self.alice, self.room)
        alice.shows("m300.")
        self.assertNotIn("m100.", alice.text)
        alice.type(PAGE_UP)
        alice.shows("(older messages")
        alice.shows_no("m300.")
        self.alice.run("send", self.room, "m301.")
        for _ in range(40):  # past the 200 that it began with, to the first one
            alice.type(PAGE_UP)
        alice.wait_until(lambda screen: screen.type(PAGE_UP) or ": m1." in screen.text, "the first message", seconds=40)
        alice.click(10, 50, button=65)  # the wheel, down
        alice.shows_no(": m1.")
        alice.type(b"\x1b")  # to the end
        alice.shows("m301.")
        alice.shows_no("(older messages")

    def test_history_of_what_was_typed(self):
        alice = self.open(self.alice, self.room)
        alice.enter("first")
        alice.shows("#1 ")
        alice.type(b"half" + UP)
        alice.shows("> first")
        alice.type(b"\x1bOB")
        alice.shows("> half")

    def test_several_lines_that_are_pasted_are_one_message(self):
        alice = self.open(self.alice, self.room)
        alice.type(b"\x1b[200~one\rtwo\x1b[201~")
        alice.shows("> one|two")
        alice.type(b"\r")
        alice.shows("#1 ")
        self.assertEqual(self.alice.run("history", self.room, "--json").object["text"], "one\ntwo")


class OnTheTerminal(ChatTestCase):
    def test_other_sizes(self):
        alice = self.open(self.alice, self.room)
        alice.enter("the quick brown fox jumps over the lazy dog, again and again and again")
        alice.shows("#1 ")
        for columns, rows in ((40, 12), (120, 40), (20, 6), (1, 1), (7, 3), (100, 24)):
            alice.resize(columns, rows)
            if rows >= 6:
                alice.shows("connected"[:min(9, columns - len(self.alice_name) - 2)])
                alice.wait_until(lambda screen: "again" in screen.text, f"the end at {columns} x {rows}")
            bar = alice.rows[-1]
            self.assertLessEqual(len(bar), columns)
        alice.shows("the quick brown fox")
        alice.enter("still here")
        alice.shows(f"{self.alice_name}: still here")

    def test_what_others_write_drives_no_terminal(self):
        self.bob_joins(self.room)
        hostile = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m\u202eback\x1bc\r\nsecond\x08 line\x1b[?1049l"
        bob = self.open(self.bob, self.room, columns=160)
        before = len(bob.output)
        self.alice.run("send", self.room, hostile)
        self.alice.run("send", self.room, "after")
        bob.shows(": after")
        self.assertIn(r"\x1b]0;title\x07\x1b[2J\x1b[31mred", bob.text)
        self.assertIn(r"\u{202e}back", bob.text)
        self.assertEqual(bob.screen.titles, [])
        for sequence in (b"\x1b]0;", b"\x1b[2J", b"\x1bc", b"\x07", b"\x1b[?1049l", "\x9b".encode()):
            self.assertNotIn(sequence, bob.output[before:])
        self.assertIn(self.room, bob.rows[0])
        # A second line does not look like a message of somebody else's.
        row, column = bob.find("second")
        self.assertGreaterEqual(column, 25 + 8)

    def test_colours(self):
        self.bob_joins(self.room)
        bob = self.open(self.bob, self.room)
        bob.shows("welcome")
        self.assertTrue(COLOUR.search(bob.output))
        colour = bob.look(f"{self.alice_name}: welcome").fg
        self.assertNotEqual(colour, "default")
        self.leave(bob)
        bob = self.open(self.bob, self.room)
        bob.shows("welcome")
        self.assertEqual(bob.look(f"{self.alice_name}: welcome").fg, colour)

    def test_no_colours(self):
        self.bob_joins(self.room)
        for options in ({"env": {"NO_COLOR": "1"}}, {"term": "vt100"}):
            bob = self.open(self.bob, self.room, **options)
            bob.shows("welcome")
            self.assertIsNone(COLOUR.search(bob.output), options)

    def test_signals_give_the_terminal_back(self):
        for number, code in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP),
                             (signal.SIGINT, DONE), (signal.SIGABRT, -signal.SIGABRT)):
            with self.subTest(signal=number), self.chat(self.alice, self.room) as alice:
                alice.shows(": connected")
                alice.process.send_signal(number)
                self.assertEqual(alice.wait(), code)
                self.assert_given_back(alice)

    def test_it_can_be_stopped_for_a_while(self):
        script = '"$FC" chat "$0"; echo it has stopped; read -r; fg'
        with FullScreen(["bash", "--norc", "--noprofile", "-ic", script, self.room], env=self.alice.env,
                        cwd=self.alice.cwd) as alice:
            alice.shows(": connected")
            alice.type(b"\x1a")  # Ctrl-Z
            alice.shows("it has stopped")
            self.assertTrue(alice.echoes())
            alice.type(b"\n")
            alice.shows(": connected")
            alice.enter("and on")
            alice.shows(f"{self.alice_name}: and on")
            alice.type(b"\x03")
            self.assertEqual(alice.wait(), DONE)

    def test_without_a_terminal(self):
        self.assert_fails(self.alice.try_run("chat"), USAGE, "terminal")
        with self.chat(self.alice, streams=("stdin", "stderr"), stdout=-1) as screen:
            stdout, _ = screen.process.communicate(timeout=limit(20))
            self.assertEqual((screen.process.returncode, stdout), (USAGE, b""))

    def test_an_unknown_terminal(self):
        with self.chat(self.alice, term="no-such-terminal") as screen:
            self.assertNotEqual(screen.wait(), DONE)
            self.assertIn(b"fc chat: ", screen.output)
            self.assertEqual(screen.modes(), self.modes)


class WithoutServer(ChatTestCase):
    def test_a_server_that_restarts_while_somebody_types(self):
        self.bob_joins(self.room)
        alice = self.open(self.alice, self.room)
        alice.shows("welcome")
        self.fcd.kill()
        alice.shows("reconnecting since", seconds=40)
        # Nothing freezes meanwhile.
        alice.type(b"are you th")
        alice.shows("> are you th", seconds=5)
        alice.type(b"ere?\r")
        alice.shows("... ", seconds=5)
        alice.shows(f"{self.alice_name}: are you there?", seconds=5)
        alice.type(b"\x0e")
        alice.wait_until(lambda screen: screen.rows[0][25:].startswith(self.other), "the other room", seconds=5)
        alice.type(b"\x10")
        alice.shows("are you there?", seconds=5)
        alice.shows("1 to be sent")
        self.fcd.start()
        alice.shows(": connected", seconds=60)
        alice.shows("#2 ", seconds=60)
        alice.shows_no("... ")
        texts = [message["text"] for message in self.bob.run("history", self.room, "--json").objects]
        self.assertEqual(texts, ["welcome", "are you there?"])
        self.leave(alice)

    def test_it_opens_without_a_server(self):
        self.alice.run("send", self.room, "from before")
        self.leave(self.open(self.alice, self.room))
        self.fcd.stop()
        try:
            with self.chat(self.alice, self.room) as alice:
                alice.shows("from before")
                alice.shows("reconnecting since", seconds=40)
                alice.enter("for later")
                alice.shows(f"{self.alice_name}: for later")
                alice.shows("it will be sent when the server is back", seconds=60)
                self.leave(alice)
            with self.chat(self.alice, self.room) as alice:
                alice.shows("1 to be sent")
        finally:
            self.fcd.start()
        with self.chat(self.alice, self.room) as alice:
            alice.shows(f"#2 {self.alice_name}: for later", seconds=40)
            alice.shows_no("to be sent")


if __name__ == "__main__":
    unittest.main()
