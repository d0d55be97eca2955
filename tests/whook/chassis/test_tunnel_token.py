"""Tunnel tokens: what is accepted, and every way to be refused."""

import base64
import contextlib
import dataclasses
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis.tunnel_token import (
    LEEWAY,
    SigningKey,
    TunnelClaims,
    TunnelTokenInvalid,
    Verifier,
    jwks,
    sign,
)

KEY = SigningKey.generate()
VERIFIER = Verifier(jwks([KEY]))
RELAY = "relay-1"


def claims(**changes: Any) -> TunnelClaims:
    issued = TunnelClaims.issue(
        user_id="usr_1", project_id="prj_1", project="shop", relay_id=RELAY, token_id="tok_1", lifetime=60
    )
    return dataclasses.replace(issued, **changes)


def payload(**changes: Any) -> dict[str, Any]:
    """The payload of a good token, with some claims changed (or removed, by None)."""
    good: dict[str, Any] = jwt.decode(sign(KEY, claims()), options={"verify_signature": False})
    return {name: value for name, value in (good | changes).items() if value is not None}


def encode(part: object) -> bytes:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def reason(token: str, relay_id: str = RELAY) -> str:
    with pytest.raises(TunnelTokenInvalid) as caught:
        VERIFIER.verify(token, relay_id=relay_id)
    assert token not in str(caught.value)
    return caught.value.reason


def test_returns_what_was_signed() -> None:
    given_claims = claims()
    assert VERIFIER.verify(sign(KEY, given_claims), relay_id=RELAY) == given_claims


def test_each_token_has_its_own_identifier() -> None:
    assert claims().jti != claims().jti


def test_expiry_has_a_small_leeway() -> None:
    now = int(time.time())
    VERIFIER.verify(sign(KEY, claims(expires_at=now - 1)), relay_id=RELAY)
    assert reason(sign(KEY, claims(expires_at=now - LEEWAY - 1))) == "expired"


def test_refuses_tokens_from_the_future() -> None:
    assert reason(sign(KEY, claims(issued_at=int(time.time()) + 3600))) == "not-yet-valid"


def test_refuses_another_relay() -> None:
    assert reason(sign(KEY, claims()), relay_id="relay-2") == "wrong-relay"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "someone"}, "wrong-issuer"),
        ({"aud": "whook-conductor"}, "wrong-audience"),
        ({"aud": ["whook-relay", "other"]}, "wrong-audience"),
        ({"aud": ["whook-relay"]}, "wrong-audience"),
        ({"pur": "trunk"}, "wrong-purpose"),
        ({"rly": "relay-2"}, "wrong-relay"),
        ({"rly": [RELAY]}, "malformed"),
        ({"sub": ""}, "malformed"),
        ({"prj": 7}, "malformed"),
        ({"exp": "9999999999"}, "malformed"),
        ({"exp": 9999999999.5}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": True}, "expired"),
        ({"iat": True}, "malformed"),
        ({"nbf": 9999999999}, "not-yet-valid"),
    ],
)
def test_refuses_wrong_claims(changes: dict[str, Any], expected: str) -> None:
    assert reason(KEY.sign_jwt(payload(**changes))) == expected


@pytest.mark.parametrize("name", sorted(payload()))
def test_requires_every_claim(name: str) -> None:
    assert reason(KEY.sign_jwt(payload(**{name: None}))) == "missing-claim"


def test_refuses_alg_none() -> None:
    header = {"alg": "none", "typ": "JWT", "kid": KEY.kid}
    token = b".".join([encode(header), encode(payload()), b""]).decode()
    assert reason(token) == "wrong-algorithm"


@pytest.mark.parametrize("form", ["raw", "pem", "x"])
def test_refuses_hs256_with_the_public_key_as_secret(form: str) -> None:
    public = KEY._private.public_key()
    secret = {
        "raw": public.public_bytes_raw(),
        "pem": public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "x": KEY.public_jwk()["x"].encode(),
    }[form]
    signed = encode({"alg": "HS256", "typ": "JWT", "kid": KEY.kid}) + b"." + encode(payload())
    token = signed + b"." + encode(hmac.digest(secret, signed, "sha256"))
    assert reason(token.decode()) == "wrong-algorithm"


def test_refuses_another_asymmetric_algorithm() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    assert reason(jwt.encode(payload(), private, "ES256", {"kid": KEY.kid})) == "wrong-algorithm"


def test_refuses_an_unknown_key() -> None:
    assert reason(sign(SigningKey.generate(), claims())) == "unknown-key"
    unnamed = jwt.encode(payload(), KEY._private, "EdDSA")
    assert reason(unnamed) == "unknown-key"


def test_refuses_another_key_under_a_known_name() -> None:
    token = jwt.encode(payload(), Ed25519PrivateKey.generate(), "EdDSA", {"kid": KEY.kid})
    assert reason(token) == "wrong-signature"


def test_ignores_a_key_inside_the_token() -> None:
    other = SigningKey.generate()
    token = jwt.encode(payload(), other._private, "EdDSA", {"kid": other.kid, "jwk": other.public_jwk()})
    assert reason(token) == "unknown-key"


def test_refuses_unknown_critical_headers() -> None:
    token = jwt.encode(payload(), KEY._private, "EdDSA", {"kid": KEY.kid, "crit": ["x"], "x": 1})
    assert reason(token) == "malformed"


@given(st.data())
def test_refuses_any_changed_character(data: st.DataObject) -> None:
    token = sign(KEY, claims())
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCdef012-_.").filter(lambda character: character != token[place]))
    with pytest.raises(TunnelTokenInvalid):
        VERIFIER.verify(token[:place] + other + token[place + 1 :], relay_id=RELAY)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*", fullmatch=True))
def test_only_its_own_error_escapes(token: str) -> None:
    with pytest.raises(TunnelTokenInvalid):
        VERIFIER.verify(token, relay_id=RELAY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.sampled_from(sorted(payload())))
def test_only_its_own_error_escapes_from_signed_payloads(value: object, name: str) -> None:
    if name == "iss" and not isinstance(value, str):
        return  # PyJWT refuses to sign such an issuer
    token = KEY.sign_jwt({**payload(), name: value})
    with contextlib.suppress(TunnelTokenInvalid):
        VERIFIER.verify(token, relay_id=RELAY)


@given(JSON, JSON)
def test_only_its_own_error_escapes_from_any_header(header: object, kid: object) -> None:
    for head in (header, {"alg": "EdDSA", "kid": kid}):
        token = b".".join([encode(head), encode(payload()), encode(b"x" * 64)]).decode()
        with pytest.raises(TunnelTokenInvalid):
            VERIFIER.verify(token, relay_id=RELAY)


def test_refuses_huge_tokens_unread() -> None:
    assert reason(KEY.sign_jwt(payload(sub="x" * 4096))) == "malformed"


def test_follows_a_rotation() -> None:
    new = SigningKey.generate()
    verifier = Verifier(jwks([KEY]))
    verifier.update(jwks([KEY, new]))
    assert verifier.key_ids == {KEY.kid, new.kid}
    verifier.verify(sign(new, claims()), relay_id=RELAY)
    verifier.verify(sign(KEY, claims()), relay_id=RELAY)
    verifier.update(jwks([new]))
    with pytest.raises(TunnelTokenInvalid, match="unknown-key"):
        verifier.verify(sign(KEY, claims()), relay_id=RELAY)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "oct"},
        {"crv": "Ed448"},
        {"alg": "HS256"},
        {"use": "enc"},
        {"kid": None},
        {"x": "AAAA"},
        {"x": None},
        {"x": "é"},
    ],
)
def test_ignores_keys_of_another_kind(changes: dict[str, Any]) -> None:
    entry = KEY.public_jwk() | changes
    assert not Verifier({"keys": [entry, "nonsense", 7, None]}).key_ids


def test_without_keys_everything_is_refused() -> None:
    with pytest.raises(TunnelTokenInvalid, match="unknown-key"):
        Verifier({}).verify(sign(KEY, claims()), relay_id=RELAY)


def test_key_survives_storage() -> None:
    loaded = SigningKey.from_pem(KEY.to_pem())
    assert loaded.kid == KEY.kid
    VERIFIER.verify(sign(loaded, claims()), relay_id=RELAY)


@pytest.mark.parametrize(
    "pem",
    [
        b"nonsense",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        KEY._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
    ],
)
def test_loads_only_plain_ed25519_keys(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        SigningKey.from_pem(pem)


def test_shows_nothing_private() -> None:
    assert set(KEY.public_jwk()) == {"kty", "crv", "x", "kid", "use", "alg"}
    assert repr(KEY) == f"<SigningKey {KEY.kid}>"
