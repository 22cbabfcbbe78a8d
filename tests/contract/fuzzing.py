"""Requests made up from `/openapi.json`, thousands of them, and every answer held against it.

`python -m tests.contract.fuzzing --cases 5000` runs a server and schemathesis, which is not among the
tools that every test needs: `pip install everlog[fuzz]`, or have its command `st` on the path.
"""

import argparse
import math
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx2
from letta_client import Letta

from tests.whole.server import serving

# What an answer must not be: a failure that is not deliberate, a status, a type or a shape that the
# description does not have.
CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)
# 501 is said on purpose, with what to do instead.
CONFIG: Final = """\
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "501"]

[parameters]
"""
REQUEST_TIMEOUT_S: Final = 30
FUZZING: Final = "fuzzing"


def st() -> str | None:
    """Give the path of schemathesis's command: beside this Python, or anywhere; None without it."""
    beside = shutil.which("st", path=str(Path(sys.executable).parent))
    return beside or shutil.which("st")


def fuzz(command: str, *, cases: int, seed: int, phases: str = FUZZING) -> list[str]:
    """Send requests; give what schemathesis said of each half that failed.

    Half of them name things that exist, and delete none; the other half names what it likes. Drawn
    at random are `cases`; the phase `coverage` adds what lies at the bounds of each parameter.
    """
    with TemporaryDirectory() as folder, serving(Path(folder) / "everlog.db") as server:
        where = f"{server.base_url}/openapi.json"
        operations = sum(map(len, httpx2.get(where).json()["paths"].values()))
        each = math.ceil(cases / operations / 2)
        asked = [where, "--phases", phases, "--max-examples", str(each), "--seed", str(seed)]
        ids = "".join(f'"path.{one}" = "{it}"\n' for one, it in _known(server.base_url).items())
        known, anything = Path(folder) / "known.toml", Path(folder) / "anything.toml"
        known.write_text(CONFIG + ids)
        anything.write_text(CONFIG)
        return [
            *_run(command, known, [*asked, "--exclude-method", "DELETE"]),
            *_run(command, anything, asked),
        ]


def _run(command: str, config: Path, asked: list[str]) -> list[str]:
    done = subprocess.run(
        [
            *(command, "--config-file", str(config), "run", *asked),
            *("--checks", CHECKS, "--continue-on-failure", "--no-shrink"),
            *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            *("--request-timeout", str(REQUEST_TIMEOUT_S)),
        ],
        cwd=config.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-2_000:])  # noqa: T201 - what a person who runs this wants to see
    return [done.stdout + done.stderr] if done.returncode else []


def _known(base_url: str) -> dict[str, str]:
    """Make one of each thing; give their ids by the names that they have in paths."""
    with Letta(base_url=base_url, api_key="none") as client:
        agent = client.agents.create(
            model="demo/echo", memory_blocks=[{"label": "human", "value": "Nobody yet."}]
        )
        (block,) = client.agents.blocks.list(agent.id).items
        conversation = client.conversations.create(agent_id=agent.id)
        for words in ("Hello!", "And now?", "Go on."):
            body = {"input": words, "streaming": False}
            client.post(f"/v1/conversations/{conversation.id}/messages", cast_to=object, body=body)
        run = client.runs.list(conversation_id=conversation.id).items[0]
        step = client.steps.list().items[0]
        message = client.conversations.messages.list(conversation.id).items[0]
    return {
        "agent_id": agent.id,
        "block_id": block.id,
        "block_label": "human",
        "conversation_id": conversation.id,
        "run_id": run.id,
        "step_id": step.id,
        "message_id": str(getattr(message, "id", "")),
        "tool_name": "demo_count",
    }


def main() -> int:
    """Fuzz as the command line says; the exit code is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default=f"coverage,{FUZZING}")
    asked = parser.parse_args()
    command = st()
    if command is None:
        print("schemathesis is not there: pip install everlog[fuzz]")  # noqa: T201 - a script
        return 2
    said = fuzz(command, cases=asked.cases, seed=asked.seed, phases=asked.phases)
    print("\n".join(said) or "Nothing was found.")  # noqa: T201 - a script
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
