"""Runs and steps as requests and answers hold them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.web.bodies import (
    PAGE_MAX,
    QUERY_IDS_MAX,
    Answer,
    Body,
    Cursor,
    Instant,
    Limit,
    Order,
)
from domain.run import StopReason


class RequestConfig(Answer):
    """What of a run's request is shown; all but the types are for agents that there are none of."""

    include_return_message_types: tuple[str, ...] | None = None
    use_assistant_message: bool | None = None
    assistant_message_tool_name: str | None = None
    assistant_message_tool_kwarg: str | None = None


class RunAnswer(Answer):
    """A run as clients see it; `conversation_id` is null in an agent's own conversation."""

    id: str
    agent_id: str
    conversation_id: str | None
    status: Literal["created", "running", "completed", "failed", "cancelled"]
    stop_reason: str | None = None
    background: bool = False
    created_at: datetime
    completed_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    request_config: RequestConfig | None = None
    base_template_id: str | None = None
    callback_url: str | None = None
    callback_sent_at: datetime | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class ListRuns(Body):
    """Which runs. Cursors follow the sort order."""

    agent_id: Cursor | None = None
    agent_ids: Annotated[list[Cursor], Field(max_length=QUERY_IDS_MAX)] | None = None
    conversation_id: Cursor | None = None
    statuses: list[str] | None = None
    active: bool = False
    background: bool | None = None
    stop_reason: StopReason | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    ascending: bool | None = None


class ListRunMessages(Body):
    """Which messages of a run."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "asc"


class ListSteps(Body):
    """Which steps of a run. Cursors follow the sort order."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "desc"


class ListAllSteps(ListSteps):
    """Which steps of all conversations. Cursors follow the sort order; times without a zone are UTC.

    A step has no feedback, tags, trace or project here: what is asked for by one is not there.
    """

    agent_id: Cursor | None = None
    model: Cursor | None = None
    start_date: Instant | None = None
    end_date: Instant | None = None
    order_by: Literal["created_at"] = "created_at"
    feedback: Literal["positive", "negative"] | None = None
    has_feedback: bool | None = None
    tags: Annotated[list[Cursor], Field(max_length=QUERY_IDS_MAX)] | None = None
    trace_ids: Annotated[list[Cursor], Field(max_length=QUERY_IDS_MAX)] | None = None
    project_id: Cursor | None = None

    @property
    def wants_what_no_step_has(self) -> bool:
        """Whether nothing can be found."""
        return bool(
            self.feedback or self.has_feedback or self.tags or self.trace_ids or self.project_id
        )


class ListStepMessages(ListRunMessages):
    """Which messages of a step."""

    order_by: Literal["created_at"] = "created_at"


class PromptTokens(Answer):
    """How much of a prompt its vendor had kept from before."""

    cached_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None


class CompletionTokens(Answer):
    """How much of a reply was thought."""

    reasoning_tokens: int | None = None


class UsageAnswer(Answer):
    """Tokens as vendors reported them; details are null where none did."""

    completion_tokens: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokens | None = None
    completion_tokens_details: CompletionTokens | None = None


class StepAnswer(UsageAnswer):
    """One model call. `attempt` counts its tries; one that was superseded is failed."""

    id: str
    run_id: str
    agent_id: str
    status: Literal["pending", "success", "failed", "cancelled"]
    stop_reason: str | None = None
    model: str | None = None
    model_handle: str | None = None
    provider_name: str | None = None
    provider_category: str | None = None
    provider_id: str | None = None
    model_endpoint: str | None = None
    context_window_limit: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    error_type: str | None = None
    error_data: dict[str, Any] | None = None
    feedback: None = None
    tags: list[str] = Field(default_factory=list)
    tid: str | None = None
    trace_id: str | None = None
    request_id: str | None = None
    origin: str | None = None
    project_id: str | None = None
    messages: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    index: int = 0
    attempt: int = 1
    offset: int
    created_at: datetime


class StepMetricsAnswer(Answer):
    """How long a step took, by the times of its facts: moments since 1970, all in nanoseconds.

    Null is what is not over yet, what nobody saw the end of, and what was said elsewhere.
    """

    id: str
    run_id: str
    agent_id: str
    step_start_ns: int | None = None
    step_ns: int | None = None
    llm_request_start_ns: int | None = None
    llm_request_ns: int | None = None
    tool_execution_ns: int | None = None
    provider_id: str | None = None
    base_template_id: str | None = None
    project_id: str | None = None
    template_id: str | None = None
