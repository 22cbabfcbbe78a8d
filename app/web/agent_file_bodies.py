"""What is said when an agent's file is asked for, or sent in."""

from typing import Annotated

from pydantic import Field

from app.web.bodies import Answer, Body, Handle, Name


class ExportAgent(Body):
    """What of the history goes into the file.

    `conversation_id`: that conversation as if it were the agent's own, and no other. `max_steps` is
    an older parameter and changes nothing.
    """

    conversation_id: Name | None = None
    scrub_messages: bool = False
    use_legacy_format: bool = False
    max_steps: int | None = None


class ImportAgents(Body):
    """A file of agents, and what is wanted otherwise than it stands there.

    `model` and `embedding` replace the agents' own (`override_model_handle`, `override_embedding_handle`
    are older names), `name` that of the only agent (`override_name`). `strip_messages` leaves the
    history out. Code of tools is not taken, so `override_existing_tools` changes nothing; `secrets`
    and `env_vars_json` are JSON objects that no tool here reads.
    """

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    append_copy_suffix: bool = False
    override_existing_tools: bool = False
    strip_messages: bool = False
    name: Name | None = None
    override_name: Name | None = None
    model: Handle | None = None
    override_model_handle: Handle | None = None
    embedding: Handle | None = None
    override_embedding_handle: Handle | None = None
    project_id: Name | None = None
    secrets: Annotated[str, Field(max_length=64 * 1024)] | None = None
    env_vars_json: Annotated[str, Field(max_length=64 * 1024)] | None = None


class ImportedAgentAnswer(Answer):
    """What of an agent came over; a reply with its calls' returns is one of its `messages`."""

    agent_id: str
    name: str
    model: str
    blocks: int
    conversations: int
    messages: int
    in_window: int
    passages: int


class ImportedAgentsAnswer(Answer):
    """The agents that were made, in the file's order; and what of the file was left out, and why."""

    agent_ids: list[str]
    imported: list[ImportedAgentAnswer]
    left_out: list[str]
