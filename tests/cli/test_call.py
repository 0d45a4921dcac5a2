"""fc call and fc describe: any method of a real fcd, without generated code."""
import base64
import json
import re
import socket
import unittest

from fcd_process import FAILED, NOT_ALLOWED, NOT_FOUND, NOT_LOGGED_IN, UNREACHABLE, USAGE, FcTestCase

CHAT = "fc.chat.v1.Chat/"
AUTH = "fc.auth.v1.Auth/"


class Call(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        number = next(self.numbers)
        self.name = f"alice{number}"
        self.room = f"room{number}"
        self.alice = self.person(self.name)

    def call(self, method, request=None, *options, **keywords):
        arguments = [] if request is None else [json.dumps(request)]
        return self.alice.run("call", method, *arguments, *options, **keywords).object

    def test_a_room_from_its_making_to_its_history(self):
        made = self.call(CHAT + "CreateRoom", {"name": self.room, "isPlain": True})
        self.assertEqual(made["room"]["name"], self.room)
        self.assertEqual(len(base64.b64decode(made["room"]["id"])), 16)
        self.assertRegex(made["room"]["createdAtMs"], r"^\d+$", "64-bit integers are strings")
        for text in ("one", "zwei \u00e9 \U0001f600", "line\nbreak"):
            self.call(CHAT + "Send", {"room": self.room, "text": text})
        history = self.call(CHAT + "History", {"room": self.room, "limit": 10})
        self.assertEqual([message["text"] for message in history["messages"]],
                         ["one", "zwei \u00e9 \U0001f600", "line\nbreak"])
        self.assertEqual([message["seq"] for message in history["messages"]], ["1", "2", "3"])
        # What fc itself shows is the same.
        shown = self.alice.run("history", self.room, "--json").objects
        self.assertEqual([message["text"] for message in shown],
                         [message["text"] for message in history["messages"]])

    def test_requests_from_standard_input_and_without_any(self):
        self.assertEqual(self.call(AUTH + "WhoAmI")["userName"], self.name)
        self.assertEqual(self.alice.run("call", AUTH + "WhoAmI", "-", stdin=b" {\n} \n").object["userName"], self.name)
        request = json.dumps({"name": self.room, "is_plain": True}).encode()
        self.assertEqual(self.alice.run("call", CHAT + "CreateRoom", "-", stdin=request).object["room"]["name"],
                         self.room)

    def test_the_output_is_one_line(self):
        self.assertRegex(self.alice.run("call", AUTH + "WhoAmI").text, r"\A\{[^\n]*\}\n\Z")

    def test_defaults_are_shown_when_asked_for(self):
        self.assertNotIn("isAdmin", self.call(AUTH + "WhoAmI"))
        self.assertIs(self.call(AUTH + "WhoAmI", None, "--defaults")["isAdmin"], False)

    def test_without_a_login(self):
        stranger = self.person()
        self.assertIn("kdf", stranger.run("call", AUTH + "GetLoginParameters", '{"userName": "bob"}').object)
        self.assert_fails(stranger.try_run("call", AUTH + "WhoAmI"), NOT_LOGGED_IN, r"\Afc call: UNAUTHENTICATED: .*fc login")

    def test_what_the_server_refuses_has_its_code(self):
        self.assert_fails(self.alice.try_run("call", CHAT + "History", '{"room": "nowhere"}'), NOT_FOUND,
                          r"\Afc call: NOT_FOUND: .*nowhere")
        self.call(CHAT + "CreateRoom", {"name": self.room, "isPlain": True})
        other = self.person("other-" + self.name)
        self.assert_fails(other.try_run("call", CHAT + "History", json.dumps({"room": self.room})), NOT_ALLOWED,
                          "PERMISSION_DENIED: ")
        self.assert_fails(self.alice.try_run("call", CHAT + "CreateRoom", '{"name": "a b", "isPlain": true}'), USAGE,
                          "INVALID_ARGUMENT: ")

    def test_requests_that_do_not_fit_name_the_field(self):
        for request, pattern in (
                ('{"room": 1}', 'field "room": expected a string, not a number'),
                ('{"file": {"fileId": "!"}}', 'field "file.fileId": expected base64'),
                ('{"nope": 1}', 'field "nope": there is no such field in fc.chat.v1.SendRequest'),
                ('{"room": "a", "room": "b"}', "no JSON"),
                ("[]", "expected an object"),
                ("{", "this is no JSON: line 1"),
                ("", "this is no JSON"),
                ('{"no\x1bpe": 1}', "no JSON"),
                ('{"no\\u001bpe": 1}', r"no\\x1bpe")):
            with self.subTest(request=request):
                self.assert_fails(self.alice.try_run("call", CHAT + "Send", request), USAGE, pattern)

    def test_unknown_methods(self):
        for name in (CHAT + "Nope", "fc.chat.v1.Nope/Send", "nope", "a/b/c", "/"):
            with self.subTest(name=name):
                self.assert_fails(self.alice.try_run("call", name), NOT_FOUND, re.escape(name))
        for name in ("fc.chat.v1.Chat", "fc.chat.v1.SendRequest", "fc.chat.v1.Chat.Send", "", "x" * 300, "a\udcffb"):
            with self.subTest(name=name):
                self.assert_fails(self.alice.try_run("call", name), USAGE, "fc.chat.v1.Chat/Send")

    def test_the_timeout_is_checked_and_kept(self):
        for value in ("0", "x", "3601", ""):
            self.assert_fails(self.alice.try_run("call", AUTH + "WhoAmI", f"--timeout={value}"), USAGE, "--timeout")
        self.call(AUTH + "WhoAmI", None, "--timeout", "3600")
        # A server that takes connections and says nothing.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            self.assert_fails(self.alice.try_run("call", AUTH + "WhoAmI", "--timeout", "1", "--server", url), UNREACHABLE,
                              "DEADLINE_EXCEEDED: .*1000 ms")

    def test_no_server(self):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            url = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        self.assert_fails(self.alice.try_run("call", AUTH + "WhoAmI", "--server", url), UNREACHABLE, "UNAVAILABLE: ")
        self.assert_fails(self.alice.try_run("describe", "--server", url), UNREACHABLE, "UNAVAILABLE: ")

    def test_too_much_input(self):
        blanks = b" " * (16 * 1024 * 1024 + 1)
        self.assert_fails(self.alice.try_run("call", AUTH + "WhoAmI", "-", stdin=blanks), FAILED, "more than 16777216 bytes")


class Describe(FcTestCase):
    def setUp(self):
        self.fc = self.person()

    def test_services_are_listed(self):
        services = self.fc.run("describe").text.splitlines()
        self.assertEqual(services, sorted(services))
        self.assertLessEqual({"fc.auth.v1.Auth", "fc.chat.v1.Chat", "fc.filestore.v1.FileStore", "fc.rpc.v1.Reflection"},
                             set(services))
        self.assertEqual([line["service"] for line in self.fc.run("describe", "--json").objects], services)

    def test_everything_that_a_service_names_can_be_described(self):
        seen = set()
        names = ["fc.chat.v1.Chat"]
        while names:
            name = names.pop()
            if name in seen:
                continue
            seen.add(name)
            text = self.fc.run("describe", name).text
            self.assertRegex(text, r"(?m)^(service|message|enum) ")
            names += re.findall(r"\bfc\.[a-z]+\.v1\.[A-Za-z.]*[A-Za-z]", re.sub(r"//[^\n]*", "", text))
        self.assertIn("fc.chat.v1.FileAnnouncement", seen)

    def test_a_method_comes_with_comments_and_messages(self):
        text = self.fc.run("describe", "fc.chat.v1.Chat/Send").text
        self.assertRegex(text, r"\A// Appends a message\. Acknowledged means on disk\.")
        self.assertIn("\nrpc Send(fc.chat.v1.SendRequest) returns (fc.chat.v1.SendResponse);\n", text)
        self.assertIn("\nmessage fc.chat.v1.SendRequest {\n  string room = 1;\n  // 1 to 65,536 bytes", text)
        self.assertIn("\nmessage fc.chat.v1.SendResponse {\n", text)
        self.assertEqual(self.fc.run("describe", "fc.chat.v1.Chat.Send").text, text)
        shown = self.fc.run("describe", "fc.chat.v1.Chat/Send", "--json").object
        self.assertEqual(shown, {"name": "fc.chat.v1.Chat/Send", "text": text})

    def test_services_messages_and_enums(self):
        self.assertRegex(self.fc.run("describe", "fc.rpc.v1.Reflection").text,
                         r"\A// Every server has it[^\n]*\nservice fc\.rpc\.v1\.Reflection \{\n  // The services")
        self.assertIn("\n  repeated bytes files = 1;\n", self.fc.run("describe", "fc.rpc.v1.GetDescriptorsResponse").text)
        self.assertIn("\n  NOT_FOUND = 5;\n", self.fc.run("describe", "fc.rpc.v1.Code").text)

    def test_unknown_names(self):
        self.assert_fails(self.fc.try_run("describe", "fc.chat.v1.Nope"), NOT_FOUND, "NOT_FOUND: .*fc.chat.v1.Nope")
        self.assert_fails(self.fc.try_run("describe", "fc.chat.v1"), NOT_FOUND)
        self.assert_fails(self.fc.try_run("describe", ""), USAGE)
        self.assert_fails(self.fc.try_run("describe", "no\x1b[31mpe"), NOT_FOUND, r"no\\x1b\[31mpe")


if __name__ == "__main__":
    unittest.main()
