"""Beside Fabric, Accelerate and Lightning's Trainer: they neither shard a wrapped loader again nor end it otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from distributed.processes import on_ranks, started_by_torchrun
from leantrain import Full, Loader, wrap
from leantrain.utils.torchvision_compat import import_torchvision
from toys import METHODS, Numbers, flat, losses_at, run_epoch, wrapped

# Accelerate sets it itself, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:OMP_NUM_THREADS/MKL_NUM_THREADS unset")

EPOCHS = 4


def fabric() -> Any:
    started_by_torchrun()
    from lightning_fabric import Fabric

    made = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    made.launch()
    return made


def accelerator() -> Any:
    started_by_torchrun()
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def said(function: Callable[[], Any]) -> str:
    with pytest.raises(TypeError) as caught:
        function()
    return str(caught.value)


@pytest.fixture(autouse=True, scope="module")
def _imported_before_the_ranks_fork() -> None:
    import lightning_fabric  # noqa: F401


def plain() -> DataLoader[Any]:
    return DataLoader(Numbers(41), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sharding", [True, False])
def test_what_fabric_made_of_a_dataloader_is_refused(sharding: bool) -> None:
    def rank() -> str:
        prepared = fabric().setup_dataloaders(plain(), use_distributed_sampler=sharding)
        return said(lambda: wrap(prepared, Full()))

    for found in on_ranks(2, rank):
        assert "given a _FabricDataLoader. Do not pass the DataLoader through fabric.setup_dataloaders()" in found
        assert "move its batches by fabric.to_device(batch)" in found


def test_fabric_refuses_a_wrapped_loader() -> None:
    for found in on_ranks(2, lambda: said(lambda: fabric().setup_dataloaders(wrapped(Full())))):
        assert "Only PyTorch DataLoader" in found


def test_what_accelerate_made_of_a_dataloader_is_refused() -> None:
    pytest.importorskip("accelerate")
    for found in on_ranks(2, lambda: said(lambda: wrap(accelerator().prepare(plain()), Full()))):
        assert "given a DataLoaderShard. Do not prepare the DataLoader: wrap() the plain one" in found


def loss(model: nn.Module, numbers: Tensor) -> Tensor:
    return (model(numbers.float().unsqueeze(1) / 41).squeeze(1) - 1) ** 2


def trained(loader: Loader, model: nn.Module, optimizer: Any, backward: Callable[[Tensor], None]) -> Any:
    given = []
    for _ in range(2):
        for numbers, _ in loader:
            given.append((loader.epoch, numbers.tolist()))
            backward(loader.reduce(loss(model, numbers)))
            optimizer.step()
            optimizer.zero_grad()
    return given, [weight.item() for weight in model.parameters()]


def beginning() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(1, 1)
    for weight in model.parameters():
        nn.init.constant_(weight, 0.25)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def with_fabric() -> Any:
    framework = fabric()
    model, optimizer = framework.setup(*beginning())
    return trained(wrap(plain(), Full(), epochs=2), model, optimizer, framework.backward)


def with_accelerate() -> Any:
    framework = accelerator()
    wrapped_loader = wrap(plain(), Full(), epochs=2)
    model, optimizer, loader = framework.prepare(*beginning(), wrapped_loader)
    assert loader is wrapped_loader
    return trained(loader, model, optimizer, framework.backward)


@pytest.mark.parametrize(("framework", "run"), [("lightning_fabric", with_fabric), ("accelerate", with_accelerate)])
def test_every_sample_once_and_the_gradient_of_one_process(framework: str, run: Callable[[], Any]) -> None:
    pytest.importorskip(framework)
    (first, ours), (second, theirs) = on_ranks(2, run)
    assert ours == theirs
    model, optimizer = beginning()
    for (epoch, left), (_, right) in zip(first, second, strict=True):
        loss(model, torch.tensor(left + right)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert epoch in (0, 1)
    assert ours == pytest.approx([weight.item() for weight in model.parameters()], abs=1e-6)
    for epoch in range(2):
        assert sorted(flat([part for found in (first, second) for e, part in found if e == epoch])) == list(range(41))


@pytest.fixture(scope="module")
def lightning() -> Any:
    import_torchvision()  # pytorch_lightning imports it by way of torchmetrics
    return pytest.importorskip("pytorch_lightning")


def loader_of(method: str, **options: Any) -> Loader:
    order = {} if "sampler" in options else {"shuffle": True, "generator": torch.Generator().manual_seed(3)}
    return wrapped(METHODS[method](), batch_size=4, epochs=EPOCHS, **order, **options)


def module(lightning: Any, make: Callable[[], Loader]) -> Any:
    """As docs/ranks.md says: its loader is made once the ranks are there, told of an epoch's end, and saved."""

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.loader: Any = None
            self.state: Any = None
            self.steps: list[Any] = []
            self.validated: list[int] = []

        def train_dataloader(self) -> Loader:
            if self.loader is None:
                self.loader = make()
                if self.state is not None:
                    self.loader.load_state_dict(self.state)
            return self.loader

        def training_step(self, batch: Any, _: int) -> Tensor:
            epoch, indices = self.loader.epoch, self.loader.indices
            assert batch[0].tolist() == indices.tolist()
            self.steps.append((epoch, indices.tolist()))
            return self.loader.reduce(losses_at(epoch, indices) + 0 * self.weight)

        def on_train_epoch_end(self) -> None:
            self.loader.end_epoch()

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["loader"] = self.loader.state_dict()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.state = checkpoint["loader"]

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(Numbers(2))

        def validation_step(self, *_: Any) -> None:
            self.validated.append(self.current_epoch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def trainer(lightning: Any, epochs: int = EPOCHS, **options: Any) -> Any:
    started_by_torchrun()
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = (
        {"reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 0} | dict.fromkeys(quiet, False) | options
    )
    return lightning.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=epochs, **options)


def told(loader: Loader, steps: list[Any]) -> Any:
    ledger = {name: value.nan_to_num(-7).tolist() for name, value in loader.ledger.state_dict().items()}
    return steps, loader.epoch, ledger, loader.stats.scored


def in_a_for_loop(method: str) -> Any:
    loader = loader_of(method)
    return told(loader, [(epoch, batch) for epoch in range(EPOCHS) for batch in run_epoch(loader)])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # few workers, no logger; its own calls
class TestLightning:
    @pytest.mark.parametrize("method", ["infobatch", "kakurenbo", "adonis"])
    def test_the_trainer_s_epochs_are_those_of_a_for_loop(self, lightning: Any, method: str) -> None:
        def rank() -> Any:
            made = module(lightning, lambda: loader_of(method))
            trainer(lightning).fit(made)
            assert type(made.trainer.train_dataloader) is Loader
            return told(made.loader, made.steps), sorted(set(made.validated))

        found = on_ranks(2, rank)
        assert [facts for facts, _ in found] == on_ranks(2, in_a_for_loop, method)
        if method != "adonis":  # how many batches it gives is known when it gave them
            assert [epochs for _, epochs in found] == [list(range(EPOCHS))] * 2

    def test_validation_by_steps_is_for_methods_whose_length_nobody_knows(self, lightning: Any) -> None:
        def rank() -> Any:
            made = module(lightning, lambda: loader_of("adonis"))
            trainer(lightning, check_val_every_n_epoch=None, val_check_interval=3).fit(made)
            return len(made.steps), len(made.validated)

        for steps, validated in on_ranks(2, rank):
            assert steps > 3
            assert validated == steps // 3  # one of the two samples a rank

    def test_a_distributed_sampler_is_told_the_epoch_and_not_sharded_again(self, lightning: Any) -> None:
        def rank() -> Any:
            def make() -> Loader:
                return loader_of("full", sampler=DistributedSampler(Numbers(), shuffle=True))

            made = module(lightning, make)
            trainer(lightning, epochs=2).fit(made)
            return [flat([batch for e, batch in made.steps if e == epoch]) for epoch in range(2)]

        first, second = on_ranks(2, rank)
        assert first[0] != first[1]
        for epoch in range(2):
            assert sorted(first[epoch] + second[epoch]) == list(range(40))

    @pytest.mark.parametrize("step", [8, 10], ids=["between epochs", "within one"])
    def test_a_checkpoint_of_the_trainer_holds_the_loader(self, lightning: Any, tmp_path: Path, step: int) -> None:
        when: dict[str, Any] = {"save_on_train_epoch_end": True} if step == 8 else {"every_n_train_steps": step}

        def straight() -> Any:
            made = module(lightning, lambda: loader_of("kakurenbo"))
            saved = lightning.callbacks.ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **when)
            trainer(lightning, callbacks=[saved], enable_checkpointing=True).fit(made)
            return told(made.loader, made.steps)

        def resumed() -> Any:
            made = module(lightning, lambda: loader_of("kakurenbo"))
            trainer(lightning).fit(made, ckpt_path=str(tmp_path / f"step={step}.ckpt"))
            return told(made.loader, made.steps)

        for whole, rest in zip(on_ranks(2, straight), on_ranks(2, resumed), strict=True):
            assert (whole[0][:step] + rest[0], *rest[1:]) == whole

    def test_a_loader_made_before_the_ranks_is_refused_on_all(self, lightning: Any) -> None:
        loader = loader_of("full")
        for found in on_ranks(2, lambda: trainer(lightning).fit(module(lightning, lambda: loader))):
            assert "torch.distributed has 2 ranks now and had 1 when wrap() was called" in found
            assert "with Lightning, in train_dataloader()" in found
