"""Which shard a stream is on, as the distributed database says; asked once a stream."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from app.storage.postgres.connections import Connections

SHARDS_CACHED_MAX: Final = 100_000
_SHARD_OF: Final[LiteralString] = (
    "SELECT id, get_shard_id_for_distribution_column('streams', id) FROM unnest(%s::text[]) AS id"
)


class Shards:
    """Shards by stream. They do not change: rebalancing moves a shard as it is."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: OrderedDict[str, int] = OrderedDict()

    def __call__(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Give each stream's shard."""
        shards = {one: self._known[one] for one in streams if one in self._known}
        unknown = [one for one in streams if one not in shards]
        if unknown:
            with self._connections.connection() as connection:
                shards |= dict(connection.execute(_SHARD_OF, (unknown,)).fetchall())
        for stream in unknown:
            self._known[stream] = shards[stream]
        while len(self._known) > SHARDS_CACHED_MAX:
            self._known.popitem(last=False)
        return shards
