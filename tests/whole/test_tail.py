"""`everlog tail` beside a real server that dies and comes back."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import httpx2
import pytest

from tests.whole.server import Server, serving

pytestmark = pytest.mark.slow
GUARD_S = 120
# What ends a line in some readers of text, and what would colour a terminal.
STRANGE = "one\u2028two\x85three \x1b[31mred"


def begin(server: Server) -> str:
    with httpx2.Client(base_url=server.base_url, timeout=30) as client:
        agent = client.post("/v1/agents/", json={"name": "a", "model": "demo/echo"}).json()["id"]
        return client.post(f"/v1/conversations/?agent_id={agent}").json()["id"]


def say(server: Server, conversation: str, words: str) -> None:
    path = f"{server.base_url}/v1/conversations/{conversation}/messages"
    sent = httpx2.post(path, json={"input": words, "streaming": False}, timeout=30)
    assert sent.status_code == 200, sent.text


def until_finished(lines: IO[str]) -> list[str]:
    """Read to the end of a run."""
    read: list[str] = []
    while not read or "run.finished" not in read[-1]:
        read.append(lines.readline())
        assert read[-1], "tail has ended"
    return read


def test_tail_goes_on_where_it_was_when_the_server_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        conversation = begin(server)
        command = [sys.executable, "-m", "app", "tail", conversation, "--url", server.base_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
            assert tail.stdout is not None
            guard = threading.Timer(GUARD_S, tail.kill)
            guard.start()
            try:
                say(server, conversation, STRANGE)
                lines = until_finished(tail.stdout)
                server.kill()
                server.start()
                say(server, conversation, "again")
                lines += until_finished(tail.stdout)
            finally:
                guard.cancel()
                tail.send_signal(signal.SIGINT)
            assert tail.wait(timeout=30) == 0
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "one two three" in "".join(lines)
    assert "\x1b" not in "".join(lines)
