"""``estimate``: what each method would cost in the user's own training, before any of them is tried.

N = size of the data set, B = samples of a batch, m = samples of the short training.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from leantrain.core import dataset_info
from leantrain.core.run import Goal
from leantrain.core.selector import Selector
from leantrain.estimation.dry_run import Stage
from leantrain.estimation.forecast import Estimate, forecast
from leantrain.estimation.rehearsal import Stopwatch, Training, rehearse, shuffled, sizes
from leantrain.loader import dataloader
from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap
from leantrain.methods.full import Full
from leantrain.scoring.scorer import per_sample_loss, read_pair, scorer
from leantrain.utils import nested_batch, validation

TRAINING, CHOOSING = 0.55, 0.3  # shares of the seconds: of the short training, of all dry runs
BATCH = 4e-4  # seconds that a batch of a dry run takes, about
Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


def estimate(
    loader: DataLoader[Any],
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    selectors: Mapping[str, Selector],
    *,
    epochs: float,
    forward: Forward | None = None,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    targets: Any = None,
    seed: int = 0,
    seconds: float = 60.0,
    goal: Goal | None = None,
) -> Estimate:
    """Predict how much faster each method would make a training on this machine, and what would bind it.

    A copy of the model is trained for a while on some of the samples. That gives the costs of a sample and losses as
    they are at each share of the training. Each selector then goes through a whole training without a model: it plans
    and decides on those losses, and what it would load, score and train is counted. Counts that follow from the
    settings (a fixed share) are exact; those that hang on losses assume that the losses fall as in full training on
    those samples.

    Nothing of the caller's changes: not the model, its gradients, flags and buffers, nor the generators of torch,
    numpy, ``random`` and the DataLoader. A data set that keeps state of its own, and hooks of the model, do run.
    A callable for features, gradients, events, scores or holdout losses is not called: an embedding, gradient or
    scoring pass is taken to cost a forward pass a sample, probes what they train.

    Args:
        loader: the training DataLoader. A sampler of its own is taken for one that yields each sample once.
        model: as it is before the training. Twice its memory is needed for a while.
        loss_fn: as for ``scorer``: gives one loss a sample.
        selectors: the methods by name, for example ``{"infobatch": InfoBatch()}``.
        epochs: length of the training.
        forward: how a batch becomes (outputs, targets), as for ``scorer``.
        optimizer: function of parameters that makes one; by default SGD with a learning rate of 0.01 and momentum 0.9.
        targets: (N,) class labels, as for ``wrap``.
        seed: of all draws.
        seconds: how long it may take, about.
        goal: as for ``wrap``.

    Raises:
        TypeError, ValueError: what ``wrap`` would refuse, with the method's name.
        FloatingPointError: the short training diverged.
    """
    dataloader.check_loader(loader)
    check_selectors(selectors)
    forward, make_optimizer, per_sample = forward or read_pair, optimizer or _sgd, per_sample_loss(loss_fn)

    def training(rows: Tensor, passes: int) -> Iterator[tuple[Loader, Stopwatch]]:
        """Full training of a copy of the model on the samples ``rows`` (m,)."""
        trained = copy.deepcopy(model)
        if not trained.training:
            trained.train()
        trained.zero_grad()
        parameters = list(trained.parameters())
        device = parameters[0].device if parameters else torch.device("cpu")
        steps = make_optimizer([value for value in parameters if value.requires_grad])
        short = wrap(shuffled(loader, rows, seed), Full(), seed=seed)
        timed = Stopwatch(scorer(trained, loss_fn, forward=forward), device)
        for _ in range(passes):
            for batch in short:
                timed("start", batch, len(short.indices))
                outputs, labels = forward(trained, nested_batch.to(batch, device))
                loss = short.reduce(per_sample(outputs, labels), outputs, labels)
                timed("forward")
                loss.backward()
                timed("backward")
                steps.step()
                steps.zero_grad()
                timed("optimizer")
            yield short, timed

    return predict(training, loader, selectors, epochs, targets, seed, seconds, goal)


def predict(
    training: Training, loader: DataLoader[Any], selectors: Mapping[str, Selector], epochs: float, targets: Any,
    seed: int, seconds: float, goal: Goal | None = None,
) -> Estimate:  # fmt: skip
    """Rehearse ``training``, put full training and ``selectors`` through dry runs and price what they would do.

    The other arguments, and the errors, as for ``estimate``.
    """
    epochs, seconds = validation.positive("epochs", epochs), validation.positive("seconds", seconds)
    size, batch_size = sizes(loader)
    labels = dataset_info.labels(loader.dataset, targets, size)
    costs, rehearsal = rehearse(training, loader, epochs, seed, seconds * TRAINING)
    passes, samples = rehearsal.losses.shape
    stage = Stage(
        size=size,
        batch_size=batch_size,
        drop_last=bool(getattr(loader.batch_sampler, "drop_last", False)),
        epochs=epochs,
        targets=labels,
        seed=seed,
        rehearsal=rehearsal,
        costs=costs,
        most=int(seconds * CHOOSING / BATCH / (len(selectors) + 1)),
        goal=goal,
        dataset=loader.dataset,
    )
    runs = []
    for name, selector in {"full": Full(), **selectors}.items():
        try:
            runs.append((name, stage.run(selector)))
        except (TypeError, ValueError) as error:
            error.add_note(f"Method {name}.")
            raise
    return Estimate(
        forecasts=forecast(runs, costs, size, epochs),
        costs=costs,
        size=size,
        batch_size=batch_size,
        epochs=epochs,
        rehearsed=(samples, passes),
        simulated=stage.simulated,
    )


def check_selectors(selectors: Any) -> None:
    """TypeError, ValueError unless ``selectors`` are some, by name."""
    if not isinstance(selectors, Mapping):
        raise TypeError(
            f'selectors must be a dict of methods by name, such as {{"infobatch": InfoBatch()}}, not '
            f"{type(selectors).__name__}."
        )
    if not selectors:
        raise ValueError('selectors is empty: name at least one method, such as {"infobatch": InfoBatch()}.')
    for name, selector in selectors.items():
        if not isinstance(selector, Selector):
            raise TypeError(
                f"selectors[{name!r}] must be a Selector such as InfoBatch(), not {type(selector).__name__}."
            )


def _sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
