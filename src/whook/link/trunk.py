"""The introduction on a trunk: conductor and relay prove to each other that they hold the cluster key.

Each side sends a random challenge; each answers with an HMAC-SHA256 over both challenges and its own part, so
a proof can be neither replayed nor mirrored. Called by the conductor's trunk tasks and the relay's trunk
listener, before `Link.run()`. Proves identity only; where the path between machines is not private, the
stream below must be TLS.
"""

import hashlib
import hmac
import secrets
from typing import Final

from whook.link.core import Link
from whook.wire import PROTOCOL_VERSION, GoAwayCode, Hello, encode_goaway, encode_hello

_NONCE_BYTES: Final = 32


class TrunkRefused(Exception):
    """The peer could not prove that it holds the cluster key, or speaks another version."""


async def introduce_conductor(link: Link, key: bytes, *, agent: str, instance: str) -> Hello:
    """Introduce this conductor to a relay and return the relay's HELLO; bound it with a deadline.

    Raises:
        TrunkRefused: the relay did not prove itself.
        LinkRefused: the relay refused this conductor.
        LinkClosed, ProtocolError: as `Link.receive_hello`.
    """
    ours = Hello(version=PROTOCOL_VERSION, agent=agent, peer="conductor", instance=instance, nonce=_nonce())
    await link.send_now(encode_hello(ours))
    theirs = await link.receive_hello()
    _check_version(theirs)
    if not hmac.compare_digest(theirs.proof, _proof(key, b"relay", ours.nonce, theirs.nonce)):
        raise TrunkRefused("the relay does not hold this cluster key")
    ours.proof = _proof(key, b"conductor", ours.nonce, theirs.nonce)
    await link.send_now(encode_hello(ours))
    return theirs


async def introduce_relay(link: Link, key: bytes, *, agent: str, instance: str, heartbeat: float) -> Hello:
    """Answer a conductor's introduction and return its HELLO; bound it with a deadline.

    Raises:
        TrunkRefused: the conductor did not prove itself; it has been told so.
        LinkClosed, LinkRefused, ProtocolError: as `Link.receive_hello`.
    """
    theirs = await link.receive_hello()
    try:
        _check_version(theirs)
        if len(theirs.nonce) != _NONCE_BYTES:
            raise TrunkRefused("the conductor sent no challenge")
        nonce = _nonce()
        ours = Hello(
            version=PROTOCOL_VERSION,
            agent=agent,
            peer="relay",
            instance=instance,
            heartbeat=heartbeat,
            nonce=nonce,
            proof=_proof(key, b"relay", theirs.nonce, nonce),
        )
        await link.send_now(encode_hello(ours))
        proof = (await link.receive_hello()).proof
        if not hmac.compare_digest(proof, _proof(key, b"conductor", theirs.nonce, nonce)):
            raise TrunkRefused("the conductor does not hold this cluster key")
    except TrunkRefused as error:
        # If this is cancelled, the refusal no longer matters to anybody.
        await link.send_now(encode_goaway(GoAwayCode.UNAUTHORIZED, str(error)))  # noqa: ASYNC120
        raise
    return theirs


def _check_version(hello: Hello) -> None:
    if hello.version != PROTOCOL_VERSION:
        raise TrunkRefused(f"protocol version {hello.version} is not {PROTOCOL_VERSION}")


def _nonce() -> bytes:
    return secrets.token_bytes(_NONCE_BYTES)


def _proof(key: bytes, part: bytes, conductor_nonce: bytes, relay_nonce: bytes) -> bytes:
    return hmac.digest(key, b"whook trunk v1 " + part + conductor_nonce + relay_nonce, hashlib.sha256)
