"""Which addresses the server may call on a caller's word: only what everybody could reach."""

import asyncio
import ipaddress
import socket
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS: Final = {"http": 80, "https": 443}
# RFC 6052: the well-known prefix in which a translator finds an IPv4 address.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# All that is routed between networks; older Pythons call much of the rest global, too.
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_EXAMPLES: Final = ipaddress.IPv6Network("3fff::/20")


class Forbidden(Exception):
    """A URL that the server does not call; the sentence says why."""


class Target(NamedTuple):
    """Where a checked URL leads: the very address that was checked."""

    scheme: str
    host: str
    address: str
    port: int
    path: str


def check_url(url: str, *, private: bool) -> SplitResult:
    """Take a URL apart. Raises Forbidden for one that is certain not to be called.

    A name is not looked up here: what it leads to is checked when it is called.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Forbidden(f"it is not a URL: {error}") from None
    if parts.scheme not in PORTS:
        raise Forbidden("it must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise Forbidden("it must not hold a user name or a password")
    if not parts.hostname:
        raise Forbidden("it names no host")
    host = _ascii(parts.hostname)
    if not private:
        _check_name(host.removesuffix("."))
    return parts


def _ascii(host: str) -> str:
    """Spell a name as it is looked up, and as it goes into a header."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise Forbidden("its host is not a name") from None


def _check_name(host: str) -> None:
    if host == "localhost" or host.endswith(".localhost"):
        raise Forbidden(f"{host} is this machine, not an address that everybody can reach")
    try:
        # The old spellings of numbers (127.1, 0x7f000001) lead where they always did.
        literal = socket.inet_ntoa(socket.inet_aton(host)) if _is_number(host) else host
        address = ipaddress.ip_address(literal)
    except (ValueError, OSError):
        return
    _check_address(address)


def _is_number(host: str) -> bool:
    return ":" not in host and all(part and part[0].isdigit() for part in host.split("."))


def _check_address(address: Address) -> None:
    if not is_public(address):
        raise Forbidden(f"{address} is not an address that everybody can reach")


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open internet, also inside one that embeds it."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        if address not in _UNICAST or address in _EXAMPLES:
            return False
    return address.is_global and not address.is_multicast


async def resolved(url: str, *, private: bool, turn: int = 0) -> Target:
    """Find an address of a URL, another at each `turn`. Raises Forbidden if any of them is private.

    The caller connects to this address and not to the name, which could lead elsewhere by then.
    Raises OSError for a name that leads nowhere.
    """
    parts = check_url(url, private=private)
    host, port = _ascii(parts.hostname or ""), parts.port or PORTS[parts.scheme]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    checked = (ipaddress.ip_address(address.partition("%")[0]) for address in addresses)
    if not private and not all(map(is_public, checked)):
        # Not which: what names lead to inside is nobody's business.
        raise Forbidden(f"{host} does not lead to where everybody can reach")
    address = addresses[turn % len(addresses)]
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, host, address, port, f"{path}{query}")
