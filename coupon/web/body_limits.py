"""The most bytes of a body for each address. The server passes a request with a longer one on without its body."""

EXTENSION = "coupon.body_limits"
"""The key of the limits among the application's extensions."""


class BodyLimits:
    """One limit for all addresses, except for those in ``larger``."""

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self.larger: dict[str, int] = {}
        """By path."""

    def of(self, path: str) -> int:
        return self.larger.get(path, self._usual)
