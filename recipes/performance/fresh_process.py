"""Run a measurement in a fresh process, with its own backend, memory and threads."""

import json
import os
import subprocess  # Of this package's own modules.  # nosec B404
import sys
from typing import Any

_MARK = "figures: "


def run_worker(module: str, *arguments: str, **environment: str) -> Any:
    """Run a recipe in a new process and return what it handed back.

    Args:
        module: Name of the recipe, as in `python -m MODULE`.
        *arguments: Of its command line.
        **environment: Variables to set besides those of this process.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **environment}
    done = subprocess.run(  # No shell.  # nosec B603
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    # Libraries print as well: the figures come last.
    return json.loads(done.stdout.rpartition(_MARK)[2])


def hand_back(figures: Any) -> None:
    """Give figures to the process that called `run_worker`."""
    print(_MARK + json.dumps(figures))
