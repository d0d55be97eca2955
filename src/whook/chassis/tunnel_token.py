"""Tunnel tokens: short-lived Ed25519 JWTs that let a CLI open one tunnel on one relay.

The auth service signs them, relays verify them against the published keys (RFC 7517). Only EdDSA (RFC 8037)
is accepted, and the algorithm is fixed here, never taken from the token (RFC 8725 section 3.1). Nothing here
logs or returns a token or a private key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from whook.chassis.ids import new_id

ISSUER = "whook-auth"
AUDIENCE = "whook-relay"
PURPOSE = "tunnel"
ALGORITHM = "EdDSA"

LEEWAY = 10
"""Seconds by which the clocks of auth service and relay may differ."""

MAX_TOKEN = 4096
"""Longest token in characters that is looked at; a real one has about 600."""

_STRINGS = ("sub", "prj", "prn", "rly", "tid", "jti")
_REQUIRED = ("iss", "aud", "pur", "iat", "exp", *_STRINGS)


class TunnelTokenInvalid(Exception):
    """A tunnel token is refused.

    ``reason`` is a stable slug: malformed, wrong-algorithm, unknown-key, wrong-signature, missing-claim,
    wrong-issuer, wrong-audience, wrong-purpose, wrong-relay, not-yet-valid or expired.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"tunnel token refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelClaims:
    """What a tunnel token says. Times are Unix seconds."""

    user_id: str
    project_id: str
    project: str
    relay_id: str
    token_id: str
    """The API token it was minted from: revoking that one closes the tunnel."""
    issued_at: int
    expires_at: int
    jti: str
    """Identifier of this tunnel token itself."""

    @classmethod
    def issue(
        cls, *, user_id: str, project_id: str, project: str, relay_id: str, token_id: str, lifetime: int
    ) -> TunnelClaims:
        """Return claims that are valid from now for ``lifetime`` seconds."""
        now = int(time.time())
        return cls(
            user_id=user_id,
            project_id=project_id,
            project=project,
            relay_id=relay_id,
            token_id=token_id,
            issued_at=now,
            expires_at=now + lifetime,
            jti=new_id("tt"),
        )


class SigningKey:
    """An Ed25519 private key. Its ``kid`` is its JWK thumbprint (RFC 7638)."""

    __slots__ = ("_private", "kid")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.kid = _thumbprint(self._x)

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Load an unencrypted PKCS #8 key. Raises ValueError if ``pem`` holds anything else."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("signing key must be an unencrypted Ed25519 key in PEM") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("signing key must be an Ed25519 key")  # noqa: TRY004
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the private key as PKCS #8 PEM, for the auth service's own storage only."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as a JWK (RFC 8037 section 2)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self._x,
            "kid": self.kid,
            "use": "sig",
            "alg": ALGORITHM,
        }

    def sign_jwt(self, payload: dict[str, Any]) -> str:
        """Return ``payload`` as a JWT signed with this key, the ``kid`` in its header."""
        return jwt.encode(payload, self._private, algorithm=ALGORITHM, headers={"kid": self.kid})

    @property
    def _x(self) -> str:
        return _base64url(self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"<SigningKey {self.kid}>"


def jwks(keys: Sequence[SigningKey]) -> dict[str, Any]:
    """Return the published set of the public halves of ``keys`` (RFC 7517 section 5)."""
    return {"keys": [key.public_jwk() for key in keys]}


def sign(key: SigningKey, claims: TunnelClaims) -> str:
    """Return the tunnel token for ``claims``."""
    return key.sign_jwt(
        {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "pur": PURPOSE,
            "sub": claims.user_id,
            "prj": claims.project_id,
            "prn": claims.project,
            "rly": claims.relay_id,
            "tid": claims.token_id,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.jti,
        }
    )


class Verifier:
    """Verifies tunnel tokens against a set of public keys, without any I/O.

    Keys of another type, algorithm or use are ignored, as RFC 7517 section 5 asks for.
    """

    __slots__ = ("_keys",)

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys: dict[str, Ed25519PublicKey] = {}
        self.update(jwks)

    def update(self, jwks: Mapping[str, Any]) -> None:
        """Trust the keys of ``jwks`` and no others from now on."""
        found: dict[str, Ed25519PublicKey] = {}
        for entry in jwks.get("keys", ()):
            key = _public_key(entry)
            if key is not None:
                found[entry["kid"]] = key
        self._keys = found

    @property
    def key_ids(self) -> frozenset[str]:
        """The keys that are trusted."""
        return frozenset(self._keys)

    def verify(self, token: str, *, relay_id: str) -> TunnelClaims:
        """Return the claims of ``token``, a tunnel token for the relay ``relay_id``.

        Signature, issuer, audience, purpose, relay and expiry are checked (RFC 7519 section 4.1), and every
        claim must be there. Takes about 0.2 ms. Raises TunnelTokenInvalid.
        """
        if len(token) > MAX_TOKEN or not token.isascii():
            raise TunnelTokenInvalid("malformed")
        payload = self._decode(token)
        if any(not isinstance(payload[name], str) or not payload[name] for name in _STRINGS):
            raise TunnelTokenInvalid("malformed")
        if any(type(payload[name]) is not int for name in ("iat", "exp")):
            raise TunnelTokenInvalid("malformed")
        if payload["pur"] != PURPOSE:
            raise TunnelTokenInvalid("wrong-purpose")
        if payload["rly"] != relay_id:
            raise TunnelTokenInvalid("wrong-relay")
        return TunnelClaims(
            user_id=payload["sub"],
            project_id=payload["prj"],
            project=payload["prn"],
            relay_id=payload["rly"],
            token_id=payload["tid"],
            issued_at=payload["iat"],
            expires_at=payload["exp"],
            jti=payload["jti"],
        )

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM:
                raise TunnelTokenInvalid("wrong-algorithm")
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                raise TunnelTokenInvalid("unknown-key")
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": list(_REQUIRED), "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise TunnelTokenInvalid(_reason(error)) from error
        return payload


def _reason(error: jwt.PyJWTError) -> str:
    reasons: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
        (jwt.ExpiredSignatureError, "expired"),
        (jwt.ImmatureSignatureError, "not-yet-valid"),
        (jwt.InvalidAudienceError, "wrong-audience"),
        (jwt.InvalidIssuerError, "wrong-issuer"),
        (jwt.MissingRequiredClaimError, "missing-claim"),
        (jwt.InvalidSignatureError, "wrong-signature"),
        (jwt.InvalidAlgorithmError, "wrong-algorithm"),
    )
    return next((reason for kind, reason in reasons if isinstance(error, kind)), "malformed")


def _public_key(entry: object) -> Ed25519PublicKey | None:
    """Return the key of a JWK if it can verify tunnel tokens."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if (entry.get("kty"), entry.get("crv")) != ("OKP", "Ed25519"):
        return None
    if entry.get("alg", ALGORITHM) != ALGORITHM or entry.get("use", "sig") != "sig":
        return None
    try:
        x = str(entry.get("x"))
        raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
        return Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, binascii.Error):
        return None


def _thumbprint(x: str) -> str:
    # RFC 7638 section 3.1 and RFC 8037 section 2: the required members, sorted, without spaces.
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
