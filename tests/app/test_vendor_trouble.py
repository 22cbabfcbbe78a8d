"""A vendor in trouble, through its real SDK and over a real socket."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domain.run import StepStarted, StepSuperseded
from tests.app.serving import frames_of, serving
from tests.vendor import Block, Script, Vendor

WORDS = Block("text", ("Good ", "day."))
WELL = Script((WORDS,))


def playing(*scripts: Script) -> Callable[[Any], Script]:
    """Play scripts in turn, the last one for ever."""
    left = list(scripts)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def talk(
    tmp_path: Path, *scripts: Script, **settings: Any
) -> tuple[list[dict[str, Any]], list[Any], int]:
    """Send a message as a token stream; give its frames, the facts, and the calls of the model."""
    async with asyncio.timeout(60), Vendor(playing(*scripts)) as vendor:
        url: dict[str, Any] = {
            "anthropic_api_key": "none",
            "anthropic_base_url": vendor.base_url,
            **settings,
        }
        async with serving(tmp_path / "a.db", **url) as server:
            stream = await server.conversation(model="anthropic/claude-haiku-4-5")
            answer = await server.post(stream, "Hello!", stream_tokens=True)
            kept = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
            assert kept[1]["content"] == "Hello!"
            return frames_of(answer.text), await server.events(stream), len(vendor.bodies)


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(one["content"] for one in frames if one["message_type"] == "assistant_message")


@pytest.mark.parametrize(
    "trouble",
    [
        Script(status=500),
        Script(status=529),
        Script(status=429, headers={"retry-after": "0"}),
        Script((WORDS,), fault="drop", fault_after=0),
    ],
    ids=["500", "529", "429 with retry-after", "dropped before a word"],
)
async def test_trouble_that_passes_is_not_seen_but_in_the_log(
    tmp_path: Path, trouble: Script
) -> None:
    frames, facts, calls = await talk(tmp_path, trouble, trouble, WELL)
    assert text_of(frames) == "Good day."
    assert frames[-2]["stop_reason"] == "end_turn"
    lost = [one for one in facts if isinstance(one, StepSuperseded)]
    assert calls == 1 + len(lost) == 3
    assert len([one for one in facts if isinstance(one, StepStarted)]) == 3


@pytest.mark.parametrize(
    ("trouble", "error_type", "calls"),
    [
        (Script(status=500), "llm_error", 3),
        (Script(status=529), "llm_error", 3),
        (Script(status=429), "llm_rate_limit", 3),
        (Script(status=429, headers={"retry-after": "3600"}), "llm_rate_limit", 1),
        (Script(status=401), "llm_authentication", 1),
        (Script(status=400), "llm_bad_request", 1),
        (Script((WORDS,), fault="drop", fault_after=1), "stream_incomplete", 1),
        (Script((WORDS,), fault="cut", fault_after=1), "stream_incomplete", 1),
        (Script((WORDS,), fault="garbage", fault_after=1), "stream_incomplete", 1),
        (Script((WORDS,), fault="silence", fault_after=1), "llm_timeout", 1),
        (Script((WORDS,), fault="silence", fault_after=0), "llm_timeout", 1),
        (Script(()), "llm_empty_response", 1),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
async def test_trouble_that_does_not_is_told_in_its_own_type(
    tmp_path: Path, trouble: Script, error_type: str, calls: int
) -> None:
    frames, _, called = await talk(tmp_path, trouble, model_timeout_s=1)
    stop, error = frames[-2:]
    assert (error["message_type"], error["error_type"]) == ("error_message", error_type)
    reason = "invalid_llm_response" if error_type == "llm_empty_response" else "llm_api_error"
    assert stop["stop_reason"] == reason
    assert called == calls
    assert text_of(frames) in ("", "Good ")


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (Script(status=529), 503),
        (Script(status=503), 503),
        (Script((WORDS,), fault="error", fault_after=1, error_type="overloaded_error"), 503),
        (Script(status=500), 500),
        (Script(status=500, message="It says 529."), 500),
    ],
    ids=["529", "503", "in mid-stream", "500", "words"],
)
async def test_a_document_that_an_overloaded_vendor_did_not_write_is_unavailable(
    tmp_path: Path, trouble: Script, status: int
) -> None:
    async with asyncio.timeout(60), Vendor(playing(trouble)) as vendor:
        url: dict[str, Any] = {"anthropic_api_key": "none", "anthropic_base_url": vendor.base_url}
        async with serving(tmp_path / "a.db", **url) as server:
            stream = await server.conversation(model="anthropic/claude-haiku-4-5")
            answer = await server.post(stream, "Hello!", streaming=False)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "llm_error"
    assert ("overloaded" in answer.json().get("detail", "")) is (status == 503)


async def test_an_endless_stream_is_closed(tmp_path: Path) -> None:
    endless = Script((Block("text", ("on ",) * 100_000),), delay_s=0.01)
    frames, _, calls = await talk(tmp_path, endless, reply_timeout_s=1)
    assert (frames[-1]["error_type"], calls) == ("llm_timeout", 1)


async def test_nobody_at_the_address_is_an_error_of_the_model_s(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        url: dict[str, Any] = {
            "anthropic_api_key": "none",
            "anthropic_base_url": "http://127.0.0.1:1",
        }
        async with serving(tmp_path / "a.db", **url) as server:
            stream = await server.conversation(model="anthropic/claude-haiku-4-5")
            answer = await server.post(stream, "Hello!", streaming=False)
            facts = await server.events(stream)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "llm_error"
    assert len([one for one in facts if isinstance(one, StepStarted)]) == 3
