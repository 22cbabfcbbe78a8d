"""Who may call over loopback: a browser on this machine runs pages of anybody's.

There is no authentication, so what keeps others out is that only this machine reaches the server.
A web page is let in by the browser, either under a name of its own that it has come to mean this
machine, or as a request across sites that needs no answer to do its work.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.errors import NO_RETRY, json_response

NAMES_KNOWN_MAX: Final = 1024
# A name has at most 253 characters, and then there is the port.
PLACE_CHARS_MAX: Final = 300
SHOWN_CHARS_MAX: Final = 256
SETTING: Final = "If it is meant to, name its host in EVERLOG_ALLOWED_HOSTS."


class KnownHosts:
    """Answers 403 to what comes over loopback under a strange name, or from a page of another site.

    Names of this machine are known, those `allowed`, and as `Host` any address: no name can be made
    to mean another one then.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look who calls."""
        problem = None
        if scope["type"] == "http" and _over_loopback(scope):
            problem = self._problem(dict(scope["headers"]))
        if problem is None:
            await self._app(scope, receive, send)
        else:
            detail = {"detail": f"FORBIDDEN: {problem} {SETTING}"}
            await json_response(403, detail, NO_RETRY)(scope, receive, send)

    def _problem(self, headers: dict[bytes, bytes]) -> str | None:
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host is not None and not (_address_in(host) or self._knows(host)):
            return f"This server is not called {_shown(host)} on this machine."
        if origin is None:
            return None
        scheme, _, place = origin.partition(b"://")
        if scheme in (b"http", b"https") and (place == host or self._knows(place)):
            return None
        return f"A page of {_shown(origin)} may not call this server."

    def _knows(self, place: bytes) -> bool:
        name = _name_in(place)
        return name in self._allowed or _is_of_this_machine(name)


def _over_loopback(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and _is_of_this_machine(server[0])


def _name_in(place: bytes) -> str:
    """Give the name in a name with a port, "" if there is none."""
    return _parsed(place) if len(place) <= PLACE_CHARS_MAX else ""


@lru_cache(NAMES_KNOWN_MAX)
def _parsed(place: bytes) -> str:
    try:
        return (urlsplit(f"//{place.decode('latin-1')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


@lru_cache(NAMES_KNOWN_MAX)
def _is_of_this_machine(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address is not None and (mapped or address).is_loopback


def _address_in(place: bytes) -> bool:
    return _address(_name_in(place)) is not None


@lru_cache(NAMES_KNOWN_MAX)
def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _shown(value: bytes) -> str:
    return repr(value.decode("latin-1")[:SHOWN_CHARS_MAX])
