"""Tags: words that agents and blocks are marked with, each once."""

from typing import Final, Literal

from app.web.bodies import Body, Limit, Name, Order
from app.web.endpoint import endpoint
from app.web.services import Services
from projections.columns import Scalar


class ListTags(Body):
    """Which tags. Cursors are tags; both follow the order, and need not be there any more."""

    after: Name | None = None
    before: Name | None = None
    limit: Limit = 50
    order: Order = "asc"
    order_by: Literal["name"] = "name"
    name: Name | None = None
    query_text: Name | None = None


async def list_tags(services: Services, query: ListTags) -> list[str]:
    """List the tags of agents and blocks in the order of their names."""
    where, params = _filters(query)
    parts = [
        f"SELECT value FROM (SELECT tags FROM {table} WHERE deleted = 0) AS tagged, "  # noqa: S608 - our own names
        f"json_each(tags) WHERE TRUE{where}"
        for table in ("agents", "blocks")
    ]
    # `before` alone gives the last ones before it, not the first of all.
    backwards = query.before is not None and query.after is None
    way = "ASC" if (query.order == "asc") != backwards else "DESC"
    sql = f"{' UNION '.join(parts)} ORDER BY value {way} LIMIT ?"
    rows = await services.log.query(sql, (*params, *params, query.limit))
    return [row["value"] for row in (rows[::-1] if backwards else rows)]


def _filters(query: ListTags) -> tuple[str, list[Scalar]]:
    where, params = "", list[Scalar]()
    later, earlier = (">", "<") if query.order == "asc" else ("<", ">")
    for cursor, sign in ((query.after, later), (query.before, earlier)):
        if cursor is not None:
            where += f" AND value {sign} ?"
            params.append(cursor)
    # Two names of one filter; the second is the older one.
    for part in (query.name, query.query_text):
        if part:
            where += " AND instr(lower(value), lower(?)) > 0"
            params.append(part)
    return where, params


ENDPOINTS: Final = [endpoint("GET", "/v1/tags/", list_tags, list[str], tag="agents")]
