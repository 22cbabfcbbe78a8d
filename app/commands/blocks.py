"""What became of a memory block, asked of a running server: its versions, told one by one."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import httpx2
import orjson
import typer

from app.commands import MISUSED, CommandFailed, server
from app.commands.audit import escaped
from app.commands.audit_lines import short
from app.commands.lines import OFFSET_WIDTH, printable
from domain.streams import BLOCK, is_id

INDENT: Final = " " * (OFFSET_WIDTH + 2)
DIFF_LINES_MAX: Final = 40


def history(block_id: str, url: str, limit: int, *, deleted: bool, raw: bool) -> None:
    """Show a block's newest versions, the oldest of them first. Raises CommandFailed."""
    if not is_id(BLOCK, block_id):
        raise CommandFailed(f"{block_id!r} is not the id of a block: {BLOCK}-<uuid4>.", MISUSED)
    answer = _asked(url, block_id, {"limit": limit, "deleted": deleted})
    if raw:
        typer.echo(escaped(orjson.dumps(answer).decode()))
        return
    for line in history_lines(answer):
        typer.echo(line)


def _asked(url: str, block_id: str, query: dict[str, Any]) -> Any:
    with server.client_of(url) as client:
        try:
            answer = client.get(f"/v1/blocks/{block_id}/history", params=query)
        except httpx2.TransportError as error:
            raise server.unreachable(url, error) from error
        return server.checked(answer).json()


def history_lines(answer: dict[str, Any]) -> Iterator[str]:
    """Tell versions as lines: who, what, and the difference of the value."""
    versions = answer["versions"][::-1]
    if versions and versions[0]["version"] > 1:
        yield f"{versions[0]['version'] - 1} earlier versions; --limit shows more of them"
    for one in versions:
        yield from _version_lines(one)


def _version_lines(one: dict[str, Any]) -> Iterator[str]:
    at = f"{datetime.fromisoformat(one['at']).astimezone():%Y-%m-%d %H:%M}"
    back = "" if one["reverted_to"] is None else f" to {one['reverted_to']}"
    chars = f"{one['chars']} characters"
    yield f"{one['version']:>{OFFSET_WIDTH}}  {at}  {one['kind']}{back}, {chars}, {_by(one)}"
    for name, change in one["changes"].items():
        yield f"{INDENT}{printable(name)}: {short(change['before'])} -> {short(change['after'])}"
    lines = one["diff"].split("\n")[:-1]
    for line in lines[:DIFF_LINES_MAX]:
        yield f"{INDENT}{printable(line)}"
    if len(lines) > DIFF_LINES_MAX:
        yield f"{INDENT}and {len(lines) - DIFF_LINES_MAX} more lines; --json has them"


def _by(one: dict[str, Any]) -> str:
    cause = one["cause"]
    if cause is None:
        return f"by {printable(one['by'])}"
    place = f"{cause['conversation_id']} at offset {cause['offset']}"
    return f"by the tool {printable(cause['tool'] or '?')} in {printable(place)}"
