"""The ant that goes where it is told: what a walker learns in before it is led through mazes.

On flat ground and without walls the ant is sent to one waypoint after the other. It sees its body
and where the waypoint lies, as seen from its body: an ant that faces north and goes north need not
learn anew how to face east and go east. Waypoints lie as far away as neighbouring cells do, the new
one in any direction, and it gets a new one on the way, too. An ant that falls is given up.

It goes in any direction and is asked to face east all the while, as the ants of AntMaze do when they
begin. One that turns about itself records each gait in each orientation, which is many times as much
for a model of its walks to learn. And an ant has four sides alike: its legs are counted from the side
that is ahead, so that what it learns is a single gait, within 45 degrees of straight ahead. Its motors
are disturbed as they will be in the mazes: without this it learns a gait that the noise there overturns.
And it has a fifth of its torques only: with all of them it runs, and falls every 600 steps.
"""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from ttlib.envs.bodies import BodyEnv
from ttlib.envs.guide import NOISE

# The share of its torques that it uses. Falls in 1,000 steps on flat ground, with the noise, and m/s along its way,
# after 1.2 to 2.4 million steps: 1.67 and 1.40 with all of them, 0.17 and 1.31 with 0.35, 0.08 and 1.23 with 0.3,
# 0.04 and 1.15 with 0.25, 0.00 and 1.08 with 0.2.
STRENGTH = 0.2
FALLEN = -0.2  # below this cosine of its tilt an ant lies
FAR = (2.0, 6.0)  # metres to a new waypoint
NEAR = 1.0  # metres within which a waypoint is reached
STAYS = (50, 200)  # steps after which a waypoint is given up
TURNED = np.pi / 2  # how far from east, either way, an ant faces at most when it begins


class AntWalker(BodyEnv):
    """An ant on flat ground.

    Observation (30,) float32 and action (8,) in [-1, 1], of which `STRENGTH` is done: see `from_the_body` and
    `to_the_legs`. Reward, with the velocity v (m/s), the direction d, the cosine of the tilt `up`, and the angle
    `facing` from east in (-pi, pi]:

        1.5 min(v.d, 4) - 0.3 |v x d| + 0.5 - 0.1 |a|^2 + 0.2 up - 0.5 |facing|

    and -5 where it falls, which ends the episode.

    Raises:
        ValueError: an unknown render mode.
    """

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"the walker has no render mode {render_mode!r}; there is 'rgb_array'.")
        self.render_mode = render_mode
        self.body = AntEnv(include_cfrc_ext_in_observation=False, render_mode=render_mode)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape=(30,), dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape=(self.body.model.nu,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        rng = self.np_random
        self.body.reset(seed=int(rng.integers(2**31)))
        pose, velocity = self.body.data.qpos.copy(), self.body.data.qvel.copy()
        turn = rng.uniform(-TURNED, TURNED)
        pose[3:7] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
        self.body.set_state(pose, velocity)
        self._new_waypoint()
        return self._observation(), {}

    def step(self, action):
        action = np.clip(np.asarray(action, dtype=float), -1, 1)
        before, direction = self.body.data.qpos[:2].copy(), self._direction()
        legs = to_the_legs(action, side_ahead(self._state(), direction)) + NOISE * self.np_random.standard_normal(8)
        self.body.do_simulation(STRENGTH * legs.clip(-1, 1), self.body.frame_skip)
        velocity = (self.body.data.qpos[:2] - before) / self.body.dt
        along, across = velocity @ direction, velocity[0] * direction[1] - velocity[1] * direction[0]
        up, turned = upright(self.body.data.qpos[3:7]), abs(facing(self.body.data.qpos[3:7]))
        reward = 1.5 * min(along, 4.0) - 0.3 * abs(across) + 0.5 - 0.1 * np.square(action).sum() + 0.2 * up
        reward -= 0.5 * turned
        fallen = up < FALLEN
        self.left -= 1
        if self.left == 0 or np.linalg.norm(self.waypoint - self.body.data.qpos[:2]) < NEAR:
            self._new_waypoint()
        info = {"along": float(along), "up": float(up)}
        return self._observation(), float(-5.0 if fallen else reward), bool(fallen), False, info

    def render(self):
        return self.body.render()

    def _new_waypoint(self):
        angle, far = self.np_random.uniform(0, 2 * np.pi), self.np_random.uniform(*FAR)
        self.waypoint = self.body.data.qpos[:2] + far * np.array([np.cos(angle), np.sin(angle)])
        self.left = int(self.np_random.integers(STAYS[0], STAYS[1] + 1))

    def _direction(self):
        """(2,) unit vector to the waypoint."""
        way = self.waypoint - self.body.data.qpos[:2]
        return way / max(np.linalg.norm(way), 1e-6)

    def _state(self):
        return np.concatenate([self.body.data.qpos[2:], self.body.data.qvel])

    def _observation(self):
        return from_the_body(self._state(), self._direction()).astype(np.float32)


def from_the_body(states, directions):
    """What a walker sees of ants in the states (..., 27) that are to go in the directions (..., 2).

    Args:
        states: as `AntMaze` shows them, without x and y: height, orientation (4), joints (8), velocity (3), spin (3,
            about the body's own axes), velocities of the joints (8). The velocity is that in the world.
        directions: unit vectors in the world.

    Returns:
        (..., 30): height, where up is (3), joints (8), velocity (3), spin (3), velocities of the joints (8), direction
        (2), all with the `side_ahead` as the front and with velocity and direction turned about the vertical, so that
        the front faces along x; and the direction of east (2) as seen from the ant's own front.
    """
    ahead = recounted(states, side_ahead(states, directions))
    w, x, y, z = np.moveaxis(ahead[..., 1:5], -1, 0)
    up = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), upright(ahead[..., 1:5])], axis=-1)
    angle = facing(ahead[..., 1:5])
    height, joints, speed, rest = ahead[..., :1], ahead[..., 5:13], ahead[..., 13:15], ahead[..., 15:]
    east = turned(np.broadcast_to([1.0, 0.0], directions.shape), -facing(states[..., 1:5]))
    return np.concatenate([height, up, joints, turned(speed, -angle), rest, turned(directions, -angle), east], axis=-1)


def side_ahead(states, directions):
    """(...) int: which side of ants in the states (..., 27) the directions (..., 2) point to.

    0 is the front, 1 the left, 2 the back, 3 the right side.
    """
    way = np.arctan2(directions[..., 1], directions[..., 0]) - facing(states[..., 1:5])
    return np.round(way / (np.pi / 2)).astype(int) % 4


def recounted(states, side):
    """The same states (..., 27) where `side` (...) counts as the front: the legs after it come first.

    An ant's legs stand counter-clockwise, and so do the sides between them; nothing else tells one from the other.
    """
    w, x, y, z = np.moveaxis(states[..., 1:5], -1, 0)
    cosine, sine = np.cos(side * np.pi / 4), np.sin(side * np.pi / 4)  # of half the angle
    orientation = [w * cosine - z * sine, x * cosine + y * sine, y * cosine - x * sine, z * cosine + w * sine]
    spin = turned(states[..., 16:18], -side * np.pi / 2)
    order, sign = _legs(side)
    joints, speeds = (np.take_along_axis(states[..., at : at + 8], order, axis=-1) * sign for at in (5, 19))
    parts = [states[..., :1], np.stack(orientation, axis=-1), joints, states[..., 13:16], spin, states[..., 18:19]]
    return np.concatenate([*parts, speeds], axis=-1)


def to_the_legs(actions, side):
    """Actions (..., 8) of ants whose `side` (...) counted as the front, as `AntMaze` takes them."""
    order, sign = _legs(-np.asarray(side))
    joints = np.take_along_axis(actions[..., FROM_MOTORS], order, axis=-1) * sign
    return joints[..., TO_MOTORS]


# The motors are those of leg 4, 1, 2, 3, two each; the joints of leg 1, 2, 3, 4.
FROM_MOTORS, TO_MOTORS = np.roll(np.arange(8), -2), np.roll(np.arange(8), 2)
# Hips turn about the vertical; ankles of the legs 2 and 3 bend the other way.
BENDS = np.array([1, 1, 1, -1, 1, -1, 1, 1])


def _legs(side):
    """(..., 8) which joint comes where once the legs are counted from `side` (...), and the sign that it then has."""
    order = (np.arange(8) + 2 * np.asarray(side)[..., None]) % 8
    return order, BENDS * BENDS[order]


def turned(vectors, angle):
    """Vectors (..., 2) turned counter-clockwise by `angle` (...)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def facing(quaternions):
    """(...) angle from east, about the vertical, that bodies with orientations (..., 4) face, in (-pi, pi]."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))


def upright(quaternions):
    """(...) cosine of the tilt of bodies with orientations (..., 4), real part first: 1 upright, -1 on the back."""
    return 1 - 2 * (quaternions[..., 1] ** 2 + quaternions[..., 2] ** 2)
