"""Our own route: why an agent has forgotten something, or that it has not."""

from typing import Annotated, Final

from pydantic import Field

from app.recall.why import Why
from app.web.bodies import Body, Cursor
from app.web.endpoint import endpoint
from app.web.lookups import audited_stream
from app.web.message_bodies import AnyConversationId
from app.web.services import Services
from projections.search_questions import QUESTION_CHARS_MAX
from projections.why import WhyAnswer

OCCURRENCES_MAX: Final = 100


class AskWhy(Body):
    """What to ask about: words that were said, or the id of a message or of a tool call.

    Words in double quotes must have been said just so. `agent_id` says whose conversation `default`
    is; `deleted=true` also looks into a conversation that was deleted.
    """

    q: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS_MAX)]
    limit: Annotated[int, Field(ge=1, le=OCCURRENCES_MAX)] = 10
    agent_id: Cursor | None = None
    deleted: bool = False


async def ask_why(
    services: Services, conversation_id: AnyConversationId, query: AskWhy
) -> WhyAnswer:
    """Tell whether something was said, where it went, and in which summaries it survives."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    return await Why(services.log).asked(stream, query.q, query.limit)


ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/why",
        ask_why,
        WhyAnswer,
        tag="compactions",
        errors=(404,),
    ),
]
