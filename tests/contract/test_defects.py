"""What clients of the original had to live with, through the real client: it is not so here."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import httpx2
import letta_client
import pytest
from letta_client import Letta

WALKED_MAX = 100


def said(client: Letta, conversation_id: str, words: str) -> Any:
    """Send a message and wait for the whole answer as a document."""
    body = {"input": words, "streaming": False}
    path = f"/v1/conversations/{conversation_id}/messages"
    return client.post(path, cast_to=object, body=body)


def users(client: Letta, conversation_id: str, **query: Any) -> list[str]:
    """Give what users said, by the client's own paging."""
    found: Any = client.conversations.messages.list(
        conversation_id, include_return_message_types=["user_message"], **query
    )
    return [one.content for one in found]


def test_a_document_s_run_is_the_conversation_s_and_is_completed(
    client: Letta, conversation_id: str
) -> None:
    said(client, conversation_id, "Hello!")
    (run,) = client.runs.list(conversation_id=conversation_id).items
    assert (run.conversation_id, run.status) == (conversation_id, "completed")
    assert run.stop_reason == "end_turn"


def test_requests_in_parallel_are_turns_one_after_the_other(
    client: Letta, conversation_id: str
) -> None:
    words = [f"Number {number}." for number in range(6)]
    with ThreadPoolExecutor(len(words)) as threads:
        for one in [threads.submit(said, client, conversation_id, one) for one in words]:
            one.result()
    window: Any = client.get(f"/v1/conversations/{conversation_id}/window", cast_to=object)
    roles = [one["role"] for one in window["messages"]]
    assert roles == ["user", "assistant"] * len(words)
    assert sorted(users(client, conversation_id, order="asc")) == words


def test_a_cancelled_stream_says_that_it_is_over(client: Letta, raw: httpx2.Client) -> None:
    agent_id = client.agents.create(model="demo/steady").id
    conversation_id = client.conversations.create(agent_id=agent_id).id
    path = f"/v1/conversations/{conversation_id}"
    with raw.stream("POST", f"{path}/messages", json={"input": "Talk."}) as answer:
        lines = answer.iter_lines()
        assert "ping" in next(lines)
        raw.post(f"{path}/cancel")
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert sum('"stop_reason":"cancelled"' in line for line in rest) == 1


def test_pages_of_messages_end_and_miss_nothing_in_either_order(
    client: Letta, conversation_id: str
) -> None:
    words = [f"Number {number}." for number in range(4)]
    for one in words:
        said(client, conversation_id, one)
    orders: dict[Any, list[str]] = {"asc": words, "desc": words[::-1]}
    for order, wanted in orders.items():
        page: Any = client.conversations.messages.list(conversation_id, order=order, limit=3)
        items: list[Any] = list(islice(page, WALKED_MAX))
        assert len(items) == 9
        assert [one.content for one in items if one.message_type == "user_message"] == wanted


def test_pages_of_runs_end_and_miss_nothing_in_either_order(
    client: Letta, conversation_id: str
) -> None:
    for number in range(4):
        said(client, conversation_id, f"Number {number}.")
    walked: dict[str, list[str]] = {}
    for order in ("asc", "desc"):
        page: Any = client.runs.list(conversation_id=conversation_id, order=order, limit=3)
        walked[order] = [one.id for one in islice(page, WALKED_MAX)]
    assert len(set(walked["asc"])) == len(walked["asc"]) == 4
    assert walked["desc"] == walked["asc"][::-1]


def test_after_a_compaction_the_newest_page_has_the_newest_messages(
    client: Letta, conversation_id: str
) -> None:
    for number in range(4):
        said(client, conversation_id, f"Number {number}.")
    client.conversations.messages.compact(
        conversation_id, compaction_settings={"mode": "all", "model": "demo/echo"}
    )
    said(client, conversation_id, "And now?")
    newest: Any = client.conversations.messages.list(conversation_id, limit=3).items
    assert [one.message_type for one in newest][:2] == ["assistant_message", "user_message"]
    assert newest[1].content == "And now?"
    asked = [one for one in users(client, conversation_id, order="asc") if one[0] != "{"]
    assert asked == [*(f"Number {number}." for number in range(4)), "And now?"]


def test_a_run_is_resumed_where_it_belongs_whether_in_the_background_or_not(
    client: Letta, conversation_id: str, agent_id: str
) -> None:
    said(client, conversation_id, "Hello!")
    run_id = client.runs.list(conversation_id=conversation_id).items[0].id
    replayed: Any = client.conversations.messages.stream(conversation_id, run_id=run_id)
    assert [one.message_type for one in replayed][-2:] == ["stop_reason", "usage_statistics"]
    other = client.conversations.create(agent_id=agent_id).id
    with pytest.raises(letta_client.NotFoundError):
        client.conversations.messages.stream(other, run_id=run_id)


def test_an_otid_sent_again_in_the_foreground_is_one_turn(
    client: Letta, conversation_id: str
) -> None:
    message: Any = {"role": "user", "content": "Once.", "otid": "only-once"}
    for _ in range(2):
        frames: Any = client.conversations.messages.create(conversation_id, messages=[message])
        assert [one.message_type for one in frames][-1] == "usage_statistics"
    assert users(client, conversation_id) == ["Once."]
    assert len(client.runs.list(conversation_id=conversation_id).items) == 1


@pytest.mark.parametrize("query", [{"limit": -1}, {"after": "message-1"}, {"before": "message-1"}])
def test_a_page_that_cannot_be_is_refused_at_once(
    client: Letta, conversation_id: str, query: dict[str, Any]
) -> None:
    with pytest.raises(letta_client.APIStatusError) as refused:
        client.conversations.messages.list(conversation_id, **query)
    assert refused.value.status_code in (404, 422)
    assert "user-" not in refused.value.response.text


def test_a_cursor_past_the_end_of_a_run_is_refused_at_once(
    client: Letta, conversation_id: str
) -> None:
    said(client, conversation_id, "Hello!")
    run_id = client.runs.list(conversation_id=conversation_id).items[0].id
    with pytest.raises(letta_client.ConflictError) as refused:
        client.runs.messages.stream(run_id, starting_after=10_000)
    assert refused.value.response.headers["x-should-retry"] == "false"
