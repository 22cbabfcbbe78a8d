"""Streams, processes and a database, played without a clock: what the log's policy comes to.

Pure: the same numbers in give the same numbers out. What is played is the server's own policy. A
stream's first words are appended at once, then what came meanwhile once a pace (`app/pacer.py`);
a process has one writer that takes all that waits (`app/log.py`); others are told 20 ms after a
commit, or look once a second (`app/wakeups.py`). Beside it stands what is scarce: a process does
one thing at a time, and a database has a ceiling that all writers share.

All times are in seconds unless a name says otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf, log
from random import Random
from typing import Any, Final, NamedTuple

from app.log import BATCH_BYTES_MAX, BATCH_EVENTS_MAX
from app.wakeups import LOOK_S, RING_S

# A timer of the server's event loop (libuv's) goes off at a whole millisecond, so what is paced comes
# in clumps.
TICK_S: Final = 0.001
# What a delta's JSON is besides its words: what the limit of a batch counts.
DELTA_BYTES: Final = 36


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for a commit, whatever is in it, and seconds for each of its rows."""

    fixed_s: float
    row_s: float

    def of(self, rows: float) -> float:
        """Give the seconds for a commit of so many rows."""
        return self.fixed_s + self.row_s * rows

    def without(self, other: "Cost") -> "Cost":
        """Give what is left of it beside another; never less than nothing."""
        left = (self.fixed_s - other.fixed_s, self.row_s - other.row_s)
        return Cost(*(max(0.0, one) for one in left))


def fitted(points: Mapping[int, float]) -> Cost:
    """Draw the line through seconds by rows; what counts is by what share it is off at each."""
    weights = {rows: took_s**-2 for rows, took_s in points.items()}
    all_ = sum(weights.values())
    mean_rows = sum(weight * rows for rows, weight in weights.items()) / all_
    mean_s = sum(weights[rows] * took_s for rows, took_s in points.items()) / all_
    above = sum(weights[n] * (n - mean_rows) * (took_s - mean_s) for n, took_s in points.items())
    row_s = above / sum(weight * (n - mean_rows) ** 2 for n, weight in weights.items())
    return Cost(max(0.0, mean_s - row_s * mean_rows), max(0.0, row_s))


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value that so many percent of the values are not above; nan of none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * percent / 100))] if found else float("nan")


@dataclass(frozen=True, slots=True)
class Costs:
    """What things take.

    A commit takes the process's CPU, half of it before and half after a `wait` in which the process
    does other things; and a `share` of the database, which the others then do not have. `swings`
    are waits over their median, from which each commit's is drawn. A fact weighs as much as
    `fact_rows` deltas. A token costs the process `token_s` and each row `row_s` beside its commit.
    `ring_s` is a NOTIFY, `read_s` the reading of a stream's newest rows. The network adds
    `round_trip_s` to whatever is asked of the database, and its disk `disk_s` to a commit.
    """

    wait: Cost
    cpu: Cost
    share: Cost
    swings: tuple[float, ...] = (1.0,)
    fact_rows: float = 1.0
    token_s: float = 0.0
    row_s: float = 0.0
    ring_s: float = 0.0
    read_s: float = 0.0
    round_trip_s: float = 0.0
    disk_s: float = 0.0

    @property
    def page_s(self) -> float:
        """A reading, with its way there and back."""
        return self.read_s + self.round_trip_s


@dataclass(frozen=True, slots=True)
class Load:
    """Processes on one database, and the streams that speak in each of them.

    Tokens come in bursts of `burst` on average at random moments, or one by one like a clock if
    `regular`. A reply ends after `reply_tokens` with an append of `facts`; the next one's first words
    are appended at once again. A writer that wakes lets `linger_s` go by before it takes what waits.
    """

    processes: int
    streams: int
    tokens_s: float
    pace_s: float
    burst: float = 1.0
    reply_tokens: float = inf
    facts: int = 0
    token_chars: float = 4.0
    linger_s: float = 0.0
    regular: bool = False


@dataclass(slots=True)
class Seen:
    """What happened after the warm-up: counts, and latencies in seconds.

    `ack_s` is from append to answer. The others are from the moment when the oldest token of a row
    came, so they hold the pace, too: until a follower in the same process has it (`here_s`), in
    another that was told (`told_s`), and in another that only looks (`looked_s`).
    """

    load: Load
    for_s: float
    rows: int = 0
    facts: int = 0
    commits: int = 0
    rings: int = 0
    work_s: float = 0.0
    cpu_s: float = 0.0
    ack_s: list[float] = field(default_factory=list[float])
    here_s: list[float] = field(default_factory=list[float])
    told_s: list[float] = field(default_factory=list[float])
    looked_s: list[float] = field(default_factory=list[float])

    @property
    def rows_s(self) -> float:
        """Deltas stored a second."""
        return self.rows / self.for_s

    @property
    def batch(self) -> float:
        """Rows of a commit, on average."""
        return (self.rows + self.facts) / max(1, self.commits)

    @property
    def database_busy(self) -> float:
        """The share of the database that was used; near 1 it falls behind."""
        return self.work_s / self.for_s

    @property
    def process_busy(self) -> float:
        """The share of a process's time, on average; near 1 it falls behind."""
        return self.cpu_s / self.for_s / self.load.processes


class _Process:
    """What waits for its writer, and until when its loop and its writer's thread are taken."""

    def __init__(self) -> None:
        self.waiting: list[_Entry] = []
        self.writing = False
        self.loop_free_s = 0.0
        self.thread_free_s = 0.0
        self.grown_s: list[float] = []


class _Stream:
    """What a stream has not appended yet. It rests while an append is under way, and a pace after."""

    def __init__(self, process: _Process, left: float, due_s: float) -> None:
        self.process = process
        self.left = left
        self.due_s = due_s
        self.tokens = 0
        self.oldest_s = 0.0
        self.resting = False


class _Entry(NamedTuple):
    """An append: a delta, and if the reply ends with it, the reply's facts."""

    stream: _Stream
    ends: bool
    facts: int
    size: float
    oldest_s: float
    asked_s: float


class _Batch(NamedTuple):
    """What one commit takes; `weight` counts a fact as so many deltas."""

    process: _Process
    entries: list[_Entry]
    weight: float


class World:
    """A database and its processes, moved from moment to moment."""

    def __init__(self, load: Load, costs: Costs, seed: int = 1) -> None:
        self._load = load
        self._costs = costs
        self._random = Random(seed)
        self._moments: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._now = self._warm_s = self._database_free_s = 0.0
        self._seen = Seen(load, 0.0)
        self._processes = [_Process() for _ in range(load.processes)]

    def run(self, for_s: float, warm_s: float = 0.0) -> Seen:
        """Let it go on for so long after the warm-up; tell what was seen."""
        self._warm_s = warm_s
        self._seen = Seen(self._load, for_s)
        for process in self._processes:
            for _ in range(self._load.streams):
                self._begin(process)
        while self._moments:
            self._now, _, act, subject = heappop(self._moments)
            if self._now >= warm_s + for_s:
                break
            act(subject)
        return self._seen

    def _begin(self, process: _Process) -> None:
        load, draw = self._load, self._random.random
        left = load.reply_tokens if load.reply_tokens == inf else draw() * load.reply_tokens
        apart_s = max(load.pace_s, load.burst / load.tokens_s)
        self._await_words(_Stream(process, left, draw() * apart_s))

    @property
    def _warm(self) -> bool:
        return self._now >= self._warm_s

    def _at(self, moment_s: float, act: Callable[[Any], None], subject: Any) -> None:
        heappush(self._moments, (moment_s, next(self._numbers), act, subject))

    def _after(self, wait_s: float, act: Callable[[Any], None], subject: Any) -> None:
        moment_s = self._now + wait_s
        self._at(_ticked(moment_s) if wait_s else moment_s, act, subject)

    def _spent(self, process: _Process, cpu_s: float) -> float:
        """Give the moment when a process has done this, after all that it has to do before it."""
        if self._warm:
            self._seen.cpu_s += cpu_s
        process.loop_free_s = max(self._now, process.loop_free_s) + cpu_s
        return process.loop_free_s

    # --- a stream -------------------------------------------------------------------------

    def _await_words(self, stream: _Stream) -> None:
        due_s = _ticked(stream.due_s) if self._load.regular else stream.due_s
        self._at(due_s, self._speak, stream)

    def _speak(self, stream: _Stream) -> None:
        if not stream.tokens:
            stream.oldest_s = self._now
        tokens = self._burst()
        stream.tokens += tokens
        stream.left -= tokens
        stream.due_s += self._gap_s()
        self._at(self._spent(stream.process, tokens * self._costs.token_s), self._heard, stream)
        self._await_words(stream)

    def _burst(self) -> int:
        if self._load.burst <= 1:
            return 1
        return 1 + int(log(1 - self._random.random()) / log(1 - 1 / self._load.burst))

    def _gap_s(self) -> float:
        bursts_s = self._load.tokens_s / self._load.burst
        return 1 / bursts_s if self._load.regular else self._random.expovariate(bursts_s)

    def _heard(self, stream: _Stream) -> None:
        if stream.tokens and not stream.resting:
            self._append(stream)

    def _append(self, stream: _Stream) -> None:
        ends, process = stream.left <= 0, stream.process
        if ends:
            stream.left = self._load.reply_tokens
        size = DELTA_BYTES + stream.tokens * self._load.token_chars
        facts = self._load.facts if ends else 0
        process.waiting.append(_Entry(stream, ends, facts, size, stream.oldest_s, self._now))
        stream.tokens, stream.resting = 0, True
        if not process.writing:
            # It wakes at the loop's next turn, so after all that this moment holds.
            process.writing = True
            self._after(self._load.linger_s, self._send, process)

    def _rested(self, stream: _Stream) -> None:
        stream.resting = False
        self._at(self._spent(stream.process, 0.0), self._heard, stream)

    # --- a writer -------------------------------------------------------------------------

    def _send(self, process: _Process) -> None:
        entries = _taken(process)
        weight = len(entries) + sum(one.facts for one in entries) * self._costs.fact_rows
        sealed_s = self._spent(process, self._costs.cpu.of(weight) / 2)
        self._at(sealed_s, self._store, _Batch(process, entries, weight))

    def _store(self, batch: _Batch) -> None:
        process, weight = batch.process, batch.weight
        begins_s = max(self._now, process.thread_free_s)
        waits_s = self._costs.wait.of(weight) * self._random.choice(self._costs.swings)
        done_s = max(begins_s + waits_s, self._worked_s(begins_s, self._costs.share.of(weight)))
        process.thread_free_s = done_s + self._costs.round_trip_s + self._costs.disk_s
        self._at(process.thread_free_s, self._stored, batch)

    def _worked_s(self, begins_s: float, work_s: float) -> float:
        """Give the moment when the database has done this, after all that came before it."""
        if self._warm:
            self._seen.work_s += work_s
        self._database_free_s = max(self._database_free_s, begins_s) + work_s
        return self._database_free_s

    def _stored(self, batch: _Batch) -> None:
        cpu_s = self._costs.cpu.of(batch.weight) / 2
        self._at(self._spent(batch.process, cpu_s), self._answer, batch)

    def _answer(self, batch: _Batch) -> None:
        process = batch.process
        sent_s = self._spent(process, self._costs.row_s * len(batch.entries))
        if self._warm:
            self._note(batch.entries, sent_s)
        if not process.grown_s:
            self._after(RING_S, self._ring, process)
        for one in batch.entries:
            process.grown_s.append(one.oldest_s)
            self._after(0.0 if one.ends else self._load.pace_s, self._rested, one.stream)
        process.writing = bool(process.waiting)
        if process.writing:
            self._after(self._load.linger_s, self._send, process)

    def _note(self, entries: Sequence[_Entry], sent_s: float) -> None:
        seen, draw = self._seen, self._random.random
        seen.commits += 1
        seen.rows += len(entries)
        seen.facts += sum(one.facts for one in entries)
        for one in entries:
            seen.ack_s.append(self._now - one.asked_s)
            seen.here_s.append(sent_s - one.oldest_s)
            # It asks for heads, then for rows.
            looked_s = self._now + draw() * LOOK_S + 2 * (self._costs.page_s + self._lag_s())
            seen.looked_s.append(looked_s - one.oldest_s)

    def _ring(self, process: _Process) -> None:
        """Tell the others: it has to wait for the commit under way, and the next one for it."""
        begins_s = max(self._now, process.thread_free_s)
        told_s = self._worked_s(begins_s, self._costs.ring_s) + self._costs.round_trip_s
        process.thread_free_s = told_s
        if self._warm:
            self._seen.rings += 1
            has_s = told_s + self._costs.page_s + 2 * self._lag_s()
            self._seen.told_s += [has_s - oldest_s for oldest_s in process.grown_s]
        process.grown_s = []

    def _lag_s(self) -> float:
        """Give how long a process takes now to get to what has come for it."""
        return max(0.0, self._random.choice(self._processes).loop_free_s - self._now)


def _ticked(moment_s: float) -> float:
    """Give the moment at which a timer goes off that is set for this one."""
    return ceil(moment_s / TICK_S) * TICK_S


def _taken(process: _Process) -> list[_Entry]:
    """Take what fits into a batch, at least one append."""
    events, size = 0, 0.0
    for taken, one in enumerate(process.waiting):
        events += 1 + one.facts
        size += one.size
        if taken and (events > BATCH_EVENTS_MAX or size > BATCH_BYTES_MAX):
            batch, process.waiting = process.waiting[:taken], process.waiting[taken:]
            return batch
    batch, process.waiting = process.waiting, []
    return batch
