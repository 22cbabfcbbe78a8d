"""Tools that the server runs itself: the seam, and the box that holds them."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from domain.content import Content, ToolSchema
from domain.run import OfferedTool


class ToolFailed(Exception):
    """A tool that could not do what it was asked; the words are for the model."""


@dataclass(frozen=True, slots=True)
class Call:
    """Which call it is: enough for a tool to know one that it has carried out before.

    `started_at` is the offset where it was first begun, `message_id` that of its return: both are the
    same when it is run again.
    """

    conversation_id: str
    run_id: str
    tool_call_id: str
    started_at: int
    message_id: str = ""


class Tool(Protocol):
    """Something that the server does for a model.

    One that is `idempotent` may be run again for the same call after a crash.
    """

    schema: ToolSchema
    idempotent: bool

    async def run(self, arguments: dict[str, Any], call: Call) -> Content:
        """Do it and say what came of it. Raises ToolFailed; being cancelled is to stop at once."""
        ...


class Source(Protocol):
    """Something outside whose tools come and go.

    A tool's name begins with its source's and two underscores, so that it is known whose it is
    also while the source is away.
    """

    @property
    def name(self) -> str:
        """What the source is called."""
        ...

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Its tools by name, as last heard of."""
        ...

    @property
    def settled(self) -> bool:
        """Tell whether it has listed its tools, or shown that it cannot for now."""
        ...

    @property
    def there(self) -> bool:
        """Tell whether it has ever listed its tools."""
        ...

    def gates(self, name: str) -> bool:
        """Tell whether the operator wants a client's approval before a tool is run."""
        ...

    async def wait(self) -> None:
        """Wait until it has settled."""
        ...


SEPARATOR: Final = "__"
SOURCE_WAIT_S: Final = 5.0


class Toolbox:
    """The tools there are, by name: the server's own, and those of its sources."""

    def __init__(
        self, tools: Iterable[Tool], *, timeout_s: float, sources: Sequence[Source] = ()
    ) -> None:
        self._tools = {tool.schema.name: tool for tool in tools}
        self._sources = {source.name: source for source in sources}
        self._timeout_s = timeout_s

    @property
    def names(self) -> list[str]:
        """Name the tools there are."""
        return sorted(tool.schema.name for tool in self)

    def __iter__(self) -> Iterator[Tool]:
        yield from self._tools.values()
        for source in self._sources.values():
            yield from source.tools.values()

    def offered(
        self, names: Iterable[str], gated: Collection[str], terminal: Collection[str] = ()
    ) -> tuple[OfferedTool, ...]:
        """Give those of `names` that there are, as they are offered to a model."""
        found = (self.get(name) for name in names)
        return tuple(_offered(tool, gated, terminal) for tool in found if tool is not None)

    def get(self, name: str) -> Tool | None:
        """Give a tool."""
        source = self.source_of(name)
        own = self._tools.get(name)
        return source.tools.get(name) if own is None and source is not None else own

    def source_of(self, name: str) -> Source | None:
        """Give the source whose tool a name is, or would be."""
        source, separator, _ = name.partition(SEPARATOR)
        return self._sources.get(source) if separator else None

    def gates(self, name: str) -> bool:
        """Tell whether a tool runs only with the client's approval, unless an agent says else."""
        source = self.source_of(name)
        return source is not None and source.gates(name)

    async def settle(self, names: Iterable[str]) -> None:
        """Wait a little for the sources of some tools that have just begun: a start is no absence."""
        sources = {one.name: one for name in names if (one := self.source_of(name)) is not None}
        waits = [one.wait() for one in sources.values() if not one.settled]
        if waits:
            try:
                async with asyncio.timeout(SOURCE_WAIT_S):
                    await asyncio.gather(*waits)
            except TimeoutError:
                return

    async def run(self, tool: Tool, arguments: dict[str, Any], call: Call) -> Content:
        """Run a tool for as long as it may take. Raises ToolFailed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await tool.run(arguments, call)
        except TimeoutError:
            raise ToolFailed(f"The tool took longer than {self._timeout_s:g} s.") from None


def _offered(tool: Tool, gated: Collection[str], terminal: Collection[str]) -> OfferedTool:
    given: dict[str, Any] = tool.schema.model_dump(exclude_none=True)
    if tool.schema.name in gated:
        given["gated"] = True
    if tool.schema.name in terminal:
        given["terminal"] = True
    if tool.idempotent:
        given["idempotent"] = True
    return OfferedTool(**given)
