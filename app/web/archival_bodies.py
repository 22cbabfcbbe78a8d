"""Passages of archival memory as requests and answers hold them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field

from app.memory.archival import FOUND_DEFAULT, LISTED_DEFAULT
from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Limit, Name, Order, without_nul
from app.web.search import CorrectionAnswer
from domain.archive import TAG_CHARS_MAX, TAGS_MAX, TEXT_CHARS_MAX
from domain.streams import ARCHIVE, pattern_of
from projections.passages import SearchMode, TagMatch

FOUND_MAX: Final = 100
PASSAGES_AT_ONCE_MAX: Final = 100
# Of a longer one than search takes, the rest is not looked at.
QUERY_CHARS_MAX: Final = 16_384


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be blank")
    return text


Text: TypeAlias = Annotated[
    str, Field(max_length=TEXT_CHARS_MAX), AfterValidator(without_nul), AfterValidator(_not_blank)
]
Tag: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=TAG_CHARS_MAX), AfterValidator(without_nul)
]
PassageTags: TypeAlias = Annotated[list[Tag], Field(max_length=TAGS_MAX)]
Found: TypeAlias = Annotated[int, Field(ge=1, le=FOUND_MAX)]
Query: TypeAlias = Annotated[str, Field(max_length=QUERY_CHARS_MAX), AfterValidator(without_nul)]
# A day or a moment, in the agent's time zone where it names none; parsed when the agent is known.
When: TypeAlias = Annotated[str, Field(max_length=64)]


class InsertPassage(Body):
    """A text to keep. It stays one passage, however long it is.

    `created_at` is when it dates from, if not from now.
    """

    text: Text
    tags: PassageTags | None = None
    created_at: When | None = None
    metadata: dict[str, Any] | None = None


class ListPassages(Body):
    """Which passages, in order of time. Cursors follow that order; `search` is contained.

    `at` asks for the archive as it was after that offset.
    """

    after: Cursor | None = None
    before: Cursor | None = None
    limit: Limit = LISTED_DEFAULT
    search: Name | None = None
    ascending: bool = True
    at: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None


class SearchArchive(Body):
    """What to look for: words or a question; blank for the newest. Dates are days or moments."""

    query: Query
    tags: PassageTags | None = None
    tag_match_mode: TagMatch = "any"
    top_k: Found | None = None
    start_datetime: When | None = None
    end_datetime: When | None = None


class SearchPassages(Body):
    """What to look for, and where: in an agent's archive, in one by its id, or in all of them."""

    query: Query | None = None
    agent_id: Cursor | None = None
    archive_id: Annotated[str, Field(pattern=pattern_of(ARCHIVE))] | None = None
    tags: PassageTags | None = None
    tag_match_mode: TagMatch = "any"
    limit: Found = FOUND_DEFAULT
    start_date: When | None = None
    end_date: When | None = None


class InsertPassages(Body):
    """Texts to keep, in no order."""

    passages: Annotated[list[InsertPassage], Field(max_length=PASSAGES_AT_ONCE_MAX)]


class ListArchives(Body):
    """Which archives. Cursors follow the sort order."""

    agent_id: Cursor | None = None
    name: Name | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class ArchiveAnswer(Answer):
    """An archive as clients see it, with the agent that it belongs to."""

    id: str
    agent_id: str
    name: str
    description: str | None = None
    passages: int
    tags: list[str]
    embedding_config: dict[str, Any] | None = None
    vector_db_provider: Literal["native"] = "native"
    metadata: dict[str, Any] | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    created_at: datetime
    updated_at: datetime | None = None


class PassageAnswer(Answer):
    """A passage as clients see it. `offset` is that of its insertion in the archive's history."""

    id: str
    archive_id: str
    offset: int
    text: str
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] | None = None
    created_at: datetime
    updated_at: datetime | None = None
    is_deleted: bool = False
    embedding: list[float] | None = None
    embedding_config: dict[str, Any] | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    file_id: str | None = None
    file_name: str | None = None
    source_id: str | None = None


class ArchiveHitAnswer(Answer):
    """A passage that was found; `timestamp` is in the agent's time zone.

    Scores compare the hits of one search.
    """

    id: str
    content: str
    timestamp: str
    tags: list[str] = Field(default_factory=list)
    score: float


class SearchArchiveAnswer(Answer):
    """The hits, the best first, and how they were found.

    `search_mode` is `text` by words, `hybrid` by words and meaning, `newest` without a question.
    """

    results: list[ArchiveHitAnswer]
    count: int
    search_mode: SearchMode
    corrections: list[CorrectionAnswer] = Field(default_factory=list[CorrectionAnswer])


class PassageHitAnswer(Answer):
    """A passage that was found, with its score."""

    passage: PassageAnswer
    score: float
    metadata: dict[str, Any] | None = None
