"""Environments of our own around a MuJoCo environment of gymnasium: who draws or records one finds the body in it."""

import gymnasium


class BodyEnv(gymnasium.Env):
    """Has `body`, the MuJoCo environment that it simulates; its model, data and time step are this one's."""

    def close(self):
        self.body.close()

    @property
    def model(self):
        return self.body.model

    @property
    def data(self):
        return self.body.data

    @property
    def dt(self):
        """Seconds in a step."""
        return self.body.dt
