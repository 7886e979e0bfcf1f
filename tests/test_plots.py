"""Figures are the same bytes each time, small, and show what they were given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from ttlib import plots
from ttlib.envs.mazes import Maze
from ttlib.envs.rooms import FOUR_ROOMS


@pytest.fixture
def ax():
    plots.use_style()
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "ROOT", tmp_path)
    return tmp_path


def test_a_saved_figure_lies_in_its_presets_folder_and_has_the_same_bytes_again(ax, folder):
    ax.plot([1, 2], [3, 4])
    path = plots.save(ax.figure, "01_tokenization", "quick", "edges")
    assert path == folder / "figures/quick/01_tokenization-edges.png"
    first = path.read_bytes()
    assert plots.save(ax.figure, "01_tokenization", "quick", "edges").read_bytes() == first
    assert b"matplotlib" not in first.lower()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_figure_too_rich_for_git_is_saved_smaller(ax, folder):
    ax.imshow(np.random.default_rng(0).random((900, 900)))
    path = plots.save(ax.figure, "01_tokenization", "quick", "noise")
    assert path.stat().st_size <= plots.LARGEST_FIGURE


def test_running_mean_covers_fewer_values_at_the_start():
    assert plots.running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1.0, 2.0, 4.0, 6.0]


def test_the_loss_curve_counts_tokens_in_millions(ax):
    plots.loss_curve(ax, [{"tokens": 2_000_000, "loss": 3.0}, {"tokens": 4_000_000, "loss": 1.0}], smooth=2)
    smoothed, raw = ax.lines
    assert smoothed.get_xydata().tolist() == [[2, 3], [4, 2]]
    assert raw.get_xydata().tolist() == [[2, 3], [4, 1]]
    assert smoothed.get_color() == raw.get_color()


def test_a_path_gets_darker_on_its_way(ax):
    plots.path(ax, [[0, 0], [1, 0], [1, 1], [2, 2]], goal=(2, 2))
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    ax.figure.canvas.draw()
    brightness = lines.get_colors()[:, :3].sum(axis=1)
    assert len(brightness) == 3 and (np.diff(brightness) < 0).all()
    assert ax.get_xlim()[1] >= 2


def test_the_walls_of_a_map_stand_where_it_is_blocked(ax):
    plots.rooms(ax, FOUR_ROOMS)
    points = FOUR_ROOMS.size * np.random.default_rng(0).random((200, 2))
    drawn = [any(wall.contains_point(ax.transData.transform(p)) for wall in ax.patches) for p in points]
    assert drawn == FOUR_ROOMS.blocked(points).tolist() and any(drawn)


def test_the_walls_of_a_maze_stand_where_its_cells_are_walls(ax):
    maze = Maze.named("medium", 4)
    plots.maze(ax, maze)
    points = np.random.default_rng(0).uniform(-16, 16, size=(200, 2))
    drawn = [any(wall.contains_point(ax.transData.transform(p)) for wall in ax.patches) for p in points]
    assert drawn == (~maze.is_free(maze.cell(points))).tolist() and any(drawn)
    assert ax.get_xlim() == ax.get_ylim() == (-16, 16)


def test_bars_stand_as_high_as_their_means(ax):
    plots.bars(ax, ["data", "plan"], [10.0, 30.0], [1.0, 2.0], reference=20.0, reference_name="expert")
    assert [bar.get_height() for bar in ax.patches] == [10.0, 30.0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["data", "plan"]
