"""``python -m stairs_core.training``: the same as ``stairs train``, for ``accelerate launch``."""

from __future__ import annotations

import argparse
import sys

from .command import add_arguments, main
from .common import as_json

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="stairs train", description="Train a target and a draft.")
    add_arguments(parser)
    try:
        print(as_json(main(parser.parse_args()), indent=1))
    except ValueError as error:
        print(f"stairs train: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        print(f"stairs train: {stopped}; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
