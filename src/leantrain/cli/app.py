"""The command line: ``leantrain compare``, ``estimate``, ``train``, ``demo`` and ``report``."""

import contextlib
import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.markup import escape

    from leantrain.cli import commands
    from leantrain.cli.commands import console
    from leantrain.cli.options import (
        BatchSize,
        ChannelsLast,
        Compile,
        Condition,
        ConfigFile,
        Data,
        Decay,
        Device,
        Epochs,
        Floor,
        Limit,
        Methods,
        Model,
        Optimizer,
        Precision,
        Rate,
        Schedule,
        Settings,
        Threads,
        Width,
        Workers,
        configure,
        given,
        split,
    )
except ModuleNotFoundError as error:  # the library alone does not need them
    raise SystemExit(f'leantrain\'s command line needs {error.name}: pip install "leantrain[cli]"') from error

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # full or failing: no fault of the input


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="folder for results.json, report.html and the tables")],
    data: Data = None,
    limit: Limit = None,
    condition: Condition = None,
    model: Model = None,
    width: Width = None,
    methods: Methods = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    weight_decay: Decay = None,
    schedule: Schedule = None,
    seeds: Annotated[str | None, typer.Option(help="comma-separated: 0,1,2 [default: 0]")] = None,
    controls: Annotated[str | None, typer.Option(help="cut to the method's time, work or both [default: time]")] = None,
    control: Annotated[str | None, typer.Option(help="run: one a method; line: read off a few [default: run]")] = None,
    device: Device = None,
    precision: Precision = None,
    channels_last: ChannelsLast = None,
    compile: Compile = None,
    workers: Workers = None,
    threads: Threads = None,
    class_floor: Floor = None,
    set_: Settings = None,
    config: ConfigFile = None,
    preset: Annotated[str | None, typer.Option(help="an experiment by name; a wrong one lists all")] = None,
    scale: Annotated[str | None, typer.Option(help="of the preset: here, for two CPU cores, or a share")] = None,
    only: Annotated[str | None, typer.Option(help="comma-separated comparisons of the preset [default: all]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted comparison")] = False,
) -> None:
    """Train with every method, and beside each with full training cut to the same time. Says whether it paid."""
    flags = _flags(locals(), "out", "config", "preset", "only", "scale", "resume", "set_", "threads")
    from leantrain.compare import CompareConfig

    _check_alone()
    _use(threads)
    if preset is not None:
        commands.study(
            preset, given(flags, set_, config), out, only=split(only) if only else None, scale=scale, resume=resume
        )
    elif only is not None or scale is not None:
        raise ValueError("--only and --scale change what a --preset runs; name one.")
    else:
        commands.compare(configure(CompareConfig, flags, set_, config), out, resume=resume)


@app.command()
def estimate(
    data: Data = None,
    limit: Limit = None,
    condition: Condition = None,
    model: Model = None,
    width: Width = None,
    methods: Methods = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    weight_decay: Decay = None,
    schedule: Schedule = None,
    device: Device = None,
    precision: Precision = None,
    channels_last: ChannelsLast = None,
    compile: Compile = None,
    workers: Workers = None,
    threads: Threads = None,
    class_floor: Floor = None,
    set_: Settings = None,
    config: ConfigFile = None,
    seconds: Annotated[float, typer.Option(help="how long it may take, about")] = 60.0,
) -> None:
    """Predict the boosts that `compare` would find, in a minute. For a loop of your own: leantrain.estimate(...)."""
    flags = _flags(locals(), "config", "set_", "threads", "seconds")
    from leantrain.cli.tables import forecasts
    from leantrain.compare import CompareConfig
    from leantrain.compare.estimate import estimate as predict

    _check_alone()
    _use(threads)
    settings = configure(CompareConfig, flags, set_, config)
    images = commands.read_data(settings)
    with console.status(f"Trying {escape(settings.model)} for about {seconds:g} s ..."):
        found = predict(settings, images, seconds)
    console.print(forecasts(found))
    for sentence in found.sentences():
        console.print(sentence, markup=False, highlight=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="folder for run.json and model.safetensors")],
    method: Annotated[str, typer.Option(help="one method; + composes: ids+adonis")] = "full",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    record: Annotated[Path | None, typer.Option(help="folder for a recording of what is selected; see replay")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted training")] = False,
    data: Data = None,
    limit: Limit = None,
    condition: Condition = None,
    model: Model = None,
    width: Width = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    weight_decay: Decay = None,
    schedule: Schedule = None,
    device: Device = None,
    precision: Precision = None,
    channels_last: ChannelsLast = None,
    compile: Compile = None,
    workers: Workers = None,
    threads: Threads = None,
    class_floor: Floor = None,
    set_: Settings = None,
    config: ConfigFile = None,
) -> None:
    """Train one model with one method; on several GPUs or machines: torchrun ... -m leantrain train ..."""
    flags = _flags(locals(), "out", "method", "seed", "record", "resume", "set_", "config", "threads")
    from leantrain.train.config import TrainConfig
    from leantrain.train.session import under_torchrun
    from leantrain.utils.atomic_write import occupied

    _use(threads)
    settings = configure(TrainConfig, flags, set_, config)
    first = not under_torchrun() or os.environ["RANK"] == "0"
    console.quiet = not first
    with occupied(out) if first else contextlib.nullcontext():
        commands.train(settings, method, seed, out, record, resume, first)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the results; an earlier demo there is replaced")] = Path(
        "runs/demo"
    ),
) -> None:
    """Compare nine methods on scikit-learn's digits with two seeds: the two-minute tour."""
    from leantrain.compare.demo import DEMO

    _use(1)  # the model is so small that more threads wait for each other longer than they work
    commands.compare(DEMO, out, overwrite=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="what `compare` was given as --out")],
    show_class: Annotated[str | None, typer.Option(help="of which pictures are shown")] = None,
) -> None:
    """Draw report.html again from the results in FOLDER, with pictures where the data is at hand."""
    from leantrain.report import write
    from leantrain.report.results import load

    settings = load(folder).config
    images = None
    try:
        images = commands.pictures(commands.read_data(settings))
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        console.print(f"No pictures: {error}", markup=False, highlight=False)
    console.print(f"Report: {write(folder, images, show_class)}")


def main() -> None:
    """Entry point: bad input is one message and exit code 2, an interrupt 130; a run that failed is one and 1."""
    try:
        app(standalone_mode=False)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_say("Interrupted. Finished runs are kept; --resume goes on from there.", 130))
    except SystemExit as stop:
        kept = "Terminated. The running training is kept; --resume goes on from there."
        sys.exit(_say(kept, 143) if stop.code == 143 else stop.code)
    except FloatingPointError as error:
        sys.exit(_say(_whole(error), 1))
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(_say(_whole(error), 1 if getattr(error, "errno", None) in DISK else 2))
    except Exception as error:
        from leantrain.loader.unreadable_samples import DIED, worker_died

        if worker_died(error):
            said = _whole(error)
            sys.exit(_say(said if DIED in said else f"{said} {DIED}", 1))
        if type(error).__module__.startswith(("click", "typer")):  # a flag it does not know, a missing one
            sys.exit(_say(getattr(error, "format_message", error.__str__)(), 2))
        raise


def _whole(error: Exception) -> str:
    """The message of ``error`` with its notes. Of one that a worker met, without the worker's traceback."""
    text = str(error)
    if re.match(r"Caught \w+ in DataLoader worker process", text):
        text = text.rstrip().splitlines()[-1]
    return " ".join([text.rstrip(), *getattr(error, "__notes__", [])])


def _check_alone() -> None:
    from leantrain.train.session import under_torchrun

    if under_torchrun():
        raise ValueError(
            "compare and estimate run in one process. On several ranks, train: torchrun ... -m leantrain train ..."
        )


def _flags(found: dict[str, Any], *others: str) -> dict[str, Any]:
    """The options of a command that were given, ``others`` left out; those that list things as lists."""
    flags = {name: value for name, value in found.items() if name not in others and value is not None}
    return flags | {name: split(flags[name]) for name in ("methods", "seeds", "controls") if name in flags}


def _use(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _say(message: str, code: int) -> int:
    if not message:  # the help was shown already
        return code
    width = shutil.get_terminal_size().columns
    Console(stderr=True, width=max(width, 80)).print(
        f"[red]leantrain:[/] {escape(message)}", highlight=False, soft_wrap=True
    )
    return code
