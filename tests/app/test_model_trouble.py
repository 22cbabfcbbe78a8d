"""What goes wrong at the model, and what becomes of it: tried again, or told, and nothing lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.providers import Delta, ModelError, Reply
from app.retries import Retries
from domain.content import Text
from domain.run import RunFinished, StepStarted, StepSuperseded
from projections.request import ModelRequest
from tests.app.scripts import Gate, calling, failing, saying
from tests.app.serving import Said, Scripted, Server, frames_of, serving

DOWN = ModelError("llm_error", "It is down.", status=529)


async def trouble(
    tmp_path: Path, model: Scripted, **settings: Any
) -> tuple[list[dict[str, Any]], list[Any], list[dict[str, Any]]]:
    """Send a message as a token stream; give its frames, the facts and the history."""
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model, **settings) as server:
        stream = await server.conversation(model="script/x")
        answer = await server.post(stream, "Hello!", stream_tokens=True)
        history = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
        return frames_of(answer.text), await server.events(stream), history


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(one["content"] for one in frames if one["message_type"] == "assistant_message")


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        ModelError("llm_rate_limit", "Slow down.", status=429),
        ModelError("llm_rate_limit", "Slow down.", status=429, retry_after_s=0.01),
        ModelError("llm_error", "Connection refused."),
        ModelError("stream_incomplete", "It broke off before it began."),
    ],
    ids=lambda error: f"{error.message} {error.retry_after_s}",
)
async def test_what_passes_is_tried_again_before_the_first_word(
    tmp_path: Path, error: ModelError
) -> None:
    model = Scripted(*failing(error, error), saying("Good ", "day."))
    frames, facts, history = await trouble(tmp_path, model)
    assert text_of(frames) == "Good day."
    lost = [one for one in facts if isinstance(one, StepSuperseded)]
    assert [(one.reason, one.attempt) for one in lost] == [
        ("provider_error", 1),
        ("provider_error", 2),
    ]
    assert [one.attempt for one in facts if isinstance(one, StepStarted)] == [1, 2, 3]
    assert len(model.requests) == 3
    assert [one["message_type"] for one in history[1:]] == ["user_message", "assistant_message"]
    told = [one["event_data"] for one in frames if one["message_type"] == "event_message"]
    assert [one["attempt"] for one in told] == [1, 2]


async def test_in_the_end_it_is_told(tmp_path: Path) -> None:
    model = Scripted(*failing(DOWN))
    frames, facts, history = await trouble(tmp_path, model)
    assert len(model.requests) == 3
    stop, error = frames[-2:]
    assert (stop["stop_reason"], error["error_type"]) == ("llm_api_error", "llm_error")
    (end,) = [one for one in facts if isinstance(one, RunFinished)]
    assert end.status == "failed"
    assert end.error is not None
    assert end.error.message == "It is down."
    assert [one["message_type"] for one in history[1:]] == ["user_message"]


@pytest.mark.parametrize("kind", ["llm_error", "stream_incomplete", "llm_rate_limit"])
async def test_after_the_first_word_it_is_not_tried_again(tmp_path: Path, kind: Any) -> None:
    model = Scripted(*failing(ModelError(kind, "Gone."), words=["Good "]), saying("Good day."))
    frames, facts, history = await trouble(tmp_path, model)
    assert text_of(frames) == "Good "
    assert frames[-1]["error_type"] == kind
    assert len(model.requests) == 1
    assert not [one for one in facts if isinstance(one, StepSuperseded)]
    assert [one["message_type"] for one in history[1:]] == ["user_message"]


@pytest.mark.parametrize(
    ("kind", "stop_reason"),
    [
        ("llm_authentication", "llm_api_error"),
        ("llm_bad_request", "llm_api_error"),
        ("llm_insufficient_credits", "insufficient_credits"),
        ("llm_empty_response", "invalid_llm_response"),
        ("context_window_overflow", "llm_api_error"),
    ],
)
async def test_what_does_not_pass_is_told_at_once(
    tmp_path: Path, kind: Any, stop_reason: str
) -> None:
    model = Scripted(*failing(ModelError(kind, "No.")))
    frames, _, history = await trouble(tmp_path, model)
    assert len(model.requests) == 1
    assert (frames[-2]["stop_reason"], frames[-1]["error_type"]) == (stop_reason, kind)
    assert history[-1]["content"] == "Hello!"


async def test_a_vendor_that_asks_for_too_much_patience_is_not_waited_for(tmp_path: Path) -> None:
    patience = ModelError("llm_rate_limit", "Later.", status=429, retry_after_s=3600)
    frames, _, _ = await trouble(tmp_path, Scripted(*failing(patience)))
    assert frames[-1]["error_type"] == "llm_rate_limit"


@pytest.mark.parametrize("words", [[], ["Good "]], ids=["at once", "in mid-reply"])
async def test_a_silent_model_is_given_up(tmp_path: Path, words: list[str]) -> None:
    gate = Gate(*words)
    frames, _, history = await trouble(tmp_path, Scripted(gate), model_timeout_s=0.2)
    assert (frames[-1]["error_type"], gate.closed) == ("llm_timeout", 1)
    assert "said nothing for 0.2 s" in frames[-1]["message"]
    assert history[-1]["content"] == "Hello!"


async def test_an_endless_model_is_given_up(tmp_path: Path) -> None:
    async def endless(_: ModelRequest) -> Said:
        while True:
            yield Delta(0, "text", "on ")
            await asyncio.sleep(0.01)

    frames, _, history = await trouble(tmp_path, Scripted(endless), reply_timeout_s=0.5)
    assert frames[-1]["error_type"] == "llm_timeout"
    assert "took longer than 0.5 s" in frames[-1]["message"]
    assert [one["message_type"] for one in history[1:]] == ["user_message"]


async def test_a_reply_that_grows_past_all_measure_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.listening.REPLY_CHARS_MAX", 100)

    async def wordy(_: ModelRequest) -> Said:
        for _count in range(50):
            yield Delta(0, "text", "on and on ")
        yield Reply((Text(text="on and on " * 50),))

    frames, _, _ = await trouble(tmp_path, Scripted(wordy))
    assert frames[-1]["error_type"] == "llm_error"


async def test_a_model_that_calls_what_it_was_not_offered_is_told_off(tmp_path: Path) -> None:
    frames, _, history = await trouble(tmp_path, Scripted(calling("weather")))
    assert frames[-2]["stop_reason"] == "invalid_tool_call"
    assert [one["message_type"] for one in history[1:]] == ["user_message"]


async def test_a_run_that_failed_leaves_a_conversation_that_goes_on(tmp_path: Path) -> None:
    model = Scripted(*failing(ModelError("llm_bad_request", "No.")), saying("Good day."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        failed = await server.post(stream, "One.", streaming=False)
        answer = await server.post(stream, "Two.", streaming=False)
    assert failed.status_code == 400
    assert failed.json()["error"]["type"] == "llm_bad_request"
    assert answer.json()["messages"][0]["content"] == "Good day."
    (turn,) = model.requests[1].turns
    assert [part.text for part in turn.parts if isinstance(part, Text)] == ["One.", "Two."]


async def test_a_cancel_in_the_pause_between_attempts_ends_the_run(tmp_path: Path) -> None:
    model = Scripted(*failing(DOWN))
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", model, model_retry_pause_s=30) as server,
    ):
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepSuperseded)
        await cancel(server, stream)
        assert frames_of((await post).text)[-1]["stop_reason"] == "cancelled"
    assert len(model.requests) == 1


async def cancel(server: Server, stream: str) -> None:
    answer = await server.http.post(f"/v1/conversations/{stream}/cancel")
    assert answer.status_code == 200


def test_a_pause_doubles_unless_the_vendor_says_how_long() -> None:
    retries = Retries(first_pause_s=0.5)
    assert [retries.pause_ms(DOWN, attempt) for attempt in (1, 2, 3)] == [500, 1000, None]
    asked = ModelError("llm_rate_limit", "", retry_after_s=7)
    assert retries.pause_ms(asked, 1) == 7000
    assert retries.pause_ms(ModelError("llm_timeout", ""), 1) is None
