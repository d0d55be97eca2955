"""The PROXY protocol, versions 1 and 2, sans-IO: what a load balancer says in front of a connection's bytes.

`tcp` reads it where a listener is told to expect it (`Introduction`). Owns the grammar of the header
and nothing else: whose header may be believed is decided before it is read. Source: "The PROXY protocol,
versions 1 & 2", HAProxy project, doc/proxy-protocol.txt (sections 2.1 and 2.2), revision of 2020/03/05.

Nothing is ever guessed: where a header is expected, a connection without one is refused, since anybody could
else leave it out, or be taken at their word for having put one in.
"""

from __future__ import annotations

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""Begins a header of version 2."""
LONGEST_V1: Final = 107
"""Bytes of a header of version 1 with its line break (section 2.1)."""
LONGEST: Final = 4_096
"""Bytes of a header of version 2 that are read. It may have 64 KiB by its grammar; senders keep it below the
536 that fit into any segment (section 2), and the longest known, with a certificate's names, below 2,000."""

_V1: Final = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([^ ]+) ([^ ]+) (\d{1,5}) (\d{1,5})|UNKNOWN(?: [^\r\n]*)?)\r\n"
)
_V1_BEGINS: Final = b"PROXY "
_PREFIX: Final = struct.Struct("!12sBBH")
_VERSION: Final = 0x20
_LOCAL, _PROXY = 0, 1
_FAMILIES: Final = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}
_UNIX_STREAM: Final = 0x31
_UNIX_SIZE: Final = 216
_TLV: Final = struct.Struct("!BH")
_TLV_CRC32C: Final = 0x03
_TLV_SSL: Final = 0x20
_CLIENT_SSL: Final = 0x01
_MAX_PORT: Final = 65_535


class ProxyProtocolError(ValueError):
    """The bytes are no header of the versions that are expected. Its text says what is wrong."""


class ProxyHeader(NamedTuple):
    """What a header says. ``host`` is empty where it names nobody: then the connection is the proxy's own."""

    size: int
    """Bytes of the header; what follows is the sender's."""
    host: str = ""
    port: int = 0
    secure: bool | None = None
    """Whether the sender came over TLS; None where the proxy does not say."""


def parse_proxy_header(data: bytes, versions: frozenset[int] = frozenset({1, 2})) -> ProxyHeader | None:
    """Return the header that ``data`` begins with, or None when more bytes are needed to tell.

    Raises ProxyProtocolError as soon as it cannot become a header of one of ``versions``.
    """
    if 2 in versions and data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if 1 in versions and data[: len(_V1_BEGINS)] == _V1_BEGINS[: len(data)]:
        return _parse_v1(data)
    raise ProxyProtocolError("it does not begin with a header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, LONGEST_V1) + 1
    if not end:
        if len(data) >= LONGEST_V1:
            raise ProxyProtocolError("its line is too long")
        return None
    found = _V1.fullmatch(data, 0, end)
    if found is None:
        raise ProxyProtocolError("its line is malformed")
    if found[1] is None:
        return ProxyHeader(end)
    address = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        host, _ = (address(found[index].decode("ascii")) for index in (2, 3))
    except (AddressValueError, UnicodeDecodeError):
        raise ProxyProtocolError("an address is malformed") from None
    ports = [found[4], found[5]]
    if any(int(port) > _MAX_PORT or (len(port) > 1 and port.startswith(b"0")) for port in ports):
        raise ProxyProtocolError("a port is malformed")
    return ProxyHeader(end, _plain(host), int(ports[0]))


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _PREFIX.size:
        return None
    _, version, family, length = _PREFIX.unpack_from(data)
    command = version & 0x0F
    if version & 0xF0 != _VERSION or command not in {_LOCAL, _PROXY}:
        raise ProxyProtocolError(f"its version and command are {version:#04x}")
    size = _PREFIX.size + length
    if size > LONGEST:
        raise ProxyProtocolError(f"it has {size} bytes")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size)  # the proxy itself, such as a health check; the rest is to be ignored
    block = data[_PREFIX.size : size]
    if family == 0:
        return ProxyHeader(size)  # it does not know either
    if family == _UNIX_STREAM:
        host, port, used = "", 0, _UNIX_SIZE
        if len(block) < used:
            raise ProxyProtocolError("its addresses are cut short")
    else:
        host, port, used = _inet(family, block)
    crc, secure = _read_tlvs(block[used:])
    if crc is not None:
        at = _PREFIX.size + used + crc
        if _crc32c(data[:at] + bytes(4) + data[at + 4 : size]) != int.from_bytes(data[at : at + 4], "big"):
            raise ProxyProtocolError("its checksum is wrong")
    return ProxyHeader(size, host, port, secure)


def _inet(family: int, block: bytes) -> tuple[str, int, int]:
    """Return the source's host and port, and the size of the addresses."""
    layout = _FAMILIES.get(family)
    if layout is None:
        raise ProxyProtocolError(f"its family and protocol are {family:#04x}, and not a stream's")
    if len(block) < layout.size:
        raise ProxyProtocolError("its addresses are cut short")
    source, _, port, _ = layout.unpack_from(block)
    host = IPv4Address(source) if len(source) == 4 else IPv6Address(source)
    return _plain(host), port, layout.size


def _read_tlvs(data: bytes) -> tuple[int | None, bool | None]:
    """Return where in ``data`` the checksum stands, if there is one, and whether the sender came over TLS."""
    crc: int | None = None
    secure: bool | None = None
    at = 0
    while at < len(data):
        if len(data) - at < _TLV.size:
            raise ProxyProtocolError("an extension is cut short")
        kind, length = _TLV.unpack_from(data, at)
        at += _TLV.size
        if len(data) - at < length:
            raise ProxyProtocolError("an extension is cut short")
        if kind == _TLV_CRC32C:
            if length != 4 or crc is not None:
                raise ProxyProtocolError("its checksum is malformed")
            crc = at
        elif kind == _TLV_SSL:
            if not length:
                raise ProxyProtocolError("an extension is cut short")
            secure = bool(data[at] & _CLIENT_SSL)
        at += length
    return crc, secure


def _plain(host: IPv4Address | IPv6Address) -> str:
    """Return the address as text; an IPv4 address within an IPv6 one is given as IPv4, as `tcp` does."""
    if isinstance(host, IPv6Address) and host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(host)


def _crc32c(data: bytes) -> int:
    """Return the CRC32c (RFC 9260 appendix A), which the standard library does not have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_TABLE: Final = tuple(_crc_of(byte) for byte in range(256))
