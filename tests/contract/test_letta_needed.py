"""letta-client 1.12.1, unchanged: conversations, messages and runs; what is refused of each."""

from collections.abc import Callable
from typing import Any

import letta_client
import pytest
from letta_client import Letta

from tests.contract.test_letta_compaction import listed, talk
from tests.contract.test_letta_runs import Talking, stream, user

NOBODY = "123e4567-e89b-42d3-8456-426614174000"
AGENT, BLOCK, CONV = f"agent-{NOBODY}", f"block-{NOBODY}", f"conv-{NOBODY}"
MESSAGE, PASSAGE, RUN = f"message-{NOBODY}", f"passage-{NOBODY}", f"run-{NOBODY}"
MAIN = "/v1/conversations"


def refused(status: int, call: Callable[[], Any]) -> str:
    """Have a call turned down with a status; give the words for it."""
    with pytest.raises(letta_client.APIStatusError) as error:
        call()
    assert error.value.status_code == status, error.value.response.text
    body: Any = error.value.body
    assert isinstance(body["detail"], str)
    return body["detail"]


def kinds(frames: Any) -> list[str]:
    return [one.message_type for one in frames]


def called(client: Letta, agent_id: str, words: str, **more: Any) -> Any:
    create: Any = client.agents.messages.create
    return create(agent_id, input=words, **more)


def counting(client: Letta) -> str:
    """Make an agent with a tool: a turn that calls it has two steps."""
    return client.agents.create(model="demo/echo", tools=["demo_count"]).id


COUNT = 'call demo_count {"text": "one two three"}'


# --- conversations ----------------------------------------------------------------------------


def test_a_conversation_that_cannot_be_is_not_begun(client: Letta, agent_id: str) -> None:
    begin: Any = client.conversations.create
    assert "provider/model" in refused(400, lambda: begin(agent_id=agent_id, model="echo"))
    abacus = {"provider_type": "abacus"}
    words = refused(422, lambda: begin(agent_id=agent_id, model_settings=abacus))
    assert "provider_type" in words
    refused(404, lambda: begin(agent_id=AGENT))
    refused(422, lambda: begin(agent_id="nobody"))
    assert client.conversations.list(agent_id=agent_id) == []


def test_a_list_of_conversations_may_be_empty_but_not_wrong(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    found: Any = client.conversations.list
    assert [one.id for one in found(agent_id=agent_id)] == [conversation_id]
    assert found(agent_id=agent_id, limit=0) == found(agent_id=AGENT) == []
    assert NOBODY in refused(404, lambda: found(agent_id=agent_id, after=CONV))
    assert "order_by" in refused(422, lambda: found(order_by="colour"))
    assert "limit" in refused(422, lambda: found(limit=-1))


def test_only_a_conversation_s_own_id_leads_to_it(client: Letta, agent_id: str) -> None:
    for call in (client.conversations.retrieve, client.conversations.update):
        for malformed in ("default", agent_id, "conv-1"):
            assert "conversation_id" in refused(422, lambda c=call, m=malformed: c(m))
        assert NOBODY in refused(404, lambda c=call: c(CONV))


def test_an_update_of_a_conversation_is_kept_and_counts_from_the_next_run_on(
    client: Letta, conversation_id: str
) -> None:
    updated = client.conversations.update(
        conversation_id,
        model="demo/steady",
        model_settings={"provider_type": "openai", "temperature": 0.2},
        context_window_limit=7000,
        last_message_at="2026-01-02T03:04:05Z",
    )
    kept = client.conversations.retrieve(conversation_id)
    for one in (updated, kept):
        settings: Any = one.to_dict()["model_settings"]
        assert (one.model, one.context_window_limit) == ("demo/steady", 7000)
        assert (settings["provider_type"], settings["temperature"]) == ("openai", 0.2)
        assert one.last_message_at is not None
        assert one.last_message_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert updated.updated_at is not None
    assert updated.created_at is not None
    assert updated.updated_at > updated.created_at
    talk(client, conversation_id, "Hello!")
    (step,) = client.runs.steps.list(client.runs.list(conversation_id=conversation_id).items[0].id)
    assert (step.api_model_handle, step.context_window_limit) == ("demo/steady", 7000)


def test_a_bad_update_of_a_conversation_changes_nothing(
    client: Letta, conversation_id: str
) -> None:
    before = client.conversations.retrieve(conversation_id)
    update: Any = client.conversations.update
    refused(400, lambda: update(conversation_id, summary="x", model="echo"))
    refused(422, lambda: update(conversation_id, summary="x", context_window_limit=0))
    settings = {"provider_type": "abacus"}
    refused(422, lambda: update(conversation_id, summary="x", model_settings=settings))
    assert client.conversations.retrieve(conversation_id) == before
    # A model that nobody has is seen when it is used.
    assert update(conversation_id, model="nobody/x").model == "nobody/x"
    assert "nobody/x" in refused(404, lambda: stream(client, conversation_id, user("Hello!")))


def test_what_a_fork_shares_outlives_the_conversation_it_came_from(
    client: Letta, agent_id: str
) -> None:
    source = client.conversations.create(
        agent_id=agent_id,
        summary="mine",
        model="demo/steady",
        model_settings={"provider_type": "openai", "temperature": 0.2},
    )
    talk(client, source.id, "One.")
    shared = [one.id for one in listed(client, source.id)][1:]
    fork = client.conversations.fork(source.id)
    assert (fork.model, fork.summary) == ("demo/steady", None)
    assert fork.to_dict()["model_settings"] == source.to_dict()["model_settings"]
    assert client.conversations.delete(source.id) is None
    assert listed(client, source.id) == []
    left = [one for one in listed(client, fork.id) if one.message_type != "system_message"]
    assert [one.id for one in left] == shared
    later = client.conversations.messages.list(fork.id, order="asc", after=shared[0])
    assert later.items[0].id == shared[1]
    refused(404, lambda: client.conversations.fork(source.id))


def test_a_prompt_that_is_not_there_is_not_recompiled(client: Letta, agent_id: str) -> None:
    conversation = client.conversations.create(agent_id=agent_id)
    again: Any = client.conversations.recompile
    words = again(conversation.id, compaction_settings={"mode": "all"})
    assert f"CONVERSATION_ID: {conversation.id}" in words
    assert "CONVERSATION_ID: default" in again("default", agent_id=agent_id, dry_run=True)
    refused(404, lambda: again(CONV))
    refused(404, lambda: again("default", agent_id=AGENT))
    assert "conversation_id" in refused(422, lambda: again("conv-1"))


# --- messages ---------------------------------------------------------------------------------


def test_a_listed_message_has_every_key_there_is(client: Letta, agent_id: str) -> None:
    conversation = client.conversations.create(agent_id=agent_id).id
    talk(client, conversation, "think")
    path = f"{MAIN}/{conversation}/messages?order=asc"
    found: list[dict[str, Any]] = client.get(path, cast_to=list[Any])
    common = {"id", "date", "message_type", "name", "otid", "sender_id"}
    common |= {"step_id", "is_err", "seq_id", "run_id"}
    own = {
        "system_message": {"content"},
        "user_message": {"content"},
        "reasoning_message": {"reasoning", "source", "signature"},
        "assistant_message": {"content"},
    }
    assert [one["message_type"] for one in found] == list(own)
    for one in found:
        assert common | own[one["message_type"]] <= one.keys()
        assert (one["date"][19:], one["seq_id"], one["is_err"]) == ("+00:00", None, None)
    assert found[2]["id"] == found[3]["id"]
    assert found[2]["otid"] != found[3]["otid"]


def test_the_default_conversation_lists_its_own_messages_alone(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    talk(client, conversation_id, "Elsewhere.")
    called(client, agent_id, "Here.")
    find: Any = client.conversations.messages.list
    for name, more in (("default", {"agent_id": agent_id}), (agent_id, {})):
        found = find(name, include_return_message_types=["user_message"], **more)
        assert [one.content for one in found] == ["Here."]
    assert find("default").items == find(CONV).items == []
    smoke = ["smoke_message"]
    refused(422, lambda: find(conversation_id, include_return_message_types=smoke))


def test_a_message_that_cannot_be_sent_is_refused_before_a_stream_begins(
    client: Letta, conversation_id: str
) -> None:
    send: Any = client.conversations.messages.create
    hello = [user("Hello!")]
    refused(422, lambda: send(conversation_id))
    refused(422, lambda: send(conversation_id, messages=[]))
    refused(422, lambda: send(conversation_id, messages=hello, input="Hello!"))
    refused(422, lambda: send(conversation_id, messages=[{"role": "king", "content": "x"}]))
    refused(400, lambda: send(conversation_id, messages=hello, override_model="echo"))
    refused(404, lambda: send(conversation_id, messages=hello, override_model="nobody/x"))
    refused(404, lambda: send(CONV, messages=hello))
    refused(404, lambda: send("default", messages=hello))
    assert client.runs.list(conversation_id=conversation_id).items == []
    assert kinds(listed(client, conversation_id)) == ["system_message"]


def test_a_run_ends_at_its_bound_of_steps(client: Letta) -> None:
    agent_id = counting(client)
    conversation = client.conversations.create(agent_id=agent_id).id
    frames = stream(client, conversation, user(COUNT), max_steps=1)
    assert kinds(frames) == [
        "ping",
        "tool_call_message",
        "tool_return_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert (frames[-2].stop_reason, frames[-1].step_count) == ("max_steps", 1)
    run = client.runs.retrieve(frames[0].run_id)
    assert (run.status, run.stop_reason) == ("completed", "max_steps")
    refused(422, lambda: stream(client, conversation, user(COUNT), max_steps=0))


def test_messages_of_all_roles_are_kept_in_their_order(client: Letta, conversation_id: str) -> None:
    roles = ["user", "assistant", "system", "user"]
    sent = [{"role": role, "content": f"{number}."} for number, role in enumerate(roles)]
    stream(client, conversation_id, *sent)
    found = listed(client, conversation_id)[1:-1]
    assert kinds(found) == [f"{role}_message" for role in roles]
    assert [one.content for one in found] == ["0.", "1.", "2.", "3."]


def test_a_background_request_sent_again_is_the_same_stream(
    client: Letta, conversation_id: str
) -> None:
    message = {**user("Once."), "otid": "only-once"}
    first, again = [
        [one.to_dict() for one in stream(client, conversation_id, message, background=True)]
        for _ in range(2)
    ]
    assert again == first
    assert [one["seq_id"] for one in first[:-2]] == sorted({one["seq_id"] for one in first[:-2]})
    (run,) = client.runs.list(conversation_id=conversation_id).items
    assert (run.id, run.background) == (first[0]["run_id"], True)


def test_a_stream_of_what_never_ran_is_refused(client: Letta, conversation_id: str) -> None:
    follow: Any = client.conversations.messages.stream
    assert refused(400, lambda: follow(conversation_id)).startswith("No active runs found")
    assert refused(400, lambda: follow("default")).startswith("No active runs found")
    assert "otid=lost" in refused(404, lambda: follow(conversation_id, otid="lost"))
    refused(404, lambda: follow(conversation_id, run_id=RUN))
    refused(400, lambda: follow(conversation_id, run_id="run-1"))
    refused(404, lambda: follow(CONV))
    refused(404, lambda: client.runs.messages.stream(RUN))
    refused(400, lambda: client.runs.messages.stream("run-1"))


def test_a_stream_that_fails_says_why_and_so_does_its_run(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    # More than any demo model has room for.
    long = "word " * 120_000
    send: Any = client.conversations.messages.create
    with pytest.raises(letta_client.APIStatusError) as error:
        list(send(conversation_id, input=long))
    sent: Any = error.value.body
    assert (error.value.status_code, sent["message_type"]) == (200, "error_message")
    (run,) = client.runs.list(conversation_id=conversation_id, statuses=["failed"]).items
    assert (run.id, run.stop_reason) == (sent["run_id"], "llm_api_error")
    told: Any = (run.metadata or {})["error"]
    assert (told["error_type"], told["message"]) == (sent["error_type"], sent["message"])
    # What was said is kept, whatever became of it.
    assert kinds(listed(client, conversation_id)) == ["system_message", "user_message"]
    words = refused(400, lambda: called(client, agent_id, long))
    assert words.startswith("CONTEXT_WINDOW_EXCEEDED: ")


def test_an_agent_s_own_run_is_followed_by_both_its_names(client: Letta, agent_id: str) -> None:
    sent: Any = client.conversations.messages.create(
        "default", agent_id=agent_id, messages=[{"role": "user", "content": "Hello!"}]
    )
    whole = [one.to_dict() for one in sent]
    run_id = str(whole[0]["run_id"])
    follow: Any = client.conversations.messages.stream
    for name, more in (("default", {"agent_id": agent_id}), (agent_id, {})):
        found = follow(name, run_id=run_id, batch_size=1000, poll_interval=None, **more)
        assert [one.to_dict() for one in found] == whole
    assert client.runs.retrieve(run_id).conversation_id is None


def test_a_cancel_stops_one_conversation_and_no_other(client: Letta) -> None:
    agent_id = client.agents.create(model="demo/steady").id
    one, other = [client.conversations.create(agent_id=agent_id).id for _ in range(2)]
    talking = [Talking(client, name) for name in (one, other)]
    told = client.conversations.cancel(one)
    for thread in talking:
        thread.join(30)
    assert list(told.values()) == ["cancelled"]
    assert [thread.frames[-1].message_type for thread in talking] == [
        "stop_reason",
        "usage_statistics",
    ]
    assert "No active runs to cancel" in refused(409, lambda: client.conversations.cancel(other))
    refused(409, lambda: client.conversations.cancel("default", agent_id=agent_id))
    refused(404, lambda: client.conversations.cancel("default"))
    refused(404, lambda: client.conversations.cancel(CONV))


def test_settings_of_one_compaction_are_not_the_agent_s(client: Letta) -> None:
    agent = client.agents.create(model="demo/echo", compaction_settings={"clip_chars": 60})
    conversation = client.conversations.create(agent_id=agent.id).id
    talk(client, conversation, "One.", "Two.")
    answer = client.conversations.messages.compact(
        conversation, compaction_settings={"mode": "all"}
    )
    assert (answer.num_messages_before, answer.num_messages_after) == (5, 2)
    # What was not sent is the agent's.
    assert len(answer.summary) == 60 + len("... [summary truncated to fit]")
    assert client.agents.retrieve(agent.id).compaction_settings == agent.compaction_settings
    refused(422, lambda: client.conversations.messages.compact("conv-1"))


# --- runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["retrieve", "messages.list", "usage.retrieve", "steps.list"])
def test_nothing_is_told_of_a_run_that_is_not_there(client: Letta, of: str) -> None:
    call: Any = client.runs
    for name in of.split("."):
        call = getattr(call, name)
    assert NOBODY in refused(404, lambda: call(RUN))
    assert "run-1" in refused(400, lambda: call("run-1"))


def test_a_run_has_all_that_is_told_of_runs(client: Letta, conversation_id: str) -> None:
    stream(client, conversation_id, user("Hi!"), include_return_message_types=["user_message"])
    (run,) = client.runs.list(conversation_id=conversation_id).items
    assert client.runs.retrieve(run.id) == run
    assert run.completed_at is not None
    assert run.created_at is not None
    assert run.completed_at >= run.created_at
    assert run.metadata == {"run_type": "send_conversation_message"}
    assert run.request_config is not None
    assert run.request_config.include_return_message_types == ["user_message"]
    assert (run.total_duration_ns or 0) > (run.ttft_ns or 0) > 0
    assert kinds(client.runs.messages.list(run.id)) == ["user_message"]
    refused(422, lambda: client.runs.list(limit=0))
    refused(404, lambda: client.runs.list(after=RUN))


def test_the_steps_of_a_run_add_up_to_its_usage(client: Letta) -> None:
    agent_id = counting(client)
    called(client, agent_id, COUNT)
    (run,) = client.runs.list(agent_id=agent_id).items
    newest, oldest = client.runs.steps.list(run.id)
    assert client.runs.steps.list(run.id, order="asc", limit=1).items == [oldest]
    assert client.runs.steps.list(run.id, after=newest.id).items == [oldest]
    usage = client.runs.usage.retrieve(run.id)
    steps = (newest, oldest)
    assert usage.prompt_tokens == sum(one.prompt_tokens or 0 for one in steps) > 0
    assert usage.completion_tokens == sum(one.completion_tokens or 0 for one in steps) > 0
    assert usage.total_tokens == sum(one.total_tokens or 0 for one in steps)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 0
    assert (newest.provider_name, newest.model, newest.agent_id) == ("demo", "echo", agent_id)
    refused(404, lambda: client.runs.steps.list(run.id, after=f"step-{NOBODY}"))


def test_messages_of_a_run_are_walked_in_both_orders(client: Letta) -> None:
    agent_id = counting(client)
    called(client, agent_id, COUNT)
    (run,) = client.runs.list(agent_id=agent_id).items
    forwards = list(client.runs.messages.list(run.id, limit=1))
    assert kinds(forwards) == [
        "user_message",
        "tool_call_message",
        "tool_return_message",
        "assistant_message",
    ]
    assert list(client.runs.messages.list(run.id, limit=1, order="desc")) == forwards[::-1]
    refused(404, lambda: client.runs.messages.list(run.id, after=MESSAGE))
