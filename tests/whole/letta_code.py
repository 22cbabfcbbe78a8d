"""Letta Code as its users have it: installed from its wheel, run as a process, in a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

VERSION = "0.34.12"
GUARD_S = 120.0
# Rows and columns of its terminal.
SIZE = (40, 120)
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[a-zA-Z]|\][^\x07]*\x07|[=>])")


def installed(where: Path) -> Path:
    """Install it into a venv of its own; give its command."""
    subprocess.run([sys.executable, "-m", "venv", str(where)], check=True)
    wanted = ["install", "--quiet", "--disable-pip-version-check", f"letta=={VERSION}"]
    subprocess.run([str(where / "bin" / "pip"), *wanted], check=True, timeout=600)
    return where / "bin" / "letta"


class LettaCode:
    """A user's Letta Code, with a home and a project of its own, speaking to one server."""

    def __init__(self, command: Path, home: Path, base_url: str) -> None:
        self._command = [str(command), "--backend", "cloud"]
        self._project = home / "project"
        self._project.mkdir(parents=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LETTA_BASE_URL": base_url,
            "LETTA_API_KEY": "none",
            "DISABLE_AUTOUPDATER": "1",
            "TERM": "xterm-256color",
        }

    def ask(self, prompt: str, *options: str) -> dict[str, Any]:
        """Say one thing without a terminal; give what it answers as JSON."""
        run = subprocess.run(
            [*self._command, *options, "-p", prompt, "--output-format", "json"],
            cwd=self._project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads(run.stdout)

    def type(self, line: str, until: str, *options: str) -> str:
        """Type a line at its prompt, in a terminal; give all it showed until it says `until`."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self._project)
            command = [*self._command, *options]
            os.execve(command[0], command, self._environment)  # noqa: S606 - none is wanted
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", *SIZE, 0, 0))
        try:
            return _typed(terminal, line, until)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)


def _typed(terminal: int, line: str, until: str) -> str:
    shown, entered = "", 0.0
    typed = False
    end = time.monotonic() + GUARD_S
    while until not in shown:
        assert time.monotonic() < end, shown[-2000:]
        shown = _grown(terminal, shown)
        if not typed and "/agents" in shown:
            os.write(terminal, line.encode())
            typed = True
        elif typed and until not in shown and time.monotonic() > entered:
            # The first one may only choose from what it proposes to complete.
            os.write(terminal, b"\r")
            entered = time.monotonic() + 2
    return shown


def _grown(terminal: int, shown: str) -> str:
    ready, _, _ = select.select([terminal], [], [], 0.5)
    more = os.read(terminal, 65536) if ready else b""
    return shown + ESCAPES.sub(b"", more).decode("utf-8", "replace")
