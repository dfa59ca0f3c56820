"""Facts that a method is given: a tensor, or a callable without arguments that makes it when it is first needed.

N = size of the data set, D = features of a sample.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from leantrain.core.run import Run
from leantrain.core.sized import Sized
from leantrain.embed.features import Features
from leantrain.utils import memory

Rows = Tensor | Features | Callable[[], Tensor | Features]
Numbers = Tensor | Callable[[], Tensor]


def rows_to_hold(who: str, source: Rows, run: Run) -> tuple[list[memory.Part], int]:
    """What ``rows`` will come to hold for ``who``: nothing more where they are there already; and D, 0 when unknown."""
    if callable(source):
        width = source.width if isinstance(source, Sized) else 0
        return ([memory.rows(f"features for {who}", run.size, width)] if width else []), width
    values = source.values if isinstance(source, Features) else source
    return [], values.shape[1] if values.ndim == 2 else 0


def check_source(name: str, value: Any, kinds: str = "a (N, D) tensor, Features or a callable that makes one") -> None:
    """TypeError unless ``value`` can be a source."""
    if not isinstance(value, Tensor | Features) and not callable(value):
        raise TypeError(f"{name} must be {kinds}, not {type(value).__name__}.")


def rows(name: str, source: Rows, run: Run) -> Tensor:
    """(N, D) float32 on the CPU, one finite row a sample; ValueError for anything else."""
    made = source() if callable(source) else source
    if isinstance(made, Features):
        made.check_fingerprint(run.fingerprint)
    values = made.values if isinstance(made, Features) else made
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != run.size:
        raise ValueError(
            f"{name} {_described(values)}; expected ({run.size}, D), one row a sample. Did the data set change since "
            "they were made? Make them again."
        )
    values = values.detach().float().cpu()
    _refuse(name, ~_finite(values), "not finite")
    return values


def numbers(name: str, source: Numbers, run: Run) -> Tensor:
    """(N,) float32 on the CPU, one number a sample, infinite ones allowed; ValueError for anything else."""
    values = source() if callable(source) else source
    if not isinstance(values, Tensor) or values.shape != (run.size,):
        raise ValueError(
            f"{name} {_described(values)}; expected ({run.size},), one number a sample. Did the data set change since "
            "they were made? Make them again."
        )
    values = values.detach().float().cpu()
    _refuse(name, values.isnan(), "NaN")
    return values


def _finite(rows: Tensor) -> Tensor:
    """(N,) whether all numbers of a row are finite. Those of a finite sum are; only the others are looked at."""
    finite = rows.sum(dim=1).isfinite()
    doubtful = (~finite).nonzero().flatten()  # finite numbers can overflow when summed up
    finite[doubtful] = rows[doubtful].isfinite().all(dim=1)
    return finite


def _described(values: Any) -> str:
    return f"have shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"are {type(values).__name__}"


def _refuse(name: str, broken: Tensor, what: str) -> None:
    found = broken.nonzero().flatten()
    if len(found):
        raise ValueError(f"{name} of {len(found)} samples are {what}, first {found[:5].tolist()}.")
