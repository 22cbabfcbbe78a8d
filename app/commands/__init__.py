"""The commands, a module each, so that none waits for what another imports."""

FAILED = 1
MISUSED = 2


class CommandFailed(Exception):
    """A command that cannot go on; the message is one line for whoever typed it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
