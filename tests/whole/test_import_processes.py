"""An import that is killed and run again, as separate processes on a real database."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases import opened, url_at

pytestmark = pytest.mark.slow

CONVERSATIONS = 20
MESSAGES = 300


def importing(file: Path, database: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "app", "import", str(file), "--database"]
    return subprocess.Popen([*command, url_at(database)], stdout=subprocess.PIPE, text=True)


def heads_in(database: Path) -> dict[str, int]:
    with closing(opened(database)) as store:
        return {stream: head for stream, head, _ in store.streams()}


def test_an_import_killed_in_the_middle_and_run_again_has_brought_everything_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "in.jsonl"
    with file.open("w") as lines:
        for number in range(CONVERSATIONS):
            agent = {"name": "guide", "model": "demo/echo"}
            print(json.dumps({"conversation": {"id": str(number), "agent": agent}}), file=lines)
            for place in range(MESSAGES):
                print(json.dumps({"role": "user", "content": f"This is {place}."}), file=lines)
    with importing(file, tmp_path / "killed.db") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("conv-")
        process.kill()
    begun = heads_in(tmp_path / "killed.db")
    for database in ("killed.db", "whole.db"):
        with importing(file, tmp_path / database) as process:
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert len(said.splitlines()) == CONVERSATIONS
    heads = heads_in(tmp_path / "whole.db")
    assert heads_in(tmp_path / "killed.db") == heads
    assert 0 < sum(begun.values()) < sum(heads.values())
