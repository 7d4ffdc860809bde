"""`notebook`: JupyterLab on the notebooks, until Ctrl-C."""

import argparse
import os
import sys

from engagement.command import Command, Context, main, positive_int
from engagement.project import PROJECT

FOLDER = PROJECT / "notebooks"
FIRST = "explore_engagement.ipynb"
LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `notebook`."""
    parser.add_argument("--port", type=positive_int, default=8888, metavar="N", help="where it listens (default: 8888)")
    parser.add_argument("--no-browser", action="store_true", help="open none; the address with its token is printed")


def run(context: Context) -> None:
    """Become JupyterLab; it takes another port if its own is taken."""
    options = [f"--ServerApp.root_dir={FOLDER}", f"--ServerApp.ip={LOOPBACK}", f"--ServerApp.port={context.args.port}"]
    options += ["--ServerApp.answer_yes=True"]  # Ctrl-C ends it, without a question
    options += ["--no-browser"] if context.args.no_browser else []
    options += [] if os.geteuid() else ["--allow-root"]
    # Its kernels see what this process was given, and with it the settings.
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *options, str(FOLDER / FIRST)])  # noqa: S606


COMMAND = Command(
    name="notebook",
    summary="Explore ranking, lake and warehouse in JupyterLab, on this machine only, until Ctrl-C.",
    run=run,
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
