"""The suites that every backend has to pass, for ours and for those of others: docs/backends.md.

A failed assertion shows its values, because pytest is told of these modules before the first of them is imported.
"""

from pkgutil import iter_modules

try:
    import hypothesis  # noqa: F401 - so that the sentence below comes at once
    import pytest
except ImportError as error:
    raise ImportError(f"backends.testing needs {error.name}; run: pip install 'coupon[testing]'") from error

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))
