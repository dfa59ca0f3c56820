"""What each method of a comparison will cost, from about a minute on this machine. B = samples of a batch."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Subset

from leantrain.compare.config import CompareConfig
from leantrain.core.inputs import Input
from leantrain.core.selector import Selector
from leantrain.data import ImageData, conditions
from leantrain.estimation.dry_run import Priced
from leantrain.estimation.forecast import Estimate
from leantrain.estimation.measure import predict
from leantrain.estimation.rehearsal import Stopwatch, synchronized_time
from leantrain.loader.loader import Loader
from leantrain.methods.full import Full
from leantrain.train.method_inputs import Made, build, check
from leantrain.train.session import Session

SAMPLES = 64  # of a pass that is timed


def estimate(config: CompareConfig, data: ImageData, seconds: float = 60.0) -> Estimate:
    """Predict the boosts that ``compare`` would find, with its first seed; see ``leantrain.estimate``.

    Here the short training is that of ``compare``, with its optimizer and augmentation and its schedule compressed.

    Raises:
        ValueError: a setting, as ``compare`` would refuse it.
        FloatingPointError: the short training diverged.
    """
    data = conditions.under(data, config.condition, config.condition_seed)
    chosen = [method for method in config.methods if method != "full"]
    check(config, chosen, data)
    seed = config.seeds[0]

    def training(rows: Tensor, epochs: int) -> Iterator[tuple[Loader, Stopwatch]]:
        """Full training of a fresh model on the samples ``rows`` (m,)."""
        short = Session(config, data, seed, rows)
        timed = Stopwatch(short.score, short.fabric.device)
        for _ in short.fit(Full(), epochs, timed=timed):
            yield short.loader, timed

    session = Session(config, data, seed)
    selectors = {method: _selector(session, method) for method in chosen}
    return predict(training, session.batches, selectors, config.epochs, data.targets, seed, seconds, config.goal)


def _selector(session: Session, method: str) -> Selector:
    """As the trainer makes it, but that nothing it is given runs a model."""

    def priced(wanted: Input, made: Made) -> Priced:
        price = None if made.trial is None else _price(session, made.trial)
        return Priced(made.width, made.classes, made.samples, price=price, epochs=made.epochs)

    return build(session.config, method, session, priced)


def _price(session: Session, trial: Callable[[DataLoader[Any]], Any]) -> float:
    """Seconds a sample of a pass that is not a forward pass of the model."""
    rows = min(SAMPLES, len(session.targets))
    few = DataLoader(Subset(session.data.train, range(rows)), batch_size=min(rows, session.config.batch_size))
    trial(few)  # once that does not count
    start = synchronized_time(session.fabric.device)
    trial(few)
    return (synchronized_time(session.fabric.device) - start) / rows
