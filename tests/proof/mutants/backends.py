"""Guards of the store and of search, as the memory backends keep them."""

from tests.proof.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "condition",
        "backends/store/memory.py",
        "if (stored.revision if stored else 0) != coupon.revision - 1:",
        "if stored is not None and coupon.revision == 1:",
    ),
    Mutant(
        "create-if-absent",
        "backends/store/memory.py",
        "if (stored.revision if stored else 0) != coupon.revision - 1:",
        "if coupon.revision != 1 and (stored.revision if stored else 0) != coupon.revision - 1:",
    ),
    Mutant(
        "external version",
        "backends/search/memory.py",
        'if old is not None and old["version"] >= new["version"]:',
        "if False:",
    ),
]
