"""A world so small that what happens in it can be said by hand."""

import gymnasium
import numpy as np


class Line(gymnasium.Env):
    """A point on a line: moves by its action, is paid its position, ends as a terminal past 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1, 0)) if not options else options["place"]
        self.steps = 0
        return self.observation(), {}

    def observation(self):
        return np.array([self.place, self.steps], dtype=np.float32)

    def step(self, action):
        self.place += float(action[0])
        self.steps += 1
        return self.observation(), self.place, self.place > 1, self.steps >= 12, {}
