"""Machine code that Numba makes of functions of numbers and arrays."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Formula = TypeVar("Formula", bound=Callable[..., Any])


def compiled(formula: Formula, fast: bool = False) -> Formula:
    """``formula`` as machine code, made when it is first called and kept beside the module.

    Division by 0 gives what is not finite, as in numpy. fast: sums may be added up in another order.
    """
    njit: Any = numba.njit
    settings = {
        "error_model": "numpy",
        "nogil": True,
        "fastmath": {"reassoc", "contract", "nsz", "arcp"} if fast else False,
    }
    try:
        made: Formula = njit(cache=True, **settings)(formula)
    except RuntimeError:
        # There is no place to keep machine code: it is made anew in each process, which takes a second.
        made = njit(**settings)(formula)
    return made
