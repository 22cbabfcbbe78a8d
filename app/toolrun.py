"""Carries out tool calls: a fact before, a fact after, and nothing twice that must not be."""

import json
from typing import Any, Final, cast

from app.execute import Execute
from app.tools import Call, Tool, Toolbox, ToolFailed
from domain.content import Content
from domain.conversation import FinishTool, StartTool
from domain.run import CloseCall, OpenCall, Run, RunTool, ToolStatus

UNKNOWN: Final = (
    "The server stopped while this tool was running. Whether it took effect is not known, and it "
    "was not run again."
)


class ToolRunner:
    """Runs the server's tools for all runs, in the name of one worker."""

    def __init__(
        self, execute: Execute, toolbox: Toolbox, consolidation: Toolbox, *, by: str
    ) -> None:
        self._execute = execute
        self._toolbox = toolbox
        self._consolidation = consolidation
        self._by = by

    async def run(self, stream: str, run: Run, effect: RunTool) -> None:
        """Run one call. Whatever goes wrong in the tool is its return; `Stale` goes through."""
        call = effect.call
        try:
            toolbox = await self._toolbox_of(stream)
            tool, arguments = _tool_of(toolbox, run, call), arguments_of(call)
        except ToolFailed as error:
            await self._finish(stream, effect, "error", str(error))
            return
        started = await self._execute(
            stream,
            StartTool(effect.run_id, effect.epoch, call.s, call.id, tool.idempotent),
            self._by,
        )
        # Run again after a crash, it is the same call to whoever it has told before.
        at = call.started_at or started[0].version
        which = Call(stream, effect.run_id, call.id, at, call.return_id)
        try:
            said = await toolbox.run(tool, arguments, which)
        except ToolFailed as error:
            await self._finish(stream, effect, "error", str(error))
        else:
            await self._finish(stream, effect, "ok", said)

    async def close(self, stream: str, effect: CloseCall) -> None:
        """Say of a call that was under way when the server stopped that nobody knows."""
        await self._finish(stream, effect, "unknown", UNKNOWN)

    async def _toolbox_of(self, stream: str) -> Toolbox:
        """Give the tools that a conversation has: one that consolidates memory has its own."""
        state = await self._execute.conversation(stream)
        return self._toolbox if state.consolidates is None else self._consolidation

    async def _finish(
        self, stream: str, effect: RunTool | CloseCall, status: ToolStatus, content: Content
    ) -> None:
        call = effect.call
        source = "system" if status == "unknown" else "server"
        command = FinishTool(effect.run_id, effect.epoch, call.s, call.id, status, content, source)
        await self._execute(stream, command, self._by)


def _tool_of(toolbox: Toolbox, run: Run, call: OpenCall) -> Tool:
    offered = () if run.claimed is None else run.claimed.tools
    tool = toolbox.get(call.name)
    if tool is None or call.name not in {one.name for one in offered}:
        names = ", ".join(one.name for one in offered) or "none"
        raise ToolFailed(f"There is no tool {call.name!r} to run here; there are: {names}.")
    return tool


def arguments_of(call: OpenCall) -> dict[str, Any]:
    """Parse a call's arguments. Raises ToolFailed, saying where they are wrong."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError as error:
        raise ToolFailed(f"The arguments are not JSON: {error}") from None
    except RecursionError:
        raise ToolFailed(
            "The arguments are not JSON that can be read: they nest too deep."
        ) from None
    if not isinstance(arguments, dict):
        raise ToolFailed("The arguments are not a JSON object.")
    return cast("dict[str, Any]", arguments)
