"""Frames without end that mean little: each listener works them off, and its memory stays as it was.

FC_TEST_FRAMES says how many go to each listener; what the memory did is printed.
"""
import os
import random
import unittest

from fcd_process import limit
from fc.rpc.v1 import rpc_pb2
from peers import Listeners, Peer, call_frame, upgrade, websocket_frame

FRAMES = int(os.environ.get("FC_TEST_FRAMES", "20000"))
BATCH = 500
MAY_GROW_KB = 8 * 1024  # between a tenth of the way and its end; each frame that were kept would be 100 bytes


class Flood(Listeners):
    def setUp(self):
        self.source = random.Random(4)
        self.seeds = [call_frame(), call_frame("fc.chat.v1.Chat/Send", b"\x0a\x01x\x12\x01y", token="fct_" + "x" * 43),
                      b"\1\x07" + call_frame("fc.chat.v1.Chat/Send")[2:], b"\1\x20\0\2\x0a\0", b"\1\x20\0\4\x12\2\x08\1",
                      b"\1\x08\0\0", b"\1\x10\0\2\x08\1", b"\1\x02\0\0abc", b"\1\x04\0\0", b""]

    def frame(self):
        """A frame that is one, nearly one, or none."""
        data = bytearray(self.source.choice(self.seeds))
        kind = self.source.randrange(4)
        if kind == 0:
            data = bytearray(self.source.randbytes(self.source.randrange(64)))
        elif kind == 1 and data:
            data[self.source.randrange(len(data))] = self.source.randrange(256)
        elif kind == 2 and data:
            del data[self.source.randrange(len(data)):]
        # Few ids, so that streams and cancels meet; but two streams under one id would end the connection.
        number = self.source.choice((0, 1, 2, 3, self.source.randrange(1 << 31)))
        if data[:1] == b"\1" and len(data) > 1 and data[1] & 1:
            number = self.source.randrange(4, 1 << 31)
        return (0x80000000 | number).to_bytes(4, "big") + bytes(data)

    def ping(self, number):
        """A frame, and what is in its answer, which comes when the frames before it have been taken in."""
        control = rpc_pb2.Control(ping=rpc_pb2.Ping(number=(1 << 60) + number))
        encoded = control.SerializeToString()
        return b"\x80\0\0\0\1\x20" + len(encoded).to_bytes(2, "big") + encoded, control.ping.SerializeToString()

    def receive_until(self, peer, wanted):
        received = b""
        while wanted not in received:
            more = peer.socket.recv(1 << 20)
            if not more:
                raise ConnectionError
            received = received[-len(wanted):] + more

    def flood(self, connect, wrap):
        sent, first_kb, connections = 0, None, 0
        while sent < FRAMES:
            connections += 1
            with connect() as peer:
                peer.socket.settimeout(limit(30))
                try:
                    while sent < FRAMES:
                        ping, pong = self.ping(sent)
                        peer.socket.sendall(b"".join(wrap(peer, self.frame()) for _ in range(BATCH)) + wrap(peer, ping))
                        sent += BATCH
                        self.receive_until(peer, pong)
                        if first_kb is None and sent >= FRAMES // 10:
                            first_kb = self.memory_kb()
                except (ConnectionError, BrokenPipeError):
                    pass  # what ends a connection is no reason to give up
        self.wait_for_sockets()
        grown = self.memory_kb() - first_kb
        print(f"{sent} frames over {connections} connections: memory grew by {grown} kB")
        self.assertLess(grown, MAY_GROW_KB)
        self.assert_all_answer()

    def native(self, url):
        def connect():
            peer = Peer(url)
            peer.greet()
            return peer
        self.flood(connect, lambda peer, data: peer.message(data))

    def test_tcp(self):
        self.native(self.tcp)

    def test_ipc(self):
        self.native(self.ipc)

    def test_websocket(self):
        def connect():
            peer = Peer(self.http)
            peer.send(upgrade(self.http))
            peer.receive_head()
            return peer
        self.flood(connect, lambda peer, data: websocket_frame(data))


if __name__ == "__main__":
    unittest.main()
