"""Pictures of multi-room maps: rooms, walls, doors as symbols, and the way of an agent (figure 7 of the paper)."""

import numpy as np
from matplotlib.patches import Rectangle

from ttlib import plots
from ttlib.envs.minigrid_maps import AHEAD, DOOR, WALL, reachable


def draw_map(ax, maps, number, opened=None):
    """Draw map `number`, cropped to its rooms: pale floor, dark walls, a filled square for a closed door and a frame
    for an open one.

    Args:
        opened: (D,) which doors are open; none if left out.
    """
    cells, floor = maps.cells[number], reachable(maps[number : number + 1])[0]
    opened = np.zeros(maps.doors, dtype=bool) if opened is None else opened
    ax.add_patch(Rectangle((-0.5, -0.5), *cells.shape, color="0.93", linewidth=0, zorder=0))
    for x, y in np.argwhere(floor | (cells == WALL)):
        color = "0.35" if cells[x, y] == WALL else "white"
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor="0.85", linewidth=0.4, zorder=1))
        if cells[x, y] >= DOOR:
            is_open, color = opened[cells[x, y] - DOOR], plots.PALETTE[1]
            face = "white" if is_open else color
            ax.add_patch(
                Rectangle((x - 0.4, y - 0.4), 0.8, 0.8, facecolor=face, edgecolor=color, linewidth=2, zorder=2)
            )
            if not is_open:
                ax.plot(x + 0.2, y, "o", color="white", markersize=2.5, zorder=3)
    used = np.argwhere(cells != 0)
    low, high = used.min(axis=0) - 1, used.max(axis=0) + 1
    middle, half = (low + high) / 2, (high - low).max() / 2 + 0.5
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] + half, middle[1] - half), aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def draw_visit(ax, maps, visits, number, color=plots.PALETTE[0]):
    """Draw map `number` as `visits` left it, and the way taken: it darkens with time, an arrowhead shows where the
    agent looked at first, a star is the goal."""
    length = visits.lengths[number]
    poses = visits.poses[: length + 1, number]
    draw_map(ax, maps, number, visits.opened[length, number])
    limits = ax.get_xlim(), ax.get_ylim()
    points = poses[:, :2] + 0.12 * np.sin(np.arange(len(poses)))[:, None] * (1 - np.abs(AHEAD[poses[:, 2]]))
    plots.path(ax, np.concatenate([points, points[-1:]]), maps.goals[number], color=color, start=False)
    marker = (3, 0, -90 - 90 * poses[0, 2])
    ax.plot(
        *poses[0, :2], marker=marker, markersize=11, color="white", markeredgecolor=color, markeredgewidth=1.6, zorder=3
    )
    ax.set(xlim=limits[0], ylim=limits[1])
