"""What was tampered with is found, at its offset; tables are written again as they were."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from app.log import Log
from app.mapper import GENESIS, HASH_BYTES
from app.storage import integrity
from app.storage.integrity import rebuild_tables, size_of, streams_of, verify_all, verify_stream
from app.storage.store import Store
from domain.event import Event
from projections.tables import TABLES
from tests import databases, examples
from tests.app.faults import WrappedStore
from tests.databases import Raw, raw

STREAM: Final = examples.CONVERSATION_ID
OTHER: Final = examples.OTHER_CONVERSATION_ID
HEAD: Final = 7
ROW: Final = "WHERE originator_id = ? AND originator_version = ?"

Tamper: TypeAlias = Callable[[Raw], None]


async def written(path: Path) -> None:
    """Store a conversation of 7 facts, another of 1."""
    facts: list[Event] = [examples.started, examples.queued(), examples.appended()]
    async with Log(databases.opened(path)) as log:
        await log.append(STREAM, 0, facts, "user")
        await log.append(STREAM, 3, [examples.renamed, examples.claimed()], "worker:a")
        await log.append(STREAM, 5, [examples.finished(), examples.renamed], "worker:a")
        await log.append(OTHER, 0, [examples.started], "user")


@contextmanager
def opened(path: Path) -> Generator[Store]:
    store = databases.opened(path)
    try:
        yield store
    finally:
        store.close()


def tampered(path: Path, tamper: Tamper) -> None:
    with raw(path) as connection:
        tamper(connection)


def flip(offset: int, byte: int) -> Tamper:
    """Change one bit of what is stored."""

    def change(c: Raw) -> None:
        (state,) = c.execute(
            f"SELECT state FROM stored_events {ROW}",  # noqa: S608 - our own words
            (STREAM, offset),
        ).fetchone()
        changed = bytearray(state)
        changed[byte] ^= 1
        c.execute(
            f"UPDATE stored_events SET state = ? {ROW}",  # noqa: S608 - the same
            (bytes(changed), STREAM, offset),
        )

    return change


def run_sql(sql: str, *parameters: object) -> Tamper:
    def change(c: Raw) -> None:
        assert c.execute(sql, parameters).rowcount == 1

    return change


def removed(offset: int) -> Tamper:
    return run_sql(f"DELETE FROM stored_events {ROW}", STREAM, offset)  # noqa: S608 - our own words


def set_to(offset: int, column: str, value: object) -> Tamper:
    sql = f"UPDATE stored_events SET {column} = ? {ROW}"  # noqa: S608 - our own words
    return run_sql(sql, value, STREAM, offset)


def head_set(column: str, value: object) -> Tamper:
    return run_sql(f"UPDATE streams SET {column} = ? WHERE id = ?", value, STREAM)  # noqa: S608 - our own words


# --- verify -------------------------------------------------------------------------------------


async def test_what_was_never_touched_is_good(tmp_path: Path) -> None:
    await written(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as store:
        verdict = verify_stream(store, STREAM)
        found = store.head(STREAM)
    assert found is not None
    assert (verdict.ok, verdict.head, verdict.hash) == (True, HEAD, found[1].hex())
    assert (verdict.first_bad, verdict.reason) == (None, None)


@pytest.mark.parametrize("offset", range(1, HEAD + 1))
@pytest.mark.parametrize("byte", [0, HASH_BYTES - 1, HASH_BYTES, -10], ids=str)
async def test_one_changed_bit_is_found_at_its_offset(
    tmp_path: Path, offset: int, byte: int
) -> None:
    await written(tmp_path / "a.db")
    tampered(tmp_path / "a.db", flip(offset, byte))
    with opened(tmp_path / "a.db") as store:
        verdict = verify_stream(store, STREAM)
    assert (verdict.ok, verdict.first_bad) == (False, offset)
    assert verdict.reason


@pytest.mark.parametrize("offset", range(1, HEAD + 1))
async def test_a_missing_fact_is_found_at_its_offset(tmp_path: Path, offset: int) -> None:
    await written(tmp_path / "a.db")
    tampered(tmp_path / "a.db", removed(offset))
    with opened(tmp_path / "a.db") as store:
        assert verify_stream(store, STREAM).first_bad == offset


@pytest.mark.parametrize(
    ("tamper", "first_bad"),
    [
        pytest.param(set_to(2, "topic", "run.finished"), 2, id="another type"),
        pytest.param(set_to(3, "topic", "no.such"), 3, id="an unknown type"),
        pytest.param(set_to(4, "state", b""), 4, id="no bytes at all"),
        pytest.param(set_to(6, "state", bytes(99)), 6, id="other bytes"),
        pytest.param(set_to(7, "originator_version", 9), 7, id="a number that was skipped"),
        pytest.param(head_set("head", 6), 6, id="a head too early"),
        pytest.param(head_set("head", 9), 8, id="a head too late"),
        pytest.param(head_set("hash", GENESIS), 7, id="a head of another hash"),
        pytest.param(run_sql("DELETE FROM streams WHERE id = ?", STREAM), 1, id="no head"),
    ],
)
async def test_other_changes_are_found(tmp_path: Path, tamper: Tamper, first_bad: int) -> None:
    await written(tmp_path / "a.db")
    tampered(tmp_path / "a.db", tamper)
    with opened(tmp_path / "a.db") as store:
        verdict = verify_stream(store, STREAM)
    assert (verdict.ok, verdict.first_bad) == (False, first_bad)
    assert verdict.reason


async def test_a_fact_moved_to_another_stream_is_found_there(tmp_path: Path) -> None:
    await written(tmp_path / "a.db")
    sql = f"UPDATE stored_events SET originator_id = ? {ROW}"  # noqa: S608 - our own words
    tampered(tmp_path / "a.db", removed(1))
    tampered(tmp_path / "a.db", run_sql(sql, STREAM, OTHER, 1))
    with opened(tmp_path / "a.db") as store:
        assert [verify_stream(store, one).first_bad for one in (STREAM, OTHER)] == [1, 1]


async def test_pages_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "PAGE_ROWS", 2)
    await written(tmp_path / "a.db")
    done: list[int] = []
    with opened(tmp_path / "a.db") as store:
        assert verify_stream(store, STREAM, done.append).ok
    assert done == [2, 2, 2, 1]
    tampered(tmp_path / "a.db", flip(4, -10))
    with opened(tmp_path / "a.db") as store:
        assert verify_stream(store, STREAM).first_bad == 4


class Growing(WrappedStore):
    """A store to which a rival appends while its head is read."""

    def head(self, stream: str) -> tuple[int, bytes] | None:
        found = super().head(stream)
        before, self.missed = self.missed, 0
        if found is None or not before:
            return found
        return before, self.hashes[before]

    missed = 0
    hashes: dict[int, bytes]


async def test_facts_that_come_while_it_is_checked_are_no_flaw(tmp_path: Path) -> None:
    await written(tmp_path / "a.db")
    store = Growing(databases.opened(tmp_path / "a.db"))
    rows = store.read(STREAM, limit=6)
    store.hashes = {5: rows[5].state[:HASH_BYTES]}
    store.missed = 5
    verdict = verify_stream(store, STREAM)
    store.close()
    assert (verdict.ok, verdict.head) == (True, 5)


def test_a_stream_that_does_not_exist_is_good_and_empty(store: Store) -> None:
    verdict = verify_stream(store, STREAM)
    store.close()
    assert (verdict.ok, verdict.head, verdict.hash) == (True, 0, GENESIS.hex())


async def test_all_streams_are_checked_those_without_a_head_too(tmp_path: Path) -> None:
    await written(tmp_path / "a.db")
    done: list[int] = []
    with opened(tmp_path / "a.db") as store:
        assert dict(verify_all(store, done.append)).keys() == {STREAM, OTHER}
        assert sum(done) == size_of(store) == HEAD + 1
    tampered(tmp_path / "a.db", run_sql("DELETE FROM streams WHERE id = ?", STREAM))
    with opened(tmp_path / "a.db") as store:
        assert {name: verdict.ok for name, verdict in verify_all(store)} == {
            STREAM: False,
            OTHER: True,
        }


# --- rebuild ------------------------------------------------------------------------------------


def tables_of(store: Store) -> dict[str, list[dict[str, object]]]:
    return {
        table.name: store.query(
            f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}"  # noqa: S608 - our own words
        )
        for table in TABLES.values()
    }


async def history(path: Path) -> None:
    """Store facts that set rows, change them and set them again, over several streams."""
    async with Log(databases.opened(path)) as log:
        await log.append(examples.AGENT_ID, 0, [examples.agent_created], "user")
        await log.append(examples.BLOCK_ID, 0, [examples.block_created], "user")
        await log.append(examples.BLOCK_ID, 1, [examples.named(1)], "user")
    await written(path)


@pytest.mark.parametrize("held_max", [0, 3, 2000])
async def test_tables_written_again_are_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_max: int
) -> None:
    monkeypatch.setattr(integrity, "PATCHES_HELD_MAX", held_max)
    monkeypatch.setattr(integrity, "PAGE_ROWS", 2)
    await history(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as store:
        live = tables_of(store)
        assert all(live[name] for name in ("conversations", "runs", "locators", "blocks"))
        tampered(tmp_path / "a.db", run_sql("DELETE FROM runs"))
        assert rebuild_tables(store) == []
        assert tables_of(store) == live
        assert rebuild_tables(store) == []
        assert tables_of(store) == live


async def test_rows_that_no_fact_speaks_of_are_gone_after_a_rebuild(tmp_path: Path) -> None:
    await history(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as store:
        live = tables_of(store)
        tampered(
            tmp_path / "a.db", run_sql("INSERT INTO locators (stream, id) VALUES ('no', 'stray')")
        )
        rebuild_tables(store)
        assert tables_of(store) == live


async def test_what_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    await written(tmp_path / "a.db")
    tampered(tmp_path / "a.db", set_to(2, "topic", "no.such"))
    tampered(tmp_path / "a.db", set_to(3, "state", bytes(HASH_BYTES + 1) + b"{"))
    with opened(tmp_path / "a.db") as store:
        unreadable = rebuild_tables(store)
        assert len(store.query("SELECT * FROM conversations")) == 2
        assert list(streams_of(store)) == [STREAM, OTHER]
    assert [one.split(":")[0] for one in unreadable] == [f"{STREAM}@2", f"{STREAM}@3"]
