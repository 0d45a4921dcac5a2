"""The Tracker and the origin's SegmentServer of a real fcd: sources that come, change, die and are blamed, and who sees it."""
import hashlib
import os
import tempfile
import unittest
import urllib.request

from fc.auth.v1 import auth_pb2
from fc.segment.v1 import segment_pb2
from fc.tracker.v1 import tracker_pb2
from fc_client import RpcError
from fcd_process import Fcd, limit, wait_until
from prometheus_text import parse
from swarm_sources import STREAM_S, Events, Person, Relay, Source, store

T = tracker_pb2
SEGMENT = 256 * 1024
CONTENT = os.urandom(5 * SEGMENT + 1000)
COUNT = 6


class TrackerTestCase(unittest.TestCase):
    """Tests against one fcd for all, with an administrator, Ann, whose file it is, and Bob, who may not read it."""

    @classmethod
    def setUpClass(cls):
        if hasattr(TrackerTestCase, "fcd"):
            return
        shared = TrackerTestCase
        folder = tempfile.TemporaryDirectory(prefix="fc-test-")
        unittest.addModuleCleanup(folder.cleanup)
        shared.folder = folder.name
        shared.fcd = Fcd()
        unittest.addModuleCleanup(shared.fcd.close)
        shared.admin, shared.ann, shared.bob = (cls.new_person(name) for name in ("admin", "ann", "bob"))
        shared.file_id = store(shared.ann, CONTENT, folder=shared.folder).id

    @classmethod
    def new_person(cls, name):
        person = Person(cls.fcd.http_url, name)
        unittest.addModuleCleanup(person.close)
        return person

    def source(self, person=None, name="peer", url=None, **options):
        source = Source(person or self.ann, name, url or self.fcd.url, **options)
        self.addCleanup(source.close)
        return source.expect_welcome()

    def watch(self, person=None, file_id=None, **options):
        request = T.WatchRequest(file_id=self.file_id if file_id is None else file_id, **options)
        events = Events((person or self.ann).tracker.Watch(request, timeout=STREAM_S))
        self.addCleanup(events.close)
        return events

    def caught_up(self, events):
        return events.until(lambda event: event.HasField("caught_up"), "what there was")[1]

    def state(self, events, source, state):
        """Waits until the watcher is told of the source in this state."""
        return events.until(lambda event: event.source.id == source.id and event.source.state == state,
                            f"the state {T.SourceState.Name(state)}")[0].source

    def assert_refused(self, code, call, pattern="."):
        with self.assertRaises(RpcError) as raised:
            call()
        self.assertEqual(raised.exception.name, code, raised.exception)
        self.assertRegex(raised.exception.message, pattern)
        return raised.exception

    def refusal(self, person, source_id=None, **hello):
        """How the stream of such a hello ends."""
        stream = person.tracker.Announce.start(timeout=STREAM_S)
        events = Events(stream)
        self.addCleanup(events.close)
        hello = {"id": source_id or os.urandom(16), "name": "x", "kind": T.PEER, "urls": [self.fcd.url], **hello}
        stream.send(T.AnnounceRequest(hello=T.Source(**hello)))
        return events.end()


class Finding(TrackerTestCase):
    def find(self, person=None, **options):
        return (person or self.ann).tracker.Find(file_id=self.file_id, **options)

    def test_the_origin_is_always_there(self):
        found = self.find()
        origin = found.sources[0]
        self.assertEqual((origin.source.kind, origin.source.state, list(origin.source.urls)), (T.ORIGIN, T.UP, []))
        self.assertEqual((origin.holding.is_complete, origin.holding.segment_count), (True, COUNT))

    def test_a_peer_is_found_with_what_it_has(self):
        peer = self.source(name="Ännchen", load=segment_pb2.Load(cpu_permille=70, sent_bytes=12))
        self.assertEqual(peer.welcome.grant_key, self.ann.files.GetGrant(file_id=self.file_id).key)
        self.assertEqual(peer.welcome.heartbeat_ms, 250)
        peer.has(self.file_id, COUNT, segments=b"\x05")
        found = wait_until(lambda: [s for s in self.find().sources if s.source.id == peer.id], "the peer")[0]
        self.assertEqual((found.source.name, found.source.user_name, list(found.source.urls)),
                         ("Ännchen", "ann", [self.fcd.url]))
        self.assertEqual((found.holding.segments, found.holding.is_complete), (b"\x05", False))
        peer.change(self.file_id, COUNT, (1, 1), (3, 3))
        wait_until(lambda: any(s.source.id == peer.id and s.holding.is_complete for s in self.find().sources),
                   "all of it")
        peer.has(self.file_id, COUNT)
        wait_until(lambda: not any(s.source.id == peer.id for s in self.find().sources), "nothing of it")
        peer.goodbye()

    def test_others_find_nothing(self):
        self.assert_refused("NOT_FOUND", lambda: self.find(self.bob))
        self.assert_refused("NOT_FOUND", lambda: self.ann.tracker.Find(file_id=os.urandom(16)))
        self.assert_refused("INVALID_ARGUMENT", lambda: self.ann.tracker.Find(file_id=b"x"))
        self.assert_refused("INVALID_ARGUMENT", lambda: self.find(limit=65))
        self.assertEqual(self.watch(self.bob).end(), "NOT_FOUND")

    def test_a_peer_announces_only_what_its_user_may_read(self):
        peer = self.source(self.bob)
        peer.has(self.file_id, COUNT, is_complete=True)
        self.assertEqual(peer.responses.next().refusal.file_id, self.file_id)
        peer.change(self.file_id, COUNT, (0, 1))
        self.assertEqual(peer.responses.next().refusal.file_id, self.file_id)
        self.assertFalse(any(s.source.id == peer.id for s in self.find().sources))

    def test_announcements_that_are_none(self):
        for what, code in (({"id": b"short"}, "INVALID_ARGUMENT"), ({"kind": T.MIRROR}, "PERMISSION_DENIED"),
                           ({"kind": T.ORIGIN}, "INVALID_ARGUMENT"), ({"name": "a\nb"}, "INVALID_ARGUMENT"),
                           ({"name": "x" * 65}, "INVALID_ARGUMENT"), ({"urls": []}, "INVALID_ARGUMENT"),
                           ({"urls": ["ipc:///tmp/x"]}, "INVALID_ARGUMENT"), ({"urls": ["tcp://a:1,tcp://b:2"]}, "INVALID_ARGUMENT"),
                           ({"urls": ["tls+tcp://h:1"]}, "INVALID_ARGUMENT"), ({"certificate_sha256": b"x"}, "INVALID_ARGUMENT"),
                           ({"state": T.DEAD}, "INVALID_ARGUMENT")):
            self.assertEqual(self.refusal(self.bob, **what), code, what)
        origin = self.find().sources[0].source
        self.assertEqual(self.refusal(self.ann, source_id=origin.id), "PERMISSION_DENIED")
        peer = self.source()
        self.assertEqual(self.refusal(self.bob, source_id=peer.id), "PERMISSION_DENIED")
        peer.has(self.file_id, COUNT, segments=b"\x40")
        self.assertEqual(peer.responses.end(), "INVALID_ARGUMENT")

    def test_picking_in_turn_is_fair(self):
        peers = [self.source(name=f"p{i}") for i in range(3)]
        for peer in peers:
            peer.has(self.file_id, COUNT, is_complete=True)
        wait_until(lambda: self.find().source_count == 4, "all peers")
        picked = [self.ann.tracker.Pick(file_id=self.file_id, strategy=T.ROUND_ROBIN).source.id for _ in range(40)]
        self.assertEqual(sorted(picked.count(source) for source in set(picked)), [10, 10, 10, 10])
        for strategy in (T.RANDOM, T.LEAST_CPU, T.TWO_CHOICES):
            picked = {self.ann.tracker.Pick(file_id=self.file_id, strategy=strategy).source.id for _ in range(60)}
            self.assertTrue(picked & {peer.id for peer in peers})
        self.assert_refused("OUT_OF_RANGE", lambda: self.ann.tracker.Pick(file_id=self.file_id, strategy=T.RANDOM,
                                                                          segment=COUNT))
        self.assert_refused("INVALID_ARGUMENT", lambda: self.ann.tracker.Pick(file_id=self.file_id))
        for peer in peers:
            peer.goodbye()
        wait_until(lambda: self.find().source_count == 1, "the peers to go")


class Watching(TrackerTestCase):
    def test_a_watcher_sees_a_peer_come_change_and_die(self):
        events = self.watch()
        self.assertEqual([e.WhichOneof("what") for e in self.caught_up(events)], ["source", "holding"])
        peer = self.source()
        peer.has(self.file_id, COUNT, segments=b"\x01")
        came = self.state(events, peer, T.UP)
        self.assertEqual(came.incarnation, peer.welcome.incarnation)
        holding = events.until(lambda e: e.holding.source.id == peer.id, "what it has")[0].holding
        self.assertEqual(holding.holding.segments, b"\x01")
        peer.change(self.file_id, COUNT, (2, 2), (0, 1, True))
        change = events.until(lambda e: e.HasField("change"), "the change")[0].change
        self.assertEqual((change.source_id, change.incarnation), (peer.id, came.incarnation))
        self.assertEqual([(r.first, r.count, r.is_gone) for r in change.change.ranges], [(2, 2, False), (0, 1, True)])
        peer.close()
        self.assertEqual(self.state(events, peer, T.DEAD).incarnation, came.incarnation)

    def test_silence_is_death_and_a_heartbeat_is_life(self):
        events = self.watch()
        peer = self.source()
        peer.has(self.file_id, COUNT, is_complete=True)
        self.state(events, peer, T.UP)
        peer.is_silent = True
        self.state(events, peer, T.DEAD)
        peer.is_silent = False
        self.state(events, peer, T.UP)
        holding = events.until(lambda e: e.holding.source.id == peer.id, "what it has")[0].holding
        self.assertTrue(holding.holding.is_complete)

    def test_a_source_that_comes_again_takes_the_place_of_its_first_stream(self):
        events = self.watch()
        first = self.source()
        first.has(self.file_id, COUNT, is_complete=True)
        self.state(events, first, T.UP)
        second = self.source(source_id=first.id)
        self.assertEqual(first.responses.end(), "ABORTED")
        self.assertGreater(second.welcome.incarnation, first.welcome.incarnation)
        second.has(self.file_id, COUNT, segments=b"\x02")
        new = events.until(lambda e: e.holding.source.incarnation == second.welcome.incarnation and
                           e.holding.holding.segments, "what the second has")[0].holding
        self.assertEqual((new.source.state, new.holding.segments), (T.UP, b"\x02"))

    def test_a_server_that_cannot_be_reached_is_dead(self):
        relay = Relay(self.fcd.url)
        self.addCleanup(relay.close)
        events = self.watch()
        peer = self.source(url=relay.url)
        peer.has(self.file_id, COUNT, is_complete=True)
        incarnation = self.state(events, peer, T.UP).incarnation
        report = lambda: self.ann.tracker.Report(source_id=peer.id, incarnation=incarnation, failure=T.UNREACHABLE)
        report()  # it is there: nothing comes of it
        relay.close()
        report()
        self.state(events, peer, T.DEAD)

    def test_a_slow_watcher_misses_what_was_overtaken(self):
        mirror = self.source(self.admin, "flapping", kind=T.MIRROR)
        mirror.is_silent = False
        slow = self.admin.tracker.Watch(T.WatchRequest(file_id=b""), timeout=STREAM_S)  # nobody takes anything out
        flips = 3000  # each costs more than a hundredth of a percent of what the server may send ahead
        control = self.admin.tracker.ControlSource
        calls = [control.start(source="flapping", command=T.WAKE if flip % 2 else T.STOP) for flip in range(flips)]
        for call in calls:
            call.result(limit(60))
        events = Events(slow)
        self.addCleanup(events.close)
        control(source="flapping", command=T.DRAIN)
        _, before = events.until(lambda e: e.source.id == mirror.id and e.source.state == T.DRAINING, "the last state")
        self.assertLess(sum(event.source.id == mirror.id for event in before), flips)

    def test_streams_end_with_the_login(self):
        carl = self.new_person("logger")
        peer, events = self.source(carl), self.watch(carl, store(carl, b"mine", folder=self.folder).id)
        self.caught_up(events)
        carl.channel.call("fc.auth.v1.Auth/Logout", auth_pb2.LogoutRequest(), auth_pb2.LogoutResponse)
        self.assertEqual((events.end(), peer.responses.end()), ("UNAUTHENTICATED", "UNAUTHENTICATED"))

    def test_only_administrators_watch_everything(self):
        self.assertEqual(self.watch(self.ann, b"").end(), "PERMISSION_DENIED")
        events = self.watch(self.admin, b"")
        self.caught_up(events)
        peer = self.source()
        self.state(events, peer, T.UP)
        peer.goodbye()
        self.state(events, peer, T.DEAD)

    def test_streams_end_when_the_server_does(self):
        with Fcd() as fcd:
            person = Person(fcd.http_url, "only")
            try:
                events = Events(person.tracker.Watch(T.WatchRequest(), timeout=STREAM_S))
                peer = Source(person, "peer", fcd.url).expect_welcome()
                self.caught_up(events)
                fcd.stop()
                self.assertEqual((events.end(), peer.responses.end()), ("UNAVAILABLE", "UNAVAILABLE"))
                peer.close()
            finally:
                person.close()
            fcd.start()


class Control(TrackerTestCase):
    def control(self, who, command, source):
        return who.tracker.ControlSource(source=source, command=command).source

    def test_a_mirror_is_stopped_and_woken(self):
        events = self.watch()
        mirror = self.source(self.admin, "mirror one", kind=T.MIRROR)
        self.state(events, mirror, T.UP)
        holding = events.until(lambda e: e.holding.source.id == mirror.id, "what it has")[0].holding.holding
        self.assertTrue(holding.is_pull_through)
        self.assertEqual(self.control(self.admin, T.STOP, "mirror one").state, T.STOPPED)
        self.assertEqual(mirror.responses.next().command, T.STOP)
        self.state(events, mirror, T.STOPPED)
        mirror.state = T.STOPPED
        mirror.beat()
        self.assertEqual(self.control(self.admin, T.WAKE, mirror.id.hex()).state, T.UP)
        self.assertEqual(mirror.responses.next().command, T.WAKE)
        mirror.state = T.UP
        self.state(events, mirror, T.UP)
        self.assertEqual(self.control(self.admin, T.DRAIN, "mirror one").state, T.DRAINING)
        mirror.state = T.DRAINING
        self.state(events, mirror, T.DRAINING)
        listed = {s.id: s.state for s in self.admin.tracker.ListSources().sources}
        self.assertEqual(listed[mirror.id], T.DRAINING)

    def test_only_administrators_may(self):
        self.assert_refused("PERMISSION_DENIED", lambda: self.control(self.ann, T.STOP, "origin"))
        self.assert_refused("PERMISSION_DENIED", self.ann.tracker.ListSources)
        self.assert_refused("NOT_FOUND", lambda: self.control(self.admin, T.STOP, "nobody"))
        self.assert_refused("INVALID_ARGUMENT", lambda: self.control(self.admin, 0, "origin"))
        twins = [self.source(self.admin, "twin", kind=T.MIRROR) for _ in range(2)]
        self.assert_refused("ABORTED", lambda: self.control(self.admin, T.STOP, "twin"))
        for twin in twins:
            twin.goodbye()

    def test_the_origins_segments_stop_and_wake(self):
        grant = self.ann.grant(self.file_id)
        get = lambda: self.ann.segments.GetSegment(file_id=self.file_id, grant=grant, index=0).data
        self.assertEqual(get(), CONTENT[:SEGMENT])
        self.control(self.admin, T.STOP, "origin")
        self.assertEqual(self.assert_refused("UNAVAILABLE", get).reason, "STOPPED")
        self.assertEqual(self.ann.tracker.Find(file_id=self.file_id).sources[0].source.state, T.STOPPED)
        self.assert_refused("UNAVAILABLE", lambda: self.ann.tracker.Pick(file_id=self.file_id, strategy=T.RANDOM))
        self.control(self.admin, T.WAKE, "origin")
        self.assertEqual(get(), CONTENT[:SEGMENT])


class Segments(TrackerTestCase):
    def test_every_segment_and_digest_for_who_has_a_grant(self):
        grant = self.ann.grant(self.file_id)
        request = {"file_id": self.file_id, "grant": grant}
        digests = b"".join(hashlib.sha256(CONTENT[i * SEGMENT:(i + 1) * SEGMENT]).digest() for i in range(COUNT))
        with_anybodys_channel = self.bob.segments  # a grant is what counts here
        self.assertEqual(with_anybodys_channel.GetManifest(**request).segment_sha256s, digests)
        self.assertEqual(with_anybodys_channel.GetManifest(**request, first_segment=4).segment_sha256s, digests[4 * 32:])
        for i in range(COUNT):
            self.assertEqual(with_anybodys_channel.GetSegment(**request, index=i).data,
                             CONTENT[i * SEGMENT:(i + 1) * SEGMENT])
        holding = with_anybodys_channel.GetHoldings(**request).holding
        self.assertEqual((holding.file_id, holding.segment_count, holding.is_complete), (self.file_id, COUNT, True))
        load = with_anybodys_channel.GetHoldings(**request).load
        self.assertGreaterEqual(load.sent_bytes, len(CONTENT))
        for call in (lambda: self.ann.segments.GetSegment(**request, index=COUNT),
                     lambda: self.ann.segments.GetManifest(**request, first_segment=1 << 63)):
            self.assert_refused("OUT_OF_RANGE", call)

    def test_a_deleted_file_is_served_no_more(self):
        file = store(self.ann, b"short", name="short", folder=self.folder)
        request = {"file_id": file.id, "grant": self.ann.grant(file.id)}
        self.assertEqual(self.ann.segments.GetSegment(**request).data, b"short")
        self.ann.files.Delete(file=file.id.hex())
        self.assertEqual(self.assert_refused("NOT_FOUND", lambda: self.ann.segments.GetSegment(**request)).reason,
                         "SEGMENT_NOT_HERE")

    def test_no_grant_no_segment(self):
        other = store(self.ann, b"another", name="other", folder=self.folder)
        good, others = self.ann.grant(self.file_id), self.ann.grant(other.id)
        wrong = bytearray(good.signature)
        wrong[5] ^= 1
        grants = (None, segment_pb2.SignedGrant(), others,
                  segment_pb2.SignedGrant(grant=good.grant, signature=bytes(wrong)),
                  segment_pb2.SignedGrant(grant=others.grant, signature=good.signature),
                  segment_pb2.SignedGrant(grant=bytes(257), signature=good.signature))
        for grant in grants:
            for _ in range(2):
                self.assert_refused("PERMISSION_DENIED",
                                    lambda: self.bob.segments.GetSegment(file_id=self.file_id, grant=grant))


class Blame(TrackerTestCase):
    def report(self, source, person=None, segment=0):
        (person or self.ann).tracker.Report(source_id=source.id, incarnation=source.welcome.incarnation,
                                            failure=T.CORRUPT, file_id=self.file_id, segment=segment)

    def bad_segments(self):
        with urllib.request.urlopen(self.fcd.http_url + "/metrics") as answer:
            name = "fc_tracker_bad_segments_total"
            return parse(answer.read().decode())[name].samples[(name, ())]

    def test_who_sends_bad_segments_is_put_in_quarantine(self):
        relay = Relay(self.fcd.url, damages=True)
        self.addCleanup(relay.close)
        events = self.watch()
        before = self.bad_segments()
        bad, good = self.source(name="bad", url=relay.url), self.source(name="good")
        for source in (bad, good):
            source.has(self.file_id, COUNT, is_complete=True)
            self.state(events, source, T.UP)
        self.report(good)
        self.report(bad, segment=3)
        self.assertEqual(self.state(events, bad, T.QUARANTINED).bad_segments, 1)
        suspicion = bad.responses.next().suspicion
        self.assertEqual((suspicion.file_id, suspicion.segment), (self.file_id, 3))
        self.assertEqual(self.bad_segments(), before + 1)
        found = {s.source.id: s.source.state for s in self.ann.tracker.Find(file_id=self.file_id).sources}
        self.assertEqual((found.get(good.id), bad.id in found), (T.UP, False))
        again = self.source(name="bad", url=relay.url, source_id=bad.id)  # started anew
        again.has(self.file_id, COUNT, is_complete=True)
        self.state(events, again, T.UP)

    def test_a_mirror_is_suspected_before_it_is_put_in_quarantine(self):
        relay = Relay(self.fcd.url, damages=True)
        self.addCleanup(relay.close)
        events = self.watch()
        mirror = self.source(self.admin, "mirror", url=relay.url, kind=T.MIRROR)
        self.state(events, mirror, T.UP)
        for segment in range(3):
            self.report(mirror, segment=segment)
            self.assertEqual(mirror.responses.next().suspicion.segment, segment)
        self.assertEqual(self.state(events, mirror, T.QUARANTINED).bad_segments, 3)

    def test_reports_that_are_none(self):
        peer = self.source()
        self.assert_refused("INVALID_ARGUMENT", lambda: self.ann.tracker.Report(source_id=peer.id))
        self.assert_refused("INVALID_ARGUMENT",
                            lambda: self.ann.tracker.Report(source_id=b"x", failure=T.UNREACHABLE))
        self.assert_refused("NOT_FOUND", lambda: self.report(peer, self.bob))
        self.ann.tracker.Report(source_id=os.urandom(16), failure=T.UNREACHABLE)  # has gone, perhaps

    def test_who_reports_too_much_is_not_listened_to(self):
        carl = self.new_person("carl")

        def flood():
            for _ in range(1000):
                carl.tracker.Report(source_id=os.urandom(16), failure=T.UNREACHABLE)
        self.assert_refused("RESOURCE_EXHAUSTED", flood)


class Rules(TrackerTestCase):
    def test_a_token_is_needed(self):
        self.ann.channel.token, token = None, self.ann.channel.token
        try:
            self.assertEqual(self.watch().end(), "UNAUTHENTICATED")
            self.assertEqual(self.refusal(self.ann), "UNAUTHENTICATED")
            self.assert_refused("UNAUTHENTICATED", lambda: self.ann.tracker.Find(file_id=self.file_id))
        finally:
            self.ann.channel.token = token


if __name__ == "__main__":
    unittest.main()
