"""torch.compile: scoring and training compile once each where batches keep their size."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from leantrain import GradMatchPB, InfoBatch, RandomPB, Selector, scorer, wrap
from leantrain.embed import embed, gradients, grand_scores, penultimate
from toys import CLASSES, EACH_WAY, METHODS, SIZE, Numbers, made_gradients, run_epoch, wrapped

LABELS = Numbers().targets
BATCH, EPOCHS = 7, 5  # 40 = 5 * 7 + 5


class Compiled:
    """A model under torch.compile; counts the graphs compiled with gradient (training) and without (scoring)."""

    def __init__(self, model: nn.Module) -> None:
        torch._dynamo.reset()  # the code of a module's forward is shared by all its instances
        self.graphs: Counter[str] = Counter()
        self.model = torch.compile(model, backend=self._note)

    def _note(self, graph: Any, inputs: Any) -> Any:
        self.graphs["training" if torch.is_grad_enabled() else "scoring"] += 1
        return graph


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, CLASSES))


def task() -> TensorDataset:
    dataset = TensorDataset(torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(2)), torch.tensor(LABELS))
    dataset.targets = LABELS
    return dataset


def train(selector: Selector, **options: Any) -> tuple[list[Counter[str]], set[int]]:
    """Graphs compiled up to the end of each epoch, and the sizes of the training batches."""
    compiled = Compiled(network())
    optimizer = torch.optim.SGD(compiled.model.parameters(), lr=0.1)
    loader = wrap(
        DataLoader(task(), batch_size=BATCH, shuffle=True, **options),
        selector,
        score=scorer(compiled.model, F.cross_entropy),
        epochs=EPOCHS,
        goal="balanced",
    )
    assert loader.lr_factor == 1
    found, sizes = [], set()
    for _ in range(EPOCHS):
        for x, y in loader:
            sizes.add(len(x))
            logits = compiled.model(x)
            loader.reduce(F.cross_entropy(logits, y, reduction="none"), logits, y).backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append(compiled.graphs.copy())
    return found, sizes


@pytest.mark.parametrize("method", EACH_WAY)
def test_batches_of_one_size_compile_once(method: str) -> None:
    """Scoring: once for whole batches, once for all others, which are any size, and once for single samples."""
    graphs, sizes = train(METHODS[method](), drop_last=True)
    own = method == "composer-sb"  # trains on what it kept of a batch at once: it saves time by smaller batches
    assert [found["training"] for found in graphs] == [1 + own] * EPOCHS
    assert graphs[-1]["scoring"] <= 3
    assert own or sizes == {BATCH}


def test_a_short_last_batch_compiles_once_more() -> None:
    assert train(InfoBatch(prune_ratio=0))[0][-1] == {"training": 2}


@pytest.mark.parametrize("kind", ["features", "gradients", "grand"])
def test_passes_that_look_into_a_model_see_through_its_compilation(kind: str) -> None:
    """Again and again, beside scoring: a graph that was compiled without their hook, or with an old one, is no use."""
    compiled, loader = Compiled(model := network()), DataLoader(task(), batch_size=BATCH)
    score, batch = scorer(compiled.model, F.cross_entropy), next(iter(loader))

    def look(model: nn.Module) -> Tensor:
        if kind == "features":
            return embed(loader, penultimate(model)).values
        if kind == "grand":
            return grand_scores(model, loader)
        made = gradients(model, loader)()
        return torch.cat([made.delta, made.features], dim=1)

    for _ in range(3):
        torch.testing.assert_close(look(compiled.model), look(model))
        score(batch)
        model[0].weight.data *= 1.5
    assert compiled.graphs["scoring"] == 1


@pytest.mark.parametrize("selector", [RandomPB(keep_ratio=1.0), GradMatchPB(gradients=made_gradients(), keep_ratio=1)])
@pytest.mark.parametrize(("drop_last", "expected"), [(False, [5, 7, 7, 7, 7, 7]), (True, [7, 7, 7, 7, 7])])
def test_planned_batches_follow_drop_last(selector: Selector, drop_last: bool, expected: list[int]) -> None:
    loader = wrapped(selector, batch_size=BATCH, drop_last=drop_last)
    given = run_epoch(loader)
    assert sorted(map(len, given)) == expected
    assert len({i for batch in given for i in batch}) == sum(expected)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_data_set_smaller_than_a_batch_is_one_planned_batch(drop_last: bool) -> None:
    loader = wrapped(RandomPB(keep_ratio=1.0), batch_size=64, drop_last=drop_last)
    assert [sorted(indices) for indices in run_epoch(loader)] == [list(range(SIZE))]
