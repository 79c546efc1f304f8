"""Mixed traffic on real processes and real servers while faults are injected; then the evidence, and a verdict.

``python -m tests.proof.chaos --help``
"""
