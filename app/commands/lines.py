"""A fact as a line in a terminal: offset, time, type, and what matters of it."""

from datetime import datetime
from typing import Any, Final, cast

import orjson
from rich.text import Text

TEXT_CHARACTERS_MAX: Final = 120
OFFSET_WIDTH: Final = 6
TYPE_WIDTH: Final = 21

# What matters of each type, in this order; of others, everything.
SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "conversation.started": ("agent_id", "parent"),
    "message.queued": ("role", "content", "mode"),
    "message.appended": ("role", "content", "approvals"),
    "run.queued": ("run_id", "on_busy", "continues"),
    "run.claimed": ("run_id", "epoch", "node", "model"),
    "run.cancel_requested": ("run_ids", "reason"),
    "run.finished": ("run_id", "status", "stop_reason", "error"),
    "step.started": ("index", "attempt", "model", "message_id"),
    "step.delta": ("kind", "x", "call"),
    "step.part": ("kind", "text", "call", "interrupted"),
    "step.finished": ("s", "outcome", "parts", "finish_reason", "error"),
    "step.superseded": ("s", "reason", "attempt"),
    "tool.started": ("name", "tool_call_id", "epoch"),
    "tool.finished": ("name", "tool_call_id", "status", "content", "source"),
    "message.changed": ("message_id", "pinned"),
    "window.compaction_started": ("compaction_id", "trigger", "tokens", "context_window"),
    "window.compacted": ("compaction_id", "before", "summary"),
    "window.compaction_failed": ("compaction_id", "reason", "detail"),
    "window.recompiled": ("reason",),
    "window.rolled_back": ("run_ids",),
    "memory.consolidation_queued": ("consolidation_id", "trigger", "after"),
    "memory.consolidation_finished": ("consolidation_id", "outcome", "stored", "value", "detail"),
    "agent.created": ("settings",),
    "block.created": ("settings",),
}
STYLES: Final = {
    "run": "cyan",
    "step": "green",
    "message": "bold",
    "window": "magenta",
    "tool": "blue",
    "memory": "magenta",
    "step.delta": "dim",
    "step.superseded": "yellow",
}


def line_of(fact: dict[str, Any]) -> Text:
    """Give a fact, in the form of the API, as a line."""
    kind = str(fact["type"])
    at = datetime.fromisoformat(fact["at"]).astimezone()
    style = STYLES.get(kind) or STYLES.get(kind.split(".", 1)[0], "")
    return Text.assemble(
        (f"{fact['offset']:>{OFFSET_WIDTH}}", "bold"),
        (f"  {at:%H:%M:%S}.{at.microsecond // 1000:03}  ", "dim"),
        (f"{printable(kind):<{TYPE_WIDTH}} ", style),
        summary_of(kind, fact["data"]),
    )


def summary_of(kind: str, data: dict[str, Any]) -> str:
    """Tell what matters of a fact in a few words."""
    names = SHOWN.get(kind, tuple(data))
    return "  ".join(_told(name, data[name]) for name in names if data.get(name) is not None)


def _told(name: str, value: object) -> str:
    """Spell a field; those that speak for themselves go without their name."""
    if name in ("content", "text", "x", "summary"):
        return f"“{_short(_words_of(value))}”"
    words = _short(value if isinstance(value, str) else orjson.dumps(value).decode())
    if name in ("role", "kind", "status", "outcome") or words.startswith(f"{name[:-3]}-"):
        return words
    return f"{name}={words}"


def _words_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content)
    return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in parts)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def printable(text: str) -> str:
    """Take out what could steer a terminal: what is shown was written by anybody."""
    return "".join(one if one.isprintable() else " " for one in text)
