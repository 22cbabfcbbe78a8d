"""What storing costs here: a real Postgres of our own, on this machine's disk and cores.

Rows go through the real store, sealed as the log's writer seals them. The database shares the cores
with its writers, so its ceiling is lower than that of one with cores of its own.
"""

import multiprocessing
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import cycle, islice
from time import perf_counter, process_time
from typing import Any, Final
from uuid import uuid4

from app.mapper import GENESIS, Row, data_of, envelope_of, hash_of, state_of
from app.storage.committing import utc_now
from app.storage.postgres import PostgresStore, Terms, migrate
from app.storage.store import Sealed
from benchmarks.predicting import Cost, fitted, percentile
from benchmarks.processes import cpu_s
from domain.event import Event, Recorded
from domain.events import type_of
from domain.run import StepDelta
from projections.patches import patches_of
from tests import examples
from tests.databases import Cluster

SIZES: Final = (1, 4, 16, 64, 256)
# Batches by which what many writers share is told apart from what each row takes.
FEW, MANY = 4, 100
STREAMS: Final = 512
WARM_COMMITS: Final = 20
BY: Final = "worker:node-1"
# With the envelope and the hash it makes a state of 160 bytes.
WORDS: Final = "about twenty letters "
SWINGS: Final = 200
START_TIMEOUT_S: Final = 60.0


class Speakers:
    """Streams that exist, and what each says next, sealed on top of what it said before."""

    def __init__(self, store: PostgresStore, streams: int = STREAMS) -> None:
        self._store = store
        self._heads = {f"conv-{uuid4()}": (0, GENESIS) for _ in range(streams)}
        self._turns = cycle(self._heads)
        self.say(streams)
        for _ in range(WARM_COMMITS):
            self.say(MANY)

    def say(self, streams: int) -> float:
        """Store a delta for so many streams; give the seconds that the store took."""
        return self._stored([(stream, (delta(),)) for stream in islice(self._turns, streams)])

    def take_turn(self, reply_chars: int) -> list[float]:
        """Store a turn without its deltas; give the seconds of each append."""
        stream = next(self._turns)
        return [self._stored([(stream, one)]) for one in turn(uuid4, reply_chars)]

    def _stored(self, appends: Sequence[tuple[str, Sequence[Event]]]) -> float:
        at = utc_now()
        batch = [self._sealed(stream, events, at) for stream, events in appends]
        began = perf_counter()
        assert all(self._store.store(batch)), "an append was lost"
        return perf_counter() - began

    def _sealed(self, stream: str, events: Sequence[Event], at: datetime) -> Sealed:
        expected, first = version, prev = self._heads[stream]
        envelope = envelope_of(at, BY)
        rows: list[Row] = []
        for event in events:
            version += 1
            state = state_of(prev, envelope, data_of(event))
            rows.append(Row(stream, version, type_of(event), state))
            prev = hash_of(rows[-1])
        self._heads[stream] = version, prev
        facts = (Recorded(stream, expected + n, at, BY, one) for n, one in enumerate(events, 1))
        patches = [patch for fact in facts for patch in patches_of(fact)]
        return Sealed(stream, expected, first, rows, prev, patches)


def delta() -> StepDelta:
    """Say a few words."""
    return StepDelta(s=12, i=0, kind="text", x=WORDS)


def turn(ids: Callable[[], object], reply_chars: int) -> list[tuple[Event, ...]]:
    """Give the appends of a turn without tool calls, but for its deltas."""
    run_id, reply = f"run-{ids()}", words(reply_chars)
    message = examples.appended(run_id, f"message-{ids()}", words(reply_chars // 8))
    new = {"step_id": f"step-{ids()}", "message_id": f"message-{ids()}"}
    return [
        (examples.queued(run_id), message),
        (examples.claimed(run_id),),
        (examples.step_started(run_id).model_copy(update=new),),
        (examples.part(text=reply), examples.step_finished()),
        (examples.finished(run_id),),
    ]


def words(chars: int) -> str:
    """Give words that are not all the same."""
    letters = random.Random(chars)
    return "".join(letters.choice("etaoin shrdlu") for _ in range(chars))


FACTS_A_TURN: Final = sum(map(len, turn(lambda: 0, 8)))


class Database:
    """A database of our own in a cluster of our own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.url = cluster.create(name)
        migrate(self.url, Terms())

    @contextmanager
    def store(self) -> Generator[PostgresStore]:
        """Open it as a server does."""
        with closing(PostgresStore(self.url, Terms())) as store:
            yield store

    def cpu_s(self) -> float:
        """Give the CPU seconds that the server's living processes have used."""
        pids = self.cluster.execute("SELECT pid FROM pg_stat_activity")
        return sum(cpu_s(pid) for (pid,) in pids)


# --- a commit ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commits:
    """A median commit's seconds by its rows, and the client's CPU seconds."""

    took_s: dict[int, float]
    cpu_s: dict[int, float]
    swings: tuple[float, ...]

    @property
    def cost(self) -> Cost:
        """As a line."""
        return fitted(self.took_s)

    @property
    def cpu(self) -> Cost:
        """The client's CPU as a line."""
        return fitted(self.cpu_s)


def commits(database: Database, for_s: float) -> Commits:
    """Time commits of each size through the store."""
    with database.store() as store:
        speakers = Speakers(store)
        found = {rows: repeated(partial(speakers.say, rows), for_s) for rows in SIZES}
    return summed(found)


@dataclass(frozen=True, slots=True)
class Repeated:
    """Seconds of each time, and the CPU seconds of this process for one."""

    took_s: list[float]
    cpu_s: float


def repeated(act: Callable[[], float], for_s: float) -> Repeated:
    """Do it again and again for so long; `act` says how long it took."""
    took_s: list[float] = []
    cpu, until = process_time(), perf_counter() + for_s
    while perf_counter() < until:
        took_s.append(act())
    return Repeated(took_s, (process_time() - cpu) / len(took_s))


def summed(found: dict[int, Repeated]) -> Commits:
    """Give the medians by rows; how far single ones are from them is taken from small commits."""
    medians = {rows: statistics.median(one.took_s) for rows, one in found.items()}
    swings = [one / medians[rows] for rows in SIZES[:3] for one in found[rows].took_s]
    even = [percentile(swings, 100 * (n + 0.5) / SWINGS) for n in range(SWINGS)]
    return Commits(medians, {rows: one.cpu_s for rows, one in found.items()}, tuple(even))


# --- many writers -----------------------------------------------------------------------------


def ceiling(database: Database, rows: int, writers: int, for_s: float) -> float:
    """Give the rows a second of so many processes that all write as fast as they can."""
    context = multiprocessing.get_context("spawn")
    line, told = context.Barrier(writers), context.SimpleQueue()
    args = (database.url, rows, for_s, line, told)
    processes = [context.Process(target=_write, args=args) for _ in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert not any(process.exitcode for process in processes), "a writer failed"
    return sum(told.get() for _ in processes)


def _write(url: str, rows: int, for_s: float, line: Any, told: Any) -> None:
    """Write batches as fast as it goes, beginning with the others; tell the rows a second."""
    with closing(PostgresStore(url, Terms())) as store:
        speakers = Speakers(store)
        line.wait(START_TIMEOUT_S)
        began = perf_counter()
        done = len(repeated(partial(speakers.say, rows), for_s).took_s)
        told.put(done * rows / (perf_counter() - began))


def shared(few_s: float, many_s: float) -> Cost:
    """Give what a commit takes of a database that is full, from its rows a second at two sizes."""
    took = {FEW: FEW / few_s, MANY: MANY / many_s}
    return fitted(took)


def server_cpu(database: Database, for_s: float) -> Cost:
    """Give the server's CPU for a commit."""

    def spent(speakers: Speakers, rows: int) -> float:
        before = database.cpu_s()
        done = len(repeated(partial(speakers.say, rows), for_s).took_s)
        return (database.cpu_s() - before) / done

    with database.store() as store:
        speakers = Speakers(store)
        return fitted({rows: spent(speakers, rows) for rows in (FEW, MANY)})


# --- bytes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bytes:
    """What a row takes in tables, in their indexes, and in the write-ahead log."""

    table: float
    index: float
    wal: float

    @property
    def kept(self) -> float:
        """What stays on the disk."""
        return self.table + self.index


_SIZES: Final = (
    "SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)), "
    "pg_current_wal_insert_lsn() - '0/0'::pg_lsn FROM pg_stat_user_tables"
)


def grown(store: PostgresStore, rows: int, work: Callable[[], object]) -> Bytes:
    """Tell by how much the database grows by work that stores so many rows, for each of them."""

    def sizes() -> list[float]:
        with store.connections.connection() as connection:
            return [float(one) for one in connection.execute(_SIZES).fetchall()[0]]

    before = sizes()
    work()
    table, index, wal = ((now - was) / rows for now, was in zip(sizes(), before, strict=True))
    return Bytes(table, index, wal)


@dataclass(slots=True)
class Sizes:
    """Bytes of a delta and of a fact, and how many deltas' time a fact takes."""

    delta: Bytes
    fact: Bytes
    fact_rows: float


def sizes(database: Database, cost: Cost, rows: int, reply_chars: int) -> Sizes:
    """Store deltas, then turns; look what they take."""
    turns, took_s = rows // 10 // FACTS_A_TURN, list[float]()
    facts = turns * FACTS_A_TURN
    with database.store() as store:
        speakers = Speakers(store)

        def take_turns() -> None:
            for _ in range(turns):
                took_s.extend(speakers.take_turn(reply_chars))

        for _ in range(WARM_COMMITS):
            speakers.take_turn(reply_chars)
        of_delta = grown(store, rows, lambda: [speakers.say(FEW) for _ in range(rows // FEW)])
        of_fact = grown(store, facts, take_turns)
    over_s = sum(took_s) - len(took_s) * cost.fixed_s
    return Sizes(of_delta, of_fact, max(1.0, over_s / (facts * cost.row_s)))


def waits(database: Database) -> tuple[float, float]:
    """Give the seconds of a NOTIFY and of reading a stream's newest row."""
    with database.store() as store:
        assert store.bell is not None
        (stream, head, _), *_ = store.streams(limit=1)
        ring_s = [_timed(partial(store.bell.ring, [stream])) for _ in range(STREAMS)]
        read_s = [_timed(partial(store.read, stream, after=head - 1)) for _ in range(STREAMS)]
    return statistics.median(ring_s), statistics.median(read_s)


def _timed(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return perf_counter() - began


def fsync_s() -> float:
    """Give the seconds of a page's way to this machine's disk."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(2**21))
        os.fsync(file.fileno())
        file.seek(0)

        def flush() -> None:
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())

        return statistics.median(_timed(flush) for _ in range(100))
