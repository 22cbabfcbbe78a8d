"""Letta Code 0.34.12, unchanged, with us as its backend: it talks, is cut off, resumes, compacts."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.whole.client import Fact
from tests.whole.letta_code import LettaCode, installed
from tests.whole.server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
ASKED = "Tell me what you see here, please."


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("letta-code") / "venv")


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    environment = {"EVERLOG_DEMO_WORD_DELAY_S": "0.02"}
    with serving(tmp_path / "everlog.db", **environment) as server:
        yield server


def facts_of(server: Server, conversation_id: str) -> list[Fact]:
    path = f"{server.base_url}/v1/conversations/{conversation_id}/events"
    return httpx2.get(path, params={"limit": 1000}).json()["events"]


def types_of(facts: list[Fact], *types: str) -> list[str]:
    return [fact["type"] for fact in facts if fact["type"] in types]


def test_it_holds_a_conversation_and_compacts_it(
    command: Path, server: Server, tmp_path: Path
) -> None:
    code = LettaCode(command, tmp_path / "home", server.base_url)
    first = code.ask(ASKED, "--new-agent")
    assert first["subtype"] == "success"
    assert first["result"].startswith("[demo model, not an AI]")
    conversation = first["conversation_id"]
    for number in range(3):
        told = code.ask(f"And {number}?", "--conversation", conversation)
        assert told["result"].startswith("[demo model, not an AI]")
    ended = types_of(facts_of(server, conversation), "run.finished")
    assert len(ended) == 4
    shown = code.type("/compact all", "Compaction completed", "--conversation", conversation)
    assert "Compaction completed (mode: all)" in shown
    compacted = types_of(facts_of(server, conversation), "window.compacted")
    assert compacted == ["window.compacted"]
    after = code.ask("Are you still there?", "--conversation", conversation)
    assert after["result"].startswith("[demo model, not an AI]")


async def test_a_stream_that_is_cut_is_resumed_where_it_was(
    command: Path, server: Server, tmp_path: Path
) -> None:
    wire = Wire(server, b'"message_type":"assistant_message"', 3)
    async with wire.listening() as base_url:
        code = LettaCode(command, tmp_path / "home", base_url)
        told = await asyncio.to_thread(code.ask, ASKED, "--new-agent", "-m", "demo/steady")
    assert told["subtype"] == "success"
    posted = [line for line in wire.lines if line.startswith("POST /v1/conversations/conv-")]
    assert [line for line in posted if "/messages" in line] == posted[:1]
    assert any("/stream " in line for line in wire.lines), wire.lines
    facts = facts_of(server, told["conversation_id"])
    assert types_of(facts, "run.queued", "run.finished") == ["run.queued", "run.finished"]
    (whole,) = [fact["data"]["text"] for fact in facts if fact["type"] == "step.part"]
    assert told["result"] == whole


# --- a connection that breaks off once ----------------------------------------------------------


class Wire:
    """Passes on to a server, but breaks off the answer that has shown a mark so many times."""

    def __init__(self, server: Server, mark: bytes, count: int) -> None:
        self._to = int(server.base_url.rsplit(":", 1)[1])
        self._mark = mark
        self._left = count
        self._passing: set[asyncio.Task[None]] = set()
        self.lines: list[str] = []

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        """Listen for as long as the context is open; give the address."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        ways = [asyncio.create_task(self._asked(reader, back))]
        ways += [asyncio.create_task(self._answered(there, writer))]
        with suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, back):
            end.close()
            with suppress(OSError):
                await end.wait_closed()
        self._passing.discard(task)

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if piece.startswith((b"GET ", b"POST ", b"PATCH ", b"DELETE ")):
                self.lines.append(piece.split(b"\r\n", 1)[0].decode())
            writer.write(piece)
            await writer.drain()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
            self._left -= piece.count(self._mark)
            if self._left <= 0 < self._left + piece.count(self._mark):
                return
