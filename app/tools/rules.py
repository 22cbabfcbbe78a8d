"""Rules about an agent's tools, in the words of the original: of its kinds these two are known."""

from typing import Any, Final

from domain.agent import AgentSettings

REQUIRES_APPROVAL: Final = "requires_approval"
EXIT_LOOP: Final = "exit_loop"


def rules_of(settings: AgentSettings) -> list[dict[str, Any]]:
    """Give an agent's rules."""
    rules = (REQUIRES_APPROVAL, settings.approval_tools), (EXIT_LOOP, settings.terminal_tools)
    return [{"type": kind, "tool_name": name} for kind, names in rules for name in names]
