"""MCP servers of a real process: their children end with it, however it ends."""

import json
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests import mcp_lean
from tests.whole.server import Server, serving

PATIENCE_S = 20
pytestmark = [pytest.mark.slow, pytest.mark.sqlite]


@pytest.fixture
def environment() -> dict[str, str]:
    """What the child is told."""
    return {}


@pytest.fixture
def server(tmp_path: Path, environment: dict[str, str]) -> Generator[Server]:
    args = [str(mcp_lean.__file__), str(tmp_path)]
    lean = {"command": sys.executable, "args": args, "env": environment}
    servers = {"mcpServers": {"lean": lean}}
    with serving(tmp_path / "a.db", EVERLOG_MCP_SERVERS=json.dumps(servers)) as running:
        yield running


def child_of(server: Server) -> psutil.Process:
    """Give the child, as soon as its tools are listed."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        (shown,) = httpx2.get(f"{server.base_url}/v1/mcp-servers/").json()
        if shown["connected"]:
            (child,) = psutil.Process(server.pid).children()
            return child
        time.sleep(0.05)
    pytest.fail("the MCP server was not reached")


@pytest.mark.parametrize("environment", [{}, {"STUBBORN": "1"}], ids=["willing", "stubborn"])
def test_a_shutdown_ends_the_child(server: Server) -> None:
    child = child_of(server)
    assert server.stop() == 0
    child.wait(0)
    assert not child.is_running()


@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "in a call"])
def test_a_server_that_is_killed_leaves_no_child(server: Server, stopped: bool) -> None:
    child = child_of(server)
    if stopped:
        say(server, 'call lean__slow {"seconds": 60}')
    server.tell(signal.SIGKILL)
    child.wait(PATIENCE_S)
    assert not child.is_running()


def say(server: Server, words: str) -> None:
    """Send a message in the background."""
    with httpx2.Client(base_url=server.base_url) as http:
        body = {"model": "demo/echo", "tools": ["lean__slow"]}
        agent = http.post("/v1/agents/", json=body).json()
        path = f"/v1/agents/{agent['id']}/messages/async"
        sent = {"messages": [{"role": "user", "content": words}]}
        run = http.post(path, json=sent).json()
        while http.get(f"/v1/runs/{run['id']}").json()["status"] != "running":
            time.sleep(0.05)
