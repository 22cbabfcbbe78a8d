from datetime import datetime, timedelta, timezone
from typing import Any, get_args, get_type_hints

from domain.content import Base64Source, Content, Image, Text, UrlSource
from domain.conversation import MessageAppended
from domain.event import Event, Recorded
from domain.run import CalledTool, DeltaCall, StepDelta, StepPart, StepStarted
from domain.streams import is_id, otid_of, system_message_id
from projections.letta import (
    Step,
    date_of,
    delta_message,
    event_message,
    input_message,
    only,
    part_message,
    ping,
    step_messages,
    system_message,
)
from projections.wire import (
    ApprovalRequestMessage,
    AssistantMessage,
    Common,
    HiddenReasoningMessage,
    ReasoningMessage,
    SystemMessage,
    ToolCallMessage,
    UserMessage,
)
from tests.examples import (
    AT,
    BY,
    CONVERSATION_ID,
    MESSAGE_ID,
    OTID,
    REPLY_ID,
    RUN_ID,
    STEP_ID,
    SYSTEM,
    appended,
    started,
    step_started,
)

DATE = "2026-01-02T03:04:05+00:00"
SHAPES: dict[str, Any] = {
    get_args(get_type_hints(shape)["message_type"])[0]: shape
    for shape in (
        SystemMessage,
        UserMessage,
        AssistantMessage,
        ReasoningMessage,
        HiddenReasoningMessage,
        ToolCallMessage,
        ApprovalRequestMessage,
    )
}


def at(version: int, event: Event) -> Recorded[Any]:
    return Recorded(CONVERSATION_ID, version, AT, BY, event)


STEP = Step.of(at(5, step_started()))


def part(i: int, kind: Any, **more: Any) -> StepPart:
    return StepPart(s=5, i=i, kind=kind, **more)


def call(*, gated: bool = False) -> CalledTool:
    return CalledTool(id="call-1", name="weather", arguments='{"city":"Ulm"}', gated=gated)


def grown(i: int, kind: Any, x: str, **more: Any) -> StepDelta:
    return StepDelta(s=5, i=i, kind=kind, x=x, **more)


PARTS: list[Any] = [
    step_messages(STEP, [one])[0]
    for one in (
        part(0, "text", text="Good day."),
        part(0, "reasoning", text="hm", signature="signed"),
        part(0, "redacted", text="secret"),
        part(0, "call", call=call()),
        part(0, "call", call=call(gated=True)),
    )
]
DELTAS: list[Any] = [
    delta_message(STEP, one, None, 7)
    for one in (
        grown(0, "text", "Good "),
        grown(0, "reasoning", "h"),
        grown(0, "signature", "sig"),
        grown(0, "redacted", "sec"),
        grown(0, "arguments", "{", call=DeltaCall(id="call-1", name="weather")),
    )
]
INPUTS: list[Any] = [system_message(at(1, started)), input_message(at(3, appended()))]


def test_every_key_is_there_and_no_other() -> None:
    for message in (*PARTS, *DELTAS, *INPUTS):
        shape = SHAPES[message["message_type"]]
        assert set(message) == set(get_type_hints(shape))
        assert set(get_type_hints(Common)) < set(message)
    assert {message["message_type"] for message in (*PARTS, *INPUTS)} == set(SHAPES)


def test_a_moment_is_spelled_in_whole_seconds_with_the_offset_of_utc() -> None:
    assert date_of(AT) == DATE
    elsewhere = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert date_of(elsewhere) == DATE


# --- what was put in --------------------------------------------------------------------------


def test_the_system_prompt_is_a_message_of_no_run_with_one_id_for_life() -> None:
    message = system_message(at(1, started))
    assert message["content"] == SYSTEM.text
    assert message["id"] == system_message_id(CONVERSATION_ID)
    assert (message["run_id"], message["step_id"], message["otid"]) == (None, None, None)


def test_a_users_message_keeps_its_id_its_otid_and_its_run() -> None:
    message = input_message(at(3, appended()))
    assert message["message_type"] == "user_message"
    assert (message["id"], message["otid"], message["run_id"]) == (MESSAGE_ID, OTID, RUN_ID)
    assert (message["step_id"], message["seq_id"], message["date"]) == (None, None, DATE)
    assert message["content"] == "Hello!"


def said(role: Any, content: Content) -> Any:
    event = MessageAppended(
        message_id=MESSAGE_ID, otid=OTID, role=role, content=content, run_id=RUN_ID
    )
    return input_message(at(3, event))


def test_parts_of_a_message_are_shown_as_they_were_sent() -> None:
    link = Image(source=UrlSource(url="https://example.org/a"))
    data = Image(source=Base64Source(media_type="image/png", data="AAAA"))
    assert said("user", (Text(text="Look: "), link, data))["content"] == [
        {"type": "text", "text": "Look: "},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        },
    ]


def test_a_system_message_is_shown_as_words_alone() -> None:
    assert said("system", "Be brief.")["content"] == "Be brief."
    parts = said("system", (Text(text="Be "), Text(text="brief.")))
    assert (parts["message_type"], parts["content"]) == ("system_message", "Be brief.")


def test_an_assistants_message_that_was_sent_in_is_of_no_step() -> None:
    message = said("assistant", "I said so.")
    assert (message["message_type"], message["content"]) == ("assistant_message", "I said so.")
    assert message["step_id"] is None


# --- what came out ----------------------------------------------------------------------------


def test_all_parts_of_a_step_share_its_ids_and_its_date() -> None:
    for message in (*PARTS, *DELTAS):
        assert (message["id"], message["run_id"]) == (REPLY_ID, RUN_ID)
        assert (message["step_id"], message["date"]) == (STEP_ID, DATE)


def test_the_otid_of_a_part_is_the_message_id_with_its_last_bits_replaced_by_the_index() -> None:
    message_id = "message-33333333-3333-4333-8333-3333333333ff"
    step = Step.of(at(5, step_started().model_copy(update={"message_id": message_id})))
    otids = [part_message(step, part(i, "text", text="a"))["otid"] for i in (0, 1, 127)]
    assert otids == [
        "33333333-3333-4333-8333-333333333380",
        "33333333-3333-4333-8333-333333333381",
        "33333333-3333-4333-8333-3333333333ff",
    ]
    assert delta_message(step, grown(1, "text", "a"), None, 7)["otid"] == otids[1]


def test_the_otid_of_a_call_that_waits_for_the_client_is_the_message_id() -> None:
    (message,) = step_messages(STEP, [part(1, "call", call=call(gated=True))])
    assert message["otid"] == message["id"] == REPLY_ID
    assert otid_of(REPLY_ID, 1) != REPLY_ID


def test_only_frames_are_numbered() -> None:
    assert {message["seq_id"] for message in PARTS} == {None}
    assert {message["seq_id"] for message in DELTAS} == {7}
    assert part_message(STEP, part(0, "text", text="a"), 9)["seq_id"] == 9


def test_text_and_reasoning_are_shown_whole() -> None:
    text, reasoning, redacted = PARTS[:3]
    assert text["content"] == "Good day."
    assert (reasoning["reasoning"], reasoning["signature"]) == ("hm", "signed")
    assert reasoning["source"] == "reasoner_model"
    assert (redacted["state"], redacted["hidden_reasoning"]) == ("redacted", "secret")


def test_a_whole_call_is_shown_alone_and_in_a_list() -> None:
    shown = {"name": "weather", "arguments": '{"city":"Ulm"}', "tool_call_id": "call-1"}
    for message in PARTS[3:]:
        assert message["tool_call"] == shown
        assert message["tool_calls"] == [shown]
    assert [one["message_type"] for one in PARTS[3:]] == [
        "tool_call_message",
        "approval_request_message",
    ]


def test_a_growing_call_is_one_object_and_names_itself_once() -> None:
    first = grown(0, "arguments", "{", call=DeltaCall(id="call-1", name="weather"))
    later: Any = delta_message(STEP, grown(0, "arguments", "}"), "call-1", 8)
    begun: Any = delta_message(STEP, first, "call-1", 7)
    assert begun["tool_call"] == {"name": "weather", "arguments": "{", "tool_call_id": "call-1"}
    assert later["tool_call"] == {"name": None, "arguments": "}", "tool_call_id": "call-1"}
    assert begun["tool_calls"] == begun["tool_call"]


def test_a_growing_signature_is_reasoning_without_words() -> None:
    signature: Any = DELTAS[2]
    assert (signature["message_type"], signature["reasoning"]) == ("reasoning_message", "")
    assert signature["signature"] == "sig"


# --- only in streams --------------------------------------------------------------------------


def test_a_ping_has_every_common_key_and_names_the_run() -> None:
    frame = ping("ping-1", AT, RUN_ID, 2)
    assert set(frame) == {*get_type_hints(Common), "message_type"}
    assert (frame["message_type"], frame["run_id"], frame["seq_id"]) == ("ping", RUN_ID, 2)


def test_an_event_is_named_after_its_fact_the_same_at_every_reading() -> None:
    fact: Recorded[StepStarted] = at(6, step_started())
    frame = event_message(fact, "retry", {"attempt": 1}, STEP)
    assert frame == event_message(fact, "retry", {"attempt": 1}, STEP)
    assert is_id("message", frame["id"])
    assert (frame["seq_id"], frame["event_data"]) == (6, {"attempt": 1})
    assert frame["id"] != event_message(at(7, step_started()), "retry", {}, STEP)["id"]


def test_a_filter_keeps_the_types_that_it_names_and_none_keeps_all() -> None:
    assert only(PARTS, None) == PARTS
    assert only(PARTS, []) == []
    assert only(PARTS, ["reasoning_message"]) == [PARTS[1]]
