"""What both peers do with a request, whatever they keep coupons in."""

import secrets

from flask import jsonify, request

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def refused(status, code):
    return jsonify(code=code, status=status), status


def wanted(*fields):
    """The body; None when one of the fields is missing or no text."""
    body = request.get_json()
    for name in fields:
        if not isinstance(body.get(name), str) or not 0 < len(body[name]) <= 255:
            return None
    return body


def new_code():
    bits = secrets.randbits(95)
    return "".join([ALPHABET[(bits >> shift) & 31] for shift in range(0, 95, 5)])
