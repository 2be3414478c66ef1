"""What a component has in place of :mod:`ssl`: the names that clients ask for. The host does the TLS, and verifies every
certificate; what a program says about it has no effect."""

from __future__ import annotations

from typing import Any

HAS_SNI = HAS_ALPN = HAS_TLSv1_2 = HAS_TLSv1_3 = HAS_NEVER_CHECK_COMMON_NAME = True
HAS_SSLv2 = HAS_SSLv3 = HAS_TLSv1 = HAS_TLSv1_1 = HAS_NPN = HAS_ECDH = False
OPENSSL_VERSION = "the host's TLS"
OPENSSL_VERSION_INFO = (3, 0, 0, 0, 0)
OPENSSL_VERSION_NUMBER = 0x30000000
CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)


class SSLError(OSError):
    """Never raised."""


class SSLZeroReturnError(SSLError):
    """Never raised."""


class SSLWantReadError(SSLError):
    """Never raised."""


class SSLWantWriteError(SSLError):
    """Never raised."""


class SSLSyscallError(SSLError):
    """Never raised."""


class SSLEOFError(SSLError):
    """Never raised."""


class SSLCertVerificationError(SSLError, ValueError):
    """Never raised."""


CertificateError = SSLCertVerificationError


class TLSVersion:
    """The versions of TLS."""

    MINIMUM_SUPPORTED, TLSv1, TLSv1_1, TLSv1_2, TLSv1_3, MAXIMUM_SUPPORTED = -2, 0x301, 0x302, 0x303, 0x304, -1


class VerifyMode:
    """How a certificate is verified."""

    CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED


class Purpose:
    """What a context is for."""

    SERVER_AUTH, CLIENT_AUTH = "server", "client"


class SSLObject:
    """Never made."""


class SSLSocket:
    """Never made."""


class MemoryBIO:
    """Never used."""


class SSLContext:
    """Takes every setting, and ignores it."""

    def __init__(self, protocol: Any = None) -> None:
        self.protocol = protocol
        self.check_hostname = True
        self.verify_mode = CERT_REQUIRED
        self.verify_flags = self.options = 0
        self.minimum_version, self.maximum_version = TLSVersion.TLSv1_2, TLSVersion.MAXIMUM_SUPPORTED
        self.post_handshake_auth = False
        self.keylog_filename = None

    def wrap_socket(self, *_: Any, **__: Any) -> Any:
        """There are no sockets to wrap."""
        raise OSError("a component has no sockets: use http.client, urllib, requests or httpx")

    wrap_bio = wrap_socket

    def _ignore(self, *_: Any, **__: Any) -> None:
        """Does nothing."""

    load_cert_chain = load_verify_locations = load_default_certs = set_default_verify_paths = _ignore
    set_alpn_protocols = set_ciphers = set_npn_protocols = set_ecdh_curve = load_dh_params = _ignore

    def get_ca_certs(self, *_: Any) -> list[Any]:
        """Returns nothing."""
        return []

    get_ciphers = get_ca_certs


def create_default_context(*_: Any, **__: Any) -> SSLContext:
    """Returns a context."""
    return SSLContext()


_create_unverified_context = _create_default_https_context = _create_stdlib_context = create_default_context


def __getattr__(name: str) -> Any:
    """Constants such as ``OP_NO_TICKET``."""
    if name.startswith(("OP_", "PROTOCOL_", "VERIFY_", "ALERT_DESCRIPTION_", "SSL_ERROR_")):
        return 0
    raise AttributeError(f"a component has no ssl.{name}")
