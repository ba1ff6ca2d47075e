"""``python -m stairs_core``: the same as ``stairs``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
