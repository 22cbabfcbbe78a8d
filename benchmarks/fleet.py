"""How many processes, nodes and databases many streams take, by what was played and measured."""

from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any, Final

from benchmarks.measuring import FACTS_A_TURN, WORDS, Sizes
from benchmarks.predicting import Cost, Costs, Load, Seen, World

US, MS = 1e-6, 1e-3
DAY_S: Final = 86_400
# Streams in a process, to find out how many it can have.
TRIAL_STREAMS: Final = 30


def _given(value: float, unit: str, why: str) -> Any:
    return field(default=value, metadata={"unit": unit, "why": why})


@dataclass(frozen=True, slots=True)
class Given:
    """What is assumed and not measured here; each can be given as a flag."""

    streams: float = _given(100_000, "", "streams that speak at once, all day")
    conversations: float = _given(10_000_000, "a day", "conversations")
    turns: float = _given(6, "", "turns of a conversation")
    peak: float = _given(3, "x", "the busiest moment over the day's mean")
    facts: float = _given(FACTS_A_TURN, "", "facts of a turn without tool calls; a call adds five")
    reply_tokens: float = _given(400, "tokens", "a reply of 300 words")
    tokens_s: float = _given(40, "tokens/s", "a stream that speaks")
    burst: float = _given(2, "tokens", "mean that come at once, in random moments")
    token_chars: float = _given(4, "letters", "a token of English")
    sdk_us: float = _given(426, "µs", "CPU for a token, measured: pydantic-ai and OpenAI's SDK")
    frame_us: float = _given(26, "µs", "CPU to send a row to a follower, measured: 38,000 writes/s")
    hear_us: float = _given(37, "µs", "CPU to hear a NOTIFY, measured: psycopg")
    hearing: float = _given(0.1, "of 1", "how much of a process hearing may take")
    cores: float = _given(8, "", "cores of a node; a process has one, as Python does")
    process_busy: float = _given(0.6, "of 1", "how busy a process may be")
    database_busy: float = _given(0.6, "of 1", "how busy a database may be")
    database_cores: float = _given(
        16, "", "cores of a larger database, which scales as its CPU does"
    )
    sharded: float = _given(0.63, "of 1", "a shard's rate over a plain database's: Citus 13.2")
    round_trip_ms: float = _given(0.5, "ms", "from node to database, within a data centre")
    linger_ms: float = _given(0, "ms", "what a writer lets go by for more to come; it does not yet")
    disk_ms: float = _given(1.0, "ms", "what another disk's fsync takes beyond this one's")

    @property
    def facts_s(self) -> float:
        """Facts of a stream a second, if one reply follows the other."""
        return self.facts * self.tokens_s / self.reply_tokens

    @property
    def spoken_a_day_s(self) -> float:
        """Seconds that the streams of a day's conversations speak, all together."""
        return self.conversations * self.turns * self.reply_tokens / self.tokens_s

    def load(self, processes: int, streams: int, pace_s: float) -> Load:
        """Give the load of so many processes with so many streams each."""
        return Load(
            processes,
            streams,
            self.tokens_s,
            pace_s,
            burst=self.burst,
            reply_tokens=self.reply_tokens,
            facts=round(self.facts),
            token_chars=self.token_chars,
            linger_s=self.linger_ms * MS,
        )


# --- a database and its processes -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """As many processes as a database bears, each with as many streams as it bears.

    `server` is a database's CPU for a commit.
    """

    seen: Seen
    costs: Costs
    server: Cost

    @property
    def streams(self) -> int:
        """Streams of a process."""
        return self.seen.load.streams

    @property
    def processes(self) -> int:
        """Processes on the database."""
        return self.seen.load.processes

    @property
    def rows_s(self) -> float:
        """Deltas that a stream stores a second."""
        return self.seen.rows_s / self.streams / self.processes

    @property
    def server_busy(self) -> float:
        """The database's cores that a process keeps busy."""
        seen = self.seen
        rows = seen.rows + seen.facts * self.costs.fact_rows
        took_s = seen.commits * self.server.fixed_s + rows * self.server.row_s
        return (took_s + seen.rings * self.costs.ring_s) / seen.for_s / self.processes

    @property
    def notices_s(self) -> float:
        """NOTIFYs that a process sends a second."""
        return self.seen.rings / self.seen.for_s / self.processes

    def telling(self, given: Given) -> float:
        """Give how many processes can tell each other before each is too busy with hearing."""
        hearing = self.notices_s * given.hear_us * US
        return given.hearing / hearing if hearing else inf


def filled(costs: Costs, server: Cost, given: Given, pace_s: float, play_s: float) -> Cell:
    """Find how many streams a process bears, and how many such processes a database; play them."""

    def played(processes: int, streams: int) -> Seen:
        return World(given.load(processes, streams, pace_s), costs).run(play_s, play_s / 4)

    trial = played(1, TRIAL_STREAMS)
    streams = max(1, int(TRIAL_STREAMS * given.process_busy / trial.process_busy))
    processes = max(1, int(given.database_busy / played(1, streams).database_busy))
    return Cell(played(processes, streams), costs, server)


# --- a fleet ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fleet:
    """Such cells for so many streams: at the busiest moment, and on average over a day."""

    cell: Cell
    given: Given
    sizes: Sizes
    streams: float
    mean_streams: float

    @property
    def rows_s(self) -> float:
        """Deltas and facts stored a second, at the busiest moment."""
        return self.streams * (self.cell.rows_s + self.given.facts_s)

    @property
    def processes(self) -> int:
        """Processes, each with a writer."""
        return ceil(self.streams / self.cell.streams)

    @property
    def nodes(self) -> int:
        """Machines of so many cores."""
        return ceil(self.processes / self.given.cores)

    @property
    def databases(self) -> int:
        """Databases like the one that was measured."""
        return ceil(self.processes / self.cell.processes)

    @property
    def large_databases(self) -> int:
        """Databases of so many cores, if it is their CPU that limits them."""
        busy = self.processes * self.cell.server_busy
        return ceil(busy / self.given.database_busy / self.given.database_cores)

    @property
    def shards(self) -> int:
        """As many of those as shards of one database, which is how more than one is used."""
        one = self.large_databases
        return one if one == 1 else ceil(one / self.given.sharded)

    @property
    def wal_s(self) -> float:
        """Bytes of write-ahead log a second, at the busiest moment."""
        return self.streams * self._grows(self.sizes.delta.wal, self.sizes.fact.wal)

    @property
    def wal_a_day(self) -> float:
        """Bytes of write-ahead log a day."""
        return self.mean_streams * DAY_S * self._grows(self.sizes.delta.wal, self.sizes.fact.wal)

    @property
    def kept_a_day(self) -> float:
        """Bytes that stay a day, in tables and indexes."""
        return self.mean_streams * DAY_S * self._grows(self.sizes.delta.kept, self.sizes.fact.kept)

    def _grows(self, delta: float, fact: float) -> float:
        """Give a stream's bytes a second, from those of a measured delta and of a fact."""
        rows_s = self.cell.rows_s
        more_chars = self.given.tokens_s / rows_s * self.given.token_chars - len(WORDS)
        return rows_s * (delta + more_chars) + self.given.facts_s * fact

    @property
    def notices_s(self) -> float:
        """NOTIFYs that every process hears a second, if all are on one database."""
        return self.processes * self.cell.notices_s

    @property
    def hearing(self) -> float:
        """The share of a process's time that goes into hearing them."""
        return self.notices_s * self.given.hear_us * US
