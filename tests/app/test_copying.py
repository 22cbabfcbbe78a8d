"""A log copied from one database to another is the same log; a copy can be stopped and go on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.mapper import Row
from app.storage.copying import Differs, copy_all, flaws_of
from app.storage.integrity import size_of
from app.storage.sqlite import SQLiteStore
from app.storage.store import Store
from projections.tables import TABLES
from tests import databases
from tests.app.faults import WrappedStore
from tests.app.serving import Server, serving
from tests.examples import BLOCK_ID


def nothing(_: int) -> None:
    """Watch no progress."""


@pytest.fixture
def talked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which there was a talk."""

    async def serve() -> None:
        async with serving(tmp_path / "source.db") as server:
            await talk(server)

    with monkeypatch.context() as patch:
        patch.setattr(databases.Current, "engine", "sqlite")
        asyncio.run(serve())
    return tmp_path / "source.db"


async def talk(server: Server) -> None:
    for stream in [await server.conversation() for _ in range(3)]:
        for words in ("Hello!", "And again."):
            assert (await server.post(stream, words, stream_tokens=True)).status_code == 200


def rows_of(store: Store) -> dict[str, list[Row]]:
    return {stream: store.read(stream) for stream, _, _ in store.streams()}


def tables_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: store.query(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}")  # noqa: S608 - our own words
        for table in TABLES.values()
        if table.rebuilt
    }


def test_everything_arrives_byte_for_byte(talked: Path, tmp_path: Path) -> None:
    source, target = SQLiteStore(talked), databases.opened(tmp_path / "target.db")
    done: list[int] = []
    copied = copy_all(source, target, done.append)
    assert (copied.streams, copied.facts) == (7 - 1, size_of(source))
    assert sum(done) == size_of(source) == size_of(target)
    assert rows_of(target) == rows_of(source)
    assert tables_of(target) == tables_of(source)
    assert list(flaws_of(source, target, nothing)) == []
    assert copy_all(source, target, nothing).facts == 0
    source.close()
    target.close()


class Failing(WrappedStore):
    """A target that fails after some pages."""

    def __init__(self, store: Store, pages: int) -> None:
        super().__init__(store)
        self._pages = pages

    def store(self, batch: Any) -> list[bool]:
        self._pages -= 1
        if self._pages < 0:
            raise KeyboardInterrupt
        return super().store(batch)


@pytest.mark.parametrize("pages", [1, 3, 7])
def test_a_copy_that_was_stopped_goes_on(
    talked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr("app.storage.integrity.PAGE_ROWS", 4)
    source, target = SQLiteStore(talked), databases.opened(tmp_path / "target.db")
    with pytest.raises(KeyboardInterrupt):
        copy_all(source, Failing(target, pages), nothing)
    assert 0 < size_of(target) < size_of(source)
    before = size_of(target)
    assert copy_all(source, target, nothing).facts == size_of(source) - before
    assert rows_of(target) == rows_of(source)
    assert tables_of(target) == tables_of(source)
    source.close()
    target.close()


def test_another_stream_of_the_same_name_is_not_written_over(talked: Path, tmp_path: Path) -> None:
    source, target = SQLiteStore(talked), databases.opened(tmp_path / "target.db")
    copy_all(source, target, nothing)
    changed = source.streams()[2][0]
    with databases.raw(tmp_path / "target.db") as connection:
        connection.execute("UPDATE streams SET hash = ? WHERE id = ?", (b"x" * 32, changed))
    with pytest.raises(Differs, match=changed):
        copy_all(source, target, nothing)
    source.close()
    target.close()


def test_what_did_not_arrive_as_it_was_is_named(talked: Path, tmp_path: Path) -> None:
    source, target = SQLiteStore(talked), databases.opened(tmp_path / "target.db")
    copy_all(source, target, nothing)
    (one, *_), (other, *_) = source.streams()[:2]
    with databases.raw(tmp_path / "target.db") as connection:
        spoilt = "UPDATE stored_events SET topic = 'no.such' WHERE originator_id = ?"
        connection.execute(spoilt + " AND originator_version = 1", (one,))
        connection.execute("DELETE FROM streams WHERE id = ?", (other,))
    flaws = list(flaws_of(source, target, nothing))
    assert [flaw.split(" ")[0] for flaw in flaws] == [one, other]
    source.close()
    target.close()


def test_a_broken_source_is_not_copied_on(talked: Path, tmp_path: Path) -> None:
    with databases.closing(databases.sqlite3.connect(talked)) as file, file:
        file.execute("UPDATE stored_events SET state = zeroblob(80) WHERE originator_version = 2")
    source, target = SQLiteStore(talked), databases.opened(tmp_path / "target.db")
    with pytest.raises(Differs, match="everlog verify"):
        copy_all(source, target, nothing)
    assert target.head(BLOCK_ID) is None
    source.close()
    target.close()
