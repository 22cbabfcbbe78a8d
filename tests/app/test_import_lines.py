"""What is wrong with a file is told with its line, its field and its bound."""

import io
import json
from typing import Any, Final

import pytest

from app.history import lines as history_lines
from app.history.lines import BadLine, Told, told_in
from tests.app.files import HEADER, HELLO, IMAGE, LOOK, WARM, file_of

# --- what is wrong with a file -------------------------------------------------------------------

BAD: Final[dict[str, tuple[Any, str]]] = {
    "not JSON": (b'{"role": "user",\n', "not JSON in UTF-8"),
    "not UTF-8": (b'{"role": "user", "content": "\xff"}\n', "not JSON in UTF-8"),
    "not an object": ([1], "not an object"),
    "no role": ({"content": "x"}, "role: must be one of user, system, assistant, tool, not None"),
    "unknown role": ({"role": "robot"}, "role: must be one of user, system, assistant, tool"),
    "unknown field": ({**HELLO, "mood": "good"}, "mood: there is no such field"),
    "no content": ({"role": "user"}, "content: field required"),
    "null content": ({"role": "user", "content": None}, "content: "),
    "no parts": ({"role": "user", "content": []}, "content: tuple should have at least 1 item"),
    "bad part": ({**HELLO, "content": [{"type": "text"}]}, "content[0].text: field required"),
    "bad image": (
        {**HELLO, "content": [{"type": "image", "source": {"type": "url", "url": 1}}]},
        "content[0].source.url: ",
    ),
    "date": ({**HELLO, "date": "yesterday"}, "date: must be a moment as in RFC 3339"),
    "date of nowhere": ({**HELLO, "date": "2024-05-31T16:20:00"}, "date: must be a moment"),
    "date too early": ({**HELLO, "date": "0001-01-01T00:00:00+14:00"}, "date: must be a moment"),
    "silent reply": ({"role": "assistant"}, "content: a reply has words, reasoning or tool_calls"),
    "arguments": (
        {"role": "assistant", "tool_calls": [{"id": "a", "name": "b", "arguments": 3}]},
        "tool_calls[0].arguments: ",
    ),
    "deep arguments": (
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "a", "name": "b", "arguments": json.loads('{"a":' * 99 + "1" + "}" * 99)}
            ],
        },
        "tool_calls[0].arguments: must nest no deeper than 64 levels",
    ),
    "long id": (
        {"role": "assistant", "tool_calls": [{"id": "a" * 257, "name": "b"}]},
        "tool_calls[0].id: string should have at most 256 characters",
    ),
    "duplicate call": (
        {"role": "assistant", "tool_calls": [{"id": "a", "name": "b"}, {"id": "a", "name": "c"}]},
        "tool_calls: 'a' stands twice",
    ),
    "too many parts": (
        {"role": "assistant", "tool_calls": [{"id": str(n), "name": "b"} for n in range(128)]}
        | {"content": "x"},
        "content: a reply has at most 128 parts, not 129",
    ),
    "broken call": ({**LOOK, "status": "interrupted"}, "tool_calls: a reply that was interrupted"),
    "picture and call": ({**LOOK, "content": [IMAGE]}, "content: a reply with images has no"),
    "orphan return": (WARM, "tool_call_id: no call 'c1' in a reply just before it"),
    "unknown status": ({**WARM, "status": "fine"}, "status: input should be 'ok', 'error'"),
    "model": ({"conversation": {"agent": {"name": "a", "model": "b"}}}, "conversation.agent.model"),
    "settings": (
        {"conversation": {"model_settings": {"provider_type": "groq", "temperature": "hot"}}},
        "conversation.model_settings.temperature: input should be a valid number",
    ),
    "agent's settings": (
        {
            "conversation": {
                "agent": {"name": "a", "model": "b/c", "model_settings": {"temperature": 1}}
            }
        },
        "conversation.agent.model_settings: provider_type must be one of openai",
    ),
    "setting": ({"conversation": {"colour": "red"}}, "conversation.colour: there is no such field"),
}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_told_with_its_number_and_its_field(name: str) -> None:
    line, words = BAD[name]
    first, *others = told_in(io.BytesIO(file_of(HEADER, HELLO, b"\n", line, HEADER, HELLO)))
    if isinstance(first, Told):  # a bad header ends the conversation before it, which is good
        first, *others = others
    assert isinstance(first, BadLine)
    assert str(first).startswith(f"4: {words}")
    assert len(str(first)) < 400
    assert [type(one) for one in others] == [Told]


@pytest.mark.sqlite
def test_a_second_return_of_a_call_and_one_that_comes_too_late_are_told() -> None:
    twice, late = (
        [*told_in(io.BytesIO(file_of(HEADER, LOOK, *lines)))]
        for lines in ((WARM, WARM), (HELLO, WARM))
    )
    assert list(map(str, twice)) == ["4: tool_call_id: 'c1' has its return in line 3"]
    assert list(map(str, late)) == ["4: tool_call_id: no call 'c1' in a reply just before it"]


@pytest.mark.sqlite
def test_a_line_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_lines, "LINE_BYTES_MAX", 100)
    large = {"role": "user", "content": "x" * 1000}
    bad, good = told_in(io.BytesIO(file_of(HEADER, large, HELLO, HEADER, HELLO)))
    assert str(bad) == "2: the line is larger than 100 bytes"
    assert isinstance(good, Told)
    assert (good.line, good.messages) == (4, 1)


@pytest.mark.sqlite
def test_a_conversation_that_is_too_large_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_lines, "CONVERSATION_MESSAGES_MAX", 2)
    (many,) = told_in(io.BytesIO(file_of(HEADER, HELLO, HELLO, HELLO, HELLO)))
    assert str(many) == "4: a conversation has at most 2 messages"
    monkeypatch.setattr(history_lines, "CONVERSATION_BYTES_MAX", 60)
    (large,) = told_in(io.BytesIO(file_of(HEADER, HELLO, HELLO)))
    assert str(large) == "3: a conversation has at most 60 bytes"


@pytest.mark.sqlite
@pytest.mark.parametrize("lines", [(), (b"\n\n",), (HELLO, HELLO)], ids=["empty", "blank", "no"])
def test_a_file_without_a_header_is_told(lines: tuple[Any, ...]) -> None:
    (bad,) = told_in(io.BytesIO(file_of(*lines)))
    assert "conversation: a conversation begins with a line" in str(bad)
