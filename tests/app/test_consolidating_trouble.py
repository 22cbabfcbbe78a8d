"""Consolidations that are asked for wrongly, cancelled, killed in the middle, or done twice at once."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.memory.consolidating import Consolidating
from app.providers import ModelError
from app.storage.integrity import rebuild_tables
from domain.conversation import ConsolidationFinished
from domain.run import RunFinished, RunQueued, ToolStarted
from domain.streams import AGENT, id_of
from projections.consolidation import FINISH, SYSTEM
from projections.request import ModelRequest
from tests.app.consolidating import (
    Cast,
    chunk,
    consolidated,
    keeping,
    memories,
    over,
    queued,
    rethinking,
    sleepy,
    storing,
    talked,
    value,
    working,
)
from tests.app.scripts import Gate, failing, saying
from tests.app.serving import Said, Server, serving


async def asked(server: Server, agent_id: str, **body: Any) -> Any:
    return await server.http.post(f"/v1/agents/{agent_id}/consolidate", json=body)


async def test_what_cannot_be_gone_through_is_turned_down(tmp_path: Path) -> None:
    gate = Gate("Hm.")
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."), gate)) as server:
        agent_id, stream = await talked(server, "I like tea.")
        other = await server.conversation(await server.agent("script/x"))
        empty = await server.conversation(agent_id)
        stranger = id_of(AGENT, uuid4())
        refusals = [
            (await asked(server, agent_id, **body)).status_code
            for body in (
                {},
                {"conversation_id": other},
                {"conversation_id": empty},
                {"conversation_id": stream, "since": 10**6},
                {"conversation_id": stream, "max_steps": 0},
                {"conversation_id": stream, "max_steps": 51},
                {"conversation_id": stream, "block_label": ""},
                {"conversation_id": stream, "model": "no/such"},
                {"conversation_id": "nonsense"},
            )
        ]
        assert (await asked(server, stranger, conversation_id=stream)).status_code == 404
        await consolidated(server, agent_id, conversation_id=stream)
        again = await asked(server, agent_id, conversation_id=stream)
        since = await asked(server, agent_id, conversation_id=stream, since=0)
        busy = await asked(server, agent_id, conversation_id=stream, since=0)
        inner = await asked(server, agent_id, conversation_id=since.json()["conversation_id"])
        unknown = f"/v1/agents/{agent_id}/consolidations/consolidation-{stream[5:]}"
        assert (await server.http.get(unknown)).status_code == 404
        assert (await server.http.post(f"{unknown}/accept")).status_code == 404
    assert refusals == [404, 404, 400, 409, 422, 422, 422, 404, 422]
    assert (again.status_code, "Nothing was said" in again.text) == (400, True)
    assert (since.status_code, busy.status_code) == (200, 409)
    assert busy.json()["run_id"] == since.json()["run_id"]
    assert inner.status_code == 409


async def test_a_key_stands_for_one_consolidation(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        path, body = f"/v1/agents/{agent_id}/consolidate", {"conversation_id": stream}
        headers = {"Idempotency-Key": "once"}
        first = (await server.http.post(path, json=body, headers=headers)).json()
        shown = await over(server, agent_id, first["consolidation_id"])
        again = await server.http.post(path, json=body, headers=headers)
        bodies = ({"max_steps": 3}, {"block_label": "likes"}, {"since": 1}, {"model": "demo/echo"})
        others = [await server.http.post(path, json=body | one, headers=headers) for one in bodies]
        assert len(await memories(server, agent_id)) == 1
    assert again.json() == shown
    assert {one.status_code for one in others} == {422}
    assert "sent with another body before" in others[0].text


async def test_what_is_null_is_as_the_agent_has_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.", **sleepy(9, max_steps=7))
        body = dict.fromkeys(("block_label", "max_steps", "require_acceptance", "since", "model"))
        await consolidated(server, agent_id, conversation_id=stream, **body)
        (job,) = await queued(server, stream)
    assert (job.terms.max_steps, job.terms.block_label, job.after) == (7, None, 0)


async def test_one_that_is_cancelled_changes_nothing_and_goes_no_further(tmp_path: Path) -> None:
    gate = Gate("Hm.")
    cast = Cast(working(storing(chunk(0, 0)), rethinking("Tea.")), gate, keeping("Later."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        first = (await asked(server, agent_id, conversation_id=stream)).json()
        await gate.begun.wait()
        body = {"run_ids": [first["run_id"]]}
        await server.http.post(f"/v1/agents/{agent_id}/messages/cancel", json=body)
        shown = await over(server, agent_id, first["consolidation_id"])
        assert await value(server, agent_id) == ""
        (mark,) = {(await server.services.execute.conversation(stream)).memory.upto}
    assert (shown["status"], mark) == ("cancelled", 0)


async def test_one_whose_conversation_is_deleted_goes_no_further(tmp_path: Path) -> None:
    gate = Gate("Hm.")
    async with serving(tmp_path / "a.db", Cast(gate)) as server:
        agent_id, stream = await talked(server, "I like tea.")
        first = (await asked(server, agent_id, conversation_id=stream)).json()
        await gate.begun.wait()
        await server.http.delete(f"/v1/conversations/{stream}")
        shown = await over(server, agent_id, first["consolidation_id"])
        await server.until_there_is(first["conversation_id"], RunFinished)
    assert (shown["status"], gate.opened.is_set()) == ("cancelled", False)


@pytest.mark.parametrize("at", ["its run", "its turn"])
async def test_nothing_stays_running_when_the_agent_is_deleted(tmp_path: Path, at: str) -> None:
    gate = Gate("Hm.")
    async with serving(tmp_path / "a.db", Cast(gate)) as server:
        agent_id, stream = await talked(server, "I like tea.")
        await asked(server, agent_id, conversation_id=stream)
        await gate.begun.wait()
        if at == "its turn":
            stream = await server.conversation(agent_id)
            await server.post(stream, "And cats.", streaming=False)
            assert (await asked(server, agent_id, conversation_id=stream)).status_code == 200
        assert (await server.http.delete(f"/v1/agents/{agent_id}")).status_code == 200
        ended = await whole(server, stream)
        sql = "SELECT COUNT(*) AS count FROM consolidations WHERE due = 1"
        async with asyncio.timeout(20):
            while (await server.services.log.query(sql))[0]["count"]:
                await asyncio.sleep(0.02)
        runs = "SELECT COUNT(*) AS count FROM runs WHERE status IN ('created', 'running')"
        assert (await server.services.log.query(runs))[0]["count"] == 0
    assert ended.outcome == "cancelled"


async def test_one_that_waits_for_its_turn_is_looked_at_and_begins_when_the_other_is_over(
    tmp_path: Path,
) -> None:
    gate = Gate("Hm.")
    calls = 0

    async def first_slowly(request: ModelRequest) -> Said:
        nonlocal calls
        calls += 1
        if calls == 1:
            async for said in gate(request):
                yield said
        else:
            async for said in keeping(f"Tea {calls}.")(request):
                yield said

    async with serving(tmp_path / "a.db", Cast(first_slowly)) as server:
        agent_id, stream = await talked(server, "I like tea.")
        other = await server.conversation(agent_id)
        await server.post(other, "And cats.", streaming=False)
        first = (await asked(server, agent_id, conversation_id=stream)).json()
        await gate.begun.wait()
        second = (await asked(server, agent_id, conversation_id=other)).json()
        assert second["status"] == "running"
        assert await server.facts(second["conversation_id"]) == []
        looked = asyncio.create_task(server.http.get(f"/v1/runs/{second['run_id']}"))
        gate.opened.set()
        assert (await looked).status_code == 200
        done = await over(server, agent_id, second["consolidation_id"])
        failed = await over(server, agent_id, first["consolidation_id"])
        assert await value(server, agent_id) == "Tea 2."
    assert (done["status"], failed["status"]) == ("applied", "failed")
    assert done["created_at"] < failed["completed_at"] < done["completed_at"]


async def test_one_keeps_the_prompt_that_says_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        inner = (await consolidated(server, agent_id, conversation_id=stream))["conversation_id"]
        facts = len(await server.facts(inner))
        answer = await server.http.post(f"/v1/conversations/{inner}/recompile", json={})
        assert len(await server.facts(inner)) == facts
    assert answer.json() == SYSTEM


async def test_one_is_no_part_of_its_agents_file(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        await consolidated(server, agent_id, conversation_id=stream)
        (agent,) = (await server.get(f"/v1/agents/{agent_id}/export"))["agents"]
    (other,) = agent["everlog"]["conversations"]
    assert [one["role"] for one in other["messages"]] == ["system", "user", "assistant"]
    assert len(agent["everlog"]["passages"]) == 1


async def test_what_a_reset_took_out_is_not_gone_through(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id = await server.agent("script/x")
        messages = f"/v1/agents/{agent_id}/messages"
        await server.http.post(messages, json={"input": "I like tea."})
        await server.http.patch(f"/v1/agents/{agent_id}/reset-messages", json={})
        answer = await asked(server, agent_id)
        assert (answer.status_code, "Nothing was said" in answer.text) == (400, True)
        await server.http.post(messages, json={"input": "And cats."})
        assert (await consolidated(server, agent_id))["status"] == "applied"
        (kept,) = await memories(server, agent_id)
    assert kept.messages == ("user: And cats.", "assistant: Aye.")


async def test_what_a_failed_one_had_stored_is_not_stored_again(tmp_path: Path) -> None:
    down = failing(ModelError("llm_bad_request", "No.", status=400))
    stores = working(storing(chunk(0, 0), chunk(1, 1, "About it.")))
    cast = Cast(
        *(stores, *down),
        *(working(storing(chunk(0, 0, "The tea."), chunk(1, 1))), keeping("Tea.")),
        keeping("Again."),
    )
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        first = await consolidated(server, agent_id, conversation_id=stream)
        kept = await memories(server, agent_id)
        second = await consolidated(server, agent_id, conversation_id=stream)
        again = await memories(server, agent_id)
        await consolidated(server, agent_id, conversation_id=stream, since=0)
        asked_again = await memories(server, agent_id)
    assert (first["status"], first["detail"]) == ("failed", "No.")
    assert second["status"] == "applied"
    assert [one.messages for one in kept] == [("user: I like tea.",), ("assistant: Aye.",)]
    # The second one put both lines together as well: that is another piece.
    assert again[:2] == kept
    assert [one.messages for one in again[2:]] == [("user: I like tea.", "assistant: Aye.")]
    assert len(asked_again) == len(again) + 1, "whoever asks for the same again gets it"


async def test_a_read_only_block_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        body = {"label": "human", "value": "Ada.", "read_only": True}
        block = (await server.http.post("/v1/blocks/", json=body)).json()["id"]
        await server.http.patch(f"/v1/agents/{agent_id}/core-memory/blocks/attach/{block}")
        shown = await consolidated(server, agent_id, conversation_id=stream)
        assert await value(server, agent_id) == "Ada."
    assert (shown["status"], "read-only" in shown["detail"]) == ("failed", True)


# --- crashes ----------------------------------------------------------------------------------


async def whole(server: Server, stream: str) -> ConsolidationFinished:
    facts = await server.until(
        stream, lambda facts: isinstance(facts and facts[-1].event, ConsolidationFinished)
    )
    return facts[-1].event


@pytest.mark.parametrize("when", ["asked", "stored", "settling"])
async def test_a_killed_one_is_resumed_and_stores_nothing_twice(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asyncio.Event()
    kept: list[Any] = []

    async def forever(*_: Any, **__: Any) -> Any:
        stuck.set()
        await asyncio.Event().wait()

    async def after_one(self: Consolidating, call: Any, number: int, piece: Any) -> None:
        await real(self, call, number, piece)
        kept.append(number)
        if number == 1:
            await forever()

    real = Consolidating.keep
    where = {"asked": "_begin", "stored": "keep", "settling": "finish"}[when]
    calls: tuple[tuple[str, Any], ...] = (
        storing(chunk(0, 0), chunk(1, 1), chunk(2, 3)),
        rethinking("Tea."),
        (FINISH, {}),
    )
    with monkeypatch.context() as patch:
        patch.setattr(Consolidating, where, after_one if when == "stored" else forever)
        async with serving(tmp_path / "a.db", Cast(working(*calls))) as server:
            agent_id, stream = await talked(server, "One.", "Two.", **sleepy(2))
            await asyncio.wait_for(stuck.wait(), 20)
            if when == "stored":
                (job,) = await queued(server, stream)
                assert len(await server.until_there_is(job.conversation_id, ToolStarted)) > 1
            await server.kill()
    async with serving(tmp_path / "a.db", Cast(working(*calls))) as server:
        ended = await whole(server, stream)
        (job,) = await queued(server, stream)
        inner = await server.events(job.conversation_id)
        found = await memories(server, agent_id)
        (block,) = await server.get(f"/v1/agents/{agent_id}/core-memory/blocks")
        changes = [one for one in await server.events(block["id"]) if one.type == "block.changed"]
    assert (ended.outcome, ended.stored) == ("applied", 3)
    assert [one.messages for one in found] == [
        ("user: One.",),
        ("assistant: Aye.",),
        ("user: Two.", "assistant: Aye."),
    ]
    assert [one.value for one in changes] == ["Tea."]
    assert sum(isinstance(one, RunFinished) for one in inner) == 1


async def test_two_nodes_that_attend_to_one_do_it_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        first = (await asked(server, agent_id, conversation_id=stream)).json()
        one = server.services.consolidating
        while (await server.services.execute.conversation(stream)).memory.under_way is not None:
            await asyncio.gather(*(one.advance(stream) for _ in range(4)))
            await asyncio.sleep(0)
        inner = await server.events(first["conversation_id"])
        (block,) = await server.get(f"/v1/agents/{agent_id}/core-memory/blocks")
        changes = [one for one in await server.events(block["id"]) if one.type == "block.changed"]
        ends = [
            one for one in await server.events(stream) if isinstance(one, ConsolidationFinished)
        ]
    assert [one.outcome for one in ends] == ["applied"]
    assert sum(isinstance(one, RunQueued) for one in inner) == 1
    assert len(changes) == 1


async def test_what_is_said_while_a_reply_is_under_way_is_left_for_the_next(
    tmp_path: Path,
) -> None:
    gate = Gate("Nearly ", after="there.")
    calls = 0

    async def chatting(request: ModelRequest) -> Said:
        nonlocal calls
        calls += 1
        async for said in (saying("Aye.") if calls == 1 else gate)(request):
            yield said

    cast = Cast(keeping("Tea."), working(storing(chunk(0, 0)), (FINISH, {})), chatting=chatting)
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        post = asyncio.create_task(server.post(stream, "And?"))
        await gate.begun.wait()
        await consolidated(server, agent_id, conversation_id=stream)
        gate.opened.set()
        await post
        await consolidated(server, agent_id, conversation_id=stream)
        kept = await memories(server, agent_id)
    assert kept[1].messages == ("assistant: Nearly there.",)


async def test_rebuilt_rows_are_those_that_were_written(tmp_path: Path) -> None:
    sql = "SELECT * FROM consolidations ORDER BY consolidation_id"
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, stream = await talked(server, "I like tea.")
        ask = {"conversation_id": stream, "require_acceptance": True}
        shown = await consolidated(server, agent_id, **ask)
        path = f"/v1/agents/{agent_id}/consolidations/{shown['consolidation_id']}/reject"
        await server.http.post(path)
        live = await server.services.log.query(sql)
        store = server.services.log.store
        await server.services.log.in_writer(lambda: rebuild_tables(store))
        assert await server.services.log.query(sql) == live
    assert [one["status"] for one in live] == ["rejected"]
