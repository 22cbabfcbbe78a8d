"""Every example runs as it stands, against a real server, and shows what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole.server import serving

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN = {
    "01_resume_after_a_cut": ["Cut off after number", "what the history holds: True"],
    "02_cancel": ["'cancelled'", "ended with: ['cancelled']", "user_message", "assistant_message"],
    "03_enqueue_and_interrupt": [
        "busy with run-",
        "waiting: ['When you are done.']",
        "'First.' ended with cancelled",
        "'Stop, this is urgent.' ended with end_turn",
        "'When you are done.' ended with end_turn",
        "asked: First.\nasked: Stop, this is urgent.\nasked: When you are done.",
    ],
    "05_why_forgotten": [
        "compacted: ",
        "evicted - ",
        "left the window at offset",
        "'The spare key is under the third flower pot.'",
        "undone: ",
        "\nin_window\n",
    ],
    "migrate_from_letta": [
        "trail-desk came over with 7 messages, 3 in its window",
        "memory: human: Walks slowly",
        "'look_up_train' left out",
        "2026-05-01 09:01 user_message: The hut key is at the bakery",
        "it goes on: ",
        "evicted - ",
        "evicted before the import",
    ],
    "04_client_tool": ["asked for weather", "returned It is sunny in Ulm.", "sunny in Ulm"],
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs_and_shows_what_it_says(path: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "example.db", EVERLOG_DEMO_WORD_DELAY_S="0.02") as server:
        run = subprocess.run(
            [sys.executable, str(path)],
            env={**os.environ, "LETTA_BASE_URL": server.base_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    assert run.returncode == 0, run.stderr
    for words in SHOWN[path.stem]:
        assert words in run.stdout, run.stdout
