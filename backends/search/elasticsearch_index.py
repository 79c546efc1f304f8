"""The index: how each field of a coupon's document is kept. Imported by those who make one; others do without dsl."""

from elasticsearch import Elasticsearch
from elasticsearch.dsl import Index, Mapping

from coupon.domain.model import Day
from coupon.domain.serialization import DOCUMENT_FIELDS, Instant

_TYPES = {str: "keyword", bool: "boolean", int: "long", Day: "date", Instant: "date"}
PROPERTIES = {name: {"type": _TYPES[field.kind]} for name, field in DOCUMENT_FIELDS.items()}
"""By the declaration of the document. A field that a later version adds is kept and returned meanwhile."""


def make_index(client: Elasticsearch, name: str, alias: str, shards: int, replicas: int) -> bool:
    """Make it, with its alias, in one step; False when not all nodes are known to have heard of it."""
    mapping = Mapping()
    mapping.meta("dynamic", "false")
    for field, how in PROPERTIES.items():
        mapping.field(field, how["type"])
    index = Index(name, using=client)
    index.mapping(mapping)
    index.settings(number_of_shards=shards, number_of_replicas=replicas)
    index.aliases(**{alias: {"is_write_index": True}})
    return bool(index.create()["acknowledged"])


def add_fields(client: Elasticsearch, alias: str) -> bool:
    """Make fields known that came after the index was made. What was indexed before lacks them until a rebuild. False
    when not all nodes are known to have heard of it."""
    [found] = client.indices.get_mapping(index=alias).body.values()
    known = found["mappings"].get("properties", {})
    missing = {field: how for field, how in PROPERTIES.items() if field not in known}
    return not missing or bool(client.indices.put_mapping(index=alias, properties=missing)["acknowledged"])
