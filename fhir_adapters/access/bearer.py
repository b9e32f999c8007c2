"""Where a client's access token comes from, and what a 401 may do about it.

Checklist S34: a server that answers 401 is asked once more with a renewed token, where
there is a way to renew it, and then never again.
"""

from __future__ import annotations

from typing import Protocol


class Bearer(Protocol):
    """A source of access tokens; shared by threads."""

    def token(self, deadline: float | None = None) -> str | None:
        """The token to send now, None for an open server.

        Raises:
            AdapterError: There should be one and none can be had.
        """

    def renewed(self, refused: str, deadline: float | None = None) -> str | None:
        """Another token than ``refused``, None when there is no way to one.

        Raises:
            AdapterError: Renewing failed.
        """


class FixedBearer:
    """A token that somebody lent us: a 401 ends it.

    Args:
        token: The token, None for an open server.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __repr__(self) -> str:
        """Without the token."""
        return "FixedBearer()"

    def token(self, deadline: float | None = None) -> str | None:
        """The token as it was given."""
        return self._token

    def renewed(self, refused: str, deadline: float | None = None) -> str | None:
        """None: nobody gave us the means to ask for another."""
        return None


def as_bearer(token: str | Bearer | None) -> Bearer:
    """A source for what callers may pass: a token, a source, or nothing."""
    return FixedBearer(token) if token is None or isinstance(token, str) else token
