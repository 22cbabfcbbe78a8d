"""What a run is worked with: whose model, whose settings, and how large its window is."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.run import Overrides
from tests.app.serving import Scripted, Server, serving

ECHO, SCRIPT = "demo/echo", "script/x"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    windows = {ECHO: 8000, SCRIPT: 20000}
    async with serving(tmp_path / "a.db", Scripted(), context_windows=windows) as running:
        yield running


@pytest.mark.parametrize(
    ("agent", "conversation", "override", "expected"),
    [
        ({}, {}, None, (ECHO, 8000)),
        ({"context_window_limit": 5000}, {}, None, (ECHO, 5000)),
        ({"context_window_limit": 9000}, {}, None, (ECHO, 8000)),
        ({}, {"model": SCRIPT}, None, (SCRIPT, 8000)),
        ({"model": SCRIPT}, {"model": ECHO}, None, (ECHO, 8000)),
        ({"model": SCRIPT, "context_window_limit": 6000}, {"model": ECHO}, None, (ECHO, 6000)),
        ({"context_window_limit": 5000}, {"context_window_limit": 7000}, None, (ECHO, 7000)),
        ({}, {"model": SCRIPT, "context_window_limit": 15000}, None, (SCRIPT, 15000)),
        ({}, {"context_window_limit": 50000}, None, (ECHO, 8000)),
        ({"context_window_limit": 5000}, {}, SCRIPT, (SCRIPT, 20000)),
        ({}, {"model": ECHO, "context_window_limit": 5000}, SCRIPT, (SCRIPT, 20000)),
        ({"model": "gone/model"}, {"model": ECHO}, None, (ECHO, 8000)),
        ({"model": "gone/model", "context_window_limit": 900}, {"model": ECHO}, None, (ECHO, 900)),
        ({"model": "gone/model"}, {}, None, ("gone/model", 0)),
    ],
    ids=str,
)
async def test_a_requests_model_comes_before_the_conversations_and_that_before_the_agents(
    server: Server,
    agent: dict[str, Any],
    conversation: dict[str, Any],
    override: str | None,
    expected: tuple[str, int],
) -> None:
    agent_id = await server.agent(**{"model": ECHO, **agent})
    made = await server.http.post(
        "/v1/conversations/", params={"agent_id": agent_id}, json=conversation
    )
    state = await server.services.execute.conversation(made.json()["id"])
    given = await server.services.conditions.of(state, Overrides(model=override))
    assert (given.model, given.context_window) == expected
