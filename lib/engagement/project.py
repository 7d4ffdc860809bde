"""Where this code is, and with it what is read beside it: conf, sql, notebooks."""

from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
"""What a process needs on its PYTHONPATH to import this package."""
PROJECT = LIBRARY.parent
"""The checkout; of a package that is installed elsewhere, a folder without conf."""
