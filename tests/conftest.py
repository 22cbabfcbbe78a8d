"""What every test may use; no test can call a real model."""

import os
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from app.log import Log
from app.storage.store import Store
from tests import databases

SECRETS = ("ANTHROPIC_", "OPENAI_", "EVERLOG_", "LETTA_")
# What in a test's module says that it opens a database: a server, or a store.
ON_EVERY_ENGINE = ("serving", "casting", "opened")
ON_EVERY_STORE = ("store", "log", "FaultyStore")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away whatever could reach a vendor, or change a setting."""
    for name in list(os.environ):
        if name.startswith(SECRETS) and name != "EVERLOG_LOCOMO":
            monkeypatch.delenv(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what opens a database on each engine, and what opens a store on each kind of insert."""
    if metafunc.definition.get_closest_marker("sqlite"):
        return
    engines = ["sqlite", "postgres"]
    known = {*metafunc.fixturenames, *vars(sys.modules[metafunc.function.__module__])}
    if known.intersection(ON_EVERY_STORE):
        metafunc.parametrize("engine", [*engines, "sharded"], indirect=True)
    elif known.intersection(ON_EVERY_ENGINE):
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Generator[str]:
    """Have databases be of this engine for the time of a test."""
    databases.Current.engine = getattr(request, "param", "sqlite")
    yield databases.Current.engine
    databases.forget()
    databases.Current.engine = "sqlite"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Each kind of store there is, empty."""
    return databases.opened(tmp_path / "everlog.db")


@pytest.fixture
async def log(store: Store) -> AsyncGenerator[Log]:
    async with Log(store) as log:
        yield log
