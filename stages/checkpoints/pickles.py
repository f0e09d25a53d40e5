"""The pickle of a PyTorch state dict, interpreted without running anything.

A tensor in it is a function call on a storage's key; the storages' bytes are elsewhere in the file. Only the
instructions and the few globals that a state dict needs are known here; Python's own unpickler would import and call
what the file names.
"""

import io
import math
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Optional, Union

from stages.backbones.files.binary import Refused

# A network of a thousand tensors takes 40,000; each may leave an object many times as large as itself.
MOST_STEPS = 200_000


class Storage(NamedTuple):
    """``length`` numbers in a row."""

    key: str
    dtype: str
    length: int


class Tensor(NamedTuple):
    """A strided window on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """Interprets the pickle at the position of ``stream``, which is left behind it.

    Returns (value, storages by key); a tensor in the value is a ``Tensor``, known to lie within its storage. Raises
    Refused for a global that a state dict has no use for, and ValueError, TypeError, LookupError or AttributeError
    for a pickle that is damaged or does anything else.
    """
    machine = _Machine()
    for number, (instruction, written, _) in enumerate(pickletools.genops(stream)):
        if number == MOST_STEPS:
            raise ValueError("a pickle longer than those of networks")
        machine.step(instruction.name, written)
    return machine.stack.pop(), machine.storages


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("a tensor that is not sizes and strides on a storage")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("a tensor with more sizes than strides, or fewer, or more than numpy can have")
    if type(offset) is not int or not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's size that is none")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    # The second: strides of 0 would make any size out of one number.
    if (0 not in shape and last >= storage.length) or math.prod(shape) > storage.length:
        raise ValueError("a tensor larger than its storage")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _ordered_dict(pairs: Iterable[tuple[object, object]] = ()) -> dict[Union[str, int], object]:
    return {_key(key): value for key, value in pairs}


def _key(key: object) -> Union[str, int]:
    # Anything else could be built to be costly to hash.
    if not isinstance(key, (str, int)):
        raise ValueError(f"a dictionary key of type {type(key).__name__}")
    return key


STORAGE_TYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
# A function, or the dtype that stands for a type of storage.
GLOBALS: dict[str, Union[Callable[..., object], str]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor": _tensor,  # PyTorch before 0.4, torchvision's oldest files
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch.nn.parameter Parameter": _parameter,
    **{f"torch {name}": dtype for name, dtype in STORAGE_TYPES.items()},
}

# The pickle instructions that push what is written in the file, a constant, an empty container, a tuple of n.
PUSH_WRITTEN = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
PUSH_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
PUSH_EMPTY: dict[str, Callable[[], object]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
PUSH_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack that a pickle's instructions work on, and what they left beside it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def pop(self, count: Optional[int] = None) -> list[Any]:
        """Takes the topmost ``count`` values, or all above the last mark."""
        start = self.marks.pop() if count is None else len(self.stack) - count
        if start < 0:
            raise ValueError("the pickle's stack is empty")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def step(self, name: str, written: Any) -> None:
        """Carries out one instruction; written: what follows it in the file."""
        if name in PUSH_WRITTEN:
            self.stack.append(written)
        elif name in PUSH_CONSTANT:
            self.stack.append(PUSH_CONSTANT[name])
        elif name in PUSH_EMPTY:
            self.stack.append(PUSH_EMPTY[name]())
        elif name in PUSH_TUPLE:
            self.stack.append(tuple(self.pop(PUSH_TUPLE[name])))
        elif name == "TUPLE":
            self.stack.append(tuple(self.pop()))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1 if name == "APPEND" else None)
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2 if name == "SETITEM" else None)
            self.stack[-1].update(_ordered_dict(zip(items[::2], items[1::2])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[written] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[written])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(_global(written if name == "GLOBAL" else " ".join(self.pop(2))))
        elif name == "REDUCE":
            # Nothing but the functions in GLOBALS can be called: all else on the stack is data.
            function, arguments = self.pop(2)
            self.stack.append(function(*arguments))
        elif name == "BINPERSID":
            self.stack.append(self._storage(*self.stack.pop()))
        elif name == "BUILD":
            # Attributes: a state dict's version numbers, a parameter's gradient flag.
            self.pop(1)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"pickle instruction {name}")

    def _storage(
        self, tag: object, dtype: object, key: object, device: object, length: object, view: object = None
    ) -> Storage:
        if not (tag == "storage" and isinstance(dtype, str) and isinstance(key, str) and type(length) is int):
            raise ValueError("a storage that is not described as one")
        if dtype not in STORAGE_TYPES.values():
            raise ValueError(f"a storage of {dtype}")
        if view is not None:
            raise ValueError("a storage inside another one")
        storage = Storage(key, dtype, length)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("one storage described in two ways")
        return storage


def _global(name: str) -> Union[Callable[..., object], str]:
    if name.startswith("__torch__"):
        # OpenAI's own files of CLIP are such programs.
        raise Refused(
            "is a TorchScript program, and no file's code is ever run: give the weights alone, for CLIP OpenCLIP's "
            "open_clip_model.safetensors"
        )
    if name not in GLOBALS:
        raise Refused(
            f"asks for {name.replace(' ', '.')[:80]!r}, which is refused, as only plain tensors are read and code is "
            "never run: save it with `torch.save(model.state_dict(), path)`"
        )
    return GLOBALS[name]
