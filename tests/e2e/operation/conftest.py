"""The folder's stack and its streaming job, which tests take as they are and leave equal to the reference."""

from tests.e2e.support.fixtures import job, world

__all__ = ["job", "world"]
