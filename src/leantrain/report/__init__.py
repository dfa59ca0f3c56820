"""Figures and the one-file HTML report of a ``leantrain compare`` results folder.

Needs the extra ``report`` (matplotlib, jinja2, pyarrow, pillow, pydantic); ``import leantrain`` never loads it.
"""

try:
    from leantrain.compare.results import Results
    from leantrain.report.figures.plots import figures, save_figures
    from leantrain.report.page import write
    from leantrain.report.results import load
except ModuleNotFoundError as error:
    if (error.name or "").startswith("leantrain"):
        raise
    raise ModuleNotFoundError(
        f"leantrain.report needs {error.name}, which is not installed. Run: pip install 'leantrain[report]'",
        name=error.name,
    ) from error

__all__ = ["Results", "figures", "load", "save_figures", "write"]
