"""What a compaction would do, and what one would have done: told, and never recorded."""

from pathlib import Path
from typing import Any

import pytest

from projections.prompts import PROMPTS
from projections.request import ModelRequest
from tests.app.compacting import (
    SUMMARISER,
    SUMMARY,
    WORDS,
    Cast,
    casting,
    compact,
    compacted,
    done,
    head_of,
    seen,
    spoken_in,
    talked,
    used,
    window_of,
)
from tests.app.scripts import saying
from tests.app.serving import Said, Scripted, Server
from tests.app.test_compaction_fallbacks import WRONGS


async def previewed(
    server: Server, stream: str, body: dict[str, Any] | None = None, **query: Any
) -> dict[str, Any]:
    """Preview, which must succeed and record nothing."""
    before, head = await seen(server, stream), await head_of(server, stream)
    path = f"/v1/conversations/{stream}/compactions/preview"
    answer = await server.http.post(path, json=body, params=query)
    assert answer.status_code == 200, answer.text
    assert await head_of(server, stream) == head
    assert await seen(server, stream) == before
    return answer.json()


def offsets(messages: list[dict[str, Any]]) -> list[int]:
    return [one["offset"] for one in messages]


@pytest.mark.parametrize("mode", PROMPTS)
async def test_a_preview_is_what_the_compaction_then_does(tmp_path: Path, mode: str) -> None:
    cast = Cast(agent=[*[used(100)] * 4, saying(SUMMARY)])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        before = await window_of(server, stream)
        body = {"compaction_settings": {"mode": mode}}
        plan = await previewed(server, stream, body)
        asked = len(cast.summariser.requests), len(cast.agent.requests)
        whole = await previewed(server, stream, {**body, "summarize": True})
        answer = await compacted(server, stream, mode=mode)
        (fact,) = await done(server, stream)
        root = f"/v1/conversations/{stream}/compactions"
        shown = await server.get(f"{root}/{answer['compaction_id']}")
    assert asked == (0, 4)
    assert (plan["summary"], plan["reason"], plan["mode"]) == (None, None, mode)
    for one in (plan, whole):
        assert one["at"] == before["at"]
        assert one["tokens_before"] == before["tokens"]["total"] == 101
        assert one["evicted"] == shown["evicted"]
        assert one["kept"] == shown["kept"]
        assert offsets(one["evicted"]) + one["kept"] == offsets(before["messages"])
        assert one["messages_before"] == answer["num_messages_before"]
        assert one["messages_after"] == answer["num_messages_after"]
        assert one["cutoff"] == fact.audit.cutoff_after
        assert one["settings"]["mode"] == mode
    assert plan["tokens_after"] < whole["tokens_after"] == fact.audit.tokens_after
    assert whole["summary"] == SUMMARY
    assert whole["model"] == fact.audit.model
    assert whole["retention"] == shown["retained"]
    assert whole["attempts"] == shown["attempts"]


async def test_the_cuts_that_were_looked_at_are_told(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        plan = await previewed(server, stream)
    assert plan["goal"] == int(0.7 * plan["context_window"])
    assert [(one["share"], one["cut"]) for one in plan["tries"]] == [(0.4, 4)]


async def test_without_a_cut_the_first_mode_that_has_a_plan_is_told(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, "One.")
        plan = await previewed(server, stream)
        whole = await previewed(server, stream, {"summarize": True})
    assert (plan["mode"], plan["settings"]["mode"]) == ("all", "sliding_window")
    assert [one["mode"] for one in whole["attempts"]] == ["sliding_window", "all"]


@pytest.mark.parametrize("summarize", [True, False])
async def test_it_says_why_there_would_be_none(tmp_path: Path, summarize: bool) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server)
        plan = await previewed(server, stream, {"summarize": summarize})
    assert plan["reason"] == "nothing_to_evict"
    assert plan["detail"]
    assert (plan["mode"], plan["evicted"], plan["summary"]) == (None, [], None)
    assert len(plan["attempts"]) == (2 if summarize else 0)


@pytest.mark.parametrize("wrong", WRONGS)
async def test_a_summary_that_cannot_be_had_is_told_of(tmp_path: Path, wrong: str) -> None:
    script, reason = WRONGS[wrong]
    async with casting(tmp_path, Cast(summaries=[script])) as (server, _):
        stream = await talked(server, *WORDS)
        body = {"summarize": True, "compaction_settings": {"mode": "all"}}
        plan = await previewed(server, stream, body)
    assert (plan["reason"], plan["summary"]) == (reason, None)


async def test_the_window_of_any_offset_can_be_looked_at(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS[:2])
        before = await window_of(server, stream)
        await compacted(server, stream, mode="all")
        await server.post(stream, "Three.")
        body = {"at": before["at"], "summarize": True, "compaction_settings": {"mode": "all"}}
        plan = await previewed(server, stream, body)
        spoken = spoken_in(cast.summariser.requests[-1])
        head = await head_of(server, stream)
        path = f"/v1/conversations/{stream}/compactions/preview"
        beyond = await server.http.post(path, json={"at": head + 1})
        malformed = [
            await server.http.post(path, json=body)
            for body in ({"at": 0}, {"at": "x"}, {"at": 2**63}, {"summarize": "perhaps"})
        ]
    assert plan["at"] == before["at"]
    assert offsets(plan["evicted"]) == offsets(before["messages"])
    assert spoken == [
        ("user", "One."),
        ("assistant", "Aye."),
        ("user", "Two."),
        ("assistant", "Aye."),
    ]
    assert (beyond.status_code, beyond.json()["head"]) == (409, head)
    assert [one.status_code for one in malformed] == [422] * 4


async def test_a_run_s_question_stays_in_a_preview_of_its_time(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS[:2])
        facts = await server.facts(stream)
        asked = [one.version for one in facts if one.event.type == "message.appended"][-1]
        plan = await previewed(
            server, stream, {"at": asked + 1, "compaction_settings": {"mode": "all"}}
        )
    assert plan["kept"] == [asked]
    assert asked not in offsets(plan["evicted"])


# --- replay -----------------------------------------------------------------------------------


async def replayed(
    server: Server, stream: str, compaction_id: str, **settings: Any
) -> dict[str, Any]:
    """Replay, which must succeed and record nothing."""
    before, head = await seen(server, stream), await head_of(server, stream)
    path = f"/v1/conversations/{stream}/compactions/{compaction_id}/replay"
    body = {"compaction_settings": settings} if settings else None
    answer = await server.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert await head_of(server, stream) == head
    assert await seen(server, stream) == before
    return answer.json()


async def test_a_replay_sets_other_settings_beside_what_was_done(tmp_path: Path) -> None:
    cast = Cast(summaries=[saying("As it was."), saying("As it might have been.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream, clip_chars=20)
        await server.post(stream, "Five.")
        path = f"/v1/conversations/{stream}/compactions/{answer['compaction_id']}"
        shown = await server.get(path)
        both = await replayed(server, stream, answer["compaction_id"], mode="all")
    assert both["recorded"] == shown
    assert both["recorded"]["summary"] == "As it was."
    other = both["replayed"]
    assert other["summary"] == "As it might have been"[:20] + "... [summary truncated to fit]"
    assert (other["mode"], other["settings"]["clip_chars"]) == ("all", 20)
    assert other["settings"]["prompt"] == PROMPTS["all"]
    assert other["at"] == shown["planned_at"]
    assert both["evicted_only_as_recorded"] == []
    assert both["evicted_only_as_replayed"] == shown["kept"]


async def test_a_replay_with_nothing_said_asks_the_very_same(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS, prompt="Mine.")
        answer = await compacted(server, stream, prompt_acknowledgement=True)
        agent_id = (await server.services.execute.conversation(stream)).agent_id
        changed = {"compaction_settings": {"prompt": "Another."}}
        await server.http.patch(f"/v1/agents/{agent_id}", json=changed)
        both = await replayed(server, stream, answer["compaction_id"])
    first, again = cast.summariser.requests
    assert again == first
    assert both["replayed"]["attempts"] == both["recorded"]["attempts"]
    assert both["evicted_only_as_recorded"] == both["evicted_only_as_replayed"] == []


async def test_a_run_s_compaction_is_replayed_in_the_window_that_it_had(tmp_path: Path) -> None:
    long = "A long sentence about the harbour and its boats. " * 6
    cast = Cast(agent=[*[used(10, long)] * 3, used(950)])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *[long] * 4, limit=1000)
        (fact,) = await done(server, stream)
        both = await replayed(server, stream, fact.compaction_id)
    assert both["replayed"]["context_window"] == 1000
    assert both["replayed"]["evicted"] == both["recorded"]["evicted"]
    assert both["replayed"]["tokens_before"] == fact.audit.tokens_before


async def test_an_undone_one_can_be_replayed(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        compaction_id = (await compacted(server, stream))["compaction_id"]
        await server.http.post(f"/v1/conversations/{stream}/compactions/{compaction_id}/undo")
        both = await replayed(server, stream, compaction_id, mode="all")
    assert both["recorded"]["status"] == "undone"
    assert len(both["evicted_only_as_replayed"]) == 5


# --- the history ------------------------------------------------------------------------------


async def test_the_history_tells_what_each_did(tmp_path: Path) -> None:
    cast = Cast(summaries=[saying(SUMMARY), saying(" "), saying("Later.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        first = await compacted(server, stream)
        await compact(server, stream, mode="all")
        last = await compacted(server, stream, mode="all")
        root = f"/v1/conversations/{stream}/compactions"
        await server.http.post(f"{root}/{last['compaction_id']}/undo")
        rows = await server.get(root)
        shown = await server.get(f"{root}/{first['compaction_id']}")
        head = await head_of(server, stream)
        facts = [one for one in await server.facts(stream) if one.event.type == "window.compacted"]
    assert [one["status"] for one in rows] == ["active", "failed", "undone"]
    assert [one["reason"] for one in rows] == [None, "empty_summary", None]
    assert [one["undone_at"] for one in rows] == [None, None, head]
    assert [one["offset"] for one in rows[::2]] == [one.version for one in facts]
    assert {one["trigger"] for one in rows} == {"manual"}
    assert {one["by"] for one in rows} == {"user"}
    audit = facts[0].event.audit
    row = rows[0]
    assert (row["mode"], row["model"]) == ("sliding_window", SUMMARISER)
    assert (row["tokens_before"], row["tokens_after"]) == (audit.tokens_before, audit.tokens_after)
    assert (row["messages_before"], row["messages_after"]) == (9, 7)
    assert row["retention"] == audit.retention.score
    assert shown == {**shown, **row}
    assert shown["summary"] == SUMMARY
    assert shown["cutoff_before"] == offsets(shown["evicted"])[0]
    assert shown["cutoff_after"] == shown["kept"][0]
    assert [one["parts"][0]["text"] for one in shown["evicted"]] == ["One.", "Aye.", "Two."]
    assert shown["settings"]["prompt"] == PROMPTS["sliding_window"]


async def test_one_under_way_is_in_the_history(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        rows: list[Any] = []

        async def look(request: ModelRequest) -> Said:
            rows.extend(await server.get(f"/v1/conversations/{stream}/compactions"))
            async for said in saying(SUMMARY)(request):
                yield said

        cast.summariser = Scripted(look)
        await compacted(server, stream)
    assert [(one["status"], one["tokens_after"]) for one in rows] == [("running", None)]
