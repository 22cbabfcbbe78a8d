"""How long runs took and how soon a model spoke in them; by which way they came in."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from app.log import Log
from app.providers import ModelError
from app.settings import load
from app.storage.integrity import rebuild_tables
from app.web.run_bodies import ListRuns, RunAnswer
from app.web.runs import list_runs
from app.web.services import Services
from app.wiring import services_of
from domain.conversation import ImportMessages, SaidReply
from domain.event import Recorded
from domain.run import RunFinished, RunQueued, StepDelta, StepPart, StepStarted, StepSuperseded
from domain.streams import CONVERSATION, RUN, default_conversation, id_of
from tests.app.scripts import Gate, failing, saying
from tests.app.serving import Scripted, Server, serving
from tests.databases import opened, url_at
from tests.projections.histories import Facts, histories

RUNS = "/v1/runs/"


async def runs_in(server: Server, stream: str) -> list[Any]:
    """Give the runs of a conversation, the oldest first; one by one they are the same."""
    runs = await server.get(RUNS, conversation_id=stream, order="asc")
    assert [await server.get(RUNS + run["id"]) for run in runs] == runs
    return runs


def first(facts: Facts, kind: type[Any], run_id: str | None = None) -> Recorded[Any]:
    """Give the first fact of a kind, and of a run if one is named."""
    of_kind = (one for one in facts if isinstance(one.event, kind))
    return next(one for one in of_kind if run_id in (None, getattr(one.event, "run_id", None)))


def between(one: Recorded[Any], other: Recorded[Any]) -> int:
    return (other.at - one.at) // timedelta(microseconds=1) * 1000


# --- the first word ---------------------------------------------------------------------------


async def test_a_run_tells_when_its_model_first_spoke_and_when_it_was_over(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        await server.post(stream, stream_tokens=True)
        await server.post(stream, streaming=False)
        runs, facts = await runs_in(server, stream), await server.facts(stream)
    for run in runs:
        queued, ended = (first(facts, kind, run["id"]) for kind in (RunQueued, RunFinished))
        word = first(facts[queued.version :], StepDelta)
        assert run["ttft_ns"] == between(queued, word) > 0
        assert run["total_duration_ns"] == between(queued, ended) > run["ttft_ns"]


async def test_a_run_in_which_no_model_spoke_has_no_first_word(tmp_path: Path) -> None:
    down = failing(*[ModelError("llm_error", "down")] * 3)
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(*down)) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        (run,), facts = await runs_in(server, stream), await server.facts(stream)
    assert (run["status"], run["ttft_ns"]) == ("failed", None)
    assert run["total_duration_ns"] > 0
    assert sum(isinstance(one.event, StepStarted) for one in facts) > 1


async def test_who_waited_counts_from_the_beginning_and_by_words_of_its_own(tmp_path: Path) -> None:
    """Nothing is told while it waits: what is said then is said to another."""
    gate = Gate("One")
    model = Scripted(gate, saying("Two"))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        posts = [asyncio.create_task(server.post(stream))]
        await server.until_there_is(stream, StepDelta)
        posts.append(asyncio.create_task(server.post(stream, streaming=False)))
        await server.until(stream, lambda facts: sum(is_queued(one) for one in facts) == 2)
        waiting = await runs_in(server, stream)
        gate.opened.set()
        await asyncio.wait(posts)
        (one, two), facts = await runs_in(server, stream), await server.facts(stream)
    assert waiting[0]["ttft_ns"] == one["ttft_ns"] > 0
    assert (waiting[1]["ttft_ns"], waiting[1]["total_duration_ns"]) == (None, None)
    queued, begun = (first(facts, kind, two["id"]) for kind in (RunQueued, StepStarted))
    assert two["ttft_ns"] == between(queued, first(facts[begun.version :], StepDelta))
    assert two["ttft_ns"] >= between(queued, begun)


def is_queued(fact: Recorded[Any]) -> bool:
    return isinstance(fact.event, RunQueued)


async def test_a_cancel_takes_no_word_back(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(Gate("Half"))) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        (under_way,) = await runs_in(server, stream)
        await server.http.post(f"/v1/conversations/{stream}/cancel")
        await post
        (run,) = await runs_in(server, stream)
    assert under_way["total_duration_ns"] is None
    assert run["ttft_ns"] == under_way["ttft_ns"] > 0
    assert (run["status"], run["total_duration_ns"] > run["ttft_ns"]) == ("cancelled", True)


async def test_after_a_take_over_it_is_still_the_word_that_was_heard_first(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(Gate("Half"))) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        (before,) = await runs_in(server, stream)
        await server.kill()
        await asyncio.wait([post])
    model = Scripted(saying("Whole."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        await server.until_there_is(stream, StepSuperseded, RunFinished)
        (run,), facts = await runs_in(server, stream), await server.facts(stream)
    assert run["status"] == "completed"
    assert run["ttft_ns"] == before["ttft_ns"] == between(facts[1], first(facts, StepDelta))


async def test_how_long_it_took_what_was_said_elsewhere_nobody_knows(tmp_path: Path) -> None:
    reply = SaidReply((StepPart(s=0, i=0, kind="text", text="Said there."),))
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        command = ImportMessages(id_of(RUN, uuid4()), "there", "", (reply,))
        await server.services.execute(stream, command, "user")
        ((run,), (step,)) = await runs_in(server, stream), await server.get("/v1/steps/")
        metrics = await server.get(f"/v1/steps/{step['id']}/metrics")
    assert (run["status"], run["ttft_ns"], run["total_duration_ns"]) == ("completed", None, 0)
    assert metrics["run_id"] == run["id"]
    assert [value for name, value in metrics.items() if name.endswith("_ns")] == [None] * 5


def _by_hand(facts: Facts, run_id: str) -> int | None:
    """Give a run's time to its first word, looking at every fact."""
    steps = {
        one.version
        for one in facts
        if isinstance(one.event, StepStarted) and one.event.run_id == run_id
    }
    queued = first(facts, RunQueued, run_id)
    words = (one for one in facts if isinstance(one.event, StepDelta | StepPart))
    word = next((one for one in words if one.event.s in steps), None)
    return None if word is None else between(queued, word)


def _ticking() -> Iterator[datetime]:
    """Give moments that lie apart, differently each time."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    for tick in count(1):
        now += timedelta(microseconds=tick % 7 * 100 + 1)
        yield now


async def _listed(services: Services, facts: Facts) -> int:
    """Store a history fact by fact; tell how many runs are listed with a first word."""
    stream = id_of(CONVERSATION, uuid4())
    stored: Facts = []
    for fact in facts:
        stored += await services.log.append(stream, len(stored), [fact.event], "user")
    query = ListRuns(conversation_id=stream)
    live: list[RunAnswer] = await list_runs(services, query)
    assert {run.id: run.ttft_ns for run in live} == {
        run.id: _by_hand(stored, run.id) for run in live
    }
    await services.log.in_writer(lambda: rebuild_tables(services.log.store))
    assert await list_runs(services, query) == live
    return sum(run.ttft_ns is not None for run in live)


@pytest.mark.slow
def test_whatever_has_happened_the_first_word_is_the_run_s_own_and_rebuilt_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "everlog.db"
    clock = _ticking()
    spoke: list[int] = []
    with asyncio.Runner() as runner:
        log = Log(opened(path), lambda: next(clock))
        services = services_of(load(database_url=url_at(path)), log)
        runner.run(log.__aenter__())

        @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(histories())
        def holds(facts: Facts) -> None:
            spoke.append(runner.run(_listed(services, facts)))

        try:
            holds()
        finally:
            runner.run(log.__aexit__())
    assert sum(spoke) > 0


# --- by which way -----------------------------------------------------------------------------


async def test_a_run_tells_by_which_way_it_came(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        own, other = f"/v1/agents/{agent}/messages", await server.conversation(agent)
        for path, more in (
            (own, {}),
            (own, {"streaming": True}),
            (f"{own}/stream", {}),
            (f"{own}/async", {}),
            (f"/v1/conversations/{other}/messages", {"streaming": False}),
            (f"/v1/conversations/{agent}/messages", {"streaming": False}),
            ("/v1/conversations/default/messages", {"streaming": False, "agent_id": agent}),
        ):
            answer = await server.http.post(path, json={"input": "Hello!", **more})
            assert answer.status_code == 200, answer.text
        runs = await server.get(RUNS, agent_id=agent, order="asc")
        facts = [*await server.events(default_conversation(agent)), *await server.events(other)]
    types = [run["metadata"]["run_type"] for run in runs]
    assert types == [
        "send_message",
        *["send_message_streaming"] * 2,
        "send_message_async",
        *["send_conversation_message"] * 3,
    ]
    requests = [one.request for one in facts if isinstance(one, RunQueued)]
    assert sum("run_type" in one.model_fields_set for one in requests) == 4


async def test_the_same_request_by_another_way_is_the_run_that_it_was_first(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        body = {"messages": [{"role": "user", "content": "Hello!", "otid": "o-1"}]}
        for path in (f"agents/{agent}/messages", f"conversations/{agent}/messages"):
            answer = await server.http.post(f"/v1/{path}", json={**body, "streaming": False})
            assert answer.status_code == 200, answer.text
        answer = await server.http.post(f"/v1/agents/{agent}/messages/async", json=body)
        (run,) = await server.get(RUNS, agent_id=agent)
    assert answer.json()["id"] == run["id"]
    assert run["metadata"] == answer.json()["metadata"] == {"run_type": "send_message"}
