"""What is exported is what was imported, and the same as what happened here."""

import asyncio
import io
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.commands.history import run_import
from app.execute import Execute
from app.history import lines as history_lines
from app.history.exporting import lines_of, state_of
from app.history.importing import Importer
from app.history.lines import Told, told_in
from app.log import Log
from app.storage.store import Store
from domain.conversation.importing import NO_RETURN
from domain.run import StepDelta, StepPart
from projections.interchange import spelled
from projections.items import MessageItem, ReturnItem, SummaryItem, spoken
from projections.request import turns_of
from projections.window import Window, window_of
from tests.app.files import (
    HEADER,
    IMAGE,
    Lines,
    dateless,
    exported,
    file_of,
    nothing,
    written,
)
from tests.app.scripts import Gate
from tests.app.serving import Scripted, Server, serving
from tests.databases import opened, url_at

# --- what comes out is what went in -------------------------------------------------------------

TEXT: Final = st.text(min_size=1, max_size=8)
ZONES: Final = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
DATES: Final = st.none() | st.datetimes(
    datetime(1000, 1, 1),  # noqa: DTZ001 - the zone is drawn beside
    datetime(9000, 1, 1),  # noqa: DTZ001 - the same
    timezones=ZONES,
).map(datetime.isoformat)


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": text}


def signed(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": text, "signature": "s"}


def redacted(data: str) -> dict[str, Any]:
    return {"type": "redacted", "data": data}


INPUT_PARTS: Final[st.SearchStrategy[Lines]] = st.lists(
    st.text(max_size=8).map(text_part) | st.just(IMAGE), min_size=1, max_size=3
)
CONTENT: Final[st.SearchStrategy[str | Lines]] = st.text(max_size=8) | INPUT_PARTS
THOUGHTS: Final = TEXT.map(thought) | st.text(max_size=8).map(signed) | TEXT.map(redacted)
STATUSES: Final = st.sampled_from(("ok", "error", "denied", "cancelled", "unknown"))
PRINTED: Final = st.none() | st.lists(st.text(max_size=4), max_size=2)
# What is written, and what comes out of it.
Pair: TypeAlias = tuple[Lines, Lines]


def with_date(line: dict[str, Any], date: str | None) -> dict[str, Any]:
    return line if date is None else {**line, "date": date}


@st.composite
def inputs(draw: st.DrawFn) -> Pair:
    role = draw(st.sampled_from(("user", "system")))
    line = with_date({"role": role, "content": draw(CONTENT)}, draw(DATES))
    return [line], [line]


@st.composite
def replies(draw: st.DrawFn) -> Pair:
    """Draw a reply in one of the forms it may have, and the returns of its calls in any order."""
    ids = draw(st.lists(TEXT, max_size=3, unique=True))
    parts: Lines = [
        *draw(st.lists(THOUGHTS, max_size=2)),
        *map(text_part, draw(st.lists(TEXT, max_size=2))),
        *(
            {"type": "tool_call", "id": one, "name": draw(TEXT), "arguments": draw(TEXT)}
            for one in ids
        ),
    ] or [{"type": "text", "text": draw(st.text())}]
    if draw(st.booleans()):
        parts = draw(st.permutations(parts))
    date, cut = draw(DATES), not ids and draw(st.booleans())
    more = {"status": "interrupted"} if cut else {}
    wanted = with_date({"role": "assistant", **short(parts), **more}, date)
    long = with_date({"role": "assistant", "content": parts, **more}, date)
    said, came_out = draw(returns([part["id"] for part in parts if "id" in part]))
    return [draw(st.sampled_from((wanted, long, loose(wanted)))), *said], [wanted, *came_out]


def short(parts: Lines) -> dict[str, Any]:
    """Spell parts in the fields of a reply if their order is the usual one."""
    kinds = "".join(part["type"][:3] for part in parts)
    if re.fullmatch("(rea|red)*(tex)?(too)*", kinds) is None:
        return {"content": parts}
    fields: dict[str, Any] = {}
    thoughts = [part for part in parts if part["type"] in ("reasoning", "redacted")]
    if thoughts:
        plain = len(thoughts) == 1 and thoughts[0].keys() == {"type", "text"}
        fields["reasoning"] = thoughts[0]["text"] if plain else thoughts
    for part in parts:
        if part["type"] == "text":
            fields["content"] = part["text"]
        if part["type"] == "tool_call":
            call = {name: part[name] for name in ("id", "name", "arguments")}
            fields.setdefault("tool_calls", []).append(call)
    return fields


def loose(line: dict[str, Any]) -> dict[str, Any]:
    """Spell a line as others do: calls one level down, null for what is not there."""
    calls = [
        {
            "id": one["id"],
            "type": "function",
            "function": {"name": one["name"], "arguments": one["arguments"]},
        }
        for one in line.get("tool_calls", [])
    ]
    return {"content": None, "reasoning": None, "status": None, **line, "tool_calls": calls}


@st.composite
def returns(draw: st.DrawFn, ids: list[str]) -> Pair:
    came: dict[str, dict[str, Any]] = {}
    for one in draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []:
        line: dict[str, Any] = {"role": "tool", "tool_call_id": one, "content": draw(CONTENT)}
        optional = {"stdout": draw(PRINTED), "stderr": draw(PRINTED), "status": draw(STATUSES)}
        line |= {name: value for name, value in optional.items() if value is not None}
        came[one] = with_date(line, draw(DATES))
    lost = {"role": "tool", "content": NO_RETURN, "status": "unknown"}
    wanted = [came.get(one, {**lost, "tool_call_id": one}) for one in ids]
    return [*came.values()], [_without_ok(one) for one in wanted]


def _without_ok(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if (name, value) != ("status", "ok")}


@st.composite
def pictures(draw: st.DrawFn) -> Pair:
    parts = [*draw(INPUT_PARTS), IMAGE]
    telling = [part for part in parts if part.get("text") != ""]
    return [{"role": "assistant", "content": parts}], [{"role": "assistant", "content": telling}]


@pytest.mark.parametrize("batch_max", [256, 3], ids=["in one append", "in many"])
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=st.lists(inputs() | replies() | replies() | pictures(), max_size=8))
def test_what_is_exported_is_what_was_imported_in_its_one_spelling(
    tmp_path: Path, batch_max: int, drawn: list[Pair]
) -> None:
    lines = [line for said, _ in drawn for line in said]
    wanted = [line for _, came_out in drawn for line in came_out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_lines, "IMPORTED_MESSAGES_MAX", batch_max)
        # A second time in its one spelling: what comes out goes in again as it is.
        for spelling in (lines, wanted):
            got = asyncio.run(there_and_back(tmp_path / "a.db", HEADER, *spelling))[1:]
            assert [comparable(one, two) for one, two in zip(got, wanted, strict=True)] == [
                comparable(two, two) for two in wanted
            ]


async def there_and_back(database: Path, *lines: Any) -> Lines:
    """Import one conversation and export it."""
    (told,) = told_in(io.BytesIO(file_of(*lines)))
    assert isinstance(told, Told), told
    async with Log(opened(database)) as log:
        stream = (await Importer(log, Execute(log)).take_in(told, nothing)).conversation_id
        return lines_in(log.store, stream)


def lines_in(store: Store, stream: str) -> Lines:
    found = lines_of(store, stream, state_of(store, stream), nothing)
    return [json.loads(spelled(one)) for one in found]


def comparable(line: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Read a line's date as a moment; where none was given it is that of the import."""
    (plain,) = dateless([line])
    if "date" in wanted:
        plain["date"] = datetime.fromisoformat(line["date"])
    return plain


# --- conversations that happened here ------------------------------------------------------------

TOOL: Final = {"name": "weather", "parameters": {"type": "object"}}


async def talk(server: Server) -> list[str]:
    """Have conversations of all kinds; give their ids."""
    plain = await server.conversation(await server.agent(tools=("demo_count",)), summary="Talk")
    for words in ("Hello!", "Please think.", 'call demo_count {"text": "one two"}', "Bye"):
        assert (await server.post(plain, words)).status_code == 200
    approved, denied, waiting = [await asked(server) for _ in range(3)]
    for stream, yes in ((approved, True), (denied, False)):
        await answered(server, stream, approve=yes)
    both = await server.conversation(model="script/x")
    gate = asyncio.create_task(server.post(both, "Talk until I stop you."))
    await server.until_there_is(both, StepDelta)
    await server.http.post(f"/v1/conversations/{both}/cancel")
    await gate
    return [plain, approved, denied, waiting, both]


async def asked(server: Server) -> str:
    """Have a model call a tool of the client's."""
    stream = await server.conversation()
    answer = await server.post(stream, 'call weather {"city": "Ulm"}', client_tools=[TOOL])
    assert '"requires_approval"' in answer.text
    return stream


async def answered(server: Server, stream: str, *, approve: bool) -> None:
    """Answer that call: with its return, or with a no."""
    facts = await server.events(stream)
    (call,) = [fact.call for fact in facts if isinstance(fact, StepPart) and fact.call]
    word: dict[str, Any] = {"type": "approval", "tool_call_id": call.id, "approve": False}
    if approve:
        word = {"type": "tool", "tool_call_id": call.id, "tool_return": "warm", "status": "success"}
        word["stdout"] = ["looked out of the window"]
    body = {"messages": [{"type": "approval", "approvals": [word]}], "client_tools": [TOOL]}
    answer = await server.http.post(f"/v1/conversations/{stream}/messages", json=body)
    assert answer.status_code == 200, answer.text


def seen(window: Window) -> list[tuple[str, Any, Any]]:
    """Give what a model sees of a window, place by place."""
    found: list[tuple[str, Any, Any]] = []
    for item in window.items:
        match item:
            case MessageItem():
                found.append((item.role, item.parts, False))
            case ReturnItem():
                found.append((item.tool_call_id, item.parts, item.status))
            case SummaryItem():
                found.append(("summary", item.summary, False))
            case _:
                parts = tuple(map(spoken, item.parts))
                found.append(("assistant", parts, item.interrupted))
    return found


async def shown(server: Server, stream: str) -> list[Any]:
    """List messages as a client sees them, without what is of the place: ids, and approvals."""
    listed = await server.get(f"/v1/conversations/{stream}/messages", order="asc", limit=1000)
    kept = ("message_type", "content", "reasoning", "tool_call", "tool_returns", "date", "name")
    of_here = ("system_message", "approval_request_message", "approval_response_message")
    return [
        {name: one[name] for name in kept if name in one}
        for one in listed
        if one["message_type"] not in of_here
    ]


async def test_a_conversation_of_real_runs_shows_the_same_where_it_is_imported(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    gate = Gate("I am ", "talking.")
    async with serving(here, Scripted(gate)) as server:
        names = await talk(server)
        before = {name: await shown(server, name) for name in names}
        windows = {name: window_of(await server.facts(name)) for name in names}
    lines = await asyncio.to_thread(exported, here)
    assert sum("conversation" in line for line in lines) == len(names)
    await asyncio.to_thread(run_import, written(tmp_path, *lines), url_at(there), None)
    plain, approved, denied, waiting, cut = names
    async with serving(there) as server:
        after = {name: await shown(server, name) for name in names}
        for name in names:
            facts = await server.facts(name)
            model_saw = seen(window_of(facts))
            if name == waiting:  # nobody can answer that call any more
                assert model_saw.pop()[2] == "unknown"
            assert model_saw == seen(windows[name])
        assert (after[plain], after[cut]) == (before[plain], before[cut])
        for name in (approved, denied):
            calls = ("tool_call_message",)
            assert [one for one in after[name] if one["message_type"] not in calls] == before[name]
        assert (await server.get(f"/v1/conversations/{plain}"))["summary"] == "Talk"
        went_on = await server.post(plain, "And on?")
        assert f"{len(turns_of(windows[plain])) + 1} turns" in went_on.text
