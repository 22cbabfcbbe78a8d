"""The server as a second process, for the demo to kill."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from app.commands import CommandFailed

LISTENING: Final = re.compile(r"listening on http://\S+:(\d+)")
END_S: Final = 20


class ServerProcess:
    """`everlog serve` on one database file; a restart keeps the port."""

    def __init__(self, database: Path) -> None:
        self._database = database
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
        database = f"sqlite:///{self._database}"
        command = [
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--database",
            database,
        ]
        self._process = subprocess.Popen(  # noqa: S603 - our own program, with fixed arguments
            [sys.executable, "-m", "app", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        found = LISTENING.search(line)
        if found is None:
            self.kill()
            raise CommandFailed("The server did not start.")
        self._port = int(found[1])

    def kill(self) -> None:
        """End it with SIGKILL: nothing in it has a chance to put things in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
