"""What handlers work with: made once in `wiring`, handed to each of them."""

from dataclasses import dataclass

from app.compaction.compactor import Compactor
from app.conditions import Conditions
from app.execute import Execute
from app.listening import Listener
from app.log import Log
from app.memory.archival import Archival
from app.memory.consolidating import Consolidating
from app.memory.renewing import Renewing
from app.providers.catalogue import Catalogue
from app.settings import Settings
from app.tail import Tail
from app.tools import Toolbox
from app.tools.mcp import McpServers
from app.windows import Windows


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server."""

    settings: Settings
    log: Log
    execute: Execute
    tail: Tail
    windows: Windows
    catalogue: Catalogue
    toolbox: Toolbox
    mcp: McpServers
    conditions: Conditions
    listener: Listener
    compactor: Compactor
    archival: Archival
    consolidating: Consolidating
    renewing: Renewing
