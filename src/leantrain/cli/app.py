"""The command line: ``leantrain compare``, ``estimate``, ``inspect``, ``train``, ``demo`` and ``report``."""

import contextlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.markup import escape

    from leantrain.cli import commands, errors
    from leantrain.cli.commands import console
    from leantrain.cli.options import checked, configured, home, split
    from leantrain.compare.config import CompareConfig
    from leantrain.train.config import TrainConfig
    from leantrain.train.fabric import under_torchrun
    from leantrain.utils import validation
except ModuleNotFoundError as error:  # the library alone does not need them
    raise SystemExit(f'leantrain\'s command line needs {error.name}: pip install "leantrain[cli]"') from error

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
TRACEBACK = "--traceback"


def _show_version(asked: bool) -> None:
    if asked:
        print("leantrain", version("leantrain"))
        raise typer.Exit


@app.callback(help="Train faster by choosing which samples are used, always beside an equal-time control.")
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show which it is")
    ] = False,
    traceback: Annotated[bool, typer.Option(TRACEBACK, help="show where an error came from")] = False,
) -> None:
    """What all commands take. ``main`` looks for --traceback itself: an error ends Typer before it can say so."""


@app.command()
@configured(CompareConfig)
def compare(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option(callback=home, help="folder for results.json, report.html and the tables")],
    preset: Annotated[str | None, typer.Option(help="an experiment by name; a wrong one lists all")] = None,
    scale: Annotated[str | None, typer.Option(help="of the preset: here, for two CPU cores, or a share")] = None,
    only: Annotated[str | None, typer.Option(help="comparisons of the preset, between commas; by default all")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted comparison")] = False,
) -> None:
    """Train with every method, and beside each with full training cut to the same time. Says whether it paid."""
    _check_alone()
    if preset is not None:
        commands.study(preset, given, out, only=split(only) if only else None, scale=scale, resume=resume)
    elif only is not None or scale is not None:
        raise ValueError("--only and --scale change what a --preset runs; name one.")
    else:
        commands.compare(checked(CompareConfig, given, CompareConfig), out, resume=resume)


@app.command()
@configured(CompareConfig, [*TrainConfig.model_fields, "methods"])
def estimate(
    given: dict[str, Any],
    seconds: Annotated[float, typer.Option(help="how long it may take, about")] = 60.0,
) -> None:
    """Predict the boosts that `compare` would find, in a minute. For a loop of your own: leantrain.estimate(...)."""
    from leantrain.compare.estimate import estimate as predict

    _check_alone()
    config = checked(CompareConfig, given, CompareConfig)
    images = commands.read_data(config)
    with console.status(f"Trying {escape(config.model)} for about {seconds:g} s ..."):
        found = predict(config, images, seconds)
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)


@app.command()
@configured(CompareConfig, TrainConfig.model_fields)
def inspect(
    given: dict[str, Any],
    seconds: Annotated[float, typer.Option(help="how long the model is tried for what binds it; 0: not at all")] = 10.0,
    check_labels: Annotated[
        bool, typer.Option("--check-labels", help="train for --epochs, to tell how many labels are wrong")
    ] = False,
) -> None:
    """Look at a data set, and say which method is expected to pay. For a loop of your own: leantrain.inspect(...)."""
    _check_alone()
    commands.inspect(checked(CompareConfig, given, CompareConfig), seconds, check_labels)


@app.command()
@configured(TrainConfig)
def train(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option(callback=home, help="folder for run.json and model.safetensors")],
    method: Annotated[str, typer.Option(help="one method; + composes: ids+adonis")] = "full",
    seed: Annotated[int, typer.Option(help="of all that is drawn (>=0)")] = 0,
    record: Annotated[
        Path | None, typer.Option(callback=home, help="folder for a recording of what is selected; see replay")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted training")] = False,
) -> None:
    """Train one model with one method; on several GPUs or machines: torchrun ... -m leantrain train ..."""
    from leantrain.utils.atomic_write import occupied

    config = checked(TrainConfig, given, TrainConfig)
    first = not under_torchrun() or os.environ["RANK"] == "0"
    console.quiet = not first
    with occupied(out) if first else contextlib.nullcontext():
        commands.train(config, method, validation.integer("seed", seed, least=0), out, record, resume, first)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(callback=home, help="folder for the results; an earlier demo there is replaced")
    ] = Path("runs/demo"),
) -> None:
    """Compare nine methods on scikit-learn's digits with two seeds: the two-minute tour."""
    import torch

    from leantrain.compare import presets

    torch.set_num_threads(1)  # the model is so small that more wait for each other longer than they work
    commands.compare(CompareConfig(**presets.load("demo").base), out, overwrite=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(callback=home, help="what `compare` was given as --out")],
    data: Annotated[str | None, typer.Option(help="the data set again, as for `compare`, for pictures of it")] = None,
    show_class: Annotated[str | None, typer.Option(help="of which pictures are shown")] = None,
) -> None:
    """Draw report.html again from the results in FOLDER."""
    commands.report(folder, data, show_class)


def main() -> None:
    """Entry point: bad input is one line and exit code 2, an interrupt 130, a failed run 1, a bug a traceback and 1."""
    words = sys.argv[1:]
    try:
        app([word for word in words if word != TRACEBACK], standalone_mode=False)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(errors.say("Interrupted. Finished runs are kept; --resume goes on from there.", 130))
    except SystemExit as stop:
        kept = "Terminated. The running training is kept; --resume goes on from there."
        sys.exit(errors.say(kept, 143) if stop.code == 143 else stop.code)
    except Exception as error:
        sys.exit(errors.end(error, traced=TRACEBACK in words))


def _check_alone() -> None:
    if under_torchrun():
        raise ValueError(
            "compare, estimate and inspect run in one process. On several ranks, train: torchrun ... -m leantrain "
            "train ..."
        )
