"""Public hashes, many in one round trip; each key may lie in another slot."""

from collections.abc import Mapping

import redis


def write_hashes(client: redis.Redis, hashes: Mapping[str, Mapping[str, str]], ttl_seconds: int | None = None) -> None:
    """Write hashes, delete the empty ones; a key that somebody made another type is replaced.

    Raises: the client's errors (see faults.translated).
    """
    answers = _write(client, hashes, ttl_seconds, raise_on_error=False)
    wrong = [key for key, answer in zip(hashes, answers, strict=True) if is_wrong_type(answer)]
    if wrong:
        for key in wrong:
            client.delete(key)
        _write(client, {key: hashes[key] for key in wrong}, ttl_seconds, raise_on_error=True)
    for answer in answers:
        if isinstance(answer, Exception) and not is_wrong_type(answer):
            raise answer


def _write(
    client: redis.Redis, hashes: Mapping[str, Mapping[str, str]], ttl_seconds: int | None, *, raise_on_error: bool
) -> list[object]:
    """Give the answer of each key's first command."""
    pipeline = client.pipeline(transaction=False)
    firsts = []
    for key, fields in hashes.items():
        firsts.append(len(pipeline))
        if not fields:
            pipeline.delete(key)
            continue
        pipeline.hset(key, items=[text for pair in fields.items() for text in pair])
        if ttl_seconds is not None:
            pipeline.expire(key, ttl_seconds)
    answers = pipeline.execute(raise_on_error=raise_on_error)
    return [answers[place] for place in firsts]


def is_wrong_type(answer: object) -> bool:
    """Whether Redis refused because somebody made the key another type."""
    return isinstance(answer, redis.exceptions.ResponseError) and str(answer).startswith("WRONGTYPE")
