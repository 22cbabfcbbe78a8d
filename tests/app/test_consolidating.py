"""Memory is consolidated by a run of its own: stored piece by piece, then rethought."""

import asyncio
from pathlib import Path

from projections.consolidation import FINISH, RETHINK, STORE
from projections.request import ModelRequest
from tests.app.consolidating import (
    Cast,
    chunk,
    consolidated,
    finished,
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
from tests.app.scripts import saying, told
from tests.app.serving import Said, Server, serving


async def test_pieces_are_stored_and_the_block_is_rethought(tmp_path: Path) -> None:
    cast = Cast(
        working(storing(chunk(0, 1), chunk(2, 3, "About cats."))),
        working(rethinking("Likes tea.")),
        working(rethinking("Likes tea and cats."), (FINISH, {})),
    )
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.", "And cats <3.\nMany.")
        shown = await consolidated(server, agent_id, conversation_id=stream)
        kept = await memories(server, agent_id)
        assert await value(server, agent_id) == "Likes tea and cats."
        (block,) = await server.get(f"/v1/agents/{agent_id}/core-memory/blocks")
        change = (await server.events(block["id"]))[-1]
        inner = await server.events(shown["conversation_id"])
        assert await server.get("/v1/conversations/", agent_id=agent_id) == [
            await server.get(f"/v1/conversations/{stream}") | {"in_context_message_ids": None}
        ]
        window = await server.get(f"/v1/conversations/{stream}/window")
        assert "Likes tea and cats." in window["system"]["text"]
        mine = {one["id"] for one in await server.get(f"/v1/conversations/{stream}/messages")}
        assert {one["id"] for one in await server.get(f"/v1/agents/{agent_id}/messages")} == mine
        assert {one["id"] for one in await server.get("/v1/messages/")} == mine
        found = await server.http.post("/v1/messages/search", json={"query": "tea cats"})
        assert {one["conversation_id"] for one in found.json()} == {stream}
    assert (shown["status"], shown["stored"], shown["trigger"]) == ("applied", 2, "user")
    assert "+Likes tea and cats." in shown["diff"]
    assert [one.messages for one in kept] == [
        ("user: I like tea.", "assistant: Aye."),
        ("user: And cats <3.\nMany.", "assistant: Aye."),
    ]
    assert [one.context for one in kept] == ["About tea.", "About cats."]
    assert change.cause.stream == shown["conversation_id"]
    assert inner[change.cause.offset - 1].name == RETHINK
    assert len(cast.keeper.requests) == 3


# --- by itself --------------------------------------------------------------------------------


async def test_every_nth_turn_is_followed_by_one_that_takes_up_where_the_last_ended(
    tmp_path: Path,
) -> None:
    cast = Cast(keeping("Tea."), keeping("Tea, cats."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "One.", **sleepy())
        second = (await server.post(stream, "Two.", streaming=False)).json()
        named = await server.http.get(f"/v1/runs/{second['usage']['run_ids'][0]}")
        assert named.status_code == 200, "an answer names what can be looked at"
        await finished(server, stream, 1)
        third = (await server.post(stream, "Three.", streaming=False)).json()
        fourth = await server.post(stream, "Four.")
        first, last = await finished(server, stream, 2)
        asked = await queued(server, stream)
        run = await server.get(f"/v1/runs/{asked[0].run_id}")
        assert await value(server, agent_id) == "Tea, cats."
        assert len(await memories(server, agent_id)) == 2
    assert [one.trigger for one in asked] == ["turns", "turns"]
    assert second["usage"]["run_ids"] == [asked[0].run_id] == [run["id"]]
    assert third["usage"]["run_ids"] is None
    assert asked[1].run_id in fourth.text
    assert run["metadata"] == {"run_type": "sleeptime_agent_send_message_async"}
    assert (run["conversation_id"], run["background"]) == (asked[0].conversation_id, True)
    assert asked[1].after == first.upto
    assert last.base_version == first.version
    (words,) = [words for who, words in told(cast.keeper.requests[1]) if who == "user"]
    assert "[before] user: Two." in words
    assert "[0] user: Three.\n[1] assistant: Aye.\n[2] user: Four." in words
    assert "Tea." in words.rpartition("=== memory")[0]


async def test_a_compaction_is_followed_by_one(tmp_path: Path) -> None:
    cast = Cast(keeping("Tea."), chatting=saying("Aye. " * 40))
    async with serving(tmp_path / "a.db", cast) as server:
        _, stream = await talked(server, *["Tea, please. " * 20] * 3, **sleepy(50))
        path = f"/v1/conversations/{stream}/compact"
        settings = {"compaction_settings": {"mode": "all", "model": "demo/echo"}}
        assert (await server.http.post(path, json=settings)).status_code == 200
        await server.post(stream, "Four.", streaming=False)
        (ended,) = await finished(server, stream, 1)
        (asked,) = await queued(server, stream)
    assert (asked.trigger, asked.after, ended.outcome) == ("compaction", 0, "applied")
    ((_, words),) = told(cast.keeper.requests[0])
    assert words.count("Tea, please.") == 60


async def test_what_was_reset_away_is_not_remembered(tmp_path: Path) -> None:
    cast = Cast(keeping("Tea."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id = await server.agent("script/x")
        said = f"/v1/agents/{agent_id}/messages"
        await server.http.post(said, json={"input": "The secret is 4711."})
        await server.http.patch(f"/v1/agents/{agent_id}/reset-messages", json={})
        await server.http.post(said, json={"input": "I like tea."})
        await consolidated(server, agent_id)
    ((_, words),) = told(cast.keeper.requests[0])
    assert "I like tea." in words
    assert "4711" not in words


async def test_an_agent_that_does_not_ask_for_it_is_left_alone(tmp_path: Path) -> None:
    cast = Cast(keeping("Tea."))
    async with serving(tmp_path / "a.db", cast) as server:
        _, stream = await talked(server, *"abcdef", enable_sleeptime=False)
        assert await queued(server, stream) == []
    assert cast.keeper.requests == []


# --- what models do ---------------------------------------------------------------------------


async def test_bad_pieces_and_unknown_tools_are_told_and_harm_no_other(tmp_path: Path) -> None:
    bad = [chunk(1, 0), chunk(0, 2), chunk(-1, 0), {"start_index": 0}, "x", chunk(0, 0, "!" * 5000)]
    cast = Cast(
        working((FINISH, {}), rethinking("Too soon."), ("forget_everything", {})),
        working((STORE, {"chunks": "all"}), storing(*bad)),
        working(storing(*bad, chunk(0, 1, "Good.")), (RETHINK, {}), rethinking("x" * 2000)),
        working(rethinking("Tea."), ("rethink_user_memor", {"new_memory": "Typo."})),
        working((RETHINK, "{"), (FINISH, {})),
    )
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        path = f"/v1/agents/{agent_id}/core-memory/blocks"
        block = await server.http.post("/v1/blocks/", json={"label": "human", "limit": 1000})
        await server.http.patch(f"{path}/attach/{block.json()['id']}")
        shown = await consolidated(server, agent_id, conversation_id=stream)
        kept = await memories(server, agent_id)
    assert (shown["status"], shown["value"], shown["stored"]) == ("applied", "Tea.", 1)
    assert [one.context for one in kept] == ["Good."]
    returns = [told(request)[-1][1] for request in cast.keeper.requests[1:]]
    assert returns[0].count("error: First store") == 2
    assert "There is no tool 'forget_everything'" in returns[0]
    assert "chunks: a list is needed" in returns[1]
    assert "Stored 0 of 6 pieces." in returns[1]
    assert [f"Piece {number} was not stored" in returns[2] for number in range(7)] == (
        [True] * 6 + [False]
    )
    assert "2000 characters, and the block holds 1000" in returns[2]
    assert "There is no tool 'rethink_user_memor'" in returns[3]


async def test_words_end_it_and_what_was_drafted_counts(tmp_path: Path) -> None:
    cast = Cast(working(storing(), rethinking("Tea."), words="Let me see."), saying("Done."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        shown = await consolidated(server, agent_id, conversation_id=stream)
        assert await value(server, agent_id) == "Tea."
    assert (shown["status"], shown["stored"]) == ("applied", 0)


async def test_words_alone_are_a_failure_after_which_the_same_is_gone_through_again(
    tmp_path: Path,
) -> None:
    cast = Cast(saying("Nothing to do."), keeping("Tea."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        first = await consolidated(server, agent_id, conversation_id=stream)
        second = await consolidated(server, agent_id, conversation_id=stream)
        listed = await server.get(f"/v1/agents/{agent_id}/consolidations")
        failed = await server.get(f"/v1/agents/{agent_id}/consolidations", status="failed")
    assert (first["status"], first["after"]) == ("failed", 0)
    assert "never said what is to be stored" in first["detail"]
    assert (second["status"], second["after"]) == ("applied", 0)
    assert listed == [second, first]
    assert failed == [first]


async def test_a_run_of_too_many_steps_ends_with_its_last_draft(tmp_path: Path) -> None:
    cast = Cast(
        working(storing(chunk(0, 0))), *[working(rethinking(f"Tea {n}.")) for n in range(9)]
    )
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        shown = await consolidated(server, agent_id, conversation_id=stream, max_steps=3)
        run = await server.get(f"/v1/runs/{shown['run_id']}")
    assert (run["stop_reason"], len(cast.keeper.requests)) == ("max_steps", 3)
    assert (shown["status"], shown["value"]) == ("applied", "Tea 1.")


# --- on a person's word -----------------------------------------------------------------------


async def proposed(server: Server) -> tuple[str, str]:
    """Have a consolidation propose something; give the agent and the path of it."""
    agent_id, stream = await talked(server, "I like tea.")
    ask = {"conversation_id": stream, "require_acceptance": True, "block_label": "likes"}
    shown = await consolidated(server, agent_id, **ask)
    assert (shown["status"], shown["value"], shown["version"]) == ("proposed", "Tea.", None)
    assert await value(server, agent_id, "likes") == ""
    return agent_id, f"/v1/agents/{agent_id}/consolidations/{shown['consolidation_id']}"


async def test_a_proposal_is_accepted_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, path = await proposed(server)
        accepted = await server.http.post(f"{path}/accept")
        again = await server.http.post(f"{path}/accept")
        assert await value(server, agent_id, "likes") == "Tea."
        (row,) = await server.get(f"/v1/agents/{agent_id}/consolidations")
    assert (accepted.status_code, accepted.json()["status"]) == (200, "accepted")
    assert accepted.json()["version"] == accepted.json()["base_version"] + 1
    assert (again.status_code, again.json()["detail"][:8]) == (409, "CONFLICT")
    assert row == accepted.json()


async def test_a_proposal_that_is_turned_down_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, path = await proposed(server)
        rejected = await server.http.post(f"{path}/reject")
        late = await server.http.post(f"{path}/accept")
        assert await value(server, agent_id, "likes") == ""
    assert (rejected.json()["status"], late.status_code) == ("rejected", 409)


async def test_a_block_that_has_changed_is_replaced_only_by_who_has_seen_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "a.db", Cast(keeping("Tea."))) as server:
        agent_id, path = await proposed(server)
        block = f"/v1/agents/{agent_id}/core-memory/blocks/likes"
        await server.http.patch(block, json={"value": "Coffee."})
        refused = await server.http.post(f"{path}/accept")
        assert await value(server, agent_id, "likes") == "Coffee."
        seen = {"base_version": refused.json()["version"]}
        accepted = await server.http.post(f"{path}/accept", json=seen)
        assert await value(server, agent_id, "likes") == "Tea."
    assert (refused.status_code, accepted.status_code) == (409, 200)


async def test_an_edit_that_comes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def waiting(request: ModelRequest) -> Said:
        await gate.wait()
        async for said in keeping("Tea.")(request):
            yield said

    async with serving(tmp_path / "a.db", Cast(waiting)) as server:
        agent_id, stream = await talked(server, "I like tea.")
        body = {"conversation_id": stream}
        asked = await server.http.post(f"/v1/agents/{agent_id}/consolidate", json=body)
        block = f"/v1/agents/{agent_id}/core-memory/blocks/human"
        await server.http.patch(block, json={"value": "Coffee."})
        gate.set()
        shown = await over(server, agent_id, asked.json()["consolidation_id"])
        assert await value(server, agent_id) == "Coffee."
    assert (shown["status"], shown["value"]) == ("proposed", "Tea.")
    assert "changed by somebody else" in shown["detail"]
