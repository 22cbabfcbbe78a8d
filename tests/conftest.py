"""What every test may use; no test can call a real model."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from app.log import Log
from app.sqlite import SQLiteStore
from app.store import Store

SECRETS = ("ANTHROPIC_", "OPENAI_", "EVERLOG_", "LETTA_")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away whatever could reach a vendor, or change a setting."""
    for name in list(os.environ):
        if name.startswith(SECRETS) and name != "EVERLOG_LOCOMO":
            monkeypatch.delenv(name)


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store there is, empty."""
    stores = {"sqlite": lambda: SQLiteStore(tmp_path / "everlog.db")}
    return stores[request.param]()


@pytest.fixture
async def log(store: Store) -> AsyncGenerator[Log]:
    async with Log(store) as log:
        yield log
