"""Evaluation: a controller in many environments in lock step, so that all of their plans are one batch.

rollouts = evaluate("Hopper-v5", controller, episodes=10, seed=0)
rollouts.returns.mean()
"""

from dataclasses import dataclass, field

import gymnasium
import numpy as np

from ttlib.progress import progress


@dataclass
class Rollouts:
    """What a controller did.

    Attributes:
        returns, lengths: (E,) undiscounted return and steps of each episode.
        terminals: (E,) bool, whether it ended by a terminal.
        episodes: one dict each: observations (L + 1, N), actions (L, M), rewards (L,), and
            `recorded`, what `record` gave before each step and after the last.
    """

    returns: np.ndarray
    lengths: np.ndarray
    terminals: np.ndarray
    episodes: list = field(repr=False)


def evaluate(make_env, controller, episodes, seed, max_steps=None, record=None, options=None):
    """Run `controller` in `episodes` environments in lock step; episode i is reset with seed + i.

    Args:
        make_env: an environment id, or a function that makes a gymnasium environment.
        controller: anything with reset, act, observe and drop.
        max_steps: stop after so many steps even where the environment would go on.
        record: function of an unwrapped environment, called at each step, such as
            `lambda env: env.data.qpos.copy()` for drawing.
        options: one dict of reset options an episode.

    Returns:
        `Rollouts`.

    Raises:
        ValueError: the environment is not the one of the data that the controller's model was trained on.
    """
    envs = [gymnasium.make(make_env) if isinstance(make_env, str) else make_env() for _ in range(episodes)]
    _check_fit(envs[0], controller)
    resets = [env.reset(seed=seed + i, options=options[i] if options else None) for i, env in enumerate(envs)]
    observation = np.stack([first for first, _ in resets])
    runs = [
        {"observations": [first], "actions": [], "rewards": [], "recorded": [], "terminal": False}
        for first, _ in resets
    ]
    going = np.arange(episodes)
    controller.reset(episodes)
    bar = progress(total=max_steps, label="steps")
    while len(going):
        actions = controller.act(observation)
        rewards, ended, following = np.zeros(len(going)), np.zeros(len(going), dtype=bool), []
        for row, number in enumerate(going):
            run, env = runs[number], envs[number]
            if record:
                run["recorded"].append(record(env.unwrapped))
            seen, rewards[row], terminal, truncated, _ = env.step(actions[row])
            following.append(seen)
            run["observations"].append(seen)
            run["actions"].append(actions[row])
            run["rewards"].append(rewards[row])
            run["terminal"] = bool(terminal)
            ended[row] = terminal or truncated or len(run["rewards"]) == max_steps
            if record and ended[row]:
                run["recorded"].append(record(env.unwrapped))
        controller.observe(rewards)
        observation = np.stack(following)
        if ended.any():
            controller.drop(~ended)
            observation, going = observation[~ended], going[~ended]
        bar.set_postfix(going=len(going), refresh=False)
        bar.update()
    bar.close()
    for env in envs:
        env.close()
    for run in runs:
        for key in ("observations", "actions", "rewards", "recorded"):
            run[key] = np.array(run[key])
    return Rollouts(
        np.array([run["rewards"].sum() for run in runs]),
        np.array([len(run["rewards"]) for run in runs]),
        np.array([run["terminal"] for run in runs]),
        runs,
    )


def _check_fit(env, controller):
    tokenizer = getattr(controller, "tokenizer", None)
    if not tokenizer:
        return
    env_id = env.spec.id if env.spec else ""
    if env_id and tokenizer.env_id and env_id != tokenizer.env_id:
        raise ValueError(
            f"this model was trained on data of {tokenizer.env_id}, not of {env_id}; evaluate it in "
            f"{tokenizer.env_id}: bodies and rewards differ between environments, and between versions of one."
        )
    tokenizer.check(env.observation_space.shape[0], env.action_space.shape[0])
