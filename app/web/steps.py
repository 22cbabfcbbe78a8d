"""A conversation's steps, as an auditor sees them: the exact request that the model got."""

from typing import Annotated, Final, TypeAlias

from pydantic import StringConstraints

from app.rebuilding import Rebuilding, RebuiltRequest
from app.web.bodies import Body
from app.web.endpoint import ConversationId, endpoint
from app.web.lookups import existing_stream
from app.web.services import Services
from domain.streams import STEP, pattern_of

StepId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(STEP))]


class RequestQuery(Body):
    """Whether a deleted conversation may be looked at."""

    deleted: bool = False


async def show_request(
    services: Services, conversation_id: ConversationId, step_id: StepId, query: RequestQuery
) -> RebuiltRequest:
    """Give the exact request of a step, rebuilt from the log and checked by its hash."""
    await existing_stream(services, conversation_id, "Conversation", deleted=query.deleted)
    rebuilding = Rebuilding(services.log, services.windows, services.catalogue)
    return await rebuilding.rebuilt(conversation_id, step_id)


ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/steps/{step_id}/request",
        show_request,
        RebuiltRequest,
        tag="history",
        errors=(404,),
    ),
]
