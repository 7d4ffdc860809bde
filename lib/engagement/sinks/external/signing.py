"""Standard Webhooks signatures (https://www.standardwebhooks.com, 1.0): what proves that we sent a request. Pure."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """The key within a secret: base64, with or without `whsec_`. Raises: ValueError."""
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def signature_headers(secrets: Sequence[str], message_id: str, at_seconds: int, body: bytes) -> dict[str, str]:
    """Headers of one attempt: the id stays the same for ever, the time is the attempt's. Empty without secrets."""
    if not secrets:
        return {}
    signed = f"{message_id}.{at_seconds}.".encode() + body
    signatures = [base64.b64encode(hmac.new(key_of(each), signed, hashlib.sha256).digest()) for each in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(f"v1,{signature.decode()}" for signature in signatures),
    }
