"""The ant that goes where it is told: what a walker learns in before it is led through mazes.

On flat ground and without walls the ant is sent to one waypoint after the other. It sees its body
and where the waypoint lies, as seen from its body: an ant that faces north and goes north need not
learn anew how to face east and go east. Waypoints lie as far away as neighbouring cells do, the new
one in any direction, and it gets a new one on the way, too. An ant that falls is given up.
"""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from ttlib.envs.bodies import BodyEnv

FALLEN = -0.2  # below this cosine of its tilt an ant lies
FAR = (2.0, 6.0)  # metres to a new waypoint
NEAR = 1.0  # metres within which a waypoint is reached
STAYS = (50, 200)  # steps after which a waypoint is given up


class AntWalker(BodyEnv):
    """An ant on flat ground.

    Observation (28,) float32: see `from_the_body`. Action: (8,) in [-1, 1]. Reward, with the velocity v (m/s), the
    direction d and the cosine of the tilt `up`:

        1.5 min(v.d, 4) - 0.3 |v x d| + 0.5 - 0.1 |a|^2 + 0.2 up

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
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape=(28,), dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape=(self.body.model.nu,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        rng = self.np_random
        self.body.reset(seed=int(rng.integers(2**31)))
        pose, velocity = self.body.data.qpos.copy(), self.body.data.qvel.copy()
        turn = rng.uniform(0, 2 * np.pi)
        pose[3:7] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
        self.body.set_state(pose, velocity)
        self._new_waypoint()
        return self._observation(), {}

    def step(self, action):
        action = np.clip(np.asarray(action, dtype=float), -1, 1)
        before, direction = self.body.data.qpos[:2].copy(), self._direction()
        self.body.do_simulation(action, self.body.frame_skip)
        velocity = (self.body.data.qpos[:2] - before) / self.body.dt
        along, across = velocity @ direction, velocity[0] * direction[1] - velocity[1] * direction[0]
        up = upright(self.body.data.qpos[3:7])
        reward = 1.5 * min(along, 4.0) - 0.3 * abs(across) + 0.5 - 0.1 * np.square(action).sum() + 0.2 * up
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

    def _observation(self):
        state = np.concatenate([self.body.data.qpos[2:], self.body.data.qvel])
        return from_the_body(state, self._direction()).astype(np.float32)


def from_the_body(states, directions):
    """What a walker sees of ants in the states (..., 27) that are to go in the directions (..., 2).

    Args:
        states: as `AntMaze` shows them, without x and y: height, orientation (4), joints (8), velocity (3), spin (3,
            about the body's own axes), velocities of the joints (8). The velocity is that in the world.
        directions: unit vectors in the world.

    Returns:
        (..., 28): height, where up is (3), joints (8), velocity (3), spin (3), velocities of the joints (8), direction
        (2). Velocity and direction are turned about the vertical, so that the ant faces along x.
    """
    w, x, y, z = np.moveaxis(states[..., 1:5], -1, 0)
    up = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), upright(states[..., 1:5])], axis=-1)
    facing = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))

    def turned(vectors):
        east, north = vectors[..., 0], vectors[..., 1]
        along, across = np.cos(facing) * east + np.sin(facing) * north, np.cos(facing) * north - np.sin(facing) * east
        return np.stack([along, across], axis=-1)

    height, joints, speed, rest = states[..., :1], states[..., 5:13], states[..., 13:15], states[..., 15:]
    return np.concatenate([height, up, joints, turned(speed), rest, turned(directions)], axis=-1)


def upright(quaternions):
    """(...) cosine of the tilt of bodies with orientations (..., 4), real part first: 1 upright, -1 on the back."""
    return 1 - 2 * (quaternions[..., 1] ** 2 + quaternions[..., 2] ** 2)
