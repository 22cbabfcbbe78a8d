"""`everlog import-agent` and `everlog export-agent`: agents as files, by a running server."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import typer

from app.commands import MISUSED, CommandFailed, server
from app.commands.lines import printable
from app.commands.maintain import counted
from domain.streams import AGENT, is_id

# A large file is worked on for a while before the answer begins.
PATIENCE: Final = httpx2.Timeout(30.0, read=600.0)


def run_import(file: Path, url: str, model: str | None, name: str | None) -> None:
    """Bring the agents of a file in; tell what came over and what did not. Raises CommandFailed."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}.", MISUSED) from error
    wishes = {"model": model, "name": name}
    answer = _asked(
        url,
        "POST",
        "/v1/agents/import",
        files={"file": (file.name, content)},
        data={key: value for key, value in wishes.items() if value is not None},
    )
    told = answer.json()
    for one in told["imported"]:
        typer.echo(_told(one))
    for words in told["left_out"]:
        typer.echo(f"left out: {printable(words)}")


def _told(one: Mapping[str, Any]) -> str:
    parts = (
        counted(one["blocks"], "block"),
        counted(one["conversations"], "conversation"),
        f"{counted(one['messages'], 'message')}, {one['in_window']} of them in a window",
        counted(one["passages"], "passage"),
    )
    name, model = printable(one["name"]), printable(one["model"])
    return f"{one['agent_id']}: {name} with {model}; {', '.join(parts)}"


def run_export(agent_id: str, output: Path | None, url: str) -> None:
    """Write an agent as a file, or to the standard output. Raises CommandFailed."""
    if not is_id(AGENT, agent_id):
        raise CommandFailed(f"{agent_id!r} is not the id of an agent: {AGENT}-<uuid4>.", MISUSED)
    content = _asked(url, "GET", f"/v1/agents/{agent_id}/export").content
    if output is None:
        sys.stdout.buffer.write(content + b"\n")
        return
    try:
        output.write_bytes(content + b"\n")
    except OSError as error:
        raise CommandFailed(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(f"{agent_id} is in {output}, {len(content)} bytes.")


def _asked(url: str, method: str, path: str, **given: Any) -> httpx2.Response:
    with server.client_of(url) as client:
        try:
            answer = client.request(method, path, timeout=PATIENCE, **given)
        except httpx2.TransportError as error:
            raise server.unreachable(url, error) from error
        return server.checked(answer)
