"""TLS settings of the command line's own connections: to the server, and to a local https server.

Owns the two contexts. `api` and `session` use the first, `pool` the second; verification may be switched off
only for the second, never for the connection that carries a token.
"""

import ssl
from pathlib import Path

ALPN = ["http/1.1"]


def server_context() -> ssl.SSLContext:
    """Context for the server: verified against the system's certificates (`SSL_CERT_FILE` may name others).

    Where the system has none for OpenSSL (some Python builds for macOS), certifi's are used.
    """
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    has_own = any(p and Path(p).exists() for p in (paths.cafile, paths.capath))
    if not has_own and not context.cert_store_stats()["x509_ca"]:
        import certifi  # a dependency of httpx, needed on few machines

        context.load_verify_locations(certifi.where())
    return context


def local_context(*, insecure: bool) -> ssl.SSLContext:
    """Context for a local https server; `insecure` accepts any certificate."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(ALPN)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
