"""A conversation's system prompt compiled again, because memory has changed."""

from app.execute import Execute
from app.log import utc_now
from app.memory.blocks import compile_system
from app.windows import Windows
from domain.conversation import Conversation, Counts, RecompileSystem, System
from domain.streams import is_default


class Renewing:
    """Compiles the prompts of conversations from their agents' memory as it is now."""

    def __init__(self, execute: Execute, windows: Windows) -> None:
        self._execute = execute
        self._windows = windows

    async def fresh(self, stream: str, state: Conversation, *, emptied: bool = False) -> System:
        """Compile a conversation's system prompt from its agent and its blocks as they are now.

        What it says of earlier messages is what has been evicted, unless all are forgotten. Raises
        NotFound.
        """
        agent_id = state.agent_id or ""
        named = "default" if is_default(stream, agent_id) else stream
        marks = (await self._windows.newest(stream)).marks
        counts = Counts(messages=0 if emptied else marks.evicted_messages)
        return await compile_system(
            self._execute, agent_id, named, utc_now(), counts, isolated=state.isolated
        )

    async def renew(
        self,
        stream: str,
        state: Conversation,
        by: str,
        *,
        dry_run: bool = False,
        always: bool = False,
    ) -> str:
        """Replace a prompt if it would say something else by now, or always; give it.

        Raises NotFound, or Refused.
        """
        present = (await self._windows.newest(stream)).system
        if present is not None and state.consolidates is not None:
            return present.system.text  # it says how to consolidate, whatever the agent's memory is
        system = await self.fresh(stream, state)
        if present is not None and not always and _same(present.system, system):
            return present.system.text
        if not dry_run:
            await self._execute(stream, RecompileSystem(system, "recompiled"), by)
        return system.text


def _same(present: System, fresh: System) -> bool:
    """Tell whether a prompt would say the same, but for when it was compiled."""
    return fresh.model_copy(update={"text": present.text}) == present
