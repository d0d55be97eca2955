"""Auth over HTTP: the Auth port for a conductor, and the published keys for a relay.

Opened by the composition roots of clustered daemons. The other end is `whook_auth.internal_api`; the messages
between the two are described in docs/reference/internal-auth-api.md. This folder alone uses httpx in the
backplane.
"""

from whook.backplane.auth_http.cache import DecisionCache
from whook.backplane.auth_http.client import HttpAuth, open_http_auth
from whook.backplane.auth_http.connection import AuthConnection, check_auth_url, open_connection
from whook.backplane.auth_http.keys import PublishedKeys

__all__ = [
    "AuthConnection",
    "DecisionCache",
    "HttpAuth",
    "PublishedKeys",
    "check_auth_url",
    "open_connection",
    "open_http_auth",
]
