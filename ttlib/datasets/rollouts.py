"""Rollouts: behaviour policies act in real MuJoCo, many environments in lock step.

One batched forward of the policy serves all environments. A new episode begins
only while fewer steps than wanted have been taken, and every episode that begins is
kept whole. So which episodes are kept does not depend on how they went, and none is
cut except by the environment's own time limit.
"""

import gymnasium
import numpy as np

import ttlib.envs  # noqa: F401  (registers the project's environments)


class _Recorder:
    """One environment and the episode that runs in it."""

    def __init__(self, env):
        self.env = env

    def begin(self, seed):
        observation, _ = self.env.reset(seed=seed)
        self.observations, self.actions, self.rewards = [observation], [], []

    def step(self, action):
        """Take one step; return the finished episode, or None while it goes on."""
        observation, reward, terminal, timeout, _ = self.env.step(action)
        self.actions.append(action)
        self.rewards.append(reward)
        if not (terminal or timeout):
            self.observations.append(observation)
            return None
        return {
            "observations": np.asarray(self.observations, dtype=np.float32),
            "actions": np.asarray(self.actions, dtype=np.float32),
            "rewards": np.asarray(self.rewards, dtype=np.float32),
            "terminal": bool(terminal),
        }


def rollout(env_id, behaviour, seed, steps=None, episodes=None, environments=8, on_step=None):
    """Let `behaviour` act, with sampled actions, until there is enough.

    Args:
        env_id: gymnasium environment; its time limit (1,000 steps in MuJoCo's) cuts episodes.
        behaviour: has `act(observations (E, N), rng) -> actions (E, M)`.
        seed: an integer or a sequence of integers; of resets and of the actions' noise.
        steps: begin no episode once this many steps are taken; or
        episodes: how many episodes to record.
        environments: how many run in lock step. The data depend on it.
        on_step: called with the number of steps just taken.

    Returns:
        List of episodes for `Trajectories.from_episodes`; one of a single step is no trajectory and is left out.
    """
    if (steps is None) == (episodes is None):
        raise ValueError("rollout needs either steps or episodes.")
    rng = np.random.default_rng(seed)
    count = min(environments, episodes or environments)
    recorders = [_Recorder(gymnasium.make(env_id, disable_env_checker=True)) for _ in range(count)]
    finished, taken, begun = [], 0, 0

    def begin(recorder):
        nonlocal begun
        if begun < episodes if steps is None else taken < steps:
            recorder.begin(int(rng.integers(2**31)))
            begun += 1
            return True
        return False

    running = [recorder for recorder in recorders if begin(recorder)]
    while running:
        actions = behaviour.act(np.stack([recorder.observations[-1] for recorder in running]), rng)
        taken += len(running)
        if on_step:
            on_step(len(running))
        going_on = []
        for recorder, action in zip(running, actions, strict=True):
            episode = recorder.step(action)
            if episode is not None and len(episode["rewards"]) > 1:
                finished.append(episode)
            if episode is None or begin(recorder):
                going_on.append(recorder)
        running = going_on
    for recorder in recorders:
        recorder.env.close()
    return finished


def mean_return(episodes):
    """Mean undiscounted return of recorded episodes."""
    return float(np.mean([episode["rewards"].sum(dtype=np.float64) for episode in episodes]))
