"""How `decide` says no."""


class DomainError(Exception):
    """The domain said no; nothing was recorded."""


class Refused(DomainError):
    """The request cannot be carried out in the present state."""


class Busy(Refused):
    """Another run of this conversation is not over."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"Cannot send a new message: Another request (run_id={run_id}) is currently being "
            "processed for this conversation. Please wait for it to complete."
        )
        self.run_id = run_id


class Waiting(Refused):
    """Tool calls wait for the client's word: nothing else goes on before it."""

    def __init__(self) -> None:
        super().__init__(
            "Cannot send a new message: The agent is waiting for approval on a tool call. Please "
            "approve or deny the pending request before continuing."
        )


class Unasked(DomainError):
    """An answer to tool calls that does not fit the calls that wait for one."""


class KeyReused(DomainError):
    """An idempotency key that stands for another request already."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(f"{key} was sent with another body before; it stands for {run_id}.")
        self.key = key
        self.run_id = run_id


class Full(Refused):
    """Something that may not grow without a bound has reached it."""


class Stale(Refused):
    """The fact comes from an epoch that a later claim has fenced off, or from a closed step."""


class NotFound(DomainError):
    """There is no such thing, or there is none any more."""

    def __init__(self, what: str, identity: str) -> None:
        super().__init__(f"{what} not found with id={identity}")
        self.what = what
        self.identity = identity
