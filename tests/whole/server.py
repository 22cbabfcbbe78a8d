"""Everlog as a real second process, to be talked to over HTTP and killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.databases import url_at

LISTENING = re.compile(r"listening on (http://\S+)")


class Server:
    """An `everlog serve` on one database, which can be started again after it died."""

    def __init__(self, database: Path | str, *, module: str = "app", **environment: str) -> None:
        self._url = database if isinstance(database, str) else url_at(database)
        self._module = module
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        self._port = "0"
        self.base_url = ""

    def start(self) -> "Server":
        """Start it and wait until it says where it listens; a restart keeps the port."""
        command = [sys.executable, "-m", self._module, "serve", "--port", self._port]
        self._process = subprocess.Popen(
            [*command, "--database", self._url],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = LISTENING.search(self._first_line())
        assert found is not None, "the server did not say where it listens"
        self.base_url = found[1]
        self._port = self.base_url.rsplit(":", 1)[1]
        return self

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def tell(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: it does nothing more, and does not know."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: no handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; give the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        return code

    def close(self) -> None:
        """Make sure it is gone."""
        if self._process is not None:
            self.kill()


@contextmanager
def serving(database: Path | str, *, module: str = "app", **environment: str) -> Generator[Server]:
    """Run a server for as long as the context is open."""
    server = Server(database, module=module, **environment)
    try:
        yield server.start()
    finally:
        server.close()
