"""The encodings of coupons and commands outside this process. All are JSON; decoding checks types and bounds.

| file             | what is encoded                          | where                | as     |
| ---------------- | ---------------------------------------- | -------------------- | ------ |
| `messages.py`    | commands, lost attempts, lists of codes  | queue                | object |
| `stored.py`      | coupons; fences and epochs               | store, cache         | array  |
| `documents.py`   | coupons as others see them               | search, HTTP, export | object |
| `json_format.py` | the common part: JSON, types and bounds  |                      |        |

Queues and stores are read long after they were written, by other versions too. So an earlier version's data can be
decoded, and a new field has a default.
"""

from coupon.domain.serialization.documents import (
    DOCUMENT_FIELDS,
    Document,
    DocumentField,
    Instant,
    completed,
    document,
    fault_of_document,
    instant,
    wire_name,
)
from coupon.domain.serialization.json_format import AMOUNT_MAX, INSTANT_MAX, NAME_MAX, decoded, dump, load
from coupon.domain.serialization.messages import decode_codes, decode_command, decode_loser, encode_command
from coupon.domain.serialization.stored import (
    Fence,
    checked,
    decode_coupon,
    decode_epoch,
    decode_fence,
    decode_history,
    decode_rejections,
    encode_coupon,
    encode_history,
    encode_rejections,
)

__all__ = [
    "AMOUNT_MAX",
    "DOCUMENT_FIELDS",
    "INSTANT_MAX",
    "NAME_MAX",
    "Document",
    "DocumentField",
    "Fence",
    "Instant",
    "checked",
    "completed",
    "decode_codes",
    "decode_command",
    "decode_coupon",
    "decode_epoch",
    "decode_fence",
    "decode_history",
    "decode_loser",
    "decode_rejections",
    "decoded",
    "document",
    "dump",
    "encode_command",
    "encode_coupon",
    "encode_history",
    "encode_rejections",
    "fault_of_document",
    "instant",
    "load",
    "wire_name",
]
