"""Maze data: walks that are led, disturbed, cached; on the point, which needs no policy."""

import json

import numpy as np
import pytest

from ttlib.datasets import datasheet, load, local, maze_episodes, maze_walks
from ttlib.envs.ant_maze import RADIUS
from ttlib.envs.guide import JITTER, PATIENCE, WHIM_EVERY, WHIM_LASTS, Guide, Whims
from ttlib.envs.mazes import PLACES, Maze

STEPS = 400


@pytest.fixture(scope="module", autouse=True)
def two_at_once():
    """Making environments takes longer than these walks do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maze_walks, "TOGETHER", 2)
        yield


@pytest.fixture(scope="module")
def walked(two_at_once):
    """A small set, and the walks that it was made from."""
    wanted = maze_walks.find("pointmaze-medium-diverse")
    walks = maze_walks.walk(wanted, STEPS, seed=(0, 1))
    return wanted, walks


def test_the_names():
    expected = ["umaze", "medium-play", "medium-diverse", "large-play", "large-diverse"]
    expected = [f"{body}-{maze}" for body in ("antmaze", "pointmaze") for maze in expected]
    assert maze_walks.names() == [*expected, "pointmaze-medium-stitch"]  # a set's place in the list seeds its walks
    for name in maze_walks.names():
        wanted = maze_walks.find(name)
        assert wanted.name == name
    assert maze_walks.find("antmaze-umaze").env_id == "AntMazeUMaze-v0"
    assert maze_walks.find("pointmaze-large-play").env_id == "PointMazeLarge-v0"
    with pytest.raises(ValueError, match="no maze data set 'antmaze-tiny'; there are antmaze-umaze"):
        load("local:antmaze-tiny")


def test_walks_go_from_cell_to_cell_and_are_disturbed(walked):
    wanted, walks = walked
    assert sum(len(one["actions"]) for one in walks) >= STEPS
    maze = wanted.maze
    for one in walks:
        assert len(one["observations"]) == len(one["actions"]) + 1 <= maze_walks.LONGEST["pointmaze"] + 1
        cells = maze.cell(one["observations"][:, :2])
        assert maze.is_free(cells).all()
        assert np.abs(np.diff(cells, axis=0)).sum(axis=1).max() <= 2  # at most across a corner
        assert np.abs(one["actions"]).max() <= 1
        assert one["arrived"] == (len(one["actions"]) < maze_walks.LONGEST["pointmaze"]) and not one["lies"]
    assert np.mean([one["arrived"] for one in walks]) > 0.9
    assert "100% arrive and 0% end on their back" in maze_walks.describe(maze_walks.find("pointmaze-umaze"), 60)


def test_the_recorded_actions_lead_where_the_recording_went(walked):
    import gymnasium

    wanted, walks = walked
    env = gymnasium.make(wanted.env_id).unwrapped
    env.reset(seed=0)
    one = walks[0]
    env.body.set_state(one["observations"][0, :2].astype(float), one["observations"][0, 2:].astype(float))
    for action, following in zip(one["actions"][:5], one["observations"][1:6], strict=True):
        np.testing.assert_allclose(env.step(action)[0], following, atol=1e-3)


def test_the_same_seed_gives_the_same_walks():
    wanted = maze_walks.find("pointmaze-umaze")
    first, again, other = (maze_walks.collect(wanted, 100, seed, show=False) for seed in (3, 3, 4))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_no_walk_is_sent_to_solve_the_task_and_most_do_not(walked):
    rng = np.random.default_rng(0)
    for name in ("pointmaze-umaze", "pointmaze-large-play", "pointmaze-large-diverse"):
        wanted = maze_walks.find(name)
        pairs = [maze_walks.draw_pair(wanted.maze, wanted.cells, rng) for _ in range(500)]
        tasks = {(tuple(start.tolist()), tuple(goal.tolist())) for start, goal in pairs}
        assert (wanted.maze.start, wanted.maze.goal) not in tasks
        assert all(start != goal for start, goal in tasks)
        used = {cell for pair in tasks for cell in pair}
        assert used == ({tuple(c) for c in wanted.maze.free.tolist()} if "diverse" in name else set(PLACES[wanted.map]))

    wanted = maze_walks.find("pointmaze-umaze")
    data = maze_walks.collect(wanted, 1500, seed=0, show=False)
    assert data.terminals.sum() > 5, "some walks come to the goal"
    assert maze_episodes.solved(data, wanted.maze).mean() < 0.05, "none of them from the start"
    assert maze_episodes.coverage(data, wanted.maze)[np.array(wanted.maze.rows) == 0].min() > 0
    assert maze_episodes.coverage(data, wanted.maze).sum() == len(data)


def test_a_stitch_set_has_short_ways_from_everywhere_and_pays_only_near_the_goal():
    wanted = maze_walks.find("pointmaze-medium-stitch")
    maze, rng = wanted.maze, np.random.default_rng(0)
    pairs = [maze_walks.draw_pair(maze, wanted.cells, rng, wanted.farthest) for _ in range(1000)]
    ways = np.array([maze.distances(start)[tuple(goal)] for start, goal in pairs])
    assert set(ways) == {1, 2, 3, 4}
    for place in (0, 1):
        assert {tuple(pair[place].tolist()) for pair in pairs} == {tuple(cell) for cell in maze.free.tolist()}

    data = maze_walks.collect(wanted, 4000, seed=0, show=False)
    begun = data.observations[data.bounds[:, 0], 2:]
    assert 1 < begun.std() < 4, "walks begin on the move, so that some are seen to turn round"
    away = maze.distances(maze.goal)[tuple(maze.cell(data.observations[:, :2]).T)]
    paid = data.rewards_to_go(0.99) > 0
    assert paid[away <= 2].any() and not paid[away > maze_walks.SHORT + 1].any()  # one more for the noise
    assert np.isinf(maze_walks.find("pointmaze-medium-play").farthest)


def test_a_guide_sends_bodies_along_the_shortest_way():
    maze = Maze.named("umaze", 4)
    guide = Guide(maze, np.random.default_rng(0), 2)
    guide.begin(0, maze.start, maze.goal)
    guide.begin(1, maze.goal, (3, 2))
    rows = np.arange(2)
    places = np.stack([maze.center(maze.start), maze.center(maze.goal)])
    first = guide.waypoints(rows, places)
    assert maze.cell(first).tolist() == [[1, 2], [3, 2]]
    offset = (first - maze.center(maze.cell(first))) / maze.size
    assert (offset[0] >= 0).all() and (offset[0] <= JITTER).all() and (offset[1] == 0).all()
    # At the edge of the next cell nothing changes, well inside it does.
    edge = places + [[2.1, 0.0], [0.0, 0.0]]
    np.testing.assert_array_equal(guide.waypoints(rows, edge), first)
    inside = np.stack([maze.center((1, 2)), places[1]])
    assert maze.cell(guide.waypoints(rows, inside)).tolist() == [[1, 3], [3, 2]]
    assert not guide.arrived(0, inside[0]) and guide.arrived(1, maze.center((3, 2)) + [RADIUS - 0.01, 0])


def test_a_body_that_is_stuck_gets_another_waypoint():
    maze = Maze.named("umaze", 4)
    guide = Guide(maze, np.random.default_rng(0), 1)
    guide.begin(0, maze.start, maze.goal)
    place = maze.center(maze.start)[None]
    sent = [guide.waypoints(np.arange(1), place)[0].copy() for _ in range(PATIENCE + 5)]
    changes = np.abs(np.diff(sent, axis=0)).max(axis=1) > 0
    assert changes.sum() == 1 and changes[PATIENCE - 1]


def test_a_whim_leads_any_way_for_a_few_steps():
    whims, rows, lasted = Whims(np.random.default_rng(0), 3), np.array([0, 2]), []
    places, waypoints = np.array([[1.0, 1.0], [2.0, 5.0]]), np.array([[5.0, 1.0], [2.0, 9.0]])
    strayed = np.stack([whims.redirect(rows, places, waypoints) for _ in range(3000)])
    on_whim = (strayed != waypoints).any(axis=2)
    ways = (strayed - places)[on_whim]
    np.testing.assert_allclose(np.linalg.norm(ways, axis=1), 1.0)
    assert np.abs(ways.mean(axis=0)).max() < 0.1
    for body in range(2):
        changes = np.flatnonzero(np.diff(strayed[:, body], axis=0).any(axis=1)) + 1
        spells = np.split(np.arange(3000), changes)[1:-1]
        lasted += [len(spell) for spell in spells if on_whim[spell[0], body]]
    assert set(lasted) == set(range(WHIM_LASTS[0], WHIM_LASTS[1] + 1))
    free = (~on_whim).sum() / len(lasted)
    assert WHIM_EVERY - 3 < free < WHIM_EVERY + 3


def test_who_goes_on_is_sent_to_one_goal_after_another(monkeypatch):
    """Ants do; here it is a point, which needs no policy."""
    monkeypatch.setattr(maze_walks, "GOES_ON", ("pointmaze",))
    wanted = maze_walks.find("pointmaze-umaze")
    walks = maze_walks.walk(wanted, 800, seed=(0, 3))
    assert len(walks) == 2 and all(len(one["actions"]) == maze_walks.LONGEST["pointmaze"] for one in walks)
    assert all(one["arrived"] and not one["lies"] for one in walks)
    for one in walks:
        cells = {tuple(cell) for cell in wanted.maze.cell(one["observations"][:, :2]).tolist()}
        assert set(PLACES["umaze"]) <= cells, "it comes to all the places in 400 steps"

    rng, maze = np.random.default_rng(0), wanted.maze
    for start in PLACES["umaze"]:
        goals = {tuple(maze_walks.draw_goal(maze, np.array(start), wanted.cells, rng).tolist()) for _ in range(200)}
        assert goals == set(PLACES["umaze"]) - {start} - ({maze.goal} if start == maze.start else set())


def test_a_rare_fall_does_not_count_in_the_manifests_statistics():
    rng, steps = np.random.default_rng(0), 40
    seen = rng.normal(size=(steps, 29)).astype(np.float32)
    seen[:, 3:7] = 1, 0, 0, 0
    seen[30:, 3:7] = 0, 1, 0, 0  # half a turn about x
    episode = {"observations": seen, "actions": np.zeros((steps, 8)), "rewards": np.zeros(steps), "terminal": False}
    walked = maze_walks.Trajectories.from_episodes([episode], env_id="AntMazeUMaze-v0")
    legs = maze_walks.on_its_legs(walked)
    assert legs.tolist() == [True] * 30 + [False] * 10
    counted = local.statistics(walked, legs)
    assert counted["observation_mean"][3:7] == [1, 0, 0, 0] and counted["length_mean"] == steps
    np.testing.assert_allclose(counted["observation_std"], seen[:30].std(axis=0), atol=1e-6)
    assert local.statistics(walked)["observation_mean"][3] == 0.75


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a manifest row for a small set."""
    monkeypatch.setattr(local, "ROOT", tmp_path)
    monkeypatch.setattr(datasheet, "ROOT", tmp_path)
    monkeypatch.setitem(maze_walks.TRANSITIONS, "pointmaze", STEPS)
    wanted = maze_walks.find("pointmaze-umaze")
    measured = local.statistics(maze_walks.collect(wanted, STEPS, show=False))
    tolerance = {key: (np.abs(value) * 0.01 + 1e-4).tolist() for key, value in measured.items()}
    (tmp_path / "data").mkdir()
    row = {"transitions": STEPS // 2, "mean": measured, "tolerance": tolerance}
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"pointmaze-umaze": row}))
    return tmp_path


def test_a_set_is_made_once_checked_and_made_again_where_the_cache_is_damaged(root, monkeypatch):
    first = load("local:pointmaze-umaze")
    assert (first.name, first.env_id) == ("local:pointmaze-umaze", "PointMazeUMaze-v0")
    collect = maze_walks.collect
    monkeypatch.setattr(maze_walks, "collect", lambda *args: pytest.fail("it is cached"))
    assert load("local:pointmaze-umaze").fingerprint() == first.fingerprint()
    file = root / "data" / "cache" / "local" / "pointmaze-umaze.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    monkeypatch.setattr(maze_walks, "collect", collect)
    assert load("local:pointmaze-umaze").fingerprint() == first.fingerprint()


def test_what_does_not_fit_the_manifest_is_refused(root, monkeypatch):
    with pytest.raises(ValueError, match="nothing about 'pointmaze-large-play'; run .*maze_walks manifest pointmaze-l"):
        load("local:pointmaze-large-play")
    monkeypatch.setattr(maze_walks, "NOISE", 0.6)
    with pytest.raises(ValueError, match="do not fit data/manifest.json"):
        load("local:pointmaze-umaze")
    with pytest.raises(FileNotFoundError, match="antwalker.safetensors is missing"):
        load("local:antmaze-umaze")


def test_the_datasheet_has_a_row_and_a_map(root):
    text = datasheet.write().read_text()
    data, maze = load("local:pointmaze-umaze"), maze_walks.find("pointmaze-umaze").maze
    row = next(line for line in text.splitlines() if line.startswith("| local:pointmaze-umaze |"))
    assert f"{len(data):,}" in row and f"{data.terminals.sum() / len(data.lengths):.1%}" in row
    assert data.fingerprint() in row and "local:antmaze-umaze |" not in text
    drawn = [line.split() for line in text.splitlines() if line.startswith("#####")]
    counts = maze_episodes.coverage(data, maze)
    assert drawn[1][1] == f"{counts[1, 1] / 1000:.1f}" and len(drawn) == len(maze.rows)
