"""What a request says of an agent's sleep-time memory, and how it is shown."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from app.web.agent_bodies import AgentFields
from app.web.consolidation_bodies import SleeptimeAnswer
from app.web.services import Services
from domain.agent import AgentSettings
from domain.sleeptime import Sleeptime
from domain.streams import derived_id

GROUP: Final = "group"


def sleeptime_merge(
    services: Services, body: AgentFields
) -> Callable[[AgentSettings | None], dict[str, Any]]:
    """Give how a request changes it, over whatever there is. Raises 404 for a model."""
    sent: dict[str, Any] = {}
    if body.sleeptime_settings is not None:
        sent = body.sleeptime_settings.model_dump(exclude_unset=True, exclude_none=True)
    if body.sleeptime_agent_frequency is not None:
        sent["frequency"] = body.sleeptime_agent_frequency
    if "model" in sent:
        services.catalogue.resolve(sent["model"])
    return partial(_changes, sent)


def _changes(sent: dict[str, Any], now: AgentSettings | None) -> dict[str, Any]:
    if not sent:
        return {}
    known = None if now is None else now.sleeptime
    given = {} if known is None else known.model_dump(exclude_unset=True)
    return {"sleeptime": Sleeptime(**{**given, **sent})}


def shown_sleeptime(settings: AgentSettings) -> SleeptimeAnswer | None:
    """Give it in full, None if it was never spoken of."""
    if settings.sleeptime is None and settings.enable_sleeptime is None:
        return None
    return SleeptimeAnswer(**(settings.sleeptime or Sleeptime()).model_dump())


def shown_group(agent_id: str, settings: AgentSettings) -> dict[str, Any] | None:
    """Give the group of agents that old clients expect; its other half is no agent here."""
    if not settings.enable_sleeptime:
        return None
    frequency = (settings.sleeptime or Sleeptime()).frequency
    return {
        "id": derived_id(GROUP, agent_id),
        "agent_ids": [],
        "description": "Consolidates the agent's memory while it rests.",
        "manager_type": "sleeptime",
        "manager_agent_id": agent_id,
        "shared_block_ids": list(settings.block_ids),
        "sleeptime_agent_frequency": frequency,
        "hidden": True,
    }
