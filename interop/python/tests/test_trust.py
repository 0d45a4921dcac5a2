"""The client behind https://: a pinned fingerprint, an authority, and servers that are not the right one."""
import os
import subprocess
import unittest

from fc.auth.v1 import auth_pb2
from fc.chat.v1 import chat_pb2
from fc_client import Channel, RpcError, Stub, Trust, log_in, room_events, sign_up
from fcd_process import Fcd, limit

PASSWORD = "a long password"


class TrustTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fcd = Fcd()
        cls.addClassCleanup(cls.fcd.close)
        cls.fcd.stop()
        cls.fcd.http_url = "https://127.0.0.1:0"
        cls.fcd.start()
        cls.ca = os.path.join(cls.fcd.data, "tls", "certificate.pem")
        cls.fingerprint = subprocess.run([os.environ["FCD"], "--fingerprint", "--data", cls.fcd.data], check=True,
                                         capture_output=True, text=True, timeout=limit(20)).stdout.strip()

    def test_calls_and_events_by_fingerprint(self):
        with Channel(self.fcd.http_url, trust=Trust(fingerprint=self.fingerprint)) as channel:
            sign_up(channel, "ann", PASSWORD)
            log_in(channel, "ann", PASSWORD)
            chat = Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])
            chat.CreateRoom(name="den", is_plain=True)
            events = room_events(channel, ["den"], timeout=limit(20))
            self.addCleanup(events.close)
            chat.Send(room="den", text="hello")
            self.assertEqual(next(event.message.text for _, event in events if event.HasField("message")), "hello")

    def test_an_authority_or_the_fingerprint_in_another_form(self):
        for trust in (Trust(ca=self.ca), Trust(fingerprint=self.fingerprint.lower().replace(":", ""))):
            with Channel(self.fcd.http_url, trust=trust) as channel:
                auth = Stub(channel, auth_pb2.DESCRIPTOR.services_by_name["Auth"])
                self.assertTrue(auth.GetLoginParameters(user_name="nobody").kdf.salt)

    def test_servers_that_are_not_trusted(self):
        other = "00" + self.fingerprint[2:]
        for trust, expected in ((Trust(), "CERTIFICATE_VERIFY_FAILED"), (Trust(fingerprint=other), "fingerprint")):
            with self.assertRaises(RpcError) as raised:
                Channel(self.fcd.http_url, trust=trust)
            self.assertIn(expected, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
