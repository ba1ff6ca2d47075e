"""What to do where memory has run out: tell it by the error, and give back what the error holds."""

from __future__ import annotations

import gc
import re
import traceback

_GPU = r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
_CPU = r"DefaultCPUAllocator: (can't allocate|not enough) memory"


def place(error: BaseException | None) -> str:
    """Where memory ran out, "GPU" or "machine", by an error or one that led to it; else empty."""
    import torch

    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or re.search(_GPU, str(error)):
            return "GPU"
        if isinstance(error, MemoryError) or re.search(_CPU, str(error)):
            return "machine"
        error = error.__cause__ or error.__context__
    return ""


def forget(error: BaseException | None) -> None:
    """Clears the frames that an error holds, in which models and caches may be; then frees them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    collect()


def collect() -> None:
    """Frees the memory of what is no longer referenced, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
