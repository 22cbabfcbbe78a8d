"""What the messages of an agent's file mean, and what is wrong with a file."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.content import Base64Source, Image, Text
from domain.conversation import SaidMessage, SaidReply
from domain.sleeptime import FREQUENCY_MAX, MAX_STEPS_MAX, Sleeptime
from projections.agent_file import BadFile, FileMessage, FileSleeptime, agent_file
from projections.agent_file_parts import NO_PICTURE, LeftOut
from projections.agent_file_reading import Told, told_by
from tests.agent_files import BLOCK, agent, call, file, ids, message, prompt, returned

PACKED = '{"type": "system_alert", "message": "The following is a summary of the previous messages:\\n They met."}'


def read(*messages: dict[str, Any], window: list[str] | None = None) -> tuple[Told, list[str]]:
    left_out = LeftOut()
    listed = [FileMessage.model_validate(one) for one in messages]
    return told_by(listed, window, "agents[0]", left_out), left_out.told


def reply_of(told: Told, place: int = 0) -> SaidReply:
    said = told.said[place]
    assert isinstance(said, SaidReply)
    return said


def words_of(told: Told) -> list[Any]:
    return [one.content for one in told.said if isinstance(one, SaidMessage)]


# --- settings ---------------------------------------------------------------------------------


@given(
    st.builds(
        Sleeptime,
        frequency=st.integers(1, FREQUENCY_MAX),
        after_compaction=st.booleans(),
        block_label=st.none() | st.text(min_size=1, max_size=256),
        max_steps=st.integers(1, MAX_STEPS_MAX),
        require_acceptance=st.booleans(),
        model=st.none() | st.text(max_size=256),
    )
)
def test_how_memory_is_consolidated_is_read_back_as_it_was_written(settings: Sleeptime) -> None:
    read = FileSleeptime.model_validate_json(settings.model_dump_json())
    assert Sleeptime(**read.model_dump()) == settings


# --- messages ---------------------------------------------------------------------------------


def test_the_compiled_prompt_is_no_message_and_a_later_note_of_the_system_is() -> None:
    told, left_out = read(prompt(), message(1, "user", "Hello!"), message(2, "system", "Be brief."))
    assert [(one.role, one.content) for one in told.said if isinstance(one, SaidMessage)] == [
        ("user", "Hello!"),
        ("system", "Be brief."),
    ]
    assert left_out == []


def test_a_message_keeps_its_date_and_its_otid() -> None:
    (said,) = read(message(61, "user", "Hello!", otid="mine"))[0].said
    assert isinstance(said, SaidMessage)
    assert said.otid == "mine"
    assert said.said_at is not None
    assert said.said_at.isoformat() == "2025-03-01T09:01:01+00:00"


def test_a_date_without_a_zone_is_in_utc() -> None:
    (said,) = read(message(1, "user", "Hello!", created_at="2024-05-01T10:00:00"))[0].said
    assert said.said_at is not None
    assert said.said_at.isoformat() == "2024-05-01T10:00:00+00:00"


def test_thoughts_and_words_are_a_reply_in_their_order() -> None:
    content = [
        {"type": "reasoning", "reasoning": "Hm.", "signature": "s1", "is_native": True},
        {"type": "redacted_reasoning", "data": "x"},
        {"type": "text", "text": "Yes."},
    ]
    told, left_out = read(message(1, "assistant", content=content))
    parts = reply_of(told).parts
    assert [(one.kind, one.text, one.signature) for one in parts] == [
        ("reasoning", "Hm.", "s1"),
        ("redacted", "x", None),
        ("text", "Yes.", None),
    ]
    assert left_out == []


def test_pictures_come_along_and_one_that_is_elsewhere_is_named() -> None:
    data = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    content = [
        {"type": "text", "text": "See:"},
        {"type": "image", "source": data},
        {"type": "image", "source": {"type": "letta", "file_id": "file-1"}},
    ]
    told, left_out = read(message(1, "user", content=content))
    assert words_of(told) == [
        (
            Text(text="See:"),
            Image(source=Base64Source(media_type="image/png", data="aGk=")),
            Text(text=NO_PICTURE),
        )
    ]
    assert left_out == [
        "agents[0].messages[0].content[2]: a picture that is not in the file itself"
    ]


def test_a_reply_that_broke_off_is_one_here_too() -> None:
    told, _ = read(message(1, "assistant", "I wa", everlog={"interrupted": True}))
    assert reply_of(told).interrupted


# --- calls ------------------------------------------------------------------------------------


def test_a_call_has_its_return_though_others_spoke_in_between() -> None:
    told, left_out = read(
        message(1, "assistant", "Let me see.", tool_calls=[call("c1", arguments='{"at":"Ulm"}')]),
        message(2, "user", "Are you there?"),
        message(3, "tool", tool_returns=[returned("c1", status="error")]),
    )
    (back,) = reply_of(told).returns
    assert (back.tool_call_id, back.content, back.status) == ("c1", "18 C", "error")
    assert [one.kind for one in reply_of(told).parts] == ["text", "call"]
    assert (told.unreturned, left_out) == (0, [])


def test_the_return_of_an_older_file_is_its_messages_content() -> None:
    told, _ = read(
        message(1, "assistant", tool_calls=[call("c1")]),
        message(2, "tool", "18 C", tool_call_id="c1"),
    )
    assert [one.content for one in reply_of(told).returns] == ["18 C"]


def test_a_call_that_waited_for_the_client_waited_here_and_its_answer_is_not_told_twice() -> None:
    told, left_out = read(
        message(1, "approval", tool_calls=[call("c1")]),
        message(2, "approval", approvals=[returned("c1", "from the client")]),
        message(3, "tool", tool_returns=[returned("c1", "18 C")]),
    )
    reply = reply_of(told)
    assert [part.call is not None and part.call.gated for part in reply.parts] == [True]
    assert [one.content for one in reply.returns] == ["18 C"]
    assert left_out == []


@pytest.mark.parametrize(
    ("approve", "status", "source"), [(True, "ok", "server"), (False, "denied", None)]
)
def test_a_clients_word_on_a_call_is_kept(approve: bool, status: str, source: str | None) -> None:
    told, _ = read(
        message(1, "approval", tool_calls=[call("c1")]),
        message(2, "approval", approvals=[{"tool_call_id": "c1", "approve": approve}]),
        message(3, "tool", tool_returns=[returned("c1")]),
    )
    (back,) = reply_of(told).returns
    assert (back.status, back.source) == (status, source)


def test_a_denial_without_a_tools_message_is_the_return() -> None:
    told, _ = read(
        message(1, "approval", tool_calls=[call("c1")]),
        message(
            2, "approval", approvals=[{"tool_call_id": "c1", "approve": False, "reason": "no"}]
        ),
    )
    (back,) = reply_of(told).returns
    text = "Error: request to call tool denied. User reason: no"
    assert (back.status, back.content) == ("denied", text)


def test_returns_that_nobody_asked_for_and_second_ones_are_named() -> None:
    told, left_out = read(
        message(1, "tool", tool_returns=[returned("c0")]),
        message(2, "assistant", tool_calls=[call("c1"), call("c2")]),
        message(3, "tool", tool_returns=[returned("c1"), returned("c1", "again")]),
    )
    assert [one.content for one in reply_of(told).returns] == ["18 C"]
    assert told.unreturned == 1
    assert left_out == [
        "agents[0].messages[0]: a return of 'c0', which no reply before it calls",
        "agents[0].messages[2]: a second return of 'c1'",
        "agents[0].messages: 1 tool calls have no return; each is closed with one that says so",
    ]


def test_what_is_left_out_is_told_up_to_a_bound_and_then_counted() -> None:
    orphans = [message(n, "tool", tool_returns=[returned(f"c{n}")]) for n in range(150)]
    _, left_out = read(*orphans)
    assert len(left_out) == 101
    assert left_out[-1] == "and 50 more"


# --- the window -------------------------------------------------------------------------------


def test_what_is_not_in_the_window_is_evicted_and_its_summary_is_known() -> None:
    told, _ = read(
        prompt(),
        message(1, "user", "We met in Ulm."),
        message(2, "assistant", "I remember."),
        message(3, "user", PACKED),
        message(4, "user", "And now?"),
        window=ids(0, 3, 4),
    )
    assert words_of(told) == ["We met in Ulm.", "I remember.", "And now?"]
    assert (told.evicted, told.summary, told.before) == (frozenset({0, 1}), "They met.", 2)


def test_a_summary_of_the_role_of_one_need_not_be_packed() -> None:
    told, _ = read(message(1, "user", "Ulm."), message(2, "summary", "They met."), window=ids(2))
    assert (told.summary, told.before) == ("They met.", 1)


def test_a_summary_of_nothing_in_the_file_stays_the_message_that_it_was() -> None:
    told, _ = read(prompt(), message(1, "user", PACKED), message(2, "user", "And now?"))
    assert words_of(told) == [PACKED, "And now?"]
    assert (told.evicted, told.summary, told.before) == (frozenset(), "", None)


# --- what is wrong with a file ----------------------------------------------------------------


def broken(of: dict[str, Any]) -> str:
    """Give the place at which a file is said to be broken."""
    with pytest.raises(BadFile) as refused:
        agent_file(of)
    return refused.value.place


def test_the_first_field_that_does_not_fit_is_named_by_its_place() -> None:
    said = [message(1, "user", "Hello!"), message(2, "user", "Hello!", created_at="tomorrow")]
    assert broken(file(agent(said))) == "agents[0].messages[1].created_at"
    assert broken(file(agent([message(1, "robot")]))) == "agents[0].messages[0].role"
    assert broken(file(agent([message(1, "user", content=7)]))) == "agents[0].messages[0].content"
    nameless = file(agent([message(1, "assistant", tool_calls=[{"id": "c"}])]))
    assert broken(nameless) == "agents[0].messages[0].tool_calls[0].function"
    assert broken({}) == "agents"
    assert broken(file() | {"agents": []}) == "agents"
    assert broken([]) == "file"  # type: ignore[arg-type]
    assert broken(file(blocks=[{**BLOCK, "limit": -1}])) == "blocks[0].limit"


def test_ids_that_lead_nowhere_or_stand_twice_are_named() -> None:
    assert broken(file(blocks=[])) == "agents[0].block_ids[0]"
    assert broken(file(agent(block_ids=["block-0", "block-0"]))) == "agents[0].block_ids[1]"
    assert broken(file(agent(tool_ids=["tool-9"]))) == "agents[0].tool_ids[0]"
    assert broken(file(agent(), agent())) == "agents[1].id"
    assert broken(file(blocks=[BLOCK, BLOCK])) == "blocks[1].id"
    two = file(agent(block_ids=["block-0", "block-1"]), blocks=[BLOCK, {**BLOCK, "id": "block-1"}])
    assert broken(two) == "agents[0].block_ids[1].label"


def test_messages_that_are_not_there_or_twice_are_named() -> None:
    with pytest.raises(BadFile, match=r"agents\[0\].in_context_message_ids\[1\]: there is no"):
        read(prompt(), window=ids(0, 7))
    with pytest.raises(BadFile, match=r"agents\[0\].messages\[1\].id: 'message-0' stands at"):
        read(prompt(), prompt())
    with pytest.raises(BadFile, match=r"messages\[0\].tool_calls\[1\].id"):
        read(message(1, "assistant", tool_calls=[call("c1"), call("c1")]))
    with pytest.raises(BadFile, match=r"messages\[0\].content\[0\]: a part is an object"):
        read(message(1, "user", content=[{"text": "of no type"}]))


def test_the_older_form_of_a_file_is_told_apart() -> None:
    with pytest.raises(BadFile, match="older form"):
        agent_file({"agent_type": "memgpt_agent", "core_memory": [], "messages": []})
