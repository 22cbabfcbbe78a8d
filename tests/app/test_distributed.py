"""What a distributed Postgres asks for is kept: by every table, index and statement.

The rules were found on a real Citus cluster. Here a plain Postgres stands in for it: with functions
of the same names, which write down how they are called.
"""

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import OperationalError

from app.log import Log, utc_now
from app.storage.postgres import PostgresStore, migrate
from app.storage.postgres.inserting import BEGIN, FACTS, MOVE, ByShard, listed, upserts
from app.storage.postgres.schema import DISTRIBUTED_BY, META, statements
from app.storage.postgres.shards import Shards
from app.storage.store import Unusable
from domain.event import Recorded
from projections.patches import patches_of
from projections.tables import TABLES
from tests import examples
from tests.app.serving import serving
from tests.databases import TERMS, cluster

# How each is written shows that it is STABLE at most, and where it may stand.
VOLATILE = re.compile(r"clock_timestamp|random\(|nextval|gen_random", re.IGNORECASE)
STAND_IN = """
CREATE TABLE pg_dist_partition (logicalrelid regclass, kind text, by text, beside text);
CREATE FUNCTION create_distributed_table(name regclass, by text, colocate_with text)
    RETURNS void LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES ($1, 'd', $2, $3) $$;
CREATE FUNCTION create_reference_table(name regclass)
    RETURNS void LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES ($1, 'r', NULL, NULL) $$;
CREATE FUNCTION get_shard_id_for_distribution_column(name regclass, stream anyelement)
    RETURNS bigint LANGUAGE sql AS $$ SELECT 102000 + abs(hashtext(stream::text)) % 4 $$;
"""


@pytest.fixture
def url() -> Generator[str]:
    """A database with the extension's functions, or what stands in for them."""
    name = f"test_{uuid4().hex}"
    url = cluster().create(name)
    with psycopg.connect(url) as connection:
        connection.execute(STAND_IN)
    yield url
    cluster().drop(name)


def rows_in(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


# --- tables -------------------------------------------------------------------------------------


def test_without_the_extension_it_says_what_to_do() -> None:
    name = f"test_{uuid4().hex}"
    with pytest.raises(Unusable, match="CREATE EXTENSION citus"):
        migrate(cluster().create(name), TERMS, distributed=True)
    cluster().drop(name)


def test_every_table_is_distributed_by_stream_and_stands_beside_the_log(url: str) -> None:
    migrate(url, TERMS, distributed=True)
    migrate(url, TERMS, distributed=True)
    found = {
        name: (kind, by, beside)
        for name, kind, by, beside in rows_in(
            url, "SELECT logicalrelid::text, kind, by, beside FROM pg_dist_partition"
        )
    }
    assert found.pop(META) == ("r", None, None)
    assert found.pop("streams") == ("d", "id", "default")
    assert found == {
        name: ("d", by, "streams") for name, by in DISTRIBUTED_BY.items() if name != "streams"
    }
    tables = rows_in(
        url,
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    assert {name for (name,) in tables} == {META, "pg_dist_partition", *DISTRIBUTED_BY}


def test_a_plain_database_is_not_distributed_after_the_fact(url: str) -> None:
    migrate(url, TERMS)
    with pytest.raises(Unusable, match="not distributed"):
        migrate(url, TERMS, distributed=True)


def test_every_unique_index_begins_with_what_its_table_is_distributed_by(url: str) -> None:
    migrate(url, TERMS, distributed=True)
    unique = rows_in(
        url,
        "SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] "
        "WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace",
    )
    assert {(name, by) for name, by in unique if name != META} == set(DISTRIBUTED_BY.items())


def test_there_are_no_sequences_triggers_or_keys_across_tables(url: str) -> None:
    migrate(url, TERMS, distributed=True)
    assert rows_in(url, "SELECT relname FROM pg_class WHERE relkind = 'S'") == []
    assert rows_in(url, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    assert rows_in(url, "SELECT conname FROM pg_constraint WHERE contype = 'f'") == []
    assert all("DEFAULT" not in one.as_string() for one in statements())


# --- statements ---------------------------------------------------------------------------------


class Written:
    """What a connection was asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        plain = psycopg.Cursor[Any].execute

        def execute(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            text = query.decode() if isinstance(query, bytes) else str(query)
            self.statements.append(" ".join(text.split()))
            return plain(cursor, query, *args, **kwargs)

        monkeypatch.setattr(psycopg.Cursor, "execute", execute)

    def writing(self) -> list[str]:
        """Give the statements that change something."""
        reading = ("SELECT", "(SELECT", "SET", "LISTEN")
        return [one for one in self.statements if not one.startswith(reading)]


ALLOWED = (
    r"INSERT INTO \w+ \([\w, ]+\) VALUES \(.*?\)(, \(.*?\))*"
    r"( ON CONFLICT \([\w, ]+\) DO (NOTHING|UPDATE SET \w+ = excluded\.\w+(, \w+ = excluded\.\w+)*))?"
    r"( WHERE leases\.holder = excluded\.holder OR leases\.expires_at <= excluded\.expires_at - %s)?"
)
JOIN = re.compile(r"JOIN \w+ ON (\w+)\.(\w+) = (\w+)\.(\w+)")
SINGLE = r"(UPDATE (streams|leases) SET .* WHERE (id|work|holder) = .*|DELETE FROM leases WHERE work = .*)"


async def test_a_server_writes_only_what_a_distributed_database_takes(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(url, TERMS, distributed=True)
    written = Written(monkeypatch)

    def url_at(_: Path) -> str:
        return url

    def opened(_: Path) -> PostgresStore:
        return PostgresStore(url, TERMS)

    monkeypatch.setattr("tests.app.serving.url_at", url_at)
    monkeypatch.setattr("tests.app.serving.opened", opened)
    async with serving(tmp_path / "any") as server:
        store = server.services.log.store
        stream = await server.conversation()
        answer = await server.post(stream, "Hello!", stream_tokens=True)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert (await server.get(f"/v1/conversations/{stream}/verify"))["ok"]
        (run,) = await server.get("/v1/runs/", conversation_id=stream)
        assert (await server.get(f"/v1/runs/{run['id']}"))["status"] == "completed"
        assert store.take("work", "a", 1000)
        assert store.renew(["work", "none"], "a", 1000) == {"none"}
        store.drop("work", "a")
        found = await server.get(f"/v1/conversations/{stream}/search", q='"Hello" Helo')
        assert found["hits"]
    assert len(written.writing()) > 10
    for one in written.writing():
        assert re.fullmatch(ALLOWED, one) or re.fullmatch(SINGLE, one), one
    joins = [join for one in written.statements for join in JOIN.findall(one)]
    assert joins
    for one, by, other, beside in joins:
        # Only what is joined on the streams' ids is joined where it lies.
        assert (DISTRIBUTED_BY[one], DISTRIBUTED_BY[other]) == (by, beside)
    for one in written.statements:
        assert not VOLATILE.search(one), one
        assert "SKIP LOCKED" not in one
        # A search is one shard's affair, each part of it.
        assert one.count("FROM texts") == one.count("FROM texts WHERE stream = %s"), one
        assert "unnest" not in one or "get_shard_id" in one, one


def test_the_strategy_is_chosen_by_the_layout(url: str) -> None:
    migrate(url, TERMS, distributed=True)
    store = PostgresStore(url, TERMS)
    assert isinstance(store.inserting, ByShard)
    store.close()


def test_the_shards_of_streams_are_asked_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(url, TERMS, distributed=True)
    store = PostgresStore(url, TERMS)
    shards = Shards(store.connections)
    streams = [f"conv-{n}" for n in range(20)]
    first = shards(streams)
    assert set(first) == set(streams)
    assert len(set(first.values())) > 1
    written = Written(monkeypatch)
    assert shards(streams) == first
    assert written.statements == []
    store.close()


@pytest.mark.parametrize("statement", [BEGIN, MOVE])
def test_a_head_is_set_in_its_own_shard(statement: str) -> None:
    named = re.search(r"WHERE id = %s|INTO streams \(id, head, hash\) VALUES \(%s", statement)
    assert named is not None
    assert "VALUES " in FACTS


def test_every_upsert_names_the_column_that_its_table_is_distributed_by_first() -> None:
    for stored in (examples.queued(keys=("otid:1",)), examples.claimed(), examples.finished()):
        fact = Recorded(examples.CONVERSATION_ID, 1, utc_now(), "user", stored)
        for statement, _ in upserts([*patches_of(fact)], listed):
            into = re.match(r"INSERT INTO (\w+) \((\w+)", statement.decode())
            assert into is not None
            assert TABLES[into[1]].key[0] == DISTRIBUTED_BY[into[1]] == into[2]


async def test_what_one_shard_has_committed_is_found_when_another_failed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(url, TERMS, distributed=True)
    store = PostgresStore(url, TERMS)
    assert isinstance(store.inserting, ByShard)
    plain, failing = store.inserting.store_shard, ["once"]

    def stored(chains: Any) -> set[str]:
        won = plain(chains)
        if failing:
            failing.pop()
            raise OperationalError("the reply was lost")
        return won

    monkeypatch.setattr(store.inserting, "store_shard", stored)
    async with Log(store) as log:
        streams = [f"block-{n}1111111-1111-4111-8111-111111111111" for n in range(8)]
        waiting = [log.append(one, 0, [examples.block_created], "user") for one in streams]
        for one in waiting:
            assert [fact.version for fact in await one] == [1]
