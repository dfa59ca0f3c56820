"""Put names beside points without overlaps. All positions in display pixels. K points."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

RADII = (5.0, 10.0, 17.0, 26.0, 37.0, 50.0, 66.0)  # of the gap between point and name, in pixels at 100 dpi
ANGLES = tuple(math.radians(degrees) for degrees in (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240))


def place_labels(
    axes: Axes, points_K2: np.ndarray, texts: list[str], colours: list[str], lines: list[np.ndarray], **font: Any
) -> None:
    """Write ``texts[k]`` near ``points_K2[k]`` (data units), clear of each other, of the points and of `lines`.

    `lines` are broken lines in data units, each (P, 2). Greedy, the most crowded point first, then two rounds
    of second thoughts. A name pushed away from its point gets a thin line to it. Call it last: limits and layout
    must be final.
    """
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)  # type: ignore[arg-type]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    renderer = canvas.get_renderer()
    dots = axes.transData.transform(points_K2)
    track = np.concatenate([_densify(axes.transData.transform(line)) for line in lines])
    frame = np.array(axes.get_window_extent(renderer).padded(-5).extents)
    sizes = []
    for text in texts:
        probe = axes.text(0, 0, text, **font)
        box = probe.get_window_extent(renderer)
        sizes.append((box.width, box.height))
        probe.remove()
    gaps = np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(dots))
    crowded = np.argsort(gaps.min(axis=1), kind="stable") if len(dots) > 1 else np.arange(len(dots))
    placed: dict[int, tuple[float, np.ndarray]] = {}
    for _ in range(3):
        for k in crowded:
            others = [box for j, (_, box) in placed.items() if j != k]
            placed[int(k)] = _best(dots, int(k), sizes[k], others, track, frame)
    scale = 72 / figure.dpi
    for k, (radius, box) in placed.items():
        centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        arrow = {"arrowstyle": "-", "color": colours[k], "lw": 0.7, "shrinkA": 1, "shrinkB": 4}
        axes.annotate(
            texts[k],
            xy=tuple(points_K2[k]),
            xytext=tuple((centre - dots[k]) * scale),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=arrow if radius > RADII[1] else None,
            zorder=6,
            **font,
        )


def _best(
    dots: np.ndarray, k: int, size: tuple[float, float], others: list[np.ndarray], track: np.ndarray, frame: np.ndarray
) -> tuple[float, np.ndarray]:
    """The cheapest place for name `k`: (radius, box as x0, y0, x1, y1)."""
    width, height = size
    best, price = (RADII[0], np.zeros(4)), math.inf
    for radius in RADII:
        for rank, angle in enumerate(ANGLES):
            x = dots[k, 0] + math.cos(angle) * (radius + 6 + width / 2)
            y = dots[k, 1] + math.sin(angle) * (radius + 6 + height / 2)
            box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            outside = np.maximum(frame[:2] - box[:2], 0).sum() + np.maximum(box[2:] - frame[2:], 0).sum()
            cost = radius + 0.2 * rank + 40 * outside
            cost += 4 * sum(_overlap(box, other, 2) for other in others)
            cost += 60 * _inside(box, np.delete(dots, k, axis=0), 5) + 6 * _inside(box, track, 2)
            if cost < price:
                best, price = (radius, box), cost
    return best


def _overlap(a: np.ndarray, b: np.ndarray, margin: float) -> float:
    """Shared area of two boxes, each name kept `margin` pixels apart."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + margin
    height = min(a[3], b[3]) - max(a[1], b[1]) + margin
    return max(width, 0.0) * max(height, 0.0)


def _inside(box: np.ndarray, dots: np.ndarray, margin: float) -> int:
    """How many dots lie in the box, grown by `margin`."""
    return int(np.all((dots > box[:2] - margin) & (dots < box[2:] + margin), axis=1).sum()) if len(dots) else 0


def _densify(corners: np.ndarray, step: float = 6.0) -> np.ndarray:
    """Points every `step` pixels along a broken line, so that crossing a name is noticed."""
    pieces = [corners]
    for start, end in pairwise(corners):
        count = max(2, int(np.hypot(*(end - start)) / step))
        pieces.append(start + (end - start) * np.linspace(0, 1, min(count, 500))[:, None])
    return np.concatenate(pieces) if len(corners) else corners.reshape(0, 2)
