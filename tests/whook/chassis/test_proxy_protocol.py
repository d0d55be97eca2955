"""PROXY headers: what is written by the specification is read, whole or in pieces; all else is refused."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis.proxy_protocol import (
    LONGEST,
    LONGEST_V1,
    SIGNATURE,
    ProxyHeader,
    ProxyProtocolError,
    _crc32c,
    parse_proxy_header,
)

BOTH = frozenset({1, 2})
ports = st.integers(0, 65_535)
pairs = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(*[st.ip_addresses(v=6)] * 2)
)
extensions = st.lists(
    st.tuples(st.sampled_from([0x01, 0x02, 0x04, 0x05, 0x30, 0xE0]), st.binary(max_size=60)), max_size=4
)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def v1(source: object, target: object, port: int, other: int) -> bytes:
    kind = "TCP4" if isinstance(source, IPv4Address) else "TCP6"
    return f"PROXY {kind} {source} {target} {port} {other}\r\n".encode()


def v2(family: int, block: bytes, *, version: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version, family, len(block)) + block


def inet(source: IPv4Address | IPv6Address, target: IPv4Address | IPv6Address, *ports: int) -> bytes:
    return source.packed + target.packed + struct.pack("!HH", *ports)


def plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def with_crc(family: int, block: bytes) -> bytes:
    """Give a header whose checksum is computed as section 2.2 has it: over all, its own bytes being 0."""
    bare = v2(family, block + tlv(0x03, bytes(4)))
    return bare[:-4] + _crc32c(bare).to_bytes(4, "big")


def check_pieces(header: bytes, found: ProxyHeader, rest: bytes) -> None:
    assert parse_proxy_header(header + rest) == found
    assert found.size == len(header)
    for cut in range(len(header)):
        assert parse_proxy_header(header[:cut]) is None


@given(pairs, ports, ports, st.binary(max_size=40))
def test_version_1(addresses: tuple[IPv4Address, IPv4Address], port: int, other: int, rest: bytes) -> None:
    header = v1(*addresses, port, other)
    assert len(header) <= LONGEST_V1
    check_pieces(header, ProxyHeader(len(header), plain(addresses[0]), port), rest)


@given(
    pairs,
    ports,
    ports,
    extensions,
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.binary(max_size=40),
)
def test_version_2(
    addresses: tuple[IPv4Address, IPv4Address],
    port: int,
    other: int,
    more: list[tuple[int, bytes]],
    secure: bool | None,
    checked: bool,
    rest: bytes,
) -> None:
    family = 0x11 if addresses[0].version == 4 else 0x21
    block = inet(*addresses, port, other) + b"".join(tlv(*one) for one in more)
    if secure is not None:
        block += tlv(0x20, struct.pack("!BI", secure, 0) + tlv(0x21, b"TLSv1.3"))
    header = with_crc(family, block) if checked else v2(family, block)
    check_pieces(header, ProxyHeader(len(header), plain(addresses[0]), port, secure), rest)


@given(st.binary(max_size=300))
def test_nothing_but_its_own_error_escapes(data: bytes) -> None:
    for begun in (
        data,
        b"PROXY " + data,
        b"PROXY TCP4 " + data,
        SIGNATURE + data,
        SIGNATURE + b"\x21\x11" + data,
    ):
        try:
            found = parse_proxy_header(begun)
        except ProxyProtocolError:
            continue
        assert found is None or found.size <= len(begun)
        assert found is None or not found.host or ip_address(found.host)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        v2(0x00, b"", version=0x20),
        v2(0x11, b"anything at all", version=0x20),
        v2(0x00, b""),
        v2(0x31, bytes(216)),
    ],
)
def test_a_proxy_that_speaks_of_nobody(header: bytes) -> None:
    check_pieces(header, ProxyHeader(len(header)), b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",  # TLS
        b"PROXYTCP4",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 evil 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 \xd9\xa1 2\r\n",
        b"PROXY UNIX a b 1 2\r\n",
        b"PROXY UNKNOWN " + b"x" * LONGEST_V1,
        v2(0x11, bytes(11)),
        v2(0x21, bytes(35)),
        v2(0x31, bytes(215)),
        v2(0x12, bytes(12)),
        v2(0x13, bytes(12)),
        v2(0x11, bytes(12), version=0x11),
        v2(0x11, bytes(12), version=0x22),
        v2(0x11, bytes(12) + b"\x01\x00"),
        v2(0x11, bytes(12) + b"\x01\x00\x05abc"),
        v2(0x11, bytes(12) + tlv(0x20, b"")),
        v2(0x11, bytes(12) + tlv(0x03, b"\0\0\0")),
        v2(0x11, bytes(12) + tlv(0x03, b"\0\0\0\0")),
        v2(0x11, bytes(LONGEST)),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse_proxy_header(data)


def test_one_version_is_not_the_other() -> None:
    one, two = v1(IPv4Address(1), IPv4Address(2), 1, 2), v2(0x11, inet(IPv4Address(1), IPv4Address(2), 1, 2))
    for header, versions in ((one, {2}), (two, {1})):
        with pytest.raises(ProxyProtocolError, match="does not begin"):
            parse_proxy_header(header, frozenset(versions))
        assert parse_proxy_header(header, BOTH - versions) is not None


def test_the_checksum_is_the_known_one() -> None:
    """The check value of CRC-32C, and the vector of 32 zeros of RFC 3720 appendix B.4."""
    assert _crc32c(b"123456789") == 0xE3069283
    assert _crc32c(bytes(32)) == 0x8A9136AA


def test_a_changed_byte_breaks_the_checksum() -> None:
    header = bytearray(with_crc(0x11, inet(IPv4Address(1), IPv4Address(2), 1, 2)))
    header[19] ^= 1
    with pytest.raises(ProxyProtocolError, match="checksum"):
        parse_proxy_header(bytes(header))
