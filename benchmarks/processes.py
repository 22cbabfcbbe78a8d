"""Other processes: starting them, and what they cost."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Another model than the tests' vendor: a script that takes --port and speaks the same protocol.
FAKE: Final = "EVERLOG_BENCH_FAKE"
START_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_USER_TIME, _SYSTEM_TIME = 11, 12


def cpu_s(pid: int) -> float:
    """Give the CPU seconds that a process, with all its threads, has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_A_S


def rss_mb(pid: int) -> float:
    """Give the memory that a process holds now, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process of ours that listens on loopback."""

    def __init__(self, pid: int, base_url: str) -> None:
        self.pid = pid
        self.base_url = base_url


@contextmanager
def running(command: Sequence[str]) -> Generator[Process]:
    """Run a Python program that takes --port, for as long as the context is open."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, *command, "--port", str(port)], stdout=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(process, port)
            yield Process(process.pid, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_S)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


@contextmanager
def fake_model() -> Generator[Process]:
    """Run the model that all measurements talk to."""
    script = os.environ.get(FAKE)
    with running([script] if script else ["-m", "tests.vendor"]) as process:
        yield process
