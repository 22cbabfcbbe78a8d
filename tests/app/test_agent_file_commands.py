"""Agents as files from the command line, by a server in this process."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
import pytest
import typer

from app import cli
from app.commands import CommandFailed, server
from tests.agent_files import agent, as_bytes, file
from tests.app.serving import Server, serving

NOWHERE: Final = "http://127.0.0.1:1"
Everlog: TypeAlias = Callable[..., Awaitable[str]]

pytestmark = pytest.mark.sqlite


class Bridge(httpx2.BaseTransport):
    """Carries a command's requests, made in a thread, to the server in the event loop."""

    def __init__(self, http: httpx2.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._http = http
        self._loop = loop

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        path, content = request.url.raw_path.decode(), request.read()
        sent = self._http.request(request.method, path, content=content, headers=request.headers)
        answer = asyncio.run_coroutine_threadsafe(sent, self._loop).result(timeout=30)
        return httpx2.Response(answer.status_code, content=answer.content, request=request)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as begun:
        yield begun


@pytest.fixture
def everlog(
    running: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Everlog:
    """Run a command against the server; give what it prints."""

    async def run(*arguments: str) -> str:
        bridge = Bridge(running.http, asyncio.get_running_loop())

        def client_of(url: str) -> httpx2.Client:
            return httpx2.Client(base_url=url, transport=bridge)

        monkeypatch.setattr(server, "client_of", client_of)
        command = typer.main.get_command(cli.cli)
        await asyncio.to_thread(command, list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def written(path: Path, value: Any) -> str:
    path.write_bytes(as_bytes(value))
    return str(path)


async def test_an_agent_is_brought_in_and_taken_out(everlog: Everlog, tmp_path: Path) -> None:
    given = file(agent(model="elsewhere/m-1", identity_ids=["identity-1"]))
    path = written(tmp_path / "guide.af", given)
    with pytest.raises(CommandFailed, match="send model="):
        await everlog("import-agent", path)
    told = await everlog("import-agent", path, "--model", "demo/echo", "--name", "desk\x1b[31m")
    first, second = told.splitlines()
    agent_id, words = first.split(": ", 1)
    assert words.endswith(
        "with demo/echo; 1 block, 1 conversation, 2 messages, 2 of them in a window, 0 passages"
    )
    assert "\x1b" not in told
    assert second.startswith("left out: agents[0].identity_ids")
    assert json.loads(await everlog("export-agent", agent_id))["agents"][0]["id"] == "agent-0"
    target = tmp_path / "again.af"
    told = await everlog("export-agent", agent_id, "--output", str(target))
    assert f"{agent_id} is in {target}" in told
    assert json.loads(target.read_bytes())["blocks"][0]["label"] == "human"


async def test_what_cannot_be_read_written_or_reached_is_one_line(
    everlog: Everlog, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailed, match=r"cannot be read: No such file"):
        await everlog("import-agent", str(tmp_path / "none.af"))
    with pytest.raises(CommandFailed, match="not the id of an agent"):
        await everlog("export-agent", "agent-1")
    path = written(tmp_path / "guide.af", file())
    agent_id = (await everlog("import-agent", path)).split(":")[0]
    with pytest.raises(CommandFailed, match="cannot be written"):
        await everlog("export-agent", agent_id, "--output", str(tmp_path / "no" / "where.af"))


def test_a_server_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    command = typer.main.get_command(cli.cli)
    path = written(tmp_path / "guide.af", file())
    with pytest.raises(CommandFailed, match="There is no Everlog at"):
        command(["import-agent", path, "--url", NOWHERE], standalone_mode=False)
