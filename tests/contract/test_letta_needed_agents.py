"""letta-client 1.12.1, unchanged: agents, their messages, their memory; what is refused of each."""

from typing import Any, Literal

import letta_client
import pytest
from letta_client import Letta
from letta_client.types import AgentState, BlockResponse

from tests.contract.test_letta_compaction import listed, talk
from tests.contract.test_letta_needed import (
    AGENT,
    BLOCK,
    CONV,
    MESSAGE,
    PASSAGE,
    called,
    kinds,
    refused,
)
from tests.contract.test_letta_runs import Talking, user

# --- agents -----------------------------------------------------------------------------------


def test_an_agent_that_cannot_be_is_not_made(client: Letta) -> None:
    make: Any = client.agents.create
    name = "Impossible"
    assert "model is required" in refused(400, lambda: make(name=name))
    assert "provider/model" in refused(400, lambda: make(name=name, model="echo"))
    assert "nobody/x" in refused(404, lambda: make(name=name, model="nobody/x"))
    refused(404, lambda: make(name=name, model="demo/echo", block_ids=[BLOCK]))
    refused(404, lambda: make(name=name, model="demo/echo", tools=["hammer"]))
    twice = [{"label": "a", "value": ""}] * 2
    refused(409, lambda: make(name=name, model="demo/echo", memory_blocks=twice))
    assert client.agents.list(name=name).items == []


def test_an_agent_is_made_with_all_that_was_asked_for(client: Letta) -> None:
    block = client.blocks.create(label="shared", value="x")
    made = client.agents.create(
        model="demo/echo",
        description="It counts.",
        system="Count.",
        block_ids=[block.id],
        memory_blocks=[{"label": "human", "value": "Ada", "limit": 50, "read_only": True}],
        tools=["demo_count"],
        tool_rules=[{"type": "requires_approval", "tool_name": "demo_count"}],
        context_window_limit=9000,
        model_settings={"provider_type": "openai", "temperature": 0.3},
        message_buffer_autoclear=False,
        metadata={"a": 1},
        timezone="Europe/Berlin",
    )
    assert isinstance(made, AgentState)
    assert made.name
    assert (made.agent_type, made.llm_config.context_window) == ("letta_v1_agent", 9000)
    assert (made.description, made.system, made.metadata) == ("It counts.", "Count.", {"a": 1})
    assert {one.label for one in made.blocks} == {"shared", "human"}
    assert {one.label for one in made.memory.blocks} == {"shared", "human"}
    human = next(one for one in made.blocks if one.label == "human")
    assert (human.value, human.limit, human.read_only) == ("Ada", 50, True)
    assert "demo_count" in [one.name for one in made.tools]
    everything: Any = ["agent.blocks", "agent.tags", "agent.tools"]
    kept = client.agents.retrieve(made.id, include=everything)
    assert kept == made
    assert client.agents.retrieve(made.id).tools == []


def test_agents_are_walked_in_pages_either_way(client: Letta) -> None:
    made = [client.agents.create(model="demo/echo", tags=["walked"]).id for _ in range(5)]
    found: Any = client.agents.list
    assert [one.id for one in found(tags=["walked"], limit=2)] == made[::-1]
    assert [one.id for one in found(tags=["walked"], limit=2, order="asc")] == made
    before = found(tags=["walked"], order="asc", before=made[3], limit=2).items
    assert [one.id for one in before] == made[1:3]
    (filled,) = found(tags=["walked"], after=made[1], include=["agent.tags"]).items
    assert (filled.id, filled.tags, filled.tools) == (made[0], ["walked"], [])
    refused(404, lambda: found(after=AGENT))
    refused(422, lambda: found(order="up"))
    refused(422, lambda: found(include=["agent.dreams"]))


def test_an_update_of_an_agent_changes_what_was_sent(client: Letta) -> None:
    made = client.agents.create(
        model="demo/echo", description="old", tags=["a"], context_window_limit=9000
    )
    block = client.blocks.create(label="late", value="x")
    updated = client.agents.update(
        made.id, system="New.", model="demo/steady", block_ids=[block.id], metadata={"b": 2}
    )
    assert (updated.name, updated.description, updated.tags) == (made.name, "old", ["a"])
    assert (updated.system, updated.model, updated.metadata) == ("New.", "demo/steady", {"b": 2})
    assert [one.id for one in updated.blocks] == [block.id]
    assert updated.llm_config.context_window == 9000
    again = client.conversations.create(agent_id=made.id)
    prompt: Any = listed(client, again.id)[0]
    assert prompt.content.startswith("New.")


def test_a_bad_update_of_an_agent_changes_nothing(client: Letta, agent_id: str) -> None:
    before = client.agents.retrieve(agent_id)
    update: Any = client.agents.update
    refused(400, lambda: update(agent_id, name="x", model="echo"))
    refused(404, lambda: update(agent_id, name="x", model="nobody/x"))
    refused(404, lambda: update(agent_id, name="x", block_ids=[BLOCK]))
    refused(422, lambda: update(agent_id, name=""))
    assert client.agents.retrieve(agent_id) == before
    for call in (client.agents.retrieve, update, client.agents.delete):
        refused(404, lambda c=call: c(AGENT))
        refused(422, lambda c=call: c("agent-1"))


def test_a_deleted_agent_says_so_and_is_listed_no_more(client: Letta) -> None:
    made = client.agents.create(name="Short-lived", model="demo/echo").id
    assert client.agents.delete(made) == {"message": f"Agent id={made} successfully deleted"}
    assert client.agents.list(name="Short-lived").items == []
    refused(404, lambda: client.agents.delete(made))


# --- messages of agents -----------------------------------------------------------------------


def test_an_agent_s_stream_is_one_whatever_is_asked_for(client: Letta, agent_id: str) -> None:
    messages: Any = client.agents.messages

    def told(agent_id: str, **body: Any) -> list[Any]:
        with pytest.deprecated_call():
            return list(messages.stream(agent_id, **body))

    whole = told(agent_id, messages=[user("Hello, think.")])
    assert kinds(whole)[1:] == [
        "reasoning_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    tokens = told(agent_id, input="Hello!", stream_tokens=True, include_pings=False)
    assert kinds(tokens)[:2] == ["assistant_message"] * 2
    assert tokens[0].id == tokens[1].id
    refused(422, lambda: told(agent_id))
    refused(404, lambda: told(AGENT, input="Hello!"))


def test_what_only_a_stream_can_do_is_refused_without_one(client: Letta, agent_id: str) -> None:
    for mode in ({"stream_tokens": True}, {"background": True}, {"include_pings": False}):
        refused(422, lambda m=mode: called(client, agent_id, "Hello!", **m))
    refused(404, lambda: called(client, AGENT, "Hello!"))
    refused(404, lambda: called(client, agent_id, "Hello!", override_model="nobody/x"))
    assert client.runs.list(agent_id=agent_id).items == []


def test_a_document_shows_the_types_that_were_asked_for(client: Letta, agent_id: str) -> None:
    answer = called(client, agent_id, "think", include_return_message_types=["reasoning_message"])
    assert kinds(answer.messages) == ["reasoning_message"]
    assert answer.stop_reason.stop_reason == "end_turn"
    assert kinds(listed(client, agent_id))[-1] == "assistant_message"


def test_who_waits_for_approval_says_for_which(client: Letta, agent_id: str) -> None:
    look = [{"name": "look"}]
    asked = called(client, agent_id, "call look {}", client_tools=look).messages[-1]
    with pytest.raises(letta_client.ConflictError) as error:
        called(client, agent_id, "Hello?")
    body: Any = error.value.body
    assert body["detail"]["code"] == "PENDING_APPROVAL"
    assert body["detail"]["pending_request_id"] == asked.id
    assert "waiting for approval" in body["detail"]["message"]
    denial = {"type": "approval", "tool_call_id": asked.tool_call.tool_call_id, "approve": False}
    create: Any = client.agents.messages.create
    answers = [{"type": "approval", "approvals": [denial]}]
    answer = create(agent_id, messages=answers, client_tools=look)
    assert kinds(answer.messages) == ["tool_return_message", "assistant_message"]
    assert answer.messages[0].status == "error"


def test_a_message_is_answered_in_the_background_once(client: Letta, agent_id: str) -> None:
    message: Any = {**user("Once."), "otid": "async-once"}
    first, again = [
        client.agents.messages.create_async(agent_id, messages=[message]) for _ in range(2)
    ]
    assert first.id == again.id
    assert kinds(client.runs.messages.stream(first.id))[-1] == "usage_statistics"
    assert kinds(listed(client, agent_id)) == [
        "system_message",
        "user_message",
        "assistant_message",
    ]
    refused(404, lambda: client.agents.messages.create_async(AGENT, messages=[message]))
    refused(422, lambda: client.agents.messages.create_async(agent_id))


def test_messages_of_agents_are_listed_by_type_and_their_own_cursors(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    called(client, agent_id, "One.")
    talk(client, conversation_id, "Two.")
    found: Any = client.agents.messages.list
    asked = found(agent_id, include_return_message_types=["user_message"], order="asc")
    assert [one.content for one in asked] == ["One.", "Two."]
    refused(404, lambda: found(AGENT))
    refused(404, lambda: found(agent_id, before=MESSAGE))
    refused(404, lambda: found(agent_id, conversation_id=CONV))
    other = client.agents.create(model="demo/echo").id
    refused(404, lambda: found(other, conversation_id=conversation_id))


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_paging_through_an_agent_that_nobody_has_written_to_ends_after_its_prompt(
    client: Letta, order: Literal["asc", "desc"]
) -> None:
    agent = client.agents.create(name="new", model="demo/echo")
    listed = client.agents.messages.list(agent.id, order=order, limit=1)
    assert [one.message_type for one in listed] == ["system_message"]


def test_an_agent_s_cancel_stops_what_runs_in_its_own_conversation(client: Letta) -> None:
    agent_id = client.agents.create(model="demo/steady").id
    talking = Talking(client, agent_id)
    told = client.agents.messages.cancel(agent_id)
    talking.join(30)
    (run,) = client.runs.list(agent_id=agent_id).items
    assert told == {run.id: "cancelled"}
    assert (run.status, talking.frames[-1].stop_reason) == ("cancelled", "cancelled")
    # Of a run that is over nothing is left to stop: it says what it always said.
    assert client.agents.messages.cancel(agent_id, run_ids=[run.id]) == {run.id: "cancelled"}
    refused(404, lambda: client.agents.messages.cancel(AGENT))
    refused(404, lambda: client.agents.messages.cancel(AGENT, run_ids=[run.id]))


def test_a_reset_compiles_the_prompt_anew(client: Letta) -> None:
    agent = client.agents.create(
        model="demo/echo", memory_blocks=[{"label": "human", "value": "Ada"}]
    )
    called(client, agent.id, "Hello!")
    client.agents.blocks.update("human", agent_id=agent.id, value="Ida")
    client.agents.messages.reset(agent.id, add_default_initial_messages=False)
    (prompt,) = [*client.agents.messages.list(agent.id)]
    assert "Ida" in str(getattr(prompt, "content", ""))
    assert called(client, agent.id, "Hello?").stop_reason.stop_reason == "end_turn"
    refused(404, lambda: client.agents.messages.reset(AGENT))
    path = f"/v1/agents/{agent.id}/reset-messages"
    refused(422, lambda: client.patch(path, cast_to=object))


# --- memory -----------------------------------------------------------------------------------


def remembering(client: Letta) -> str:
    blocks: Any = [{"label": label, "value": label.upper()} for label in ("human", "plan")]
    return client.agents.create(model="demo/echo", memory_blocks=blocks).id


def test_an_agent_s_blocks_are_listed_in_pages(client: Letta) -> None:
    agent_id = remembering(client)
    found: Any = client.agents.blocks.list
    assert [one.label for one in found(agent_id, order="asc", limit=1)] == ["human", "plan"]
    newest, oldest = found(agent_id).items
    assert isinstance(newest, BlockResponse)
    assert (newest.label, oldest.label) == ("plan", "human")
    assert (newest.value, newest.limit, newest.read_only) == ("PLAN", 100_000, False)
    assert found(agent_id, after=newest.id).items == [oldest]
    refused(404, lambda: found(AGENT))
    refused(404, lambda: found(agent_id, after=BLOCK))


def test_everything_about_an_agent_s_block_is_changed_by_its_label(client: Letta) -> None:
    agent_id = remembering(client)
    changes: dict[str, Any] = {
        "value": "new",
        "limit": 500,
        "description": "who it is",
        "read_only": True,
        "metadata": {"a": 1},
        "tags": ["x"],
    }
    changed = client.agents.blocks.update("human", agent_id=agent_id, **changes)
    assert {name: getattr(changed, name) for name in changes} == changes
    renamed: Any = client.agents.blocks.update
    moved = renamed("human", agent_id=agent_id, extra_body={"label": "person"})
    assert (moved.id, moved.value) == (changed.id, "new")
    assert client.agents.blocks.retrieve("person", agent_id=agent_id) == moved
    assert "human" in refused(
        404, lambda: client.agents.blocks.retrieve("human", agent_id=agent_id)
    )
    assert "nothing" in refused(404, lambda: renamed("nothing", agent_id=agent_id, value="x"))
    refused(404, lambda: renamed("plan", agent_id=AGENT, value="x"))
    refused(422, lambda: renamed("plan", agent_id=agent_id, limit=0))
    refused(409, lambda: renamed("plan", agent_id=agent_id, extra_body={"label": "person"}))


def test_a_changed_block_is_in_the_prompt_of_its_agent_s_own_conversation(client: Letta) -> None:
    agent_id = remembering(client)
    other = client.conversations.create(agent_id=agent_id).id
    called(client, agent_id, "Hello!")
    before = listed(client, agent_id)[0]
    client.agents.blocks.update("human", agent_id=agent_id, value="Grace Hopper")
    after = listed(client, agent_id)[0]
    assert after.id == before.id
    assert "Grace Hopper" in after.content
    assert "Grace Hopper" not in listed(client, other)[0].content
    # The demo tells how long a prompt it was given.
    answer = called(client, agent_id, "And now?").messages[-1].content
    assert f" {len(after.content)} characters of system prompt" in answer


def test_what_cannot_be_attached_is_refused(client: Letta) -> None:
    agent_id = remembering(client)
    extra = client.blocks.create(label="extra", value="x").id
    attached = client.agents.blocks.attach(extra, agent_id=agent_id)
    assert {one.label for one in attached.blocks} == {"human", "plan", "extra"}
    detached = client.agents.blocks.detach(extra, agent_id=agent_id)
    assert isinstance(detached, AgentState)
    assert {one.label for one in detached.blocks} == {"human", "plan"}
    assert client.blocks.retrieve(extra).value == "x"
    taken = client.blocks.create(label="plan", value="y").id
    refused(409, lambda: client.agents.blocks.attach(taken, agent_id=agent_id))
    refused(404, lambda: client.agents.blocks.attach(BLOCK, agent_id=agent_id))
    refused(404, lambda: client.agents.blocks.attach(extra, agent_id=AGENT))
    refused(404, lambda: client.agents.blocks.detach(BLOCK, agent_id=agent_id))


def test_a_block_is_made_changed_listed_and_deleted(client: Letta) -> None:
    made = client.blocks.create(
        label="single", value="x", description="one", limit=90, tags=["t"], metadata={"a": 1}
    )
    assert made.id.startswith("block-")
    assert client.blocks.retrieve(made.id) == made
    changed = client.blocks.update(made.id, value="y", tags=["u"])
    assert (changed.value, changed.tags, changed.limit, changed.description) == (
        "y",
        ["u"],
        90,
        "one",
    )
    assert [one.id for one in client.blocks.list(label="single", tags=["u"])] == [made.id]
    assert client.blocks.list(label="single", tags=["t"]).items == []
    assert [one.id for one in client.blocks.list(label_search="ingl")] == [made.id]
    client.blocks.delete(made.id)
    assert client.blocks.list(label="single").items == []
    for call in (client.blocks.retrieve, client.blocks.update, client.blocks.delete):
        refused(404, lambda c=call: c(made.id))
        refused(422, lambda c=call: c("block-1"))
    new: Any = client.blocks.create
    refused(422, lambda: new(label="", value="x"))
    refused(422, lambda: new(label="single", value="x", limit=-1))
    refused(404, lambda: client.blocks.list(after=BLOCK))


def test_passages_are_found_by_when_they_date_from(client: Letta, agent_id: str) -> None:
    for day in (1, 2, 3):
        client.agents.passages.create(
            agent_id, text=f"Coal came, day {day}.", created_at=f"2026-01-0{day}T12:00:00Z"
        )
    first, second, third = client.agents.passages.list(agent_id)
    assert client.agents.passages.list(agent_id, before=third.id, limit=1) == [second]
    assert client.agents.passages.list(agent_id, ascending=False, limit=1) == [third]
    look: Any = client.agents.passages.search
    found = look(
        agent_id,
        query="coal",
        start_datetime="2026-01-02T00:00:00Z",
        end_datetime="2026-01-02T23:00:00Z",
    )
    assert [one.content for one in found.results] == [second.text]
    assert found.results[0].timestamp
    assert first.created_at is not None
    assert first.created_at.isoformat() == "2026-01-01T12:00:00+00:00"
    refused(404, lambda: look(AGENT, query="coal"))
    refused(422, lambda: look(agent_id, query="coal", start_datetime="soon"))
    refused(422, lambda: look(agent_id, query="coal", tag_match_mode="some"))
    refused(404, lambda: client.agents.passages.list(agent_id, after=PASSAGE))
    refused(404, lambda: client.agents.passages.delete(PASSAGE, agent_id=agent_id))
    refused(404, lambda: client.agents.passages.create(AGENT, text="x"))


# --- the server -------------------------------------------------------------------------------


def test_models_are_listed_by_provider_and_health_names_its_version(client: Letta) -> None:
    find: Any = client.models.list
    models = find(provider_type="demo", provider_category=["base"])
    assert {one.handle for one in models} == {"demo/echo", "demo/steady"}
    assert {one.api_model_type for one in models} == {"llm"}
    assert all(one.display_name for one in models)
    assert find(provider_name="demo") == models
    assert find(provider_category=["byok"]) == []
    assert client.health().version
    refused(422, lambda: find(provider_name="x" * 2000))


def test_a_message_of_a_deleted_conversation_is_gone_with_it(
    client: Letta, conversation_id: str
) -> None:
    talk(client, conversation_id, "think")
    found = listed(client, conversation_id)
    assert kinds(client.messages.retrieve(found[-1].id)) == [
        "reasoning_message",
        "assistant_message",
    ]
    client.conversations.delete(conversation_id)
    refused(404, lambda: client.messages.retrieve(found[-1].id))
