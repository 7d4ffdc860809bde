"""The Lua scripts: loading, EVALSHA, and healing when Redis has forgotten them (restart, SCRIPT FLUSH)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import redis

Value = str | bytes | int | float
STANDALONE = frozenset({"ranking", "recent", "event", "top"})
"""Scripts that do not work on a shard and so do without the prelude."""


@dataclass(frozen=True)
class Script:
    """One script's text and its SHA-1, the name Redis knows it by."""

    text: str
    sha: str


@dataclass(frozen=True)
class Call:
    """A script to run with its keys (all in one slot) and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Value]

    @property
    def evalsha(self) -> tuple[Any, ...]:
        """Arguments of EVALSHA."""
        return (self.script.sha, len(self.keys), *self.keys, *self.args)


@cache
def load(name: str) -> Script:
    """Read lua/<name>.lua, behind the prelude that the shard scripts share."""
    folder = resources.files("engagement.sinks.redis") / "lua"
    parts = [f"{name}.lua"] if name in STANDALONE else ["prelude.lua", f"{name}.lua"]
    text = "\n".join((folder / part).read_text(encoding="utf-8") for part in parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def run(client: redis.Redis, call: Call) -> list[Any]:
    """Run one script; the raw answer is returned."""
    try:
        answer = client.evalsha(*call.evalsha)
    except redis.exceptions.NoScriptError:
        answer = client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
    return list(answer)


def run_many(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    """Run scripts in one round trip, each atomic by itself; raises the first error after all have run."""
    answers = _pipelined(client, calls)
    forgotten = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
    if forgotten:
        for text in {calls[i].script.text for i in forgotten}:
            client.script_load(text)
        for i, answer in zip(forgotten, _pipelined(client, [calls[i] for i in forgotten]), strict=True):
            answers[i] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _pipelined(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(*call.evalsha)
    return list(pipeline.execute(raise_on_error=False))
