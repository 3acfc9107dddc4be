"""The command ``binned-experts``, also as ``python -m binned_experts``."""

import os
import signal
import sys

from . import _native


def main() -> int:
    """Runs the command with the arguments of this process, and returns its exit status."""
    # The command answers Ctrl-C with the report so far. Python's handler would add a KeyboardInterrupt to it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name = os.path.basename(sys.argv[0])
    started_as = [sys.executable, "-m", "binned_experts"] if name == "__main__.py" else [sys.argv[0]]
    return _native.command(started_as, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
