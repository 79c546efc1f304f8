"""The mapping of the index. Only processes that make an index import this module, and with it dsl."""

from elasticsearch import Elasticsearch
from elasticsearch.dsl import Index, Mapping

from coupon.domain.model import Day
from coupon.domain.serialization import DOCUMENT_FIELDS, Instant

_TYPES = {str: "keyword", bool: "boolean", int: "long", Day: "date", Instant: "date"}
PROPERTIES = {name: {"type": _TYPES[field.kind]} for name, field in DOCUMENT_FIELDS.items()}
"""The mapping of each declared field. A field that the mapping does not have yet is stored and returned."""


def make_index(client: Elasticsearch, name: str, alias: str, shards: int, replicas: int) -> bool:
    """Make the index with its alias, in one step. False when not all nodes have acknowledged it."""
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
    """Add later fields to the mapping of an existing index. Earlier documents lack them until a rebuild. False when not
    all nodes have acknowledged it."""
    [index] = client.indices.get_mapping(index=alias).body.values()
    properties = index["mappings"].get("properties", {})
    missing = {field: how for field, how in PROPERTIES.items() if field not in properties}
    return not missing or bool(client.indices.put_mapping(index=alias, properties=missing)["acknowledged"])
