"""MuJoCo bodies drawn with matplotlib, so that no OpenGL is needed.

A body is its geoms: capsules and spheres, whose outline seen from afar is exactly a
line segment with round ends. `mj_kinematics` puts them where a pose says, the
camera drops one axis, and what lies farther away is drawn first and darker.
"""

import io
from functools import lru_cache

import gymnasium
import matplotlib.pyplot as plt
import mujoco
import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Polygon
from matplotlib.ticker import MultipleLocator
from PIL import Image

from ttlib.plots import PALETTE, mix

VIEWS = {"side": (0, 2, 1), "top": (0, 1, 2)}  # axes drawn across and up, axis looked along
SPHERE, CAPSULE = int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)
FREE = int(mujoco.mjtJoint.mjJNT_FREE)


@lru_cache(maxsize=16)
def body(env_id):
    """`(model, dt)`: the mjModel of a gymnasium environment and the seconds in one of its steps.

    Raises:
        ValueError: there is no such environment, or MuJoCo does not simulate it.
    """
    try:
        env = gymnasium.make(env_id)
    except gymnasium.error.Error as error:
        raise ValueError(
            f"gymnasium has no environment {env_id!r} to draw; use the name of one, such as Hopper-v5."
        ) from error
    model = getattr(env.unwrapped, "model", None)
    if isinstance(model, mujoco.MjModel):
        return model, env.unwrapped.dt
    raise ValueError(f"{env_id} cannot be drawn: only the bodies of MuJoCo environments can.")


def recorded_pose(env):
    """The pose (nq,) that a running MuJoCo environment is in; collect these to draw an episode exactly."""
    return env.unwrapped.data.qpos.copy()


def poses_from_observations(env_id, observations, start=0.0):
    """Poses of an episode from its observations, which leave out where the body is.

    An observation holds the positions but for x (x and y where the body floats freely),
    then the velocities. What is missing is integrated from the velocities, by trapezoids.

    Args:
        env_id: the environment that was recorded.
        observations: (T, N) in the order of time.
        start: x (or (x, y)) of the first pose, in metres.

    Returns:
        (T, nq) float64.

    Raises:
        ValueError: an observation is shorter than positions and velocities are.
    """
    model, dt = body(env_id)
    observations = np.asarray(observations, dtype=np.float64)
    free = model.jnt_type[0] == FREE
    hidden = 2 if free else 1
    seen = model.nq - hidden
    if observations.ndim != 2 or observations.shape[1] < seen + model.nv:
        raise ValueError(
            f"poses of {env_id} need (steps, {seen + model.nv} or more) observations, not {observations.shape}."
        )
    velocity = observations[:, seen : seen + hidden]
    moved = np.cumsum((velocity[1:] + velocity[:-1]) / 2 * dt, axis=0)
    place = np.concatenate([np.zeros((1, hidden)), moved]) + start
    return np.concatenate([place, observations[:, :seen]], axis=1)


def draw_body(ax, env_id, pose, view="side", color=None, fade=0.0, shift=0.0, zorder=2):
    """Draw one pose.

    Args:
        ax: matplotlib axes.
        env_id: a MuJoCo environment of gymnasium whose body is capsules and spheres.
        pose: (nq,) positions, as `recorded_pose` or `poses_from_observations` give them.
        view: "side" (x across, z up) or "top" (x across, y up).
        color: of the body; limbs called "left" are drawn in a second one where this is left out.
        fade: 0 as it is, 1 as pale as the paper.
        shift: metres to move it along x.

    Returns:
        The PatchCollection that was added, two patches a geom.

    Raises:
        ValueError: the environment cannot be drawn, the pose does not fit, or the view is unknown.
    """
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}; there are {' and '.join(VIEWS)}.")
    across, up, along = VIEWS[view]
    away = 1 if view == "side" else -1  # the camera stands at y < 0, or above
    geoms = _geoms(env_id, pose)
    depths = np.array([away * (a + b)[along] / 2 for _, a, b, _ in geoms]).round(6)
    near, far = depths.min(), max(depths.max(), depths.min() + 0.1)
    patches, faces, edges = [], [], []
    for index in np.lexsort((-np.arange(len(geoms)), -depths)):
        left, a, b, radius = geoms[index]
        base = color or PALETTE[2 if left else 1]
        base = mix(mix(base, "black", 0.35 * (depths[index] - near) / (far - near)), "white", fade)
        a, b = a[[across, up]] + [shift, 0], b[[across, up]] + [shift, 0]
        light = radius * 0.28 * np.array([-0.5, 0.85])
        patches += [Polygon(_capsule(a, b, radius)), Polygon(_capsule(a + light, b + light, radius * 0.45))]
        faces += [base, mix(base, "white", 0.25)]
        edges += [mix(mix(base, "black", 0.45 * (1 - fade)), "white", 0.3 * fade), (0, 0, 0, 0)]
    collection = PatchCollection(patches, facecolors=faces, edgecolors=edges, linewidths=0.8, zorder=zorder)
    ax.add_collection(collection)
    return collection


def draw_strip(ax, env_id, poses, every=25, view="side", color=None, spacing=None, trace=True):
    """Draw every so-manieth pose of an episode along the ground, the older the paler.

    Args:
        poses: (T, nq).
        every: steps from one drawn pose to the next.
        spacing: metres between poses; where the body really was if left out.
        trace: whether to draw the way that the root took, as a thin line (not with `spacing`).

    Returns:
        The list of PatchCollections, one a pose.
    """
    poses = np.asarray(poses, dtype=np.float64)
    shown = poses[::every]
    if trace and spacing is None:
        root = np.array([_root(env_id, pose) for pose in poses[:: max(every // 8, 1)]])
        ax.plot(root[:, 0], root[:, VIEWS[view][1]], color="0.6", linewidth=1.0, zorder=1.5)
    drawn = []
    for number, pose in enumerate(shown):
        age = (len(shown) - 1 - number) / max(len(shown) - 1, 1)
        shift = 0.0 if spacing is None else spacing * number - pose[0]
        drawn.append(draw_body(ax, env_id, pose, view, color, 0.65 * age, shift, zorder=2 + number / len(shown)))
    _frame(ax, view)
    if spacing is not None:
        ax.set_xticks([])
        ax.set_xlabel("")
    return drawn


def animate(env_id, poses, every=4, frames=48, size=(4.0, 2.4), dpi=60, view="side", color=None):
    """A small GIF of an episode, the camera going along with the body.

    Args:
        poses: (T, nq).
        every: steps from one frame to the next; it is played in real time.
        frames: at most so many, from the first pose on.

    Returns:
        bytes of the GIF, about 2 kB a frame.
    """
    _, dt = body(env_id)
    shown = np.asarray(poses, dtype=np.float64)[::every][:frames]
    up = VIEWS[view][1]
    roots = np.array([_root(env_id, pose) for pose in shown])
    highest = max(max(a[2], b[2]) + radius for pose in shown for _, a, b, radius in _geoms(env_id, pose))
    tall = 1.15 * max(highest, 0.9)  # a tenth of it is below the ground
    fig = plt.figure(figsize=size, dpi=dpi, layout="none")
    ax = fig.add_axes((0.02, 0.16, 0.96, 0.82))
    pictures = []
    for pose, root in zip(shown, roots, strict=True):
        ax.clear()
        draw_body(ax, env_id, pose, view, color)
        _frame(ax, view)
        ax.xaxis.set_major_locator(MultipleLocator(1))
        ax.set(xlabel="", ylabel="", yticks=[])
        ax.spines["left"].set_visible(False)
        wide = tall * size[0] / size[1]
        ax.set_xlim(root[0] - wide / 2, root[0] + wide / 2)
        low = -0.1 * tall if view == "side" else root[up] - tall / 2
        ax.set_ylim(low, low + tall)
        fig.canvas.draw()
        picture = Image.fromarray(np.asarray(fig.canvas.buffer_rgba())).convert("RGB")
        pictures.append(picture.quantize(32, dither=Image.Dither.NONE))
    plt.close(fig)
    file = io.BytesIO()
    pictures[0].save(
        file, format="GIF", save_all=True, append_images=pictures[1:], duration=max(int(1000 * dt * every), 20), loop=0
    )
    return file.getvalue()


def _place(env_id, pose):
    """mjData with the bodies where `pose` puts them."""
    model, _ = body(env_id)
    pose = np.asarray(pose, dtype=np.float64)
    if pose.shape != (model.nq,) or not np.isfinite(pose).all():
        raise ValueError(f"a pose of {env_id} is {model.nq} finite numbers, not an array of the shape {pose.shape}.")
    data = mujoco.MjData(model)
    data.qpos[:] = pose
    mujoco.mj_kinematics(model, data)
    return model, data


def _geoms(env_id, pose):
    """[(is left, one end (3,), other end (3,), radius)] of the capsules and spheres that make the body."""
    model, data = _place(env_id, pose)
    found = []
    for index in range(model.ngeom):
        if model.geom_bodyid[index] == 0 or model.geom_type[index] not in (SPHERE, CAPSULE):
            continue
        radius, half = model.geom_size[index, 0], 0.0
        if model.geom_type[index] == CAPSULE:
            half = model.geom_size[index, 1]
        axis = data.geom_xmat[index].reshape(3, 3)[:, 2] * half
        found.append((_is_left(model, index), data.geom_xpos[index] - axis, data.geom_xpos[index] + axis, radius))
    if not found:
        raise ValueError(f"{env_id} cannot be drawn: its body has no capsules and no spheres.")
    return found


def _is_left(model, geom):
    """Whether a geom belongs to a limb that is called left, itself or farther up."""
    index = model.geom_bodyid[geom]
    while index > 0 and "left" not in model.body(index).name:
        index = model.body_parentid[index]
    return index > 0


def _root(env_id, pose):
    """(3,) where the first body is."""
    return _place(env_id, pose)[1].xpos[1].copy()


def _capsule(a, b, radius, corners=16):
    """(2 corners, 2) outline of a segment with round ends."""
    angle = np.arctan2(*(b - a)[::-1])
    turn = np.linspace(-np.pi / 2, np.pi / 2, corners)
    turns = ((b, angle + turn), (a, angle + np.pi + turn))
    return np.concatenate([end + radius * np.stack([np.cos(t), np.sin(t)], axis=1) for end, t in turns])


def _frame(ax, view):
    if view == "side":
        ax.axhspan(-0.08, 0, color="0.85", linewidth=0, zorder=1)
        ax.spines["bottom"].set_visible(False)
    ax.set_aspect("equal")
    ax.autoscale_view()
    ax.set(xlabel="x (m)", ylabel="z, height (m)" if view == "side" else "y (m)")
