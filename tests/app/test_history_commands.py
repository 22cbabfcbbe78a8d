"""Conversations brought in and taken out by the command line: once, whole, and in words."""

import asyncio
import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.commands import CommandFailed
from app.commands.history import run_import
from app.execute import Execute
from app.history import lines as history_lines
from app.history.importing import Importer
from app.history.lines import Told, told_in
from app.log import Log
from app.storage.integrity import rebuild_tables, verify_all
from app.storage.store import Store
from domain.conversation import DeleteConversation, WindowRolledBack
from domain.event import Event
from domain.streams import CONVERSATION, derived_id
from projections.tables import TABLES
from tests import examples
from tests.app.files import (
    GUIDE,
    HEADER,
    HELLO,
    LOOK,
    OF_NOBODY,
    WARM,
    dateless,
    exported,
    facts_in,
    file_of,
    nothing,
    written,
)
from tests.app.serving import frames_of, serving
from tests.databases import opened, url_at


def everlog(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Give the exit code of a command."""
    monkeypatch.setattr("sys.argv", ["everlog", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code if isinstance(end.value.code, int) else 0


# --- what is not there, twice, or somebody else's ------------------------------------------------


def test_a_file_imported_twice_is_there_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = written(tmp_path, HEADER, HELLO, LOOK, WARM, HEADER, HELLO, HEADER, HELLO)
    url = url_at(tmp_path / "a.db")
    assert everlog(monkeypatch, "import", file, "--database", url) == 0
    first, before = capsys.readouterr().out.splitlines(), facts_in(tmp_path / "a.db")
    assert everlog(monkeypatch, "import", file, "--database", url) == 0
    second = capsys.readouterr().out.splitlines()
    assert facts_in(tmp_path / "a.db") == before
    assert [line.split(": ")[1] for line in first] == [
        "3 messages, offsets 1 to 10",
        "1 message, offsets 1 to 4",
        "1 message, offsets 1 to 4",
    ]
    assert len({line.split(": ")[0] for line in first}) == 3
    assert second == [f"{line}; nothing of it is new" for line in first]


def test_an_import_that_stopped_half_way_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(history_lines, "IMPORTED_MESSAGES_MAX", 2)
    lines = (HEADER, *({"role": "user", "content": str(number)} for number in range(9)))
    broken, whole = tmp_path / "broken.db", tmp_path / "whole.db"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    async def half() -> None:
        (told,) = told_in(io.BytesIO(file_of(*lines)))
        assert isinstance(told, Told)
        del told.batches[3:]
        async with Log(opened(broken)) as log:
            await Importer(log, Execute(log)).take_in(told, nothing)

    asyncio.run(half())
    file = written(tmp_path, *lines)
    run_import(file, url_at(broken), None)
    run_import(file, url_at(whole), None)
    assert dateless(exported(broken)) == dateless(exported(whole))
    assert facts_in(broken) == facts_in(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Importer, "take_in", stopped)
        with pytest.raises(CommandFailed, match="Stopped half-way: import the file again"):
            run_import(file, url_at(whole), None)


def test_other_messages_under_the_same_id_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    header = {"conversation": {"id": "talk", "agent": GUIDE}}
    run_import(written(tmp_path, header, HELLO), url_at(tmp_path / "a.db"), None)
    before = facts_in(tmp_path / "a.db")
    with pytest.raises(CommandFailed, match="1 of 1 conversation not imported"):
        run_import(written(tmp_path, header, LOOK), url_at(tmp_path / "a.db"), None)
    assert ":1: conversation.id: it was imported before with other" in capsys.readouterr().err
    with pytest.raises(CommandFailed, match="1 of 2 conversations not imported"):
        run_import(written(tmp_path, header, HELLO, header), url_at(tmp_path / "a.db"), None)
    assert ":3: conversation.id: 'talk' stands in an earlier header" in capsys.readouterr().err
    assert facts_in(tmp_path / "a.db") == before


def test_a_conversation_that_happened_here_or_was_deleted_is_not_added_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def serve() -> tuple[str, str]:
        async with serving(tmp_path / "a.db") as server:
            own, gone = await server.conversation(), await server.conversation()
            await server.post(own)
            await server.services.execute(gone, DeleteConversation(), "user")
            return own, gone

    headers = [{"conversation": {"id": one, "agent": GUIDE}} for one in asyncio.run(serve())]
    before = facts_in(tmp_path / "a.db")
    lines = [line for header in headers for line in (header, HELLO)]
    with pytest.raises(CommandFailed, match="2 of 2"):
        run_import(written(tmp_path, *lines), url_at(tmp_path / "a.db"), None)
    said = capsys.readouterr().err.splitlines()
    assert "is there already, with messages of its own" in said[0]
    assert "was deleted" in said[1]
    assert facts_in(tmp_path / "a.db") == before


def test_a_conversation_that_is_in_use_meanwhile_is_gone_on_with_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(history_lines, "IMPORTED_MESSAGES_MAX", 1)
    header = {"conversation": {"id": examples.CONVERSATION_ID, "agent": GUIDE}}
    half, whole = file_of(header, HELLO), file_of(header, HELLO, HELLO)

    async def write(*facts: Event) -> None:
        async with Log(opened(tmp_path / "a.db")) as log:
            head = await log.head(examples.CONVERSATION_ID)
            await log.append(examples.CONVERSATION_ID, head[0] if head else 0, facts, "user")

    run_import(written(tmp_path, half), url_at(tmp_path / "a.db"), None)
    asyncio.run(write(examples.queued(), examples.appended()))
    with pytest.raises(CommandFailed, match="1 of 1"):
        run_import(written(tmp_path, whole), url_at(tmp_path / "a.db"), None)
    assert "is in use; import the file again when it is not" in capsys.readouterr().err
    asyncio.run(write(examples.finished(epoch=None)))
    run_import(written(tmp_path, whole), url_at(tmp_path / "a.db"), None)
    assert "2 messages, offsets 1 to 10; 1 message had come before" in capsys.readouterr().out


# --- whose it is ---------------------------------------------------------------------------------


def test_conversations_of_an_agent_described_alike_share_the_one_that_is_made(
    tmp_path: Path,
) -> None:
    described = {**GUIDE, "system": "Be kind.", "blocks": [{"label": "human", "value": "Ada"}]}
    header = {"conversation": {"agent": described}}
    run_import(written(tmp_path, header, HELLO, header), url_at(tmp_path / "a.db"), None)
    found = [one["conversation"] for one in exported(tmp_path / "a.db") if "conversation" in one]
    (agent_id,) = {one["agent_id"] for one in found}
    assert found[0]["agent"]["system"] == "Be kind."
    assert found[0]["agent"]["blocks"][0]["value"] == "Ada"

    async def serve() -> None:
        async with serving(tmp_path / "a.db") as server:
            answer = await server.get(f"/v1/agents/{agent_id}", include="agent.blocks")
            assert answer["name"] == "guide"
            prompt = await server.get(f"/v1/conversations/{found[0]['id']}/messages", order="asc")
            assert "Ada" in prompt[0]["content"]

    asyncio.run(serve())


def test_the_agent_on_the_command_line_wins_and_must_be_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def make() -> None:
        async with Log(opened(tmp_path / "a.db")) as log:
            await log.append(examples.AGENT_ID, 0, [examples.agent_created], "user")

    asyncio.run(make())
    database = ("--database", url_at(tmp_path / "a.db"))
    file = written(tmp_path, HEADER, HELLO)
    assert everlog(monkeypatch, "import", file, *database, "--agent", examples.AGENT_ID) == 0
    (header, _) = exported(tmp_path / "a.db")
    assert header["conversation"]["agent_id"] == examples.AGENT_ID
    capsys.readouterr()
    assert everlog(monkeypatch, "import", file, *database, "--agent", OF_NOBODY) == 1
    assert f"agent_id: there is no agent {OF_NOBODY}" in capsys.readouterr().err
    assert everlog(monkeypatch, "import", file, *database, "--agent", "me") == 2


def test_a_conversation_of_nobody_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nobodys: tuple[Any, ...] = ({"conversation": {}}, {"conversation": {"agent_id": OF_NOBODY}})
    with pytest.raises(CommandFailed, match="2 of 2"):
        run_import(written(tmp_path, *nobodys), url_at(tmp_path / "a.db"), None)
    said = capsys.readouterr().err.splitlines()
    assert ":1: conversation.agent_id: name an agent here or with --agent" in said[0]
    assert f":2: conversation.agent_id: there is no agent {OF_NOBODY}" in said[1]


def test_a_deleted_agent_gets_no_conversations(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def make() -> None:
        async with Log(opened(tmp_path / "a.db")) as log:
            facts = [examples.agent_created, examples.agent_deleted]
            await log.append(examples.AGENT_ID, 0, facts, "user")

    asyncio.run(make())
    header = {"conversation": {"agent_id": examples.AGENT_ID, "agent": GUIDE}}
    with pytest.raises(CommandFailed, match="1 of 1"):
        run_import(written(tmp_path, header, HELLO), url_at(tmp_path / "a.db"), None)
    assert "was deleted; name another with --agent" in capsys.readouterr().err


def test_of_a_file_with_a_bad_conversation_the_others_are_written_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = written(tmp_path, HEADER, HELLO, HEADER, HELLO, WARM, HELLO, HEADER, LOOK)
    assert everlog(monkeypatch, "import", file, "--database", url_at(tmp_path / "a.db")) == 1
    said = capsys.readouterr()
    assert f"{file}:5: tool_call_id: no call 'c1'" in said.err
    assert "everlog: 1 of 3 conversations not imported." in said.err
    assert [line.split(": ")[1] for line in said.out.splitlines()] == [
        "1 message, offsets 1 to 4",
        "1 message, offsets 1 to 9; 1 call had no return",
    ]
    there = [one for one in facts_in(tmp_path / "a.db") if one.startswith(CONVERSATION)]
    assert sorted(there) == sorted(line.split(": ")[0] for line in said.out.splitlines())


def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    database = ("--database", url_at(tmp_path / "a.db"))
    assert everlog(monkeypatch, "import", str(tmp_path / "none.jsonl"), *database) == 2
    assert "Cannot read" in capsys.readouterr().err


# --- the commands --------------------------------------------------------------------------------


def test_an_import_leaves_a_sound_log_and_tables_that_a_rebuild_does_not_change(
    tmp_path: Path,
) -> None:
    run_import(written(tmp_path, HEADER, HELLO, LOOK, WARM, LOOK), url_at(tmp_path / "a.db"), None)
    with closing(opened(tmp_path / "a.db")) as store:
        before = tables_of(store)
        assert all(verdict.ok for _, verdict in verify_all(store))
        assert rebuild_tables(store) == []
        assert tables_of(store) == before
        (run,) = before["runs"]
        assert (run["status"], run["stop_reason"], run["model"]) == (
            "completed",
            "end_turn",
            "import",
        )


def tables_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: store.query(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}")  # noqa: S608 - our own words
        for table in TABLES.values()
        if table.rebuilt
    }


async def test_when_a_message_was_said_is_its_date_for_clients(tmp_path: Path) -> None:
    dated = [{**one, "date": "2023-05-08T13:56:07.5+02:00"} for one in (HELLO, LOOK, WARM)]
    file = written(tmp_path, {"conversation": {"id": "old", "agent": GUIDE}}, *dated)
    await asyncio.to_thread(run_import, file, url_at(tmp_path / "a.db"), None)
    stream = derived_id(CONVERSATION, "import/old")
    async with serving(tmp_path / "a.db") as server:
        _, *listed = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
        runs = await server.get("/v1/runs/", conversation_id=stream)
        frames = frames_of(
            (await server.http.post(f"/v1/runs/{runs[0]['id']}/stream", json={})).text
        )
    assert [one["message_type"] for one in listed] == [
        "user_message",
        "assistant_message",
        "tool_call_message",
        "tool_return_message",
    ]
    assert {one["date"] for one in listed} == {"2023-05-08T11:56:07+00:00"}
    assert {one["date"] for one in frames if "date" in one} == {"2023-05-08T11:56:07+00:00"}


def test_deleted_conversations_and_turns_rolled_back_are_exported_if_that_is_wanted(
    tmp_path: Path,
) -> None:
    async def write() -> None:
        back = WindowRolledBack(
            run_ids=(examples.NEXT_RUN_ID,), message_ids=(examples.NEXT_MESSAGE_ID,)
        )
        async with Log(opened(tmp_path / "a.db")) as log:
            facts = [
                examples.started,
                examples.queued(),
                examples.appended(),
                examples.finished(epoch=None),
                examples.queued(examples.NEXT_RUN_ID),
                examples.appended(examples.NEXT_RUN_ID, examples.NEXT_MESSAGE_ID, "No!"),
                examples.finished(examples.NEXT_RUN_ID, epoch=None),
                back,
                examples.deleted,
            ]
            await log.append(examples.CONVERSATION_ID, 0, facts, "user")

    asyncio.run(write())
    with pytest.raises(CommandFailed, match="is deleted; --deleted"):
        exported(tmp_path / "a.db", examples.CONVERSATION_ID)
    assert exported(tmp_path / "a.db") == []
    _, *kept = exported(tmp_path / "a.db", deleted=True)
    _, *whole = exported(
        tmp_path / "a.db", examples.CONVERSATION_ID, deleted=True, rolled_back=True
    )
    assert [one["content"] for one in kept] == ["Hello!"]
    assert [one["content"] for one in whole] == ["Hello!", "No!"]


@pytest.mark.sqlite
@pytest.mark.parametrize("command", ["import", "export"])
def test_each_command_is_offered_and_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert everlog(monkeypatch, "--help") == 0
    assert f"\n  {command} " in capsys.readouterr().out
    assert everlog(monkeypatch, command, "--help") == 0
    assert f"Usage: everlog {command}" in capsys.readouterr().out


@pytest.mark.sqlite
def test_the_lines_that_the_help_shows_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert everlog(monkeypatch, "import", "--help") == 0
    shown = capsys.readouterr().out
    lines = shown[shown.index('  {"conversation"') : shown.index("The header names")].strip()
    whole = lines.replace(",\n      ", ", ").replace("\n  ", "\n")
    (told,) = told_in(io.BytesIO(whole.encode()))
    assert isinstance(told, Told), told
    assert (told.messages, told.unreturned) == (4, 0)


def test_from_pipe_to_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = url_at(tmp_path / "a.db")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file_of(HEADER, HELLO))))
    assert everlog(monkeypatch, "import", "-", "--database", url) == 0
    name = capsys.readouterr().out.split(":")[0]
    assert everlog(monkeypatch, "export", name, "--database", url) == 0
    said = capsys.readouterr()
    header, hello = (json.loads(line) for line in said.out.splitlines())
    assert header["conversation"]["id"] == name
    assert dateless([hello]) == [HELLO]
    assert said.err == "1 message of 1 conversation written.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Name conversations, or have --all"),
        ((examples.CONVERSATION_ID, "--all"), "Name conversations, or have --all"),
        ((examples.OTHER_CONVERSATION_ID,), "There is no conversation conv-22222222"),
        (("talk",), "There is no conversation talk"),
    ],
    ids=["nothing", "both", "unknown", "malformed"],
)
def test_an_export_of_what_is_not_there_says_so(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    opened(tmp_path / "a.db").close()
    output = tmp_path / "out.jsonl"
    database = ("--database", url_at(tmp_path / "a.db"))
    assert everlog(monkeypatch, "export", *arguments, "--output", str(output), *database) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.glob("out*")) == []


async def test_beside_a_server_only_a_postgres_is_read_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, engine: str
) -> None:
    file = written(tmp_path, {"conversation": {"id": "talk", "agent": GUIDE}}, HELLO)
    database = ("--database", url_at(tmp_path / "a.db"))
    async with serving(tmp_path / "a.db") as server:
        codes = [
            await asyncio.to_thread(everlog, monkeypatch, *arguments, *database)
            for arguments in (("import", file), ("export", "--all"))
        ]
        said = capsys.readouterr()
        if engine == "sqlite":
            assert codes == [1, 1]
            assert said.err.count("is in use by another Everlog process") == 2
            return
        stream = derived_id(CONVERSATION, "import/talk")
        assert codes == [0, 0]
        went_on = await server.post(stream, "And on?")
    # One user's turn: what was imported, and what came here.
    assert "1 turn " in went_on.text
