"""The read tables: views kept in SQL, written in the transaction of their facts.

Each can be dropped and rebuilt from the log. Every primary key begins with the column that a
distributed database would shard by. What a fact changes in them is in `patches`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Table:
    """A read table: column names with `text` or `bigint`, the key's columns first.

    `long` are columns with an index for equality alone, as their values may be too large for an
    ordered one. `searched` is a column of words with spaces between, by each of which rows are found; its table is
    keyed by (stream, version). A patch gives the columns in `clocked` as milliseconds from now, by the
    database's clock. A table that is not `rebuilt` says something of the present, which no fact knows.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    indexes: tuple[tuple[str, ...], ...] = ()
    long: tuple[str, ...] = ()
    searched: str | None = None
    clocked: tuple[str, ...] = ()
    rebuilt: bool = True


TABLES: Final = MappingProxyType(
    {
        table.name: table
        for table in (
            Table(
                "conversations",
                ("conversation_id",),
                {
                    "conversation_id": "text",
                    "agent_id": "text",
                    "created_at": "text",
                    "updated_at": "text",
                    "last_message_at": "text",
                    "last_run_completion": "text",
                    "archived_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                    "archived": "bigint",
                    "summary": "text",
                    "description": "text",
                    "model": "text",
                    "model_settings": "text",
                    "context_window_limit": "bigint",
                },
                (("agent_id", "created_at"), ("created_at",)),
            ),
            Table(
                "runs",
                ("conversation_id", "run_id"),
                {
                    "conversation_id": "text",
                    "run_id": "text",
                    "queued_at": "bigint",
                    "finished_at": "bigint",
                    "status": "text",
                    "stop_reason": "text",
                    "background": "bigint",
                    "created_at": "text",
                    "completed_at": "text",
                    "model": "text",
                    "request": "text",
                    "usage": "text",
                    "error": "text",
                    "body_hash": "text",
                    "hidden": "bigint",
                    "callback_url": "text",
                    "callback_due": "bigint",
                    "callback_sent_at": "text",
                    "callback_status_code": "bigint",
                    "callback_error": "text",
                },
                (("status", "created_at"), ("created_at",), ("callback_due",)),
            ),
            Table(
                "leases",
                ("work",),
                {"work": "text", "holder": "text", "expires_at": "bigint"},
                clocked=("expires_at",),
                rebuilt=False,
            ),
            Table(
                "idempotency_keys",
                ("conversation_id", "key"),
                {
                    "conversation_id": "text",
                    "key": "text",
                    "run_id": "text",
                    "body_hash": "text",
                },
            ),
            Table(
                "locators",
                # A run or message is looked up by its id alone, but stored beside its stream.
                ("stream", "id"),
                {"stream": "text", "id": "text", "version": "bigint"},
                (("id",),),
            ),
            Table(
                "texts",
                # What was said and can be searched: a row is a fact that has words. `place` names
                # the item of the window that they belong to, `words` counts the `terms`.
                ("stream", "version"),
                {
                    "stream": "text",
                    "version": "bigint",
                    "place": "bigint",
                    "role": "text",
                    "kind": "text",
                    "at": "text",
                    "text": "text",
                    "terms": "text",
                    "words": "bigint",
                },
                searched="terms",
            ),
            Table(
                "agents",
                ("agent_id",),
                {
                    "agent_id": "text",
                    "name": "text",
                    "description": "text",
                    "tags": "text",
                    "created_at": "text",
                    "updated_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                },
                (("created_at",),),
                long=("name",),
            ),
            Table(
                "blocks",
                ("block_id",),
                {
                    "block_id": "text",
                    "label": "text",
                    "value": "text",
                    "description": "text",
                    "tags": "text",
                    "read_only": "bigint",
                    "created_at": "text",
                    "updated_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                },
                (("created_at",), ("label",)),
            ),
        )
    }
)
