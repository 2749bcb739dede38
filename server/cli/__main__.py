"""Run the command as `python -m server.cli`."""

from __future__ import annotations

import sys

from server.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
