import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.providers import Delta, ModelError, Reply
from domain.content import Reasoning, Text, ToolCall
from domain.conversation import DeleteConversation, MessageAppended
from domain.event import Recorded
from domain.run import (
    ATTEMPTS_MAX,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunQueued,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    Usage,
)
from projections.request import ModelRequest
from tests.app.serving import Said, Script, Scripted, Server, frames_of, kinds_of, serving


def saying(*words: str, **more: Any) -> Script:
    """Say words, then the whole."""

    async def script(_: ModelRequest) -> Said:
        for word in words:
            yield Delta(0, "text", word)
        yield Reply((Text(text="".join(words)),), **more)

    return script


def failing(error: Exception, *words: str) -> Script:
    """Say words, then fail."""

    async def script(_: ModelRequest) -> Said:
        for word in words:
            yield Delta(0, "text", word)
        raise error

    return script


class Gate:
    """A script that says something and then waits to be let through."""

    def __init__(self, *before: str, after: str = "") -> None:
        self._before = before
        self._after = after
        self.opened = asyncio.Event()
        self.closed = 0

    async def __call__(self, _: ModelRequest) -> Said:
        try:
            for word in self._before:
                yield Delta(0, "text", word)
            await self.opened.wait()
            if self._after:
                yield Delta(0, "text", self._after)
            yield Reply((Text(text="".join(self._before) + self._after),))
        finally:
            self.closed += 1


def of(facts: list[Any], kind: type[Any]) -> list[Any]:
    return [event for event in facts if isinstance(event, kind)]


def words_of(events: list[Any], s: int) -> str:
    return "".join(one.x for one in of(events, StepDelta) if one.s == s)


async def run_over(server: Server, stream: str) -> list[Any]:
    facts = await server.until_there_is(stream, RunFinished)
    return [fact.event for fact in facts]


def spoken(count: int) -> Callable[[list[Recorded[Any]]], bool]:
    return lambda facts: sum(isinstance(fact.event, StepDelta) for fact in facts) >= count


# --- replies ----------------------------------------------------------------------------------


async def test_a_reply_is_kept_with_its_parts_its_tokens_and_its_end(tmp_path: Path) -> None:
    usage = Usage(input_tokens=20, output_tokens=3)
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(saying("Good ", "day.", usage=usage))) as server,
    ):
        stream = await server.conversation(model="script/x")
        frames = frames_of((await server.post(stream)).text)
        events = await server.events(stream)
    assert [type(event) for event in events if not isinstance(event, StepDelta)][1:] == [
        RunQueued,
        MessageAppended,
        RunClaimed,
        StepStarted,
        StepPart,
        StepFinished,
        RunFinished,
    ]
    (part,), (step,), (run,) = (of(events, one) for one in (StepPart, StepFinished, RunFinished))
    assert words_of(events, step.s) == part.text == "Good day."
    assert (step.outcome, step.usage, step.finish_reason) == ("ok", usage, "stop")
    assert (run.status, run.stop_reason, run.error) == ("completed", "end_turn", None)
    assert frames[-1]["total_tokens"] == 23


async def test_the_demo_thinks_if_it_is_asked_to(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        answer = await server.post(stream, "Think!", stream_tokens=True)
        events = await server.events(stream)
    assert kinds_of(frames_of(answer.text)) == [
        "ping",
        "reasoning_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert [part.kind for part in of(events, StepPart)] == ["reasoning", "text"]


async def test_the_model_is_told_the_window_and_a_manifest_says_what_it_was(tmp_path: Path) -> None:
    model = Scripted(saying("One."), saying("Two."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream, "First?")
        await server.post(
            stream, "Second?", override_system="Be brief.", client_skills=[{"name": "pdf"}]
        )
        facts = await server.facts(stream)
    first, second = model.requests
    assert (first.system, first.model, first.provider) == ("You are kind.", "x", "script")
    assert [turn.role for turn in second.turns] == ["user", "assistant", "user"]
    assert second.system.startswith("Be brief.\n\n<available_skills>")
    started = [fact.event for fact in facts if isinstance(fact.event, StepStarted)]
    entered = [fact.version for fact in facts if isinstance(fact.event, MessageAppended)]
    assert started[0].manifest.sha256 != started[1].manifest.sha256
    assert started[0].manifest.items[0].first == entered[0]
    assert started[1].manifest.items[0].last == entered[1]


async def test_a_reply_cut_off_by_its_length_fails_and_is_kept(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(saying("Goo", finish_reason="length"))) as server,
    ):
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        events = await server.events(stream)
    (run,) = of(events, RunFinished)
    assert (run.status, run.stop_reason) == ("failed", "max_tokens_exceeded")
    assert of(events, StepPart)[0].text == "Goo"


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_a_model_that_fails_fails_the_run_and_the_message_is_kept(
    tmp_path: Path, streaming: bool
) -> None:
    error = ModelError("llm_rate_limit", "Slower, please.", detail="429")
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(failing(error, "Goo"))) as server,
    ):
        stream = await server.conversation(model="script/x")
        answer = await server.post(stream, streaming=streaming)
        events = await server.events(stream)
        messages = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
    (step,), (run,) = of(events, StepFinished), of(events, RunFinished)
    assert (step.outcome, step.error.error_type) == ("failed", "llm_rate_limit")
    assert (run.status, run.stop_reason) == ("failed", "llm_api_error")
    assert run.error == step.error
    assert [one["message_type"] for one in messages] == ["system_message", "user_message"]
    if streaming:
        assert kinds_of(frames_of(answer.text)) == ["ping", "stop_reason", "error_message"]
    else:
        shown = {"type": "llm_rate_limit", "message": "Slower, please.", "detail": "429"}
        assert (answer.status_code, answer.json()) == (429, {"error": shown})


@pytest.mark.parametrize(
    ("error_type", "stop_reason"),
    [
        ("llm_empty_response", "invalid_llm_response"),
        ("llm_insufficient_credits", "insufficient_credits"),
        ("llm_timeout", "llm_api_error"),
        ("stream_incomplete", "llm_api_error"),
    ],
)
async def test_how_a_model_failed_is_how_the_run_stopped(
    tmp_path: Path, error_type: Any, stop_reason: str
) -> None:
    model = Scripted(failing(ModelError(error_type, "No.")))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        (run,) = of(await server.events(stream), RunFinished)
    assert (run.stop_reason, run.error.error_type) == (stop_reason, error_type)


async def test_a_model_that_ends_without_a_reply_has_broken_off(tmp_path: Path) -> None:
    async def silent(_: ModelRequest) -> Said:
        yield Delta(0, "text", "Goo")

    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(silent)) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        (run,) = of(await server.events(stream), RunFinished)
    assert (run.status, run.error.error_type) == ("failed", "stream_incomplete")


async def test_a_fault_of_our_own_fails_the_run_without_telling_its_words(tmp_path: Path) -> None:
    model = Scripted(failing(ZeroDivisionError("secret"), "Goo"), saying("Good day."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = await server.post(stream)
        second = frames_of((await server.post(stream)).text)
        (run, _) = of(await server.events(stream), RunFinished)
    assert (run.status, run.stop_reason) == ("failed", "error")
    assert run.error.error_type == "internal_error"
    assert "secret" not in first.text
    assert second[-2]["stop_reason"] == "end_turn"


async def test_a_call_of_a_tool_that_was_not_offered_fails_the_run(tmp_path: Path) -> None:
    async def calling(_: ModelRequest) -> Said:
        yield Delta(0, "arguments", "{", call_id="call-1", call_name="weather")
        yield Delta(0, "arguments", "}")
        parts = (ToolCall(id="call-1", name="weather", arguments="{}"),)
        yield Reply(parts, finish_reason="tool_call")

    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(calling)) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        events = await server.events(stream)
    (run,) = of(events, RunFinished)
    assert (run.status, run.stop_reason) == ("failed", "invalid_tool_call")
    assert not of(events, StepPart)


async def test_a_handle_that_leads_nowhere_any_more_fails_the_run_that_needs_it(
    tmp_path: Path,
) -> None:
    gate = Gate("Goo")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        answer = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        await server.kill()
        await answer
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        events = await run_over(server, stream)
    (run,) = of(events, RunFinished)
    assert (run.status, run.stop_reason) == ("failed", "llm_api_error")
    assert run.error.error_type == "llm_bad_request"
    assert "script/x" in run.error.message


async def test_a_reply_without_a_word_fails_and_leaves_what_was_asked(tmp_path: Path) -> None:
    async def wordless(_: ModelRequest) -> Said:
        yield Reply(())

    model = Scripted(wordless, saying("Good day."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = await server.post(stream, "Hm?", streaming=False)
        second = await server.post(stream, "Well?", streaming=False)
        listed = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
    assert first.json()["error"]["type"] == "llm_empty_response"
    assert second.json()["messages"][0]["content"] == "Good day."
    assert [one["message_type"] for one in listed[1:]] == [
        "user_message",
        "user_message",
        "assistant_message",
    ]
    (turn,) = model.requests[1].turns
    assert len(turn.parts) == 2


# --- many at once -----------------------------------------------------------------------------


async def test_requests_for_documents_wait_their_turn_in_order(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        path = f"/v1/conversations/{stream}/messages"
        posts = [
            server.http.post(path, json={"input": f"Number {n}.", "streaming": False})
            for n in range(20)
        ]
        answers = await asyncio.gather(*posts)
        events = await server.events(stream)
    assert {answer.status_code for answer in answers} == {200}
    for n, answer in enumerate(answers):
        (message,) = answer.json()["messages"]
        assert f"“Number {n}.”" in message["content"]
    queued = [event.run_id for event in of(events, RunQueued)]
    assert len(set(queued)) == 20
    assert [event.run_id for event in of(events, RunFinished)] == queued
    assert [event.run_id for event in of(events, MessageAppended)] == queued
    # One run at a time: each is over before the next is claimed.
    turns = [event for event in events if isinstance(event, RunClaimed | RunFinished)]
    assert all(type(one) is not type(next_one) for one, next_one in pairwise(turns))


async def test_a_second_stream_is_turned_down_with_the_run_to_wait_for(tmp_path: Path) -> None:
    gate = Gate("Goo", after="d.")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        before = await server.facts(stream)
        second = await server.post(stream)
        assert await server.facts(stream) == before
        gate.opened.set()
        await first
        third = await server.post(stream)
        (run_id, _) = [event.run_id for event in of(await server.events(stream), RunQueued)]
    assert second.status_code == 409
    assert second.headers["x-should-retry"] == "false"
    assert second.json()["run_id"] == run_id
    assert second.json()["detail"].startswith("CONFLICT: Cannot send a new message")
    assert third.status_code == 200


async def test_two_conversations_are_answered_at_the_same_time(tmp_path: Path) -> None:
    gate = Gate("Goo", after="d.")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        agent_id = await server.agent("script/x")
        streams = [await server.conversation(agent_id) for _ in range(2)]
        posts = [asyncio.create_task(server.post(stream)) for stream in streams]
        for stream in streams:
            await server.until_there_is(stream, StepDelta)
        gate.opened.set()
        answers = await asyncio.gather(*posts)
    assert {frames_of(answer.text)[-2]["stop_reason"] for answer in answers} == {"end_turn"}


async def test_no_more_runs_than_allowed_are_worked_on_at_once(tmp_path: Path) -> None:
    working, most = 0, 0
    met = asyncio.Event()

    async def counted(_: ModelRequest) -> Said:
        nonlocal working, most
        working += 1
        most = max(most, working)
        if working > 1:
            met.set()
        await met.wait()  # the first waits for a second, so that they do meet
        yield Delta(0, "text", "Hi.")
        await asyncio.sleep(0.001)  # and a third would be seen
        working -= 1
        yield Reply((Text(text="Hi."),))

    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(counted), runs_at_once_max=2) as server,
    ):
        agent_id = await server.agent("script/x")
        streams = [await server.conversation(agent_id) for _ in range(8)]
        answers = await asyncio.gather(*map(server.post, streams))
    assert {frames_of(answer.text)[-2]["stop_reason"] for answer in answers} == {"end_turn"}
    assert most == 2


async def test_a_client_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    gate = Gate("Goo", after="d.")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        post.cancel()
        await asyncio.wait([post])
        gate.opened.set()
        events = await run_over(server, stream)
    assert of(events, RunFinished)[0].status == "completed"
    assert of(events, StepPart)[0].text == "Good."


# --- restarts ---------------------------------------------------------------------------------


async def killed_in_mid_reply(server: Server, stream: str, answer: asyncio.Task[Any]) -> Any:
    """Let a reply begin, then cut the power."""
    await server.until(stream, spoken(1))
    await server.kill()
    return await answer


async def test_after_a_crash_in_mid_reply_the_step_is_taken_again_in_the_next_epoch(
    tmp_path: Path,
) -> None:
    model = Scripted(Gate("Goo"), saying("Good ", "day."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream, stream_tokens=True))
        first = await killed_in_mid_reply(server, stream, post)
        await server.start()
        events = await run_over(server, stream)
        (run_id,) = [event.run_id for event in of(events, RunQueued)]
        last = orjson.loads(first.text.split("\n\n")[-3].removeprefix("data: "))["seq_id"]
        rest = await server.http.post(f"/v1/runs/{run_id}/stream", json={"starting_after": last})
        whole = await server.http.post(f"/v1/runs/{run_id}/stream", json={})
        messages = await server.get(f"/v1/conversations/{stream}/messages")
    assert [claim.epoch for claim in of(events, RunClaimed)] == [1, 2]
    (lost,) = of(events, StepSuperseded)
    assert (lost.reason, lost.attempt) == ("taken_over", 1)
    assert [step.attempt for step in of(events, StepStarted)] == [1, 2]
    assert of(events, RunFinished)[0].status == "completed"
    assert kinds_of(frames_of(rest.text)) == [
        "event_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    joined = "".join(frame.get("content", "") for frame in frames_of(whole.text))
    assert joined == messages[0]["content"] == "Good day."
    assert first.text.split("\n\n")[-2].startswith(": the server is going down")


async def test_facts_of_an_old_epoch_never_follow_a_newer_claim(tmp_path: Path) -> None:
    model = Scripted(Gate("Goo"), saying("Good ", "day."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await killed_in_mid_reply(server, stream, asyncio.create_task(server.post(stream)))
        await server.start()
        events = await run_over(server, stream)
    second = next(
        n for n, event in enumerate(events) if isinstance(event, RunClaimed) and event.epoch == 2
    )
    old = next(
        version
        for version, event in enumerate(events, start=1)
        if isinstance(event, StepStarted) and event.epoch == 1
    )
    assert not [one for one in events[second:] if isinstance(one, StepDelta) and one.s == old]


async def test_a_step_that_is_lost_three_times_fails_the_run_and_says_why(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(*(Gate("Goo") for _ in range(9)))) as server,
    ):
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        for attempt in range(1, ATTEMPTS_MAX + 1):
            await server.until(stream, spoken(attempt))
            await server.kill()
            await server.start()
        await post
        events = await run_over(server, stream)
        run = await server.get(f"/v1/runs/{of(events, RunQueued)[0].run_id}")
    assert len(of(events, StepSuperseded)) == ATTEMPTS_MAX
    assert [step.attempt for step in of(events, StepStarted)] == [1, 2, 3]
    (ended,) = of(events, RunFinished)
    assert (ended.status, ended.stop_reason) == ("failed", "error")
    assert ended.error.error_type == "stream_task_cancelled"
    assert (run["status"], run["metadata"]["error"]["error_type"]) == (
        "failed",
        "stream_task_cancelled",
    )


async def test_a_shutdown_leaves_the_run_as_it_is_and_closes_the_call(tmp_path: Path) -> None:
    gate = Gate("Goo")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        before = await server.until(stream, spoken(1))
        await server.stop()
        await post
        assert gate.closed == 1
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(saying("Hi."))) as server:
        after = await run_over(server, stream)
    assert after[: len(before)] == [fact.event for fact in before]
    assert isinstance(after[len(before)], RunClaimed)
    assert of(after, RunFinished)[0].status == "completed"


async def test_requests_that_waited_when_the_server_went_down_are_answered_after_it_is_back(
    tmp_path: Path,
) -> None:
    model = Scripted(Gate("Goo"), saying("Hi."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        posts = [
            asyncio.create_task(server.post(stream, f"Number {n}.", streaming=False))
            for n in range(3)
        ]
        await server.until(
            stream, lambda facts: sum(type(one.event) is RunQueued for one in facts) == 3
        )
        await server.until(stream, spoken(1))
        await server.kill()
        answers = await asyncio.gather(*posts)
        await server.start()
        facts = await server.until(
            stream, lambda facts: sum(type(one.event) is RunFinished for one in facts) == 3
        )
    assert {answer.status_code for answer in answers} == {503}
    runs = of([fact.event for fact in facts], RunFinished)
    assert {run.status for run in runs} == {"completed"}


async def test_a_server_with_nothing_to_do_starts_and_stops(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        await server.stop()
        await server.start()
        assert await server.get("/v1/runs/") == []


# --- deletes ----------------------------------------------------------------------------------


async def test_a_delete_in_mid_reply_keeps_exactly_what_was_committed(tmp_path: Path) -> None:
    gate = Gate("Good ", "da")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream, stream_tokens=True))
        await server.until(stream, lambda facts: words_of(_events(facts), 5) == "Good da")
        deleted = await server.http.delete(f"/v1/conversations/{stream}")
        answer = await post
        events = await run_over(server, stream)
        assert gate.closed == 1
    assert deleted.status_code == 200
    (part,), (step,), (run,) = (of(events, one) for one in (StepPart, StepFinished, RunFinished))
    assert part.text == words_of(events, step.s) == "Good da"
    assert part.interrupted
    assert step.outcome == "interrupted"
    assert (run.status, run.stop_reason) == ("cancelled", "cancelled")
    cancel = next(n for n, event in enumerate(events) if isinstance(event, RunCancelRequested))
    assert not of(events[cancel:], StepDelta)
    assert not of(events[cancel:], StepStarted)
    assert kinds_of(frames_of(answer.text)) == ["ping", "assistant_message", "stop_reason"]


def _events(facts: list[Recorded[Any]]) -> list[Any]:
    return [fact.event for fact in facts]


async def test_a_delete_ends_the_runs_that_wait_too(tmp_path: Path) -> None:
    gate = Gate("Goo")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        posts = [asyncio.create_task(server.post(stream, streaming=False)) for _ in range(3)]
        await server.until(
            stream, lambda facts: sum(type(one.event) is RunQueued for one in facts) == 3
        )
        await server.until(stream, spoken(1))
        await server.services.execute(stream, DeleteConversation(), "user")
        answers = await asyncio.gather(*posts)
        runs = of(await server.events(stream), RunFinished)
    assert {run.status for run in runs} == {"cancelled"}
    assert len(runs) == 3
    assert {answer.json()["stop_reason"]["stop_reason"] for answer in answers} == {"cancelled"}


async def test_a_delete_just_before_a_crash_is_honoured_after_it(tmp_path: Path) -> None:
    gate = Gate("Goo")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until(stream, spoken(1))
        server.store.commits_left = 1
        await server.services.execute(stream, DeleteConversation(), "user")
        await server.kill()
        await post
        await server.start()
        events = await run_over(server, stream)
    assert [claim.epoch for claim in of(events, RunClaimed)] == [1, 2]
    assert not of(events, StepSuperseded)
    assert (of(events, StepPart)[0].text, of(events, StepFinished)[0].outcome) == (
        "Goo",
        "interrupted",
    )
    assert of(events, RunFinished)[0].status == "cancelled"


# --- a database that fails --------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("app.worker.RETRY_DELAY_S", 0.01)
    monkeypatch.setattr("app.storage.committing.RETRY_DELAY_S", 0.001)


@pytest.mark.usefixtures("soon")
async def test_a_run_goes_on_after_the_database_failed_in_mid_reply(tmp_path: Path) -> None:
    gate = Gate("Good ", after="day.")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream, stream_tokens=True))
        await server.until(stream, spoken(1))
        server.store.broken = True
        gate.opened.set()
        while not gate.closed:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        server.store.broken = False
        answer = await post
        events = await server.events(stream)
    assert of(events, RunFinished)[0].status == "completed"
    assert of(events, StepPart)[0].text == "Good day."
    assert frames_of(answer.text)[-2]["stop_reason"] == "end_turn"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("commits", range(6))
async def test_wherever_the_database_fails_the_run_ends_once(tmp_path: Path, commits: int) -> None:
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", Scripted(saying("Good ", "day."))) as server,
    ):
        stream = await server.conversation(model="script/x")
        server.store.commits_left = commits
        post = asyncio.create_task(server.post(stream))
        await asyncio.sleep(0.1)
        server.store.commits_left, server.store.broken = None, False
        answer = await post
        if commits == 0:
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
        elif answer.text.endswith("data: [DONE]\n\n"):
            assert frames_of(answer.text)[-2]["stop_reason"] == "end_turn"
        if commits:
            events = await run_over(server, stream)
            (run,) = of(events, RunFinished)
            assert run.status == "completed"
            assert [part.text for part in of(events, StepPart)] == ["Good day."]


async def test_reasoning_signatures_and_text_are_kept_as_they_came(tmp_path: Path) -> None:
    async def thinking(_: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        yield Delta(0, "reasoning", "hm")
        yield Delta(0, "signature", "signed")
        yield Delta(1, "text", "Good day.")
        yield Reply((Reasoning(text="hm", signature="signed"), Text(text="Good day.")))

    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(thinking)) as server:
        stream = await server.conversation(model="script/x")
        frames = frames_of((await server.post(stream)).text)
        messages = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
    whole = [frame for frame in frames if frame.get("step_id")]
    assert [{**frame, "seq_id": None} for frame in whole] == messages[2:]
    assert messages[2]["signature"] == "signed"
