"""The answer in one plain sentence, with the offsets at which to look."""

from datetime import UTC, datetime
from typing import Final

from domain.run import Span
from projections.why.times import Brought, Stay, Taken
from projections.why.values import Near, Occurrence, Survivor, WhyAnswer

QUERY_CHARS_MAX: Final = 80
TEXT_CHARS_MAX: Final = 100
WORDS_SHOWN: Final = 8
RANGES_SHOWN: Final = 3
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
DONE: Final[dict[Brought | Taken, str]] = {
    "said": "was said",
    "compacted": "was recorded",
    "undone": "was undone",
    "redone": "was redone",
    "rolled_back": "was rolled back with its turn",
}
# How things leave that no compaction took, and no rollback of a turn.
EMPTIED: Final = "the window was emptied"


def sentence_of(answer: WhyAnswer) -> str:
    """Tell the answer. It is about its first occurrence, the one that tells most."""
    told = _told(answer)
    if answer.system_at is None or answer.verdict == "in_window":
        return f"{told}."
    return f"{told}; the system prompt, from offset {answer.system_at}, has it."


def _told(answer: WhyAnswer) -> str:
    if not answer.occurrences:
        return _never_said(answer)
    first = answer.occurrences[0]
    said = f"{_swapped(answer)}{_said(answer, first)}"
    if answer.verdict == "in_window":
        return f"{said}{' ' if _several(answer) else ' and '}{_here(first)}"
    return f"{said}{' ' if _several(answer) else ', '}{_gone(first)}{_left_of_it(answer, first)}"


def _several(answer: WhyAnswer) -> bool:
    """Tell whether something was said more than once; a call has its return, too."""
    return answer.asked == "phrase" and answer.total > 1


# --- what was said ----------------------------------------------------------------------------


def _swapped(answer: WhyAnswer) -> str:
    if not answer.corrections:
        return ""
    told = (f'"{one.instead}" instead of "{one.word}"' for one in answer.corrections)
    return f"With {_listed([*told])}, "


def _said(answer: WhyAnswer, first: Occurrence) -> str:
    subject, verb = _subject(answer), "was called" if answer.asked == "tool_call" else "was said"
    if first.role == "summary":
        verb = "was written"
    elif answer.asked == "tool_call" and first.kind == "return":
        verb = "was returned"
    elif answer.asked == "phrase" and first.match != "phrase":
        verb = "was said (its words, not in a row)"
    where = f"at {_offset(first.offset, first.stream)} ({day_of(first.at)})"
    if not _several(answer):
        return f"{subject} {verb} {where}"
    times = "" if answer.complete else "at least "
    return f"{subject} {verb} {times}{answer.total} times; the one {where}"


def _subject(answer: WhyAnswer) -> str:
    return _quoted(answer.query) if answer.asked == "phrase" else answer.query[:QUERY_CHARS_MAX]


def _never_said(answer: WhyAnswer) -> str:
    said = f"{_subject(answer)} was never said"
    if answer.only_in_summaries:
        return f"{said}: only {_summaries(answer.only_in_summaries)}"
    if not answer.closest:
        return f"{said}: nothing like it"
    return f"{said}; closest: {_near(answer.closest[0])}"


def _near(near: Near) -> str:
    words = f"{_listed(list(near.words))} in " if near.words else ""
    return f"{words}{_quoted(near.text, TEXT_CHARS_MAX)} at {_offset(near.offset, near.stream)}"


def _summaries(only: tuple[Survivor, ...]) -> str:
    newest = only[0]
    more = f" and {len(only) - 1} more" if len(only) > 1 else ""
    where = _offset(newest.offset, newest.stream)
    return f"the summary of {newest.compaction_id} at {where}{more} says it"


# --- where it went ----------------------------------------------------------------------------


def _here(first: Occurrence) -> str:
    pinned = ", where it is pinned" if first.pinned else ""
    if len(first.windows) <= 1:
        return f"is in the window{pinned}"
    left, back = first.windows[-2], first.windows[-1]
    return (
        f"left the window at {_offset(left.left_at, left.left_stream)} and is back in it since "
        f"{_offset(back.entered_at, back.entered_stream)}, when {back.brought_by_compaction} {DONE[back.brought_by]}{pinned}"
    )


def _gone(first: Occurrence) -> str:
    """Tell how it left the window. What was rolled back would not be there in any case."""
    if first.rolled_back_at is not None:
        where = _offset(first.rolled_back_at, first.rolled_back_stream)
        return f"was hidden at {where}, when its turn was rolled back"
    last = first.windows[-1] if first.windows else None
    if last is None or last.left_at is None or last.taken_by is None:
        return "never came into the window"
    where = _offset(last.left_at, last.left_stream)
    return f"left the window at {where} when {_evicted_by(first, last.taken_by, last)}"


def _evicted_by(first: Occurrence, how: Taken, last: Stay) -> str:
    if last.taken_by_compaction is None:
        return EMPTIED
    by = first.compaction
    if by is None or how != "compacted":
        return f"{last.taken_by_compaction} {DONE[how]}"
    if by.trigger == "import":
        return f"the conversation was imported: it was evicted before the import ({_messages(by.ranges)})"
    return f"{by.compaction_id} ({by.trigger}, {by.mode}) evicted {_messages(by.ranges)}"


def _messages(ranges: tuple[Span, ...]) -> str:
    told = [
        f"{one.first}" if one.first == one.last else f"{one.first}–{one.last}"  # noqa: RUF001 - from, to
        for one in ranges
    ]
    # Only a fork has ranges of several streams.
    told = [_of(words, one.stream) for words, one in zip(told, ranges, strict=True)]
    if len(told) > RANGES_SHOWN:
        told = [*told[:RANGES_SHOWN], f"{len(told) - RANGES_SHOWN} more ranges"]
    alone = len(told) == 1 and ranges[0].first == ranges[0].last
    return f"{'message' if alone else 'messages'} {_listed(told)}"


# --- what is left of it -----------------------------------------------------------------------


def _left_of_it(answer: WhyAnswer, first: Occurrence) -> str:
    if answer.verdict == "summarised":
        return f", and {_kept(first)}"
    if first.rolled_back_at is not None:
        return ""
    if not first.chain or not first.chain[-1].current:
        return ", and no summary stands for it"
    if any(link.kept for link in first.chain):
        return f", and {_lost(first)}"
    return ", and the current summary does not have it"


def _kept(first: Occurrence) -> str:
    current = next((one for one in first.survives_in if one.current), None)
    if current is None:
        return "the current summary has its words, from elsewhere"
    share = f" {round(current.share * 100)} % of" if current.share < 1 else ""
    words = _listed(list(current.words[:WORDS_SHOWN]))
    more = ", …" if len(current.words) > WORDS_SHOWN else ""
    where = _offset(current.offset, current.stream)
    return f"the current summary ({where}) keeps{share} its words: {words}{more}"


def _lost(first: Occurrence) -> str:
    """Tell which summary still had it, and which one did not take it over."""
    had = max(n for n, link in enumerate(first.chain) if link.kept)
    kept, then = first.chain[had], first.chain[had + 1]
    return (
        f"the summary at {_offset(kept.offset, kept.stream)} still had it, but not the one at "
        f"{_offset(then.offset, then.stream)}, which replaced it when {then.compaction_id} was done"
    )


# --- words ------------------------------------------------------------------------------------


def _offset(offset: int | None, stream: str | None) -> str:
    return _of(f"offset {offset}", stream)


def _of(words: str, stream: str | None) -> str:
    """Say whose an offset is, if a fork inherited it."""
    return words if stream is None else f"{words} of {stream}"


def day_of(at: datetime) -> str:
    """Spell a day, in UTC."""
    at = at.astimezone(UTC)
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def _quoted(text: str, chars_max: int = QUERY_CHARS_MAX) -> str:
    text = " ".join(text.split()).strip('"')
    return f'"{text[:chars_max]}…"' if len(text) > chars_max else f'"{text}"'


def _listed(told: list[str]) -> str:
    return " and ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else "".join(told)
