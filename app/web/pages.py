"""Pages of agents, archives and blocks: the same cursors, the same order, the same tags."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar

from app.web.errors import ApiError
from app.web.services import Services
from domain.errors import NotFound
from projections.columns import Scalar

Kind = Literal["agent", "archive", "block"]


Item = TypeVar("Item")


class Page(Protocol):
    """What every list's query has. Cursors are ids; both follow the order."""

    @property
    def after(self) -> str | None: ...  # noqa: D102 - the class says it
    @property
    def before(self) -> str | None: ...  # noqa: D102 - the class says it
    @property
    def limit(self) -> int: ...  # noqa: D102 - the class says it


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
        self._source = self._table
        self._id = f"{kind}_id"
        self._where = ["deleted = 0"]
        self._params: list[Scalar] = []

    def add(self, condition: str, *params: Scalar) -> None:
        """Add a condition."""
        self._where.append(condition)
        self._params += params

    def joined(self, join: str) -> None:
        """Have more columns, from a join that leaves every row in, once."""
        self._source = f"{self._source} {join}"

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
            # Postgres json_each is written json_array_elements_text.
            one = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
            self.add(f"({glue.join([one] * len(tags))})", *tags)

    def holding(self, block_id: str) -> None:
        """Have agents hold a block."""
        self.add("EXISTS (SELECT 1 FROM json_each(block_ids) WHERE value = ?)", block_id)

    def held_by(
        self, *, exactly: Sequence[int] | None, more_than: int | None, less_than: int | None
    ) -> None:
        """Have blocks be held by so many agents; None asks for nothing."""
        if exactly:
            conditions = [_held(count, count) for count in exactly]
            self.add(f"({' OR '.join(conditions)})")
        if more_than is not None:
            self.add(_held(more_than + 1, None))
        if less_than is not None:
            self.add(_held(0, less_than - 1) if less_than else "1 = 0")

    async def page(  # noqa: PLR0913 - what a page is
        self,
        services: Services,
        *,
        after: str | None,
        before: str | None,
        order: str,
        limit: int,
        by: str = "created_at",
    ) -> list[dict[str, Any]]:
        """Read a page; both cursors follow the sort order. Raises 404 for an unknown cursor.

        `before` alone gives the last rows before it, not the first of all: walking back misses none.
        Rows that have nothing in the column `by` come last, whatever the order.
        """
        ascending = order == "asc"
        for cursor, forwards in ((after, True), (before, False)):
            if cursor is not None:
                await self._bound(services, cursor, by, ascending=ascending, later=forwards)
        backwards = before is not None and after is None
        way = "ASC" if ascending != backwards else "DESC"
        # Not asked of what every row has: an index would not be used.
        empty = "" if by == "created_at" else f"{by} IS NULL {'DESC' if backwards else 'ASC'}, "
        sql = (
            f"SELECT * FROM {self._source} WHERE {' AND '.join(self._where)} "  # noqa: S608 - our names
            f"ORDER BY {empty}{by} {way}, {self._id} {way} LIMIT ?"
        )
        rows = await services.log.query(sql, (*self._params, limit))
        return rows[::-1] if backwards else rows

    async def _bound(
        self, services: Services, cursor: str, by: str, *, ascending: bool, later: bool
    ) -> None:
        sql = f"SELECT {by} AS place FROM {self._source} WHERE {self._id} = ?"  # noqa: S608 - our names
        rows = await services.log.query(sql, (cursor,))
        if not rows:
            raise ApiError(404, f"{self._kind.capitalize()} not found with id={cursor}")
        place, sign = rows[0]["place"], ">" if ascending == later else "<"
        if place is None:
            among = f"({by} IS NULL AND {self._id} {sign} ?)"
            self.add(among if later else f"({by} IS NOT NULL OR {among})", cursor)
            return
        beyond = f"{by} {sign} ? OR ({by} = ? AND {self._id} {sign} ?)"
        self.add(f"({by} IS NULL OR {beyond})" if later else f"({beyond})", place, place, cursor)


def _held(least: int, most: int | None) -> str:
    """Write that a block is held by `least` to `most` agents. Of those held by none no agent knows."""
    counted = "SELECT value FROM agents, json_each(block_ids) WHERE deleted = 0 GROUP BY value"
    conditions = [f"block_id IN ({counted} HAVING count(*) >= {least:d})"] if least else []
    if most is not None:
        conditions.append(f"block_id NOT IN ({counted} HAVING count(*) > {most:d})")
    return f"({' AND '.join(conditions) or '1 = 1'})"


async def row_of(
    services: Services, kind: Kind, identity: str, *, deleted: bool = False
) -> dict[str, Any] | None:
    """Give the row of an agent, archive or block, None if there is none."""
    living = "" if deleted else " AND deleted = 0"
    sql = f"SELECT * FROM {kind}s WHERE {kind}_id = ?{living}"  # noqa: S608 - our own names
    rows = await services.log.query(sql, (identity,))
    return rows[0] if rows else None
