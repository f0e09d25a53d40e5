"""Machine code that Numba makes of functions of numbers and arrays, kept for the user.

A function's code is found by what its module says, not by where that lies: each experiment of DVC's has a copy of its
own, and would wait for it anew.

Numba takes 0.2 s to load: who may not need its machine code imports this, or a module of machine code, where it does.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching

Formula = TypeVar("Formula", bound=Callable[..., Any])


class Kept(caching.UserWideCacheLocator):
    """Where Numba keeps the machine code of a module: in ``$NUMBA_CACHE_DIR``, or its folder for the user."""

    def __init__(self, function: Any, source: str) -> None:
        super().__init__(function, source)  # type: ignore[no-untyped-call]  # Numba has no types for it
        folder = os.environ.get("NUMBA_CACHE_DIR") or os.path.dirname(self._cache_path)
        self._cache_path = os.path.join(folder, hashlib.sha256(Path(source).read_bytes()).hexdigest())


# Numba 0.60, the last for Python 3.9, does not ask, and keeps it beside the module.
if not getattr(numba.config, "CACHE_LOCATOR_CLASSES", ""):
    vars(numba.config)["CACHE_LOCATOR_CLASSES"] = f"{__name__}.{Kept.__name__}"


def njit(signature: str, **settings: Any) -> Callable[[Formula], Formula]:
    """Makes machine code for arguments of that ``signature`` where a function is defined.

    Raises RuntimeError where there is no place to keep it.
    """
    made: Any = numba.njit(signature, cache=True, **settings)
    return made


def compiled(formula: Formula, fast: bool = False) -> Formula:
    """``formula`` as machine code, made when it is first called.

    Division by 0 gives what is not finite, as in numpy. fast: sums may be added up in another order. Where there is no
    place to keep machine code it is made anew in each process, which takes a second.
    """
    orders = {"reassoc", "contract", "nsz", "arcp"} if fast else False
    make: Any = functools.partial(numba.njit, error_model="numpy", nogil=True, fastmath=orders)
    try:
        made: Formula = make(cache=True)(formula)
    except RuntimeError:
        made = make()(formula)
    return made
