"""letta-client 1.12.1, unchanged, against a real server: shapes and behaviour."""

from typing import Any

import letta_client
import pytest
from letta_client import Letta
from letta_client.types import AgentState, BlockResponse, Conversation, Model


def say(client: Letta, conversation_id: str, words: str, **more: Any) -> list[Any]:
    stream: Any = client.conversations.messages.create(
        conversation_id, messages=[{"role": "user", "content": words}], **more
    )
    return list(stream)


def document(client: Letta, conversation_id: str, words: str) -> Any:
    return client.post(
        f"/v1/conversations/{conversation_id}/messages",
        body={"input": words, "streaming": False},
        cast_to=object,
    )


def kinds(frames: list[Any]) -> list[str]:
    return [frame.message_type for frame in frames]


def answer_of(frames: list[Any]) -> str:
    return "".join(one.content for one in frames if one.message_type == "assistant_message")


# --- conversations ----------------------------------------------------------------------------


def test_a_conversation_is_created_with_all_it_may_begin_with(client: Letta, agent_id: str) -> None:
    made = client.conversations.create(
        agent_id=agent_id,
        summary="plans",
        description="about plans",
        model="demo/steady",
        model_settings={"provider_type": "openai", "temperature": 0.1},
        context_window_limit=9000,
    )
    kept = client.conversations.retrieve(made.id)
    assert isinstance(made, Conversation)
    assert (made.in_context_message_ids, kept.summary, kept.model) == ([], "plans", "demo/steady")
    assert (kept.description, kept.context_window_limit) == ("about plans", 9000)
    assert kept.archived is False
    assert kept.created_at == made.created_at
    assert len(kept.in_context_message_ids or []) == 1


def test_null_in_an_update_changes_nothing(client: Letta, conversation_id: str) -> None:
    client.conversations.update(conversation_id, summary="kept")
    updated = client.conversations.update(conversation_id, summary=None, description="new")
    assert (updated.summary, updated.description) == ("kept", "new")


def test_an_archived_conversation_is_listed_only_when_asked_for(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    archived = client.conversations.update(conversation_id, archived=True)
    assert archived.archived_at is not None
    assert client.conversations.list(agent_id=agent_id) == []
    found = client.conversations.list(agent_id=agent_id, archive_status="archived")
    assert [one.id for one in found] == [conversation_id]
    assert client.conversations.update(conversation_id, archived=False).archived_at is None


@pytest.mark.parametrize("order_by", ["created_at", "last_run_completion", "last_message_at"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_conversations_follow_the_order_and_end(
    client: Letta, agent_id: str, order_by: Any, order: Any
) -> None:
    made = [client.conversations.create(agent_id=agent_id).id for _ in range(5)]
    for one in (made[3], made[1]):
        say(client, one, "hello")
    found: list[str] = []
    after: Any = letta_client.omit
    while page := client.conversations.list(
        agent_id=agent_id, limit=2, order=order, order_by=order_by, after=after
    ):
        found += [one.id for one in page]
        after = page[-1].id
    assert sorted(found) == sorted(made)
    if order_by == "created_at":
        assert found == (made if order == "asc" else made[::-1])
    else:
        spoken = [made[3], made[1]]
        assert found[:2] == (spoken if order == "asc" else spoken[::-1])


def test_summaries_are_searched_with_capitals_told_apart(client: Letta, agent_id: str) -> None:
    made = client.conversations.create(agent_id=agent_id, summary="Sailing 100%").id
    client.conversations.create(agent_id=agent_id)
    found = client.conversations.list(agent_id=agent_id, summary_search="ling 100%")
    assert [one.id for one in found] == [made]
    assert client.conversations.list(agent_id=agent_id, summary_search="sailing") == []


def test_a_deleted_conversation_is_gone_everywhere(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    say(client, conversation_id, "hello")
    run = next(iter(client.runs.list(conversation_id=conversation_id)))
    client.conversations.delete(conversation_id)
    for gone in (
        lambda: client.conversations.retrieve(conversation_id),
        lambda: client.conversations.update(conversation_id, summary="x"),
        lambda: client.conversations.delete(conversation_id),
        lambda: client.runs.retrieve(run.id),
        lambda: say(client, conversation_id, "hello?"),
    ):
        with pytest.raises(letta_client.NotFoundError):
            gone()
    assert list(client.conversations.messages.list(conversation_id)) == []
    assert client.conversations.list(agent_id=agent_id) == []


# --- messages ---------------------------------------------------------------------------------


def test_a_token_stream_adds_up_to_the_stored_message(client: Letta, conversation_id: str) -> None:
    frames = say(client, conversation_id, "hello, think", streaming=True, stream_tokens=True)
    assert kinds(frames)[0] == "ping"
    assert kinds(frames)[-2:] == ["stop_reason", "usage_statistics"]
    numbers = [one.seq_id for one in frames if getattr(one, "seq_id", None)]
    assert numbers == sorted(set(numbers))
    stored = next(
        one
        for one in client.conversations.messages.list(conversation_id)
        if one.message_type == "assistant_message"
    )
    spoken = [one for one in frames if one.message_type == "assistant_message"]
    assert answer_of(frames) == stored.content
    assert {one.id for one in spoken} == {stored.id}
    assert {one.otid for one in spoken} == {stored.otid}
    assert "reasoning_message" in kinds(frames)
    assert "demo model" in str(stored.content)


def test_a_step_stream_sends_whole_messages(client: Letta, conversation_id: str) -> None:
    frames = say(client, conversation_id, "hello, think", streaming=True)
    assert kinds(frames) == [
        "ping",
        "reasoning_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert frames[1].id == frames[2].id
    assert frames[3].stop_reason == "end_turn"
    assert frames[4].total_tokens == frames[4].prompt_tokens + frames[4].completion_tokens


def test_pings_and_types_are_left_out_when_not_wanted(client: Letta, conversation_id: str) -> None:
    frames = say(
        client,
        conversation_id,
        "hello, think",
        stream_tokens=True,
        include_pings=False,
        include_return_message_types=["reasoning_message"],
    )
    assert set(kinds(frames)) == {"reasoning_message", "stop_reason", "usage_statistics"}


def test_without_streaming_there_is_one_document(client: Letta, conversation_id: str) -> None:
    answer = document(client, conversation_id, "hello")
    assert [one["message_type"] for one in answer["messages"]] == ["assistant_message"]
    assert answer["stop_reason"] == {"message_type": "stop_reason", "stop_reason": "end_turn"}
    assert answer["usage"]["step_count"] == 1
    assert (answer["logprobs"], answer["turns"]) == (None, None)


def test_a_second_stream_is_told_which_run_is_busy(client: Letta, agent_id: str) -> None:
    slow = client.conversations.create(agent_id=agent_id, model="demo/steady").id
    first: Any = iter(
        client.conversations.messages.create(
            slow, messages=[{"role": "user", "content": "a"}], stream_tokens=True
        )
    )
    run_id = next(first).run_id
    with pytest.raises(letta_client.ConflictError) as refused:
        say(client, slow, "b")
    body: Any = refused.value.body
    assert body["run_id"] == run_id
    assert "currently being processed for this conversation" in body["detail"]
    assert refused.value.response.headers["x-should-retry"] == "false"
    waited = document(client, slow, "c")
    assert waited["stop_reason"]["stop_reason"] == "end_turn"
    assert [one.content for one in users(client, slow)] == ["a", "c"]
    list(first)


def users(client: Letta, conversation_id: str) -> list[Any]:
    listed = client.conversations.messages.list(conversation_id, order="asc")
    return [one for one in listed if one.message_type == "user_message"]


def test_what_the_client_s_types_allow_is_taken(client: Letta, conversation_id: str) -> None:
    answer: Any = client.post(
        f"/v1/conversations/{conversation_id}/messages",
        body={
            "messages": [{"role": "user", "content": [{"text": "hi", "signature": None}]}],
            "streaming": False,
            "include_pings": None,
            "max_steps": None,
        },
        cast_to=object,
    )
    assert answer["stop_reason"]["stop_reason"] == "end_turn"


def test_history_is_walked_both_ways(client: Letta, conversation_id: str) -> None:
    for number in range(4):
        say(client, conversation_id, f"{number}")
    everything = list(client.conversations.messages.list(conversation_id, order="asc", limit=3))
    assert everything[0].message_type == "system_message"
    assert len({one.id for one in everything}) == len(everything) == 9
    backwards = [one.id for one in everything[::-1]]
    paged = list(client.conversations.messages.list(conversation_id, order="desc", limit=2))
    assert [one.id for one in paged] == backwards
    walked: list[str] = []
    before: Any = letta_client.omit
    while items := client.conversations.messages.list(
        conversation_id, order="desc", limit=2, before=before
    ).items:
        walked += [one.id for one in items]
        before = items[-1].id
    assert walked == backwards
    middle = everything[4].id
    later = client.conversations.messages.list(conversation_id, order="asc", after=middle, limit=2)
    assert [one.id for one in later.items] == [one.id for one in everything[5:7]]


def test_pages_before_a_cursor_are_the_ones_just_before_it(
    client: Letta, conversation_id: str
) -> None:
    runs = [say(client, conversation_id, f"{number}")[0].run_id for number in range(4)]
    everything = [
        one.id for one in client.conversations.messages.list(conversation_id, order="asc")
    ]
    page = client.conversations.messages.list(
        conversation_id, order="asc", before=everything[6], limit=2
    )
    assert [one.id for one in page.items] == everything[4:6]
    listed = client.runs.list(conversation_id=conversation_id, order="asc", before=runs[3], limit=2)
    assert [one.id for one in listed.items] == runs[1:3]
    output = [one.id for one in client.runs.messages.list(runs[0])]
    of_run = client.runs.messages.list(runs[0], before=output[1], limit=1)
    assert [one.id for one in of_run.items] == output[:1]


def test_input_keeps_its_otid_and_its_parts(client: Letta, conversation_id: str) -> None:
    parts: Any = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    list(
        client.conversations.messages.create(
            conversation_id, messages=[{"role": "user", "content": parts, "otid": "mine"}]
        )
    )
    (stored,) = users(client, conversation_id)
    assert stored.otid == "mine"
    assert [part.text for part in stored.content] == ["one", "two"]


# --- resume -----------------------------------------------------------------------------------


def same(left: list[Any], right: list[Any]) -> bool:
    return [one.to_dict() for one in left] == [one.to_dict() for one in right]


@pytest.mark.parametrize("background", [True, False])
def test_any_run_is_resumed_from_any_number(
    client: Letta, conversation_id: str, background: Any
) -> None:
    whole = say(client, conversation_id, "think!", stream_tokens=True, background=background)
    run_id = whole[0].run_id
    for cut, frame in enumerate(whole[:-2]):
        rest = client.conversations.messages.stream(
            conversation_id, run_id=run_id, starting_after=frame.seq_id
        )
        assert same(list(rest), whole[cut + 1 :])
    assert same(list(client.runs.messages.stream(run_id, starting_after=0)), whole)


def test_a_run_under_way_is_joined_by_run_otid_or_nothing(client: Letta, agent_id: str) -> None:
    slow = client.conversations.create(agent_id=agent_id, model="demo/steady").id
    first: Any = iter(
        client.conversations.messages.create(
            slow,
            messages=[{"role": "user", "content": "a", "otid": "find-me"}],
            stream_tokens=True,
            background=True,
        )
    )
    seen: list[Any] = [next(first) for _ in range(3)]
    by_nothing = client.conversations.messages.stream(slow)
    by_otid = client.conversations.messages.stream(slow, otid="find-me")
    whole = [*seen, *first]
    assert same(list(by_nothing), whole)
    assert same(list(by_otid), whole)
    after = client.conversations.messages.stream(
        slow, otid="find-me", starting_after=whole[-3].seq_id
    )
    assert kinds(list(after)) == ["stop_reason", "usage_statistics"]


# --- runs -------------------------------------------------------------------------------------


def test_a_run_is_found_with_its_messages(client: Letta, conversation_id: str) -> None:
    run_id = say(client, conversation_id, "hello")[0].run_id
    run = client.runs.retrieve(run_id)
    assert (run.status, run.stop_reason, run.background) == ("completed", "end_turn", False)
    assert run.conversation_id == conversation_id
    assert run.completed_at is not None
    shown = list(client.runs.messages.list(run_id))
    assert kinds(shown) == ["user_message", "assistant_message"]


def test_runs_are_listed_in_pages_and_by_status(client: Letta, conversation_id: str) -> None:
    made = [say(client, conversation_id, "hello")[0].run_id for _ in range(3)]
    newest_first = list(client.runs.list(conversation_id=conversation_id, limit=2))
    assert [one.id for one in newest_first] == made[::-1]
    oldest_first = list(client.runs.list(conversation_id=conversation_id, limit=2, order="asc"))
    assert [one.id for one in oldest_first] == made
    assert list(client.runs.list(conversation_id=conversation_id, active=True)) == []
    done = client.runs.list(conversation_id=conversation_id, statuses=["completed", "failed"])
    assert len(list(done)) == 3


# --- agents, blocks, models -------------------------------------------------------------------


def test_an_agent_is_made_with_its_memory_and_shown_without(client: Letta) -> None:
    made = client.agents.create(
        name="keeper",
        model="demo/echo",
        include_base_tools=False,
        system="Keep it.",
        tags=["a", "b"],
        memory_blocks=[{"label": "human", "value": "Ada", "description": "who it is"}],
    )
    assert isinstance(made, AgentState)
    assert [one.value for one in made.blocks] == ["Ada"]
    assert (made.tags, made.llm_config.model, made.tools) == (["a", "b"], "echo", [])
    shown = client.agents.retrieve(made.id)
    assert (shown.blocks, shown.tags, shown.system) == ([], [], "Keep it.")
    filled = client.agents.retrieve(made.id, include=["agent.blocks", "agent.tags"])
    assert [one.label for one in filled.blocks] == ["human"]
    assert filled.tags == ["a", "b"]


def test_a_changed_block_is_seen_by_new_conversations_only(client: Letta) -> None:
    agent = client.agents.create(
        name="m", model="demo/echo", memory_blocks=[{"label": "human", "value": "old <value>"}]
    )
    before = client.conversations.create(agent_id=agent.id).id
    changed = client.agents.blocks.update("human", agent_id=agent.id, value="new value")
    after = client.conversations.create(agent_id=agent.id).id
    assert changed.value == "new value"
    assert client.agents.blocks.retrieve("human", agent_id=agent.id).value == "new value"

    def prompt(conversation: str) -> str:
        first = next(iter(client.conversations.messages.list(conversation, order="asc")))
        return str(getattr(first, "content", ""))

    assert "old &lt;value&gt;" in prompt(before)
    assert "new value" not in prompt(before)
    assert "new value" in prompt(after)
    assert f"CONVERSATION_ID: {after}" in prompt(after)


def test_blocks_are_attached_and_detached(client: Letta, agent_id: str) -> None:
    block = client.blocks.create(label="extra", value="x")
    assert isinstance(block, BlockResponse)
    client.agents.blocks.attach(block.id, agent_id=agent_id)
    assert [one.label for one in client.agents.blocks.list(agent_id)] == ["extra"]
    client.agents.blocks.detach(block.id, agent_id=agent_id)
    assert list(client.agents.blocks.list(agent_id)) == []
    client.blocks.delete(block.id)
    with pytest.raises(letta_client.NotFoundError):
        client.blocks.retrieve(block.id)


def test_blocks_are_listed_by_what_they_hold(client: Letta) -> None:
    made = [client.blocks.create(label="listed", value=f"value {n}").id for n in range(3)]
    assert [one.id for one in client.blocks.list(label="listed", limit=2)] == made[::-1]
    assert [one.id for one in client.blocks.list(label="listed", value_search="E 1")] == [made[1]]


def test_the_agents_of_a_block_are_listed_and_blocks_by_their_number(client: Letta) -> None:
    shared = client.blocks.create(label="shared", value="x").id
    alone = client.blocks.create(label="shared", value="y").id
    agents = [client.agents.create(model="demo/echo", block_ids=[shared]).id for _ in range(2)]
    assert [one.id for one in client.blocks.agents.list(shared, limit=1)] == agents[::-1]
    assert list(client.blocks.agents.list(alone)) == []
    filled = client.blocks.agents.list(shared, include=["agent.blocks"], order="asc")
    assert [[block.id for block in one.blocks] for one in filled] == [[shared], [shared]]
    two = client.blocks.list(label="shared", connected_to_agents_count_eq=[2])
    assert [one.id for one in two] == [shared]
    few = client.blocks.list(label="shared", connected_to_agents_count_lt=2)
    assert [one.id for one in few] == [alone]
    many = client.blocks.list(label="shared", connected_to_agents_count_gt=0)
    assert [one.id for one in many] == [shared]


def test_a_new_agent_can_write_into_its_memory(client: Letta) -> None:
    agent = client.agents.create(
        model="demo/echo", memory_blocks=[{"label": "human", "value": "Ada"}]
    )
    names = [one.name for one in agent.tools]
    assert names == ["conversation_search", "memory_insert", "memory_replace"]
    words = 'call memory_replace {"label": "human", "old_string": "Ada", "new_string": "Ida"}'
    answer = client.agents.messages.create(agent.id, input=words)
    kinds = [one.message_type for one in answer.messages]
    assert kinds == ["tool_call_message", "tool_return_message", "assistant_message"]
    assert client.agents.blocks.retrieve("human", agent_id=agent.id).value == "Ida"


def test_agents_are_listed_by_name_and_tags_and_updated(client: Letta) -> None:
    first = client.agents.create(name="Listed One", model="demo/echo", tags=["x", "y"]).id
    second = client.agents.create(name="Listed Two", model="demo/echo", tags=["x"]).id
    assert [one.id for one in client.agents.list(query_text="listed", limit=1)] == [second, first]
    both = client.agents.list(tags=["x", "y"], match_all_tags=True, query_text="Listed")
    assert [one.id for one in both] == [first]
    renamed = client.agents.update(first, name="Renamed", description="new")
    assert (renamed.name, renamed.description) == ("Renamed", "new")
    assert [one.id for one in client.agents.list(name="Renamed")] == [first]


def test_an_agent_takes_its_conversations_with_it(client: Letta) -> None:
    agent = client.agents.create(name="gone", model="demo/echo").id
    conversation = client.conversations.create(agent_id=agent).id
    client.agents.delete(agent)
    for gone in (
        lambda: client.agents.retrieve(agent),
        lambda: client.agents.delete(agent),
        lambda: client.conversations.retrieve(conversation),
        lambda: client.conversations.create(agent_id=agent),
    ):
        with pytest.raises(letta_client.NotFoundError):
            gone()


def test_models_and_health_are_there(client: Letta) -> None:
    models = client.models.list()
    assert all(isinstance(one, Model) for one in models)
    assert {"demo/echo", "demo/steady"} <= {one.handle for one in models}
    assert list(client.models.embeddings.list()) == []
    assert client.health().status == "ok"
