"""What went wrong at a vendor, as the few kinds of failure that a run can end with."""

from typing import Final

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from app.providers import ErrorType, ModelError

DETAIL_CHARACTERS_MAX: Final = 2000
SERVER_ERROR: Final = 500

# Vendors report a prompt that does not fit as any other bad request: only the words tell.
_OVERFLOW_WORDS: Final = (
    "prompt is too long",
    "exceed context limit",
    "exceeds the context window",
    "maximum context length",
)
_MESSAGES: Final[dict[ErrorType, str]] = {
    "llm_timeout": "The model's vendor did not answer in time.",
    "llm_rate_limit": "The model's vendor asks for fewer requests.",
    "llm_authentication": "The model's vendor does not accept the key.",
    "llm_insufficient_credits": "The account at the model's vendor has no credit left.",
    "llm_bad_request": "The model's vendor refused the request.",
    "llm_error": "The model's vendor failed.",
    "stream_incomplete": "The model's stream broke off.",
    "context_window_overflow": "The request does not fit into the model's context window.",
}


def failure_of(error: Exception, *, streaming: bool, secret: str) -> ModelError:
    """Tell what an exception means; `streaming` is whether the reply had begun to arrive.

    `secret` is taken out of the vendor's words: some repeat the key that they were sent.
    """
    error_type = _type_of(error, streaming)
    return ModelError(
        error_type,
        _MESSAGES[error_type],
        detail=_detail_of(error).replace(secret, "[key]")[:DETAIL_CHARACTERS_MAX],
        status=error.status_code if isinstance(error, ModelHTTPError) else None,
        retry_after_s=error.retry_after if isinstance(error, ModelAPIError) else None,
    )


def _detail_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _type_of(error: Exception, streaming: bool) -> ErrorType:
    match error:
        case ModelTimeoutError():
            return "llm_timeout"
        case ModelConnectionError():
            return "stream_incomplete" if streaming else "llm_error"
        case ModelRateLimitError():
            return "llm_rate_limit"
        case ModelQuotaExceededError():
            return "llm_insufficient_credits"
        case ModelAuthenticationError():
            return "llm_authentication"
        case ModelContextWindowExceededError():
            return "context_window_overflow"
        case _:
            return _type_of_other(error, streaming)


def _type_of_other(error: Exception, streaming: bool) -> ErrorType:
    match error:
        case ModelRequestRejectedError() | UserError() | NotImplementedError():
            overflow = any(words in str(error).lower() for words in _OVERFLOW_WORDS)
            return "context_window_overflow" if overflow else "llm_bad_request"
        case ModelHTTPError(status_code=status):
            return "llm_error" if status >= SERVER_ERROR else "llm_bad_request"
        case ModelAPIError(in_stream=True):
            return "llm_error"
        case ModelAPIError() | UnexpectedModelBehavior():
            return "stream_incomplete"
        case _:
            # Bytes that are not the protocol surface as whatever the library stumbled on.
            return "stream_incomplete" if streaming else "llm_error"
