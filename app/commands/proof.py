"""What a client saw against what the log holds: what is missing, changed or doubled."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

WORDS_SHOWN_MAX: Final = 60


class Claim(NamedTuple):
    """Something that ought to be so, and whether it is."""

    words: str
    holds: bool


@dataclass
class Seen:
    """What the client was shown: each frame under its number, each message's words under its id."""

    run_id: str = ""
    frames: dict[int, Any] = field(default_factory=dict[int, Any])
    words: dict[str, str] = field(default_factory=dict[str, str])
    doubled: list[int] = field(default_factory=list[int])

    @property
    def last(self) -> int:
        """The last number seen."""
        return max(self.frames, default=0)

    def take(self, frame: Any) -> str:
        """Keep a frame; give its words."""
        self.run_id = getattr(frame, "run_id", None) or self.run_id
        number = getattr(frame, "seq_id", None)
        # A later ping is a sign of life, not a fact: it repeats the last number.
        if number is None or (frame.message_type == "ping" and number in self.frames):
            return ""
        if number <= self.last:
            self.doubled.append(number)
        self.frames[number] = frame
        if frame.message_type != "assistant_message":
            return ""
        self.words[frame.id] = self.words.get(frame.id, "") + frame.content
        return frame.content


def claims_of(
    facts: list[dict[str, Any]], seen: Seen, stored: dict[str, str], verdict: dict[str, Any]
) -> list[Claim]:
    """Compare it all. `stored` are the words of the replies in the message list, by id."""
    count = len(facts)
    log = {fact["offset"]: fact for fact in facts}
    replies = _replies_of(facts)
    ghosts = {replies[s] for s in _steps(facts, "step.superseded")}
    whole = (verdict["ok"], verdict["head"], verdict["hash"])
    return [
        Claim(
            f"the log's {count} facts are numbered 1 to {count} without a gap",
            [fact["offset"] for fact in facts] == list(range(1, count + 1)),
        ),
        Claim(
            "its hash chain holds from the first fact to the last",
            count > 0 and whole == (True, count, facts[-1]["hash"]),
        ),
        Claim(
            f"each of the {len(seen.frames)} frames seen says what the fact of its number says",
            all(_agrees(frame, log.get(at), replies) for at, frame in seen.frames.items()),
        ),
        Claim("no frame came twice or out of order", not seen.doubled),
        Claim("no word of a finished reply was missed", _words_at(facts) <= seen.frames.keys()),
        Claim(
            "the replies joined from the stream are the stored ones, letter by letter",
            bool(stored) and stored == {i: w for i, w in seen.words.items() if i not in ghosts},
        ),
        Claim(
            "the half reply is marked as superseded, and in no list of messages",
            bool(ghosts) and ghosts.isdisjoint(stored),
        ),
    ]


def taken_again(facts: list[dict[str, Any]], seen: Seen) -> list[str]:
    """Tell how a new process took over what a dead one had begun."""
    replies = _replies_of(facts)
    lines: list[str] = []
    for fact in facts:
        offset, kind, data = fact["offset"], fact["type"], fact["data"]
        if kind == "run.claimed":
            lines.append(f"offset {offset}: {data['node']} took the run, epoch {data['epoch']}")
        elif kind == "step.superseded":
            half = seen.words.get(replies[data["s"]], "")
            lines.append(
                f"offset {offset}: the half reply begun at offset {data['s']} is superseded, and "
                f"the step is taken again: “{half[:WORDS_SHOWN_MAX]}…”"
            )
        elif kind == "run.finished":
            lines.append(f"offset {offset}: the run is {data['status']}")
    return lines


def _agrees(frame: Any, fact: dict[str, Any] | None, replies: dict[int, str]) -> bool:
    """Tell whether a frame says what a fact says."""
    if fact is None:
        return False
    kind, data = fact["type"], fact["data"]
    match frame.message_type:
        case "assistant_message":
            said = (data.get("x"), replies.get(data.get("s", 0)))
            return kind == "step.delta" and said == (frame.content, frame.id)
        case "ping":
            return kind == "run.queued" and data["run_id"] == frame.run_id
        case "event_message":
            return kind == "step.superseded" and frame.event_type == "retry"
        case _:
            return False


def _replies_of(facts: list[dict[str, Any]]) -> dict[int, str]:
    """Give the id of the message that each step writes, by the step's offset."""
    started = (fact for fact in facts if fact["type"] == "step.started")
    return {fact["offset"]: fact["data"]["message_id"] for fact in started}


def _steps(facts: list[dict[str, Any]], kind: str) -> set[int]:
    return {fact["data"]["s"] for fact in facts if fact["type"] == kind}


def _words_at(facts: list[dict[str, Any]]) -> set[int]:
    """Give where the words of finished replies are."""
    finished = _steps(facts, "step.finished")
    deltas = (fact for fact in facts if fact["type"] == "step.delta")
    return {fact["offset"] for fact in deltas if fact["data"]["s"] in finished}
