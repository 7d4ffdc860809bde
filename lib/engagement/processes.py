"""Processes of this machine."""

import psutil


def family(pid: int | None) -> list[psutil.Process]:
    """A process and all below it, itself first; none when it is gone."""
    if pid is None:
        return []
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
