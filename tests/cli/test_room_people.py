"""Who is in a room and what they may do: fc room create, show, amend, transfer, fingerprint, invite, join, leave, audit."""
import unittest

from fcd_process import CONFLICT, DONE, FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, FcTestCase

LINK = r"\Afc://j/[0-9a-f]{32}#[A-Za-z0-9_-]{43}\n\Z"
KINDS = (("encrypted", ()), ("plain", ("--plain", "--private")))


class People(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.alice, self.bob, self.carol = (self.person(self.name(name)) for name in ("alice", "bob", "carol"))

    def name(self, first):
        return f"{first}{self.number}"

    def names(self, *first):
        return ",".join(self.name(name) for name in first)

    def create(self, kind, *options):
        """A room with alice as its owner, in each kind's way."""
        room = f"{kind}{self.number}"
        self.alice.run("room", "create", room, *dict(KINDS)[kind], *options)
        return room

    def members(self, fc, room):
        shown = fc.run("room", "show", room, "--json").object
        return {member["user"]: "invited" if member["is_invited"] else member["role"] for member in shown["members"]}

    def texts(self, fc, room):
        return [message["text"] for message in fc.run("history", room, "--json", "--limit", "0").objects]

    def test_create_with_members_and_a_topic(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind, "--member", self.names("bob", "carol"), "--topic", "red \x1b[31m")
                self.assertEqual(self.members(self.bob, room), {self.name("alice"): "owner", self.name("bob"): "member",
                                                                self.name("carol"): "member"})
                shown = self.carol.run("room", "show", room).text
                self.assertRegex(shown, rf"(?m)^room      {room}$")
                self.assertRegex(shown, r"(?m)^topic     red \\x1b\[31m$")
                self.assertRegex(shown, rf"(?m)^member    owner   {self.name('alice')}$")
                self.assertRegex(shown, "(?m)^kind      private, " + ("encrypted" if kind == "encrypted" else "readable"))
                self.alice.run("send", room, "for all of us")
                self.assertEqual(self.texts(self.carol, room), ["for all of us"])

    def test_lists_may_be_given_several_times(self):
        room = f"lists{self.number}"
        self.alice.run("room", "create", room, "--member", self.name("bob"), "--member", self.name("carol"))
        self.assertEqual(len(self.members(self.alice, room)), 3)

    def test_create_refuses_what_makes_no_sense(self):
        room = f"x{self.number}"
        self.assert_fails(self.alice.try_run("room", "create", room, "--member", "nobody-of-that-name"), NOT_FOUND, "nobody")
        self.assert_fails(self.alice.try_run("room", "create", room, "--member", "a,,b"), USAGE, "--member")
        self.assert_fails(self.alice.try_run("room", "create", room, "--history", "some"), USAGE, "--history")
        self.assert_fails(self.alice.try_run("room", "create", room, "--plain", "--history", "joined"), USAGE, "encrypted")
        self.assert_fails(self.alice.try_run("room", "show", room), NOT_FOUND, room)

    def test_history_joined_hides_what_was_before(self):
        for history, expected in (("all", ["before", "after"]), ("joined", ["", "after"])):
            with self.subTest(history=history):
                room = f"{history}{self.number}"
                self.alice.run("room", "create", room, "--history", history)
                self.alice.run("send", room, "before")
                self.alice.run("room", "amend", room, "--add", self.name("bob"))
                self.alice.run("send", room, "after")
                self.assertEqual(self.texts(self.bob, room), expected)
        first = self.bob.run("history", f"joined{self.number}", "--json").objects[0]
        self.assertRegex(first["unreadable"], r"\w")
        self.assertRegex(self.bob.run("history", f"joined{self.number}").text, r"alice\d+: \[cannot be read: \w.*\]\n")

    def test_amend_does_all_at_once(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind, "--member", self.name("bob"))
                result = self.alice.run("room", "amend", room, "--add", self.name("carol"), "--topic", "plans", "--role",
                                        f"{self.name('bob')}=admin", "--name", f"new-{room}")
                self.assertEqual(result.stdout, b"")
                room = f"new-{room}"
                self.assertEqual(self.members(self.carol, room), {self.name("alice"): "owner", self.name("bob"): "admin",
                                                                  self.name("carol"): "member"})
                self.assertEqual(self.alice.run("room", "show", room, "--json").object["topic"], "plans")
                self.assert_fails(self.carol.try_run("room", "amend", room, "--topic", "mine"), NOT_ALLOWED)
                self.assert_fails(self.alice.try_run("room", "amend", room, "--add", "nobody-here", "--topic", "x"), NOT_FOUND)
                self.assertEqual(self.alice.run("room", "show", room, "--json").object["topic"], "plans")

    def test_amend_refuses_what_makes_no_sense(self):
        room = self.create("encrypted")
        self.assert_fails(self.alice.try_run("room", "amend", room), USAGE, "what is to change")
        self.assert_fails(self.alice.try_run("room", "amend", room, "--archive", "--revive"), USAGE, "exclude")
        self.assert_fails(self.alice.try_run("room", "amend", room, "--role", self.name("bob")), USAGE, "USER=ROLE")
        self.assert_fails(self.alice.try_run("room", "amend", room, "--role", "bob=king"), USAGE, "king")
        self.assert_fails(self.alice.try_run("room", "amend", "nowhere", "--topic", "x"), NOT_FOUND)

    def test_who_is_removed_reads_and_writes_no_more(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind, "--member", self.names("bob", "carol"))
                self.alice.run("send", room, "before")
                self.assertEqual(self.texts(self.bob, room), ["before"])
                self.alice.run("room", "amend", room, "--remove", self.name("bob"))
                self.alice.run("send", room, "after")
                self.assertIn(self.bob.try_run("send", room, "x").code, (NOT_ALLOWED, NOT_FOUND))
                self.assertIn(self.bob.try_run("history", room).code, (NOT_ALLOWED, NOT_FOUND))
                self.assertEqual(self.bob.run("history", room, "--offline", "--json").object["text"], "before")
                self.assertEqual(self.texts(self.carol, room), ["before", "after"])

    def test_archive_and_revive(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind)
                self.alice.run("room", "amend", room, "--archive")
                self.assertRegex(self.alice.run("room", "list").text, rf"{room}  \(archived\)")
                self.assert_fails(self.alice.try_run("send", room, "x"), FAILED)
                self.alice.run("room", "amend", room, "--revive")
                self.alice.run("send", room, "x")

    def test_rekey(self):
        room = self.create("encrypted", "--member", self.name("bob"))
        self.alice.run("send", room, "one")
        self.alice.run("room", "amend", room, "--rekey")
        self.alice.run("send", room, "two")
        self.assertEqual(self.texts(self.bob, room), ["one", "two"])

    def test_transfer(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind, "--member", self.name("bob"))
                self.assert_fails(self.alice.try_run("leave", room), FAILED)
                self.assert_fails(self.alice.try_run("room", "transfer", room, self.name("alice")), USAGE, "somebody else")
                self.assert_fails(self.bob.try_run("room", "transfer", room, self.name("bob")), USAGE)
                self.alice.run("room", "transfer", room, self.name("bob"))
                self.assertEqual(self.members(self.bob, room), {self.name("alice"): "admin", self.name("bob"): "owner"})
                self.alice.run("leave", room)
                self.assertEqual(self.members(self.bob, room), {self.name("bob"): "owner"})

    def test_invitations(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind)
                self.alice.run("send", room, "welcome")
                self.assertEqual(self.alice.run("invite", room, self.name("bob"), self.name("carol")).stdout, b"")
                self.assertEqual(self.members(self.alice, room)[self.name("bob")], "invited")
                self.assertRegex(self.bob.run("room", "list").text, rf"(?m)^  .*  {room}  \(invited\)$")
                self.assertIn(room, {one["room"] for one in self.bob.run("unread", "--json").objects if one["is_invited"]})
                joined = self.bob.run("join", room, "--no-follow", "--json").object
                self.assertEqual((joined["room"], joined["is_member"]), (room, True))
                self.bob.run("join", room, "--no-follow")
                self.assertEqual(self.texts(self.bob, room), ["welcome"])
                self.carol.run("leave", room)
                self.assertEqual(set(self.members(self.alice, room)), {self.name("alice"), self.name("bob")})

    def test_invite_refuses_what_makes_no_sense(self):
        room = self.create("encrypted")
        for options, pattern in (((), "who"), ((self.name("bob"), "--uses", "1"), "--link"),
                                 ((self.name("bob"), "--link"), "without --link"), (("--link", "--uses", "0"), "--uses"),
                                 (("--link", "--uses", "4294967296"), "--uses"), (("--link", "--expires", "7"), "--expires"),
                                 (("--link", "--expires", "0d"), "--expires"), (("--link", "--role", "owner"), "transfer"),
                                 (("--link", "--role", "boss"), "boss")):
            with self.subTest(options=options):
                self.assert_fails(self.alice.try_run("invite", room, *options), USAGE, pattern)
        self.assert_fails(self.alice.try_run("invite", room, "nobody-here"), NOT_FOUND)

    def test_links(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind)
                self.alice.run("send", room, "welcome")
                made = self.alice.run("invite", room, "--link", "--uses", "1", "--expires", "7d", "--json").object
                self.assertEqual((made["room"], made["role"], made["max_uses"]), (room, "member", 1))
                self.assertRegex(made["link"] + "\n", LINK)
                listed = self.alice.run("invite", "ls", room, "--json").object
                self.assertEqual((listed["use_count"], listed["max_uses"], listed["expires_at"]), (0, 1, made["expires_at"]))
                self.assertIn(listed["id"], made["link"])
                self.assertIn(listed["id"], self.alice.run("room", "show", room).text)
                self.bob.run("join", "-", "--no-follow", stdin=made["link"].encode() + b"\r\n")
                self.assertEqual(self.texts(self.bob, room), ["welcome"])
                self.assert_fails(self.carol.try_run("join", made["link"], "--no-follow"), NOT_ALLOWED)
                self.assertEqual(self.alice.run("invite", "ls", room).stdout, b"")

    def test_what_follows_a_link_on_standard_input_is_sent(self):
        room = self.create("encrypted")
        link = self.alice.run("invite", room, "--link").stdout
        self.assertRegex(link.decode(), LINK)
        result = self.bob.run("join", "-", "--count", "2", "--json", stdin=link + b"hello\nagain")
        self.assertEqual([message["text"] for message in result.objects], ["hello", "again"])

    def test_a_link_can_be_revoked(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind)
                link = self.alice.run("invite", room, "--link", "--role", "admin").text.strip()
                link_id = self.alice.run("invite", "ls", room, "--json").object["id"]
                self.alice.run("invite", "revoke", room, link_id)
                self.assertEqual(self.alice.run("invite", "ls", room).stdout, b"")
                self.assertIn(self.bob.try_run("join", link, "--no-follow").code, (NOT_ALLOWED, NOT_FOUND))
                self.assert_fails(self.alice.try_run("invite", "revoke", room, link_id), NOT_FOUND)
                self.assert_fails(self.alice.try_run("invite", "revoke", room, "xyz"), USAGE)

    def test_links_that_are_none(self):
        for link in ("fc://j/xyz", "fc://j/" + "0" * 32 + "#short", "https://example.org/", "fc://j/" + "0" * 32 + "#" + "A" * 1000):
            with self.subTest(link=link):
                self.assert_fails(self.bob.try_run("join", "-", "--no-follow", stdin=link.encode()), USAGE)
        self.assert_fails(self.bob.try_run("join", "-", "--no-follow", stdin=b""), USAGE, "link")
        self.assert_fails(self.bob.try_run("join", "-", "--no-follow", stdin=b"kitchen\n"), USAGE, "link")

    def test_only_admins_make_links_and_see_them(self):
        for kind, _ in KINDS:
            with self.subTest(kind=kind):
                room = self.create(kind, "--member", self.name("bob"))
                self.alice.run("invite", room, "--link")
                self.assert_fails(self.bob.try_run("invite", room, "--link"), NOT_ALLOWED)
                self.assertNotIn("link", self.bob.run("room", "show", room).text)

    def test_fingerprint_and_audit(self):
        room = self.create("encrypted", "--member", self.name("bob"))
        self.alice.run("send", room, "one")
        self.bob.run("send", room, "two")
        mine = self.alice.run("room", "fingerprint", room).text
        self.assertRegex(mine, r"\A(\d{5} ){11}\d{5}\n\Z")
        self.assertEqual(self.bob.run("room", "fingerprint", room, "--json").object["fingerprint"], mine.strip())
        audit = self.bob.run("audit", room, "--json").object
        self.assertEqual((audit["room"], audit["messages"], audit["unreadable"]), (room, 2, 0))
        self.assertEqual(audit["fingerprint"], mine.strip())
        self.assertRegex(self.alice.run("audit").text, rf"(?m)^{room}: \d+ log entries and 2 messages are sound$")
        self.alice.run("room", "amend", room, "--add", self.name("carol"))
        self.assertNotEqual(self.alice.run("room", "fingerprint", room).text, mine)
        self.assert_fails(self.alice.try_run("audit", "nowhere"), NOT_FOUND)

    def test_a_room_may_be_called_as_a_word_of_ours(self):
        self.alice.run("room", "create", "ls")
        self.alice.run("send", "ls", "x")
        self.assert_fails(self.alice.try_run("invite", "ls", self.name("bob")), NOT_FOUND)  # the links of a room
        room_id = self.alice.run("room", "show", "ls", "--json").object["id"]
        self.alice.run("invite", room_id, self.name("bob"))

    def test_names_of_rooms_are_taken_once(self):
        room = self.create("encrypted")
        self.assert_fails(self.bob.try_run("room", "create", room), CONFLICT)
        self.assert_fails(self.bob.try_run("room", "create", room, "--plain"), CONFLICT)


if __name__ == "__main__":
    unittest.main()
