"""``python -m piquant_bench`` is ``piquant bench``."""

from __future__ import annotations

import sys

from piquant.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
