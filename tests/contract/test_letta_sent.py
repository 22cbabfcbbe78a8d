"""letta-client 1.12.1, unchanged: what a model is sent is what is shown, however it is addressed."""

import json
from typing import Any, get_args

import pytest
from letta_client import Letta

from tests.contract.sent import MODEL, Mode, Talk, Way, prompt_of, said_in, sent_in, talk_of
from tests.vendor import Vendor
from tests.whole.server import Server

LONG = "Tell me of the harbour, of 12 boats, and of the 3 men who came on 2026-03-04. " * 4
LOOK: Any = [{"name": "look", "parameters": {"type": "object", "properties": {}}}]
BLOCKS: Any = [{"label": "human", "value": "Ada"}, {"label": "plan", "value": "Sail."}]
MODES: Any = ("all", "sliding_window", "self_compact_all", "self_compact_sliding_window")


@pytest.fixture(params=get_args(Way))
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
def talk(way: Way, sending: Letta, vendor: Vendor) -> Talk:
    return talk_of(sending, vendor, way, memory_blocks=BLOCKS, tools=["demo_count"])


@pytest.mark.parametrize("mode", get_args(Mode))
def test_the_first_message_brings_the_prompt_that_was_shown_before_it(
    talk: Talk, mode: Mode
) -> None:
    sent = talk.tells(mode=mode)
    assert "Ada" in prompt_of(sent)
    assert "demo_count" in [one["name"] for one in sent["tools"]]
    again = talk.tells('[[call:demo_count:{"text": "one two"}]]', mode=mode)
    assert len(sent_in(again)) == 3
    assert [one[1] for one in sent_in(talk.tells(mode=mode))][2:5] == ["text", "call", "return"]


def test_a_prompt_is_sent_as_it_was_last_compiled(talk: Talk) -> None:
    client, agent_id = talk.client, talk.agent_id
    extra = client.blocks.create(label="extra", value="Bring rope.")
    talk.tells()
    compiled = ""
    for change in (
        lambda: client.agents.blocks.update("human", agent_id=agent_id, value="Grace"),
        lambda: client.agents.update(agent_id, system="You are a pilot."),
        lambda: client.agents.blocks.attach(extra.id, agent_id=agent_id),
        lambda: client.agents.blocks.detach(extra.id, agent_id=agent_id),
    ):
        change()
        told = prompt_of(talk.tells())
        before, compiled = compiled, recompiled(talk)
        assert told == (compiled if talk.own else before or told)
        talk.check_shown()
    assert prompt_of(talk.tells()) == compiled
    assert compiled.startswith("You are a pilot.")
    assert "Grace" in compiled
    assert "Bring" not in compiled


def test_a_block_that_is_changed_by_itself_is_sent_from_the_next_compiling_on(talk: Talk) -> None:
    (block,) = [one for one in talk.client.agents.blocks.list(talk.agent_id) if one.label == "plan"]
    talk.tells()
    talk.client.blocks.update(block.id, value="Row.")
    assert "Sail." in prompt_of(talk.tells())
    compiled = recompiled(talk)
    assert "Row." in compiled
    assert prompt_of(talk.tells()) == compiled


def test_what_was_said_is_found_where_it_was_said(talk: Talk) -> None:
    talk.tells("[[text:Cormorants.]]")
    path = f"{talk.root}/search"
    (mine, reply) = talk.get(path, **talk.owner, q="cormorants")["hits"]
    assert {mine["role"], reply["role"]} == {"user", "assistant"}


def recompiled(talk: Talk) -> str:
    """Have a prompt compiled anew; the client gives it as JSON."""
    compiled = talk.client.conversations.recompile(talk.conversation_id, **talk.owner)
    return json.loads(compiled)


def test_after_a_reset_nothing_is_sent_but_the_prompt(talk: Talk) -> None:
    talk.tells()
    talk.client.agents.messages.reset(talk.agent_id, add_default_initial_messages=False)
    sent = talk.tells("[[text:Who?]]")
    assert len(sent_in(sent)) == (1 if talk.own else 3)


def test_a_forgetful_agent_is_sent_each_turn_alone(
    sending: Letta, vendor: Vendor, way: Way
) -> None:
    talk = talk_of(sending, vendor, way, message_buffer_autoclear=True)
    for words in ("[[text:One.]]", "[[text:Two.]]"):
        talk.check_shown()
        talk.say(words)
        assert sent_in(vendor.bodies[-1]) == [("user", "text", words)]
        assert prompt_of(vendor.bodies[-1]) == talk.listed()[0].content


def test_a_block_that_the_model_edits_is_shown_as_it_is_sent(talk: Talk) -> None:
    edit = '{"label": "human", "new_string": "Likes tea."}'
    talk.tells(f"[[call:memory_insert:{edit}]]")
    talk.tells()
    recompiled(talk)
    assert "Likes tea." in prompt_of(talk.tells())


def test_a_compacted_window_is_sent_as_it_is_shown(talk: Talk) -> None:
    for mode in MODES:
        for _ in range(3):
            talk.say(LONG)
        settings: Any = {"mode": mode, "model": MODEL}
        done = talk.client.conversations.messages.compact(
            talk.conversation_id, **talk.owner, compaction_settings=settings
        )
        sent = talk.tells()
        assert done.summary in sent_in(sent)[0][2]
        assert len(talk.window()["messages"]) == done.num_messages_after + 1


def test_what_an_undone_compaction_evicted_is_sent_again(talk: Talk) -> None:
    for _ in range(3):
        talk.say(LONG)
    whole = said_in(talk.window()["messages"])
    settings: Any = {"mode": "all", "model": MODEL}
    talk.client.conversations.messages.compact(
        talk.conversation_id, **talk.owner, compaction_settings=settings
    )
    (made,) = talk.get(f"{talk.root}/compactions", **talk.owner)
    for turn, length in (("undo", len(whole)), ("redo", 1)):
        talk.check_shown()
        path = f"{talk.root}/compactions/{made['compaction_id']}/{turn}"
        talk.client.post(path, cast_to=object, options={"params": talk.owner})
        assert len(talk.window()["messages"]) == length
    sent = talk.tells()
    assert len(sent_in(sent)) == 2


def test_a_fork_is_sent_what_its_parent_had_said(talk: Talk, vendor: Vendor) -> None:
    talk.tells("[[text:One.]]")
    made = talk.client.conversations.fork(talk.conversation_id, **talk.owner)
    fork = Talk(talk.client, vendor, talk.agent_id, made.id, {})
    talk.tells("[[text:Two.]]")
    assert len(sent_in(fork.tells())) == 3
    assert len(sent_in(talk.tells())) == 5


def test_calls_that_wait_for_the_client_are_sent_with_their_answers(talk: Talk) -> None:
    talk.tells("[[call:look:{}]]", client_tools=LOOK)
    talk.check_shown()
    window = talk.window()
    (call,) = [one[2] for one in said_in(window["messages"]) if one[1] == "call"]
    count = len(talk.vendor.replied)
    returned = {"type": "tool", "tool_call_id": call, "tool_return": "Fog.", "status": "success"}
    answers = [{"type": "approval", "approvals": [returned]}]
    talk.say("", messages=answers, client_tools=LOOK)
    sent = talk.vendor.replied[count].body
    assert sent_in(sent) == [*said_in(window["messages"]), ("tool", "return", f"{call}: Fog.")]
    talk.check_requests(count)
    talk.tells()


def test_what_was_said_before_a_cancel_is_sent_as_it_is_shown(talk: Talk) -> None:
    body: Any = {"messages": [{"role": "user", "content": "[[silence:2]] [[text:Half a word.]]"}]}
    create: Any = talk.client.conversations.messages.create
    stream = create(talk.conversation_id, **talk.owner, **body, stream_tokens=True)
    assert any(one.message_type == "assistant_message" for one in stream)  # "Half": it has begun
    told = talk.client.conversations.cancel(talk.conversation_id, **talk.owner)
    assert list(told.values()) == ["cancelled"]
    stream.response.close()
    talk.tells()


def test_after_a_restart_the_same_is_sent(sending: Letta, vendor: Vendor, sender: Server) -> None:
    talks = [talk_of(sending, vendor, way, memory_blocks=BLOCKS) for way in get_args(Way)]
    for talk in talks:
        talk.tells()
    before = [(one.window(), one.context(), one.listed()) for one in talks]
    assert sender.stop() == 0
    sender.start()
    assert [(one.window(), one.context(), one.listed()) for one in talks] == before
    for talk in talks:
        talk.tells()
