"""The audit as a user has it: a command in its own process, a server in another."""

import json
from pathlib import Path

import httpx2
import pytest

from tests.whole.server import serving
from tests.whole.test_commands import everlog, one_turn

pytestmark = pytest.mark.slow


def test_why_and_its_neighbours_work_beside_a_server(tmp_path: Path) -> None:
    with serving(tmp_path / "a.db") as server:
        stream, url = one_turn(server), ("--url", server.base_url)
        told = everlog("why", stream, "Hi", *url)
        raw = everlog("why", stream, "Hi", "--json", *url)
        path = f"{server.base_url}/v1/conversations/{stream}/why"
        answer = httpx2.get(path, params={"q": "Hi"}).json()
        window = everlog("window", stream, *url)
        none = everlog("compactions", stream, *url)
        changed = everlog("diff", stream, "1", str(answer["at"]), *url)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[0] == answer["sentence"]
    assert json.loads(raw.stdout) == answer
    assert answer["verdict"] == "in_window"
    assert window.stdout.startswith(f"window at offset {answer['at']}: 2 messages, ")
    assert none.stdout == "no compactions\n"
    assert [line[0] for line in changed.stdout.splitlines()[4:]] == ["+", "+"]
