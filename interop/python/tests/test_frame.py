"""Frames and key derivation, without a server."""
import unittest

from fc.auth.v1 import auth_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import RpcError, frame
from fc_client.auth import derive_auth_key, hkdf_sha256
from fc_client.transport import websocket_url


class Frame(unittest.TestCase):
    def test_a_request_has_the_bytes_that_the_protocol_shows(self):
        data = frame.encode(rpc_pb2.RequestHeader(method="fc.chat.v1.Chat/Send"), b"")
        self.assertEqual(data, bytes.fromhex("01000016 0a14") + b"fc.chat.v1.Chat/Send")

    def test_a_response_is_split_into_header_and_message(self):
        header, message = frame.decode_response(bytes.fromhex("01000002 0805") + b"rest")
        self.assertEqual((header.code, message), (rpc_pb2.NOT_FOUND, b"rest"))

    def test_a_response_cut_anywhere_in_its_header_is_refused(self):
        whole = frame.encode(rpc_pb2.ResponseHeader(code=5, message="no such room"), b"")
        for size in range(len(whole)):
            with self.subTest(size=size), self.assertRaises(frame.FrameError):
                frame.decode_response(whole[:size])

    def test_what_is_no_frame_is_refused(self):
        for what, data in {"another version": "02000000", "a flag": "01010000", "a header over the limit": "0100ffff",
                           "a header that is not protobuf": "01000001 ff"}.items():
            with self.subTest(what), self.assertRaises(frame.FrameError):
                frame.decode_response(bytes.fromhex(data))

    def test_a_frame_of_a_stream_is_no_response(self):
        with self.assertRaises(frame.FrameError):
            frame.decode_response(frame.encode(rpc_pb2.ResponseHeader(code=5), b"", frame.END))

    def test_a_header_over_the_limit_is_not_sent(self):
        with self.assertRaises(frame.FrameError):
            frame.encode(rpc_pb2.RequestHeader(token="x" * frame.HEADER_MAX_BYTES), b"")


REQUEST = rpc_pb2.RequestHeader(method="a.B/C", timeout_ms=5)
RESPONSE = rpc_pb2.ResponseHeader(code=5, message="none")
CREDIT = rpc_pb2.Credit(bytes=300_000)
PING = rpc_pb2.Control(ping=rpc_pb2.Ping(number=7))

# Flags, header and message of every kind of frame.
FROM_CLIENT = [
    (0x00, REQUEST, b"rest"), (0x01, REQUEST, b""), (0x03, REQUEST, b"rest"), (0x05, REQUEST, b""),
    (0x07, REQUEST, b"rest"), (0x02, None, b"rest"), (0x06, None, b"rest"), (0x04, None, b""), (0x08, None, b""),
    (0x10, CREDIT, b""), (0x20, PING, b"")]
FROM_SERVER = [
    (0x00, RESPONSE, b"rest"), (0x02, RESPONSE, b"rest"), (0x02, rpc_pb2.ResponseHeader(), b"rest"),
    (0x04, RESPONSE, b""), (0x10, CREDIT, b""), (0x20, PING, b"")]
DIRECTIONS = [("client", FROM_CLIENT, frame.decode_from_client), ("server", FROM_SERVER, frame.decode_from_server)]


class Kinds(unittest.TestCase):
    def each(self):
        for side, kinds, decode in DIRECTIONS:
            for flags, header, message in kinds:
                with self.subTest(side, flags=hex(flags)):
                    yield flags, header, message, decode

    def test_the_flags_are_those_of_the_protocol(self):
        self.assertEqual([(flag.name, int(flag)) for flag in frame.Flags],
                         [("OPEN", 1), ("MESSAGE", 2), ("END", 4), ("CANCEL", 8), ("CREDIT", 16), ("CONTROL", 32)])

    def test_a_frame_has_the_bytes_that_the_protocol_shows(self):
        self.assertEqual(frame.encode(None, b"", frame.CANCEL), bytes.fromhex("01080000"))
        self.assertEqual(frame.encode(None, b"\x08\x01", frame.MESSAGE | frame.END), bytes.fromhex("01060000 0801"))
        self.assertEqual(frame.encode(rpc_pb2.Credit(bytes=64), b"", frame.CREDIT), bytes.fromhex("01100002 0840"))
        self.assertEqual(frame.encode(PING, b"", frame.CONTROL), bytes.fromhex("01200004 12020807"))

    def test_every_kind_comes_back_as_it_was(self):
        for flags, header, message, decode in self.each():
            self.assertEqual(decode(frame.encode(header, message, flags)), (flags, header, message))

    def test_every_kind_cut_anywhere_in_its_header_is_refused(self):
        for flags, header, message, decode in self.each():
            whole = frame.encode(header, b"", flags)
            for size in range(len(whole)):
                with self.assertRaises(frame.FrameError, msg=size):
                    decode(whole[:size])

    def test_a_message_where_none_may_be_is_refused(self):
        for flags, header, _, decode in self.each():
            if flags != 0 and not flags & frame.MESSAGE:
                with self.assertRaises(frame.FrameError):
                    decode(frame.encode(header, b"x", flags))

    def test_a_header_where_none_may_be_is_refused(self):
        for flags, header, message, decode in self.each():
            if header is None:
                with self.assertRaises(frame.FrameError):
                    decode(frame.encode(REQUEST, message, flags))

    def test_a_header_that_is_not_protobuf_is_refused(self):
        for flags, header, _, decode in self.each():
            if header is not None:
                with self.assertRaises(frame.FrameError):
                    decode(bytes([1, flags, 0, 1, 0xff]))

    def test_other_combinations_of_flags_are_refused(self):
        for side, kinds, decode in DIRECTIONS:
            known = {flags for flags, _, _ in kinds}
            for flags in set(range(256)) - known:
                with self.subTest(side, flags=hex(flags)), self.assertRaises(frame.FrameError):
                    decode(bytes([1, flags, 0, 0]))

    def test_another_version_is_refused_whatever_its_flags(self):
        for flags, header, message, decode in self.each():
            with self.assertRaises(frame.FrameError):
                decode(b"\x02" + frame.encode(header, message, flags)[1:])


class Error(unittest.TestCase):
    def test_an_error_has_what_its_header_says(self):
        info = rpc_pb2.ErrorInfo(reason="CHUNKS_MISSING", retry_after_ms=70)
        detail = rpc_pb2.Detail(type="fc.rpc.v1.ErrorInfo", value=info.SerializeToString())
        error = RpcError.from_header(rpc_pb2.ResponseHeader(code=9, message="3 chunks are missing", details=[detail]))
        self.assertEqual((error.name, error.reason, error.retry_after_ms), ("FAILED_PRECONDITION", "CHUNKS_MISSING", 70))
        self.assertEqual(str(error), "FAILED_PRECONDITION (CHUNKS_MISSING): 3 chunks are missing")

    def test_a_code_of_the_future_is_unknown(self):
        self.assertEqual(RpcError(99, "").name, "UNKNOWN")


class Auth(unittest.TestCase):
    def test_hkdf_is_that_of_rfc_5869(self):
        # Appendix A.3: SHA-256 with zero-length salt and info.
        self.assertEqual(hkdf_sha256(b"\x0b" * 22, b"", b"", 42).hex(),
                         "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")

    def test_weak_and_absurd_parameters_are_refused(self):
        good = {"salt": bytes(16), "log2_n": 15, "r": 8, "p": 1}
        self.assertEqual(len(derive_auth_key("password", auth_pb2.KdfParameters(**good))), 32)
        for change in ({"salt": bytes(15)}, {"log2_n": 1}, {"log2_n": 21}, {"r": 1}, {"r": 33}, {"p": 0}, {"p": 5}):
            with self.subTest(change), self.assertRaises(ValueError):
                derive_auth_key("password", auth_pb2.KdfParameters(**{**good, **change}))


class Url(unittest.TestCase):
    def test_web_sockets_have_their_own_scheme(self):
        self.assertEqual(websocket_url("http://[::1]:7421/", "/rpc"), "ws://[::1]:7421/rpc")
        self.assertEqual(websocket_url("https://example.org", "/rpc"), "wss://example.org/rpc")
        for wrong in ("tcp://h:1", "h:1", "http://"):
            with self.subTest(wrong), self.assertRaises(ValueError):
                websocket_url(wrong, "/rpc")


if __name__ == "__main__":
    unittest.main()
