"""The index: how each field of a coupon's document is kept. Imported by those who make one; others do without dsl."""

from elasticsearch import Elasticsearch
from elasticsearch.dsl import Boolean, Date, Document, Index, Keyword, Long, MetaField


class CouponDocument(Document):
    """``wire.Document``. A field that a later version adds is kept and returned meanwhile; a rebuild makes it known."""

    couponCode = Keyword()  # noqa: N815 - these are the wire names
    userId = Keyword()  # noqa: N815
    issued = Boolean()
    used = Boolean()
    validFrom = Date()  # noqa: N815
    expireAt = Date()  # noqa: N815
    issuedAt = Date()  # noqa: N815
    usedAt = Date()  # noqa: N815
    createdAt = Date()  # noqa: N815
    modifiedAt = Date()  # noqa: N815
    version = Long()

    class Meta:
        dynamic = MetaField("false")


def make_index(client: Elasticsearch, name: str, alias: str, shards: int, replicas: int) -> bool:
    """Make it, with its alias, in one step; False when not all nodes are known to have heard of it."""
    index = Index(name, using=client)
    index.document(CouponDocument)
    index.settings(number_of_shards=shards, number_of_replicas=replicas)
    index.aliases(**{alias: {"is_write_index": True}})
    return bool(index.create()["acknowledged"])
