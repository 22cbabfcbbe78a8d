"""From what was found to the answer: the verdict, and for each place what became of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from projections.audit import status_of
from projections.marks import Compaction
from projections.search_texts import Kind
from projections.why.naming import named
from projections.why.sentence import sentence_of
from projections.why.times import Thing, Timeline
from projections.why.values import (
    Asked,
    Evictor,
    Link,
    Near,
    Occurrence,
    Reachable,
    Role,
    Survivor,
    Swapped,
    Verdict,
    WhyAnswer,
)
from projections.why.words import Closeness, Kept, Phrase, Telling

SURVIVORS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Something said; `excerpt` is what is shown of it. `telling` are its words if it was named."""

    thing: Thing
    role: Role
    kind: Kind
    at: datetime
    excerpt: str
    match: Closeness | None = None
    telling: Telling | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """All that an answer is made of: `found` in the order of the answer, `total` altogether.

    `visible` tells whether any of all is in the window, `first_said` is the first place of all.
    `remark` says why there is nothing, if that is not because nobody said it.
    """

    query: str
    asked: Asked
    at: int
    timeline: Timeline
    phrase: Phrase | None = None
    found: tuple[Found, ...] = ()
    total: int = 0
    visible: bool = False
    first_said: int | None = None
    complete: bool = True
    corrections: tuple[Swapped, ...] = ()
    closest: tuple[Near, ...] = ()
    remark: str | None = None


def answer_of(findings: Findings) -> WhyAnswer:
    """Give the answer."""
    answering = _Answering(findings)
    occurrences = tuple(map(answering.occurrence, findings.found))
    verdict = answering.verdict(occurrences)
    only = tuple(answering.only_in_summaries())
    answer = WhyAnswer(
        query=findings.query,
        asked=findings.asked,
        verdict=verdict,
        sentence="",
        at=findings.at,
        total=findings.total,
        complete=findings.complete,
        occurrences=occurrences,
        only_in_summaries=only,
        system_at=answering.system_at(),
        corrections=findings.corrections,
        closest=findings.closest,
    )
    answer = named(answer, findings.timeline.marks.lineage)
    sentence = findings.remark or sentence_of(answer)
    return answer.model_copy(update={"sentence": sentence})


class _Answering:
    """What is worked out once for all occurrences: which summary has what."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.timeline = findings.timeline
        self.marks = findings.timeline.marks
        self.current = frozenset(one.compaction_id for one in self.marks.summaries())
        self._kept: dict[tuple[str, Closeness | int], Kept | None] = {}

    def verdict(self, occurrences: Sequence[Occurrence]) -> Verdict:
        if not occurrences:
            return "never_said"
        if self.findings.visible:
            return "in_window"
        return "summarised" if self._in_current(occurrences) else "evicted"

    def _in_current(self, occurrences: Sequence[Occurrence]) -> bool:
        if self.findings.phrase is None:
            return any(one.current for each in occurrences for one in each.survives_in)
        match = occurrences[0].match or "phrase"
        shown = (one for one in self.marks.active if _id(one) in self.current)
        return any(self._says(one, match) for one in shown)

    def occurrence(self, found: Found) -> Occurrence:
        thing = found.thing
        stays = self.timeline.stays(thing)
        inside = bool(stays) and stays[-1].left_at is None
        chain = () if inside else self.timeline.chain(thing.place)
        survivors = tuple(self._survivors(found))
        hidden_at = self.timeline.hidden.get(thing.message_id)
        hidden = hidden_at is not None or self.marks.unlists(thing.place)
        return Occurrence(
            offset=thing.place,
            message_id=thing.message_id,
            role=found.role,
            kind=found.kind,
            at=found.at,
            text=found.excerpt,
            match=found.match,
            in_window=inside,
            pinned=thing.message_id in self.marks.pinned,
            rolled_back_at=hidden_at,
            evicted_at=chain[0].fact.version if chain else None,
            compaction_id=_id(chain[0]) if chain else None,
            compaction=_evictor(chain[0]) if chain else None,
            chain=tuple(self._link(one, found) for one in chain),
            survives_in=survivors[:SURVIVORS_MAX],
            reachable=_reachable(survivors, inside=inside, hidden=hidden),
            windows=stays,
        )

    def only_in_summaries(self) -> Iterator[Survivor]:
        """Give the summaries that have the phrase though nobody had said it when they were written."""
        findings = self.findings
        if findings.phrase is None or not findings.complete:
            return
        said = findings.found[0].match if findings.found else None
        for one in self._newest_first():
            planned_at = one.fact.event.audit.planned_at
            if findings.first_said is None or findings.first_said > planned_at:
                kept = self._says(one, said or "phrase")
                if kept is not None:
                    yield self._survivor(one, kept)

    def system_at(self) -> int | None:
        """Give where the system prompt comes from, if it has the phrase."""
        phrase, system = self.findings.phrase, self.marks.system
        if phrase is None or system is None:
            return None
        return None if phrase.kept_by(system.system.text, "phrase") is None else system.offset

    # --- summaries ------------------------------------------------------------------------

    def _newest_first(self) -> Iterator[Compaction]:
        return reversed(tuple(self.marks.compactions.values()))

    def _survivors(self, found: Found) -> Iterator[Survivor]:
        """Give the summaries, written after something was said, that have it: the newest first."""
        for one in self._newest_first():
            if one.fact.event.audit.planned_at >= found.thing.entered_at:
                kept = self._has(one, found)
                if kept is not None:
                    yield self._survivor(one, kept)

    def _survivor(self, one: Compaction, kept: Kept) -> Survivor:
        return Survivor(
            compaction_id=_id(one),
            summary_message_id=one.fact.event.summary_message_id,
            offset=one.fact.version,
            words=kept.words,
            share=kept.share,
            current=_id(one) in self.current,
            status=status_of(one),
        )

    def _link(self, one: Compaction, found: Found) -> Link:
        return Link(
            compaction_id=_id(one),
            offset=one.fact.version,
            kept=self._has(one, found) is not None,
            current=_id(one) in self.current,
        )

    def _has(self, one: Compaction, found: Found) -> Kept | None:
        """Give what a summary has of something, which is looked up once."""
        if found.telling is None:
            return self._says(one, found.match or "phrase")
        key = (_id(one), found.thing.place)
        if key not in self._kept:
            self._kept[key] = found.telling.kept_by(one.fact.event.summary)
        return self._kept[key]

    def _says(self, one: Compaction, match: Closeness) -> Kept | None:
        phrase = self.findings.phrase
        if phrase is None:
            return None
        key = (_id(one), match)
        if key not in self._kept:
            self._kept[key] = phrase.kept_by(one.fact.event.summary, match)
        return self._kept[key]


def _id(one: Compaction) -> str:
    return one.fact.event.compaction_id


def _reachable(survivors: Sequence[Survivor], *, inside: bool, hidden: bool) -> Reachable:
    if inside:
        return "window"
    if any(one.current for one in survivors):
        return "summary"
    return "log" if hidden else "search"


def _evictor(one: Compaction) -> Evictor:
    fact, event, audit = one.fact, one.fact.event, one.fact.event.audit
    attempt = audit.attempts[-1] if audit.attempts else None
    last = attempt.tries[-1] if attempt is not None and attempt.tries else None
    return Evictor(
        compaction_id=event.compaction_id,
        offset=fact.version,
        at=fact.at,
        by=fact.by,
        planned_at=audit.planned_at,
        run_id=event.run_id,
        ranges=event.evicted.ranges,
        trigger=audit.trigger,
        mode=audit.mode,
        model=audit.model,
        settings_share=audit.settings.sliding_window_percentage,
        min_retention=audit.settings.min_retention,
        share=None if last is None else last.share,
        cut=None if last is None else last.cut,
        goal=None if attempt is None else attempt.goal,
        tokens_left=None if last is None else last.tokens,
        tokens_before=audit.tokens_before,
        tokens_after=audit.tokens_after,
        context_window=audit.context_window,
        messages_before=audit.messages_before,
        messages_after=audit.messages_after,
        retention=audit.retention.score,
    )
