"""`everlog tail`: the facts of a stream in the terminal, as they happen."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.text import Text

from app.commands import MISUSED, CommandFailed
from domain.streams import AGENT, BLOCK, CONVERSATION, is_id, kind_of

COLLECTIONS: Final = {CONVERSATION: "conversations", AGENT: "agents", BLOCK: "blocks"}
RECONNECT_S: Final = 1.0
SUMMARY_MAX: Final = 100
# Longer than the server is ever silent: it gives a sign of life each 20 s.
SILENCE_MAX_S: Final = 60.0


def run(stream: str, after: int, url: str, types: Sequence[str], *, follow: bool) -> None:
    """Print a line per fact. Raises CommandFailed."""
    if kind_of(stream) not in COLLECTIONS or not is_id(kind_of(stream), stream):
        raise CommandFailed(f"{stream!r} is not the id of a conversation, agent or block.", MISUSED)
    console = Console(soft_wrap=True, highlight=False)
    path = f"{url.rstrip('/')}/v1/{COLLECTIONS[kind_of(stream)]}/{stream}/events"
    try:
        for fact in _facts(path, after, types, follow=follow):
            console.print(line_of(fact))
    except KeyboardInterrupt:
        return


def _facts(
    path: str, after: int, types: Sequence[str], *, follow: bool
) -> Iterator[dict[str, Any]]:
    """Read facts, and after a broken connection go on after the last one."""
    seen: int | None = None
    while True:
        try:
            for fact in _connection(path, after if seen is None else seen, types, follow=follow):
                seen = fact["offset"]
                yield fact
        except httpx2.TransportError as error:
            if seen is None or not follow:
                raise CommandFailed(f"There is no Everlog at {path}: {error}") from error
        if not follow:
            return
        seen = after if seen is None else seen
        time.sleep(RECONNECT_S)


def _connection(
    path: str, after: int, types: Sequence[str], *, follow: bool
) -> Iterator[dict[str, Any]]:
    query = {"after": after, "follow": str(follow).lower(), **({"types": types} if types else {})}
    headers = {"accept": "text/event-stream"}
    with httpx2.stream("GET", path, params=query, headers=headers, timeout=SILENCE_MAX_S) as reply:
        if not reply.is_success:
            raise CommandFailed(_detail_of(reply))
        for line in reply.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def _detail_of(reply: httpx2.Response) -> str:
    body = reply.read()
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {reply.status_code}."


def line_of(fact: dict[str, Any]) -> Text:
    """Give a fact as a line: offset, time, type, and what it is about."""
    line = Text(f"{fact['offset']:>7}  {fact['at'][11:23]}  ", style="dim")
    line.append(f"{fact['type']:<22} ", style="bold")
    line.append(summary_of(fact["data"]), style="none")
    return line


def summary_of(data: dict[str, Any]) -> str:
    """Tell the words of a fact if it has any, else its plain fields."""
    words = data.get("x", data.get("text", data.get("content")))
    if isinstance(words, str):
        return repr(words if len(words) <= SUMMARY_MAX else f"{words[:SUMMARY_MAX]}…")
    shown = (f"{name}={value}" for name, value in data.items() if isinstance(value, str | int))
    return " ".join(shown)[:SUMMARY_MAX]
