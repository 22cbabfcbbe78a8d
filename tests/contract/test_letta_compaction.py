"""letta-client 1.12.1, unchanged: compactions by hand, and what a run tells of its own."""

from collections.abc import Sequence
from typing import Any

import httpx2
import letta_client
import pytest
from letta_client import Letta
from letta_client.types.conversations.compaction_response import CompactionResponse

from tests.contract.test_letta_runs import stream, user

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NOTHING = "No in-context messages found for this conversation."
# What the demo model has room for, where it is to be crowded.
LIMIT = 600
LONG = "Tell me of the harbour, of 12 boats, and of the 3 men who came on 2026-03-04. " * 4


def talk(client: Letta, conversation_id: str, *words: str) -> None:
    for one in words:
        stream(client, conversation_id, user(one))


def talk_to_agent(client: Letta, agent_id: str, *words: str) -> None:
    for one in words:
        messages: Any = [user(one)]
        client.agents.messages.create(agent_id, messages=messages)


def counts(*answers: CompactionResponse) -> list[tuple[int, int]]:
    return [(one.num_messages_before, one.num_messages_after) for one in answers]


def listed(client: Letta, conversation_id: str) -> Sequence[Any]:
    return list(client.conversations.messages.list(conversation_id, order="asc", limit=100))


def test_a_conversation_is_compacted_by_hand(client: Letta, conversation_id: str) -> None:
    talk(client, conversation_id, "One.", "Two.", "Three.", "Four.")
    first = client.conversations.messages.compact(conversation_id)
    second = client.conversations.messages.compact(
        conversation_id, compaction_settings={"mode": "all", "clip_chars": 50}
    )
    history = listed(client, conversation_id)
    assert counts(first, second) == [(9, 7), (7, 2)]
    assert second.summary.endswith("... [summary truncated to fit]")
    assert len(second.summary) == 50 + len("... [summary truncated to fit]")
    # Everything that was ever said is listed, and the summaries with it.
    assert [one.message_type for one in history] == [
        "system_message",
        *["user_message", "assistant_message"] * 4,
        "user_message",
        "user_message",
    ]
    assert first.summary[:40] in history[-2].content
    assert "system_alert" in history[-1].content


@pytest.mark.parametrize(
    "mode", ["all", "sliding_window", "self_compact_all", "self_compact_sliding_window"]
)
def test_every_mode_of_the_client_s_serves(client: Letta, conversation_id: str, mode: Any) -> None:
    talk(client, conversation_id, LONG, LONG, LONG, LONG)
    answer = client.conversations.messages.compact(
        conversation_id, compaction_settings={"mode": mode}
    )
    assert answer.summary
    assert answer.num_messages_after == (7 if mode.endswith("sliding_window") else 2)


def test_all_settings_of_the_client_s_are_taken(client: Letta, conversation_id: str) -> None:
    talk(client, conversation_id, "One.", "Two.", "Three.", "Four.")
    answer = client.conversations.messages.compact(
        conversation_id,
        compaction_settings={
            "mode": "sliding_window",
            "model": "demo/echo",
            "model_settings": {"provider_type": "openai", "max_output_tokens": 700},
            "prompt": "Be brief.",
            "prompt_acknowledgement": True,
            "clip_chars": None,
            "sliding_window_percentage": 0.6,
        },
    )
    assert counts(answer) == [(9, 5)]


def test_an_agent_s_own_messages_are_compacted(client: Letta, agent_id: str) -> None:
    talk_to_agent(client, agent_id, "One.", "Two.", "Three.", "Four.")
    first = client.agents.messages.compact(agent_id)
    second = client.conversations.messages.compact(
        "default", agent_id=agent_id, compaction_settings={"mode": "all"}
    )
    again = client.agents.messages.compact(agent_id)
    talk_to_agent(client, agent_id, "Five.")
    third = client.conversations.messages.compact(agent_id, compaction_settings={"mode": "all"})
    assert counts(first, second, again, third) == [(9, 7), (7, 2), (2, 2), (4, 2)]
    assert again.summary == second.summary


def test_nothing_to_compact_is_a_bad_request_in_the_original_s_words(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    for compacting in (
        lambda: client.conversations.messages.compact(conversation_id),
        lambda: client.agents.messages.compact(agent_id),
        lambda: client.conversations.messages.compact("default", agent_id=agent_id),
    ):
        with pytest.raises(letta_client.BadRequestError) as refused:
            compacting()
        assert refused.value.body == {"detail": NOTHING}


def test_too_little_to_compact_is_one_too(client: Letta, conversation_id: str) -> None:
    talk(client, conversation_id, "One.")
    client.conversations.messages.compact(conversation_id, compaction_settings={"mode": "all"})
    with pytest.raises(letta_client.BadRequestError) as refused:
        client.conversations.messages.compact(conversation_id)
    body: Any = refused.value.body
    assert body["detail"].startswith("Summarization failed to reduce the number of messages.")


def test_what_is_unknown_or_malformed_is_refused(client: Letta, conversation_id: str) -> None:
    for conversation in (f"conv-{UNKNOWN}", f"agent-{UNKNOWN}"):
        with pytest.raises(letta_client.NotFoundError):
            client.conversations.messages.compact(conversation)
    with pytest.raises(letta_client.NotFoundError):
        client.agents.messages.compact(f"agent-{UNKNOWN}")
    bad: Any = {"mode": "none"}
    with pytest.raises(letta_client.UnprocessableEntityError) as refused:
        client.conversations.messages.compact(conversation_id, compaction_settings=bad)
    body: Any = refused.value.body
    assert "mode" in body["detail"]


# --- in a run ---------------------------------------------------------------------------------


@pytest.fixture
def crowded_id(client: Letta) -> str:
    agent = client.agents.create(
        model="demo/echo", context_window_limit=LIMIT, compaction_settings={"mode": "all"}
    )
    return client.conversations.create(agent_id=agent.id).id


def until_full(client: Letta, conversation_id: str, **more: Any) -> list[Any]:
    """Talk until a run's window is compacted; give that run's frames."""
    for _ in range(10):
        before = len(listed(client, conversation_id))
        frames = stream(client, conversation_id, user(LONG), **more)
        if len(listed(client, conversation_id)) > before + 2:
            return frames
    raise AssertionError("the window was never full")


@pytest.mark.parametrize("stream_tokens", [True, False], ids=["tokens", "whole"])
def test_a_stream_that_asks_is_told_of_its_compaction(
    client: Letta, crowded_id: str, stream_tokens: bool
) -> None:
    frames = until_full(
        client, crowded_id, stream_tokens=stream_tokens, include_compaction_messages=True
    )
    event, summary, stop, usage = frames[-4:]
    assert [one.message_type for one in (event, summary, stop, usage)] == [
        "event_message",
        "summary_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert event.event_type == "compaction"
    assert event.event_data["trigger"] == "post_step_context_check"
    assert summary.summary
    stats = summary.compaction_stats
    assert (stats["trigger"], stats["context_window"]) == ("post_step_context_check", LIMIT)
    assert stats["context_tokens_before"] > LIMIT * 0.9 > stats["context_tokens_after"]
    assert usage.context_tokens == stats["context_tokens_after"]
    talk(client, crowded_id, "Go on.")


def test_and_one_that_does_not_is_told_nothing(client: Letta, crowded_id: str) -> None:
    kinds = {one.message_type for one in until_full(client, crowded_id)}
    assert kinds.isdisjoint({"event_message", "summary_message", "user_message"})


# --- beside the client's own ------------------------------------------------------------------


def test_an_undo_by_hand_is_seen_by_the_client(
    client: Letta, raw: httpx2.Client, conversation_id: str
) -> None:
    talk(client, conversation_id, "One.", "Two.", "Three.", "Four.")
    before = listed(client, conversation_id)
    client.conversations.messages.compact(conversation_id)
    root = f"/v1/conversations/{conversation_id}/compactions"
    (row,) = raw.get(root).json()
    assert raw.post(f"{root}/{row['compaction_id']}/undo").status_code == 200
    assert listed(client, conversation_id) == before
    answer = client.conversations.messages.compact(conversation_id)
    assert counts(answer) == [(9, 7)]
