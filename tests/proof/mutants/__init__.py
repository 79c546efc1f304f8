"""The guards of the protocol, by the room that each is in, and how each is taken out."""

from tests.proof.mutants import acceptance, backends, bulk, domain, signatures, worker

MUTANTS = [
    *domain.MUTANTS,
    *acceptance.MUTANTS,
    *worker.MUTANTS,
    *bulk.MUTANTS,
    *backends.MUTANTS,
    *signatures.MUTANTS,
]
