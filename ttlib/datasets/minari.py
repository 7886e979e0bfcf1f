"""Minari's data sets, through the minari package.

They stand beside D4RL's and do not replace them: other policies in other versions
of the environments, so scores differ. The environment is the one that Minari recorded.
"""

import numpy as np

from ttlib.trajectories import Trajectories, drop_short_episodes


def load(name):
    """`Trajectories` of Minari's `name`, such as "mujoco/hopper/medium-v0", downloaded on first use.

    Raises:
        ValueError: minari is not installed, there is no such data set, or it is not numeric.
        OSError: it cannot be downloaded.
    """
    dataset = _open(name)
    parts = {key: [] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for episode in dataset.iterate_episodes():
        steps = len(episode.rewards)
        if not steps:
            continue
        parts["observations"].append(_flat(episode.observations, name)[:steps])  # the one after the last step is left
        parts["actions"].append(_flat(episode.actions, name))
        parts["rewards"].append(np.asarray(episode.rewards, dtype=np.float32))
        ends = np.asarray(episode.truncations, dtype=bool).copy()
        ends[-1] = True
        parts["terminals"].append(np.asarray(episode.terminations, dtype=bool))
        parts["timeouts"].append(ends & ~parts["terminals"][-1])
    if not parts["rewards"]:
        raise ValueError(f"the Minari data set {name!r} has no steps.")
    arrays = drop_short_episodes({key: np.concatenate(values) for key, values in parts.items()})
    spec = dataset.spec.env_spec
    try:
        return Trajectories(**arrays, name=f"minari:{name}", env_id=spec.id if spec else "")
    except ValueError as error:
        raise ValueError(f"the Minari data set {name!r} cannot be used: {error}") from error


def _open(name):
    try:
        import minari
    except ImportError as error:
        raise ValueError(
            f"minari:{name} is read by the package minari, which is not installed; "
            "install it with `pip install 'minari[hdf5]'`."
        ) from error
    try:
        return minari.load_dataset(name, download=True)
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise ValueError(
            f"there is no Minari data set {name!r} ({_first_line(error)}); `minari list remote` shows them."
        ) from error
    except Exception as error:  # the storage behind minari raises errors of its own, of many kinds
        raise OSError(
            f"the Minari data set {name!r} cannot be downloaded or opened ({_first_line(error)}); "
            "look after the network and run the same command again."
        ) from error


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _flat(values, name):
    """(L, D) float32. Of a maze's dictionary: where the agent is, then its own observation (D4RL's order)."""
    if isinstance(values, dict):
        if not {"achieved_goal", "observation"} <= set(values):
            raise ValueError(
                f"the Minari data set {name!r} observes {', '.join(values)}; only arrays, and dictionaries with "
                "achieved_goal and observation, can be read."
            )
        return np.concatenate([_flat(values[key], name) for key in ("achieved_goal", "observation")], axis=1)
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"the Minari data set {name!r} does not hold numbers in its observations and actions.")
    return values.reshape(len(values), -1).astype(np.float32)
