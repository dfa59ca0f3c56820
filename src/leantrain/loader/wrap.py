"""``wrap``, the way in."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from leantrain.core.run import Goal
from leantrain.core.selector import Selector
from leantrain.loader import dataloader
from leantrain.loader.loader import Loader
from leantrain.loader.unreadable_samples import Unreadable
from leantrain.scoring.loss_recording import Nonfinite
from leantrain.scoring.scorer import Scores
from leantrain.utils import validation


def wrap(
    loader: DataLoader[Any],
    selector: Selector,
    *,
    score: Callable[[Any], Tensor | Scores] | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    targets: Any = None,
    seed: int = 0,
    nonfinite: Nonfinite = "raise",
    unreadable: Unreadable = "raise",
    goal: Goal | None = None,
) -> Loader:
    """Wrap a DataLoader so that it gives only the samples worth training on.

    Args:
        loader: any map-style DataLoader. Its data set, sampler, batch size, workers, ``collate_fn`` and pinning stay.
        selector: the method, for example ``InfoBatch()`` or ``IDS(features=...) | Adonis()``; ``leantrain.wrap`` takes
            its name too, as ``"auto"``.
        score: function of a batch that gives one loss a sample, for methods that need it: ``scorer(model, loss_fn)``.
        epochs: length of the training; needed by methods and schedules that depend on it. With a fraction, the last
            epoch is cut short. Without it, the samples left in an online method's open batch at the very end, fewer
            than a batch, go unused.
        steps: the same for loops that count steps: training batches. Progress and what hangs on it follow them; methods
            that think in epochs are told how many they will come to.
        targets: (N,) labels or names of classes, where methods go class by class. By default those of the data set.
        seed: seed of all random choices of the selector; torch's and numpy's global generators are never touched.
        nonfinite: what to do with a NaN or infinite loss. ``"raise"`` stops with the names of the samples before the
            model is touched; ``"skip"`` gives the batch a zero loss without gradient; ``"keep"`` trains on it as plain
            PyTorch would. It never enters the ledger or a history, and a sample that scores so is not selected. With
            a GradScaler take ``"keep"``: it skips such steps itself, and refuses one that has no gradient.
        unreadable: what to do when the data set raises an exception for a sample. ``"raise"`` stops with the sample's
            name. ``"skip"`` leaves it out of its batch, which then is smaller, warns and counts it in
            ``stats.unreadable``; where more than half of the samples tried cannot be read, it stops all the same.
        goal: what the model is for, where a method changes how often classes come: ``"balanced"``, accuracy that counts
            each class the same, or ``"as-trained"``, over classes as frequent as in training.

    With ``drop_last=True`` in the DataLoader every training batch has the same size, so that a model under
    ``torch.compile`` compiles its training step once; ``ComposerSB`` alone trains on smaller batches too, and a replay
    or ``ClassFloor`` on those that were planned. Scored batches may end with a short one. Leave ``dynamic`` at its
    default: then all sizes but the full one share a second graph, single samples a third.

    With several ranks (``torch.distributed``), call it on each with the whole data set, once the process group is
    there. All follow one plan, each with its part of every batch; ``batch_size`` is that of a rank. A
    ``DistributedSampler`` is not needed, and where there is one it says the order only.

    Raises:
        TypeError, ValueError: the loader cannot be wrapped, or the selector lacks something; the message says what.
    """
    if isinstance(loader, Loader):
        raise TypeError("This loader is wrapped already. Compose the selectors: wrap(loader, left | right).")
    dataloader.check_loader(loader)
    if not isinstance(selector, Selector):
        raise TypeError(f"selector must be a Selector such as InfoBatch(), not {type(selector).__name__}.")
    if score is not None and not callable(score):
        raise TypeError("score must be a function of a batch, for example leantrain.scorer(model, loss_fn).")
    if "score" in selector.needs and score is None:
        raise ValueError(
            f"{type(selector).__name__} judges samples by their losses and needs a scoring function: "
            "wrap(loader, ..., score=leantrain.scorer(model, F.cross_entropy))."
        )
    if epochs is not None and steps is not None:
        raise ValueError(f"epochs={epochs} and steps={steps}: give the length of the training as one of the two.")
    validation.one_of("nonfinite", nonfinite, ["raise", "skip", "keep"])
    validation.one_of("unreadable", unreadable, ["raise", "skip"])
    if goal is not None:
        validation.one_of("goal", goal, ["balanced", "as-trained"])
    options = {"score": score, "epochs": epochs, "steps": steps, "targets": targets, "seed": seed}
    return Loader(loader, selector, **options, nonfinite=nonfinite, unreadable=unreadable, goal=goal)
