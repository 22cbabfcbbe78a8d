"""The client's twin on npm runs the README's example, in a real Node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.whole.server import serving
from tests.whole.test_readme import blocks, here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine"),
]
PACKAGE = "@letta-ai/letta-client@1.12.1"


def run(*command: str, where: Path) -> str:
    done = subprocess.run(
        command, cwd=where, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_javascript_example_runs_unchanged(tmp_path: Path) -> None:
    (example,) = blocks("js")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", PACKAGE, where=tmp_path)
    with serving(tmp_path / "readme.db") as server:
        (tmp_path / "example.mjs").write_text(here(example, server))
        shown = run("node", "example.mjs", where=tmp_path)
    assert "Hello! What do you remember?" in shown
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [
        "system_message",
        "user_message",
        "assistant_message",
    ]
