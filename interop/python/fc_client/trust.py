"""Whom to trust behind an https:// URL."""
import hashlib
import hmac
import socket
import ssl
from dataclasses import dataclass
from typing import Optional, Tuple


class UntrustedServer(ssl.SSLError):
    """The server's certificate is not the one that was expected. Nothing was sent to it."""


@dataclass(frozen=True)
class Trust:
    """One of the two decides; with neither, the authorities that the system trusts.

    fingerprint is the SHA-256 of the certificate as `fcd --fingerprint` prints it; colons and case do not matter.
    ca is the path of a PEM file with authorities.
    """
    fingerprint: Optional[str] = None
    ca: Optional[str] = None

    def connect(self, address: Tuple[str, int], timeout: float) -> ssl.SSLSocket:
        """A connection whose other end has been checked."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.fingerprint is not None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(address, timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = context.wrap_socket(plain, server_hostname=address[0])
        except BaseException:
            plain.close()
            raise
        if self.fingerprint is not None:
            met = hashlib.sha256(secure.getpeercert(binary_form=True)).hexdigest()
            if not hmac.compare_digest(met, self.fingerprint.replace(":", "").lower()):
                secure.close()
                raise UntrustedServer(f"the server's certificate has the fingerprint {met}, not {self.fingerprint}")
        return secure
