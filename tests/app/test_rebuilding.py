"""The exact request of any step, rebuilt: byte for byte what the vendor's server received for it."""

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import uuid4

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.step
from app.windows import Windows
from domain.conversation import ConversationDeleted, MessageAppended
from domain.event import Event, Recorded
from domain.run import Manifest, StepDelta, StepFinished, StepStarted, StepSuperseded
from domain.streams import MESSAGE, STEP, id_of
from projections.request import Offer
from projections.tokens import tokens_of_request
from projections.turns import ModelRequest
from projections.window import Window
from tests.app.scripts import saying
from tests.app.serving import Scripted, Server, serving
from tests.app.test_providers import asking, provider_at
from tests.app.test_vendor_trouble import playing
from tests.vendor import Block, Script, Vendor, script_of, words

MODEL: Final = "anthropic/claude-haiku-4-5"
HEADERS: Final = {"anthropic-beta", "anthropic-version", "content-type"}
PICTURE: Final = base64.b64encode(b"\x89PNG not really").decode()
COUNT: Final[dict[str, Any]] = {
    "name": "demo_count",
    "description": "The client's own.",
    "parameters": {},
}
SKILL: Final = {"name": "pdf & co", "description": "Reads <pages>.", "location": "/skills/pdf"}

Story: TypeAlias = Callable[[Server, str], Awaitable[None]]


def says(text: str, **more: Any) -> Script:
    return Script((Block("text", words(text)),), **more)


def calls(*call_ids: str, name: str = "demo_count", said: str = "") -> Script:
    opening = (Block("text", words(said)),) if said else ()
    arguments = ('{"te', 'xt": "zwei Wör', 'ter"}')
    blocks = [Block("tool_use", arguments, call_id=one, name=name) for one in call_ids]
    return Script((*opening, *blocks))


@asynccontextmanager
async def telling(
    database: Path, *scripts: Script, **more: Any
) -> AsyncGenerator[tuple[Server, Vendor]]:
    """Serve with a vendor that plays scripts in turn; without any, what the markers say."""
    script = playing(*scripts) if scripts else script_of
    async with asyncio.timeout(60), Vendor(script) as vendor:
        url: dict[str, Any] = {
            "anthropic_api_key": "none",
            "anthropic_base_url": vendor.base_url,
            **more,
        }
        async with serving(database, **url) as server:
            yield server, vendor


async def steps_of(server: Server, stream: str) -> list[Recorded[StepStarted]]:
    return [fact for fact in await server.facts(stream) if isinstance(fact.event, StepStarted)]


async def rebuilt(server: Server, stream: str, step_id: str, **params: Any) -> Any:
    return await server.get(f"/v1/conversations/{stream}/steps/{step_id}/request", **params)


async def proven(server: Server, vendor: Vendor, stream: str, **params: Any) -> list[Any]:
    """Rebuild the request of each step: it is, in bytes, what the vendor received for it."""
    steps = await steps_of(server, stream)
    answers = [await rebuilt(server, stream, step.event.step_id, **params) for step in steps]
    for answer, step, received in zip(answers, steps, vendor.replied, strict=True):
        assert answer["problem"] is None
        assert answer["wire"] == {
            "method": received.method,
            "path": received.path,
            "headers": {name: received.headers[name] for name in HEADERS & received.headers.keys()},
            "body": received.raw.decode(),
            "sha256": hashlib.sha256(received.raw).hexdigest(),
        }
        spelled = orjson.dumps(answer["request"], option=orjson.OPT_SORT_KEYS)
        assert hashlib.sha256(spelled).hexdigest() == step.event.manifest.sha256
        assert answer["sha256"] == answer["rebuilt_sha256"] == step.event.manifest.sha256
        assert answer["matches"] is True
        assert answer["offset"] == step.version
    return answers


async def append(server: Server, stream: str, *events: Event) -> None:
    """Write facts that no command leads to."""
    version, _ = await server.services.log.head(stream) or (0, b"")
    await server.services.log.append(stream, version, events, "user")


# --- whatever is said -------------------------------------------------------------------------


async def plainly(server: Server, stream: str) -> None:
    await server.post(stream, "Hello! Grüß dich, 世界 🌍 </tool_result>")
    await server.post(stream, messages=None, input=[{"type": "text", "text": "And now?"}])


async def with_pictures(server: Server, stream: str) -> None:
    at = {"type": "url", "url": "https://pictures.example/a.png"}
    carried = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    parts = [{"type": "image", "source": at}, {"type": "image", "source": carried}]
    await server.post(stream, input=[{"type": "text", "text": "What are these?"}, *parts])
    await server.post(stream, "And the second one?")


async def with_overrides(server: Server, stream: str) -> None:
    await server.post(
        stream,
        override_system="Be brief.",
        override_model="anthropic/claude-opus-4-1",
        client_skills=[SKILL],
    )
    await server.post(stream, "Without?")


async def with_notices(server: Server, stream: str) -> None:
    notice = {"role": "system", "content": "The <user> has left & come back."}
    await server.post(stream, input=None, messages=[notice, {"role": "user", "content": "Hi."}])
    await server.post(stream, "Again.")


async def cut_short(server: Server, stream: str) -> None:
    post = asyncio.create_task(server.post(stream, "Say a lot."))
    await server.until_there_is(stream, StepDelta)
    await server.http.post(f"/v1/conversations/{stream}/cancel")
    await post
    await server.post(stream, "Go on.")


async def steered(server: Server, stream: str) -> None:
    post = asyncio.create_task(server.post(stream, "Count."))
    await server.until_there_is(stream, StepDelta)
    await server.post(stream, "And hurry.", on_busy="steer")
    await post


@pytest.mark.parametrize(
    ("scripts", "story"),
    [
        ((says("Good day."),), plainly),
        ((says("Two pictures."),), with_pictures),
        (
            (
                Script(
                    (
                        Block("thinking", ("Hm, ", "so."), signature="signed"),
                        Block("redacted", ("c2VjcmV0",)),
                        Block("text", ("I see.",)),
                    )
                ),
                says("Yes."),
            ),
            plainly,
        ),
        ((says("Well."),), with_overrides),
        ((says("Well."),), with_notices),
        (
            (
                Script(
                    (
                        Block("thinking", ("Hm.",), signature="signed"),
                        Block("text", ("One, ", "two, ", "three.")),
                    ),
                    fault="silence",
                    fault_after=3,
                ),
                says("Three."),
            ),
            cut_short,
        ),
        ((calls("t1", said="Let me count."), calls("t2", "t3"), says("Two.")), plainly),
        ((replace(calls("t1"), delay_s=0.1), says("Two.")), steered),
        ((says("", status=500), says("", status=529), says("There.")), plainly),
    ],
    ids=[
        "text",
        "pictures",
        "reasoning",
        "overrides",
        "notices",
        "cut short",
        "tools",
        "steer",
        "failures",
    ],
)
async def test_what_is_rebuilt_is_what_the_vendor_received(
    tmp_path: Path, scripts: tuple[Script, ...], story: Story
) -> None:
    async with telling(tmp_path / "a.db", *scripts) as (server, vendor):
        agent = await server.agent(MODEL, tools=("demo_count",))
        stream = await server.conversation(agent)
        await story(server, stream)
        answers = await proven(server, vendor, stream)
        assert len(answers) >= 2


async def test_returns_of_the_client_are_rebuilt_and_cut_where_they_were(tmp_path: Path) -> None:
    long = "a line of what the tool has found\n" * 3_000
    scripts = (calls("t1", "t2"), says("Much."), says("Good."))
    async with telling(tmp_path / "a.db", *scripts) as (server, vendor):
        agent = await server.agent(MODEL, tools=("demo_count", "demo_wait"))
        stream = await server.conversation(agent, context_window_limit=50_000)
        await server.post(stream, "Count.", client_tools=[COUNT])
        pictured = [{"type": "text", "text": "see"}, _picture()]
        returns = [
            {"type": "tool", "tool_call_id": "t1", "tool_return": long, "status": "success"},
            {"type": "tool", "tool_call_id": "t2", "tool_return": pictured, "status": "error"},
        ]
        answered = [{"type": "tool_return", "tool_returns": returns}]
        await server.post(stream, input=None, messages=answered, client_tools=[COUNT])
        await server.post(stream, "Thanks.")
        asked, told, later = await proven(server, vendor, stream)
    assert [tool["name"] for tool in asked["request"]["tools"]] == ["demo_count", "demo_wait"]
    assert asked["request"]["tools"][0]["description"] == "The client's own."
    assert "[Cut here: 40000 of 102000 characters are shown.]" in told["wire"]["body"]
    assert later["request"]["tools"] != asked["request"]["tools"]


def _picture() -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    return {"type": "image", "source": source}


@pytest.mark.parametrize("approve", [True, False])
async def test_steps_around_an_approval_are_rebuilt(tmp_path: Path, approve: bool) -> None:
    scripts = (calls("t1"), says("Two words."))
    async with telling(tmp_path / "a.db", *scripts) as (server, vendor):
        tools = {"tools": ("demo_count",), "approval_tools": ("demo_count",)}
        stream = await server.conversation(await server.agent(MODEL, **tools))
        await server.post(stream, "Count.")
        word = {"type": "approval", "tool_call_id": "t1", "approve": approve, "reason": "as I like"}
        await server.post(stream, input=None, messages=[{"type": "approval", "approvals": [word]}])
        answers = await proven(server, vendor, stream)
    assert [answer["attempt"] for answer in answers] == [1, 1]


async def test_settings_are_rebuilt_as_they_were_at_the_claim(tmp_path: Path) -> None:
    chosen = {"provider_type": "anthropic", "max_output_tokens": 77, "temperature": 0.5}
    other = {"provider_type": "anthropic", "max_output_tokens": 99}
    async with telling(tmp_path / "a.db", says("Yes.")) as (server, vendor):
        stream = await server.conversation(model="anthropic/claude-opus-4-5", model_settings=chosen)
        await server.post(stream)
        await server.http.patch(f"/v1/conversations/{stream}", json={"model_settings": other})
        await server.post(stream, "Again.")
        first, second = await proven(server, vendor, stream)
    assert orjson.loads(first["wire"]["body"])["max_tokens"] == 77
    assert orjson.loads(second["wire"]["body"])["max_tokens"] == 99
    assert first["wire"]["headers"] != second["wire"]["headers"]


async def say(server: Server, stream: str, said: str, more: dict[str, Any]) -> None:
    if "[[silence:" not in said:
        await server.post(stream, said, **more)
        return
    known = len(await steps_of(server, stream))
    post = asyncio.create_task(server.post(stream, said))

    def heard(facts: list[Recorded[Any]]) -> bool:
        starts = [one.version for one in facts if isinstance(one.event, StepStarted)]
        deltas = (one.event.s for one in facts if isinstance(one.event, StepDelta))
        return len(starts) > known and starts[-1] in deltas

    await server.until(stream, heard)
    await server.http.post(f"/v1/conversations/{stream}/cancel")
    await post


SAID: Final = st.sampled_from(
    [
        "[[text:Good day.]]",
        "[[think:Let me see.]] [[text:I see.]]",
        "[[think:Hm.]] [[hide:c2VjcmV0]] [[words:3]]",
        '[[call:demo_count:{"text": "a b"}]]',
        "[[silence:3]]",
        "[[fail:400]]",
        "[[cut:2]]",
        "[[empty]]",
    ]
)
ASKED: Final[st.SearchStrategy[dict[str, Any]]] = st.sampled_from(
    [
        {},
        {"override_system": "Be brief."},
        {"client_skills": [SKILL]},
        {"max_steps": 1},
        {"streaming": False},
    ]
)


@pytest.mark.sqlite
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(st.tuples(SAID, st.text("aß世🌍 <&", max_size=8), ASKED), max_size=6))
def test_every_step_of_any_conversation_is_rebuilt(
    turns: list[tuple[str, str, dict[str, Any]]],
) -> None:
    async def tell() -> None:
        with tempfile.TemporaryDirectory() as home:
            async with telling(Path(home) / "a.db") as (server, vendor):
                agent = await server.agent(MODEL, tools=("demo_count",))
                stream = await server.conversation(agent)
                for marked, before, more in turns:
                    await say(server, stream, f"{before}{marked}", more)
                answers = await proven(server, vendor, stream)
                assert len(answers) >= len(turns)

    asyncio.run(tell())


# --- whatever happens later -------------------------------------------------------------------


async def test_a_deleted_conversation_s_requests_are_shown_to_who_asks_for_it(
    tmp_path: Path,
) -> None:
    async with telling(tmp_path / "a.db", says("Yes.")) as (server, vendor):
        stream = await server.conversation(model=MODEL)
        await server.post(stream)
        await server.http.delete(f"/v1/conversations/{stream}")
        assert isinstance((await server.events(stream))[-1], ConversationDeleted)
        (step,) = await steps_of(server, stream)
        path = f"/v1/conversations/{stream}/steps/{step.event.step_id}/request"
        assert (await server.http.get(path)).status_code == 404
        await proven(server, vendor, stream, deleted=True)


async def test_a_request_is_rebuilt_without_the_key_and_after_the_default_model_has_changed(
    tmp_path: Path,
) -> None:
    database = tmp_path / "a.db"
    async with telling(database, says("Yes."), default_model=MODEL) as (server, vendor):
        stream = await server.conversation(model="letta/auto")
        await server.post(stream)
        received = vendor.replied[0]
    async with serving(database) as server:
        (step,) = await steps_of(server, stream)
        answer = await rebuilt(server, stream, step.event.step_id)
    assert answer["model"] == MODEL
    assert answer["matches"] is True
    assert answer["wire"]["body"] == received.raw.decode()


async def test_facts_that_come_between_the_window_and_its_step_are_not_in_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = Windows.newest
    late = MessageAppended(
        message_id=id_of(MESSAGE, uuid4()), otid="late", role="user", content="Late!", run_id="x"
    )

    async def and_then(self: Windows, stream: str) -> Window:
        window = await newest(self, stream)
        await append(server, stream, late)
        return window

    async with telling(tmp_path / "a.db", says("Yes.")) as (server, vendor):
        stream = await server.conversation(model=MODEL)
        monkeypatch.setattr(Windows, "newest", and_then)
        await server.post(stream)
        monkeypatch.undo()
        answers = await proven(server, vendor, stream)
        shown = await server.get(f"/v1/conversations/{stream}/window")
    assert all("Late!" not in answer["wire"]["body"] for answer in answers)
    assert "Late!" in str(shown["messages"])


async def test_a_manifest_that_does_not_tell_its_window_means_the_one_before_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_of = app.step.manifest_of

    def older(window: Window, request: ModelRequest, offer: Offer) -> Manifest:
        manifest = manifest_of(window, request, offer)
        known = manifest.model_dump(exclude_unset=True, exclude={"window_at", "tokens"})
        return Manifest.model_validate(known)

    async with telling(tmp_path / "a.db", calls("t1"), says("Two.")) as (server, vendor):
        monkeypatch.setattr(app.step, "manifest_of", older)
        stream = await server.conversation(await server.agent(MODEL, tools=("demo_count",)))
        await server.post(stream)
        await server.post(stream, "Again?")
        await proven(server, vendor, stream)
        manifests = [step.event.manifest for step in await steps_of(server, stream)]
    assert {one.window_at for one in manifests} == {None}


async def test_every_attempt_has_its_own_request(tmp_path: Path) -> None:
    async with telling(tmp_path / "a.db", says("", status=500), says("Yes.")) as (server, vendor):
        stream = await server.conversation(model=MODEL)
        await server.post(stream)
        answers = await proven(server, vendor, stream)
        facts = await server.events(stream)
    assert [answer["attempt"] for answer in answers] == [1, 2]
    assert [one.s for one in facts if isinstance(one, StepSuperseded)] == [answers[0]["offset"]]
    assert answers[0]["step_id"] != answers[1]["step_id"]


async def test_a_request_is_shown_while_its_step_is_under_way(tmp_path: Path) -> None:
    hung = says("One two", fault="silence", fault_after=1)
    async with telling(tmp_path / "a.db", hung) as (server, vendor):
        stream = await server.conversation(model=MODEL)
        post = asyncio.create_task(server.post(stream))
        facts = await server.until_there_is(stream, StepDelta)
        await proven(server, vendor, stream)
        await server.http.post(f"/v1/conversations/{stream}/cancel")
        await post
    assert not any(isinstance(fact.event, StepFinished) for fact in facts)


# --- what cannot be rebuilt -------------------------------------------------------------------


async def test_the_demo_has_a_request_and_no_wire(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        answer = await rebuilt(server, stream, step.event.step_id)
    assert (answer["matches"], answer["wire"], answer["problem"]) == (True, None, None)
    assert answer["request"]["turns"][0]["parts"] == [{"text": "Hello!", "type": "text"}]


async def test_a_hash_that_is_not_the_request_s_does_not_match(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        manifest = step.event.manifest.model_copy(update={"sha256": "0" * 64})
        forged = step.event.model_copy(
            update={"step_id": id_of(STEP, uuid4()), "manifest": manifest}
        )
        await append(server, stream, forged)
        true = await rebuilt(server, stream, step.event.step_id)
        answer = await rebuilt(server, stream, forged.step_id)
    assert answer["matches"] is False
    assert answer["rebuilt_sha256"] == true["sha256"] != answer["sha256"]


@pytest.mark.parametrize("renderer", ["none", "2"])
async def test_what_another_renderer_made_is_not_guessed_at(tmp_path: Path, renderer: str) -> None:
    async with serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        manifest = step.event.manifest.model_copy(update={"renderer": renderer})
        other = step.event.model_copy(
            update={"step_id": id_of(STEP, uuid4()), "manifest": manifest}
        )
        await append(server, stream, other)
        answer = await rebuilt(server, stream, other.step_id)
    assert answer["problem"] == (
        f"It was rendered by '{renderer}', and this version knows only '1'."
    )
    assert (answer["request"], answer["wire"], answer["matches"]) == (None, None, False)
    assert answer["sha256"] == manifest.sha256


async def test_a_step_of_a_run_that_was_never_queued_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        stream, other = await server.conversation(), await server.conversation()
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        await append(server, other, step.event)
        answer = await rebuilt(server, other, step.event.step_id)
    assert answer["problem"] == "The log does not tell how the run was asked for."
    assert (answer["request"], answer["matches"]) == (None, False)


async def test_what_the_vendor_would_refuse_unsent_has_no_wire(tmp_path: Path) -> None:
    chosen = {"provider_type": "anthropic", "verbosity": "low"}
    async with telling(tmp_path / "a.db", says("Yes.")) as (server, vendor):
        stream = await server.conversation(model=MODEL, model_settings=chosen)
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        answer = await rebuilt(server, stream, step.event.step_id)
        assert vendor.replied == []
    assert (answer["matches"], answer["wire"]) == (True, None)
    assert answer["problem"].startswith("Nothing is sent for it: The setting `verbosity`")


async def test_a_provider_that_is_gone_leaves_the_request_without_its_wire(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", Scripted(saying("Yes."))) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        there = await rebuilt(server, stream, step.event.step_id)
    async with serving(tmp_path / "a.db") as server:
        gone = await rebuilt(server, stream, step.event.step_id)
    assert there["wire"]["sha256"] == there["sha256"]
    assert (gone["matches"], gone["wire"]) == (True, None)
    assert gone["problem"] == "This version knows no provider 'script'."


async def test_a_step_is_found_only_in_its_own_conversation(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        stream, other = await server.conversation(), await server.conversation()
        await server.post(stream)
        (step,) = await steps_of(server, stream)
        for place, step_id, status in (
            (other, step.event.step_id, 404),
            (stream, id_of(STEP, uuid4()), 404),
            (stream, step.event.message_id, 422),
            (stream, "step-1", 422),
        ):
            path = f"/v1/conversations/{place}/steps/{step_id}/request"
            assert (await server.http.get(path)).status_code == status


async def test_nothing_of_a_rendering_reaches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Vendor() as vendor:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, vendor.base_url)
        provider = provider_at(vendor)
        wire = await provider.wire_of(asking("hello"))
        await provider.close()
        assert (vendor.requests, vendor.connections) == ([], 0)
    assert wire is not None
    assert orjson.loads(wire.body)["messages"][0]["content"][0]["text"] == "hello"


async def test_a_manifest_tells_our_estimate_of_its_request(tmp_path: Path) -> None:
    async with telling(tmp_path / "a.db", calls("t1"), says("Two.")) as (server, vendor):
        stream = await server.conversation(await server.agent(MODEL, tools=("demo_count",)))
        await server.post(stream)
        answers = await proven(server, vendor, stream)
        manifests = [step.event.manifest for step in await steps_of(server, stream)]
    requests = [ModelRequest.model_validate(answer["request"]) for answer in answers]
    assert [one.tokens for one in manifests] == [tokens_of_request(one) for one in requests]
