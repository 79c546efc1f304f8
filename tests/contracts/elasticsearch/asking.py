"""Ask until Elasticsearch is as it should be."""

from backends.testing.search import settles
from coupon.domain.errors import BackendUnavailable


def settled(ask):
    settles(lambda: bool(ask()), True)
    return ask()


def can(act):
    try:
        act()
    except BackendUnavailable:
        return False
    return True
