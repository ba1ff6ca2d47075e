"""A CUDA device that is none: its tensors lie in the CPU's memory, and say that they do not.

For finding, on a machine without a GPU, code that mixes tensors of two devices, or reads one that
it has not fetched. What a GPU computes otherwise, and when, this cannot show. Mixing is refused as
CUDA refuses it: a tensor of the CPU may join only if it is a single number, an index, or copied.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

CUDA = torch.device("cuda", 0)
_MAY_MIX = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_", "set_"}
_OF_FIRST = ("copy_", "index", "index_put", "index_put_", "_index_put_impl_")
"""The result is where the first argument is."""
_NO_NUMBER = {
    *("embedding", "index_select", "gather", "scatter", "index_copy", "index_copy_", "index_fill_"),
    *("index_fill", "cat", "stack", "mm", "bmm", "addmm"),
}
"""Operators for which a single number of the CPU is no exception."""


class OnCuda(torch.Tensor):
    """A tensor that says that it is on CUDA. ``held``: the numbers, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnCuda:
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CUDA,
            requires_grad=False,
        )
        found.held = held
        return found

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({self.held!r})"

    def __tensor_flatten__(self) -> Any:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, *_: Any) -> OnCuda:
        return OnCuda(inner["held"])

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy.")

    def __array__(self, *_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy.")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = OnCuda(self.held.clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator, on the numbers that the tensors hold; its result is where CUDA would have it.

    Raises RuntimeError for tensors of two devices.
    """
    name = func._schema.name.partition("::")[2]
    if name == "_fused_sdp_choice":
        return 0  # the one that consists of other operators
    known: dict[int, OnCuda] = {}
    others: list[torch.Tensor] = []
    asked: list[torch.device] = []
    generators: list[torch.Generator] = []

    def bare(value: Any) -> Any:
        if isinstance(value, OnCuda):
            known[id(value.held)] = value
            return value.held
        if isinstance(value, torch.Tensor):
            others.append(value)
        elif isinstance(value, (list, tuple)):
            return type(value)(map(bare, value))
        elif isinstance(value, torch.device):
            asked.append(value)
            return torch.device("cpu") if value.type == "cuda" else value
        elif isinstance(value, torch.Generator):
            generators.append(value)
        return value

    bare_args = tuple(map(bare, args))
    bare_kwargs = {key: bare(value) for key, value in kwargs.items()}
    to_cuda = isinstance(args[0], OnCuda) if name in _OF_FIRST else bool(known)
    to_cuda = asked[0].type == "cuda" if asked else to_cuda
    _refuse(func, name, bool(known), to_cuda, others)
    if any(hasattr(g, "pretends") != to_cuda for g in generators):
        raise RuntimeError(f"Expected a {'cuda' if to_cuda else 'cpu'} generator ({func})")
    if bare_kwargs.get("pin_memory"):
        bare_kwargs["pin_memory"] = False

    def wrapped(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(wrapped, value))
        if not isinstance(value, torch.Tensor) or isinstance(value, OnCuda):
            return value
        return known[id(value)] if id(value) in known else (OnCuda(value) if to_cuda else value)

    return wrapped(func(*bare_args, **bare_kwargs))


def _refuse(func: Any, name: str, mixes: bool, to_cuda: bool, others: list[torch.Tensor]) -> None:
    """``mixes``: some tensors are on CUDA; ``others``: those that are not."""
    if mixes and name not in _MAY_MIX and any(t.dim() or name in _NO_NUMBER for t in others):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({func})"
        )
    if mixes and not to_cuda and name in _OF_FIRST[1:]:
        raise RuntimeError(f"indices should be on the CPU, as what they index is ({func})")


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # the CUDA runtime is not looked for

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _Generator(torch.Generator):
    """A generator on CUDA, where it was asked for there."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type == "cpu":
            return _CPU_GENERATOR("cpu")
        found = super().__new__(cls, "cpu")
        found.pretends = True
        return found

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return CUDA


_CPU_GENERATOR = torch.Generator


class _Properties:
    name, total_memory, major, minor, multi_processor_count = "pretended", 2**37, 9, 0, 132


def _guard() -> None:
    """Before it works on a device, torch asks that device's guard to make it the current one. A
    build without CUDA has none; that of the device "meta" does nothing, and will do."""
    folder = Path(torch.__file__).parent / "lib"
    library = ctypes.CDLL(str(folder / "libc10.so"))
    guards = (ctypes.c_void_p * 22).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    guards[1] = guards[1] or guards[14]


def install() -> None:
    """From now on, in this thread, torch has a GPU."""
    _guard()
    cuda = torch.cuda
    cuda.is_available = lambda: True
    cuda.is_initialized = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.synchronize = lambda *_: None
    cuda.get_device_name = lambda *_: "pretended"
    cuda.get_device_capability = lambda *_: (9, 0)
    cuda.get_device_properties = lambda *_: _Properties
    cuda.is_bf16_supported = lambda *_, **__: True
    cuda.mem_get_info = lambda *_: (2**36, 2**37)
    cuda.memory_allocated = lambda *_: 0
    cuda._lazy_init = lambda: None
    torch.Generator = _Generator
    _files_by_cpu()
    torch.set_grad_enabled(False)  # autograd asks the runtime too
    _Mode().__enter__()
    _Functions().__enter__()


def _files_by_cpu() -> None:
    """Files are written from memory, past the dispatcher; and loaded without looking on, since what
    loads them tells tensors apart by attributes, which copies have not."""
    import safetensors.torch
    from transformers import PreTrainedModel

    write, save = safetensors.torch.save_file, PreTrainedModel.save_pretrained

    def save_file(tensors: dict[str, torch.Tensor], *args: Any, **named: Any) -> None:
        write({name: t.cpu() for name, t in tensors.items()}, *args, **named)

    def save_pretrained(self: Any, *args: Any, **named: Any) -> None:
        with torch.no_grad():
            weights = {name: t.cpu() for name, t in self.state_dict().items()}
        save(self, *args, state_dict=weights, **named)

    load = PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls: Any, *args: Any, **named: Any) -> Any:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return load(cls, *args, **named)

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    safetensors.torch.save_file = save_file
    PreTrainedModel.save_pretrained = save_pretrained


_FROM_DATA = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}


class _Functions(torch.overrides.TorchFunctionMode):
    """Those that write into the device's memory without asking the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: _numbered(value) for name, value in (kwargs or {}).items()}
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            return func(args[0], _listed(args[1]), *args[2:])
        if func not in _FROM_DATA:
            return func(*map(_numbered, args), **kwargs)
        like = args[0] if func is torch.Tensor.new_tensor else None
        where = kwargs.pop("device", None)
        where = where if where is not None else like.device if like is not None else "cpu"
        if func is torch.Tensor.new_tensor:
            kwargs.setdefault("dtype", like.dtype)
            return torch.tensor(*args[1:], **kwargs).to(_numbered(where))
        return func(*args, **kwargs).to(_numbered(where))


def _numbered(value: Any) -> Any:
    """The device's number is asked of a runtime that is not there."""
    return CUDA if isinstance(value, (str, torch.device)) and str(value) == "cuda" else value


def _listed(index: Any) -> Any:
    """An index whose lists are tensors, as they become on their way."""
    if isinstance(index, tuple):
        return tuple(map(_listed, index))
    return torch.tensor(index, dtype=torch.long) if isinstance(index, list) else index
