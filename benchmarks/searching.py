"""How much of what answers a question a search finds, in long real conversations.

The folder is that of LoCoMo's conversations, given as the argument or in EVERLOG_LOCOMO. Every turn
becomes a message of its conversation, every question with known evidence is asked as it stands. A
figure is the share of a question's evidence among the first so many hits, averaged over a
conversation's questions, and then over the conversations. Rankings that are not the product's are
there to be compared with it: some by other words or weights, two by the engines' own.
"""

import argparse
import asyncio
import json
import os
import re
import sqlite3
import statistics
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import uuid4

import psycopg

from app.execute import Execute
from app.log import Log
from app.recall.search import Search
from app.storage.databases import store_at
from app.storage.postgres import migrate
from app.storage.store import Terms
from benchmarks.locomo import CONVERSATIONS
from domain.conversation import (
    CancelRuns,
    ConversationSettings,
    MessageAppended,
    NewMessage,
    QueueRun,
    StartConversation,
)
from domain.run import RunRequest
from domain.streams import AGENT, CONVERSATION, MESSAGE, RUN, id_of
from projections.search_questions import question_of
from projections.search_ranks import BY_PASSAGE, Posting, Weights, ranked
from projections.search_stems import stem_of
from projections.search_words import words_of
from tests.databases import Cluster
from tests.examples import SYSTEM

FIRST: Final = (1, 5, 10)
MESSAGES_A_REQUEST: Final = 8
BODY_HASH: Final = "0" * 64
TURN: Final = re.compile(r"D\d+:\d+")

# From a question to the names of turns, the best first.
Ranking: TypeAlias = Callable[[str], list[str]]


class Turn(NamedTuple):
    """What somebody said, and its name in the questions' evidence."""

    name: str
    text: str


class Asked(NamedTuple):
    """A question, and the turns that answer it."""

    text: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said, and what is asked."""

    turns: tuple[Turn, ...]
    asked: tuple[Asked, ...]


class Figures(NamedTuple):
    """The shares found among the first hits, and the milliseconds of every search."""

    recall: tuple[float, ...]
    took_ms: list[float]


def conversation_in(path: Path) -> Conversation:
    """Read a conversation; pictures are their captions."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    turns = tuple(_turns_of(found))
    known = frozenset(one.name for one in turns)
    asked = (
        Asked(one["question"], known.intersection(TURN.findall(" ".join(one.get("evidence", [])))))
        for one in found["qa"]
    )
    return Conversation(turns, tuple(one for one in asked if one.evidence))


def _turns_of(found: Mapping[str, Any]) -> Iterator[Turn]:
    numbers = (key.removeprefix("session_") for key in found if key.startswith("session_"))
    for number in sorted(int(number) for number in numbers if number.isdigit()):
        for turn in found[f"session_{number}"]:
            caption = turn.get("blip_caption")
            shown = f" [{caption}]" if caption else ""
            yield Turn(turn["dia_id"], f"{turn['speaker']}: {turn['text']}{shown}")


def measured(conversation: Conversation, ranking: Ranking) -> Figures:
    """Ask every question."""
    shares: list[list[float]] = []
    took_ms: list[float] = []
    for one in conversation.asked:
        began = perf_counter()
        found = ranking(one.text)
        took_ms.append((perf_counter() - began) * 1000)
        shares.append(
            [len(one.evidence.intersection(found[:first])) / len(one.evidence) for first in FIRST]
        )
    return Figures(tuple(map(statistics.mean, zip(*shares, strict=True))), took_ms)


# --- the product's search ---------------------------------------------------------------------


@contextmanager
def in_database(url: str, conversations: Sequence[Conversation]) -> Generator[list[Ranking]]:
    """Have all conversations said in a database; give the search in each."""
    with asyncio.Runner() as runner:
        opened = _opened(url)
        log = runner.run(anext(opened))
        said = [runner.run(_said(log, one.turns)) for one in conversations]
        search = Search(log)

        def rank(stream: str, names: Mapping[int, str], question: str) -> list[str]:
            answer = runner.run(search.find(stream, question, limit=max(FIRST)))
            return [names[hit.place] for hit in answer.hits]

        yield [partial(rank, stream, names) for stream, names in said]
        runner.run(opened.aclose())


async def _opened(url: str) -> AsyncGenerator[Log]:
    async with Log(store_at(url, Terms())) as log:
        yield log


async def _said(log: Log, turns: Sequence[Turn]) -> tuple[str, dict[int, str]]:
    """Have everything said in a new conversation; give its id, and the turns' names by offset."""
    execute, stream = Execute(log), id_of(CONVERSATION, uuid4())
    start = StartConversation(id_of(AGENT, uuid4()), SYSTEM, ConversationSettings())
    await execute(stream, start, "user")
    names: dict[int, str] = {}
    for first in range(0, len(turns), MESSAGES_A_REQUEST):
        part = turns[first : first + MESSAGES_A_REQUEST]
        facts = await execute(stream, _request(part), "user")
        places = [one.version for one in facts if isinstance(one.event, MessageAppended)]
        names |= dict(zip(places, (one.name for one in part), strict=True))
        # Nobody answers: the next request finds nothing in its way.
        await execute(stream, CancelRuns(), "user")
    return stream, names


def _request(turns: Sequence[Turn]) -> QueueRun:
    messages = tuple(
        NewMessage(id_of(MESSAGE, uuid4()), str(uuid4()), "user", turn.text) for turn in turns
    )
    return QueueRun(id_of(RUN, uuid4()), RunRequest(), messages, "reject", BODY_HASH)


# --- others -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """A ranking that is not the product's, over the same words."""

    name: str
    weights: Weights = BY_PASSAGE
    stemmed: bool = True
    all_words: bool = False

    def ranking(self, conversation: Conversation) -> Ranking:
        """Index a conversation."""
        postings: dict[str, list[Posting]] = {}
        for number, turn in enumerate(conversation.turns):
            terms = dict.fromkeys(map(self._term, words_of(turn.text)))
            for term in terms:
                postings.setdefault(term, []).append(Posting(number, len(terms)))
        texts = range(len(conversation.turns))

        def rank(text: str) -> list[str]:
            words = words_of(text) if self.all_words else question_of(text).words.values()
            terms = dict.fromkeys(map(self._term, words))
            order = ranked((postings.get(term, []) for term in terms), texts, self.weights)
            return [conversation.turns[number].name for number, _ in order[: max(FIRST)]]

        return rank

    def _term(self, word: str) -> str:
        return stem_of(word) if self.stemmed else word


ALONE: Final = Weights(passage_share=0)
VARIANTS: Final = (
    Variant("text alone, all words as they are", ALONE, stemmed=False, all_words=True),
    Variant("text alone, words as they are", ALONE, stemmed=False),
    Variant("text alone, all stems", ALONE, all_words=True),
    Variant("text alone, stems", ALONE),
    Variant("text alone, stems, k1 1.2, b 0.75", Weights(1.2, 0.75, passage_share=0)),
    Variant("passage of 1 on either side", Weights(nearness=(1, 1))),
    Variant("passage of 2 on either side", Weights(nearness=(1, 1, 0.8))),
    Variant("passage of 2, all alike", Weights(nearness=(1, 1, 1))),
    Variant("passage of 3, all alike", Weights(nearness=(1, 1, 1, 1))),
    Variant("passage of 3: the ranking that is used"),
    Variant("passage for half", Weights(passage_share=0.5)),
    Variant("passage for twice", Weights(passage_share=2)),
    Variant("passage, words as they are", stemmed=False),
    Variant("passage, b 0", Weights(length_share=0)),
    Variant("passage, b 0.75", Weights(length_share=0.75)),
)


@contextmanager
def by_fts5(conversations: Sequence[Conversation]) -> Generator[list[Ranking]]:
    """Rank by FTS5's own bm25, of all conversations in one table."""
    with closing(sqlite3.connect(":memory:")) as file:
        tokens = "porter unicode61 remove_diacritics 2"
        file.execute(
            f"CREATE VIRTUAL TABLE t USING fts5(c UNINDEXED, n UNINDEXED, x, tokenize='{tokens}')"
        )
        for number, one in enumerate(conversations):
            rows = [(number, turn.name, turn.text) for turn in one.turns]
            file.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)

        def rank(number: int, text: str) -> list[str]:
            wanted = " OR ".join(f'"{word}"' for word in question_of(text).words.values())
            sql = "SELECT n FROM t WHERE t MATCH ? AND c = ? ORDER BY bm25(t) LIMIT ?"
            return [name for (name,) in file.execute(sql, (wanted, number, max(FIRST)))]

        yield [partial(rank, number) for number in range(len(conversations))]


@contextmanager
def by_ts_rank(url: str, conversations: Sequence[Conversation]) -> Generator[list[Ranking]]:
    """Rank by Postgres' own ts_rank, with its English stems and stop words."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("CREATE TEMP TABLE t (c bigint, n text, x tsvector)")
        for number, one in enumerate(conversations):
            for turn in one.turns:
                sql = "INSERT INTO t VALUES (%s, %s, to_tsvector('english', %s))"
                database.execute(sql, (number, turn.name, turn.text))

        def rank(number: int, text: str) -> list[str]:
            wanted = " OR ".join(question_of(text).words.values())
            sql = (
                "SELECT n FROM t, websearch_to_tsquery('english', %s) AS wanted "
                "WHERE c = %s AND x @@ wanted ORDER BY ts_rank(x, wanted, 1) DESC LIMIT %s"
            )
            return [name for (name,) in database.execute(sql, (wanted, number, max(FIRST)))]

        yield [partial(rank, number) for number in range(len(conversations))]


# --- all of them ------------------------------------------------------------------------------


def compare(name: str, conversations: Sequence[Conversation], rankings: Sequence[Ranking]) -> None:
    """Print a line: averages, the share among the first ten of each conversation, the time."""
    pairs = zip(conversations, rankings, strict=True)
    found = [measured(conversation, ranking) for conversation, ranking in pairs]
    averages = [
        statistics.mean(shares) for shares in zip(*(one.recall for one in found), strict=True)
    ]
    took_ms = sorted(took for one in found for took in one.took_ms)
    p99 = took_ms[len(took_ms) * 99 // 100]
    shown = "".join(f"{share:8.3f}" for share in (*averages, *(one.recall[-1] for one in found)))
    print(f"{name:40}{shown}{statistics.median(took_ms):9.2f}{p99:9.2f}", flush=True)


def run(folder: Path, *, postgres: bool) -> None:
    """Compare all rankings."""
    conversations = [conversation_in(folder / f"{name}.json") for name in CONVERSATIONS]
    heads = (*(f"@{first}" for first in FIRST), *CONVERSATIONS, " p50 ms", " p99 ms")
    print(" " * 40 + "".join(head.rjust(8 if head[0] != " " else 9) for head in heads))
    for one in VARIANTS:
        compare(one.name, conversations, [one.ranking(each) for each in conversations])
    with by_fts5(conversations) as rankings:
        compare("FTS5's bm25", conversations, rankings)
    with (
        tempfile.TemporaryDirectory(prefix="everlog-") as home,
        in_database(f"sqlite:///{home}/searched.db", conversations) as rankings,
    ):
        compare("the search, on SQLite", conversations, rankings)
    if postgres:
        cluster = Cluster(durable=True)
        try:
            _on_postgres(cluster.create("searched"), conversations)
        finally:
            cluster.remove()


def _on_postgres(url: str, conversations: Sequence[Conversation]) -> None:
    with by_ts_rank(url, conversations) as rankings:
        compare("Postgres' ts_rank", conversations, rankings)
    migrate(url, Terms())
    with in_database(url, conversations) as rankings:
        compare("the search, on Postgres", conversations, rankings)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("EVERLOG_LOCOMO"))
    parser.add_argument("--postgres", action="store_true", help="also on a Postgres of our own")
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("name the folder of the conversations, or set EVERLOG_LOCOMO")
    run(Path(asked.folder), postgres=asked.postgres)


if __name__ == "__main__":
    main()
