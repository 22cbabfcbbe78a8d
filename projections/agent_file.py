"""Agents as a file: the `.af` form of JSON, in which they are moved from one server to another.

A file names what is in it by ids of its own (`agent-0`, `block-1`, `message-2`). What the form has
no place for is under the key `everlog`: an agent's other conversations and its archive, how its
memory is consolidated, and which reply broke off. Readers that do not know the key pass over it, as
this one does with keys it does not know.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from domain.run import ToolStatus
from domain.sleeptime import (
    FREQUENCY_DEFAULT,
    FREQUENCY_MAX,
    MAX_STEPS_DEFAULT,
    MAX_STEPS_MAX,
)

AGENTS_MAX: Final = 32
BLOCKS_MAX: Final = 64
CONVERSATIONS_MAX: Final = 1000
MESSAGES_MAX: Final = 100_000
PARTS_MAX: Final = 1000
CALLS_MAX: Final = 128
TOOLS_MAX: Final = 128
TAGS_MAX: Final = 128
THINGS_MAX: Final = 1000
TEXT_CHARS_MAX: Final = 1024 * 1024
PROBLEM_CHARS_MAX: Final = 300
NO_ZONE: Final = UTC


class BadFile(Exception):
    """A file that cannot be taken in: the place in it, and what is wrong there in words."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}"[:PROBLEM_CHARS_MAX])
        self.place = place
        self.problem = problem


# --- fields -----------------------------------------------------------------------------------


def _in_utc(moment: datetime) -> datetime:
    """Give a moment in UTC; old files leave out that they mean it."""
    try:
        aware = moment.replace(tzinfo=NO_ZONE) if moment.tzinfo is None else moment
        return aware.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment between the years 1 and 9999 in UTC") from error


Moment: TypeAlias = Annotated[datetime, AfterValidator(_in_utc)]
FileId: TypeAlias = Annotated[str, Field(min_length=1, max_length=128)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Handle: TypeAlias = Annotated[str, Field(max_length=256)]
Words: TypeAlias = Annotated[str, Field(max_length=64 * 1024)]
LongText: TypeAlias = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Document: TypeAlias = dict[str, Any]
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]
Tags: TypeAlias = Annotated[tuple[Name, ...], Field(max_length=TAGS_MAX)]
Ids: TypeAlias = tuple[FileId, ...]
# Things that are only counted, to be told what did not come along.
Things: TypeAlias = Annotated[tuple[Any, ...], Field(max_length=THINGS_MAX)]
Printed: TypeAlias = Annotated[tuple[str, ...], Field(max_length=THINGS_MAX)]
Role: TypeAlias = Literal["system", "user", "assistant", "tool", "approval", "summary"]


class Read(BaseModel):
    """A piece of a file. Keys that are not known are passed over: each version has its own."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)


# --- messages ---------------------------------------------------------------------------------


class FileFunction(Read):
    """What a call calls, with its arguments as JSON text."""

    name: Name
    arguments: str = "{}"


class FileCall(Read):
    """A tool call of a reply."""

    id: Name
    function: FileFunction


class FileReturn(Read):
    """What a call came to: words, or parts."""

    tool_call_id: Name | None = None
    status: Literal["success", "error"] = "success"
    stdout: Printed | None = None
    stderr: Printed | None = None
    func_response: Any = None


class FileAnswer(FileReturn):
    """A client's answer to a call that waited for it: its word, or what the call came to."""

    approve: bool | None = None
    reason: str | None = None


class MessageRemarks(Read):
    """What the form has no place for.

    Whether a reply broke off; which of its tools waited for the client, if not all of them did; that
    a call came to neither a success nor an error.
    """

    interrupted: bool = False
    gated: Annotated[tuple[Name, ...], Field(max_length=CALLS_MAX)] | None = None
    status: ToolStatus | None = None


class FileMessage(Read):
    """A message. `content` is words, or parts by their `type`."""

    id: FileId
    role: Role
    content: str | Annotated[tuple[Document, ...], Field(max_length=PARTS_MAX)] | None = None
    otid: Name | None = None
    created_at: Moment | None = None
    tool_calls: Annotated[tuple[FileCall, ...], Field(max_length=CALLS_MAX)] | None = None
    tool_call_id: Name | None = None
    tool_returns: Annotated[tuple[FileReturn, ...], Field(max_length=CALLS_MAX)] | None = None
    approvals: Annotated[tuple[FileAnswer, ...], Field(max_length=CALLS_MAX)] | None = None
    everlog: MessageRemarks | None = None

    @property
    def remarks(self) -> MessageRemarks:
        """What is said of it beside the form."""
        return self.everlog or MessageRemarks()


Messages: TypeAlias = Annotated[tuple[FileMessage, ...], Field(max_length=MESSAGES_MAX)]


class FileConversation(Read):
    """A conversation that is not the agent's own. Without ids all its messages are in its window."""

    id: FileId
    messages: Messages = ()
    in_context_message_ids: Ids | None = None
    summary: Words | None = None
    description: Words | None = None
    model: Handle | None = None
    model_settings: Document | None = None
    context_window_limit: Tokens | None = None
    hidden: bool | None = None
    archived: bool = False


class FilePassage(Read):
    """A text of an agent's archive."""

    text: Annotated[str, Field(min_length=1, max_length=100_000)]
    tags: Tags = ()
    created_at: Moment | None = None
    metadata: Document | None = None


# --- agents -----------------------------------------------------------------------------------


class FileBlock(Read):
    """A memory block."""

    id: FileId
    label: Name
    value: LongText = ""
    limit: Tokens | None = None
    description: Words | None = None
    read_only: bool | None = None
    metadata: Document | None = None
    tags: Tags | None = None
    hidden: bool | None = None


class FileTool(Read):
    """A tool, by its name; code that a file brings along is not taken."""

    id: FileId
    name: Name
    tool_type: str | None = None
    source_code: Any = None
    default_requires_approval: bool | None = None


class FileRule(Read):
    """A rule about a tool."""

    type: Name
    tool_name: str | None = None


class FileModel(Read):
    """A model as older servers describe it."""

    handle: Handle | None = None
    model: Handle | None = None
    model_endpoint_type: Handle | None = None
    context_window: Tokens | None = None


class FileEmbedding(Read):
    """An embedding model as older servers describe it."""

    handle: Handle | None = None


class FileSleeptime(Read):
    """How an agent's memory is consolidated, if it is."""

    frequency: Annotated[int, Field(ge=1, le=FREQUENCY_MAX)] = FREQUENCY_DEFAULT
    after_compaction: bool = True
    block_label: Name | None = None
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS_MAX)] = MAX_STEPS_DEFAULT
    require_acceptance: bool = False
    model: Handle | None = None


class AgentRemarks(Read):
    """What the form has no place for: other conversations, the archive, how memory is consolidated."""

    sleeptime: FileSleeptime | None = None
    conversations: Annotated[tuple[FileConversation, ...], Field(max_length=CONVERSATIONS_MAX)] = ()
    passages: Annotated[tuple[FilePassage, ...], Field(max_length=MESSAGES_MAX)] = ()


class FileAgent(Read):
    """An agent, and the messages of its own conversation. `model` or `llm_config` name its model."""

    id: FileId
    name: Annotated[str, Field(max_length=1024)] | None = None
    system: LongText | None = None
    agent_type: Name | None = None
    description: Words | None = None
    metadata: Document | None = None
    tags: Tags | None = None
    timezone: Name | None = None
    model: Handle | None = None
    llm_config: FileModel | None = None
    model_settings: Document | None = None
    compaction_settings: Document | None = None
    context_window_limit: Tokens | None = None
    embedding: Handle | None = None
    embedding_config: FileEmbedding | None = None
    message_buffer_autoclear: bool | None = None
    hidden: bool | None = None
    block_ids: Annotated[Ids, Field(max_length=BLOCKS_MAX)] | None = None
    tool_ids: Annotated[Ids, Field(max_length=TOOLS_MAX)] | None = None
    tool_rules: Annotated[tuple[FileRule, ...], Field(max_length=TOOLS_MAX)] | None = None
    messages: Messages = ()
    in_context_message_ids: Ids | None = None
    enable_sleeptime: bool | None = None
    everlog: AgentRemarks | None = None
    # What is not taken, and said to be so.
    tool_exec_environment_variables: Document | None = None
    secrets: Any = None
    source_ids: Things | None = None
    folder_ids: Things | None = None
    files_agents: Things | None = None
    identity_ids: Things | None = None
    group_ids: Things | None = None

    @property
    def remarks(self) -> AgentRemarks:
        """What is said of it beside the form."""
        return self.everlog or AgentRemarks()


class AgentFile(Read):
    """A file."""

    agents: Annotated[tuple[FileAgent, ...], Field(min_length=1, max_length=AGENTS_MAX)]
    blocks: Annotated[tuple[FileBlock, ...], Field(max_length=AGENTS_MAX * BLOCKS_MAX)] = ()
    tools: Annotated[tuple[FileTool, ...], Field(max_length=AGENTS_MAX * TOOLS_MAX)] = ()
    groups: Things | None = None
    files: Things | None = None
    sources: Things | None = None
    mcp_servers: Things | None = None
    skills: Things | None = None


# --- checks -----------------------------------------------------------------------------------


def agent_file(value: Any) -> AgentFile:
    """Check a parsed file, ids and what they lead to among it. Raises BadFile."""
    try:
        file = AgentFile.model_validate(value)
    except ValidationError as error:
        raise _bad(error, value) from error
    for name, things in (("agents", file.agents), ("blocks", file.blocks), ("tools", file.tools)):
        check_unique(name, "id", [one.id for one in things])
    blocks = {one.id: one.label for one in file.blocks}
    tools = {one.id for one in file.tools}
    for n, one in enumerate(file.agents):
        place = f"agents[{n}]"
        check_known(f"{place}.block_ids", one.block_ids or (), blocks)
        check_unique(f"{place}.block_ids", "label", [blocks[key] for key in one.block_ids or ()])
        check_known(f"{place}.tool_ids", one.tool_ids or (), tools)
    return file


def check_unique(place: str, field: str, names: Iterable[str]) -> None:
    """Check that nothing is named twice. Raises BadFile."""
    known: dict[str, int] = {}
    for n, name in enumerate(names):
        if name in known:
            raise BadFile(f"{place}[{n}].{field}", f"{name!r} stands at [{known[name]}] already")
        known[name] = n


def check_known(place: str, ids: Iterable[str], known: Iterable[str]) -> None:
    """Check that ids lead somewhere, and none to the same. Raises BadFile."""
    there, seen = frozenset(known), set[str]()
    for n, one in enumerate(ids):
        if one not in there:
            raise BadFile(f"{place}[{n}]", f"there is no {one!r} in the file")
        if one in seen:
            raise BadFile(f"{place}[{n}]", f"{one!r} stands twice")
        seen.add(one)


def _bad(error: ValidationError, value: Any) -> BadFile:
    """Name the first field that is wrong, and its bound, without what stands there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    place, words = _path_of(first["loc"]) or "file", f"{words[:1].lower()}{words[1:]}"
    if isinstance(value, dict) and "agents" not in value and "agent_type" in value:
        words = "this is the older form of a file, with one agent; export it in the newer one"
    return BadFile(place, words)


def _path_of(loc: tuple[int | str, ...]) -> str:
    """Spell a field's place; what is no name of a field is pydantic's, of a member of a union."""
    path = ""
    for one in loc:
        if isinstance(one, int):
            path += f"[{one}]"
        elif one.isidentifier() and one not in ("str", "tuple"):
            path += f".{one}" if path else one
    return path
