"""A block's versions from the command line, told in plain lines."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from app.commands import CommandFailed
from app.commands.blocks import history
from app.tools import Call
from tests import examples
from tests.app.serving import Server, serving
from tests.app.test_audit_commands import EVIL, NOWHERE, Everlog, everlog

__all__ = ["everlog"]

pytestmark = pytest.mark.sqlite


@pytest.fixture
async def running(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as begun:
        yield begun


async def changed(running: Server) -> str:
    """Make a block that was changed by a person and by a model; give its id."""
    http = running.http
    made = await http.post("/v1/blocks/", json={"label": "human", "value": "Ada"})
    block_id = made.json()["id"]
    await http.patch(f"/v1/blocks/{block_id}", json={"value": EVIL, "description": "who"})
    stream = await running.conversation(await running.agent(block_ids=(block_id,)))
    tool = running.services.toolbox.get("memory_rethink")
    assert tool is not None
    call = Call(stream, examples.RUN_ID, "call-0", 1)
    await tool.run({"label": "human", "new_memory": "\n".join(map(str, range(60)))}, call)
    return block_id


async def test_versions_are_told_one_by_one(running: Server, everlog: Everlog) -> None:
    block_id = await changed(running)
    told = await everlog("block", block_id)
    lines = told.split("\n")
    assert "created, 3 characters, by user" in lines[0]
    assert "description: None -> who" in told
    assert "        -Ada" in lines
    assert "by the tool ? in conv-" in told
    assert lines[-2].endswith("more lines; --json has them")
    assert "\x1b" not in told
    newest = await everlog("block", block_id, "--limit", "1")
    assert newest.startswith("2 earlier versions; --limit shows more of them\n     3  ")


async def test_as_json_it_is_the_answer(running: Server, everlog: Everlog) -> None:
    block_id = await changed(running)
    answer = await running.get(f"/v1/blocks/{block_id}/history", limit=20)
    told = await everlog("block", block_id, "--json")
    assert json.loads(told) == answer
    assert "\x1b" not in told


async def test_what_is_no_block_is_told_in_a_sentence(everlog: Everlog) -> None:
    with pytest.raises(CommandFailed, match="not the id of a block: block-<uuid4>"):
        await everlog("block", "conv-1")
    with pytest.raises(CommandFailed, match="Block not found"):
        await everlog("block", examples.BLOCK_ID)


async def test_where_no_server_is_that_is_said() -> None:
    with pytest.raises(CommandFailed, match="There is no Everlog at"):
        history(examples.BLOCK_ID, NOWHERE, 1, deleted=False, raw=False)
