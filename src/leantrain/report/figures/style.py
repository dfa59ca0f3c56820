"""Colours, markers and lines of the methods: told apart without colour, by colour-blind readers, and in print."""

from dataclasses import dataclass
from typing import Any

from leantrain.report.results import FULL

# Okabe and Ito's palette without its yellow, which is unreadable on white, and two of Tol's muted colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "X", "*", "h", "p", "d", "8", "H")
SIZES = {"*": 1.6, "d": 1.25, "h": 1.2, "P": 1.2, "X": 1.2, "p": 1.2}  # shapes that look smaller than they are
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
CONTROL = "#8a8a8a"
INK, FAINT = "#222222", "#dddddd"
# Used with matplotlib.rc_context: holds for our figures only, whatever the user's matplotlibrc says.
RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.autolayout": False,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "savefig.bbox": None,
    "savefig.facecolor": "auto",
    "svg.fonttype": "path",
    "svg.image_inline": True,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a method's name is a "$"
    "text.usetex": False,
    "xtick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.color": "#555555",
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Look:
    """How one method is drawn in every figure."""

    colour: str
    marker: str
    dash: Any
    label: str

    def line(self, size: float = 6.5) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``; `size` in points, evened out between shapes."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "markersize": size * SIZES.get(self.marker, 1.0),
            "markeredgecolor": "white",
            "markeredgewidth": 0.7,
        }


def looks(methods: tuple[str, ...]) -> dict[str, Look]:
    """A look per method, by its place in `methods`; ``full`` is always a black solid line."""
    found: dict[str, Look] = {}
    others = [method for method in methods if method != FULL]
    for place, method in enumerate(others):
        found[method] = Look(
            COLOURS[place % len(COLOURS)],
            MARKERS[place % len(MARKERS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
            _label(method),
        )
    found[FULL] = Look("#000000", "o", "-", FULL)
    return found


def _label(name: str, longest: int = 26) -> str:
    """`name` on one line, cut to `longest`. matplotlib hides labels that begin with an underscore: not ours."""
    line = "".join(letter if letter.isprintable() else "?" for letter in name)
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return f" {line}" if line.startswith("_") else line
