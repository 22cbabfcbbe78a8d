"""The demo's proof: what is missing, changed or doubled does not go unseen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from app.commands.proof import Seen, claims_of, taken_again


def fact(offset: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"offset": offset, "type": kind, "hash": f"h{offset}", "data": data}


@dataclass
class Story:
    """A run whose first attempt was cut off, as the log, the client and the server tell it."""

    facts: list[dict[str, Any]] = field(
        default_factory=lambda: [
            fact(1, "run.queued", run_id="run-1"),
            fact(2, "run.claimed", run_id="run-1", epoch=1, node="a"),
            fact(3, "step.started", message_id="ghost"),
            fact(4, "step.delta", s=3, x="Go"),
            fact(5, "step.delta", s=3, x="od"),
            fact(6, "run.claimed", run_id="run-1", epoch=2, node="b"),
            fact(7, "step.superseded", s=3),
            fact(8, "step.started", message_id="real"),
            fact(9, "step.delta", s=8, x="Good "),
            fact(10, "step.delta", s=8, x="day."),
            fact(11, "step.finished", s=8),
            fact(12, "run.finished", run_id="run-1", status="completed"),
        ]
    )
    frames: list[SimpleNamespace] = field(
        default_factory=lambda: [
            SimpleNamespace(message_type="ping", seq_id=1, run_id="run-1"),
            words(4, "ghost", "Go"),
            SimpleNamespace(message_type="ping", seq_id=4, run_id="run-1"),
            SimpleNamespace(message_type="event_message", seq_id=7, event_type="retry"),
            words(9, "real", "Good "),
            words(10, "real", "day."),
            SimpleNamespace(message_type="stop_reason", stop_reason="end_turn"),
        ]
    )
    stored: dict[str, str] = field(default_factory=lambda: {"real": "Good day."})
    verdict: dict[str, Any] = field(default_factory=lambda: {"ok": True, "head": 12, "hash": "h12"})

    def seen(self) -> Seen:
        seen = Seen()
        for frame in self.frames:
            seen.take(frame)
        return seen

    def failed(self) -> list[str]:
        claims = claims_of(self.facts, self.seen(), self.stored, self.verdict)
        return [claim.words for claim in claims if not claim.holds]


def words(number: int, message_id: str, content: str) -> SimpleNamespace:
    return SimpleNamespace(
        message_type="assistant_message", seq_id=number, id=message_id, content=content
    )


def never_superseded(story: Story) -> None:
    del story.facts[6:]
    story.frames = story.frames[:2]
    story.stored = {"ghost": "Go"}


def changed_word(story: Story) -> None:
    story.facts[8]["data"]["x"] = "Bad "


Spoil: TypeAlias = Callable[[Story], object]
SPOILT: list[tuple[str, str, Spoil]] = [
    ("a missing fact", "numbered 1 to", lambda story: story.facts.pop(4)),
    ("a bad chain", "hash chain", lambda story: story.verdict.update(ok=False)),
    ("another head", "hash chain", lambda story: story.verdict.update(hash="h11")),
    ("another word", "fact of its number", changed_word),
    ("no such number", "of its number", lambda story: story.frames.append(words(99, "real", ""))),
    ("another's number", "of its number", lambda story: story.frames.append(words(11, "real", ""))),
    ("a frame twice", "twice", lambda story: story.frames.insert(5, words(9, "real", "Good "))),
    ("a missed frame", "was missed", lambda story: story.frames.pop(4)),
    ("another reply", "letter by letter", lambda story: story.stored.update(real="Good night.")),
    ("one reply too many", "letter by letter", lambda story: story.stored.update(ghost="Go")),
    ("a ghost in the list", "superseded", lambda story: story.stored.update(ghost="Go")),
    ("no takeover", "superseded", never_superseded),
]


def test_a_run_that_was_cut_off_and_taken_again_is_whole() -> None:
    assert Story().failed() == []


@pytest.mark.parametrize(("what", "claim", "spoil"), SPOILT, ids=[one[0] for one in SPOILT])
def test_what_is_wrong_is_seen(what: str, claim: str, spoil: Spoil) -> None:
    story = Story()
    spoil(story)
    assert any(claim in one for one in story.failed()), what


def test_nothing_proves_nothing() -> None:
    story = Story(facts=[], frames=[], stored={})
    assert any("hash chain" in one for one in story.failed())


def test_a_takeover_is_told_in_words() -> None:
    story = Story()
    told = taken_again(story.facts, story.seen())
    assert told[1] == "offset 6: b took the run, epoch 2"
    assert "“Go…”" in told[2]
