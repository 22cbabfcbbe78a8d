"""`everlog tail`: the facts of a stream as lines, followed across restarts of the server."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import orjson
from rich.console import Console
from rich.text import Text

from app.commands import MISUSED, CommandFailed
from app.commands.lines import line_of
from app.commands.server import checked, client_of, unreachable
from domain.streams import AGENT, BLOCK, CONVERSATION, is_id

COLLECTIONS: Final = {CONVERSATION: "conversations", AGENT: "agents", BLOCK: "blocks"}
PAGE: Final = 1000
EVENT_BYTES_MAX: Final = 64 * 1024 * 1024
RETRY_DELAY_S: Final = 0.5
RETRY_DELAY_S_MAX: Final = 5.0


@dataclass(slots=True)
class Source:
    """A server, one stream there, how far it is read."""

    client: httpx2.Client
    path: str
    cursor: int
    types: list[str]
    delay_s: float = field(default=RETRY_DELAY_S)

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self.client.base_url)

    def query(self, **more: Any) -> dict[str, Any]:
        """Give the query of a request from the cursor on; types are repeated keys."""
        return {"after": self.cursor, **({"types": self.types} if self.types else {}), **more}

    def moved(self, fact: dict[str, Any]) -> dict[str, Any]:
        """Go past a fact, and give it."""
        self.cursor = fact["offset"]
        return fact


def run(stream: str, after: int, url: str, types: list[str], *, follow: bool) -> None:
    """Show facts until there are no more, or for ever. Raises CommandFailed."""
    path = path_of(stream)
    console = Console(highlight=False)
    with client_of(url) as client:
        source = Source(client, path, after, types)
        try:
            for fact in _followed(source) if follow else _paged(source):
                show(console, line_of(fact))
        except KeyboardInterrupt:
            return


def path_of(stream: str) -> str:
    """Give where a stream's facts are. Raises CommandFailed."""
    for prefix, collection in COLLECTIONS.items():
        if is_id(prefix, stream):
            return f"/v1/{collection}/{stream}/events"
    known = ", ".join(f"{prefix}-<uuid4>" for prefix in COLLECTIONS)
    raise CommandFailed(f"{stream!r} is not the id of a stream; those are {known}.", MISUSED)


def show(console: Console, line: Text) -> None:
    """Print a line: cut to the width of a terminal, whole anywhere else."""
    if console.is_terminal:
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        console.print(line, soft_wrap=True)


# --- from the server ----------------------------------------------------------------------------


def _paged(source: Source) -> Iterator[dict[str, Any]]:
    """Give what there is, page by page."""
    while True:
        try:
            answer = source.client.get(source.path, params=source.query(limit=PAGE))
        except httpx2.TransportError as error:
            raise unreachable(source.url, error) from error
        page = checked(answer).json()
        yield from map(source.moved, page["events"])
        if not page["events"] or source.cursor >= page["head"]:
            return


def _followed(source: Source) -> Iterator[dict[str, Any]]:
    """Give what there is and what comes; a server that goes away is waited for."""
    connected = False
    while True:
        try:
            with _connection(source) as answer:
                if answer.status_code < httpx2.codes.INTERNAL_SERVER_ERROR or not connected:
                    checked(answer)
                    connected, source.delay_s = True, RETRY_DELAY_S
                    yield from map(source.moved, _events(answer))
        except httpx2.TransportError as error:
            if not connected:
                raise unreachable(source.url, error) from error
        _wait(source)


def _connection(source: Source) -> Any:
    """Ask for facts after the cursor; a second time as a browser would."""
    headers = {"accept": "text/event-stream"}
    if source.cursor:
        headers["last-event-id"] = str(source.cursor)
    query = source.query(follow="true")
    return source.client.stream("GET", source.path, params=query, headers=headers)


def _events(answer: httpx2.Response) -> Iterator[dict[str, Any]]:
    for event in httpx2.EventSource(answer, max_event_size=EVENT_BYTES_MAX):
        if event.data:
            yield orjson.loads(event.data)


def _wait(source: Source) -> None:
    """Wait before the next try, each time longer; say so the first time."""
    if source.delay_s == RETRY_DELAY_S:
        words = f"connection lost after offset {source.cursor}; trying again until there is one"
        show(Console(stderr=True, highlight=False), Text(words, style="dim"))
    time.sleep(source.delay_s)
    source.delay_s = min(2 * source.delay_s, RETRY_DELAY_S_MAX)
