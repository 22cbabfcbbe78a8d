"""What an agent of a file becomes here: its model, its tools, its settings; and what is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from app.compaction.settings import CompactionSettingsIn, initial
from app.model_settings import ModelSettings
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.tools import Toolbox
from app.tools.rules import EXIT_LOOP, REQUIRES_APPROVAL
from domain.agent import AgentSettings
from domain.sleeptime import Sleeptime
from projections.agent_file import AgentFile, BadFile, FileAgent, FileSleeptime, FileTool
from projections.agent_file_parts import LeftOut
from projections.system import DEFAULT_SYSTEM

COPY: Final = "_copy"
NAME_CHARS_MAX: Final = 1024
_MODEL_SETTINGS: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(ModelSettings)
# What is taken as it stands.
_SAME: Final = (
    "agent_type",
    "system",
    "description",
    "metadata",
    "tags",
    "timezone",
    "context_window_limit",
    "message_buffer_autoclear",
    "hidden",
    "enable_sleeptime",
)
_NOT_HERE: Final[Mapping[str, str]] = {
    "groups": "agents are imported one by one, in no group",
    "files": "files are not kept here",
    "sources": "files are not kept here",
    "mcp_servers": "the operator connects servers of tools",
    "skills": "skills come with a request",
}


class NoModel(Exception):
    """An agent whose model is not to be had; says what to send instead."""

    def __init__(self, place: str, handle: str, known: list[str]) -> None:
        super().__init__(
            f"{place}: Handle {handle[:256]} not found, must be one of [{', '.join(known)}]; send "
            "model=<one of them> with the file to import the agent with that model"
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever imports wants otherwise than the file has it."""

    name: str | None = None
    copy_suffix: bool = False
    model: str | None = None
    embedding: str | None = None
    strip_messages: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """Makes settings of the agents of a file, with what there is here."""

    file: AgentFile
    wishes: Wishes
    catalogue: Catalogue
    toolbox: Toolbox
    percentage: float
    left_out: LeftOut

    def settings_of(self, place: str, agent: FileAgent) -> tuple[AgentSettings, Resolved]:
        """Give an agent's settings, its blocks aside, and its model. Raises BadFile or NoModel."""
        handle, resolved = self._model(place, agent)
        same = {name: value for name in _SAME if (value := getattr(agent, name)) is not None}
        given: dict[str, Any] = {
            "system": DEFAULT_SYSTEM,
            **same,
            "name": self._name(agent),
            "model": handle,
            **self._tools(place, agent),
            "compaction_settings": self._compaction(place, agent, handle),
        }
        if agent.model is None and agent.llm_config is not None:
            given.setdefault("context_window_limit", agent.llm_config.context_window)
        older = None if agent.embedding_config is None else agent.embedding_config.handle
        if embedding := self.wishes.embedding or agent.embedding or older:
            given["embedding"] = embedding
        if settings := self._model_settings(place, agent, resolved):
            given["model_settings"] = settings
        if agent.remarks.sleeptime is not None:
            given["sleeptime"] = self._sleeptime(place, agent.remarks.sleeptime)
        self._tell_of(place, agent)
        return AgentSettings(**given), resolved

    def tell_of_rest(self) -> None:
        """Tell what of the file beside agents is not taken."""
        for name, why in _NOT_HERE.items():
            if things := getattr(self.file, name):
                self.left_out.add(name, f"{len(things)} left out: {why}")

    def _name(self, agent: FileAgent) -> str:
        name = self.wishes.name or agent.name or agent.id
        suffix = COPY if self.wishes.copy_suffix else ""
        return f"{name[: NAME_CHARS_MAX - len(suffix)]}{suffix}"

    # --- its model ------------------------------------------------------------------------

    def _model(self, place: str, agent: FileAgent) -> tuple[str, Resolved]:
        handle = self.wishes.model or agent.model or _older_handle(agent)
        if handle is None:
            raise BadFile(f"{place}.model", "the agent has no model; send one with the file: model")
        return handle, self._resolved(f"{place}.model", handle)

    def _resolved(self, place: str, handle: str) -> Resolved:
        try:
            return self.catalogue.resolve(handle)
        except (UnknownHandle, MalformedHandle) as error:
            raise NoModel(place, handle, self.catalogue.known()) from error

    def _model_settings(
        self, place: str, agent: FileAgent, resolved: Resolved
    ) -> dict[str, Any] | None:
        """Take settings over for the vendor that they were written for."""
        settings = completed(place, agent.model_settings)
        if settings is None:
            return None
        written_for = settings["provider_type"]
        if self.wishes.model is None or written_for == resolved.provider_type:
            return settings
        words = f"left out: they are for {written_for}, not for {resolved.handle}"
        self.left_out.add(f"{place}.model_settings", words)
        return None

    def _compaction(self, place: str, agent: FileAgent, handle: str) -> dict[str, Any]:
        at = f"{place}.compaction_settings"
        sent = agent.compaction_settings or {}
        try:
            wanted = CompactionSettingsIn.model_validate(sent)
        except ValidationError as error:
            raise _bad(at, error) from error
        if self.wishes.model is not None and not self._is_known(wanted.model):
            self.left_out.add(at, f"{wanted.model} is not to be had; the agent's new model decides")
            others = {name: value for name, value in wanted.sent.items() if name != "model"}
            wanted = CompactionSettingsIn(**others)
        return initial(handle, wanted, self.percentage).model_dump()

    def _sleeptime(self, place: str, sent: FileSleeptime) -> Sleeptime:
        """Take over how memory is consolidated, if need be by the agent's new model."""
        at = f"{place}.everlog.sleeptime.model"
        given = sent.model_dump()
        if self.wishes.model is not None and not self._is_known(sent.model):
            self.left_out.add(at, f"{sent.model} is not to be had; the agent's new model does it")
            given["model"] = None
        elif sent.model is not None:
            self._resolved(at, sent.model)
        return Sleeptime(**given)

    def _is_known(self, handle: str | None) -> bool:
        try:
            return handle is None or bool(self.catalogue.resolve(handle))
        except (UnknownHandle, MalformedHandle):
            return False

    # --- its tools ------------------------------------------------------------------------

    def _tools(self, place: str, agent: FileAgent) -> dict[str, tuple[str, ...]]:
        """Give the tools that there are here too, and the rules about them."""
        by_id = {one.id: one for one in self.file.tools}
        wanted = [by_id[one] for one in agent.tool_ids or ()]
        taken = [one for one in wanted if self._is_here(place, one)]
        rules = [one for n, one in enumerate(agent.tool_rules or ()) if self._rule(place, n, one)]
        ruled = [
            (one.type, name) for one in rules if (name := one.tool_name) and self.toolbox.get(name)
        ]
        gated = [name for kind, name in ruled if kind == REQUIRES_APPROVAL]
        gated += [one.name for one in taken if one.default_requires_approval]
        return {
            "tools": tuple(dict.fromkeys(one.name for one in taken)),
            "approval_tools": tuple(dict.fromkeys(gated)),
            "terminal_tools": tuple(dict.fromkeys(n for kind, n in ruled if kind == EXIT_LOOP)),
        }

    def _is_here(self, place: str, tool: FileTool) -> bool:
        if self.toolbox.get(tool.name) is not None:
            return True
        code = "; its code is not taken" if tool.source_code else ""
        words = f"{tool.name!r} left out: this server has no such tool{code}"
        self.left_out.add(f"{place}.tool_ids ({tool.id})", words)
        return False

    def _rule(self, place: str, n: int, rule: Any) -> bool:
        if rule.type in (REQUIRES_APPROVAL, EXIT_LOOP):
            return True
        self.left_out.add(f"{place}.tool_rules[{n}]", f"there is no rule {rule.type!r} here")
        return False

    # --- what is not taken ----------------------------------------------------------------

    def _tell_of(self, place: str, agent: FileAgent) -> None:
        if agent.tool_exec_environment_variables or agent.secrets:
            self.left_out.add(f"{place}.secrets", "left out: no tool here reads them")
        for name in ("source_ids", "folder_ids", "files_agents"):
            if getattr(agent, name):
                self.left_out.add(f"{place}.{name}", "left out: files are not kept here")
        if agent.identity_ids:
            self.left_out.add(f"{place}.identity_ids", "left out: there are no identities here")


def completed(place: str, settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Give a model's settings with the defaults filled in. Raises BadFile."""
    if not settings:
        return None
    try:
        return _MODEL_SETTINGS.validate_python(settings)
    except ValidationError as error:
        raise _bad(f"{place}.model_settings", error) from error


def _older_handle(agent: FileAgent) -> str | None:
    config = agent.llm_config
    if config is None:
        return None
    if config.handle or not (config.model and config.model_endpoint_type):
        return config.handle
    return f"{config.model_endpoint_type}/{config.model}"


def _bad(place: str, error: ValidationError) -> BadFile:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(one) for one in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    return BadFile(f"{place}.{where}" if where else place, words)
