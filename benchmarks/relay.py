"""What storing, numbering and resuming cost: Everlog beside an app that only relays the model.

All relay the same fake model to 16 clients at once, in turns, on the same machine: compare their
ratios, as single figures drift with the machine.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import uvloop

from benchmarks.load import (
    Connection,
    UnexpectedAnswer,
    asking_for,
    connections,
    new_agent,
    new_conversation,
)
from benchmarks.processes import Process, cpu_s, fake_model, running
from tests.whole.server import serving

STREAMS: Final = 16
DELTAS: Final = 200
ROUNDS_MAX: Final = 50
READING: Final = "pydantic-ai, read and not relayed"
SDK: Final = "anthropic SDK, relayed"
LIBRARY: Final = "pydantic-ai, relayed"
EVERLOG: Final = "everlog"
PATHS: Final = {READING: "/silent", SDK: "/sdk", LIBRARY: "/library"}


@dataclass
class Figures:
    """One side's rounds."""

    rates: list[float] = field(default_factory=list[float])
    cpu_us: list[float] = field(default_factory=list[float])
    model_share: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        """Deltas a second."""
        return statistics.median(self.rates)

    @property
    def cpu(self) -> float:
        """CPU of the process for one delta, in µs."""
        return statistics.median(self.cpu_us)

    @property
    def model_busy(self) -> float:
        """Share of the time in which the fake model was on a CPU."""
        return statistics.median(self.model_share)


class Side:
    """One of the servers that are compared, with its clients' connections."""

    def __init__(self, name: str, process: Process, model: Process) -> None:
        self.name = name
        self.figures = Figures()
        self._process = process
        self._model = model
        self._agent_id = ""

    async def round(self, *, counted: bool) -> None:
        """Have all clients ask at once and read to the end."""
        async with connections(self._process.base_url, STREAMS) as clients:
            paths = [await self._path(client) for client in clients]
            cpu, model_cpu, began = cpu_s(self._process.pid), cpu_s(self._model.pid), perf_counter()
            deltas = await asyncio.gather(*map(_stream, clients, paths))
            took_s = perf_counter() - began
            cpu = cpu_s(self._process.pid) - cpu
            model_cpu = cpu_s(self._model.pid) - model_cpu
        if counted:
            self.figures.rates.append(sum(deltas) / took_s)
            self.figures.cpu_us.append(cpu / sum(deltas) * 1e6)
            self.figures.model_share.append(model_cpu / took_s)

    async def _path(self, client: Connection) -> str:
        if self.name in PATHS:
            return PATHS[self.name]
        self._agent_id = self._agent_id or await new_agent(client)
        return f"/v1/conversations/{await new_conversation(client, self._agent_id)}/messages"


async def _stream(client: Connection, path: str) -> int:
    how: dict[str, Any] = {"streaming": True, "stream_tokens": True}
    streamed = await client.stream(path, asking_for(DELTAS, **how))
    if streamed.deltas != DELTAS:
        raise UnexpectedAnswer(f"{path}: {streamed.deltas} deltas; {streamed.body[-300:]!r}")
    return streamed.deltas


@contextmanager
def sides() -> Generator[list[Side]]:
    """Run the model and all servers, each a process of its own."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="everlog-"))
        model = stack.enter_context(fake_model())
        command = ["-m", "benchmarks.bare", "--model-url", model.base_url]
        # A process each: all are equally cold when their turn comes.
        found = [Side(name, stack.enter_context(running(command)), model) for name in PATHS]
        key = {"ANTHROPIC_API_KEY": "sk-made-up", "ANTHROPIC_BASE_URL": model.base_url}
        server = stack.enter_context(serving(Path(home) / "relay.db", **key))
        everlog = Process(server.pid, server.base_url)
        yield [*found, Side(EVERLOG, everlog, model)]


async def measure(compared: list[Side], rounds: int) -> None:
    """Warm each up, as the first call imports an SDK; then take turns, another first each time."""
    for number in range(rounds + 1):
        first = number % len(compared)
        for side in compared[first:] + compared[:first]:
            await side.round(counted=number > 0)


def ratio(one: Figures, other: Figures) -> float:
    """Compare rates round by round, as neighbours in time had the same machine."""
    pairs = zip(one.rates, other.rates, strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def show(compared: list[Side], rounds: int) -> None:
    """Print the medians and what follows from them."""
    figures = {side.name: side.figures for side in compared}
    everlog = figures[EVERLOG]
    print(f"{STREAMS} streams at once, {DELTAS} deltas each, medians of {rounds} rounds in turns")
    print(f"{'':36}{'deltas/s':>9}{'CPU µs a delta':>16}{'model on CPU':>14}{'everlog is':>12}")
    for name, found in figures.items():
        busy = f"{found.model_busy:14.0%}"
        times = ratio(everlog, found)
        print(f"{name:36}{found.rate:9,.0f}{found.cpu:16,.0f}{busy}{times:11.2f}x")
    print(f"relay ratio (everlog / {LIBRARY}): {ratio(everlog, figures[LIBRARY]):.2f}")
    print("(above 1 is possible: everlog merges deltas that come faster than it stores them)")
    share = figures[READING].cpu / everlog.cpu
    print(
        f"the vendor library's share of everlog's CPU: {share:.0%} (CPU a delta of an app that only"
        " reads the model's stream, over everlog's)"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, choices=range(1, ROUNDS_MAX), metavar="N")
    rounds = parser.parse_args().rounds
    with sides() as compared:
        uvloop.run(measure(compared, rounds))
        show(compared, rounds)


if __name__ == "__main__":
    main()
