"""The command line as a user has it: separate processes, real files."""

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.whole.server import Server, serving

pytestmark = pytest.mark.slow


def everlog(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def one_turn(server: Server) -> str:
    with httpx2.Client(base_url=server.base_url, timeout=30) as client:
        agent = client.post("/v1/agents/", json={"name": "a", "model": "demo/echo"}).json()["id"]
        made = client.post(f"/v1/conversations/?agent_id={agent}").json()["id"]
        sent = client.post(
            f"/v1/conversations/{made}/messages", json={"input": "Hi", "streaming": False}
        )
        assert sent.status_code == 200, sent.text
    return made


@pytest.mark.sqlite
def test_the_demo_shows_that_nothing_is_lost() -> None:
    played = everlog("demo")
    assert played.returncode == 0, played.stdout + played.stderr
    assert "Nothing is missing and nothing is doubled." in played.stdout
    assert "epoch 2" in played.stdout
    assert " NO " not in played.stdout


def test_tail_prints_a_line_for_each_fact(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        conversation = one_turn(server)
        shown = everlog("tail", conversation, "--url", server.base_url, "--no-follow")
        later = everlog(
            "tail", conversation, "--url", server.base_url, "--no-follow", "--after", "3"
        )
    lines = shown.stdout.splitlines()
    assert "conversation.started" in lines[0]
    assert "run.finished" in lines[-1]
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert later.stdout.splitlines() == lines[3:]


@pytest.mark.sqlite
def test_tail_says_what_is_wrong(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        unknown = everlog(
            "tail", "conv-123e4567-e89b-42d3-8456-426614174000", "--url", server.base_url
        )
    gone = everlog("tail", "conv-123e4567-e89b-42d3-8456-426614174000", "--url", server.base_url)
    malformed = everlog("tail", "conv-1")
    assert (unknown.returncode, gone.returncode, malformed.returncode) == (1, 1, 2)
    assert "Conversation not found" in unknown.stderr
    assert "There is no Everlog" in gone.stderr
    assert "is not the id" in malformed.stderr


@pytest.mark.sqlite
def test_verify_and_rebuild_work_on_a_file_that_no_server_has(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'a.db'}"
    with serving(tmp_path / "a.db") as server:
        conversation = one_turn(server)
        refused = everlog("verify", "--database", database)
        assert server.stop() == 0
    assert refused.returncode != 0
    assert "in use by another Everlog process" in refused.stderr
    verified = everlog("verify", "--database", database)
    assert verified.returncode == 0, verified.stderr
    assert "all as written" in verified.stdout
    assert everlog("verify", conversation, "--database", database).returncode == 0
    rebuilt = everlog("rebuild", "--database", database)
    assert rebuilt.returncode == 0, rebuilt.stderr
    with serving(tmp_path / "a.db") as server:
        listed = httpx2.get(f"{server.base_url}/v1/conversations/").json()
    assert [one["id"] for one in listed] == [conversation]


def test_a_server_with_open_streams_ends_at_once_and_says_goodbye(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        conversation = one_turn(server)
        path = f"{server.base_url}/v1/conversations/{conversation}/events"
        headers = {"accept": "text/event-stream"}
        with httpx2.stream("GET", path, headers=headers, timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "id: 1"
            assert server.stop() == 0
            rest = list(lines)
    assert json.loads(rest[1].removeprefix("data: "))["type"] == "conversation.started"
    assert rest[-2].startswith(": the server is going down")


@pytest.mark.sqlite
def test_a_second_server_on_a_file_says_who_has_it(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        second = everlog("serve", "--port", "0", "--database", f"sqlite:///{tmp_path / 'a.db'}")
        assert second.returncode == 1
        assert f"pid {server.pid}" in second.stderr
    assert "Traceback" not in second.stderr
