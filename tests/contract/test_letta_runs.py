"""letta-client 1.12.1, unchanged: cancel, tools, approvals, the agent's own messages, runs."""

import threading
from typing import Any

import letta_client
import pytest
from letta_client import Letta
from letta_client.types.agents import Run

TOOLS: Any = [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]
UNKNOWN = "run-00000000-0000-4000-8000-000000000000"


def stream(client: Letta, conversation_id: str, *messages: Any, **more: Any) -> list[Any]:
    sent: Any = client.conversations.messages.create(conversation_id, messages=messages, **more)
    return list(sent)


def user(words: str) -> dict[str, str]:
    return {"role": "user", "content": words}


class Talking(threading.Thread):
    """A client that reads a reply to its end; `begun` when it has the first frame."""

    def __init__(self, client: Letta, conversation_id: str) -> None:
        super().__init__(daemon=True)
        self.begun = threading.Event()
        self.frames: list[Any] = []
        self._client, self._id = client, conversation_id
        self.start()
        assert self.begun.wait(30)

    def run(self) -> None:
        said: Any = self._client.conversations.messages.create(
            self._id, messages=[{"role": "user", "content": "Talk."}], stream_tokens=True
        )
        for frame in said:
            self.frames.append(frame)
            if frame.message_type == "assistant_message":
                self.begun.set()


@pytest.fixture
def talker_id(client: Letta) -> str:
    return client.agents.create(name="talker", model="demo/steady").id


def test_a_cancel_ends_the_stream_and_keeps_what_was_said(client: Letta, talker_id: str) -> None:
    conversation_id = client.conversations.create(agent_id=talker_id).id
    talking = Talking(client, conversation_id)
    told = client.conversations.cancel(conversation_id)
    talking.join(30)
    assert list(told.values()) == ["cancelled"]
    assert talking.frames[-1].message_type == "stop_reason"
    assert talking.frames[-1].stop_reason == "cancelled"
    kept: Any = next(iter(client.conversations.messages.list(conversation_id, limit=1)))
    said = "".join(one.content for one in talking.frames if one.message_type == "assistant_message")
    assert kept.content == said
    run = client.runs.retrieve(next(iter(told)))
    assert (run.status, run.stop_reason) == ("cancelled", "cancelled")
    with pytest.raises(letta_client.ConflictError):
        client.conversations.cancel(conversation_id)
    assert stream(client, conversation_id, user("On."))[-1].message_type == "usage_statistics"


def test_a_busy_conversation_says_so_once(base_url: str, talker_id: str) -> None:
    # With the library's own retries on: a conflict is not to be posted three times.
    with Letta(base_url=base_url, api_key="none") as client:
        conversation_id = client.conversations.create(agent_id=talker_id).id
        talking = Talking(client, conversation_id)
        with pytest.raises(letta_client.ConflictError) as refused:
            stream(client, conversation_id, user("Me."))
        assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"
        body: Any = refused.value.body
        assert body["run_id"] == client.runs.list(conversation_id=conversation_id).items[0].id
        client.conversations.cancel(conversation_id)
        talking.join(30)


def test_a_client_tool_is_asked_for_and_answered(client: Letta, agent_id: str) -> None:
    conversation_id = client.conversations.create(agent_id=agent_id).id
    asked = stream(client, conversation_id, user("call weather {}"), client_tools=TOOLS)
    request = next(one for one in asked if one.message_type == "approval_request_message")
    call = request.tool_calls[0]
    returned = {
        "type": "tool",
        "tool_call_id": call.tool_call_id,
        "tool_return": "sunny",
        "status": "success",
    }
    answer = {"type": "approval", "approvals": [returned]}
    answered = stream(client, conversation_id, answer, client_tools=TOOLS)
    assert [one.message_type for one in answered] == [
        "ping",
        "tool_return_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert answered[1].tool_return == "sunny"
    assert "sunny" in answered[2].content
    history = list(client.conversations.messages.list(conversation_id, order="asc"))
    assert [one.message_type for one in history][2:5] == [
        "approval_request_message",
        "approval_response_message",
        "tool_return_message",
    ]
    response: Any = history[3]
    assert response.approvals[0].tool_return == "sunny"


def test_an_agent_answers_with_a_document_or_a_stream(client: Letta, agent_id: str) -> None:
    answer: Any = client.agents.messages.create(agent_id, input="Hello!")
    assert answer.messages[0].message_type == "assistant_message"
    assert answer.stop_reason.stop_reason == "end_turn"
    assert answer.usage.step_count == 1
    frames: Any = client.agents.messages.create(agent_id, input="Hello again!", streaming=True)
    assert [one.message_type for one in frames][-2:] == ["stop_reason", "usage_statistics"]
    with pytest.raises(letta_client.UnprocessableEntityError):
        client.agents.messages.create(agent_id, input="Hello!", stream_tokens=True)


def test_an_agent_answers_in_the_background_and_its_run_is_told_of(
    client: Letta, agent_id: str
) -> None:
    run = client.agents.messages.create_async(
        agent_id, messages=[{"role": "user", "content": "Hello!"}]
    )
    assert isinstance(run, Run)
    assert (run.status, run.background, run.conversation_id) == ("created", True, None)
    frames: Any = client.runs.messages.stream(run.id, starting_after=0)
    assert [one.message_type for one in frames][:1] == ["ping"]
    done = client.runs.retrieve(run.id)
    assert (done.status, done.agent_id) == ("completed", agent_id)
    with pytest.raises(letta_client.UnprocessableEntityError, match="callback_url"):
        client.agents.messages.create_async(
            agent_id, input="Hello!", callback_url="http://169.254.169.254/"
        )


def test_an_agent_s_runs_are_cancelled_by_name(client: Letta, talker_id: str) -> None:
    conversation_id = client.conversations.create(agent_id=talker_id).id
    talking = Talking(client, conversation_id)
    (run,) = client.runs.list(conversation_id=conversation_id, active=True).items
    told = client.agents.messages.cancel(talker_id, run_ids=[run.id, UNKNOWN])
    talking.join(30)
    assert told == {run.id: "cancelled", UNKNOWN: "failed"}
    with pytest.raises(letta_client.ConflictError):
        client.agents.messages.cancel(talker_id)


def test_a_run_has_its_tokens_steps_and_messages(client: Letta, conversation_id: str) -> None:
    stream(client, conversation_id, user("Hello!"))
    (run,) = client.runs.list(conversation_id=conversation_id).items
    usage: Any = client.runs.usage.retrieve(run.id)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    (step,) = client.runs.steps.list(run.id).items
    assert (step.run_id, step.status, step.stop_reason) == (run.id, "success", "end_turn")
    assert step.total_tokens == usage.total_tokens
    messages = client.runs.messages.list(run.id).items
    assert [one.message_type for one in messages] == ["user_message", "assistant_message"]


def test_runs_are_filtered_as_asked(client: Letta, talker_id: str) -> None:
    one, other = (client.conversations.create(agent_id=talker_id).id for _ in range(2))
    talking = Talking(client, one)
    client.conversations.cancel(one)
    talking.join(30)
    stream(client, other, user("Hi."), override_model="demo/echo", background=True)

    def found(**query: Any) -> set[str | None]:
        listed = client.runs.list(agent_id=talker_id, **query)
        return {run.conversation_id for run in listed}

    assert found() == {one, other}
    assert found(conversation_id=one) == {one}
    assert found(statuses=["cancelled"]) == {one}
    assert found(statuses=["cancelled", "completed"]) == {one, other}
    assert found(active=True) == set()
    assert found(background=True) == {other}
    assert found(stop_reason="end_turn") == {other}
    with pytest.raises(letta_client.BadRequestError):
        found(statuses=["lost"])
    newest, oldest = client.runs.list(agent_id=talker_id).items
    assert client.runs.list(agent_id=talker_id, after=newest.id).items == [oldest]
    assert client.runs.list(agent_id=talker_id, order="asc", limit=1).items == [oldest]


def test_a_run_tells_by_which_way_it_came(client: Letta) -> None:
    agent_id = client.agents.create(name="asked", model="demo/echo").id
    conversation_id = client.conversations.create(agent_id=agent_id).id
    asked: Any = [user("Hi!")]
    client.agents.messages.create(agent_id, messages=asked)
    list(client.agents.messages.create(agent_id, messages=asked, streaming=True))
    deprecated: Any = client.agents.messages
    with pytest.warns(DeprecationWarning, match="deprecated"):
        list(deprecated.stream(agent_id, messages=asked))
    accepted: Run = client.agents.messages.create_async(agent_id, messages=asked)
    assert (accepted.ttft_ns, accepted.total_duration_ns) == (None, None)
    list(client.runs.messages.stream(accepted.id))
    stream(client, conversation_id, user("Hi!"))
    client.conversations.messages.create(agent_id, messages=asked, streaming=False)
    runs = [*client.runs.list(agent_id=agent_id, order="asc")]
    assert [(one.metadata or {}).get("run_type") for one in runs] == [
        "send_message",
        *["send_message_streaming"] * 2,
        "send_message_async",
        *["send_conversation_message"] * 2,
    ]
    assert accepted.metadata == {"run_type": "send_message_async"}
    assert all(0 < (one.ttft_ns or 0) <= (one.total_duration_ns or 0) for one in runs)
