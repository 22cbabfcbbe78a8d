"""The command line in this process: what it offers, and how it says no."""

import socket
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from app import cli
from app.commands import CommandFailed
from app.commands.serve import bound
from app.log import Log
from app.storage.sqlite import SCHEMA_VERSION, SQLiteStore
from tests import examples

NOWHERE: Final = "http://127.0.0.1:1"


def everlog(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Give the exit code of a command."""
    monkeypatch.setattr("sys.argv", ["everlog", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code if isinstance(end.value.code, int) else 0


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


async def written(path: Path) -> None:
    async with Log(SQLiteStore(path)) as log:
        facts = [examples.started, examples.queued(), examples.appended()]
        await log.append(examples.CONVERSATION_ID, 0, facts, "user")


# --- what there is -------------------------------------------------------------------------------


AUDIT: Final = ["why", "window", "compactions", "undo", "redo", "diff"]


@pytest.mark.parametrize("command", ["serve", "tail", "verify", "rebuild", "demo", *AUDIT])
def test_every_command_is_offered_and_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert everlog(monkeypatch, "--help") == 0
    assert f"\n  {command} " in capsys.readouterr().out
    assert everlog(monkeypatch, command, "--help") == 0
    assert f"Usage: everlog {command}" in capsys.readouterr().out


def test_serve_says_that_there_is_no_authentication(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert everlog(monkeypatch, "serve", "--help") == 0
    help_text = capsys.readouterr().out
    assert "no authentication" in help_text
    assert "--insecure-public" in help_text


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["serve", "--port", "x"], ["serve", "--port", "65536"], ["tail"], ["tail", "x"]],
    ids=" ".join,
)
def test_what_is_not_understood_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert everlog(monkeypatch, *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_tail_says_that_no_server_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert everlog(monkeypatch, "tail", examples.CONVERSATION_ID, "--url", NOWHERE) == 1
    assert f"There is no Everlog at {NOWHERE}" in capsys.readouterr().err


def test_the_demo_without_its_client_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError(name="letta_client")

    monkeypatch.setattr(cli, "_module", missing)
    assert everlog(monkeypatch, "demo") == 1
    assert "pip install 'everlog[demo]'" in capsys.readouterr().err


# --- where it listens ----------------------------------------------------------------------------


def test_port_0_takes_a_port_that_is_free() -> None:
    with bound("127.0.0.1", 0, public=False) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandFailed, match=f"Port {port} of 127.0.0.1 is in use"):
            bound("127.0.0.1", port, public=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - is refused
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(CommandFailed, match="--insecure-public") as refusal:
        bound(host, 0, public=False)
    assert refusal.value.code == 2


def test_an_address_that_others_can_reach_is_taken_where_that_is_wanted() -> None:
    with bound("0.0.0.0", 0, public=True) as listener:  # noqa: S104 - what is tested
        assert listener.getsockname()[0] == "0.0.0.0"  # noqa: S104 - the same


def test_a_host_that_cannot_exist_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"no address 'no\.\.where'"):
        bound("no..where", 0, public=False)


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "rebuild"])
async def test_a_database_that_somebody_has_open_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    path = tmp_path / "a.db"
    async with Log(SQLiteStore(path)):
        assert everlog(monkeypatch, command, "--database", url_of(path)) == 1
    assert "is in use by another Everlog process" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_a_database_that_is_not_there_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    path = tmp_path / "a.db"
    assert everlog(monkeypatch, command, "--database", url_of(path)) == 1
    assert f"There is no database {path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    path.write_text("Dear diary, " * 100)
    assert everlog(monkeypatch, "verify", "--database", url_of(path)) == 1
    assert f"Cannot use {path}: file is not a database" in capsys.readouterr().err


async def test_a_file_of_a_newer_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    await written(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    assert everlog(monkeypatch, "verify", "--database", url_of(path)) == 1
    assert f"has schema {SCHEMA_VERSION + 1}" in capsys.readouterr().err


def test_a_bad_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert everlog(monkeypatch, "verify", "--database", "mysql://db/everlog") == 2
    assert "must be sqlite:///FILE or postgresql://…" in capsys.readouterr().err


async def test_verify_names_the_stream_and_its_first_bad_offset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    await written(path)
    assert everlog(monkeypatch, "verify", "--database", url_of(path)) == 0
    assert "3 facts in 1 stream: all as written." in capsys.readouterr().out
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM stored_events WHERE originator_version = 2")
    connection.close()
    assert everlog(monkeypatch, "verify", "--database", url_of(path)) == 1
    said = capsys.readouterr()
    assert f"{examples.CONVERSATION_ID} is bad at offset 2: it is missing." in said.out
    assert "1 of 1 stream cannot be trusted" in said.err


async def test_verify_of_a_stream_that_does_not_exist_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    await written(path)
    unknown = examples.OTHER_CONVERSATION_ID
    assert everlog(monkeypatch, "verify", unknown, "--database", url_of(path)) == 2
    assert f"There is no stream {unknown}" in capsys.readouterr().err


async def test_rebuild_leaves_out_what_cannot_be_read_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    await written(path)
    assert everlog(monkeypatch, "rebuild", "--database", url_of(path)) == 0
    assert "written again from 3 facts" in capsys.readouterr().out
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE stored_events SET topic = 'x' WHERE originator_version = 3")
    connection.close()
    assert everlog(monkeypatch, "rebuild", "--database", url_of(path)) == 1
    said = capsys.readouterr()
    assert f"{examples.CONVERSATION_ID}@3" in said.out
    assert "1 fact could not be read" in said.err
