"""MXNet's operators, each compiled when it is first called.

For each of its 1,300 operators MXNet writes Python functions when it is imported, and compiles them all, of which a
network needs a dozen: that is nearly half of what its import takes.
"""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Optional

# The modules that compile what they have written, by ``exec``.
MODULES = ("mxnet.ndarray.register", "mxnet.symbol.register")

DEFINED = re.compile(r"^def (\w+)\(", re.MULTILINE)


@contextlib.contextmanager
def operators() -> Iterator[None]:
    """For the import of MXNet: its operators are not compiled before they are called."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname not in MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Another loader, that gives the module an ``exec`` of its own."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def postpone(code: str, _: None, names: dict[str, Any]) -> None:
            names.update({name: _function(code, module.__dict__, name) for name in DEFINED.findall(code)})

        module.__dict__["exec"] = postpone
        self._loader.exec_module(module)


def _function(code: str, around: dict[str, Any], name: str) -> Any:
    """The function ``name`` that ``code`` defines among the names ``around``."""
    made: Any = None

    def operator(*given: Any, **named: Any) -> Any:
        nonlocal made
        if made is None:
            names: dict[str, Any] = {}
            exec(code, around, names)
            made = names[name]
        return made(*given, **named)

    return operator
