"""Import an optional package, or say how to install it."""

import importlib
import random
from typing import Any


def require_extra(module: str, extra: str, who: str = "this") -> Any:
    """Import ``module``, which the extra ``extra`` of leantrain brings along and ``who`` needs.

    Raises:
        ImportError: it is not installed; the message holds the install command.
    """
    stream = random.getstate()  # some packages draw from it while they are imported
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != package:
            raise  # the package is there, and something that it needs is not
        raise ImportError(
            f'{package} is not installed, and {who} needs it. Install it with: pip install "leantrain[{extra}]"'
        ) from error
    finally:
        random.setstate(stream)
