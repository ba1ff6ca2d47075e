"""The process in which strangers' chat templates are filled in: see ``bounded_template``.

A request is a line of JSON on stdin; its answer, on stdout, the ``text`` or why it ``failed``.
Memory and CPU seconds are bounded by the operating system, where it can.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

MEMORY = 2**29
"""Bytes that a template may take beside what the process has taken by itself."""
LONGEST = 500_000
"""Characters that a template may write beside those that it is given."""


def main() -> None:
    # Without torch: a second, not four.
    from transformers.utils.chat_template_utils import render_jinja_template

    _bound_memory()
    print("{}", flush=True)  # ready
    for line in sys.stdin:
        asked = json.loads(line)
        _bound_seconds(asked.pop("seconds"))
        chat = asked.pop("conversation")
        try:
            (text,), _ = render_jinja_template(conversations=[chat], **asked)
            answer = {"text": text}
            if len(text) > LONGEST + len(line):
                answer = {"failed": f"it writes {len(text)} characters"}
        except Exception as e:  # templates are programs, and may raise anything
            answer = {"failed": str(e)[:500] or type(e).__name__}
        print(json.dumps(answer), flush=True)


def _bound_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system has that
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_seconds(seconds: float) -> None:
    """Should nobody be there any more to stop it, the system does."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used: Any = resource.getrusage(resource.RUSAGE_SELF)
        end = int(used.ru_utime + used.ru_stime + seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
