"""Commands decided against the queued head, again on a conflict, answered after the commit."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import app.storage.committing
from app.execute import Execute, state_at
from app.log import Log, StoreUnavailable
from app.storage.lineages import parent_at
from domain.block import Block, BlockSettings, ChangeBlock, CreateBlock, DeleteBlock
from domain.conversation import (
    ConversationSettings,
    NewMessage,
    QueueRun,
    StartConversation,
    conversation,
)
from domain.errors import Busy, NotFound
from domain.run import RunRequest
from tests.app.faults import FaultyStore, Shared
from tests.databases import opened
from tests.examples import AGENT_ID, SYSTEM

STREAM = "block-11111111-1111-4111-8111-111111111111"
FORK = "conv-22222222-2222-4222-8222-222222222222"
NO_SETTINGS = ConversationSettings()
CONVERSATION = "conv-11111111-1111-4111-8111-111111111111"
create = CreateBlock(BlockSettings(label="human", value=""))


def change(value: str) -> ChangeBlock:
    return ChangeBlock({"value": value})


def run(number: int, on_busy: Any = "enqueue") -> QueueRun:
    message = NewMessage(f"message-{uuid4()}", str(number), "user", f"{number}")
    return QueueRun(f"run-{uuid4()}", RunRequest(), (message,), on_busy, "hash")


async def test_many_commands_at_once_all_land_once(log: Log) -> None:
    execute = Execute(log)
    await execute(STREAM, create, "user")
    done = await asyncio.gather(*(execute(STREAM, change(f"{n}"), "user") for n in range(300)))
    versions = sorted(facts[0].version for facts in done)
    assert versions == list(range(2, 302))
    assert len(await log.read(STREAM)) == 301


async def test_two_writers_of_one_stream_decide_again_and_lose_nothing(log: Log) -> None:
    # Two caches on one log act as two processes that do not know of each other.
    first, second = Execute(log), Execute(log)
    log.store.exclusive = False  # type: ignore[misc]
    await first(STREAM, create, "user")
    await asyncio.gather(
        *(first(STREAM, change(f"a{n}"), "user") for n in range(20)),
        *(second(STREAM, change(f"b{n}"), "user") for n in range(20)),
    )
    rows = await log.read(STREAM)
    assert len(rows) == 41
    assert (await first.state(STREAM)) == (await second.state(STREAM))


async def test_a_stream_of_several_pages_is_folded_and_caught_up_with_whole(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.execute.FOLDED_AT_ONCE", 3)
    log.store.exclusive = False  # type: ignore[misc]
    first, late = Execute(log), Execute(log)
    await first(STREAM, create, "user")
    assert (await late.state(STREAM))[0] == 1
    for number in range(2, 13):
        await first(STREAM, change(f"{number}"), "user")
        assert state_at(log.store, STREAM, number) == (await first.state(STREAM))[1]
    for other in (late, Execute(log)):
        assert await other.state(STREAM) == await first.state(STREAM)
    assert (await late.block(STREAM)).version == 12


async def test_a_refusal_waits_for_the_commit_of_what_it_rests_on(log: Log) -> None:
    execute = Execute(log)
    await execute(
        CONVERSATION, StartConversation("agent-x", SYSTEM, ConversationSettings()), "user"
    )
    queued = asyncio.create_task(execute(CONVERSATION, run(1), "user"))
    await asyncio.sleep(0)
    with pytest.raises(Busy) as busy:
        await execute(CONVERSATION, run(2, "reject"), "user")
    assert queued.done()
    assert busy.value.run_id == queued.result()[0].event.run_id


async def test_a_command_with_nothing_to_do_waits_too(log: Log) -> None:
    execute = Execute(log)
    made = asyncio.create_task(execute(STREAM, create, "user"))
    await asyncio.sleep(0)
    assert await execute(STREAM, change(""), "user") == []
    assert made.done()


async def test_what_rested_on_an_append_that_was_lost_is_decided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.storage.committing, "RETRY_DELAY_S", 0)
    store = FaultyStore(tmp_path / "a.db")
    async with Log(store) as log:
        execute = Execute(log)
        await execute(STREAM, create, "user")
        store.faults = ["before"] * app.storage.committing.COMMIT_TRIES
        first = asyncio.create_task(execute(STREAM, change("lost"), "user"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(execute(STREAM, change("kept"), "user"))
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(results[0], StoreUnavailable)
        version, state = await execute.state(STREAM)
        assert isinstance(state, Block)
        assert state.settings is not None
        assert [one.version for one in (results[1] if isinstance(results[1], list) else [])] == [2]
        assert (version, state.settings.value) == (2, "kept")


async def test_a_caller_that_goes_away_does_not_take_its_command_back(log: Log) -> None:
    execute = Execute(log)
    await execute(STREAM, create, "user")
    gone = asyncio.create_task(execute(STREAM, change("kept"), "user"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await execute.state(STREAM))[1].settings.value == "kept"
    assert len(await log.read(STREAM)) == 2


async def test_a_state_is_folded_from_the_store_when_it_is_not_cached(log: Log) -> None:
    await Execute(log)(STREAM, create, "user")
    await Execute(log)(STREAM, change("x"), "user")
    version, state = await Execute(log).state(STREAM)
    assert (version, state.settings.value) == (2, "x")


async def test_a_deleted_block_is_not_there(log: Log) -> None:
    execute = Execute(log)
    await execute(STREAM, create, "user")
    await execute(STREAM, DeleteBlock(), "user")
    with pytest.raises(NotFound):
        await execute(STREAM, change("x"), "user")


async def test_a_fork_that_was_not_stored_has_left_nothing_behind(tmp_path: Path) -> None:
    store = Shared(opened(tmp_path / "a.db"), nodes=2)
    async with Log(store) as log:
        execute = Execute(log)
        await execute(CONVERSATION, StartConversation(AGENT_ID, SYSTEM, NO_SETTINGS), "user")
        parent = await log.in_reader(lambda: parent_at(log.store, CONVERSATION, 1))
        command = StartConversation(AGENT_ID, SYSTEM, NO_SETTINGS, parent)
        store.fate = "lost"
        with pytest.raises(StoreUnavailable):
            await execute.fork(FORK, command, parent, "user")
        store.fate = "stored"
        assert await execute.state(FORK) == (0, conversation.initial)
        await execute.fork(FORK, command, parent, "user")
        assert await execute.state(FORK) == (1, state_at(store, FORK, 1))
    store.end()


async def test_who_looks_at_a_fork_while_it_begins_does_not_hide_it(log: Log) -> None:
    execute = Execute(log)
    await execute(CONVERSATION, StartConversation(AGENT_ID, SYSTEM, NO_SETTINGS), "user")
    parent = await log.in_reader(lambda: parent_at(log.store, CONVERSATION, 1))
    command = StartConversation(AGENT_ID, SYSTEM, NO_SETTINGS, parent)
    await asyncio.gather(execute.state(FORK), execute.fork(FORK, command, parent, "user"))
    assert await execute.state(FORK) == (1, state_at(log.store, FORK, 1))
