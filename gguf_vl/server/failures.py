"""What went wrong, as HTTP says it: a status and a line. Each dialect has its own shape for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gguf_vl.errors import (
    AnswerInvalid,
    Busy,
    CutOff,
    DoesNotFit,
    EngineError,
    GgufVlError,
    InvalidPicture,
    MissingOrInvalid,
    ModelNotFound,
    OfflineError,
    Unreachable,
    UsageError,
    VerificationFailed,
)

RETRY_AFTER_S = 5
"""Seconds after which to come again where the queue is full or the engine has failed."""


class TimedOut(EngineError):
    """A request took longer than the operator allows."""


class Unavailable(EngineError):
    """The model cannot be loaded now, or the server is ending."""


class Forbidden(UsageError):
    """The operator does not allow it."""


class TooManyPictures(UsageError):
    """A request has more pictures than are taken."""


class NoSuchPicture(InvalidPicture):
    """A picture that is not, or no longer, kept."""


class NoSuchResponse(UsageError):
    """A response that is not, or no longer, kept."""


class Full(Busy):
    """As many requests are under way as are let in. `place` is what this one's would have been, 1 for the first."""

    def __init__(self, place: int) -> None:
        super().__init__(
            f"{place - 1} requests are being answered or wait: this one would be number {place}, and is not let in.",
            f"Ask again in {RETRY_AFTER_S} s.",
        )
        self.place = place


_STATUS: tuple[tuple[type[GgufVlError], int], ...] = (
    (ModelNotFound, 404),
    (NoSuchPicture, 404),
    (NoSuchResponse, 404),
    (MissingOrInvalid, 400),
    (Forbidden, 403),
    (OfflineError, 403),
    (UsageError, 400),
    (Unreachable, 502),
    (VerificationFailed, 502),
    (DoesNotFit, 400),
    (Busy, 429),
    (CutOff, 422),
    (AnswerInvalid, 502),
    (TimedOut, 504),
    (Unavailable, 503),
    (EngineError, 503),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed: the HTTP status, what happened and what to do, for programs a word and `more`."""

    status: int
    message: str
    code: str
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Those that go with the status. Who sends a body too slowly is not listened to any longer."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.status == 408:
            return {"Connection": "close"}
        return {"Retry-After": str(RETRY_AFTER_S)} if self.status in (429, 503) else {}


_CODES_OF: tuple[tuple[type[GgufVlError], str], ...] = (
    (ModelNotFound, "model_not_found"),
    (NoSuchPicture, "picture_not_found"),
    (NoSuchResponse, "response_not_found"),
    (TooManyPictures, "too_many_pictures"),
    (DoesNotFit, "context_length_exceeded"),
    (CutOff, "answer_cut_off"),
    (AnswerInvalid, "answer_invalid"),
)
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    408: "too_slow",
    413: "request_too_large",
    421: "misdirected",
    429: "queue_full",
    502: "unreachable",
    503: "unavailable",
    504: "timeout",
}


def failure_of(error: GgufVlError) -> Failure:
    """How HTTP says it; 500 for what is in no class of its own."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    code = next((code for kind, code in _CODES_OF if isinstance(error, kind)), code_of(status))
    more: dict[str, object] = {"place": error.place} if isinstance(error, Full) else {}
    if isinstance(error, CutOff):
        more["partial"] = error.partial
    return Failure(status, f"{error.what} {error.fix}", code, more)


def code_of(status: int) -> str:
    """A word for a status."""
    return _CODES.get(status, "error")
