"""Every block of the README is run as a reader would run it, against a real server."""

import json
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.databases import cluster
from tests.whole.server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# What these do is run by the other tests, by the demo's own test, and by this one's server.
MAKE = {"make demo", "make test", "make serve"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def here(text: str, server: Server) -> str:
    return text.replace("http://127.0.0.1:8283", server.base_url)


def shell(script: str) -> str:
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_python_example_runs_unchanged(tmp_path: Path) -> None:
    (example,) = blocks("python")
    with serving(tmp_path / "readme.db") as server:
        run = subprocess.run(
            [sys.executable, "-c", here(example, server)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert run.returncode == 0, run.stderr
    assert "Hello! What do you remember?" in run.stdout
    assert [line.split()[0] for line in run.stdout.splitlines()[1:]] == [
        "system_message",
        "user_message",
        "assistant_message",
    ]


def test_the_shell_examples_run_unchanged_and_show_what_they_say(tmp_path: Path) -> None:
    scripts = [one for one in blocks("bash") if one.strip() not in MAKE]
    marked = "\n".join(f"{one}\nprintf '\\n=====\\n'" for one in scripts)
    with serving(tmp_path / "readme.db") as server:
        shown = shell(here(marked, server)).split("\n=====\n")
    resume, pages, followed, window, forked = (one.strip() for one in shown[:5])
    # A stream and its resumption: the second is the end of the first, to the byte.
    first, second = resume.split("data: [DONE]")[:2]
    assert second.strip() != ""
    assert first.endswith(second.lstrip("\n"))
    oldest, newest = map(json.loads, re.findall(r"\{\"events\".*?\"head\":\d+\}", pages))
    assert [one["offset"] for one in oldest["events"]] == [1, 2, 3, 4, 5]
    assert [one["type"] for one in newest["events"]] == ["run.finished"]
    assert followed.startswith("id: 3\nevent: message.appended\n")
    assert json.loads(forked)["id"].startswith("conv-")
    answers, cancelled = shown[5].split("data: ", 1)
    first_answer, second_answer = re.findall(r"\{\"messages\".*?\"turns\":null\}", answers)
    assert first_answer == second_answer
    assert re.search(r"\{\"run-[^}]*\":\"cancelled\"\}", cancelled)
    assert '"stop_reason":"cancelled"' in cancelled
    assert "<memory_metadata>" in json.loads(shown[6])
    at, verdict = re.split(r"(?<=\})(?=\{\"ok\")", window)
    assert json.loads(at)["at"] == 3
    assert json.loads(verdict)["ok"] is True


def transcript() -> list[tuple[str, str]]:
    """Give the commands of the terminal that is shown, and what each printed."""
    (shown,) = blocks("console")
    told = [part.split("\n", 1) for part in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]]
    return [(command, printed) for command, printed in told]


def nameless(printed: str) -> str:
    """Leave out what is another one each time."""
    return re.sub(r"compaction-[0-9a-f-]{36}", "compaction-…", printed).strip()


def test_the_transcript_of_an_audit_is_what_happens(tmp_path: Path) -> None:
    commands = transcript()
    database = tmp_path / "garden.db"
    environment = f"export PYTHONPATH={ROOT} EVERLOG_DATABASE_URL=sqlite:///{database}; cd {ROOT};"
    everlog = f'everlog() {{ {sys.executable} -m app "$@"; }};'
    first, serve, *others = (command for command, _ in commands)
    assert serve == "everlog serve > everlog.log &"
    printed = [shell(f"{environment} {everlog} {first}"), ""]
    with serving(database) as server:
        # As above, but at the port of this test's server, and the answer kept out of the sources.
        asking = f'everlog() {{ {sys.executable} -m app "$@" --url {server.base_url}; }};'
        script = "\nprintf '\\n=====\\n'\n".join(others).replace("> compaction.json", "> /dev/null")
        shown = shell(f"{environment} {asking}\n{here(script, server)}")
        printed += shown.split("\n=====\n")
    assert list(map(nameless, printed)) == [nameless(expected) for _, expected in commands]


def test_the_postgres_example_runs_unchanged(tmp_path: Path) -> None:
    (example,) = blocks("sh")
    with serving(tmp_path / "everlog.db") as server:
        shell(here(blocks("bash")[3], server))  # a talk, to be copied
    url = cluster().create(f"readme_{uuid4().hex}")
    script = example.replace("postgresql://user:password@db.example.org/everlog", f"'{url}'")
    for port in ("8283", "8284"):
        script = script.replace(f"--port {port} &", f"--port 0 > {port}.out & pids+=($!)")
    waiting = "until grep -q listening 8283.out && grep -q listening 8284.out; do sleep 0.2; done"
    everlog = tmp_path / "bin" / "everlog"
    everlog.parent.mkdir()
    everlog.write_text(f'#!/bin/sh\nexec {sys.executable} -m app "$@"\n')
    everlog.chmod(0o755)
    begin = f"cd {tmp_path}; export PYTHONPATH={ROOT} PATH={everlog.parent}:$PATH; pids=()"
    said = shell(f"{begin}\n{script}\n{waiting}\nkill ${{pids[@]}}; wait")
    assert "is ready to be served" in said
    assert re.search(r"holds [1-9]\d* streams of the source.*every hash is as it was", said)


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))
    assert named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:benchmarks|tests)/[\w./]+)`", README))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_benchmark_that_is_named_begins() -> None:
    named = set(re.findall(r"python -m (benchmarks\.\w+)", README))
    assert named
    for module in sorted(named):
        # What they measure is the machine's to say; that they can be asked is ours.
        assert "usage:" in shell(f"cd {ROOT} && {sys.executable} -m {module} --help")
