"""The table ``Coupon`` as a PynamoDB model, and fast conversions between its items and coupons.

The model is the schema: it makes the table, and any PynamoDB program can read the table with it. On the hot path
``item`` and ``coupon`` convert a coupon in 6 µs instead of the model's 60. A test compares them with the model. All
three are generated from the fields of ``Coupon``.

Instants are numbers (milliseconds since the epoch), days ISO strings, history and rejections compact JSON. ``issued``
and ``used`` follow from other fields; they are written for other programs that read the table. A field that has a
default is missing in items of earlier versions.
"""

from collections.abc import Callable
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from pynamodb.attributes import Attribute, BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.constants import PAY_PER_REQUEST_BILLING_MODE
from pynamodb.models import Model

from coupon.domain import serialization as wire
from coupon.domain.model import Coupon, Day

Item = dict[str, dict[str, Any]]
"""``{"couponCode": {"S": "…"}, …}``."""
_ABSENT: dict[str, Any] = {}
_NULL = {"NULL": True}
_REQUIRED = object()
_ATTRIBUTES: dict[str, Callable[..., Attribute[Any]]] = {
    "S": UnicodeAttribute,
    "N": NumberAttribute,
    "BOOL": BooleanAttribute,
}
_LISTS: dict[str, Callable[[Any], Any]] = {"history": wire.decode_history, "rejections": wire.decode_rejections}


class _Field(NamedTuple):
    """How a field of ``Coupon`` is stored. ``kind`` is DynamoDB's type. ``encode`` and ``decode`` convert the value,
    and are None when it is stored as it is. An item without the field has the default."""

    attribute: str
    kind: str
    encode: Callable[[Any], str] | None
    decode: Callable[[Any], Any] | None
    default: Any


def _json(value: Any) -> str:
    return wire.dump(value).decode()


def _kept(name: str, hint: Any) -> _Field:
    default = Coupon._field_defaults.get(name, None if NoneType in get_args(hint) else _REQUIRED)
    [plain] = {each for each in get_args(hint) if each is not NoneType} if default is None else {hint}
    attribute = wire.wire_name(name)
    if plain is bool:
        return _Field(attribute, "BOOL", None, None, default)
    if plain is int:
        return _Field(attribute, "N", str, int, default)
    if plain in (str, Day):
        return _Field(attribute, "S", None, None, default)
    return _Field(attribute, "S", _json, _LISTS.get(name) or msgspec.json.Decoder(hint).decode, default)


_FIELDS = {name: _kept(name, hint) for name, hint in get_type_hints(Coupon).items()}
# In items that are older than numbers ``settled`` is the version: see ``coupon``.
_FIELDS["settled"] = _FIELDS["settled"]._replace(default=0)


def _in_model(field: _Field) -> Attribute[Any]:
    options = {"hash_key": True} if field.attribute == "couponCode" else {"null": field.default is not _REQUIRED}
    return _ATTRIBUTES[field.kind](attr_name=field.attribute, **options)


_DERIVED = {"issued": BooleanAttribute(), "used": BooleanAttribute()}
CouponItem: type[Model] = type(
    "CouponItem", (Model,), {name: _in_model(field) for name, field in _FIELDS.items()} | _DERIVED
)
"""The model of an item. It is not bound to a table yet: see ``bind``."""


def bind(table: str, **options: Any) -> type[Model]:
    """The model bound to one table at one address. PynamoDB stores the connection in the class, and copies ``Meta``
    when the class is declared. So every backend, and every process of it, gets a class of its own."""
    meta = type("Meta", (), {"table_name": table, "billing_mode": PAY_PER_REQUEST_BILLING_MODE, **options})
    return type("BoundCouponItem", (CouponItem,), {"Meta": meta})


def _compiled(source: str) -> Callable[[Any], Any]:
    """The function ``made`` of that source, with the fields' codecs as its globals. A loop over the fields would cost
    half as much again."""
    codecs = {f"encode_{name}": field.encode for name, field in _FIELDS.items()}
    names: dict[str, Any] = {f"decode_{name}": field.decode for name, field in _FIELDS.items()}
    names |= codecs | {f"default_{name}": field.default for name, field in _FIELDS.items()} | {"NULL": _NULL}
    exec(source, names)  # noqa: S102 - made of the names of Coupon's fields
    made: Callable[[Any], Any] = names["made"]
    return made


def _writing() -> str:
    """The source of ``item``. A None, or an empty list or False as the default, is no attribute."""
    lines = [
        f"def made(coupon):\n    {', '.join(_FIELDS)} = coupon",
        "    item = {'issued': {'BOOL': user_id is not None}, 'used': {'BOOL': used_at is not None}}",
    ]
    for name, field in _FIELDS.items():
        value = f"encode_{name}({name})" if field.encode else name
        lines.append(f"    {_condition(name, field)}item['{field.attribute}'] = {{'{field.kind}': {value}}}")
    return "\n".join([*lines, "    return item"])


def _condition(name: str, field: _Field) -> str:
    if field.default is None:
        return f"if {name} is not None: "
    return f"if {name}: " if field.default is False or field.default == () else ""


def _reading() -> str:
    lines = ["def made(item):"]
    for name, field in _FIELDS.items():
        attribute, value = f"item['{field.attribute}']", f"['{field.kind}']"
        if field.default is not _REQUIRED:
            lines.append(f"    {name} = item.get('{field.attribute}')")
            attribute = name
        read = f"decode_{name}({attribute}{value})" if field.decode else f"{attribute}{value}"
        default = "" if field.default is _REQUIRED else f"default_{name} if {name} is None or {name} == NULL else "
        lines.append(f"    {name} = {default}{read}")
    return "\n".join([*lines, f"    return ({', '.join(_FIELDS)})"])


_write, _read = _compiled(_writing()), _compiled(_reading())


def item(coupon: Coupon) -> Item:
    item: Item = _write(coupon)
    return item


def coupon(item: Item) -> Coupon:
    """Raises one of ``rows.NOT_OURS`` for an item that is no coupon's."""
    coupon = wire.checked(Coupon._make(_read(item)))
    return coupon if coupon.settled else coupon._replace(settled=coupon.version)


def size(item: Item) -> int:
    """At most so many bytes: those of the two texts that may be long, and 1 KB for the rest."""
    rejections = item.get("rejections", _ABSENT).get("S", "")
    return 1_000 + len(item["history"]["S"].encode()) + len(rejections.encode())
