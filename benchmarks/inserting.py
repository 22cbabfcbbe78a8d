"""How fast a batch gets into Postgres, by itself: our statement, the library's arrays, COPY.

One client, one connection, a real server on this machine, batches of deltas to as many streams.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Final
from uuid import uuid4

import psycopg

from app.mapper import GENESIS, Row
from app.storage.postgres import PostgresStore, Terms, migrate
from app.storage.postgres.arrays import bigints, byteas, register, texts
from app.storage.store import Sealed
from tests.databases import Cluster

BODY_BYTES: Final = 160
BATCHES, ROUNDS, ROWS = 100, 5, 100
LIKE_OURS: Final = "CREATE TABLE copied (LIKE stored_events INCLUDING ALL)"
COPY: Final = "COPY copied FROM STDIN (FORMAT BINARY)"
INSERT: Final = (
    "INSERT INTO copied SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::bytea[])"
)
MOVE: Final = (
    "UPDATE streams SET head = w.head, hash = w.hash "
    "FROM unnest(%s::text[], %s::bigint[], %s::bytea[]) AS w (id, head, hash) WHERE streams.id = w.id"
)


def batches(rows: int, count: int) -> list[list[Sealed]]:
    """Make batches that go on from one another, one row a stream, in order of stream."""
    heads = {f"conv-{uuid4()}": (0, GENESIS) for _ in range(rows)}
    made: list[list[Sealed]] = []
    for _ in range(count):
        batch: list[Sealed] = []
        for stream in sorted(heads):
            version, prev = heads[stream]
            row = Row(stream, version + 1, "step.delta", prev + os.urandom(BODY_BYTES))
            heads[stream] = (version + 1, os.urandom(32))
            batch.append(Sealed(stream, version, prev, [row], heads[stream][1], []))
        made.append(batch)
    return made


class Ways:
    """The ways to store a batch."""

    def __init__(self, url: str) -> None:
        self._store = PostgresStore(url, Terms())
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(LIKE_OURS)
        register(self._connection)

    def ours(self, batch: Sequence[Sealed]) -> None:
        """Do what an append does: compare and set the heads, insert the rows."""
        assert all(self._store.store(batch))

    def packed(self, batch: Sequence[Sealed]) -> None:
        """Insert the rows alone, in arrays of our packing."""
        stream, version, topic, state = _columns(batch)
        values = (texts(stream), bigints(version), texts(topic), byteas(state))
        self._connection.execute(INSERT, values)

    def lists(self, batch: Sequence[Sealed]) -> None:
        """Insert the rows alone, in arrays of the library's packing."""
        self._connection.execute(INSERT, _columns(batch))

    def copy(self, batch: Sequence[Sealed]) -> None:
        """Copy the rows alone."""
        with self._connection.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(["text", "int8", "text", "bytea"])
            for one in batch:
                for row in one.rows:
                    copy.write_row(row)

    def copy_and_move(self, batch: Sequence[Sealed]) -> None:
        """Copy the rows and set the heads, comparing nothing, in one transaction."""
        with self._connection.transaction():
            self.copy(batch)
            heads = [one.expected + len(one.rows) for one in batch]
            values = ([one.stream for one in batch], heads, [one.hash for one in batch])
            self._connection.execute(MOVE, values)


def _columns(
    batch: Sequence[Sealed],
) -> tuple[list[str], list[int], list[str], list[bytes]]:
    rows = [row for one in batch for row in one.rows]
    return (
        [row.stream for row in rows],
        [row.version for row in rows],
        [row.topic for row in rows],
        [row.state for row in rows],
    )


def timed(store: Callable[[Sequence[Sealed]], None], rows: int) -> tuple[float, float]:
    """Give the microseconds that a row takes, and those of them that are the client's CPU."""
    made = batches(rows, BATCHES)
    began, cpu = perf_counter(), process_time()
    for batch in made:
        store(batch)
    count = rows * BATCHES
    return (perf_counter() - began) / count * 1e6, (process_time() - cpu) / count * 1e6


def main() -> None:
    """Measure each way in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a batch")
    rows = parser.parse_args().rows
    cluster = Cluster(durable=True)
    url = cluster.create("inserting")
    migrate(url, Terms())
    ways = Ways(url)
    named = {
        "rows alone, COPY": ways.copy,
        "rows alone, our arrays": ways.packed,
        "rows alone, the library's arrays": ways.lists,
        "heads set and rows, COPY and UPDATE": ways.copy_and_move,
        "heads compared and set and rows, our statement": ways.ours,
    }
    rounds = [{name: timed(way, rows) for name, way in named.items()} for _ in range(ROUNDS)]
    print(f"{rows} rows a batch, {BATCHES} batches, median of {ROUNDS} rounds")
    for name in named:
        whole = statistics.median(one[name][0] for one in rounds)
        cpu = statistics.median(one[name][1] for one in rounds)
        rate = 1e6 / whole
        print(f"  {name:48}{rate:9,.0f} rows/s  {whole:5.1f} µs a row, {cpu:4.1f} of them CPU here")
    cluster.remove()


if __name__ == "__main__":
    main()
