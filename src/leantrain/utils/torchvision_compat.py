"""Import torchvision also where its compiled operators do not fit the installed torch.

PyPI's torchvision wheel for Linux is linked against the CUDA build of torch. Next to a CPU-only torch its
extension ``_C.so`` cannot be loaded, torchvision says nothing, and then ``import torchvision`` stops with
``RuntimeError: operator torchvision::nms does not exist``, where it registers fake kernels for two operators.
What leantrain needs from it (models, transforms, weights) is plain Python and works as soon as those two
operators are *declared*. That is all that happens here: schemas without kernels, and only after the plain
import has failed for exactly this reason. ``torchvision.ops.nms`` then still raises torchvision's own error.
"""

import importlib
import re
import sys
from types import ModuleType

from leantrain.utils.optional_import import require_extra

# The operators for which torchvision registers a fake kernel unconditionally, with torchvision's own schemas.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# torch drops a declaration together with its Library object, so the object has to outlive this call.
_declared: list[object] = []


def import_torchvision() -> ModuleType:
    """Return the ``torchvision`` module; call it before anything that imports torchvision itself, such as timm.

    Raises:
        ImportError: torchvision is not installed, or fails to import for a reason not known here.
    """
    try:
        return require_extra("torchvision", "vision", "this model or data set")
    except RuntimeError as error:
        if not _is_missing_operator(error):
            raise
    _declare_operators()
    # The failed import took ``torchvision`` itself out of sys.modules but left the parts it had already loaded.
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        raise ImportError(
            f"torchvision does not fit the installed torch: {error}. Install a matching pair: "
            "https://github.com/pytorch/vision#installation lists them."
        ) from error


def _is_missing_operator(error: RuntimeError) -> bool:
    """Whether ``error`` is torch's complaint about one of the operators this file can declare."""
    missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
    return missing is not None and missing.group(1) in _SCHEMAS


def _declare_operators() -> None:
    """Declare the operators of ``_SCHEMAS`` that torch does not know, without kernels."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
