"""The summary message: what the model, and people, are told in place of what left the window."""

import dataclasses
import json
from typing import Any, Final

from projections.items import SummaryItem

# Compactions whose arithmetic is of no use to the model: it was not the window that wanted them.
BY_HAND: Final = frozenset({"manual", "import"})
# What stands before the summary, as in the original.
INTRODUCED: Final = "summary of the previous messages:"
# What a model may read hidden messages with, if it is offered these tools.
RECALL_TOOLS: Final = "conversation_search(query) or recall(offset)"


def packed(item: SummaryItem) -> str:
    """Give a summary as the model gets it: JSON text, made to be read (contract section 8.6)."""
    told: dict[str, Any] = {
        "type": "system_alert",
        "message": _message(item),
        "time": item.at.isoformat(timespec="seconds"),
        "recall": f"offsets {item.first} to {item.last}, by {RECALL_TOOLS}",
    }
    if item.stats.trigger not in BY_HAND:
        told["compaction_stats"] = stats_of(item)
    return json.dumps(told, indent=1, ensure_ascii=False)


def stats_of(item: SummaryItem) -> dict[str, Any]:
    """Give a compaction's arithmetic under the names that clients know."""
    return dataclasses.asdict(item.stats)


def _message(item: SummaryItem) -> str:
    return (
        f"{item.hidden} earlier messages are hidden, for want of room, but still stored.\n"
        f"The following is a {INTRODUCED}\n {item.summary}"
    )


def summary_in(text: str) -> str | None:
    """Give the summary that a packed message holds, None if the text is no such message."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match told:
        case {"type": "system_alert", "message": str(message)} if INTRODUCED in message:
            return message.partition(INTRODUCED)[2].strip()
        case _:
            return None
