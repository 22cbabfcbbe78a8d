"""A database that fails under load: nobody's answer but 503 meanwhile, and then all is as it was.

Nothing acknowledged is lost, nothing is done twice, and no server ends.
"""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psutil
import psycopg
import pytest

from tests.databases import Cluster, cluster
from tests.proxy import proxied
from tests.vendor import Vendor
from tests.whole.nodes import Load, Node, conversations, new_database, nodes

STREAMS, WORKERS = 4, 8
AFTER = 12
# What Postgres writes ahead is in files of 16 MiB that are there already.
FILE_BYTES_MAX = 17 * 1024 * 1024
BALLAST_BYTES = 1000
BALLAST = (
    "INSERT INTO stored_events SELECT 'ballast', n, 'none', "
    "decode(repeat(md5(n::text), 60), 'hex') FROM generate_series(1, %s) AS n"
)
pytestmark = [
    pytest.mark.slow,
    # A connection that is cut while it is opened is closed by nobody.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@asynccontextmanager
async def loaded(urls: list[str]) -> AsyncGenerator[tuple[list[Node], Load]]:
    """Two servers under load; in the end `load.found` is what is wrong with what they acknowledged."""
    async with Vendor() as vendor, nodes(urls, vendor) as found:
        load = Load(found, await conversations(found[0].client, STREAMS))
        async with load.under_way(WORKERS):
            await until(lambda: len(load.acknowledged) >= WORKERS)
            yield found, load
            # The database is well again: everybody gets on, by every node.
            seen = len(load.acknowledged)
            await until(lambda: len(load.acknowledged) >= seen + AFTER)
        load.found = [flaw for one in found for flaw in await load.flaws(one.client)]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(90):
        while not true():
            await asyncio.sleep(0.05)


@pytest.fixture
async def own() -> AsyncGenerator[Cluster]:
    """A Postgres for one test to ill-treat."""
    cluster = Cluster(durable=True)
    yield cluster
    cluster.remove()


async def test_lost_answers() -> None:
    name = new_database(cluster())
    async with proxied(cluster().socket) as proxy, loaded([proxy.url_of(name)] * 2) as (_, load):
        proxy.lose = 0.03
        await until(lambda: proxy.lost >= 60)
        proxy.lose = 0.0
    assert load.found == []


async def test_killed_backends() -> None:
    name = new_database(cluster())
    async with loaded([cluster().url_of(name)] * 2) as (_, load):
        for _ in range(20):
            await asyncio.sleep(0.1)
            cluster().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name
            )
    assert load.found == []


async def test_a_database_that_is_restarted(own: Cluster) -> None:
    name = new_database(own)
    async with loaded([own.url_of(name)] * 2) as (found, load):
        await asyncio.to_thread(own.stop)
        await until(lambda: load.statuses.count(503) >= WORKERS)
        health = await found[0].client.get("/v1/health/")
        assert health.status_code == 200
        await asyncio.to_thread(own.start)
    assert load.found == []
    assert set(load.statuses) == {200, 503}


async def test_a_network_that_is_cut() -> None:
    name = new_database(cluster())
    async with proxied(cluster().socket) as proxy, loaded([proxy.url_of(name)] * 2) as (_, load):
        proxy.be("refusing")
        await until(lambda: load.statuses.count(503) >= WORKERS)
        proxy.be("open")
    assert load.found == []
    assert set(load.statuses) == {200, 503}


async def test_a_network_that_swallows_everything() -> None:
    name = new_database(cluster())
    async with proxied(cluster().socket) as proxy, loaded([proxy.url_of(name)] * 2) as (_, load):
        proxy.be("swallowing")
        await until(lambda: load.statuses.count(503) >= WORKERS)
        proxy.cut()
        proxy.be("open")
    assert load.found == []
    assert set(load.statuses) == {200, 503}


async def test_one_node_without_the_database_leaves_its_runs_to_the_other() -> None:
    name = new_database(cluster())
    urls = [cluster().url_of(name)]
    async with proxied(cluster().socket) as proxy, loaded([proxy.url_of(name), *urls]) as (_, load):
        proxy.be("swallowing")
        seen = len(load.acknowledged)
        await until(lambda: len(load.acknowledged) >= seen + AFTER)
        proxy.cut()
        proxy.be("open")
    assert load.found == []


async def test_a_disk_that_takes_no_more(own: Cluster) -> None:
    name = new_database(own)
    async with loaded([own.url_of(name)] * 2) as (_, load):
        with psycopg.connect(own.url_of(name), autocommit=True) as other:
            other.execute(BALLAST, (FILE_BYTES_MAX // BALLAST_BYTES,))
        limit_files(own.pid, FILE_BYTES_MAX)
        await until(lambda: load.statuses.count(503) >= WORKERS)
        limit_files(own.pid, None)
    assert load.found == []
    assert set(load.statuses) == {200, 503}


async def test_a_standby_that_is_promoted(own: Cluster) -> None:
    name = new_database(own)
    async with loaded([own.url_of(name)] * 2) as (found, load):
        await asyncio.to_thread(own.stop)
        (own.data / "standby.signal").touch()
        shutil.copystat(own.data / "PG_VERSION", own.data / "standby.signal")
        await asyncio.to_thread(own.start)
        path = f"/v1/conversations/{load.streams[0]}/events"
        async with asyncio.timeout(90):
            # What is there can be read.
            while (await found[0].client.get(path)).status_code != 200:
                await asyncio.sleep(0.1)
        seen = load.statuses.count(503)
        await until(lambda: load.statuses.count(503) >= seen + WORKERS)
        own.execute("SELECT pg_promote()")
    assert load.found == []
    assert set(load.statuses) == {200, 503}


def limit_files(pid: int, bytes_max: int | None) -> None:
    """Say how large a file of a server may get, now and in its future processes."""
    server = psutil.Process(pid)
    for process in [server, *server.children(recursive=True)]:
        # As its owner: a process may limit its like, and nobody else's.
        subprocess.run(
            ["prlimit", f"--pid={process.pid}", f"--fsize={bytes_max or 'unlimited'}:"],
            user=server.uids().real,
            check=False,
        )
