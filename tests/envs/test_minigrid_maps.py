"""MiniGrid's maps and rules, held against the minigrid package itself."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from ttlib.envs import minigrid_maps
from ttlib.envs.minigrid_maps import (
    ACTIONS,
    DOOR,
    FREE,
    WALL,
    Maps,
    check,
    generate,
    images,
    load_maps,
    reachable,
    read,
    step,
)


def minigrid(rooms=4):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from minigrid.envs.multiroom import MultiRoomEnv
    return MultiRoomEnv(minNumRooms=rooms, maxNumRooms=rooms, maxRoomSize=5)


@pytest.fixture(scope="module")
def maps():
    return generate(range(900, 912))


def seen_by_minigrid(env):
    """Our image out of minigrid's encoded grid: its channel 0 is the object, its channel 2 a door's state."""
    encoded = env.grid.encode()
    kind, state = encoded[..., 0], encoded[..., 2]
    return np.stack([kind == 2, (kind == 4) & (state == 1), (kind == 4) & (state == 0)]).astype(np.uint8)


@pytest.mark.parametrize("seed", [900, 905, 911])
def test_a_step_is_minigrids_step(seed):
    env, rng = minigrid(), np.random.default_rng(seed)
    env.reset(seed=seed)
    env.max_steps = 10_000
    env.grid.set(*env.goal_pos, None)  # the goal is neither in the image nor the end of these walks
    ours = read(minigrid(), seed)
    pose, opened = ours.starts.astype(int), np.zeros((1, ours.doors), dtype=bool)
    toggled = walked = 0
    for action in rng.choice(4, p=[0.15, 0.15, 0.4, 0.3], size=1500):
        before = pose, opened
        env.step(list(ACTIONS.values())[action])
        pose, opened = step(ours.cells, pose, opened, np.array([action]))
        assert tuple(pose[0]) == (*env.agent_pos, env.agent_dir)
        assert np.array_equal(images(ours.cells, opened)[0], seen_by_minigrid(env))
        toggled += (before[1] != opened).any()
        walked += (before[0] != pose).any()
    assert toggled > 3 and walked > 100


def test_a_step_leaves_its_arguments_alone(maps):
    poses, opened = maps.starts.astype(int), np.zeros((len(maps), maps.doors), dtype=bool)
    kept = poses.copy(), opened.copy()
    for action in range(4):
        step(maps.cells, poses, opened, np.full(len(maps), action))
    assert np.array_equal(poses, kept[0]) and np.array_equal(opened, kept[1])


@pytest.mark.parametrize("rooms", [4, 6])
def test_maps_have_the_rooms_that_were_asked_for(rooms):
    made = generate([3], rooms)
    assert made.rooms.shape == (1, rooms, 4) and (made.rooms[..., 2:] <= 5).all()
    assert np.array_equal(np.sort(made.cells[made.cells >= DOOR]), DOOR + np.arange(rooms - 1))
    check(made)


def test_starts_and_goals_are_minigrids_and_not_in_the_map(maps):
    env = minigrid()
    ours = read(env, 904)
    env.reset(seed=904)
    assert tuple(ours.starts[0]) == (*env.agent_pos, env.agent_dir) and tuple(ours.goals[0]) == tuple(env.goal_pos)
    assert ours.cells[0][tuple(ours.goals[0])] == FREE


def test_a_map_in_the_corner_is_the_same_map(maps):
    raw = Maps.join([read(minigrid(), seed) for seed in range(900, 912)])
    moved = raw.starts[:, :2] - maps.starts[:, :2]
    assert (moved > 0).any() and (maps.rooms[..., :2].min(axis=1) == 0).all()
    assert np.array_equal(raw.goals - moved, maps.goals) and np.array_equal(raw.starts[:, 2], maps.starts[:, 2])
    for number, (x, y) in enumerate(moved):
        kept = raw.cells[number, x:, y:]
        assert np.array_equal(kept, maps.cells[number, : 25 - x, : 25 - y])
        assert (raw.cells[number] != FREE).sum() == (kept != FREE).sum()
    assert maps.in_the_corner().fingerprint() == maps.fingerprint()


def test_the_maps_of_the_purposes_are_different_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(minigrid_maps, "BLOCK", 3)
    made = {purpose: load_maps(4, purpose, folder=tmp_path) for purpose in minigrid_maps.FIRST_SEED}
    assert len(list(tmp_path.glob("*.npz"))) == 3  # whole blocks only
    assert len(np.unique(np.concatenate([some.cells for some in made.values()]), axis=0)) == 12
    again = load_maps(4, "evaluation", folder=tmp_path)
    assert again.fingerprint() == made["evaluation"].fingerprint() != made["training"].fingerprint()
    with pytest.raises(ValueError, match="no maps for 'test'"):
        load_maps(4, "test", folder=tmp_path)


def changed(maps, **values):
    arrays = {name: getattr(maps, name).copy() for name in values}
    for name, (where, value) in values.items():
        arrays[name][where] = value
    return replace(maps, **arrays)


def test_what_cannot_be_walked_is_refused_in_a_sentence(maps):
    check(maps)
    wall = tuple(np.argwhere(maps.cells[2] == WALL)[0])
    door = tuple(np.argwhere(maps.cells[2] == DOOR)[0])
    outside = tuple(np.argwhere(~reachable(maps)[2] & (maps.cells[2] == FREE))[0])
    bad = {
        "goal .* of map 2 lies in a wall": changed(maps, goals=(2, wall)),
        "goal .* of map 2 lies in a closed door": changed(maps, goals=(2, door)),
        "no way leads from the start of map 2": changed(maps, goals=(2, outside)),
        "goal .* of map 2 lies outside": changed(maps, goals=(2, (25, 3))),
        "start .* of map 2 lies in a wall": changed(maps, starts=((2, slice(0, 2)), wall)),
        "heading 4 of map 2": changed(maps, starts=((2, 2), 4)),
        "map 2 is no valid map": changed(maps, cells=((2, *door), WALL)),
        "trained for maps of 25 x 25": replace(maps, cells=maps.cells[:, :19, :19]),
    }
    for message, some in bad.items():
        with pytest.raises(ValueError, match=message) as refused:
            check(some)
        assert "\n" not in str(refused.value)
