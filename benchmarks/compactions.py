"""What compactions leave of long real conversations, and whether `why` tells the truth about it.

The folder is that of LoCoMo's conversations, given as the argument or in EVERLOG_LOCOMO. Each one is
played in each mode and at three sizes of its window (benchmarks/compacting.py). Of the turns that
answer its questions it is told which are still in the window, which are summarised, which are gone;
what `why` says of each, asked by its id and by its words, is held against what is worked out anew
from the stored facts (benchmarks/auditing.py). Ends with 1 if an answer differs, or if a
search for the questions finds less than 0.75 of their evidence among its first ten, on average over
the conversations. Two runs print the same.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias, get_args

from app.storage.postgres import migrate
from app.storage.store import Terms
from benchmarks.auditing import Event, Fate, Past, flaws_by_id, flaws_by_text, past_of
from benchmarks.compacting import Conversation, Served, conversation_at, play, serving
from benchmarks.locomo import CONVERSATIONS
from benchmarks.searching import FIRST
from domain.compaction import CompactionMode
from domain.retention import Kind
from tests.databases import Cluster

# How many times its window a conversation is.
TIMES: Final = (4.0, 2.0, 1.2)
MODES: Final[tuple[CompactionMode, ...]] = get_args(CompactionMode)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
RECALL_MIN: Final = 0.75
OCCURRENCES_MAX: Final = 100
FLAWS_SHOWN_MAX: Final = 20

Databases: TypeAlias = Callable[[], str]


@dataclass(slots=True)
class Found:
    """What came of one conversation in one mode at one size. Shares are of the evidence."""

    turns: int
    gone: int
    failed: int
    compactions: list[Event]
    verdicts: list[str] = field(default_factory=list[str])
    right_by_id: int = 0
    right_by_text: int = 0
    recall: tuple[float, ...] = ()
    flaws: list[str] = field(default_factory=list[str])

    def share(self, verdict: str) -> float:
        """Give the share of the evidence with a verdict."""
        return self.verdicts.count(verdict) / len(self.verdicts)

    @property
    def retention(self) -> float | None:
        """Its mean over all compactions."""
        return _mean(one["data"]["audit"]["retention"]["score"] for one in self.compactions)

    def retention_of(self, kind: Kind) -> float | None:
        """Give the mean of those compactions that evicted something of a kind."""
        kinds = (one["data"]["audit"]["retention"]["kinds"] for one in self.compactions)
        counts = (each[kind] for each in kinds if kind in each)
        return _mean(one["kept"] / one["found"] for one in counts)

    def tokens(self, number: int) -> str:
        """Give the tokens before and after a compaction."""
        if not self.compactions:
            return "-"
        audit = self.compactions[number]["data"]["audit"]
        return f"{audit['tokens_before']:,} > {audit['tokens_after']:,}"


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.mean(known) if known else None


# --- one conversation -------------------------------------------------------------------------


async def found_in(
    url: str, conversation: Conversation, mode: CompactionMode, window_tokens: int
) -> Found:
    """Play a conversation in a database of its own, and ask about it."""
    async with serving(url) as served:
        played = await play(served, conversation, mode, window_tokens)
        events = await served.events(played.stream)
        past = past_of(events)
        found = Found(
            turns=len(past.fates),
            gone=sum(not fate.inside for fate in past.fates.values()),
            failed=played.failed,
            compactions=[one for one in events if one["type"] == "window.compacted"],
        )
        fates = _by_turn(conversation, past)
        for name in sorted({name for one in conversation.asked for name in one.evidence}):
            await _ask_why(served, played.stream, past, fates[name], found)
        found.recall = await _recall(served, played.stream, conversation, fates)
    return found


def _by_turn(conversation: Conversation, past: Past) -> dict[str, Fate]:
    """Give the messages by the names of their turns: they were taken in in order."""
    pairs = zip(conversation.turns, past.fates.values(), strict=True)
    fates = {turn.dia_id: fate for turn, fate in pairs}
    for turn in conversation.turns:
        assert fates[turn.dia_id].text == turn.words, turn.dia_id
    return fates


async def _ask_why(served: Served, stream: str, past: Past, fate: Fate, found: Found) -> None:
    by_id = await _why(served, stream, fate.message_id)
    by_text = await _why(served, stream, fate.text)
    found.verdicts.append(by_id["verdict"])
    of_id, of_text = flaws_by_id(past, fate, by_id), flaws_by_text(past, fate, by_text)
    found.right_by_id += not of_id
    found.right_by_text += not of_text
    found.flaws += [f"offset {fate.offset}, by id: {flaw}" for flaw in of_id]
    found.flaws += [f"offset {fate.offset}, by text: {flaw}" for flaw in of_text]


async def _why(served: Served, stream: str, asked: str) -> Any:
    return await served.get(f"/v1/conversations/{stream}/why", q=asked, limit=OCCURRENCES_MAX)


async def _recall(
    served: Served, stream: str, conversation: Conversation, fates: dict[str, Fate]
) -> tuple[float, ...]:
    """Give the shares of a question's evidence that a search for the question finds, on average."""
    shares: list[list[float]] = []
    for one in conversation.asked:
        path = f"/v1/conversations/{stream}/search"
        answer = await served.get(path, q=one.text, limit=max(FIRST))
        hits = [hit["offset"] for hit in answer["hits"]]
        wanted = {fates[name].offset for name in one.evidence}
        shares.append([len(wanted.intersection(hits[:n])) / len(wanted) for n in FIRST])
    return tuple(map(statistics.mean, zip(*shares, strict=True)))


# --- tables -----------------------------------------------------------------------------------

Row: TypeAlias = tuple[str, ...]

HEADS: Final[Row] = (
    *("file", "mode", "times", "window", "compactions", "failed", "evicted"),
    *("first, tokens", "last, tokens", "retention", "in window", "summarised", "gone"),
    *("why id", "why text", *(f"@{first}" for first in FIRST)),
)
WIDTHS: Final = (6, 28, 6, 8, 12, 7, 10, 17, 17, 10, 10, 11, 7, 7, 9, 7, 7, 7)
KIND_WIDTH: Final = 11


def row_of(found: Found) -> Row:
    """Give a line of the first table, but for its beginning."""
    asked = len(found.verdicts)
    return (
        str(len(found.compactions)),
        str(found.failed),
        f"{found.gone}/{found.turns}",
        found.tokens(0),
        found.tokens(-1),
        _share(found.retention),
        *(_share(found.share(verdict)) for verdict in ("in_window", "summarised", "evicted")),
        _share(found.right_by_id / asked),
        _share(found.right_by_text / asked),
        *map(_share, found.recall),
    )


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def print_row(cells: Sequence[str], widths: Sequence[int]) -> None:
    """Print cells in columns: the first two to the left, numbers to the right."""
    aligned = zip(cells, widths, strict=True)
    line = [c.ljust(w) if n < 2 else c.rjust(w) for n, (c, w) in enumerate(aligned)]
    print("".join(line), flush=True)


def print_kinds(rows: Sequence[tuple[Row, Found]]) -> None:
    """Print the second table: what summaries have kept, by kinds of things said."""
    widths = (*WIDTHS[:3], *(KIND_WIDTH for _ in KINDS))
    print("\nretention by kind")
    print_row((*HEADS[:3], *KINDS), widths)
    for beginning, found in rows:
        kinds = (_share(found.retention_of(kind)) for kind in KINDS)
        print_row((*beginning[:3], *kinds), widths)


def print_means(rows: Sequence[tuple[Row, Found]]) -> None:
    """Print the third table: the means of all conversations."""
    heads = ("compactions", "retention", "in window", "summarised", "gone")
    widths = (WIDTHS[1], WIDTHS[2], *(KIND_WIDTH + 1 for _ in heads))
    print("\nmeans of all conversations")
    print_row((*HEADS[1:3], *heads), widths)
    played = dict.fromkeys(beginning[1:3] for beginning, _ in rows)
    for one in played:
        same = [found for beginning, found in rows if beginning[1:3] == one]
        figures = zip(*map(_figures_of, same), strict=True)
        print_row(
            (*one, *(_share(_mean(f for f in each if f is not None)) for each in figures)), widths
        )


def _figures_of(found: Found) -> tuple[float | None, ...]:
    shares = (found.share(verdict) for verdict in ("in_window", "summarised", "evicted"))
    return (len(found.compactions), found.retention, *shares)


# --- all of them ------------------------------------------------------------------------------


@contextmanager
def databases(*, postgres: bool) -> Generator[Databases]:
    """Give empty databases, each time another one."""
    with tempfile.TemporaryDirectory(prefix="everlog-") as home:
        if not postgres:
            names = (f"sqlite:///{home}/{number}.db" for number in _numbers())
            yield lambda: next(names)
            return
        cluster = Cluster(durable=True)
        try:
            urls = (_made(cluster, number) for number in _numbers())
            yield lambda: next(urls)
        finally:
            cluster.remove()


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _made(cluster: Cluster, number: int) -> str:
    url = cluster.create(f"compacted_{number}")
    migrate(url, Terms())
    return url


def run(folder: Path, *, quick: bool, postgres: bool) -> bool:
    """Play everything; tell whether all is as it should be."""
    names, times = (CONVERSATIONS[:1], TIMES[:1]) if quick else (CONVERSATIONS, TIMES)
    rows: list[tuple[Row, Found]] = []
    print_row(HEADS, WIDTHS)
    with databases(postgres=postgres) as database:
        for conversation in (conversation_at(folder / f"{name}.json") for name in names):
            for mode in MODES:
                for factor in times:
                    size = round(conversation.tokens / factor)
                    found = asyncio.run(found_in(database(), conversation, mode, size))
                    beginning = (conversation.name, mode, f"{factor:g}", f"{size:,}")
                    print_row((*beginning, *row_of(found)), WIDTHS)
                    rows.append((beginning, found))
    print_kinds(rows)
    print_means(rows)
    return _told(rows)


def _told(rows: Sequence[tuple[Row, Found]]) -> bool:
    """Say what is wrong."""
    flaws = [f"{' '.join(row[:3])}: {flaw}" for row, found in rows for flaw in found.flaws]
    for flaw in flaws[:FLAWS_SHOWN_MAX]:
        print(flaw)
    answers = sum(2 * len(found.verdicts) for _, found in rows)
    recall = statistics.mean(found.recall[-1] for _, found in rows)
    print(f"\n{answers:,} answers of `why`, {len(flaws)} wrong; recall@{FIRST[-1]} {recall:.3f}")
    return not flaws and recall >= RECALL_MIN


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("EVERLOG_LOCOMO"))
    parser.add_argument("--quick", action="store_true", help="one conversation, one size")
    parser.add_argument("--postgres", action="store_true", help="on a Postgres of our own")
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("name the folder of the conversations, or set EVERLOG_LOCOMO")
    began = perf_counter()
    good = run(Path(asked.folder), quick=asked.quick, postgres=asked.postgres)
    print(f"{perf_counter() - began:.0f} s", file=sys.stderr)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
