"""Our own route: full-text search in a conversation."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from app.recall.search import Search
from app.web.bodies import Answer, Body, Cursor
from app.web.endpoint import endpoint
from app.web.lookups import audited_stream
from app.web.message_bodies import AnyConversationId
from app.web.services import Services
from domain.conversation import Inherited, Lineage
from projections.search_answers import Hit
from projections.search_questions import QUESTION_CHARS_MAX
from projections.search_texts import Kind, Role

HITS_MAX: Final = 100


class SearchConversation(Body):
    """What to look for: words, a question, or words in double quotes that must occur just so.

    `agent_id` says whose conversation `default` is; `deleted=true` also looks into a conversation
    that was deleted.
    """

    q: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS_MAX)]
    limit: Annotated[int, Field(ge=0, le=HITS_MAX)] = 10
    agent_id: Cursor | None = None
    deleted: bool = False


class HitAnswer(Answer):
    """A text that was found: `offset` names its message or step, `version` the fact itself.

    `text` is a stretch of it around what was looked for. Scores compare the hits of one search.
    Both offsets are those of `stream`, which is there only for what a fork inherited.
    """

    offset: int
    stream: Inherited = None
    version: int
    role: Role
    kind: Kind
    at: datetime
    text: str
    score: float


class CorrectionAnswer(Answer):
    """A word that nobody said, and the one that was looked for instead."""

    word: str
    instead: str


class SearchConversationAnswer(Answer):
    """The hits, the best first, and which words were taken for others."""

    hits: list[HitAnswer]
    corrections: list[CorrectionAnswer]


async def search_conversation(
    services: Services, conversation_id: AnyConversationId, query: SearchConversation
) -> SearchConversationAnswer:
    """Search everything that was said in a conversation, whether the model still sees it or not."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    found = await Search(services.log).find(stream, query.q, limit=query.limit)
    return SearchConversationAnswer(
        hits=[_shown(hit, found.lineage) for hit in found.hits],
        corrections=[
            CorrectionAnswer(word=one.word, instead=one.instead) for one in found.corrections
        ],
    )


def _shown(hit: Hit, lineage: Lineage) -> HitAnswer:
    stream, offset = lineage.named(hit.place)
    return HitAnswer(
        offset=offset,
        stream=stream,
        version=lineage.named(hit.version)[1],
        role=hit.role,
        kind=hit.kind,
        at=hit.at,
        text=hit.text,
        score=hit.score,
    )


ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/search",
        search_conversation,
        SearchConversationAnswer,
        tag="history",
        errors=(404,),
    ),
]
