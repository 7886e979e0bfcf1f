"""One figure style, and the few plots that several chapters share.

Every plot draws on axes that it is given, so that a chapter decides on titles, labels
and what stands beside what.
"""

import io

import numpy as np
import seaborn as sns
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Rectangle

from ttlib.checkpoints import written_atomically
from ttlib.paths import ROOT

PALETTE = sns.color_palette("colorblind")
LARGEST_FIGURE = 150_000  # bytes; figures are kept in git


def use_style():
    """Set sizes, colours and lines for all figures that follow; call it once at the top of a chapter."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=PALETTE,
        rc={
            "figure.figsize": (7, 4),
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "image.cmap": "viridis",
        },
    )


def figure_file(chapter, preset, name, suffix=".png"):
    """Where a figure of a chapter lies: `figures/<preset>/<chapter>-<name><suffix>`."""
    return ROOT / "figures" / preset / f"{chapter}-{name}{suffix}"


def save(fig, chapter, preset, name):
    """Write a figure as PNG, at a resolution that keeps it under 150 kB; the same figure gives the same bytes.

    Returns:
        The file's path.

    Raises:
        OSError: it could not be written; an older file of that name is untouched.
    """
    for dpi in (110, 90, 70, 50, 30):
        picture = io.BytesIO()
        fig.savefig(picture, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
        if picture.tell() <= LARGEST_FIGURE:
            break
    path = figure_file(chapter, preset, name)
    with written_atomically(path) as temporary:
        temporary.write_bytes(picture.getvalue())
    return path


def loss_curve(ax, history, label=None, smooth=1, color=None):
    """Training loss against tokens seen.

    Args:
        history: list of dicts with `tokens` and `loss`, as `ttlib.training.train` returns it.
        smooth: how many entries a running mean covers; the raw values stay visible, pale.
    """
    tokens = np.array([entry["tokens"] for entry in history]) / 1e6
    loss = np.array([entry["loss"] for entry in history])
    (line,) = ax.plot(tokens, running_mean(loss, smooth), label=label, color=color)
    if smooth > 1:
        ax.plot(tokens, loss, color=line.get_color(), alpha=0.25, linewidth=0.8, zorder=1)
    ax.set(xlabel="tokens seen (millions)", ylabel="loss (nats per token)")


def running_mean(values, width):
    """Mean of the last `width` values up to each position (fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - width, 0)
    return (sums[stop] - sums[start]) / (stop - start)


def path(ax, points, goal=None, color=PALETTE[0], start=True, linewidth=2.0):
    """A path in the plane whose colour saturates with time (figure 6 of the paper).

    Args:
        points: (T, 2) positions.
        goal: (2,) where it should end, drawn as a star.
        start: whether to mark the first position with a circle.
    """
    points = np.asarray(points, dtype=float)
    fading = LinearSegmentedColormap.from_list("fading", [mix(color, "white", 0.85), color, mix(color, "black", 0.25)])
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    lines = LineCollection(pieces, cmap=fading, linewidths=linewidth, capstyle="round", zorder=2)
    lines.set_array(np.linspace(0, 1, len(pieces)))
    ax.add_collection(lines)
    if start:
        ax.plot(*points[0], "o", markersize=6, markerfacecolor="white", markeredgecolor=color, zorder=3)
    if goal is not None:
        ax.plot(*goal, "*", markersize=13, color=color, markeredgecolor="0.1", markeredgewidth=0.8, zorder=4)
    ax.autoscale_view()


def rooms(ax, rooms):
    """The walls of a map (`ttlib.envs.rooms.Rooms`), in its own proportions."""
    _walls(ax, rooms.boxes, (0, 0), rooms.size)


def maze(ax, maze):
    """The walls of a maze (`ttlib.envs.mazes.Maze`), in its own proportions."""
    _walls(ax, maze.boxes, maze.boxes[:, :2].min(axis=0), maze.boxes[:, 2:].max(axis=0))


def _walls(ax, boxes, low, high):
    """Filled boxes (left, bottom, right, top) in a frame from `low` to `high`, (x, y) each."""
    for left, bottom, right, top in boxes:
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, color="0.35", linewidth=0, zorder=1))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.spines[["top", "right"]].set_visible(True)


def bars(ax, names, means, errors=None, reference=None, reference_name=""):
    """Bars with standard errors, and a dashed line for what they are compared with.

    Args:
        names, means, errors: one entry a bar; errors are standard errors of the means.
        reference: a value that all bars are held against.
    """
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    ax.bar(range(len(names)), means, yerr=errors, color=colors, width=0.65, capsize=4, ecolor="0.3")
    ax.set_xticks(range(len(names)), names)
    if reference is not None:
        ax.axhline(reference, color="0.3", linestyle="--", linewidth=1.2)
        ax.text(1, reference, reference_name, transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=10)


def mix(color, other, share):
    """`color` with a share in [0, 1] of `other`, as an RGB tuple."""
    return tuple((1 - share) * np.array(to_rgb(color)) + share * np.array(to_rgb(other)))
