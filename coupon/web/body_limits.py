"""How many bytes of a body each address takes. The server waits for no longer body before it asks the application."""

EXTENSION = "coupon.body_limits"
"""The key of the limits among the application's extensions."""


class BodyLimits:
    """One limit for all addresses, but for those in ``larger``."""

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self.larger: dict[str, int] = {}
        """By path."""

    def of(self, path: str) -> int:
        return self.larger.get(path, self._usual)
