"""A model writes into its memory: each call once, within bounds, and it is told what came of it."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.tools import Call, Tool, ToolFailed
from app.tools.memory import SHOWN_CHARS_MAX, excerpt_of
from domain.block import BlockChanged, BlockSettings
from domain.content import Content
from domain.run import Cause, RunFinished, ToolFinished, ToolStarted
from tests import examples
from tests.app.scripts import calling, saying, told
from tests.app.serving import Scripted, Server, serving

TOOLS = ("memory_insert", "memory_replace", "memory_rethink")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


async def remembering(server: Server, **blocks: Any) -> tuple[str, dict[str, str]]:
    """Begin a conversation with an agent that has these blocks; give it, and the blocks' ids."""
    fresh = [
        {"label": label, **(more if isinstance(more, dict) else {"value": more})}
        for label, more in blocks.items()
    ]
    body = {"model": "demo/echo", "memory_blocks": fresh, "tools": TOOLS}
    agent = (await server.http.post("/v1/agents/", json=body)).json()
    made = await server.http.post("/v1/conversations/", params={"agent_id": agent["id"]})
    return made.json()["id"], {one["label"]: one["id"] for one in agent["blocks"]}


def tool(server: Server, name: str) -> Tool:
    found = server.services.toolbox.get(name)
    assert found is not None
    return found


async def use(server: Server, stream: str, name: str, at: int = 7, **arguments: Any) -> str:
    call = Call(stream, examples.RUN_ID, "call-0", at)
    said = await tool(server, name).run(arguments, call)
    assert isinstance(said, str)
    return said


async def value(server: Server, block_id: str) -> str:
    return (await server.get(f"/v1/blocks/{block_id}"))["value"]


# --- what they do -----------------------------------------------------------------------------


async def test_lines_are_added_at_the_end_or_after_a_line(server: Server) -> None:
    stream, ids = await remembering(server, human="Ada")
    said = await use(server, stream, "memory_insert", 1, label="human", new_string="likes tea")
    assert said == ("Done. The block 'human' now has 13 of 100000 characters:\nAda\nlikes tea")
    first: dict[str, Any] = {"label": "human", "new_string": "Her name:", "insert_line": 0.0}
    await use(server, stream, "memory_insert", 2, **first)
    last: dict[str, Any] = {"label": "human", "new_string": "and cake", "insert_line": -1}
    await use(server, stream, "memory_insert", 3, **last)
    assert await value(server, ids["human"]) == "Her name:\nAda\nlikes tea\nand cake"


async def test_a_piece_is_replaced_or_taken_out_and_a_block_written_anew(server: Server) -> None:
    stream, ids = await remembering(server, human="likes tea", notes="x")
    ask: dict[str, Any] = {"label": "human", "old_string": "tea", "new_string": "coffee"}
    assert "likes coffee" in await use(server, stream, "memory_replace", 1, **ask)
    ask = {"label": "human", "old_string": "likes coffee", "new_string": ""}
    said = await use(server, stream, "memory_replace", 2, **ask)
    assert said == "Done. The block 'human' now has 0 of 100000 characters: it is empty."
    await use(server, stream, "memory_rethink", 3, label="human", new_memory="A new start.")
    assert await value(server, ids["human"]) == "A new start."
    assert await value(server, ids["notes"]) == "x"


async def test_a_call_that_is_run_again_edits_nothing_and_says_the_same(server: Server) -> None:
    stream, ids = await remembering(server, human="Ada")
    ask: dict[str, Any] = {"label": "human", "old_string": "Ada", "new_string": "Ida"}
    first = await use(server, stream, "memory_replace", **ask)
    assert await use(server, stream, "memory_replace", **ask) == first
    (_, changed) = await server.events(ids["human"])
    assert changed == BlockChanged(
        base_version=1, value="Ida", cause=Cause(stream=stream, offset=7)
    )


async def test_a_call_that_is_run_again_knows_its_block_by_another_label(server: Server) -> None:
    stream, ids = await remembering(server, human="a", notes="b")
    await use(server, stream, "memory_insert", label="human", new_string="c")
    await server.http.patch(f"/v1/blocks/{ids['human']}", json={"label": "old"})
    await server.http.patch(f"/v1/blocks/{ids['notes']}", json={"label": "human"})
    await use(server, stream, "memory_insert", label="human", new_string="c")
    assert (await value(server, ids["human"]), await value(server, ids["notes"])) == ("a\nc", "b")


async def test_two_at_once_both_write(server: Server) -> None:
    stream, ids = await remembering(server, human="")
    lines = [f"line {n}" for n in range(20)]
    asked = (
        use(server, stream, "memory_insert", n, label="human", new_string=line)
        for n, line in enumerate(lines, start=1)
    )
    await asyncio.gather(*asked)
    assert sorted((await value(server, ids["human"])).split("\n")) == sorted(lines)
    facts = await server.events(ids["human"])
    assert [one.base_version for one in facts[1:]] == list(range(1, 21))


# --- what they do not -------------------------------------------------------------------------


async def test_a_label_that_is_not_there_is_told_which_are(server: Server) -> None:
    stream, _ = await remembering(server, human="a", law={"value": "b", "read_only": True})
    with pytest.raises(ToolFailed, match=r"no block 'x' .* 'human', 'law' \(read-only\)"):
        await use(server, stream, "memory_insert", label="x", new_string="c")
    bare, _ = await remembering(server)
    with pytest.raises(ToolFailed, match="it has none"):
        await use(server, bare, "memory_insert", label="x", new_string="c")


async def test_what_a_block_refuses_is_told(server: Server) -> None:
    stream, ids = await remembering(
        server, law={"value": "a", "read_only": True}, small={"value": "12345", "limit": 8}
    )
    replace: dict[str, Any] = {"label": "small", "old_string": "6", "new_string": "7"}
    after_2: dict[str, Any] = {"label": "small", "new_string": "7", "insert_line": 2}
    with pytest.raises(ToolFailed, match=r"'law' stays as it is\. The block is read-only"):
        await use(server, stream, "memory_rethink", label="law", new_memory="b")
    with pytest.raises(ToolFailed, match="would have 9 characters, and its limit is 8"):
        await use(server, stream, "memory_insert", label="small", new_string="678")
    with pytest.raises(ToolFailed, match=r"does not occur.* now has 5 of 8 characters:\n12345"):
        await use(server, stream, "memory_replace", **replace)
    with pytest.raises(ToolFailed, match="no line 2 to insert after: the text has 1"):
        await use(server, stream, "memory_insert", **after_2)
    assert await value(server, ids["small"]) == "12345"


BAD_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("memory_insert", {"label": "human"}, "new_string: a string of at most 1048576"),
    ("memory_insert", {"new_string": "a"}, "label: a string"),
    ("memory_insert", {"label": "", "new_string": "a"}, "label: a string of 1 to 256"),
    ("memory_insert", {"label": "human", "new_string": "a\0"}, "cannot be kept"),
    ("memory_insert", {"label": "human", "new_string": "a\ud800"}, "new_string: it holds"),
    ("memory_insert", {"label": "\udfff", "new_string": "a"}, "label: it holds"),
    ("memory_insert", {"insert_line": -2}, "insert_line: a whole number from -1"),
    ("memory_insert", {"insert_line": True}, "insert_line"),
    ("memory_insert", {"insert_line": "1"}, "insert_line"),
    ("memory_insert", {"insert_line": 1.5}, "insert_line"),
    ("memory_replace", {"label": "human", "old_string": "a"}, "new_string"),
    ("memory_replace", {"label": "human", "old_string": 1, "new_string": ""}, "old_string"),
    ("memory_replace", {"label": "human", "old_string": "", "new_string": ""}, "is empty"),
    ("memory_rethink", {"label": "human", "new_memory": None}, "new_memory"),
    ("memory_rethink", {"label": "human", "new_memory": "a" * (2**20 + 1)}, "new_memory"),
]


@pytest.mark.sqlite
async def test_arguments_that_cannot_be_are_told_why(server: Server) -> None:
    stream, ids = await remembering(server, human="a")
    for name, arguments, says in BAD_ARGUMENTS:
        given = {"label": "human", "new_string": "a"} if "insert_line" in arguments else {}
        with pytest.raises(ToolFailed, match=says):
            await use(server, stream, name, **given, **arguments)
    assert await value(server, ids["human"]) == "a"


@pytest.mark.sqlite
def test_of_a_long_block_the_part_that_was_written_is_shown() -> None:
    block = BlockSettings(label="human", value="a" * 9000 + "NEW" + "b" * 9000)
    shown = excerpt_of(block, "NEW")
    assert "NEW" in shown
    assert len(shown) < SHOWN_CHARS_MAX + 200
    assert "characters before)\n" in shown
    assert shown.endswith("more characters)")
    whole = excerpt_of(BlockSettings(label="human", value="a" * SHOWN_CHARS_MAX))
    assert whole.endswith("\n" + "a" * SHOWN_CHARS_MAX)


# --- in a run ---------------------------------------------------------------------------------


def inserting(words: str) -> Any:
    arguments = orjson.dumps({"label": "human", "new_string": words}).decode()
    return calling("memory_insert", arguments=arguments)


async def scripted(server: Server) -> tuple[str, str]:
    stream, ids = await remembering(server, human="Ada")
    agent_id = (await server.get(f"/v1/conversations/{stream}"))["agent_id"]
    await server.http.patch(f"/v1/agents/{agent_id}", json={"model": "script/x"})
    return stream, ids["human"]


async def test_a_model_writes_in_a_run_and_its_prompt_stays(tmp_path: Path) -> None:
    model = Scripted(inserting("likes tea"), saying("Noted."))
    async with serving(tmp_path / "a.db", model) as server:
        stream, block_id = await scripted(server)
        await server.post(stream, "I like tea.", streaming=False)
        assert await value(server, block_id) == "Ada\nlikes tea"
        facts = await server.facts(stream)
        (begun,) = [one for one in facts if isinstance(one.event, ToolStarted)]
        (_, changed) = await server.events(block_id)
        assert changed.cause == Cause(stream=stream, offset=begun.version)
    assert "ok: Done." in told(model.requests[1])[-1][1]
    assert model.requests[0].system == model.requests[1].system


async def test_a_call_cut_off_by_a_crash_after_it_wrote_writes_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Scripted(inserting("likes tea"), saying("Noted."))
    written = asyncio.Event()
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        stream, block_id = await scripted(server)
        insert = tool(server, "memory_insert")
        ours = insert.run

        async def then_hang(arguments: dict[str, Any], call: Call) -> Content:
            said = await ours(arguments, call)
            written.set()
            await asyncio.Event().wait()
            return said

        monkeypatch.setattr(insert, "run", then_hang)
        post = asyncio.create_task(server.post(stream))
        await written.wait()
        await server.kill()
        await asyncio.wait([post])
    async with asyncio.timeout(60), serving(tmp_path / "a.db", Scripted(saying("On."))) as server:
        await server.until_there_is(stream, RunFinished)
        facts = await server.events(stream)
        assert await value(server, block_id) == "Ada\nlikes tea"
        assert len(await server.events(block_id)) == 2
    assert len([one for one in facts if isinstance(one, ToolStarted)]) == 2
    (done,) = [one for one in facts if isinstance(one, ToolFinished)]
    assert (done.status, "likes tea" in str(done.content)) == ("ok", True)


async def test_the_demo_writes_into_its_memory_when_told_to(server: Server) -> None:
    stream, ids = await remembering(server, human="Ada")
    words = 'call memory_insert {"label": "human", "new_string": "likes tea"}'
    await server.post(stream, words, streaming=False)
    assert await value(server, ids["human"]) == "Ada\nlikes tea"
