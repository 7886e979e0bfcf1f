"""Bodies are drawn where their poses are, as many as were asked for."""

import io

import gymnasium
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from ttlib import render

BODIES = ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Humanoid-v5", "Ant-v5"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log of its warnings where it runs


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def rest(env_id):
    return render.body(env_id)[0].qpos0.copy()


def outline(collection):
    return np.concatenate([path.vertices for path in collection.get_paths()])


@pytest.mark.parametrize("env_id", BODIES)
@pytest.mark.parametrize("view", ["side", "top"])
def test_every_body_can_be_drawn(ax, env_id, view):
    drawn = outline(render.draw_body(ax, env_id, rest(env_id), view=view))
    assert np.isfinite(drawn).all() and np.ptp(drawn[:, 0]) > 0.05


def test_a_hopper_standing_still_reaches_from_the_ground_to_its_head(ax):
    drawn = outline(render.draw_body(ax, "Hopper-v5", rest("Hopper-v5")))
    assert 0 <= drawn[:, 1].min() < 0.1 and 1.4 < drawn[:, 1].max() < 1.6


@pytest.mark.parametrize("env_id", BODIES)
def test_a_raised_body_is_drawn_higher_and_a_moved_one_farther(ax, env_id):
    low, high = rest(env_id), rest(env_id)
    height = 2 if env_id in ("Humanoid-v5", "Ant-v5") else 1
    high[height] += 0.5
    high[0] += 3.0
    low, high = (outline(render.draw_body(ax, env_id, pose)) for pose in (low, high))
    np.testing.assert_allclose(high.min(axis=0) - low.min(axis=0), [3.0, 0.5], atol=1e-9)
    np.testing.assert_allclose(high.max(axis=0) - low.max(axis=0), [3.0, 0.5], atol=1e-9)


def test_what_is_farther_away_is_drawn_first_and_darker(ax):
    collection = render.draw_body(ax, "Humanoid-v5", rest("Humanoid-v5"), color=(0.8, 0.5, 0.2))
    brightness = collection.get_facecolors()[::2, :3].sum(axis=1)
    assert (np.diff(brightness) >= -1e-9).all() and brightness[-1] > brightness[0]


def test_a_strip_has_the_poses_asked_for_and_older_ones_are_paler(ax):
    poses = np.tile(rest("Hopper-v5"), (100, 1))
    poses[:, 0] = np.linspace(0, 5, 100)
    drawn = render.draw_strip(ax, "Hopper-v5", poses, every=20)
    assert len(drawn) == 5 == len(ax.collections)
    assert drawn[0].get_facecolors()[0, 2] > drawn[-1].get_facecolors()[0, 2]
    assert outline(drawn[-1])[:, 0].mean() > outline(drawn[0])[:, 0].mean() + 3.5


def test_spacing_replaces_the_way_that_the_body_took(ax):
    drawn = render.draw_strip(ax, "Hopper-v5", np.tile(rest("Hopper-v5"), (3, 1)), every=1, spacing=2.0)
    centres = [outline(pose)[:, 0].mean() for pose in drawn]
    np.testing.assert_allclose(np.diff(centres), 2.0, atol=1e-6)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Ant-v5"])
def test_poses_from_observations_are_the_recorded_ones(env_id):
    env = gymnasium.make(env_id)
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    observations, poses = [observation], [render.recorded_pose(env)]
    for _ in range(15):
        observations.append(env.step(0.3 * env.action_space.sample())[0])
        poses.append(render.recorded_pose(env))
    poses = np.array(poses)
    hidden = 2 if env_id == "Ant-v5" else 1
    found = render.poses_from_observations(env_id, np.array(observations), start=poses[0, :hidden])
    np.testing.assert_allclose(found[:, hidden:], poses[:, hidden:], atol=1e-12)
    np.testing.assert_allclose(found[:, :hidden], poses[:, :hidden], atol=0.05)


def test_the_animation_is_a_small_gif_with_no_more_frames_than_asked_for():
    poses = np.tile(rest("Hopper-v5"), (40, 1))
    poses[:, 0] = np.linspace(0, 1, 40)
    data = render.animate("Hopper-v5", poses, every=4, frames=6)
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "GIF" and picture.n_frames == 6 and len(data) < 30_000


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Humanoid-v5", "HalfCheetah-v5"])
def test_no_head_is_cut_off_in_an_animation(env_id):
    """The body is in the picture, and the rows at its top are as white as the sky."""
    picture = Image.open(io.BytesIO(render.animate(env_id, rest(env_id)[None], frames=1)))
    pixels = np.asarray(picture.convert("RGB")).min(axis=(1, 2))
    assert (pixels[:3] > 250).all() and pixels[: len(pixels) // 2].min() < 200


def test_drawing_says_in_one_sentence_what_is_wrong(ax):
    with pytest.raises(ValueError, match="no environment 'Hoper-v5' to draw"):
        render.draw_body(ax, "Hoper-v5", np.zeros(6))
    with pytest.raises(ValueError, match="CartPole-v1 cannot be drawn"):
        render.draw_body(ax, "CartPole-v1", np.zeros(4))
    with pytest.raises(ValueError, match="a pose of Hopper-v5 is 6 finite numbers"):
        render.draw_body(ax, "Hopper-v5", np.zeros(5))
    with pytest.raises(ValueError, match="no view 'front'"):
        render.draw_body(ax, "Hopper-v5", rest("Hopper-v5"), view="front")
    with pytest.raises(ValueError, match="need \\(steps, 11 or more\\) observations"):
        render.poses_from_observations("Hopper-v5", np.zeros((3, 4)))
    assert not ax.collections
