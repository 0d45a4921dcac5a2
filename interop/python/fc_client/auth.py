"""Accounts. The password stays here: what is sent is a key derived from it (proto/fc/auth/v1/auth.proto)."""
import hashlib
import hmac
import os

from fc.auth.v1 import auth_pb2

from .channel import Channel
from .stub import Stub

# A server must not talk us into a key that is cheap to guess from, or into deriving for minutes.
_LOG2_N, _R, _P, _SALT_BYTES = range(15, 21), range(8, 33), range(1, 5), range(16, 65)


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869."""
    pseudo_random_key = hmac.digest(salt or bytes(32), key, "sha256")
    block, out, counter = b"", b"", 0
    while len(out) < size:
        counter += 1
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        out += block
    return out[:size]


def derive_auth_key(password: str, kdf: auth_pb2.KdfParameters) -> bytes:
    """What proves the password to the server. Takes about 100 ms and 32 MiB with sign_up's parameters."""
    if kdf.log2_n not in _LOG2_N or kdf.r not in _R or kdf.p not in _P or len(kdf.salt) not in _SALT_BYTES:
        raise ValueError("the server asks for key-derivation parameters that are out of range")
    n = 1 << kdf.log2_n
    master = hashlib.scrypt(password.encode(), salt=kdf.salt, n=n, r=kdf.r, p=kdf.p, dklen=32,
                            maxmem=128 * kdf.r * (n + kdf.p + 2) + 65536)
    return hkdf_sha256(master, b"", b"fc/1 auth", 32)


def _auth(channel: Channel) -> Stub:
    return Stub(channel, auth_pb2.DESCRIPTOR.services_by_name["Auth"])


def sign_up(channel: Channel, user_name: str, password: str) -> auth_pb2.SignUpResponse:
    """Makes an account. RpcError ALREADY_EXISTS when the name is taken."""
    kdf = auth_pb2.KdfParameters(salt=os.urandom(16), log2_n=15, r=8, p=1)
    return _auth(channel).SignUp(user_name=user_name, kdf=kdf, auth_key=derive_auth_key(password, kdf))


def log_in(channel: Channel, user_name: str, password: str,
           device_name: str = "fc_client") -> auth_pb2.LoginResponse:
    """Gets a token, which the channel's calls carry from now on. RpcError UNAUTHENTICATED."""
    auth = _auth(channel)
    kdf = auth.GetLoginParameters(user_name=user_name).kdf
    login = auth.Login(user_name=user_name, auth_key=derive_auth_key(password, kdf), device_name=device_name)
    channel.token = login.token
    return login
