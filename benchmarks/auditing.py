"""What became of every message, worked out from stored facts as plain JSON, to hold `why` against.

Nothing of the product is used here: a flaw in its folds must not be in both. What is said of a
message is that it is in the window, or which compaction keeps it out, and where that is recorded.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

GONE: Final = frozenset({"summarised", "evicted"})
# A summary has a message if it has this share of its telling words.
SHARE_MIN: Final = 0.5
# Of the words of a message that is summarised beyond doubt, the summaries lack no more than this
# share of its long words: whichever half of its words tell most, they have more than half of those.
LACK_MAX: Final = 0.2
LONG_CHARS_MIN: Final = 6
# Long words that tell nothing.
_PRONOUNS: Final = "themselves yourselves ourselves yourself himself herself itself myself theirs"
_OTHERS: Final = "because through between against further before should during having"
_NEGATED: Final = "couldn wouldn shouldn"
_HOLLOW: Final = frozenset(f"{_PRONOUNS} {_OTHERS} {_NEGATED}".split())
_WORD: Final = re.compile(r"[^\W_]+")

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fate:
    """A message, and what keeps it out of the window, if anything does."""

    offset: int
    message_id: str
    text: str
    evicted_at: int | None = None
    compaction_id: str | None = None

    @property
    def inside(self) -> bool:
        """Whether it is in the window."""
        return self.evicted_at is None


@dataclass(frozen=True)
class Past:
    """A conversation's messages by offset; the summaries in its window, by compaction."""

    fates: dict[int, Fate]
    summaries: dict[str, str]

    def saying(self, text: str) -> set[int]:
        """Give the offsets of the messages in which a text stands word for word."""
        wanted = _words(text)
        return {offset for offset, words in self._said.items() if wanted in words}

    def quoted(self, text: str) -> bool:
        """Tell whether a text stands in a summary word for word."""
        return any(_words(text) in _words(one) for one in self.summaries.values())

    def summarised(self, text: str) -> bool:
        """Tell whether one summary has so many words of a text that there is no doubt."""
        words = set(_WORD.findall(text.lower()))
        long = {one for one in words if len(one) >= LONG_CHARS_MIN} - _HOLLOW
        lacking = (words.difference(known) for known in self._known)
        return any(len(one) <= LACK_MAX * len(long) for one in lacking)

    @cached_property
    def _known(self) -> list[set[str]]:
        return [set(_WORD.findall(one.lower())) for one in self.summaries.values()]

    @cached_property
    def _said(self) -> dict[int, str]:
        return {offset: _words(one.text) for offset, one in self.fates.items()}


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.lower()))} "


def past_of(events: Iterable[Event]) -> Past:
    """Work it out."""
    known = list(events)
    holding = {one["data"]["compaction_id"]: one for one in _holding(known)}
    evictors = {key: one for key, one in holding.items() if _evictor(one, holding) is None}
    said = (one for one in known if one["type"] == "message.appended")
    return Past(
        fates={one["offset"]: _fate(one, holding) for one in said},
        summaries={key: one["data"]["summary"] for key, one in evictors.items()},
    )


def _holding(events: Sequence[Event]) -> Iterator[Event]:
    """Give the compactions that hold: recorded, and then neither undone for good nor rolled back."""
    undone, gone = set[str](), set[str]()
    for event in events:
        data = event["data"]
        match event["type"]:
            case "window.compaction_undone":
                undone.add(data["compaction_id"])
            case "window.compaction_redone":
                undone.discard(data["compaction_id"])
            case "window.rolled_back":
                gone.update(data.get("compaction_ids", ()))
            case _:
                pass
    for event in events:
        if event["type"] == "window.compacted":
            compaction_id = event["data"]["compaction_id"]
            if compaction_id not in undone and compaction_id not in gone:
                yield event


def _evictor(event: Event, holding: dict[str, Event]) -> Event | None:
    """Give the compaction that keeps out of the window what an event put there."""
    found = [
        one
        for one in holding.values()
        for span in one["data"]["evicted"]["ranges"]
        if span["first"] <= event["offset"] <= span["last"]
    ]
    assert len(found) <= 1, f"{event['id']} was evicted {len(found)} times at once"
    return found[0] if found else None


def _fate(event: Event, holding: dict[str, Event]) -> Fate:
    data, evictor = event["data"], _evictor(event, holding)
    fate = Fate(event["offset"], data["message_id"], data["content"])
    if evictor is None:
        return fate
    compaction_id = evictor["data"]["compaction_id"]
    return replace(fate, evicted_at=evictor["offset"], compaction_id=compaction_id)


# --- what `why` says --------------------------------------------------------------------------


def flaws_by_id(past: Past, fate: Fate, answer: Any) -> list[str]:
    """Say what is wrong with the answer to a message's id."""
    occurrences = answer["occurrences"]
    if len(occurrences) != 1 or answer["total"] != 1:
        return [f"{answer['total']} occurrences of one message"]
    flaws = [*_flaws_of_place(fate, occurrences[0])]
    if (answer["verdict"] == "in_window") != fate.inside:
        flaws.append(f"{answer['verdict']}, but in the window: {fate.inside}")
    if answer["verdict"] == "evicted" and past.summarised(fate.text):
        flaws.append("evicted, but a summary has nearly all of its words")
    if answer["verdict"] == "summarised" and occurrences[0]["reachable"] != "summary":
        flaws.append(f"summarised, but to be found by {occurrences[0]['reachable']}")
    return [*flaws, *_flaws_of_verdict(past, answer)]


def flaws_by_text(past: Past, fate: Fate, answer: Any) -> list[str]:
    """Say what is wrong with the answer to a message's words, which others may have said as well."""
    found = {one["offset"]: one for one in answer["occurrences"]}
    missing = past.saying(fate.text) - found.keys()
    # Of very many not all are shown.
    shown_all = answer["complete"] and answer["total"] == len(found)
    flaws = [f"not found at {offset}" for offset in missing if shown_all or not found]
    for offset, one in found.items():
        flaws += _flaws_of_place(past.fates[offset], one)
    # Those in the window come first.
    inside = any(past.fates[offset].inside for offset in found)
    if (answer["verdict"] == "in_window") != inside:
        flaws.append(f"{answer['verdict']}, but in the window: {inside}")
    if answer["verdict"] == "evicted" and past.quoted(fate.text):
        flaws.append("evicted, but a summary quotes it")
    return [*flaws, *_flaws_of_verdict(past, answer)]


def _flaws_of_place(fate: Fate, one: Any) -> Iterator[str]:
    told = (
        one["offset"],
        one["message_id"],
        one["in_window"],
        one["evicted_at"],
        one["compaction_id"],
    )
    true = (fate.offset, fate.message_id, fate.inside, fate.evicted_at, fate.compaction_id)
    if told != true:
        yield f"{told} instead of {true}"


def _flaws_of_verdict(past: Past, answer: Any) -> Iterator[str]:
    """Compare what is said of summaries with them.

    What is said to survive must have enough of its words in a summary, as they are spelled there;
    and whether that one is in the window decides between the verdicts.
    """
    verdict = answer["verdict"]
    if verdict == "in_window":
        return
    if verdict not in GONE:
        yield f"{verdict} of something that was said"
    claims = [one for each in answer["occurrences"] for one in each["survives_in"]]
    for one in claims:
        if one["current"] != (one["compaction_id"] in past.summaries):
            yield f"the summary of {one['compaction_id']} is current: {one['current']}"
    current = [one for one in claims if one["current"]]
    if current and verdict == "evicted":
        yield "evicted, but it survives"
    for one in current:
        summary = past.summaries.get(one["compaction_id"], "")
        if one["share"] < SHARE_MIN or not one["words"]:
            yield f"it survives with a share of {one['share']}"
        if any(word not in summary for word in one["words"]):
            yield f"{one['words']} are not in the summary of {one['compaction_id']}"
