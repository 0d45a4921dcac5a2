#!/usr/bin/env python3
"""fc call with methods that stream."""
import os
import subprocess
import unittest

from fcd_process import Fc, FcTestCase, NOT_FOUND, USAGE, clean_environment, limit

SERVICE = "fc.test.v1.Conformance"


class Streams(FcTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen([os.environ["FC_CONFORMANCE_SERVER"], "tcp://127.0.0.1:0"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, env=clean_environment())
        cls.url = cls.server.stdout.readline().split()[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.communicate(timeout=limit(20))
        if cls.server.returncode != 0:
            raise AssertionError(f"conformance_server ended with {cls.server.returncode}")

    def setUp(self):
        self.fc = Fc(self.url)
        self.addCleanup(self.fc.close)

    def call(self, method, *arguments, **options):
        return self.fc.run("call", f"{SERVICE}/{method}", *arguments, **options).objects

    def test_many_responses(self):
        self.assertEqual(self.call("Stream", '{"count": 3, "size": 2}'),
                         [{"data": "AAA="}, {"number": "1", "data": "AAA="}, {"number": "2", "data": "AAA="}])
        self.assertEqual(self.call("Stream"), [])
        self.assertEqual(len(self.call("Stream", '{"count": 5000, "size": 1000}')), 5000)

    def test_many_requests(self):
        lines = b'{"data": "AAAA"}\n\n{"data": "AA=="}\n{}'
        self.assertEqual(self.call("Upload", "-", stdin=lines), [{"messages": "3", "bytes": "4"}])
        self.assertEqual(self.call("Upload", "-", stdin=b""), [{}])
        self.assertEqual(self.call("Upload", '{"data": "AAAA"}'), [{"messages": "1", "bytes": "3"}])

    def test_both(self):
        lines = "".join(f'{{"number": {number}, "text": "{"x" * 500}"}}\n' for number in range(1, 3001))
        answers = self.call("Mirror", "-", stdin=lines.encode())
        self.assertEqual([int(answer["number"]) for answer in answers], list(range(1, 3001)))

    def test_an_error_comes_after_what_came_before_it(self):
        result = self.fc.try_run("call", f"{SERVICE}/Stream", '{"count": 2, "code": 5}')
        self.assertEqual(result.code, NOT_FOUND)
        self.assertEqual(len(result.objects), 2)
        self.assertRegex(result.stderr, r"\Afc call: NOT_FOUND: as asked\n\Z")

    def test_a_request_that_does_not_fit_is_named(self):
        result = self.fc.try_run("call", f"{SERVICE}/Upload", "-", stdin=b'{}\n{"number": "x"}\n')
        self.assert_fails(result, USAGE, 'line 2: field "number"')

    def test_a_deadline(self):
        result = self.fc.try_run("call", f"{SERVICE}/Stall", "{}", "--timeout", "1")
        self.assertNotEqual(result.code, 0)
        self.assertRegex(result.stderr, "DEADLINE_EXCEEDED")


if __name__ == "__main__":
    unittest.main()
