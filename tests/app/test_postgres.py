"""What is Postgres's alone: how its tables come to be, its connections, its wake-ups."""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import DatabaseError, OperationalError
from hypothesis import given, settings
from hypothesis import strategies as st

from app.execute import Execute
from app.log import Log, StoreUnavailable
from app.mapper import GENESIS, Row, hash_of
from app.storage.postgres import PostgresStore, Terms, migrate
from app.storage.postgres.arrays import bigints, byteas, encoded, texts
from app.storage.postgres.bell import PAYLOAD_BYTES_MAX, payloads
from app.storage.postgres.inserting import Chain, chains_of
from app.storage.store import SCHEMA_VERSION, NewerSchema, Sealed, Unmigrated, Unusable
from app.tail import Tail
from app.wakeups import Wakeups
from domain.block import BlockSettings, ChangeBlock, CreateBlock
from projections.patches import Patch
from tests.databases import TEMPLATE, TERMS, cluster
from tests.pooler import pooled
from tests.proxy import proxied

STREAM = "block-11111111-1111-4111-8111-111111111111"
OTHER = "block-22222222-2222-4222-8222-222222222222"
GUARD_S = 30.0
PATCH = Patch("idempotency_keys", (STREAM, "a"), {"run_id": "run", "body_hash": "hash"})


def changed(value: str) -> ChangeBlock:
    return ChangeBlock({"value": value})


@pytest.fixture
def name() -> Generator[str]:
    """A migrated database."""
    name = f"test_{uuid4().hex}"
    cluster().create(name, TEMPLATE)
    yield name
    cluster().drop(name)


@pytest.fixture
def url(name: str) -> str:
    return cluster().url_of(name)


@pytest.fixture
def empty() -> Generator[str]:
    name = f"test_{uuid4().hex}"
    yield cluster().create(name)
    cluster().drop(name)


def version_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT version FROM everlog_schema").fetchone()
    assert row is not None
    return row[0]


# --- tables -------------------------------------------------------------------------------------


def test_a_database_without_tables_is_not_served(empty: str) -> None:
    with pytest.raises(Unmigrated, match="run `everlog migrate`"):
        PostgresStore(empty, TERMS)


def test_it_is_migrated_once_however_many_do_it_at_once(empty: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        tries = [threads.submit(migrate, empty, TERMS) for _ in range(6)]
        assert [one.result() for one in tries] == [False] * 6
    assert version_in(empty) == SCHEMA_VERSION
    assert not migrate(empty, TERMS)
    PostgresStore(empty, TERMS).close()


def test_a_newer_schema_is_left_alone(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE everlog_schema SET version = 99")
    with pytest.raises(NewerSchema, match="99"):
        PostgresStore(url, TERMS)
    with pytest.raises(NewerSchema, match="99"):
        migrate(url, TERMS)
    assert version_in(url) == 99


def test_an_older_schema_begins_its_read_tables_anew(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE everlog_schema SET version = 1")
        connection.execute("ALTER TABLE runs DROP COLUMN body_hash")
    with pytest.raises(Unmigrated, match="older"):
        PostgresStore(url, TERMS)
    # Until they are written again it stays an older one, however often it is begun.
    assert migrate(url, TERMS)
    assert migrate(url, TERMS)
    store = PostgresStore(url, TERMS, rebuilding=True)
    assert store.outdated
    assert store.query("SELECT body_hash FROM runs") == []
    store.up_to_date()
    store.close()
    assert version_in(url) == SCHEMA_VERSION


def test_read_tables_are_not_taken_from_under_a_server(url: str) -> None:
    serving = PostgresStore(url, Terms(name="everlog serve host/1"))
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE everlog_schema SET version = 1")
    with pytest.raises(Unusable, match="host/1"):
        migrate(url, TERMS)
    assert serving.query("SELECT * FROM runs") == []
    serving.close()


def test_a_url_may_name_several_hosts(name: str) -> None:
    folder = cluster().socket.rpartition("/")[0]
    store = PostgresStore(f"postgresql://postgres@/{name}?host=/nowhere,{folder}", TERMS)
    assert store.streams() == []
    store.close()


# --- what goes in and comes out -----------------------------------------------------------------

names = st.text(max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(names | st.none(), min_size=1, max_size=5),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1, max_size=5),
    blobs=st.lists(st.binary(max_size=20), min_size=1, max_size=5),
)
def test_arrays_arrive_as_they_were_packed(
    words: list[str | None], numbers: list[int | None], blobs: list[bytes]
) -> None:
    store = PostgresStore(cluster().url_of(TEMPLATE), TERMS)
    with store.connections.connection() as connection:
        row = connection.execute(
            "SELECT %s, %s, %s", (texts(words), bigints(numbers), byteas(blobs)), binary=True
        ).fetchone()
    store.close()
    assert row == (
        [None if one is None else encoded(one).decode() for one in words],
        numbers,
        blobs,
    )


def test_a_nul_in_a_column_is_stored_as_what_is_no_character(url: str) -> None:
    store = PostgresStore(url, TERMS)
    store.upsert([Patch("agents", ("agent-1",), {"name": "a\0b", "created_at": "x"})])
    assert store.query("SELECT name FROM agents WHERE name = ?", ("a\0b",)) == [
        {"name": "a\ufffdb"}
    ]
    store.close()


def test_a_name_may_be_as_long_as_it_likes(url: str) -> None:
    store = PostgresStore(url, TERMS)
    long = "".join(chr(0x1F300 + n % 500) for n in range(1024))
    store.upsert([Patch("agents", ("agent-1",), {"name": long, "created_at": "x"})])
    assert store.query("SELECT agent_id FROM agents WHERE name = ?", (long,)) == [
        {"agent_id": "agent-1"}
    ]
    store.close()


def sealed(stream: str, expected: int, prev: bytes) -> Sealed:
    row = Row(stream, expected + 1, "block.deleted", prev + b"\0{}")
    return Sealed(stream, expected, prev, [row], hash_of(row), [])


def test_appends_to_one_stream_become_one_chain_and_a_rival_is_left_out() -> None:
    first = sealed("b", 0, GENESIS)
    second = sealed("b", 1, first.hash)
    rival = sealed("b", 1, first.hash)
    other = sealed("a", 5, GENESIS)
    assert chains_of([first, other, second, rival]) == [
        Chain("a", 5, GENESIS, 6, other.hash, [other]),
        Chain("b", 0, GENESIS, 2, second.hash, [first, second]),
    ]


def test_a_loser_in_a_batch_loses_alone(url: str) -> None:
    store = PostgresStore(url, TERMS)
    one, two = sealed("a", 0, GENESIS), sealed("b", 0, GENESIS)
    assert store.store([one, two]) == [True, True]
    later = sealed("b", 1, two.hash)
    assert store.store([sealed("a", 0, GENESIS), later, sealed("c", 0, GENESIS)]) == [
        False,
        True,
        True,
    ]
    # The right number on top of another history is no right to win.
    assert store.store([sealed("a", 1, GENESIS)]) == [False]
    assert store.heads(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 1}
    store.close()


# --- connections --------------------------------------------------------------------------------


def idle_in(store: PostgresStore) -> None:
    """Hold a lock and wait for somebody else to get it."""
    with ThreadPoolExecutor(1) as thread, store.locked(STREAM):
        store.store([sealed(STREAM, 0, GENESIS)])
        assert thread.submit(store.store, [sealed(STREAM, 0, GENESIS)]).result() == [True]


def test_a_session_waits_for_the_disk_and_for_nothing_too_long(name: str) -> None:
    url = cluster().url_of(name)
    cluster().execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    store = PostgresStore(url, Terms(statement_timeout_s=1, lock_timeout_s=1))
    assert store.query("SELECT current_setting('synchronous_commit') AS it") == [{"it": "on"}]
    with pytest.raises(OperationalError, match="statement timeout"):
        store.query("SELECT pg_sleep(10)")
    assert store.query("SELECT 1 AS one") == [{"one": 1}]
    # Whoever holds a lock and does nothing is cut off before those who wait for it give up.
    with pytest.raises(OperationalError):
        idle_in(store)
    assert store.heads([STREAM]) == {STREAM: 1}
    store.close()


def test_a_stronger_wait_for_the_disk_is_left_as_it_is(name: str) -> None:
    cluster().execute(f'ALTER DATABASE "{name}" SET synchronous_commit = remote_apply')
    store = PostgresStore(cluster().url_of(name), TERMS)
    found = store.query("SELECT current_setting('synchronous_commit') AS it")
    store.close()
    assert found == [{"it": "remote_apply"}]


def test_a_connection_that_died_is_replaced_without_a_word(name: str) -> None:
    store = PostgresStore(cluster().url_of(name), TERMS)
    cluster().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name
    )
    assert store.streams() == []
    store.close()


def test_an_error_of_ours_is_not_taken_for_the_database_s(url: str) -> None:
    store = PostgresStore(url, TERMS)
    with pytest.raises(DatabaseError, match="does not exist"):
        store.query("SELECT nothing FROM nowhere")
    assert store.streams() == []
    store.close()


def test_servers_at_work_are_known_by_name(url: str) -> None:
    looking = PostgresStore(url, Terms(name="everlog rebuild a"))
    assert looking.others() == []
    serving = PostgresStore(url, Terms(name="everlog serve host/1"))
    assert looking.others() == ["everlog serve host/1"]
    serving.close()
    looking.close()


# --- contention ---------------------------------------------------------------------------------


async def test_a_busy_writer_cannot_keep_another_out_for_ever(url: str) -> None:
    stop = threading.Event()

    def busy() -> int:
        """Append back to back, as another process would."""
        store = PostgresStore(url, TERMS)
        count = 0
        while not stop.is_set():
            version, prev = store.head(STREAM) or (0, GENESIS)
            row = Row(STREAM, version + 1, "step.delta", prev + b"\0{}")
            count += store.store([Sealed(STREAM, version, prev, [row], hash_of(row), [])]).count(
                True
            )
        store.close()
        return count

    async with asyncio.timeout(GUARD_S), Log(PostgresStore(url, TERMS)) as log:
        execute = Execute(log)
        await execute(STREAM, CreateBlock(BlockSettings(label="a", value="0")), "user")
        rival = asyncio.create_task(asyncio.to_thread(busy))
        try:
            for number in range(1, 101):
                (fact,) = await execute(STREAM, changed(str(number)), "user")
                assert fact.event.value == str(number)
        finally:
            stop.set()
        assert await rival > 0
        version, state = await execute.state(STREAM)
        rows = await log.read(STREAM)
        assert [row.version for row in rows] == list(range(1, version + 1))
        assert [row.topic for row in rows].count("block.changed") == 100
        assert state.settings.value == "100"


async def test_two_processes_decide_on_what_the_other_has_written(url: str) -> None:
    async with Log(PostgresStore(url, TERMS)) as one, Log(PostgresStore(url, TERMS)) as other:
        first, second = Execute(one), Execute(other)
        await first(STREAM, CreateBlock(BlockSettings(label="a", value="0")), "user")
        for number in range(1, 11):
            execute = (first, second)[number % 2]
            await execute(STREAM, changed(str(number)), "user")
            assert (await first.state(STREAM))[0] == (await second.state(STREAM))[0] == number + 1
        assert (await first.state(STREAM))[1].settings.value == "10"


async def test_a_database_that_never_answers_is_unavailable_and_says_so() -> None:
    with pytest.raises(OperationalError):
        PostgresStore("postgresql://127.0.0.1:1/none", Terms(connect_timeout_s=1))


# --- wake-ups -----------------------------------------------------------------------------------


async def followed(reader: Log, writer: Log, until: Callable[[], bool] = lambda: True) -> list[int]:
    """Append with one, each fact after the one before it was seen by the other; give what was."""
    seen: list[int] = []
    tail = Tail(reader)
    heard, told = Wakeups(reader, tail.look, tail.heard), Wakeups(writer, Tail(writer).look)
    await heard.start()
    await told.start()
    execute = Execute(writer)
    await execute(STREAM, CreateBlock(BlockSettings(label="a", value="0")), "user")
    with tail.follow(STREAM, 0) as follower:
        for number in range(1, 6):
            seen += [row.version for row in await follower.next()]
            await execute(STREAM, changed(str(number)), "user")
    while not until():
        await asyncio.sleep(0.05)
    await heard.stop()
    await told.stop()
    return seen


async def test_what_one_process_appends_another_follows(url: str) -> None:
    async with asyncio.timeout(GUARD_S):
        async with (
            Log(PostgresStore(url, TERMS)) as reader,
            Log(PostgresStore(url, TERMS)) as writer,
        ):
            assert await followed(reader, writer) == [1, 2, 3, 4, 5]


async def test_behind_a_pooler_nothing_is_heard_and_all_is_seen(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with asyncio.timeout(GUARD_S), pooled(cluster().socket, name) as pooler:
        url = pooler.url_of(name)
        store = await asyncio.to_thread(PostgresStore, url, TERMS)
        other = await asyncio.to_thread(PostgresStore, url, TERMS)
        async with Log(store) as reader, Log(other) as writer:
            seen = await followed(
                reader, writer, lambda: "pooler in transaction mode" in caplog.text
            )
    assert seen == [1, 2, 3, 4, 5]
    assert pooler.transactions > 10


async def test_what_is_heard_while_a_follower_is_behind_in_the_ring_is_not_forgotten(
    url: str,
) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        Log(PostgresStore(url, TERMS)) as here,
        Log(PostgresStore(url, TERMS)) as elsewhere,
    ):
        tail = Tail(here)
        with tail.follow(STREAM, 0) as follower:
            await Execute(here)(STREAM, CreateBlock(BlockSettings(label="a", value="0")), "user")
            await Execute(elsewhere)(STREAM, changed("1"), "user")
            await tail.look()
            # The first comes from the ring, which does not hold the second.
            assert [row.version for row in await follower.next()] == [1]
            assert [row.version for row in await follower.next()] == [2]


def test_many_ids_fit_into_few_payloads() -> None:
    streams = [f"conv-{uuid4()}" for _ in range(1000)]
    parts = [*payloads("mark", streams)]
    assert max(map(len, parts)) <= PAYLOAD_BYTES_MAX
    assert [one for part in parts for one in part.removeprefix("mark ").split(",")] == streams
    assert [*payloads("mark", [])] == []


async def test_a_log_whose_database_is_gone_is_unavailable(name: str) -> None:
    async with Log(PostgresStore(cluster().url_of(name), TERMS)) as log:
        cluster().drop(name)
        with pytest.raises(StoreUnavailable):
            await log.read(STREAM)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 2, 3])
# A connection that is cut while it is opened is closed by nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_writer_that_the_network_swallows_keeps_no_locks(name: str, answers: int) -> None:
    """Between any two statements of a transaction; what is owed to a session is never sent."""
    left = answers

    def counted() -> float:
        nonlocal left
        left -= 1
        if left == 0:
            proxy.be("swallowing")
        return 0.0

    one, loop = ThreadPoolExecutor(1), asyncio.get_running_loop()
    async with asyncio.timeout(GUARD_S), proxied(cluster().socket) as proxy:
        mute = await loop.run_in_executor(one, PostgresStore, proxy.url_of(name), TERMS)
        await loop.run_in_executor(one, mute.store, [sealed(OTHER, 0, GENESIS)])
        proxy.delay_s = counted
        swallowed = loop.run_in_executor(one, mute.store, [patched()])
        while proxy.mode == "open":
            await asyncio.sleep(0.01)
        there = PostgresStore(cluster().url_of(name), TERMS)
        await asyncio.to_thread(stored_by, there, patched())
        with pytest.raises(OperationalError):
            await swallowed
        assert there.head(STREAM) is not None
        mute.close()
        there.close()
    one.shutdown()


def patched() -> Sealed:
    """Append a fact that changes read tables, which takes a transaction of several statements."""
    return sealed(STREAM, 0, GENESIS)._replace(patches=[PATCH])


def stored_by(store: PostgresStore, batch: Sealed) -> None:
    """Store until no lock is in the way."""
    while True:
        with suppress(OperationalError):
            store.store([batch])
            return
