"""GET /metrics: what it says, that it counts exactly what happened, and who may read it. The access log, too."""
import contextlib
import json
import pathlib
import re
import socket
import unittest
import urllib.error
import urllib.request

from fc.auth.v1 import auth_pb2
from fc.rpc.v1 import health_pb2, rpc_pb2, stats_pb2
from fc_client import Channel, RpcError, Stub, auth
from fcd_process import Fcd, limit, wait_until
from peers import METHOD, NUMBER, REP, Listeners, Peer, answer_of, call_message, handshake
from prometheus_text import FormatError, parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHO_AM_I = "fc.auth.v1.Auth/WhoAmI"


def fetch(http_url, **headers):
    """(status, headers, text)"""
    request = urllib.request.Request(http_url + "/metrics", headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=limit(10)) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


class Metrics(Listeners):
    def read(self):
        status, _, text = fetch(self.http)
        self.assertEqual(status, 200)
        return parse(text)

    def value(self, name):
        return self.read()[name].samples[(name, ())]

    def calls(self):
        """Calls so far by (method, code)."""
        samples = self.read()["fc_rpc_calls_total"].samples
        return {(dict(labels)["method"], dict(labels)["code"]): value for (_, labels), value in samples.items()}

    def assert_calls_since(self, before, expected):
        after = self.calls()
        grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
        self.assertEqual(grown, expected)
        self.assertEqual(set(before) - set(after), set())

    def test_it_is_the_text_format(self):
        self.call_web()
        status, headers, text = fetch(self.http)
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        families = parse(text)
        self.assertTrue(all(name.startswith("fc_") for name in families))
        self.assertEqual(families["fc_rpc_call_duration_seconds"].kind, "histogram")
        self.assertEqual(families["fc_rpc_calls_total"].kind, "counter")
        self.assertEqual(families["fc_rpc_connections"].kind, "gauge")

    def test_calls_are_counted_exactly_on_every_transport(self):
        self.call_web()
        before, durations = self.calls(), self.read()["fc_rpc_call_duration_seconds"].samples
        for url in (self.tcp, self.ipc):
            for _ in range(7):
                self.assertEqual(self.call_native(url)[0], "OK")
        for _ in range(5):
            self.assertEqual(self.call_web()[0], "OK")
        self.assert_calls_since(before, {(METHOD, "OK"): 19})
        key = ("fc_rpc_call_duration_seconds_count", (("method", METHOD),))
        self.assertEqual(self.read()["fc_rpc_call_duration_seconds"].samples[key] - durations[key], 19)

    def test_refused_calls_count_under_their_code(self):
        self.call_web()
        before = self.calls()
        refusals = [({"method": WHO_AM_I}, "UNAUTHENTICATED"), ({"method": WHO_AM_I, "token": "fct_wrong"}, "UNAUTHENTICATED"),
                    ({"method": "fc.auth.v1.Auth/Nothing"}, "UNIMPLEMENTED"), ({"method": "nonsense"}, "UNIMPLEMENTED"),
                    ({"request": b"\xff"}, "INVALID_ARGUMENT"), ({"request": bytes(2000)}, "RESOURCE_EXHAUSTED"),
                    ({"request_id": b"short"}, "INVALID_ARGUMENT")]
        for options, code in refusals:
            self.assertEqual(self.call_native(self.tcp, **options)[0], code)
        self.assert_calls_since(before, {(WHO_AM_I, "UNAUTHENTICATED"): 2, ("unknown", "UNIMPLEMENTED"): 2,
                                         (METHOD, "INVALID_ARGUMENT"): 1, (METHOD, "RESOURCE_EXHAUSTED"): 1,
                                         ("unknown", "INVALID_ARGUMENT"): 1})

    def test_answers_of_other_threads_count_before_they_are_seen(self):
        before = self.calls()
        with Channel(self.http) as channel:
            auth.sign_up(channel, "counted", "a long password")
        self.assert_calls_since(before, {("fc.auth.v1.Auth/SignUp", "OK"): 1})

    def test_bytes_are_those_of_the_messages(self):
        before = self.read()
        message, received, sent = call_message(), 0, 0
        with Peer(self.tcp) as peer:
            self.assertEqual(peer.greet(), handshake(REP))
            for _ in range(10):
                peer.send(peer.message(message))
                received += len(message)
                sent += len(peer.receive_message())
            after = self.read()
        for name, size in (("fc_rpc_received_bytes_total", received), ("fc_rpc_sent_bytes_total", sent)):
            self.assertEqual(after[name].samples[(name, ())] - before[name].samples[(name, ())], size)

    def test_connections_are_those_that_are_open(self):
        wait_until(lambda: self.value("fc_rpc_connections") == 0, "the connections of other tests to end")
        accepted = self.value("fc_rpc_connections_accepted_total")
        with contextlib.ExitStack() as stack:
            for url in (self.tcp, self.tcp, self.ipc):
                stack.enter_context(Peer(url)).greet()
            self.assertEqual(self.value("fc_rpc_connections"), 3)
        wait_until(lambda: self.value("fc_rpc_connections") == 0, "the connections to end")
        self.assertEqual(self.value("fc_rpc_connections_accepted_total") - accepted, 3)

    def test_the_process_and_its_store(self):
        with Channel(self.http) as channel:
            auth.sign_up(channel, "stored", "a long password")
        families = self.read()
        value = lambda name: families[name].samples[(name, ())]
        self.assertGreater(value("fc_store_jobs_total"), 0)
        self.assertGreaterEqual(value("fc_store_jobs_total"), value("fc_store_transactions_total"))
        self.assertEqual(value("fc_store_jobs_waiting"), 0)
        self.assertGreater(value("fc_uptime_seconds"), 0)
        self.assertGreater(value("fc_cpu_seconds_total"), 0)
        self.assertEqual(value("fc_draining"), 0)
        self.assertAlmostEqual(value("fc_resident_memory_bytes") / 1024, self.memory_kb(), delta=64 * 1024)

    def test_there_is_no_access_log_unless_asked_for(self):
        self.assertEqual(self.call_native(self.tcp)[0], "OK")
        self.assertNotIn("RPC-CALL", self.fcd.stderr())

    def test_the_dashboard_shows_only_what_there_is(self):
        self.call_web()
        exported = {name for family in self.read().values() for name in family.names()}
        dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text(encoding="utf-8"))
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
        shown = set(re.findall(r"\bfc_\w+", " ".join(expressions)))
        self.assertGreater(len(shown), 10)
        self.assertEqual(shown - exported, set())
        for expression in expressions:
            for matchers in re.findall(r"\{([^}]*)\}", expression):
                for label in re.findall(r"(\w+)\s*[=!]", matchers):
                    self.assertIn(label, ("method", "code", "instance"))

    def test_the_operators_page_lists_every_metric(self):
        documented = set(re.findall(r"^\| `(fc_\w+)", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.MULTILINE))
        self.assertEqual(documented, set(self.read()))


class Services(Listeners):
    """fc.rpc.v1.Stats and fc.rpc.v1.Health."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin, cls.other = cls.log_in("admin"), cls.log_in("other")  # the first account administers

    @classmethod
    def log_in(cls, name):
        channel = Channel(cls.http)
        cls.addClassCleanup(channel.close)
        auth.sign_up(channel, name, "a long password")
        auth.log_in(channel, name, "a long password")
        return channel

    def stats(self, channel):
        return Stub(channel, stats_pb2.DESCRIPTOR.services_by_name["Stats"]).Get()

    def assert_refused(self, code, call):
        with self.assertRaises(RpcError) as raised:
            call()
        self.assertEqual(raised.exception.name, code)

    def test_stats_are_the_figures_of_the_metrics(self):
        connections = ("fc_rpc_connections", ())
        wait_until(lambda: parse(fetch(self.http)[2])["fc_rpc_connections"].samples[connections] == 2,
                   "the connections of other tests to end")
        families = parse(fetch(self.http)[2])
        stats = self.stats(self.admin)
        calls = {(row.method, count.code): count.count for row in stats.methods for count in row.calls}
        self.assertEqual(calls[("fc.auth.v1.Auth/SignUp", 0)], 2)
        expected = families["fc_rpc_calls_total"].samples
        for (_, labels), value in expected.items():
            if "/Get" not in dict(labels)["method"]:  # this very service's calls go on
                self.assertEqual(sum(row.count for method in stats.methods if method.method == dict(labels)["method"]
                                     for row in method.calls
                                     if rpc_pb2.Code.Name(row.code) == dict(labels)["code"]), value)
        for row in stats.methods:
            self.assertEqual(len(row.latency_buckets), 24)
            self.assertEqual(sum(row.latency_buckets), sum(count.count for count in row.calls))
        self.assertEqual([row.method for row in stats.methods], sorted(row.method for row in stats.methods))
        self.assertEqual(stats.connections, 2)
        self.assertEqual(stats.calls_in_flight, 1)
        self.assertEqual((stats.calls_waiting, stats.is_draining, stats.refused_connections), (0, False, 0))
        self.assertGreaterEqual(stats.accepted_connections, 2)
        self.assertGreater(stats.received_bytes, 0)
        self.assertGreater(stats.resident_bytes, 1 << 20)
        metrics = {metric.name: metric for metric in stats.metrics}
        self.assertTrue(metrics["fc_store_jobs_total"].is_counter)
        self.assertGreater(metrics["fc_store_jobs_total"].value, 0)
        self.assertFalse(metrics["fc_store_jobs_waiting"].is_counter)

    def test_stats_are_for_administrators(self):
        self.assert_refused("PERMISSION_DENIED", lambda: self.stats(self.other))
        with Channel(self.http) as channel:
            self.assert_refused("UNAUTHENTICATED", lambda: self.stats(channel))

    def test_health_is_for_everyone(self):
        serving = health_pb2.HealthCheckResponse.SERVING
        with Channel(self.http, "fct_wrong") as channel:
            health = Stub(channel, health_pb2.DESCRIPTOR.services_by_name["Health"])
            for service in ("", "fc.chat.v1.Chat", "fc.rpc.v1.Stats"):
                self.assertEqual(health.Check(service=service).status, serving)
            self.assert_refused("NOT_FOUND", lambda: health.Check(service="fc.chat.v1.Cha"))


class Access(unittest.TestCase):
    def outside_address(self):
        """An address of this machine that is not the loopback's."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing
            except OSError:
                self.skipTest("this machine has no address but the loopback's")
            address = probe.getsockname()[0]
        if address.startswith("127."):
            self.skipTest("this machine has no address but the loopback's")
        return address

    def urls(self, *options):
        """The URL of an fcd on every address, from here and as from outside."""
        fcd = Fcd("--http", "http://0.0.0.0:0", "--allow-plaintext", *options)
        self.addCleanup(fcd.close)
        port = fcd.http_url.rsplit(":", 1)[1]
        return f"http://127.0.0.1:{port}", f"http://{self.outside_address()}:{port}"

    def test_only_this_machine_may_read(self):
        inside, outside = self.urls()
        self.assertEqual(fetch(inside)[0], 200)
        status, _, text = fetch(outside)
        self.assertEqual(status, 403)
        self.assertIn("--metrics public", text)
        self.assertNotIn("fc_", text)
        self.assertEqual(fetch(inside, X_Forwarded_For="192.0.2.7")[0], 403)

    def test_everyone_may_when_they_are_public(self):
        inside, outside = self.urls("--metrics", "public")
        for url in (inside, outside):
            status, _, text = fetch(url)
            self.assertEqual(status, 200)
            self.assertIn("fc_rpc_connections", parse(text))
        self.assertEqual(fetch(inside, X_Forwarded_For="192.0.2.7")[0], 200)


class AccessLog(unittest.TestCase):
    LINE = re.compile(r"^\S+ debug RPC-CALL peer=(\S+) user=(\S+) method=(\S+) code=(\S+) duration_us=(\d+) \"[^\"]+\"$",
                      re.MULTILINE)

    def test_each_call_is_a_line(self):
        with Fcd("--log-level", "debug") as fcd:
            with Channel(fcd.http_url) as channel:
                auth.sign_up(channel, "ann", "a long password")
                channel.token = auth.log_in(channel, "ann", "a long password", device_name="a test").token
                channel.call(WHO_AM_I, auth_pb2.WhoAmIRequest(), auth_pb2.WhoAmIResponse)
            with Peer(fcd.url) as peer:
                peer.greet()
                peer.send(peer.message(call_message(method="fc.auth.v1.Auth/\x1b[2J\n")))
                reply = peer.receive_message()
                self.assertEqual(answer_of(reply)[0], "UNIMPLEMENTED")
            lines = self.LINE.findall(fcd.stderr())
            self.assertEqual(fcd.stderr().count("RPC-CALL"), len(lines))
            self.assertEqual([(user, method.rsplit("/")[-1], code) for _, user, method, code, _ in lines],
                             [("-", "SignUp", "OK"), ("-", "GetLoginParameters", "OK"), ("-", "Login", "OK"),
                              ("ann", "WhoAmI", "OK"), ("-", "unknown", "UNIMPLEMENTED")])
            self.assertNotIn("fct_", fcd.stderr())
            self.assertTrue(all(0 <= int(line[4]) < limit(60) * 1e6 for line in lines))


class Reader(unittest.TestCase):
    GOOD = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\\n\"} 1\n"

    def test_it_takes_what_is_right(self):
        self.assertEqual(parse(self.GOOD)["a_total"].samples, {("a_total", (("b", "c\n"),)): 1.0})

    def test_it_refuses_what_is_wrong(self):
        histogram = "# HELP h H.\n# TYPE h histogram\n"
        for text in ("a 1\n", self.GOOD[:-1], self.GOOD + self.GOOD, self.GOOD + "a_total{b=\"c\\n\"} 2\n", self.GOOD + "b 1\n",
                     self.GOOD + "\n", "# HELP a A.\n# TYPE a counter\na 1\n", "# TYPE a gauge\na 1\n",
                     "# HELP a A.\n# TYPE a gauge\na{b=\"\n\"} 1\n", "# HELP a A.\n# TYPE a gauge\na{b=\"c\",b=\"d\"} 1\n",
                     histogram + 'h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
                     histogram + 'h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
                     histogram + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n'):
            with self.subTest(text=text):
                self.assertRaises((FormatError, KeyError), parse, text)


if __name__ == "__main__":
    unittest.main()
