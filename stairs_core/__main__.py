"""The program: ``stairs``, or ``python -m stairs_core``."""

import sys

from .quiet import hush


def main() -> int:
    """Quiet first, since libraries warn while they are imported too."""
    hush()
    from .cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
