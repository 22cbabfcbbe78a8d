"""Append, group commit, conflicts, lost replies, one process per file."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError

import app.log
import app.storage.committing
from app.log import Log, StoreUnavailable, VersionConflict
from app.mapper import GENESIS, Row, hash_of, prev_of, revive
from app.storage.store import Sealed, Store
from domain.block import BlockChanged
from domain.event import Recorded
from tests.app.faults import Fault, FaultyStore
from tests.databases import opened

STREAM = "block-11111111-1111-4111-8111-111111111111"
OTHER = "block-22222222-2222-4222-8222-222222222222"


def fact(value: str = "a") -> BlockChanged:
    return BlockChanged(base_version=0, value=value)


async def values_of(log: Log, stream: str) -> list[str | None]:
    return [revive(row).event.value for row in await log.read(stream)]


def versions(facts: list[Recorded[Any]]) -> list[int]:
    return [one.version for one in facts]


async def test_facts_get_the_versions_after_the_expected_one(log: Log) -> None:
    assert versions(await log.append(STREAM, 0, [fact(), fact()], "user")) == [1, 2]
    assert versions(await log.append(STREAM, 2, [fact()], "user")) == [3]
    assert [row.version for row in await log.read(STREAM)] == [1, 2, 3]


async def test_a_wrong_expectation_is_a_conflict_with_the_numbers(log: Log) -> None:
    await log.append(STREAM, 0, [fact()], "user")
    for wrong in (0, 2, 7):
        with pytest.raises(VersionConflict) as conflict:
            await log.append(STREAM, wrong, [fact()], "user")
        assert (conflict.value.expected, conflict.value.actual) == (wrong, 1)
    assert len(await log.read(STREAM)) == 1


async def test_a_loser_loses_alone_in_its_batch(log: Log) -> None:
    results = await asyncio.gather(
        log.append(STREAM, 0, [fact()], "user"),
        log.append(OTHER, 5, [fact()], "user"),
        log.append(STREAM, 1, [fact()], "user"),
        return_exceptions=True,
    )
    assert [isinstance(one, VersionConflict) for one in results] == [False, True, False]
    assert len(await log.read(STREAM)) == 2
    assert await log.read(OTHER) == []


async def test_what_was_queued_on_top_of_a_loser_loses_too(log: Log) -> None:
    await log.append(STREAM, 0, [fact("first")], "user")
    # The second expects what the first would have made; by its number alone it would win.
    results = await asyncio.gather(
        log.append(STREAM, 0, [fact("loses")], "user"),
        log.append(STREAM, 1, [fact("rests on what lost")], "user"),
        return_exceptions=True,
    )
    assert all(isinstance(one, VersionConflict) for one in results)
    assert await values_of(log, STREAM) == ["first"]


async def test_a_batch_has_one_time_and_a_stream_s_times_never_go_back(store: Store) -> None:
    times = iter([3, 1, 2])
    async with Log(store, lambda: revive_time(next(times, 9))) as log:
        both = [log.append(STREAM, 0, [fact()], "user"), log.append(OTHER, 0, [fact()], "user")]
        first, second = await asyncio.gather(*both)
        third = await log.append(STREAM, 1, [fact()], "user")
    assert first[0].at == second[0].at
    assert third[0].at >= first[0].at


def revive_time(second: int) -> Any:
    return app.log.utc_now().replace(year=2026, second=second, microsecond=0, minute=0)


async def test_an_append_is_never_split_however_large(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.log, "BATCH_EVENTS_MAX", 4)
    monkeypatch.setattr(app.log, "BATCH_BYTES_MAX", 2000)
    commits: list[list[tuple[str, int]]] = []
    store = log.store.store

    def counting(batch: Any) -> list[bool]:
        commits.append([(one.stream, len(one.rows)) for one in batch])
        return store(batch)

    monkeypatch.setattr(log.store, "store", counting)
    big = [fact("x" * 5000)]
    await asyncio.gather(
        log.append(STREAM, 0, [fact()] * 9, "user"),
        log.append(OTHER, 0, [fact()] * 2, "user"),
        log.append(OTHER, 2, [fact()] * 2, "user"),
        log.append(OTHER, 4, big, "user"),
        log.append(OTHER, 5, [fact()], "user"),
    )
    assert commits == [
        [(STREAM, 9)],
        [(OTHER, 2), (OTHER, 2)],
        [(OTHER, 1)],
        [(OTHER, 1)],
    ]


async def test_the_chain_links_every_row_to_the_one_before(log: Log) -> None:
    await log.append(STREAM, 0, [fact(), fact()], "user")
    await log.append(STREAM, 2, [fact()], "user")
    rows = await log.read(STREAM)
    assert [prev_of(row) for row in rows] == [GENESIS, hash_of(rows[0]), hash_of(rows[1])]
    assert await log.head(STREAM) == (3, hash_of(rows[2]))


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_lost_reply_is_never_a_wrong_answer(tmp_path: Path, fault: Fault) -> None:
    async with Log(FaultyStore(tmp_path / "a.db", [fault, fault])) as log:
        stored = await log.append(STREAM, 0, [fact("a"), fact("b")], "user")
        assert versions(stored) == [1, 2]
        assert await values_of(log, STREAM) == ["a", "b"]
        assert versions(await log.append(STREAM, 2, [fact("c")], "user")) == [3]


class OvertakenStore(FaultyStore):
    """A rival commits between our failed try and the next."""

    def store(self, batch: Any) -> list[bool]:
        if self.faults:
            self.faults.pop()
            rows = [Row(STREAM, 1, "block.deleted", b"r" * 40)]
            super().store([Sealed(STREAM, 0, GENESIS, rows, hash_of(rows[0]), [])])
            raise OperationalError("lost")
        return super().store(batch)


async def test_a_lost_reply_is_not_taken_for_success_when_a_rival_won(tmp_path: Path) -> None:
    async with Log(OvertakenStore(tmp_path / "a.db", ["before"])) as log:
        with pytest.raises(VersionConflict):
            await log.append(STREAM, 0, [fact()], "user")
        assert [row.topic for row in await log.read(STREAM)] == ["block.deleted"]


async def test_without_any_answer_nothing_is_called_failed_and_it_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.storage.committing, "RETRY_DELAY_S", 0)
    lost: list[Fault] = ["before"] * (app.storage.committing.COMMIT_TRIES - 1)
    store = FaultyStore(tmp_path / "a.db", ["after", *lost])
    async with Log(store) as log:
        with pytest.raises(StoreUnavailable):
            await log.append(STREAM, 0, [fact("a")], "user")
        # It was stored after all: whoever looks again finds it and goes on from there.
        assert await values_of(log, STREAM) == ["a"]
        assert versions(await log.append(STREAM, 1, [fact("b")], "user")) == [2]


async def test_listeners_hear_of_rows_only_after_they_can_be_read(log: Log) -> None:
    heard: list[tuple[str, int, int]] = []

    def listen(stream: str, rows: list[Row]) -> None:
        heard.append((stream, rows[-1].version, len(log.store.read(stream))))

    log.listen(listen)
    await log.append(STREAM, 0, [fact(), fact()], "user")
    assert heard == [(STREAM, 2, 2)]


async def test_closing_commits_what_waits(tmp_path: Path) -> None:
    async with Log(opened(tmp_path / "a.db")) as log:
        waiting = [log.append(STREAM, n, [fact(str(n))], "user") for n in range(50)]
    assert all(one.done() for one in waiting)
    async with Log(opened(tmp_path / "a.db")) as log:
        assert await values_of(log, STREAM) == [str(n) for n in range(50)]


def test_pages_of_rows_keep_their_bounds(tmp_path: Path) -> None:
    store = opened(tmp_path / "a.db")
    rows = [Row(STREAM, n, "step.delta" if n % 2 else "run.queued", b"x") for n in range(1, 11)]
    store.store([Sealed(STREAM, 0, GENESIS, rows, GENESIS, [])])
    assert store.read(STREAM, after=3, upto=6) == rows[3:6]
    assert store.read(STREAM, limit=2) == rows[:2]
    assert store.read(STREAM, limit=2, newest_first=True) == rows[:-3:-1]
    assert store.read(STREAM, deltas=False) == rows[1::2]
    assert store.read(OTHER) == []
    store.close()


async def test_a_fault_of_one_append_is_its_own_and_of_what_rests_on_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches_of = app.storage.committing.patches_of

    def faulty(one: Recorded[Any]) -> Any:
        if one.event.value == "poison":
            raise OverflowError("a number that no column holds")
        return patches_of(one)

    monkeypatch.setattr(app.storage.committing, "patches_of", faulty)
    results = await asyncio.gather(
        log.append(OTHER, 0, [fact("a")], "user"),
        log.append(STREAM, 0, [fact("poison")], "user"),
        log.append(STREAM, 1, [fact("rests on it")], "user"),
        log.append(OTHER, 1, [fact("b")], "user"),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [list, OverflowError, VersionConflict, list]
    assert await values_of(log, OTHER) == ["a", "b"]
    assert await log.read(STREAM) == []


async def test_a_listener_that_fails_does_not_stop_the_writer(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stream: str, rows: list[Row]) -> None:
        raise RuntimeError(f"{stream} {len(rows)}")

    log.listen(fail)
    assert versions(await log.append(STREAM, 0, [fact()], "user")) == [1]
    assert versions(await log.append(STREAM, 1, [fact()], "user")) == [2]
    assert "a listener failed" in caplog.text


async def test_a_clock_that_steps_back_over_a_restart_does_not_take_times_along(
    tmp_path: Path,
) -> None:
    async with Log(opened(tmp_path / "a.db"), lambda: revive_time(30)) as log:
        (before,) = await log.append(STREAM, 0, [fact()], "user")
    async with Log(opened(tmp_path / "a.db"), lambda: revive_time(10)) as log:
        (after,) = await log.append(STREAM, 1, [fact()], "user")
    assert after.at >= before.at
