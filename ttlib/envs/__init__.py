"""Environments that the project makes itself; importing this package registers them with gymnasium.

`Humanoid45-v5` is gymnasium's Humanoid-v5 as the prediction study sees it: the positions without the
global x and y (22 numbers: height, orientation as a quaternion, 17 joint angles) and the velocities (23),
and no inertias, forces or contacts. Its 17 actions go from -1 to 1, as those of the other bodies do;
gymnasium's go from -0.4 to 0.4. The mazes are in `ant_maze`, what walks through them learns in `AntWalker-v0`.
"""

import gymnasium
import numpy as np
from gymnasium.envs.registration import WrapperSpec

gymnasium.register(id="FourRooms-v0", entry_point="ttlib.envs.four_rooms:FourRooms", max_episode_steps=None)
gymnasium.register(id="KeyToDoor-v0", entry_point="ttlib.envs.key_to_door:KeyToDoor", max_episode_steps=None)

_left_out = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
_bounds = {"min_action": np.float32(-1), "max_action": np.float32(1)}
gymnasium.register(
    id="Humanoid45-v5",
    entry_point="gymnasium.envs.mujoco.humanoid_v5:HumanoidEnv",
    max_episode_steps=1000,
    additional_wrappers=(WrapperSpec("RescaleAction", "gymnasium.wrappers:RescaleAction", _bounds),),
    kwargs={f"include_{name}_in_observation": False for name in _left_out},
)

# Steps: D4RL's for the ant. A point crosses a cell in about a quarter of the steps that an ant takes.
for _maze, _ant, _point in (("umaze", 700, 150), ("medium", 1000, 300), ("large", 1000, 400)):
    _name = {"umaze": "UMaze"}.get(_maze, _maze.title())
    for _id, _kind, _steps in (
        (f"AntMaze{_name}-v0", "AntMaze", _ant),
        (f"AntMaze{_name}-D4RL-v0", "D4RLAntMaze", _ant),
        (f"PointMaze{_name}-v0", "PointMaze", _point),
    ):
        gymnasium.register(
            id=_id, entry_point=f"ttlib.envs.ant_maze:{_kind}", max_episode_steps=_steps, kwargs={"maze": _maze}
        )
gymnasium.register(id="AntWalker-v0", entry_point="ttlib.envs.ant_walker:AntWalker", max_episode_steps=300)
