import numpy as np
import pytest

from ttlib.envs.mazes import MAPS, PLACES, Maze


@pytest.mark.parametrize("name", MAPS)
def test_next_cells_lead_to_the_goal_in_as_many_steps_as_the_distance_says(name):
    maze = Maze.named(name, 4)
    distances, following = maze.distances(maze.goal), maze.next_cells(maze.goal)
    for cell in maze.free:
        steps, here = 0, tuple(cell)
        while here != maze.goal:
            there = tuple(following[here])
            assert np.abs(np.subtract(there, here)).sum() == 1 and maze.is_free(there)
            here, steps = there, steps + 1
        assert steps == distances[tuple(cell)]
    assert np.isinf(distances[0, 0]) and (following[0, 0] == (0, 0)).all()


@pytest.mark.parametrize("name", MAPS)
def test_cells_and_places_are_each_others_inverse(name):
    rng = np.random.default_rng(0)
    for maze in (Maze.named(name, 4), Maze.named(name, 1, d4rl=True)):
        jitter = rng.uniform(-0.49, 0.49, size=(len(maze.free), 2)) * maze.size
        np.testing.assert_array_equal(maze.cell(maze.center(maze.free) + jitter), maze.free)
        for left, bottom, right, top in maze.boxes:
            assert not maze.is_free(maze.cell([(left + right) / 2, (bottom + top) / 2]))
        assert maze.is_free(maze.start) and maze.is_free(maze.goal)
    assert Maze.named(name, 4).is_free(PLACES[name]).all()


def test_d4rls_mazes_begin_at_zero_and_are_not_mirrored():
    """D4RL puts the cell (row, column) at ((column - 1) 4, (row - 1) 4), from the start's cell (1, 1)."""
    for name, (rows, start, goal) in MAPS.items():
        maze = Maze.named(name, 4, d4rl=True)
        for row in range(len(rows)):
            for column in range(len(rows[0])):
                place = ((column - start[1]) * 4.0, (row - start[0]) * 4.0)
                assert maze.is_free(maze.cell(place)) == (rows[row][column] == 0)
        assert maze.center(maze.start).tolist() == [0, 0]
        assert maze.center(maze.goal).tolist() == [4.0 * (goal[1] - 1), 4.0 * (goal[0] - 1)]


def test_what_is_no_place_is_refused():
    with pytest.raises(ValueError, match="no maze 'tiny'; there are umaze, medium, large"):
        Maze.named("tiny", 1)
    maze = Maze.named("umaze", 4)
    for place in ((0.0, 0.0), (-4.0, 0.0), (50.0, 4.0)):
        with pytest.raises(ValueError, match="lies in a wall or outside"):
            maze.check(place, "goal")
    for place in ("here", (1, 2, 3), (np.nan, 0)):
        with pytest.raises(ValueError, match="the goal is two finite numbers"):
            maze.check(place, "goal")
