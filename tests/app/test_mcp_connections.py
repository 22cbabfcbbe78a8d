"""Connections to MCP servers: made, kept, lost, made again; what is listed and what calls return."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.mcp_config import NAME as SERVER_NAME
from app.mcp_config import NAME_CHARS_MAX as SERVER_CHARS_MAX
from app.mcp_config import HttpServer, McpServer, StdioServer
from app.tools import Call, Toolbox, ToolFailed
from app.tools.mcp import NAME_CHARS_MAX, Connection, exposed
from app.tools.mcp_link import Link, Listed, Lost
from app.tools.mcp_results import WORDS_CHARS_MAX
from domain.content import Content, Image, Text
from tests import mcp_lean, mcp_server
from tests.mcp_server import HUGE, on_loopback

CALL = Call("conv-1", "run-1", "call-0", 1)
GUARD_S = 30


def over_stdio(notes: Path, script: ModuleType, **more: Any) -> StdioServer:
    args = [str(script.__file__), str(notes)]
    return StdioServer(command=sys.executable, args=args, **more)


@asynccontextmanager
async def kept(server: McpServer, connect: Any = None) -> AsyncGenerator[Connection]:
    connection = Connection("x", server, connect)
    connection.start()
    try:
        async with asyncio.timeout(GUARD_S):
            await connection.wait()
            yield connection
    finally:
        await connection.stop()


async def call(connection: Connection, name: str, **arguments: Any) -> Content:
    return await connection.tools[f"x__{name}"].run(arguments, CALL)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not true():
            await asyncio.sleep(0.01)


def pids_of_slow(notes: Path) -> list[int]:
    path = notes / "slow"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncGenerator[Connection]:
    async with on_loopback(tmp_path) as url, kept(HttpServer(url=url)) as connection:
        yield connection


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "name"),
    [("read_file", "x__read_file"), ("a.b", "x__a_b_"), ("ü", "x____"), ("n" * 80, "x__nnn")],
)
def test_a_name_is_one_that_every_vendor_takes(tool: str, name: str) -> None:
    found = exposed("x", tool)
    assert found.startswith(name)
    assert len(found) <= NAME_CHARS_MAX
    assert found.isascii()


def test_names_that_would_be_alike_are_told_apart() -> None:
    assert len({exposed("x", name) for name in ("a.b", "a/b", "a_b", "n" * 80, "n" * 81)}) == 5


@given(server=st.from_regex(SERVER_NAME, fullmatch=True), tool=st.text(min_size=1))
def test_a_name_tells_whose_tool_it_is(server: str, tool: str) -> None:
    assume(len(server) <= SERVER_CHARS_MAX)
    connection = Connection(server, NOBODY, Played())
    name = exposed(server, tool)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    assert Toolbox((), timeout_s=1, sources=[connection]).source_of(name) is connection


# --- over HTTP ------------------------------------------------------------------------------------


async def test_tools_are_listed_with_their_schemas_and_hints(remote: Connection) -> None:
    tool = remote.tools["x__count"]
    assert tool.schema.description == "Counts the words of a text."
    assert (tool.schema.parameters or {})["properties"]["text"]["type"] == "string"
    harmless = {name for name, tool in remote.tools.items() if tool.idempotent}
    assert harmless == {"x__count", "x__look"}
    assert exposed("x", "seen.by/it") in remote.tools


async def test_an_answer_that_is_much_too_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tools.mcp_session.ANSWER_BYTES_MAX", 100_000)
    async with on_loopback(tmp_path) as url, kept(HttpServer(url=url)) as connection:
        with pytest.raises(ToolFailed, match="100000"):
            await call(connection, "huge")
        assert await call(connection, "count", text="a") == "1"


async def test_what_a_tool_returns_comes_back_bounded(remote: Connection) -> None:
    assert await call(remote, "count", text="a b c") == "3"
    huge = await call(remote, "huge")
    assert isinstance(huge, str)
    assert huge.endswith(f"[{HUGE - WORDS_CHARS_MAX} more characters are left out]")
    words, picture = await call(remote, "picture")
    assert words == Text(text="A dot:")
    assert isinstance(picture, Image)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [("broken", {}, "no luck"), ("count", {"text": 3}, "valid string"), ("count", {}, "required")],
)
async def test_what_goes_wrong_in_a_tool_is_told(
    remote: Connection, name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ToolFailed, match=words):
        await call(remote, name, **arguments)


async def test_a_tool_that_comes_later_is_there_when_the_server_says_so(
    remote: Connection,
) -> None:
    assert "x__more" not in remote.tools
    await call(remote, "grow")
    await until(lambda: "x__more" in remote.tools)
    assert await call(remote, "more", text="a") == "1"


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(
    remote: Connection, tmp_path: Path
) -> None:
    task = asyncio.create_task(call(remote, "slow", seconds=20))
    await until((tmp_path / "slow").exists)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await until((tmp_path / "cancelled").exists)
    assert await call(remote, "count", text="a") == "1"


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(
    remote: Connection, tmp_path: Path
) -> None:
    toolbox = Toolbox((), timeout_s=0.2, sources=[remote])
    with pytest.raises(ToolFailed, match="took longer than"):
        await toolbox.run(remote.tools["x__slow"], {"seconds": 20}, CALL)
    await until((tmp_path / "cancelled").exists)


async def test_a_server_that_goes_and_comes_again_is_found_again(tmp_path: Path) -> None:
    async with on_loopback(tmp_path) as url:
        connection = Connection("x", HttpServer(url=url))
        connection.start()
        await connection.wait()
    try:
        with pytest.raises(ToolFailed, match=r"The MCP server 'x' is away .*was not run"):
            await call(connection, "count", text="a")
        assert not connection.connected
        assert "x__count" in connection.tools
        async with on_loopback(tmp_path, int(url.split(":")[2].split("/")[0])):
            assert await call(connection, "count", text="a b") == "2"
            await connection.stop()
    finally:
        await connection.stop()


# --- over stdio -----------------------------------------------------------------------------------


async def test_a_child_sees_what_it_is_given_and_few_other_variables(tmp_path: Path) -> None:
    async with kept(over_stdio(tmp_path, mcp_server, env={"MINE": "1"})) as connection:
        seen = str(await connection.tools[exposed("x", "seen.by/it")].run({}, CALL)).split()
        assert "MINE" in seen
        assert "PYTEST_CURRENT_TEST" not in seen


async def test_a_child_that_is_killed_in_a_call_is_started_again(tmp_path: Path) -> None:
    async with kept(over_stdio(tmp_path, mcp_lean)) as connection:
        task = asyncio.create_task(call(connection, "slow", seconds=20))
        await until(lambda: pids_of_slow(tmp_path))
        os.kill(pids_of_slow(tmp_path)[-1], signal.SIGKILL)
        with pytest.raises(ToolFailed, match="Whether the tool took effect is not known"):
            await task
        assert await call(connection, "slow", seconds=0) == "After 0 s."


async def test_a_harmless_call_in_which_the_child_is_killed_is_made_again(tmp_path: Path) -> None:
    async with kept(over_stdio(tmp_path, mcp_lean)) as connection:
        task = asyncio.create_task(call(connection, "look", seconds=0.3))
        await until(lambda: pids_of_slow(tmp_path))
        os.kill(pids_of_slow(tmp_path)[-1], signal.SIGKILL)
        assert await task == "After 0.3 s."
        first, second = pids_of_slow(tmp_path)
        assert first != second
    assert not psutil.pid_exists(second)


async def test_a_server_of_the_older_protocol_is_told_and_tells_the_same(tmp_path: Path) -> None:
    async with kept(over_stdio(tmp_path, mcp_lean)) as connection:
        assert await call(connection, "grow") == "Grown."
        await until(lambda: "x__more" in connection.tools)
        task = asyncio.create_task(call(connection, "slow", seconds=20))
        await until(lambda: pids_of_slow(tmp_path))
        task.cancel()
        await asyncio.wait([task])
        await until((tmp_path / "cancelled").exists)
        with pytest.raises(ToolFailed, match="no such tool"):
            await call(connection, "more")


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (StdioServer(command="/nowhere/mcp"), "No such file or directory"),
        (StdioServer(command=sys.executable, args=["-c", "1/0"]), "closed"),
        (HttpServer(url="http://127.0.0.1:9/mcp"), "ConnectError"),
    ],
    ids=["nothing", "dies", "nobody"],
)
async def test_a_server_that_cannot_be_reached_is_named_and_nobody_waits_for_it(
    server: McpServer, problem: str
) -> None:
    async with kept(server) as connection:
        assert not connection.connected
        assert problem.casefold() in str(connection.problem).casefold()
        assert connection.tools == {}


# --- one that is played ---------------------------------------------------------------------------


class Played:
    """A server that lists and answers as told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.tools = [Listed("do", None, {"type": "object"}, idempotent=False)]
        self.connected = 0
        self.ended = False
        self.away = False
        self.news: Callable[[], None] | None = None

    @asynccontextmanager
    async def __call__(self, _: McpServer, news: Callable[[], None]) -> AsyncGenerator[Link]:
        self.news = news
        self.connected += 1
        self.ended = False
        yield self

    async def listed(self) -> Sequence[Listed]:
        if self.away:
            raise Lost("gone")
        return self.tools

    async def call(self, name: str, arguments: dict[str, Any]) -> Content:  # noqa: ARG002 - what links are given
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            self.ended = True
            raise answer
        return answer


NOBODY = StdioServer(command="nobody")


async def test_a_call_that_did_not_reach_the_server_is_made_again() -> None:
    played = Played(Lost("session over", sent=False), "Done.")
    async with kept(NOBODY, played) as connection:
        assert await call(connection, "do") == "Done."
        assert (played.connected, played.answers) == (2, [])


async def test_a_call_that_may_have_reached_it_is_not() -> None:
    played = Played(Lost("gone"), "Done.")
    async with kept(NOBODY, played) as connection:
        with pytest.raises(ToolFailed, match="not known"):
            await call(connection, "do")
        assert await call(connection, "do") == "Done."


async def test_the_tools_are_those_of_the_last_listing() -> None:
    played = Played()
    async with kept(NOBODY, played) as connection:
        played.tools = [Listed("other", "New.", {"type": "object"}, idempotent=True)]
        assert await connection.refresh()
        assert list(connection.tools) == ["x__other"]


async def test_the_tools_of_a_server_that_is_away_stay_as_they_were_listed_last() -> None:
    played = Played()
    async with kept(NOBODY, played) as connection:
        played.away = True
        assert not await connection.refresh()
        assert (list(connection.tools), connection.problem) == (["x__do"], "gone")
        played.away = False
        assert await connection.refresh()
        assert connection.problem is None


async def test_a_toolbox_offers_what_is_there_and_waits_a_little_for_a_start() -> None:
    played = Played()
    connection = Connection("x", NOBODY, played)
    toolbox = Toolbox((), timeout_s=1, sources=[connection])
    assert toolbox.offered(["x__do"], ()) == ()
    connection.start()
    try:
        await toolbox.settle(["y__do", "x__do"])
        (offered,) = toolbox.offered(["x__do", "x__other", "y__do"], ["x__do"])
        assert (offered.name, offered.gated, offered.idempotent) == ("x__do", True, False)
    finally:
        await connection.stop()
