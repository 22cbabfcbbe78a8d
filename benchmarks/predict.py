"""What a fleet would need, told from what one machine's Postgres costs.

Measures commits, ceilings and bytes on a Postgres of its own, plays the log's policy with them
(`benchmarks/predicting.py`), and reckons what many streams at once, and many conversations a day,
would take (`benchmarks/fleet.py`). Then it holds the same play against the real log under a small
load, and ends with 1 if they differ.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from app.log import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, READERS
from app.wakeups import LOOK_S, RING_S
from benchmarks import appending, measuring
from benchmarks.appending import Spoken
from benchmarks.fleet import DAY_S, MS, US, Cell, Fleet, Given, filled
from benchmarks.measuring import FEW, MANY, SIZES, Commits, Database, Sizes
from benchmarks.predicting import Cost, Costs, Load, Seen, World, percentile
from tests.databases import Cluster

MB, TB = 1e6, 1e12
PACES_S: Final = (0.025, 0.05, 0.1, 0.25)
# A process has a connection for its writer, one for each reader, and one to listen on.
CONNECTIONS: Final = READERS + 2
# The check's load, and how far the prediction of it may be off.
STREAMS, DELTAS_S = 200, 10
RATE_OFF_MAX: Final = 0.15
P50_FACTOR_MAX: Final = 2.5


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of a measurement, rows whose bytes are weighed, seconds that are played, of the check."""

    writers: tuple[int, ...] = (1, 2, 4)
    measure_s: float = 1.0
    rows: int = 40_000
    play_s: float = 8.0
    check_s: float = 5.0


FULL: Final = Plan()
QUICK: Final = Plan((2, 4), 0.25, 4_000, 1.0, 2.0)


# --- what is measured -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What things cost here."""

    stored: Commits
    few: dict[int, float]
    many: dict[int, float]
    server: Cost
    sizes: Sizes
    fsync_s: float
    ring_s: float
    read_s: float
    timer_s: float
    logged: Commits

    @property
    def costs(self) -> Costs:
        """As the play takes them, on this machine, with no model and nobody who follows."""
        logged, share = (
            self.logged,
            measuring.shared(max(self.few.values()), max(self.many.values())),
        )
        return Costs(
            wait=logged.cost.without(logged.cpu),
            cpu=logged.cpu,
            share=share,
            swings=logged.swings,
            fact_rows=self.sizes.fact_rows,
            row_s=self.timer_s,
            ring_s=self.ring_s,
            read_s=self.read_s,
        )

    def costs_of(self, given: Given) -> Costs:
        """As the play takes them for a fleet: with models, followers and a network."""
        row_s = self.timer_s + given.frame_us * US
        round_trip_s, disk_s = given.round_trip_ms * MS, given.disk_ms * MS
        served = replace(self.costs, token_s=given.sdk_us * US, row_s=row_s)
        return replace(served, round_trip_s=round_trip_s, disk_s=disk_s)


def measured(cluster: Cluster, given: Given, plan: Plan) -> Measured:
    """Measure everything, the log last: the check comes right after it."""
    database, for_s = Database(cluster, "commits"), plan.measure_s
    stored = measuring.commits(database, for_s)
    few, many = (
        {writers: measuring.ceiling(database, rows, writers, 2 * for_s) for writers in plan.writers}
        for rows in (FEW, MANY)
    )
    server = measuring.server_cpu(database, 2 * for_s)
    reply_chars = int(given.reply_tokens * given.token_chars)
    sizes = measuring.sizes(Database(cluster, "sizes"), stored.cost, plan.rows, reply_chars)
    ring_s, read_s = measuring.waits(database)
    times_s = (measuring.fsync_s(), ring_s, read_s, appending.timer_s())
    logged = appending.logged(Database(cluster, "logged"), for_s)
    return Measured(stored, few, many, server, sizes, *times_s, logged)


def show_measured(found: Measured) -> None:
    """Print what was measured."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"MEASURED HERE, on {os.cpu_count()} cores that clients and database share; load {load}")
    line("rows of a commit", SIZES)
    for name, one in (("the store", found.stored), ("the log", found.logged)):
        fit = one.cost
        line(f"{name}, ms", [took_s / MS for took_s in one.took_s.values()], digits=2)
        line("  as a line", [fit.of(rows) / MS for rows in SIZES], _spelt(fit), digits=2)
        line("  CPU µs a row", [spent_s / rows / US for rows, spent_s in one.cpu_s.items()])
    for rows, rates in ((FEW, found.few), (MANY, found.many)):
        shown = ", ".join(f"{writers}: {rate:,.0f}" for writers, rate in rates.items())
        print(f"  rows/s by writers, {rows} rows a commit: {shown}")
    print(f"  a full database's time for a commit: {_spelt(found.costs.share)} (the best of these)")
    print(f"  the server's own CPU for a commit: {_spelt(found.server)}")
    for name, size in (("delta", found.sizes.delta), ("fact", found.sizes.fact)):
        print(
            f"  bytes of a {name}: table {size.table:,.0f}, indexes {size.index:,.0f}, "
            f"WAL {size.wal:,.0f}"
        )
    print(f"  a fact takes as long as {found.sizes.fact_rows:.1f} deltas, stored by itself")
    print(
        f"  fsync {found.fsync_s / US:.0f} µs, NOTIFY {found.ring_s / US:.0f} µs, "
        f"a stream's newest row {found.read_s / US:.0f} µs, a timer {found.timer_s / US:.0f} µs of CPU"
    )


def _spelt(cost: Cost) -> str:
    return f"{cost.fixed_s / US:.0f} µs + {cost.row_s / US:.1f} µs a row"


def line(name: str, values: Sequence[float], why: str = "", digits: int = 0) -> None:
    """Print a line of a table, and what it rests on."""
    shown = "".join(f"{one:>10,.{digits}f}" for one in values)
    print(f"  {name:36}{shown}  {why}".rstrip())


# --- what is predicted ------------------------------------------------------------------------


def show_given(given: Given) -> None:
    """Print what is assumed."""
    print("\nASSUMED (each is a flag)")
    for one in fields(given):
        value = f"{getattr(given, one.name):,.10g} {one.metadata['unit']}"
        print(f"  {one.name:18}{value:18}{one.metadata['why']}")


def show_cells(cells: Sequence[Cell], given: Given) -> None:
    """Print what a full process and a full database do at each pace."""
    print("\nPLAYED: a database like this one with as many processes as it bears, at each pace")
    line("a stream appends at most each, ms", [one.seen.load.pace_s / MS for one in cells])

    def show(name: str, value: Callable[[Cell], float], why: str = "", digits: int = 0) -> None:
        line(name, [value(one) for one in cells], why, digits)

    sdk = f"{given.tokens_s:g} tokens/s at {given.sdk_us:g} µs, {given.process_busy:.0%} of a core"
    bursts = f"{given.tokens_s:g} tokens/s, {given.burst:g} at once"
    show("streams of a process", lambda one: one.streams, sdk)
    show("processes of a database", lambda one: one.processes, f"{given.database_busy:.0%} busy")
    show("rows/s of a stream", lambda one: one.rows_s, bursts, 1)
    limits = f"up to {BATCH_EVENTS_MAX} events, {BATCH_BYTES_MAX // 1024} KiB; linger {given.linger_ms:g} ms"
    show("rows of a commit", lambda one: one.seen.batch, limits, 2)
    show("commits/s of the database", lambda one: one.seen.commits / one.seen.for_s)
    show("the database is busy, %", lambda one: 100 * one.seen.database_busy)
    away = f"{given.round_trip_ms:g} ms network, {given.disk_ms:g} ms disk"
    show_latency("append to answer", [one.seen.ack_s for one in cells], away)
    print("  from a row's oldest token to a follower, so with the pace:")
    show_latency("in the same process", [one.seen.here_s for one in cells])
    told = f"{RING_S / MS:.0f} ms, then a NOTIFY and a read"
    show_latency("in another, told", [one.seen.told_s for one in cells], told)
    looked = f"each {LOOK_S:.0f} s"
    show_latency("in another, only looking", [one.seen.looked_s for one in cells], looked)
    hear = f"hearing, at {given.hear_us:g} µs, takes {given.hearing:.0%} of each"
    show("processes that can tell each other", lambda one: one.telling(given), hear)


def show_latency(name: str, seen_s: Sequence[Sequence[float]], why: str = "") -> None:
    """Print the median and the slowest of a hundred."""
    for percent in (50, 99):
        found = [percentile(one, percent) / MS for one in seen_s]
        line(f"{name}, p{percent}, ms", found, why if percent == 50 else "", 1)


def show_fleets(title: str, fleets: Sequence[Fleet], given: Given) -> None:
    """Print what many streams take at each pace."""
    print(f"\nPREDICTED: {title}")
    line("pace, ms", [one.cell.seen.load.pace_s / MS for one in fleets])

    def show(name: str, value: Callable[[Fleet], float], why: str = "", digits: int = 0) -> None:
        line(name, [value(one) for one in fleets], why, digits)

    facts = f"with {given.facts:g} facts each {given.reply_tokens:g} tokens"
    show("rows/s", lambda one: one.rows_s, facts)
    show("processes", lambda one: one.processes, "one writer each")
    show("nodes", lambda one: one.nodes, f"{given.cores:g} cores each")
    show("databases like this one", lambda one: one.databases, "clients on the same cores")
    cores = f"by the server's CPU; {given.database_busy:.0%} busy"
    show(f"databases of {given.database_cores:g} cores", lambda one: one.large_databases, cores)
    show("  the same as shards of one", lambda one: one.shards, f"each at {given.sharded:g}")
    show("WAL MB/s", lambda one: one.wal_s / MB, "all databases together")
    show(
        "kept a day, TB", lambda one: one.kept_a_day / TB, "tables and indexes, before replicas", 2
    )
    show("WAL a day, TB", lambda one: one.wal_a_day / TB, "without pages after checkpoints", 2)
    show("connections", lambda one: one.processes * CONNECTIONS, f"{CONNECTIONS} a process")
    show("NOTIFYs/s that each process hears", lambda one: one.notices_s, "if all share a channel")
    left = "where it is too much, looking is what is left"
    show("  which takes % of its core", lambda one: 100 * one.hearing, left)


def predict(found: Measured, given: Given, plan: Plan) -> None:
    """Play each pace and print what follows."""
    costs = found.costs_of(given)
    cells = [filled(costs, found.server, given, pace_s, plan.play_s) for pace_s in PACES_S]
    show_given(given)
    show_cells(cells, given)

    def fleets(streams: float, mean_streams: float) -> list[Fleet]:
        return [Fleet(one, given, found.sizes, streams, mean_streams) for one in cells]

    title = f"{given.streams:,.0f} streams that speak at once, all day"
    show_fleets(title, fleets(given.streams, given.streams), given)
    mean = given.spoken_a_day_s / DAY_S
    peak = given.peak * mean
    title = f"{given.conversations:,.0f} conversations a day: {mean:,.0f} streams, {peak:,.0f} at the peak"
    show_fleets(title, fleets(peak, mean), given)


# --- whether it is true -----------------------------------------------------------------------


def check(found: Measured, database: Database, plan: Plan) -> bool:
    """Hold the play against the real log under the same load; tell whether it is near enough."""
    seen = World(Load(1, STREAMS, DELTAS_S, 0.0, regular=True), found.costs).run(plan.check_s)
    real = appending.spoken(database, STREAMS, DELTAS_S, plan.check_s)
    print(
        f"\nCHECKED: {STREAMS} streams x {DELTAS_S} deltas/s for {plan.check_s:g} s, one process, "
        "the real log"
    )
    print(f"  {'':24}{'predicted':>12}{'measured':>12}{'ratio':>8}")
    rate, _, p50, *_ = [compared(*one) for one in figures(seen, real)]
    held = abs(rate - 1) <= RATE_OFF_MAX and 1 / P50_FACTOR_MAX <= p50 <= P50_FACTOR_MAX
    bounds = f"rows/s within {RATE_OFF_MAX:.0%}, p50 within a factor of {P50_FACTOR_MAX:g}"
    print(f"  {bounds}: {'held' if held else 'MISSED'}")
    return held


def figures(seen: Seen, real: Spoken) -> list[tuple[str, float, float]]:
    """Give what is compared: as it was played, and as it was."""
    p50, p99 = ([percentile(one, p) / MS for one in (seen.ack_s, real.ack_s)] for p in (50, 99))
    return [
        ("rows/s", seen.rows_s, real.rows_s),
        ("rows of a commit", seen.batch, real.batch),
        ("append to answer, p50, ms", p50[0], p50[1]),
        ("append to answer, p99, ms", p99[0], p99[1]),
        ("a core is busy, %", 100 * seen.process_busy, 100 * real.busy),
    ]


def compared(name: str, predicted: float, was: float) -> float:
    """Print a figure; give how many times the prediction it is."""
    print(f"  {name:26}{predicted:>10,.2f}{was:>12,.2f}{was / predicted:>8.2f}")
    return was / predicted


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything small: under 20 s")
    for one in fields(Given):
        flag = f"--{one.name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=one.default, help=one.metadata["why"])
    asked = vars(parser.parse_args())
    plan = QUICK if asked.pop("quick") else FULL
    given, cluster = Given(**asked), Cluster(durable=True)
    found = measured(cluster, given, plan)
    show_measured(found)
    held = check(found, Database(cluster, "checked"), plan)
    predict(found, given, plan)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
