"""Crowds: silent peers, peers that reset, peers that die with calls in flight. Afterwards everything is as before.

FC_TEST_CROWD makes the largest crowds so large; what they leave is printed.
"""
import contextlib
import os
import resource
import select
import time
import unittest

from fcd_process import limit
from peers import REQ, SUB, Listeners, Peer, call_message, handshake, upgrade, websocket_frame

SILENT = 600
HANDSHAKE_TIMEOUT_S = 10


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


class Crowd(Listeners):
    @classmethod
    def setUpClass(cls):
        raise_descriptor_limit()
        super().setUpClass()

    def longest_call(self, until):
        """Seconds that the slowest call by polite clients took, while until() is false."""
        longest = 0.0
        while True:
            for call in (lambda: self.call_native(self.tcp), lambda: self.call_native(self.ipc), self.call_web):
                start = time.monotonic()
                self.assertEqual(call()[0], "OK")
                longest = max(longest, time.monotonic() - start)
            if until():
                return longest


class Silent(Crowd):
    def is_cut(self, peer):
        with contextlib.suppress(BlockingIOError):
            try:
                return peer.socket.recv(4096) == b""
            except ConnectionError:
                return True
        return False

    def test_silent_peers_are_cut_and_delay_nobody(self):
        starts = [(self.tcp, b""), (self.ipc, b""), (self.http, b""), (self.tcp, handshake(REQ)[:5]),
                  (self.http, b"GET /rpc HTTP/1.1\r\nHost: x\r\n"), (self.tcp, handshake(SUB))]
        with contextlib.ExitStack() as stack:
            peers = []
            for url, start in starts * (SILENT // len(starts)):
                peer = stack.enter_context(Peer(url))
                peer.send(start)
                peer.socket.setblocking(False)
                peer.what = (url, start)
                peers.append(peer)
            deadline = time.monotonic() + limit(HANDSHAKE_TIMEOUT_S * 2)

            def all_cut():
                peers[:] = [peer for peer in peers if not self.is_cut(peer)]
                self.assertLess(time.monotonic(), deadline, {peer.what for peer in peers})
                return not peers

            self.assertLess(self.longest_call(all_cut), limit(1))
        self.wait_for_sockets()

    def test_a_byte_now_and_then_is_silence_too(self):
        for url, data in ((self.tcp, handshake(REQ)), (self.http, b"GET / HTTP/1.1\r\nX-Slow: y")):
            with self.subTest(url=url), Peer(url) as peer:
                peer.socket.setblocking(False)
                deadline = time.monotonic() + limit(HANDSHAKE_TIMEOUT_S * 2)
                rest = list(data[:-1])
                while True:
                    self.assertLess(time.monotonic(), deadline, "it is still connected")
                    if rest:
                        peer.send(bytes([rest.pop(0)]))
                    readable, _, _ = select.select([peer.socket], [], [], 2)
                    if readable and self.is_cut(peer):
                        break


class Abrupt(Crowd):
    CLIENTS = int(os.environ.get("FC_TEST_CROWD", "2000"))

    def call(self, peer, url):
        """Three calls, whose answers nobody will read."""
        if url == self.http:
            peer.send(upgrade(url))
            peer.receive_head()
            peer.send(websocket_frame(call_message()) * 3)
        else:
            peer.send(handshake(REQ) + peer.message(call_message()) * 3)

    def die(self, url, waits, closes):
        with Peer(url) as peer:
            self.call(peer, url)
            if waits:
                peer.receive(8)
            if closes:
                peer.socket.close()
            else:
                peer.reset()

    def assert_nothing_is_left(self, crowd):
        crowd()  # what is allocated once is allocated now
        self.wait_for_sockets()
        sockets, memory_kb = self.sockets(), self.memory_kb()
        crowd()
        self.assert_all_answer()
        self.wait_for_sockets()
        print(f"sockets {sockets} before, {self.sockets()} after; resident {memory_kb} kB, {self.memory_kb()} kB")
        self.assertLess(self.memory_kb() - memory_kb, 20_000)

    def test_connect_and_reset(self):
        def crowd():
            for url in (self.tcp, self.ipc, self.http):
                for _ in range(max(1000, self.CLIENTS // 6)):
                    with Peer(url) as peer:
                        peer.finish()
                        peer.reset()

        self.assert_nothing_is_left(crowd)

    def test_clients_die_with_calls_in_flight(self):
        for url in (self.tcp, self.ipc, self.http):
            def crowd(url=url):
                for i in range(self.CLIENTS):
                    self.die(url, waits=i % 2 == 0, closes=i % 3 == 0)

            with self.subTest(url=url):
                self.assert_nothing_is_left(crowd)

    def test_clients_die_all_at_once(self):
        def crowd():
            for url in (self.tcp, self.ipc, self.http):
                peers = [Peer(url) for _ in range(500)]
                for peer in peers:
                    self.call(peer, url)
                for peer in peers:
                    peer.reset()

        self.assert_nothing_is_left(crowd)

    def test_clients_that_do_not_read_their_answers(self):
        """Each asks until the server stops reading from it, and then dies."""
        def crowd():
            for url in (self.tcp, self.http):
                peers = [Peer(url) for _ in range(8)]
                for peer in peers:
                    self.call(peer, url)
                    wrap = websocket_frame if url == self.http else peer.message
                    peer.socket.settimeout(limit(0.2))
                    with contextlib.suppress(TimeoutError):
                        for _ in range(400):
                            peer.send(wrap(call_message()) * 1000)
                self.assert_all_answer()
                for peer in peers:
                    peer.reset()

        self.assert_nothing_is_left(crowd)


if __name__ == "__main__":
    unittest.main()
