"""Losses under a holdout model, as RHO-LOSS needs them. N = size of the data set."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain.core import dataset_info
from leantrain.embed.passes import Unreadable, embed
from leantrain.scoring.scorer import check_losses, judge, read_pair, scorer
from leantrain.utils import validation


def holdout_losses(
    model: nn.Module,
    loader: DataLoader[Any],
    loss_fn: Callable[..., Tensor],
    *,
    forward: Callable[[nn.Module, Any], tuple[Any, Any]] | None = None,
    classes: int | None = None,
    batch_size: int | None = None,
    unreadable: Unreadable = "raise",
) -> Tensor:
    """(N,) loss of each sample under ``model``, in the data set's own order, in eval mode and without gradient.

    Args:
        model: trained on other data than the loader's, for the same task.
        loader: the training DataLoader; its data set, workers and ``collate_fn`` are used, its sampler as by ``embed``.
            Where its data set augments, better one without augmentation: the losses are taken once and stay.
        loss_fn: as for ``scorer``.
        forward: how a batch becomes (outputs, targets), as for ``scorer``.
        classes: number of classes of the task; by default the largest label of the data set plus 1, where it is known.
        batch_size: of this pass; by default the loader's.
        unreadable: as for ``embed``.

    Raises:
        ValueError: the model tells other classes apart than the data has, or the loss is not one number a sample.
    """
    expected = None if classes is None else validation.integer("classes", classes, least=1)
    labels = dataset_info.labels(loader.dataset, None, len(loader.dataset))  # pyright: ignore[reportArgumentType]
    if expected is None and labels is not None:
        expected = int(labels.max()) + 1

    def checked(model: nn.Module, batch: Any) -> tuple[Any, Any]:
        outputs, targets = (forward or read_pair)(model, batch)
        if judge(outputs, targets)[0] is not None and expected is not None and outputs.shape[1] != expected:
            raise ValueError(
                f"The holdout model gives scores of {outputs.shape[1]} classes; the data has {expected}. Use a model "
                "trained for the same classes; if some of them have no sample here, say how many there are: classes="
                f"{outputs.shape[1]}."
            )
        return outputs, targets

    score = scorer(model, loss_fn, forward=checked)

    def losses(batch: Any) -> Tensor:
        found = score(batch).losses
        return check_losses(found, len(found) if found.ndim else 1, "loss_fn(outputs, targets)").unsqueeze(1)

    return embed(loader, losses, batch_size=batch_size, unreadable=unreadable).values.flatten()
