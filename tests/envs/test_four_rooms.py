"""Four rooms: walls hold, doorways let through, shortest paths are shortest, demonstrations arrive."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import ttlib.envs  # noqa: F401  registers the environments
from ttlib.control import LikelihoodController
from ttlib.envs import four_rooms
from ttlib.envs.demonstrations import Walker, collect, walk
from ttlib.envs.four_rooms import APART, RADIUS, STEP, FourRooms, pairs, reached, rollout
from ttlib.envs.rooms import FOUR_ROOMS, Rooms
from ttlib.evaluation import evaluate
from ttlib.model import TrajectoryTransformer
from ttlib.tokens import Tokenizer

# A wall that ends in the middle, two that cross, one that only touches another, a slit of a doorway, a long map.
MAZE = Rooms(
    size=(12, 7),
    walls=(((3, 0), (3, 4.5)), ((6, 0), (6, 7)), ((6, 3), (12, 3)), ((9, 3.1), (9, 6)), ((0, 6), (2.9, 6))),
    doorways=(((6, 5), (6, 5.5)), ((10, 3), (11.5, 3)), ((1, 6), (2, 6))),
)
OPEN = Rooms(size=(4, 4))
MAPS = {"four rooms": FOUR_ROOMS, "maze": MAZE, "open": OPEN}


def in_wall(rooms, points):
    """Independent of the module: whether points lie inside a wall, doorways taken out, with a hair's tolerance."""
    points, half, hair = np.atleast_2d(points), rooms.thickness / 2, 1e-5
    inside = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in rooms.walls:
        along, across = (1, 0) if x0 == x1 else (0, 1)
        line, low, high = (x0, y0)[across], (x0, y0)[along] - half, (x1, y1)[along] + half
        a, c = points[:, along], points[:, across]
        wall = (a > low + hair) & (a < high - hair) & (np.abs(c - line) < half - hair)
        for door in rooms.doorways:
            if door[0][across] == door[1][across] == line:
                wall &= ~((a > door[0][along]) & (a < door[1][along]))
        inside |= wall
    return inside


def in_map(rooms, points):
    return ((points >= -1e-9) & (points <= np.array(rooms.size) + 1e-9)).all()


class RandomActions:
    """A controller for `rollout` that goes anywhere, often straight along an axis."""

    def __init__(self, seed, scale=1.0):
        self.rng, self.scale = np.random.default_rng(seed), scale

    def reset(self, episodes):
        self.episodes = episodes

    def act(self, observations):
        actions = self.scale * self.rng.normal(size=(self.episodes, 2))
        return actions * self.rng.integers(0, 2, size=actions.shape)

    def observe(self, rewards):
        assert len(rewards) == self.episodes

    def drop(self, going):
        assert len(going) == self.episodes
        self.episodes = going.sum()


class TowardGoal(RandomActions):
    """Straight ahead, whatever stands in the way."""

    def __init__(self, goals):
        self.goals = goals

    def act(self, observations):
        return (self.goals - observations) / STEP

    def drop(self, going):
        super().drop(going)
        self.goals = self.goals[going]


@pytest.mark.parametrize("name", MAPS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_no_move_passes_through_a_wall(name, seed, scale):
    rooms = MAPS[name]
    starts, goals = pairs(rooms, 40, seed)
    paths = rollout(RandomActions(seed, scale), rooms, starts, goals, max_steps=30)
    assert in_map(rooms, paths.positions)
    shares = np.linspace(0, 1, 41)[:, None, None, None]  # 1 cm apart at the longest step
    between = paths.positions[:-1] * (1 - shares) + paths.positions[1:] * shares
    assert not in_wall(rooms, between.reshape(-1, 2)).any()
    assert np.linalg.norm(np.diff(paths.positions, axis=0), axis=-1).max() <= STEP + 1e-9


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.sampled_from([0.5, 5.0, 50.0]))
def test_long_moves_do_not_jump_over_walls(seed, length):
    rng = np.random.default_rng(seed)
    starts = MAZE.sample(rng, 50)
    ends = MAZE.move(starts, rng.normal(scale=length, size=(50, 2)))
    shares = np.linspace(0, 1, 2000)[:, None, None]
    assert not in_wall(MAZE, (starts * (1 - shares) + ends * shares).reshape(-1, 2)).any()
    assert in_map(MAZE, ends)


def test_a_move_into_a_wall_slides_along_it():
    starts = np.array([[4.0, 4.0], [4.0, 4.0], [1.0, 9.0], [4.0, 0.5]])
    ends = FOUR_ROOMS.move(starts, np.array([[2.0, 0.0], [2.0, 0.5], [0.0, 3.0], [1.0, -0.8]]))
    np.testing.assert_allclose(ends, [[4.9, 4.0], [4.9, 4.5], [1.0, 10.0], [4.9, 0.0]], atol=1e-5)
    # On the face: into the wall nothing moves, away from it everything does, and so it does along it.
    again = FOUR_ROOMS.move(ends[[0, 0, 0]], np.array([[0.3, 0.0], [-0.3, 0.1], [0.0, -0.4]]))
    np.testing.assert_allclose(again, [[4.9, 4.0], [4.6, 4.1], [4.9, 3.6]], atol=1e-5)


def test_sliding_does_not_cut_corners():
    # It meets the wall below the doorway and slides up to its edge, but not through it.
    end = FOUR_ROOMS.move([4.85, 1.8], [0.3, 0.3])
    np.testing.assert_allclose(end, [4.9, 2.1], atol=1e-5)
    # A thin post beside the straight line from start to end: there the move ends where it met the wall.
    rooms = Rooms(size=(4, 4), walls=(((2, 0), (2, 3)), ((1.45, 1.0), (1.55, 1.0))), thickness=0.1)
    rng = np.random.default_rng(0)
    starts = np.clip(rng.normal([1.5, 1.0], 0.3, size=(4000, 2)), 0, 4)
    starts = starts[~rooms.blocked(starts)]
    ends = rooms.move(starts, rng.normal(size=starts.shape))
    assert rooms.visible(starts, ends).all()
    shares = np.linspace(0, 1, 500)[:, None, None]
    assert not in_wall(rooms, (starts * (1 - shares) + ends * shares).reshape(-1, 2)).any()


def test_no_slit_between_walls_that_only_touch():
    # The wall at x = 9 begins exactly at the face of the one at y = 3: sliding up along it must stop.
    along = MAZE.move([[8.0, 3.2]], [[0.9, 0.0]])
    for _ in range(5):
        along = MAZE.move(along, [[0.0, -0.2]])
        assert along[0, 1] > 3.09
        along = MAZE.move(along, [[1.0, 0.0]])
    assert along[0, 0] < 9


@pytest.mark.parametrize("rooms", [FOUR_ROOMS, MAZE], ids=["four rooms", "maze"])
def test_each_doorway_lets_through_and_its_jambs_do_not(rooms):
    for low, high in rooms.doorways:
        across = np.array([1.0, 0.0]) if low[0] == high[0] else np.array([0.0, 1.0])
        along = 1 - across
        for share in (0.02, 0.5, 0.98):
            middle = np.array(low) * (1 - share) + np.array(high) * share
            for side in (-1, 1):
                arrived = rooms.move(middle + side * 0.4 * across, -side * 0.8 * across)
                np.testing.assert_allclose(arrived, middle - side * 0.4 * across, atol=1e-9)
        for jamb in (np.array(low) - 0.05 * along, np.array(high) + 0.05 * along):
            stopped = rooms.move(jamb - 0.4 * across, 0.8 * across)
            assert (stopped - jamb) @ across <= -rooms.thickness / 2


def grid_distance(rooms, start, goal, cell=0.05):
    """The slow oracle: shortest way over the free cells of a fine grid, with steps to all cells up to 3 away."""
    shape = np.round(np.array(rooms.size) / cell).astype(int)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * cell for n in shape), indexing="ij")
    free = np.pad(~in_wall(rooms, np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(shape), 3)
    steps = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if np.gcd(i, j) == 1]
    between = [{(round(i * s / 6), round(j * s / 6)) for s in range(7)} for i, j in steps]
    open_ = [np.logical_and.reduce([np.roll(free, (-i, -j), (0, 1)) for i, j in passed]) for passed in between]
    first, last = (tuple(np.floor(np.array(p) / cell).astype(int) + 3) for p in (start, goal))
    distance = np.full(free.shape, np.inf)
    distance[first] = 0
    while True:
        before = distance.copy()
        for (i, j), allowed in zip(steps, open_, strict=True):
            there = np.roll(np.where(allowed, distance + np.hypot(i, j), np.inf), (i, j), (0, 1))
            distance = np.minimum(distance, there)
        if (distance == before).all():
            return distance[last] * cell


@pytest.mark.parametrize("rooms", [FOUR_ROOMS, MAZE], ids=["four rooms", "maze"])
def test_shortest_paths_agree_with_a_fine_grid(rooms):
    starts, goals = pairs(rooms, 5, seed=4)
    exact = rooms.shortest(starts, goals)
    grid = np.array([grid_distance(rooms, *pair) for pair in zip(starts, goals, strict=True)])
    assert (exact > np.linalg.norm(goals - starts, axis=1) - 1e-9).all()
    # The grid's directions make a path at most 1.4 % longer; ends and corners are off by a cell or two.
    assert (exact < grid + 0.1).all()
    assert (grid < 1.014 * exact + 0.2).all()


def test_shortest_path_through_a_doorway_by_hand():
    rooms = Rooms(size=(4, 2), walls=(((2, 0), (2, 2)),), doorways=(((2, 1), (2, 2)),), thickness=0.2)
    # Up to the near corner of the wall, along its end, and down again.
    expected = 2 * np.hypot(0.9, 1.0) + 0.2
    assert rooms.shortest([1.0, 0.0], [3.0, 0.0]) == pytest.approx(expected, abs=1e-4)
    assert rooms.shortest([1.0, 1.5], [3.0, 1.5]) == pytest.approx(2.0)


def test_a_goal_behind_a_wall_is_not_reached():
    near, far = np.array([[4.85, 4.0]]), np.array([[5.12, 4.0]])
    assert np.linalg.norm(far - near) < RADIUS
    assert not reached(FOUR_ROOMS, near, far)[0]
    assert reached(FOUR_ROOMS, near, near - [[0.27, 0.0]])[0]


def test_gymnasium_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(FourRooms(), skip_render_check=True)
        check_env(FourRooms(rooms=MAZE), skip_render_check=True)
        env = gymnasium.make("FourRooms-v0", max_steps=7)
    env.reset(seed=0, options={"start": (1, 1), "goal": (9, 9)})
    for t in range(7):
        _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated) == (0.0, False, True)
    np.testing.assert_array_equal(info["goal"], [9, 9])


def test_the_environment_is_the_batch_of_one():
    rng = np.random.default_rng(1)
    env = FourRooms()
    env.reset(seed=5)
    for _ in range(40):
        action = rng.uniform(-1, 1, size=2).astype(np.float32)
        expected = four_rooms.step(FOUR_ROOMS, env.position[None], action[None])[0]
        place, reward, terminated, _, _ = env.step(action)
        np.testing.assert_array_equal(place, expected.astype(np.float32))
        assert terminated == (reward == 1) == reached(FOUR_ROOMS, env.position[None], env.goal[None])[0]
        assert place in env.observation_space


def test_an_action_that_is_too_long_is_shortened_to_one_step():
    env = FourRooms()
    env.reset(options={"start": (1, 1), "goal": (9, 9)})
    place, *_ = env.step(np.array([300.0, 400.0]))
    np.testing.assert_allclose(place, [1 + 0.6 * STEP, 1 + 0.8 * STEP], rtol=1e-6)


def test_the_goal_ends_the_episode_with_reward_one():
    env = FourRooms()
    env.reset(options={"start": (1, 1), "goal": (1.8, 1)})
    rewards = [env.step(np.array([1.0, 0.0]))[1:4] for _ in range(2)]
    assert rewards == [(0.0, False, False), (1.0, True, False)]


def test_seeds_decide_everything():
    first, second, other = (FourRooms().reset(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1]["goal"], second[1]["goal"])
    assert (first[0] != other[0]).any()
    assert collect(2000, seed=1).fingerprint() == collect(2000, seed=1).fingerprint()
    assert collect(2000, seed=1).fingerprint() != collect(2000, seed=2).fingerprint()


def test_pairs_are_free_apart_and_differ_by_purpose():
    seen = set()
    for purpose in four_rooms.PURPOSES:
        starts, goals = pairs(MAZE, 300, seed=0, purpose=purpose)
        assert not in_wall(MAZE, starts).any() and not in_wall(MAZE, goals).any()
        assert (np.linalg.norm(goals - starts, axis=1) >= APART).all()
        seen |= set(map(tuple, starts.round(6)))
    assert len(seen) == 900
    # Uniform: each room of four has about a quarter of the starts.
    starts, _ = pairs(FOUR_ROOMS, 4000, seed=1)
    share = np.histogram2d(*starts.T, bins=2, range=[[0, 10], [0, 10]])[0] / 4000
    np.testing.assert_allclose(share, 0.25, atol=0.03)


@pytest.mark.parametrize("rooms", [FOUR_ROOMS, MAZE, OPEN], ids=list(MAPS))
def test_demonstrations_reach_their_goals_and_are_not_perfect(rooms):
    starts, goals = pairs(rooms, 300, seed=7, purpose="demonstrations")
    recordings = walk(Walker(rooms), starts, goals, np.random.default_rng(0))
    ends = np.array([places[-1] for places, _ in recordings], dtype=float)
    assert reached(rooms, ends, goals, 0.1).mean() >= 0.99
    walked = np.array([np.linalg.norm(np.diff(places, axis=0), axis=1).sum() for places, _ in recordings])
    ratio = (walked + np.linalg.norm(goals - ends, axis=1)) / rooms.shortest(starts, goals)
    assert ratio.min() > 1 - 1e-5
    assert 1.01 < np.median(ratio) < 1.3
    assert max(np.linalg.norm(actions, axis=1).max() for _, actions in recordings) <= 1 + 1e-6
    # What is recorded is what happens: each place follows from the one before and its action.
    for places, actions in recordings[:20]:
        np.testing.assert_allclose(four_rooms.step(rooms, places[:-1], actions[:-1]), places[1:], atol=2e-6)


def test_collected_trajectories_end_where_the_goal_was_and_have_no_rewards():
    data = collect(5000, seed=0)
    assert 5000 <= len(data) < 5000 + four_rooms.MAX_STEPS
    assert (data.observation_dim, data.action_dim, data.env_id) == (2, 2, "FourRooms-v0")
    assert not data.rewards.any() and not data.terminals.any()
    assert data.timeouts.sum() == len(data.bounds)
    # Only the last place is within the radius of a goal somewhere around it; the step before is not much closer.
    starts, ends = data.observations[data.bounds[:, 0]], data.observations[data.bounds[:, 1] - 1]
    assert (np.linalg.norm(ends - starts, axis=1) > APART - RADIUS - 1e-5).all()
    assert not in_wall(FOUR_ROOMS, data.observations).any()


def test_path_ratios_count_the_rest_of_the_way():
    starts, goals = np.array([[1.0, 1.0], [4.0, 4.0]]), np.array([[4.0, 1.0], [6.0, 4.0]])
    paths = rollout(TowardGoal(goals), FOUR_ROOMS, starts, goals, max_steps=20)
    assert paths.reached.tolist() == [True, False]  # the second one stands before the wall
    assert paths.ratios(FOUR_ROOMS)[0] == pytest.approx(1.0)
    assert paths.ratios(FOUR_ROOMS)[1] == np.inf
    assert len(paths.path(0)) == paths.lengths[0] + 1 == 8


def test_a_model_walks_the_same_way_in_the_batch_and_in_the_environment():
    data = collect(2000, seed=0)
    tokenizer = Tokenizer.fit(data, values=False, goal=2)
    torch.manual_seed(0)
    model = TrajectoryTransformer(tokenizer.layout, transitions=4, layers=1, heads=2, width=16).eval()
    starts, goals = (places.astype(np.float32) for places in pairs(FOUR_ROOMS, 6, seed=0))
    controller = LikelihoodController(model, tokenizer, horizon=2, beam_width=3, context=2, goals=goals)
    paths = rollout(controller, FOUR_ROOMS, starts, goals, max_steps=8)
    options = [{"start": start, "goal": goal} for start, goal in zip(starts, goals, strict=True)]
    rollouts = evaluate("FourRooms-v0", controller, 6, seed=0, max_steps=8, options=options)
    for number, episode in enumerate(rollouts.episodes):
        np.testing.assert_allclose(episode["observations"], paths.path(number), atol=1e-5)


WALL = ((5, 0), (5, 10))
BAD_MAPS = {
    "a part without a doorway": {"walls": (WALL,)},
    "cannot be reached": {"walls": (WALL, ((0, 5), (10, 5))), "doorways": (((5, 1), (5, 2)), ((1, 5), (2, 5)))},
    "does not lie on a wall": {"walls": (WALL,), "doorways": (((4, 1), (4, 2)),)},
    "doorway 1": {"walls": (WALL,), "doorways": (((5, 1), (5, 2)), ((5, 9), (5, 11)))},
    "must run along x or along y": {"walls": (((0, 0), (3, 4)),)},
    "have a length": {"walls": (WALL,), "doorways": (((5, 1), (5, 1)),)},
    "is two points": {"walls": ((1, 2, 3, 4),)},
    "two positive numbers": {"size": (10, -1)},
    "positive thickness": {"thickness": 0},
    "no free place": {"walls": (((0, 0.5), (2, 0.5)), ((0, 1.5), (2, 1.5))), "size": (2, 2), "thickness": 1},
}


@pytest.mark.parametrize("words", BAD_MAPS)
def test_a_bad_map_is_refused_with_one_sentence(words):
    with pytest.raises(ValueError, match=words) as error:
        Rooms(**{"size": (10, 10)} | BAD_MAPS[words])
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


BAD_RESETS = {
    "start .* lies in a wall": {"start": (5, 5)},
    "goal .* lies in a wall or outside": {"goal": (11, 5)},
    "no option 'target'": {"target": (1, 1)},
    "start is two finite numbers": {"start": (np.nan, 1)},
    "goal is two numbers": {"goal": "north"},
    "already within": {"start": (1, 1), "goal": (1.1, 1)},
}


@pytest.mark.parametrize("words", BAD_RESETS)
def test_a_bad_reset_is_refused_with_one_sentence(words):
    with pytest.raises(ValueError, match=words):
        FourRooms().reset(options=BAD_RESETS[words])


def test_bad_actions_and_arguments_are_refused():
    env = FourRooms()
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    for action in (np.zeros(3), np.array([0, np.inf])):
        with pytest.raises(ValueError, match="an action is two finite numbers"):
            env.step(action)
    with pytest.raises(ValueError, match="render mode"):
        FourRooms(render_mode="human")
    with pytest.raises(ValueError, match="no pairs for 'test'"):
        pairs(FOUR_ROOMS, 1, 0, "test")
    with pytest.raises(ValueError, match="too few places"):
        pairs(Rooms(size=(APART / 2, APART / 2)), 1, 0)
    with pytest.raises(ValueError, match="at least 2 transitions"):
        collect(0)
    with pytest.raises(ValueError, match="start .* lies in a wall"):
        FOUR_ROOMS.shortest([5.0, 5.0], [1.0, 1.0])
