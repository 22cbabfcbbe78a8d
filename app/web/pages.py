"""Pages of agents and blocks: the same cursors, the same order, the same tags."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar

from app.web.errors import ApiError
from app.web.services import Services
from domain.errors import NotFound
from projections.columns import Scalar

Kind = Literal["agent", "block"]


Item = TypeVar("Item")


class Page(Protocol):
    """What every list's query has. Cursors are ids; both follow the order."""

    @property
    def after(self) -> str | None: ...  # noqa: D102 - the class says it
    @property
    def before(self) -> str | None: ...  # noqa: D102
    @property
    def limit(self) -> int: ...  # noqa: D102


def page_of(items: Sequence[Item], ids: Sequence[str], page: Page, kind: str) -> list[Item]:
    """Cut a page out of a list that is short enough to be held. Raises NotFound for a cursor.

    `before` alone gives the last ones before it: walking back misses none.
    """
    for cursor in (page.after, page.before):
        if cursor is not None and cursor not in ids:
            raise NotFound(kind, cursor)
    start = 0 if page.after is None else ids.index(page.after) + 1
    end = len(ids) if page.before is None else ids.index(page.before)
    if page.before is not None and page.after is None:
        start = max(start, end - page.limit)
    return [*items[start:end][: page.limit]]


class Selection:
    """Conditions on a read table, gathered, then read as one page."""

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind
        self._table = f"{kind}s"
        self._id = f"{kind}_id"
        self._where = ["deleted = 0"]
        self._params: list[Scalar] = []

    def add(self, condition: str, *params: Scalar) -> None:
        """Add a condition."""
        self._where.append(condition)
        self._params += params

    def equal(self, column: str, value: str | None) -> None:
        """Have a column be `value`; None asks for nothing."""
        if value is not None:
            self.add(f"{column} = ?", value)

    def containing(self, column: str, part: str | None) -> None:
        """Have a column contain `part`, capitals or not; None asks for nothing."""
        if part:
            self.add(f"instr(lower(coalesce({column}, '')), lower(?)) > 0", part)

    def tagged(self, tags: Sequence[str] | None, *, all_of_them: bool) -> None:
        """Have any or all of some tags, which are stored as a JSON list of strings."""
        if tags:
            glue = " AND " if all_of_them else " OR "
            # Taken apart, not searched as text: a tag may contain quotes and commas itself. On
            # Postgres the same is written json_array_elements_text(tags::json).
            one = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
            self.add(f"({glue.join([one] * len(tags))})", *tags)

    async def page(
        self, services: Services, *, after: str | None, before: str | None, order: str, limit: int
    ) -> list[dict[str, Any]]:
        """Read a page; both cursors follow the sort order. Raises 404 for an unknown cursor.

        `before` alone gives the last rows before it, not the first of all: walking back misses none.
        """
        ascending = order == "asc"
        for cursor, forwards in ((after, True), (before, False)):
            if cursor is not None:
                await self._bound(services, cursor, later=ascending == forwards)
        backwards = before is not None and after is None
        way = "ASC" if ascending != backwards else "DESC"
        sql = (
            f"SELECT * FROM {self._table} WHERE {' AND '.join(self._where)} "  # noqa: S608 - our names
            f"ORDER BY created_at {way}, {self._id} {way} LIMIT ?"
        )
        rows = await services.log.query(sql, (*self._params, limit))
        return rows[::-1] if backwards else rows

    async def _bound(self, services: Services, cursor: str, *, later: bool) -> None:
        row = await row_of(services, self._kind, cursor, deleted=True)
        if row is None:
            raise ApiError(404, f"{self._kind.capitalize()} not found with id={cursor}")
        sign, at = ">" if later else "<", row["created_at"]
        condition = f"(created_at {sign} ? OR (created_at = ? AND {self._id} {sign} ?))"
        self.add(condition, at, at, cursor)


async def row_of(
    services: Services, kind: Kind, identity: str, *, deleted: bool = False
) -> dict[str, Any] | None:
    """Give an agent's or block's row, None if there is none."""
    living = "" if deleted else " AND deleted = 0"
    sql = f"SELECT * FROM {kind}s WHERE {kind}_id = ?{living}"  # noqa: S608 - our own names
    rows = await services.log.query(sql, (identity,))
    return rows[0] if rows else None
