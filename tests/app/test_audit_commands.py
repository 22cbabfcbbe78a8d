"""The audit from the command line: asked of a server in this process, told in plain lines."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
import pytest
import typer

from app import cli
from app.commands import CommandFailed, server
from app.commands.audit import escaped
from domain.streams import default_conversation
from tests import examples
from tests.app.serving import Server, serving
from tests.talks import Talk

NOWHERE: Final = "http://127.0.0.1:1"
UNKNOWN: Final = "conv-99999999-9999-4999-8999-999999999999"
COMPACTION: Final = "compaction-99999999-9999-4999-8999-999999999999"
# Turns the rest of a terminal red, and ends a line in some.
EVIL: Final = "evil \x1b[31m\x9b2J\u2028\u202e end"

Everlog: TypeAlias = Callable[..., Awaitable[str]]


class Bridge(httpx2.BaseTransport):
    """Carries a command's requests, made in a thread, to the server in the event loop."""

    def __init__(self, http: httpx2.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._http = http
        self._loop = loop

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = self._http.request(request.method, request.url.raw_path.decode())
        answer = asyncio.run_coroutine_threadsafe(sent, self._loop).result(timeout=30)
        return httpx2.Response(answer.status_code, content=answer.content, request=request)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as begun:
        yield begun


@pytest.fixture
def everlog(
    running: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Everlog:
    """Run a command against the server; give what it prints."""

    async def run(*arguments: str) -> str:
        bridge = Bridge(running.http, asyncio.get_running_loop())

        def client_of(url: str) -> httpx2.Client:
            return httpx2.Client(base_url=url, transport=bridge)

        monkeypatch.setattr(server, "client_of", client_of)
        command = typer.main.get_command(cli.cli)
        await asyncio.to_thread(command, list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


async def stored(running: Server, talk: Talk) -> str:
    stream = examples.CONVERSATION_ID
    await running.services.log.append(stream, 0, talk.events, "user")
    return stream


def forgotten() -> tuple[Talk, str]:
    """A conversation whose first messages have left the window."""
    talk = Talk()
    talk.say("I had tea with Ana.")
    talk.say(EVIL)
    talk.say("Soup.")
    return talk, talk.compact(2, 3, f"Ana had tea. {EVIL}")


def is_plain(printed: str) -> bool:
    return all(one.isprintable() for one in printed.replace("\n", ""))


# --- why --------------------------------------------------------------------------------------


async def test_why_tells_the_sentence_and_then_the_chain(running: Server, everlog: Everlog) -> None:
    talk, compaction_id = forgotten()
    printed = await everlog("why", await stored(running, talk), "tea with Ana")
    lines = printed.splitlines()
    assert lines[0].startswith('"tea with Ana" was said at offset 2 (')
    assert compaction_id in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["2", "6"]
    assert f"compacted: {compaction_id}" in lines[3]
    assert "7300 of 8000 tokens before, 4100 after" in printed
    assert "cut before message 3, at 50% of them, which left 4000 tokens; 5600 were the goal" in (
        printed
    )
    assert "evicted 2-3; retention 0.50" in printed
    assert "6  the summary has it: Ana, tea; the model sees it now" in printed
    assert lines[-1].strip() == "the model sees it in a summary"


async def test_why_tells_what_is_closest_and_what_only_summaries_say(
    running: Server, everlog: Everlog
) -> None:
    talk, _ = forgotten()
    stream = await stored(running, talk)
    printed = await everlog("why", stream, "soup with Marguerite")
    assert printed.splitlines()[1].split() == ["4", "user", "“Soup.”"]
    talk.compact(4, 4, "They saw a zebra.")
    new = talk.events[-2:]
    await running.services.log.append(stream, len(talk.events) - 2, new, "user")
    printed = await everlog("why", stream, "a zebra")
    assert f"{len(talk.events)}  a summary says it: zebra" in printed


async def test_why_tells_which_summary_lost_it(running: Server, everlog: Everlog) -> None:
    talk, compaction_id = forgotten()
    talk.undo(compaction_id)
    talk.redo(compaction_id)
    talk.compact(4, 6, "They ate soup.")
    printed = await everlog("why", await stored(running, talk), "tea with Ana")
    lines = [line.split(maxsplit=1) for line in printed.splitlines()[3:6]]
    assert [(offset, what.split(":")[0]) for offset, what in lines] == [
        ("6", "compacted"),
        ("7", "undone"),
        ("8", "redone"),
    ]
    assert "6  the summary has it: Ana, tea; a later one took its place" in printed
    assert "10  the summary does not have it; the model sees it now" in printed


async def test_why_says_how_many_it_does_not_show(running: Server, everlog: Everlog) -> None:
    talk = Talk()
    for _ in range(3):
        talk.say("tea")
    printed = await everlog("why", await stored(running, talk), "tea", "--limit", "1")
    assert printed.splitlines()[-1] == "and 2 more; --limit shows more of them"


# --- windows ----------------------------------------------------------------------------------


async def test_window_tells_every_message_with_its_offset(
    running: Server, everlog: Everlog
) -> None:
    talk, compaction_id = forgotten()
    stream = await stored(running, talk)
    lines = (await everlog("window", stream)).splitlines()
    assert lines[0].startswith("window at offset 6: 2 messages, ")
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1", "system"],
        ["6", "summary"],
        ["4", "user"],
    ]
    assert lines[2].endswith(compaction_id)
    earlier = (await everlog("window", stream, "--at", "2")).splitlines()
    assert [line.split()[0] for line in earlier[1:]] == ["1", "2"]


async def test_diff_tells_what_left_and_came_and_by_which_compaction(
    running: Server, everlog: Everlog
) -> None:
    talk, compaction_id = forgotten()
    talk.say("Bread.")
    stream = await stored(running, talk)
    lines = (await everlog("diff", stream, "7", "4")).splitlines()
    assert lines[:2] == ["window at offset 4 and at offset 7", "messages  3 and 3"]
    assert lines[3] == "system    as it was"
    moved = f"compacted at 6 {compaction_id}"
    assert [(line[0], line[1:].split()[0], line.endswith(moved)) for line in lines[4:]] == [
        ("-", "2", True),
        ("-", "3", True),
        ("+", "6", True),
        ("+", "7", False),
    ]


async def test_diff_tells_undoing_redoing_and_rolling_back(
    running: Server, everlog: Everlog
) -> None:
    talk, compaction_id = forgotten()
    undone_at = talk.undo(compaction_id)
    redone_at = talk.redo(compaction_id)
    rolled_back_at = talk.roll_back(4)
    stream = await stored(running, talk)

    async def moves(one: int, other: int) -> dict[str, list[tuple[int, Any]]]:
        told = json.loads(await everlog("diff", stream, str(one), str(other), "--json"))
        return {
            name: [(each["offset"], each["by"]["type"]) for each in told[name]]
            for name in ("left", "entered")
        }

    undone, redone = "window.compaction_undone", "window.compaction_redone"
    assert await moves(6, undone_at) == {
        "left": [(6, undone)],
        "entered": [(2, undone), (3, undone)],
    }
    assert await moves(undone_at, redone_at) == {
        "left": [(2, redone), (3, redone)],
        "entered": [(6, redone)],
    }
    assert await moves(redone_at, rolled_back_at) == {
        "left": [(4, "window.rolled_back")],
        "entered": [],
    }


# --- compactions ------------------------------------------------------------------------------


async def test_compactions_are_listed_and_shown_in_full(running: Server, everlog: Everlog) -> None:
    talk, compaction_id = forgotten()
    stream = await stored(running, talk)
    (row,) = (await everlog("compactions", stream)).splitlines()
    assert row.split()[:3] == ["6", "active", compaction_id]
    assert "7300 to 4100 tokens" in row
    full = await everlog("compactions", stream, compaction_id)
    assert "tried sliding_window, demo/echo" in full
    assert "at 50%: message 3, 4000 tokens, goal 5600" in full
    assert "evicted 2-3" in full
    assert "kept 4" in full
    assert "summary “Ana had tea." in full


async def test_a_conversation_without_compactions_says_so(
    running: Server, everlog: Everlog
) -> None:
    assert await everlog("compactions", await stored(running, Talk())) == "no compactions\n"


async def test_a_real_compaction_is_undone_and_redone(running: Server, everlog: Everlog) -> None:
    agent_id = await running.agent()
    for words in ("quartz", *("a long story about nothing " * 40 for _ in range(4))):
        path = f"/v1/agents/{agent_id}/messages"
        sent = await running.http.post(path, json={"input": words, "streaming": False})
        assert sent.status_code == 200, sent.text
    done = await running.http.post(
        f"/v1/conversations/{agent_id}/compact", json={"compaction_settings": {"mode": "all"}}
    )
    assert done.status_code == 200, done.text
    compaction_id = done.json()["compaction_id"]
    undone = await everlog("undo", agent_id, compaction_id, "--force")
    assert undone.startswith(f"{compaction_id} is undone: the window at offset ")
    assert "and is back in it since offset" in await everlog("why", agent_id, "quartz")
    redone = await everlog("redo", agent_id, compaction_id)
    assert redone.startswith(f"{compaction_id} holds again: ")
    rows = await everlog("compactions", agent_id)
    assert rows.split()[1] == "active"
    assert len(await running.facts(default_conversation(agent_id))) > 10


# --- all of them ------------------------------------------------------------------------------

ASKED: Final = [
    ("why", "tea with Ana"),
    ("why", "evil end"),
    ("window",),
    ("window", "--at", "4"),
    ("compactions",),
    ("diff", "1", "6"),
]


@pytest.mark.parametrize("command", ASKED, ids=" ".join)
async def test_nothing_that_was_said_steers_the_terminal(
    running: Server, everlog: Everlog, command: tuple[str, ...]
) -> None:
    talk, _ = forgotten()
    stream = await stored(running, talk)
    name, *rest = command
    assert is_plain(await everlog(name, stream, *rest))
    assert is_plain(await everlog(name, stream, *rest, "--json"))


@pytest.mark.parametrize(
    ("route", "command"),
    [
        ("why?q=tea", ("why", "tea")),
        ("window?at=4", ("window", "--at", "4")),
        ("compactions", ("compactions",)),
    ],
    ids=["why", "window", "compactions"],
)
async def test_json_is_the_answer_of_the_server(
    running: Server, everlog: Everlog, route: str, command: tuple[str, ...]
) -> None:
    talk, _ = forgotten()
    stream = await stored(running, talk)
    name, *rest = command
    printed = json.loads(await everlog(name, stream, *rest, "--json"))
    assert printed == (await running.http.get(f"/v1/conversations/{stream}/{route}")).json()


def test_json_is_escaped_without_being_changed() -> None:
    said = {"words": f"{EVIL} é 🦊 \U000e0001"}
    spelled = escaped(json.dumps(said, ensure_ascii=False))
    assert is_plain(spelled)
    assert "é 🦊" in spelled
    assert json.loads(spelled) == said


@pytest.mark.parametrize(
    "arguments",
    [
        ("why", "block-1", "x"),
        ("window", "conv-1"),
        ("compactions", UNKNOWN, "compaction-1"),
        ("undo", UNKNOWN, "../../x"),
        ("redo", "default", COMPACTION),
        ("diff", "x", "1", "2"),
    ],
    ids=" ".join,
)
async def test_what_is_no_id_is_refused_before_anybody_is_asked(
    everlog: Everlog, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(CommandFailed, match="is not the id of") as failure:
        await everlog(*arguments)
    assert failure.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("why", UNKNOWN, "x"),
        ("window", UNKNOWN),
        ("compactions", UNKNOWN),
        ("compactions", UNKNOWN, COMPACTION),
        ("undo", UNKNOWN, COMPACTION),
        ("redo", UNKNOWN, COMPACTION),
        ("diff", UNKNOWN, "1", "2"),
    ],
    ids=" ".join,
)
async def test_what_is_not_there_is_told_in_the_servers_words(
    everlog: Everlog, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(CommandFailed, match="says: Conversation not found"):
        await everlog(*arguments)


@pytest.mark.sqlite
def test_no_server_is_told_in_plain_words() -> None:
    command = typer.main.get_command(cli.cli)
    with pytest.raises(CommandFailed, match=f"There is no Everlog at {NOWHERE}"):
        command(["why", UNKNOWN, "x", "--url", NOWHERE], standalone_mode=False)


# --- fork -------------------------------------------------------------------------------------


async def test_a_fork_is_begun_and_told_with_whose_messages_it_has(
    running: Server, everlog: Everlog
) -> None:
    stream = await running.conversation()
    await running.post(stream, "I had tea with Ana.")
    await running.post(stream, "Soup.")
    fork_id = (await everlog("fork", stream, "--at", "3")).strip()
    shown = await everlog("window", fork_id)
    assert f"inherited from {stream}" in shown
    assert "Soup" not in shown
    assert (await everlog("fork", stream, "--json")).startswith('{"id":"conv-')
    said = await everlog("why", fork_id, "tea with Ana")
    assert said.startswith(f'"tea with Ana" was said at offset 3 of {stream} (')
