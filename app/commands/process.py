"""The server as a second process, for the demo to kill."""

import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Final

from app.commands import CommandFailed

LISTENING: Final = re.compile(r"listening on http://\S+:(\d+)")
# The child starts here, so that `-m app` is this program whatever folder the user is in.
HOME: Final = Path(__file__).resolve().parents[2]
START_S_MAX: Final = 30
END_S_MAX: Final = 20


class ServerProcess:
    """`everlog serve` on one database file; a restart keeps the port."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._errors = database.with_suffix(".log")
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process's id, 0 if there is none."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens. Raises CommandFailed."""
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, fixed arguments
                self._command(),
                cwd=HOME,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        found = LISTENING.search(_first_line(self._process))
        if found is None:
            self.kill()
            raise CommandFailed(f"The server did not start. {self._errors.read_text().strip()}")
        self._port = int(found[1])

    def _command(self) -> list[str]:
        program = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1"]
        return [*program, "--port", str(self._port), "--database", f"sqlite:///{self._database}"]

    def kill(self) -> None:
        """End it with SIGKILL: nothing in it has a chance to put things in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_S_MAX)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


def _first_line(process: subprocess.Popen[str]) -> str:
    """Wait for what the process says first, "" if it ends or is silent for too long."""
    if process.stdout is None:
        return ""
    ready, _, _ = select.select([process.stdout], [], [], START_S_MAX)
    return process.stdout.readline() if ready else ""
