"""Environments that the project makes itself; importing this package registers them with gymnasium."""

import gymnasium

gymnasium.register(id="FourRooms-v0", entry_point="ttlib.envs.four_rooms:FourRooms", max_episode_steps=None)
gymnasium.register(id="KeyToDoor-v0", entry_point="ttlib.envs.key_to_door:KeyToDoor", max_episode_steps=None)
