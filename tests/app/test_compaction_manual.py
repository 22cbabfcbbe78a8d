"""A person has a window compacted: what is answered, counted and refused."""

from pathlib import Path
from typing import Any

import pytest

from app.providers import ModelError
from tests.app.compacting import (
    SUMMARISER,
    SUMMARY,
    WORDS,
    Cast,
    begun,
    casting,
    compact,
    compacted,
    done,
    failed,
    seen,
    talked,
    window_of,
    words_in,
)
from tests.app.scripts import failing, saying
from tests.app.serving import Server

NOTHING = "No in-context messages found for this conversation."
NOT_REDUCED = (
    "Summarization failed to reduce the number of messages. You may not have enough messages to "
    "compact or need to use a different CompactionSettings (e.g. using `all` mode)."
)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def own_conversation(server: Server) -> str:
    """Talk to an agent itself; give the agent's id."""
    agent_id = await server.agent("script/agent", compaction_settings={"model": SUMMARISER})
    for one in WORDS:
        path = f"/v1/agents/{agent_id}/messages"
        answer = await server.http.post(path, json={"input": one})
        assert answer.status_code == 200
    return agent_id


async def test_the_first_messages_leave_and_a_summary_stands_for_them(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream)
        window = await window_of(server, stream)
        (fact,) = await done(server, stream)
        words = await words_in(server, stream)
    # The contract's own example (8.4): 9 messages, of which 3 are evicted.
    assert answer == {
        "summary": SUMMARY,
        "num_messages_before": 9,
        "num_messages_after": 7,
        "compaction_id": fact.compaction_id,
    }
    assert [role for role, _ in words] == ["summary", *["assistant", "user"] * 2, "assistant"]
    assert words[1:3] == [("assistant", "Aye."), ("user", "Three.")]
    assert SUMMARY in words[0][1]
    assert (window["summary"], window["compaction_id"]) == (SUMMARY, fact.compaction_id)
    assert 1 + len(window["messages"]) == 7
    assert fact.run_id is None
    assert fact.system is None
    assert len(cast.summariser.requests) == 1


async def test_the_model_goes_on_from_the_summary(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        await compacted(server, stream, mode="all")
        await server.post(stream, "Five.")
        (turn,) = cast.agent.requests[-1].turns
    assert [SUMMARY in part.text for part in turn.parts if part.type == "text"] == [True, False]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"compaction_settings": null}'])
async def test_a_body_may_be_missing_or_empty(tmp_path: Path, body: bytes) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        path = f"/v1/conversations/{stream}/compact"
        answer = await server.http.post(path, content=body)
        assert answer.json()["num_messages_after"] == 7


async def test_an_agent_s_own_conversation_has_four_names(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        agent_id = await own_conversation(server)
        compacting: dict[str, Any] = {"compaction_settings": {"mode": "all"}}
        first = await server.http.post(
            "/v1/conversations/default/compact", json={"agent_id": agent_id}
        )
        second = await server.http.post(f"/v1/conversations/{agent_id}/compact", json=compacting)
        await server.http.post(f"/v1/agents/{agent_id}/messages", json={"input": "Five."})
        third = await server.http.post(f"/v1/agents/{agent_id}/summarize", json=compacting)
    counts = [
        (one.json()["num_messages_before"], one.json()["num_messages_after"])
        for one in (first, second, third)
    ]
    assert counts == [(9, 7), (7, 2), (4, 2)]


async def test_an_agent_with_nothing_but_a_summary_is_given_it_again(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        agent_id = await own_conversation(server)
        path = f"/v1/agents/{agent_id}/summarize"
        settings = {"compaction_settings": {"mode": "all"}}
        first = (await server.http.post(path, json=settings)).json()
        again = (await server.http.post(path, json=settings)).json()
        once_more = (await server.http.post(path)).json()
        assert len(cast.summariser.requests) == 1
    assert (first["num_messages_before"], first["num_messages_after"]) == (9, 2)
    assert again == once_more == {**first, "num_messages_before": 2}


async def test_a_conversation_with_nothing_but_a_summary_has_too_little(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        await compacted(server, stream, mode="all")
        before = await seen(server, stream)
        answer = await compact(server, stream, mode="all")
        assert (answer.status_code, answer.json()) == (400, {"detail": NOT_REDUCED})
        assert await seen(server, stream) == before
        assert len(cast.summariser.requests) == 1


async def test_there_must_be_something_to_compact(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server)
        fresh = await server.agent("script/agent")
        answers = [
            await compact(server, stream),
            await server.http.post(f"/v1/agents/{fresh}/summarize"),
            await server.http.post(f"/v1/conversations/{fresh}/compact"),
            await server.http.post("/v1/conversations/default/compact", json={"agent_id": fresh}),
        ]
        assert await begun(server, stream) == []
        assert cast.summariser.requests == []
    assert [(one.status_code, one.json()) for one in answers] == [(400, {"detail": NOTHING})] * 4


@pytest.mark.parametrize("mode", ["all", "sliding_window"])
async def test_one_message_cannot_be_made_fewer(tmp_path: Path, mode: str) -> None:
    """The summariser has been called by then, as in the original, and nothing is changed."""
    silent = failing(ModelError("llm_bad_request", "no"))
    async with casting(tmp_path, Cast(agent=silent)) as (server, cast):
        stream = await talked(server, "Alone.")
        before = await seen(server, stream)
        answer = await compact(server, stream, mode=mode)
        assert (answer.status_code, answer.json()) == (400, {"detail": NOT_REDUCED})
        assert await seen(server, stream) == before
        (fact,) = await failed(server, stream)
        assert fact.reason == "not_smaller"
        assert len(cast.summariser.requests) == 1


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        await server.http.delete(f"/v1/conversations/{stream}")
        paths = (
            f"conversations/conv-{UNKNOWN}/compact",
            f"conversations/agent-{UNKNOWN}/compact",
            f"conversations/{stream}/compact",
            f"agents/agent-{UNKNOWN}/summarize",
        )
        answers = [await server.http.post(f"/v1/{path}") for path in paths]
        default = await server.http.post(
            "/v1/conversations/default/compact", json={"agent_id": f"agent-{UNKNOWN}"}
        )
        malformed = await server.http.post("/v1/conversations/conv-1/compact")
    assert [one.status_code for one in (*answers, default)] == [404] * 5
    assert malformed.status_code == 422


BAD_SETTINGS: Any = [
    ("mode", "none", "sliding_window"),
    ("mode", 7, "sliding_window"),
    ("model", "echo", "provider/model"),
    ("model", "demo/" + "x" * 252, "256"),
    ("model_settings", [], "dictionary"),
    ("model_settings", {"provider_type": "acme"}, "provider_type must be one of"),
    ("prompt", "x" * 50_001, "50000"),
    ("prompt", 1, "string"),
    ("prompt_acknowledgement", "perhaps", "boolean"),
    ("clip_chars", -1, "greater than or equal to 0"),
    ("clip_chars", 2**31 + 1, "2147483648"),
    ("clip_chars", "many", "integer"),
    ("sliding_window_percentage", 0, "greater than 0"),
    ("sliding_window_percentage", 1.01, "less than or equal to 1"),
    ("min_retention", -0.1, "greater than or equal to 0"),
    ("min_retention", 1.1, "less than or equal to 1"),
]


async def test_settings_that_cannot_be_name_the_field_and_its_bound(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        for field, value, bound in BAD_SETTINGS:
            for path in ("compact", "compactions/preview"):
                answer = await server.http.post(
                    f"/v1/conversations/{stream}/{path}",
                    json={"compaction_settings": {field: value}},
                )
                assert answer.status_code == 422, (field, answer.text)
                assert field in answer.json()["detail"]
                assert bound in answer.json()["detail"]
        assert await begun(server, stream) == []
        assert cast.summariser.requests == []


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'{"compaction_settings": 1}', b"{"])
async def test_a_body_that_is_no_object_is_unprocessable(tmp_path: Path, body: bytes) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, *WORDS)
        path = f"/v1/conversations/{stream}/compact"
        assert (await server.http.post(path, content=body)).status_code == 422
        assert await begun(server, stream) == []


async def test_one_compaction_s_settings_are_not_the_agent_s(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        state = await server.services.execute.conversation(stream)
        agent = await server.get(f"/v1/agents/{state.agent_id}")
        await compacted(server, stream, mode="all", prompt="Be brief.", clip_chars=10)
        after = await server.get(f"/v1/agents/{state.agent_id}")
        (fact,) = await done(server, stream)
    assert after["compaction_settings"] == agent["compaction_settings"]
    assert fact.summary == SUMMARY[:10] + "... [summary truncated to fit]"
    assert cast.summariser.requests[0].system == "Be brief."
    assert (fact.audit.settings.mode, fact.audit.settings.clip_chars) == ("all", 10)


async def test_the_second_summary_takes_the_first_one_with_it(tmp_path: Path) -> None:
    async with casting(
        tmp_path, Cast(summaries=[saying("First summary."), saying("Second summary.")])
    ) as (server, cast):
        stream = await talked(server, *WORDS)
        await compacted(server, stream)
        await compacted(server, stream, mode="all")
        words = await words_in(server, stream)
        shown = await server.get(f"/v1/conversations/{stream}/compactions")
    assert len(words) == 1
    assert "Second summary." in words[0][1]
    assert "First summary." in "\n".join(
        part.text for part in cast.summariser.requests[1].turns[-1].parts if part.type == "text"
    )
    assert [one["status"] for one in shown] == ["active", "active"]
