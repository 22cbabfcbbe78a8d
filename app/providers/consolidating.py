"""How the demo consolidates memory: one piece of all lines, and the user's own words in the block.

No model works here: it picks what a rule can pick, so that the whole way of a memory can be watched.
"""

import json
import re
from typing import Final

from domain.content import Text, ToolCall, ToolResult
from projections.consolidation import FINISH, RETHINK, STORE
from projections.turns import ModelRequest

LINES_KEPT: Final = 5
CHARS_KEPT: Final = 160

_LINE: Final = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
_USER: Final = re.compile(r"^\[\d+\] user: (.*)$", re.MULTILINE)
_MEMORY: Final = re.compile(
    r"^=== memory ([0-9a-f]{16}) begins ===\n(.*)\n=== memory \1 ends ===$",
    re.MULTILINE | re.DOTALL,
)
_ROOM: Final = re.compile(r"of at most (\d+) characters")


def consolidates(request: ModelRequest) -> bool:
    """Tell whether a request is one to consolidate memory."""
    return {STORE, RETHINK, FINISH} <= {tool.name for tool in request.tools}


def calls_of(request: ModelRequest) -> tuple[ToolCall, ...]:
    """Do all of it at once; once there are results, nothing is left to be done."""
    parts = [part for turn in request.turns for part in turn.parts]
    if any(isinstance(part, ToolResult) for part in parts):
        return (_call(9, FINISH, {}),)
    task = "".join(part.text for part in parts if isinstance(part, Text))
    lines = _LINE.findall(task)
    about = f"{len(lines)} lines, put together by the demo."
    piece = {"start_index": 0, "end_index": len(lines) - 1, "context": about}
    return (
        _call(0, STORE, {"chunks": [piece] if lines else []}),
        _call(1, RETHINK, {"new_memory": _memory(task)}),
        _call(2, FINISH, {}),
    )


def _memory(task: str) -> str:
    """Add what the user said last to what the block holds, as much of it as there is room for."""
    found, room = _MEMORY.search(task), _ROOM.search(task)
    held = found[2].split("\n") if found and found[2] else []
    said = [line[:CHARS_KEPT] for line in _USER.findall(task)[-LINES_KEPT:]]
    whole = list(dict.fromkeys([*held, *(f"- The user said: {one}" for one in said)]))
    most = int(room[1]) if room else CHARS_KEPT
    while len("\n".join(whole)) > most:
        whole.pop(0)
    return "\n".join(whole)


def _call(number: int, name: str, arguments: object) -> ToolCall:
    return ToolCall(id=f"demo-memory-{number}", name=name, arguments=json.dumps(arguments))
