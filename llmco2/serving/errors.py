"""What can go wrong between here and a serving engine, by a code and one line."""

from __future__ import annotations

from typing import Final

from llmco2.errors import MeasurementError

UNREACHABLE: Final = "unreachable"
SLOW: Final = "slow"
REFUSED: Final = "refused"  # an HTTP error
REDIRECTED: Final = "redirected"  # to another host
TOO_LARGE: Final = "too_large"
DAMAGED: Final = "damaged"  # not a metrics page, or one that broke off
FOREIGN: Final = "foreign"  # a metrics page, of no engine that is known
AMBIGUOUS: Final = "ambiguous"  # several models on one page


class ServerError(MeasurementError):
    """A serving engine could not be read; ``code`` is one of the constants of this module."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)
