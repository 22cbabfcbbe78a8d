import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings

from app.log import Log
from app.providers import Delta, ModelError, Reply
from app.settings import load
from app.web.services import Services
from app.web.stream import RunStream
from app.wiring import services_of
from domain.content import Text
from domain.conversation import DeleteConversation
from domain.run import StepDelta
from domain.streams import CONVERSATION, id_of
from projections.frames import DONE, Frames, superseded_of
from projections.request import ModelRequest
from tests.app.serving import Said, Scripted, Server, frames_of, kinds_of, serving
from tests.databases import opened, url_at
from tests.projections.histories import Facts, histories, run_ids_of

NO_RUN = "run-99999999-9999-4999-8999-999999999999"
RUNS = "/v1/runs/"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


async def run_of(server: Server, conversation_id: str, words: str = "Hi!", **more: Any) -> str:
    """Have a run done; give its id."""
    answer = await server.post(conversation_id, words, **more)
    return frames_of(answer.text)[0]["run_id"]


async def listed(server: Server, **query: Any) -> list[str]:
    return [run["id"] for run in await server.get(RUNS, **query)]


class Holding:
    """A model that begins to speak and goes on when it is let."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _: ModelRequest) -> Said:
        yield Delta(0, "text", "Good ")
        await self.opened.wait()
        yield Delta(0, "text", "day.")
        yield Reply((Text(text="Good day."),))


async def failing(_: ModelRequest) -> Said:
    yield Delta(0, "text", "Goo")
    raise ModelError("llm_error", "The vendor failed.", detail="500")


# --- one --------------------------------------------------------------------------------------


async def test_a_run_is_shown_as_what_it_came_to(server: Server) -> None:
    agent_id = await server.agent()
    conversation_id = await server.conversation(agent_id)
    run_id = await run_of(
        server, conversation_id, background=True, include_return_message_types=["user_message"]
    )
    run = await server.get(RUNS + run_id)
    took = datetime.fromisoformat(run["completed_at"]) - datetime.fromisoformat(run["created_at"])
    assert run.pop("total_duration_ns") == took // timedelta(microseconds=1) * 1000
    assert run.pop("ttft_ns") > 0
    assert run.pop("created_at").endswith("Z")
    assert run.pop("completed_at").endswith("Z")
    assert run == {
        "id": run_id,
        "agent_id": agent_id,
        "conversation_id": conversation_id,
        "status": "completed",
        "stop_reason": "end_turn",
        "background": True,
        "metadata": {"run_type": "send_conversation_message"},
        "request_config": {
            "include_return_message_types": ["user_message"],
            "use_assistant_message": None,
            "assistant_message_tool_name": None,
            "assistant_message_tool_kwarg": None,
        },
        "base_template_id": None,
        "callback_url": None,
        "callback_sent_at": None,
        "callback_status_code": None,
        "callback_error": None,
    }


async def test_a_failed_run_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Scripted(failing)) as server:
        run_id = await run_of(server, await server.conversation(model="script/x"))
        run = await server.get(RUNS + run_id)
    assert (run["status"], run["stop_reason"]) == ("failed", "llm_api_error")
    assert run["metadata"]["error"] == {
        "error_type": "llm_error",
        "message": "The vendor failed.",
        "detail": "500",
    }


async def test_a_run_that_is_not_over_has_no_end(tmp_path: Path) -> None:
    model = Holding()
    async with serving(tmp_path / "a.db", Scripted(model)) as server:
        conversation_id = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(conversation_id))
        await server.until_there_is(conversation_id, StepDelta)
        (run,) = await server.get(RUNS)
        model.opened.set()
        await post
    assert (run["status"], run["stop_reason"]) == ("running", None)
    assert (run["completed_at"], run["total_duration_ns"]) == (None, None)


async def test_an_unknown_run_is_not_found_and_a_malformed_id_is_an_error(server: Server) -> None:
    for path in ("", "/messages"):
        unknown = await server.http.get(f"{RUNS}{NO_RUN}{path}")
        malformed = await server.http.get(f"{RUNS}run-1{path}")
        assert (unknown.status_code, malformed.status_code) == (404, 400)
        assert unknown.json() == {"detail": f"Run not found with id={NO_RUN}"}
        assert malformed.json()["detail"].startswith("Invalid run ID format")
    unknown = await server.http.post(f"{RUNS}{NO_RUN}/stream", json={})
    malformed = await server.http.post(f"{RUNS}run-1/stream", json={})
    assert (unknown.status_code, malformed.status_code) == (404, 400)


async def test_the_runs_of_a_deleted_conversation_are_gone(server: Server) -> None:
    conversation_id = await server.conversation()
    run_id = await run_of(server, conversation_id)
    await server.services.execute(conversation_id, DeleteConversation(), "user")
    assert await listed(server) == []
    for path in ("", "/messages"):
        assert (await server.http.get(f"{RUNS}{run_id}{path}")).status_code == 404
    assert (await server.http.post(f"{RUNS}{run_id}/stream", json={})).status_code == 404


# --- list -------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_or_oldest_first(server: Server) -> None:
    conversation_id = await server.conversation()
    runs = [await run_of(server, conversation_id) for _ in range(3)]
    assert await listed(server) == runs[::-1]
    assert await listed(server, order="asc") == runs
    assert await listed(server, ascending=True) == runs
    assert await listed(server, order="asc", ascending=False) == runs[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_both_cursors_follow_the_order(server: Server, order: str) -> None:
    conversation_id = await server.conversation()
    for _ in range(5):
        await run_of(server, conversation_id)
    runs = await listed(server, order=order)
    assert await listed(server, order=order, after=runs[1]) == runs[2:]
    assert await listed(server, order=order, before=runs[3]) == runs[:3]
    assert await listed(server, order=order, before=runs[3], limit=2) == runs[1:3]
    assert await listed(server, order=order, after=runs[0], before=runs[4]) == runs[1:4]
    assert await listed(server, order=order, after=runs[1], limit=2) == runs[2:4]
    assert await listed(server, order=order, after=runs[4]) == []


async def test_runs_are_found_by_whose_and_how_they_are(tmp_path: Path) -> None:
    model = Holding()
    async with serving(tmp_path / "a.db", Scripted(failing, model)) as server:
        agent_id = await server.agent()
        one, two = await server.conversation(agent_id), await server.conversation()
        first = await run_of(server, one)
        second = await run_of(server, two, background=True)
        third = await run_of(server, two, override_model="script/x")
        held = asyncio.create_task(server.post(two, override_model="script/x"))
        await server.until(two, lambda facts: isinstance(facts and facts[-1].event, StepDelta))
        (fourth,) = await listed(server, active=True)
        assert [run["id"] for run in await server.get(f"{RUNS}active", agent_id=agent_id)] == []
        assert [run["id"] for run in await server.get(f"{RUNS}active")] == [fourth]
        assert await listed(server, agent_id=agent_id) == [first]
        assert await listed(server, agent_ids=[agent_id]) == [first]
        assert await listed(server, conversation_id=one) == [first]
        assert await listed(server, background=True) == [second]
        assert await listed(server, background=False) == [fourth, third, first]
        assert await listed(server, statuses=["failed"]) == [third]
        assert await listed(server, statuses=["failed", "running"]) == [fourth, third]
        assert await listed(server, statuses=["failed"], active=True) == [third]
        assert await listed(server, stop_reason="llm_api_error") == [third]
        assert await listed(server, conversation_id=one, statuses=["failed"]) == []
        model.opened.set()
        await held


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"statuses": "done"}, 400),
        ({"after": "run-1"}, 400),
        ({"after": NO_RUN}, 404),
        ({"before": NO_RUN}, 404),
        ({"limit": 0}, 422),
        ({"limit": 1001}, 422),
        ({"order": "up"}, 422),
        ({"stop_reason": "tired"}, 422),
    ],
    ids=str,
)
async def test_a_bad_query_is_answered_in_words(
    server: Server, query: dict[str, Any], status: int
) -> None:
    answer = await server.http.get(RUNS, params=query)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


# --- messages ---------------------------------------------------------------------------------


async def messages_of(server: Server, run_id: str, **query: Any) -> list[dict[str, Any]]:
    return await server.get(f"{RUNS}{run_id}/messages", **query)


async def test_a_runs_messages_are_what_was_put_in_and_what_came_out(server: Server) -> None:
    conversation_id = await server.conversation()
    await run_of(server, conversation_id, "Before.")
    run_id = await run_of(server, conversation_id, "Think!")
    await run_of(server, conversation_id, "After.")
    found = await messages_of(server, run_id)
    assert [one["message_type"] for one in found] == [
        "user_message",
        "reasoning_message",
        "assistant_message",
    ]
    assert {one["run_id"] for one in found} == {run_id}
    assert await messages_of(server, run_id, order="desc") == found[::-1]
    history = await server.get(f"/v1/conversations/{conversation_id}/messages", order="asc")
    assert found == [one for one in history if one["run_id"] == run_id]


async def test_a_runs_messages_are_of_the_types_that_it_was_asked_for(server: Server) -> None:
    run_id = await run_of(
        server,
        await server.conversation(),
        "Think!",
        include_return_message_types=["reasoning_message"],
    )
    assert [one["message_type"] for one in await messages_of(server, run_id)] == [
        "reasoning_message"
    ]


@pytest.mark.parametrize(
    ("order", "cursor"), [("asc", "after"), ("desc", "before"), ("desc", "after")]
)
async def test_a_cursor_walks_through_a_runs_messages(
    server: Server, order: str, cursor: str
) -> None:
    body = {"messages": [{"role": "user", "content": words} for words in ("a", "b", "Think!")]}
    path = f"/v1/conversations/{await server.conversation()}/messages"
    run_id = frames_of((await server.http.post(path, json=body)).text)[0]["run_id"]
    whole = await messages_of(server, run_id, order=order)
    walked = page = await messages_of(server, run_id, order=order, limit=1)
    while page:
        query = {"order": order, "limit": 1, cursor: page[-1]["id"]}
        page = await messages_of(server, run_id, **query)
        walked += page
    assert walked == whole
    assert len(whole) == 5


async def test_ascending_before_a_message_of_a_run_gives_those_just_before_it(
    server: Server,
) -> None:
    body = {"messages": [{"role": "user", "content": words} for words in ("a", "b", "c")]}
    path = f"/v1/conversations/{await server.conversation()}/messages"
    run_id = frames_of((await server.http.post(path, json=body)).text)[0]["run_id"]
    whole = await messages_of(server, run_id)
    page = await messages_of(server, run_id, before=whole[3]["id"], limit=2)
    assert page == whole[1:3]


async def test_a_cursor_that_is_no_message_of_the_run_is_not_found(server: Server) -> None:
    conversation_id = await server.conversation()
    run_id = await run_of(server, conversation_id)
    other = (await messages_of(server, await run_of(server, conversation_id)))[0]["id"]
    for name in ("after", "before"):
        answer = await server.http.get(f"{RUNS}{run_id}/messages", params={name: other})
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"Message not found with id={other}"}


# --- streams ----------------------------------------------------------------------------------


async def resumed(server: Server, run_id: str, **body: Any) -> Any:
    return await server.http.post(f"{RUNS}{run_id}/stream", json=body)


async def test_a_run_that_is_over_is_shown_in_full(server: Server) -> None:
    first = await server.post(await server.conversation(), "Think!", stream_tokens=True)
    run_id = frames_of(first.text)[0]["run_id"]
    again = await resumed(server, run_id)
    assert again.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert again.text == first.text


async def test_pings_of_the_resume_do_not_decide_on_the_runs_first_ping(server: Server) -> None:
    first = await server.post(await server.conversation())
    run_id = frames_of(first.text)[0]["run_id"]
    assert (await resumed(server, run_id, include_pings=False)).text == first.text


async def test_a_run_is_followed_live_by_many_from_different_places(tmp_path: Path) -> None:
    model = Holding()
    async with serving(tmp_path / "a.db", Scripted(model)) as server:
        conversation_id = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(conversation_id, stream_tokens=True))
        facts = await server.until_there_is(conversation_id, StepDelta)
        (run_id,) = run_ids_of(facts)
        head = facts[-1].version
        followers = [
            asyncio.create_task(resumed(server, run_id, starting_after=cut))
            for cut in range(head + 1)
        ]
        model.opened.set()
        whole = (await post).text
        rests = [(await follower).text for follower in followers]
    assert rests[0] == whole
    assert all(whole.endswith(rest) for rest in rests)
    assert kinds_of(frames_of(rests[-1])) == [
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]


async def test_after_the_end_there_is_only_the_end_mark(server: Server) -> None:
    conversation_id = await server.conversation()
    run_id = await run_of(server, conversation_id)
    head = len(await server.facts(conversation_id))
    answer = await resumed(server, run_id, starting_after=head)
    assert answer.content == DONE


async def test_a_cursor_past_the_end_is_a_conflict_that_no_retry_mends(server: Server) -> None:
    conversation_id = await server.conversation()
    run_id = await run_of(server, conversation_id)
    head = len(await server.facts(conversation_id))
    answer = await resumed(server, run_id, starting_after=head + 1)
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json() == {
        "detail": f"CONFLICT: Offset {head + 1} is past the end of {conversation_id}, "
        f"which is at {head}.",
        "head": head,
    }


async def test_a_runs_stream_wants_a_body_and_a_sound_one(server: Server) -> None:
    run_id = await run_of(server, await server.conversation())
    assert (await server.http.post(f"{RUNS}{run_id}/stream")).status_code == 422
    for body in ({"starting_after": -1}, {"batch_size": 0}, {"poll_interval": -1}):
        assert (await resumed(server, run_id, **body)).status_code == 422
    nulls = await resumed(server, run_id, starting_after=None, batch_size=None, poll_interval=None)
    assert nulls.status_code == 200


def _whole(facts: Facts, run_id: str) -> list[tuple[int, bytes]]:
    """Give what a later reader gets: what each fact has sent."""
    frames, sent = Frames(run_id, superseded_of(facts)), list[tuple[int, bytes]]()
    for fact in facts:
        one = frames.of(fact)
        if one is not None:
            sent.append((fact.version, one.data))
            if one.end:
                break
    return sent


async def _resumes_alike(services: Services, facts: Facts) -> int:
    """Store a history; resume its finished runs after every offset; tell how often that was."""
    resumed_at = 0
    stream = id_of(CONVERSATION, uuid4())
    facts = await services.log.append(stream, 0, [fact.event for fact in facts], "user")
    for run_id in run_ids_of(facts):
        whole = _whole(facts, run_id)
        if not whole or not whole[-1][1].endswith(DONE):
            continue
        queued_at = next(one.version for one in facts if run_ids_of([one]) == [run_id])
        run = RunStream(services, stream, run_id, queued_at)
        for cut in range(len(facts) + 1):
            rest = [data for version, data in whole if version > cut]
            pieces = await run.frames(cut, pings=False)
            got = b"".join([piece async for piece in pieces])
            assert got == (b"".join(rest) if rest else DONE)
            resumed_at += 1
    return resumed_at


def test_whatever_has_happened_a_resume_at_any_cut_sends_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "everlog.db"
    with asyncio.Runner() as runner:
        log = Log(opened(path))
        services = services_of(load(database_url=url_at(path)), log)
        runner.run(log.__aenter__())
        resumed_at: list[int] = []

        @settings(max_examples=25, deadline=None)
        @given(histories())
        def holds(facts: Facts) -> None:
            resumed_at.append(runner.run(_resumes_alike(services, facts)))

        try:
            holds()
        finally:
            runner.run(log.__aexit__())
    assert sum(resumed_at) > 0  # some of the histories had a run that was over
