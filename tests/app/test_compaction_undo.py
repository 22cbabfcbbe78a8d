"""A compaction that is undone has never been; one that is redone holds again."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.conversation import PinMessage, WindowCompactionRedone, WindowCompactionUndone
from domain.streams import COMPACTION, id_of
from projections.request import canonical
from tests.app.compacting import (
    LIMIT,
    LONG,
    SUMMARISER,
    SUMMARY,
    WORDS,
    Cast,
    casting,
    change_its_mind,
    compact,
    compacted,
    done,
    head_of,
    remembering,
    seen,
    talked,
    turn,
    used,
    window_of,
    words_in,
)
from tests.app.scripts import calling, saying
from tests.app.serving import Server


async def turned(
    server: Server, stream: str, compaction_id: str, way: str, **query: Any
) -> dict[str, Any]:
    """Undo or redo, which must succeed."""
    answer = await turn(server, stream, compaction_id, way, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status_of(server: Server, stream: str) -> list[str]:
    rows = await server.get(f"/v1/conversations/{stream}/compactions")
    return [one["status"] for one in rows]


@pytest.mark.parametrize("mode", ["all", "sliding_window", "self_compact_all"])
async def test_an_undo_restores_the_window_and_a_redo_does_it_again(
    tmp_path: Path, mode: str
) -> None:
    cast = Cast(agent=[*[used(100 * n) for n in range(1, 5)], saying(SUMMARY)])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        before = await seen(server, stream)
        answer = await compacted(server, stream, mode=mode)
        after = await seen(server, stream)
        compaction_id = answer["compaction_id"]
        undone = await turned(server, stream, compaction_id, "undo")
        assert await seen(server, stream) == before
        assert await status_of(server, stream) == ["undone"]
        redone = await turned(server, stream, compaction_id, "redo")
        assert await seen(server, stream) == after
        assert await status_of(server, stream) == ["active"]
        assert redone["at"] == await head_of(server, stream)
    assert before["messages"] != after["messages"]
    assert (undone["active"], redone["active"]) == (False, True)
    assert (undone["messages"], redone["messages"]) == (9, answer["num_messages_after"])
    assert (undone["tokens"], redone["tokens"]) == (
        before["tokens"]["total"],
        after["tokens"]["total"],
    )


async def test_after_an_undo_the_model_is_asked_as_if_it_had_never_been(tmp_path: Path) -> None:
    count = calling("demo_count", arguments='{"text": "a b"}', words="I count.")
    script = [saying("One!"), count, saying("Two."), saying("Three!")]
    cast = Cast(agent=[*script, *script, saying("Four!")])
    async with casting(tmp_path, cast) as (server, _):
        undoing, spared = [
            await talked(server, "One.", "Count.", "Three.", tools=("demo_count",))
            for _ in range(2)
        ]
        for mode in ("sliding_window", "all"):
            answer = await compacted(server, undoing, mode=mode)
            await turned(server, undoing, answer["compaction_id"], "undo")
        for stream in (undoing, spared):
            await server.post(stream, "Four.")
            await server.post(stream, "Five.")
    asked = cast.agent.requests[-4:]
    assert [canonical(one) for one in asked[:2]] == [canonical(one) for one in asked[2:]]


async def test_what_an_automatic_one_recompiled_is_as_it_was(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(agent=[used(10), used(950), used(10)])) as (server, cast):
        agent_id, stream = await remembering(server)
        await server.post(stream, LONG)
        before = await window_of(server, stream)
        await change_its_mind(server, agent_id)
        await server.post(stream, LONG)
        (fact,) = await done(server, stream)
        assert "coffee" in (await window_of(server, stream))["system"]["text"]
        await turned(server, stream, fact.compaction_id, "undo", force=True)
        after = await window_of(server, stream)
        await server.post(stream, "Three.")
    assert after["system"] == before["system"]
    assert "likes tea" in cast.agent.requests[-1].system


async def test_what_came_after_it_stays(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        before = await words_in(server, stream)
        answer = await compacted(server, stream, mode="all")
        await server.post(stream, "Five.")
        await turned(server, stream, answer["compaction_id"], "undo")
        assert await words_in(server, stream) == [
            *before,
            ("user", "Five."),
            ("assistant", "Aye."),
        ]


async def test_twice_is_once(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        compaction_id = (await compacted(server, stream))["compaction_id"]
        assert (await turned(server, stream, compaction_id, "redo"))["active"] is True
        first = await turned(server, stream, compaction_id, "undo")
        again = await turned(server, stream, compaction_id, "undo")
        facts = await server.events(stream)
    assert again == first
    assert sum(isinstance(one, WindowCompactionUndone) for one in facts) == 1
    assert not [one for one in facts if isinstance(one, WindowCompactionRedone)]


async def test_an_earlier_one_can_be_undone_by_itself(tmp_path: Path) -> None:
    """The later summary stays, and what the earlier one had evicted stands before it."""
    cast = Cast(summaries=[saying("First summary."), saying("Second summary.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        first = await compacted(server, stream)
        later = await compacted(server, stream, mode="all")
        both = await seen(server, stream)
        await turned(server, stream, first["compaction_id"], "undo")
        words = await words_in(server, stream)
        assert [role for role, _ in words] == ["user", "assistant", "user", "summary"]
        assert "Second summary." in words[-1][1]
        await turned(server, stream, first["compaction_id"], "redo")
        assert await seen(server, stream) == both
        await turned(server, stream, later["compaction_id"], "undo")
        await turned(server, stream, first["compaction_id"], "undo")
        assert [role for role, _ in await words_in(server, stream)] == ["user", "assistant"] * 4


async def test_what_has_left_again_since_cannot_leave_twice(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        first = (await compacted(server, stream))["compaction_id"]
        await turned(server, stream, first, "undo")
        second = (await compacted(server, stream, mode="all"))["compaction_id"]
        before = await seen(server, stream)
        refused = await turn(server, stream, first, "redo")
        assert await seen(server, stream) == before
        await turned(server, stream, second, "undo")
        await turned(server, stream, first, "redo")
        other = await turn(server, stream, second, "redo")
    assert refused.status_code == other.status_code == 409
    assert second in refused.json()["detail"]
    assert first in other.json()["detail"]
    assert refused.headers["x-should-retry"] == "false"


async def test_a_pin_holds_what_comes_back(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream, mode="all")
        await turned(server, stream, answer["compaction_id"], "undo")
        pinned = (await window_of(server, stream))["messages"][2]["message_id"]
        await server.services.execute(stream, PinMessage(pinned, pinned=True), "user")
        again = await compacted(server, stream, mode="all")
        window = await window_of(server, stream)
    assert again["num_messages_after"] == 3
    kept = [one for one in window["messages"] if one["role"] != "summary"]
    assert [(one["message_id"], one["pinned"]) for one in kept] == [(pinned, True)]


# --- room -------------------------------------------------------------------------------------


async def crowded(server: Server) -> tuple[str, str]:
    """Have a run's window compacted; give the stream, and the compaction."""
    stream = await talked(server, *[LONG] * 4, limit=LIMIT, mode="all")
    (fact,) = await done(server, stream)
    return stream, fact.compaction_id


async def test_an_undo_that_leaves_runs_no_room_wants_to_be_forced(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)])
    async with casting(tmp_path, cast) as (server, _):
        stream, compaction_id = await crowded(server)
        assert (await window_of(server, stream))["tokens"]["total"] < 400
        before, head = await seen(server, stream), await head_of(server, stream)
        refused = await turn(server, stream, compaction_id, "undo")
        assert await seen(server, stream) == before
        assert await head_of(server, stream) == head
        forced = await turned(server, stream, compaction_id, "undo", force=True)
    body = refused.json()
    # What the vendor said of the window before is what counts, not our estimate.
    assert (refused.status_code, body["tokens"], body["limit"]) == (409, 951, 900)
    assert refused.headers["x-should-retry"] == "false"
    assert "951" in body["detail"]
    assert "force=true" in body["detail"]
    assert (forced["active"], forced["tokens"]) == (False, 951)


async def test_a_crowded_window_is_compacted_by_the_next_run(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950), used(960)])
    async with casting(tmp_path, cast) as (server, _):
        stream, compaction_id = await crowded(server)
        await turned(server, stream, compaction_id, "undo", force=True)
        await server.post(stream, "Five.")
        assert await status_of(server, stream) == ["undone", "active"]


async def test_one_that_is_undone_already_needs_no_room(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)])
    async with casting(tmp_path, cast) as (server, _):
        stream, compaction_id = await crowded(server)
        await turned(server, stream, compaction_id, "undo", force=True)
        assert (await turned(server, stream, compaction_id, "undo"))["active"] is False


async def test_a_report_counts_only_for_the_window_that_it_was_made_of(tmp_path: Path) -> None:
    """A step that was taken between a compaction and its undo tells nothing of the window after."""
    async with casting(tmp_path, Cast(agent=[*[used(500)] * 4, used(70)])) as (server, _):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream, mode="all")
        assert (await window_of(server, stream))["tokens"]["reported"] is None
        await server.post(stream, "Five.")
        reported = [(await window_of(server, stream))["tokens"]["reported"]]
        await turned(server, stream, answer["compaction_id"], "undo")
        undone = (await window_of(server, stream))["tokens"]
        await turned(server, stream, answer["compaction_id"], "redo")
        reported.append((await window_of(server, stream))["tokens"]["reported"])
    assert reported == [71, 71]
    # The newest step that was taken in this very window is the one before the compaction.
    assert undone["reported"] == 501
    assert undone["total"] > 501


# --- what is not there ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["undo", "redo", "replay", ""])
async def test_an_unknown_compaction_is_not_found(tmp_path: Path, way: str) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        other = await talked(server, *WORDS)
        known = (await compacted(server, other))["compaction_id"]
        method = "POST" if way else "GET"
        for conversation_id, compaction_id, status in (
            (stream, id_of(COMPACTION, uuid4()), 404),
            (stream, known, 404),
            (id_of("conv", uuid4()), known, 404),
            (stream, "compaction-1", 422),
        ):
            path = f"/v1/conversations/{conversation_id}/compactions/{compaction_id}/{way}"
            answer = await server.http.request(method, path.rstrip("/"))
            assert answer.status_code == status, answer.text


async def test_one_that_failed_can_be_looked_at_and_no_more(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(summaries=[saying(" ")])) as (server, _):
        stream = await talked(server, *WORDS)
        await compact(server, stream)
        (row,) = await server.get(f"/v1/conversations/{stream}/compactions")
        path = f"/v1/conversations/{stream}/compactions/{row['compaction_id']}"
        shown = await server.get(path)
        turns = [await turn(server, stream, row["compaction_id"], way) for way in ("undo", "redo")]
        replayed = await turn(server, stream, row["compaction_id"], "replay")
    assert (row["status"], row["reason"]) == ("failed", "empty_summary")
    assert [one["failure"] for one in shown["attempts"]] == ["empty_summary"] * 2
    assert [one.status_code for one in turns] == [404, 404]
    assert replayed.status_code == 409


async def test_of_a_deleted_conversation_the_compactions_can_be_read(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        compaction_id = (await compacted(server, stream))["compaction_id"]
        root = f"/v1/conversations/{stream}/compactions"
        shown = await server.get(f"{root}/{compaction_id}")
        await server.http.delete(f"/v1/conversations/{stream}")
        for path in (root, f"{root}/{compaction_id}"):
            assert (await server.http.get(path)).status_code == 404
        for path in (f"{root}/preview", f"{root}/{compaction_id}/replay"):
            assert (await server.http.post(path)).status_code == 404
            assert (await server.http.post(path, params={"deleted": True})).status_code == 200
        assert await server.get(f"{root}/{compaction_id}", deleted=True) == shown
        (row,) = await server.get(root, deleted=True)
        for way in ("undo", "redo"):
            answer = await turn(server, stream, compaction_id, way, deleted=True)
            assert answer.status_code == 404
    assert (row["compaction_id"], row["status"]) == (compaction_id, "active")


async def test_an_agent_s_own_conversation_is_named_as_elsewhere(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        agent_id = await server.agent("script/agent", compaction_settings={"model": SUMMARISER})
        for one in WORDS:
            await server.http.post(f"/v1/agents/{agent_id}/messages", json={"input": one})
        compaction_id = (await compacted(server, agent_id))["compaction_id"]
        rows = [
            await server.get("/v1/conversations/default/compactions", agent_id=agent_id),
            await server.get(f"/v1/conversations/{agent_id}/compactions"),
        ]
        undone = await turned(server, "default", compaction_id, "undo", agent_id=agent_id)
        redone = await turned(server, agent_id, compaction_id, "redo")
    assert rows[0] == rows[1]
    assert rows[0][0]["compaction_id"] == compaction_id
    assert (undone["active"], redone["active"]) == (False, True)
