"""Files of conversations, as tests write and read them."""

import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

from app.commands.history import run_export
from tests.databases import opened, url_at

Lines: TypeAlias = list[dict[str, Any]]

GUIDE: Final = {"name": "guide", "model": "demo/echo"}
HEADER: Final[dict[str, Any]] = {"conversation": {"agent": GUIDE}}
HELLO: Final = {"role": "user", "content": "Hello!"}
LOOK: Final[dict[str, Any]] = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [{"id": "c1", "name": "weather", "arguments": "{}"}],
}
WARM: Final = {"role": "tool", "tool_call_id": "c1", "content": "20 °C"}
OF_NOBODY: Final = "agent-99999999-9999-4999-8999-999999999999"
IMAGE: Final[dict[str, Any]] = {
    "type": "image",
    "source": {"type": "url", "url": "https://example.org/a.png"},
}


def file_of(*lines: Any) -> bytes:
    return b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )


def written(folder: Path, *lines: Any) -> str:
    path = folder / "in.jsonl"
    path.write_bytes(file_of(*lines))
    return str(path)


def nothing(_: int) -> None:
    """Watch no progress."""


def exported(database: Path, *names: str, **more: bool) -> Lines:
    """Give the lines of an export to a file."""
    flags = {"every": not names, "deleted": False, "rolled_back": False} | more
    output = database.with_suffix(".jsonl")
    run_export(names, output, url_at(database), **flags)
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def dateless(lines: Iterable[dict[str, Any]]) -> Lines:
    return [{name: one[name] for name in one if name != "date"} for one in lines]


def facts_in(database: Path) -> dict[str, int]:
    with closing(opened(database)) as store:
        return {stream: head for stream, head, _ in store.streams()}
