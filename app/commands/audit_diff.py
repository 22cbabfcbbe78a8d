"""Two windows of a conversation compared: what came in between, what left, and by what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
# A stream, if it is a fork's ancestor, and an offset of it.
Position: TypeAlias = tuple[str | None, int]

# The facts by which messages leave a window, or come back.
MOVES: Final = (
    "window.compacted",
    "window.compaction_undone",
    "window.compaction_redone",
    "window.rolled_back",
)
TAKING: Final = frozenset({"window.compacted", "window.compaction_redone"})


@dataclass(frozen=True, slots=True)
class Source:
    """What is compared; `moves` are the facts between, `compaction` gives one that was recorded."""

    before: Json
    after: Json
    moves: Sequence[Json]
    compaction: Callable[[str], Json]
    _ranges: dict[str, list[Json]] = field(default_factory=dict[str, list[Json]])

    def ranges_of(self, compaction_id: str) -> list[Json]:
        """Give the offsets that a compaction evicted, which are asked for once."""
        if compaction_id not in self._ranges:
            self._ranges[compaction_id] = self.compaction(compaction_id)["ranges"]
        return self._ranges[compaction_id]


def diff_of(source: Source) -> Json:
    """Tell the difference."""
    before, after = _by_position(source.before), _by_position(source.after)
    moves = list(reversed(source.moves))
    entered = [one for position, one in after.items() if position not in before]
    left = [one for position, one in before.items() if position not in after]
    systems = [window["system"] for window in (source.before, source.after)]
    return {
        "before": _counted(source.before),
        "after": _counted(source.after),
        "system_changed": _text(systems[0]) != _text(systems[1]),
        "entered": [_with(one, _move_of(one, moves, source, back=True)) for one in entered],
        "left": [_with(one, _move_of(one, moves, source, back=False)) for one in left],
    }


def _by_position(window: Json) -> dict[Position, Json]:
    return {(one.get("stream"), one["offset"]): one for one in window["messages"]}


def _counted(window: Json) -> Json:
    system = window["system"]
    return {
        "at": window["at"],
        "messages": len(window["messages"]),
        "tokens": window["tokens"]["total"],
        "cutoff": window["cutoff"],
        "system_at": None if system is None else system["offset"],
    }


def _text(system: Json | None) -> str | None:
    return None if system is None else system["text"]


def _with(message: Json, move: Json | None) -> Json:
    """Give a message with the fact that moved it; one that was simply said has none."""
    by = None if move is None else {key: move[key] for key in ("type", "offset", "compaction_id")}
    return {**message, "by": by}


def _move_of(message: Json, moves: Sequence[Json], source: Source, *, back: bool) -> Json | None:
    """Find the newest fact that brought a message back, or took it away."""
    for move in moves:
        for key in _compactions_of(move):
            if _moved(message, move, key, source, back=back):
                return {**move, "compaction_id": key}
        if not back and message["message_id"] in move["data"].get("message_ids", ()):
            return {**move, "compaction_id": None}
    return None


def _compactions_of(move: Mapping[str, Any]) -> list[str]:
    data = move["data"]
    return [data["compaction_id"]] if "compaction_id" in data else data.get("compaction_ids", [])


def _moved(message: Json, move: Json, compaction_id: str, source: Source, *, back: bool) -> bool:
    """Tell whether what happened to a compaction moved a message: one it evicted, or its summary."""
    taking = move["type"] in TAKING
    if message.get("compaction_id") == compaction_id:
        return taking == back
    offset = message["offset"]
    evicted = any(
        one["first"] <= offset <= one["last"] and one.get("stream") == message.get("stream")
        for one in source.ranges_of(compaction_id)
    )
    return evicted and taking != back
