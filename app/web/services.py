"""What handlers work with: made once in `wiring`, handed to each of them."""

from dataclasses import dataclass

from app.execute import Execute
from app.log import Log
from app.providers.catalogue import Catalogue
from app.settings import Settings
from app.tail import Tail
from app.tools import Toolbox
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
