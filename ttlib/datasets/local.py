"""Local data sets: collected on first use in real MuJoCo by the shipped behaviours.

`data/behaviours/hopper.safetensors` holds policies; `load("local:hopper-medium")`
lets the ones named for that set act in `Hopper-v5`, checks the outcome against
`data/manifest.json` and caches it in `data/cache/local/`.

A new body is one row in `behaviours.RECIPES` and a shipped file; `python -m
ttlib.datasets.local manifest walker2d` then measures its rows of the manifest.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from ttlib import checkpoints
from ttlib.datasets.behaviours import RECIPES
from ttlib.datasets.policies import pack, unpack
from ttlib.datasets.rollouts import rollout
from ttlib.paths import ROOT
from ttlib.progress import progress
from ttlib.trajectories import Trajectories

TRANSITIONS = 200_000
KINDS = {"expert": ["expert"], "medium": ["medium"], "medium-replay": ["medium-replay"]}
KINDS["medium-expert"] = KINDS["medium"] + KINDS["expert"]
# Raised whenever collection changes, so that older caches are made again.
VERSION = 1
SEED = 0


@dataclass(frozen=True)
class LocalSet:
    """What is collected: `parts` are kinds of which every one gives at least TRANSITIONS steps."""

    body: str
    kind: str
    env_id: str

    @property
    def name(self):
        return f"{self.body}-{self.kind}"

    @property
    def parts(self):
        return KINDS[self.kind]


def names():
    """The names of the sets that behaviours collect, without the family `local:`."""
    return [f"{body}-{kind}" for body, recipe in RECIPES.items() for kind in recipe.kinds]


def find(name):
    """The `LocalSet` called `name`, e.g. "hopper-medium"; ValueError if there is none."""
    body, _, kind = name.partition("-")
    if body not in RECIPES or kind not in RECIPES[body].kinds:
        raise ValueError(f"there is no local data set {name!r}; there are {', '.join([*names(), 'four-rooms'])}.")
    return LocalSet(body, kind, RECIPES[body].env_id)


def load(name):
    """`Trajectories` of the local set `name`, collected and cached on first use.

    Raises:
        ValueError: no such set, or what was collected does not fit the manifest.
        FileNotFoundError: the behaviours of this body are not shipped.
        OSError: the cache cannot be written.
    """
    wanted = find(name)
    if len(wanted.parts) > 1:
        return _join([load(f"{wanted.body}-{part}") for part in wanted.parts], wanted)
    return kept(name, wanted.env_id, _origin(wanted), lambda: collect(wanted, TRANSITIONS))


def kept(name, env_id, origin, make, counted=None):
    """`Trajectories` of the local set `name` from its cache; made, checked and cached where there are none.

    Args:
        env_id: the environment in which models of these data are evaluated.
        origin: what the set is made from, plain values; what was made from something else is made again.
        make: function that gives the `Trajectories`.
        counted: see `check`.

    Raises:
        ValueError: what was made does not fit the manifest.
        OSError: the cache cannot be written.
    """
    path = ROOT / "data" / "cache" / "local" / f"{name}.safetensors"
    cached = _read(path, name, env_id, origin)
    if cached is not None:
        return cached
    trajectories = make()
    check(trajectories, name, counted)
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    tensors = {key: torch.from_numpy(getattr(trajectories, key).copy()) for key in keys}
    checkpoints.save(path, tensors, origin)
    return trajectories


def collect(wanted, transitions, seed=SEED, show=True):
    """Let the behaviours of `wanted` act, each for an equal share of `transitions` (to within an episode).

    Args:
        wanted: a `LocalSet` of one part.
        transitions: how many steps at least.
        seed: the same one gives the same data on one machine.
        show: whether a bar is shown.
    """
    behaviours = acting(wanted.body, wanted.kind)
    share = -(-transitions // len(behaviours))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the policies are tiny
    episodes = []
    try:
        with progress(total=transitions, label=f"collecting {wanted.name}", shown=show, unit=" steps") as bar:
            for index, behaviour in enumerate(behaviours):
                number = list(KINDS).index(wanted.kind)
                few = max(1, min(8, share // 2000))  # so that a small share is not all first episodes
                episodes += rollout(wanted.env_id, behaviour, (seed, number, index), share, None, few, bar.update)
    finally:
        torch.set_num_threads(threads)
    return Trajectories.from_episodes(episodes, name=f"local:{wanted.name}", env_id=wanted.env_id)


def statistics(trajectories, counted=None):
    """What the manifest compares: a dict of numbers and of lists with one number a dimension.

    Args:
        counted: (T,) bool, the steps whose observations and actions count; all of them if left out.
    """
    returns, lengths = trajectories.returns, trajectories.lengths
    counted = slice(None) if counted is None else counted
    observations, actions = trajectories.observations[counted], trajectories.actions[counted]
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "length_mean": float(lengths.mean()),
        "terminal_share": float(trajectories.terminals.sum() / len(lengths)),
        "observation_mean": observations.mean(axis=0, dtype=np.float64).tolist(),
        "observation_std": observations.std(axis=0, dtype=np.float64).tolist(),
        "action_mean": actions.mean(axis=0, dtype=np.float64).tolist(),
        "action_std": actions.std(axis=0, dtype=np.float64).tolist(),
    }


def check(trajectories, name, counted=None):
    """Refuse data whose statistics lie outside of what the manifest allows for `name`.

    Args:
        counted: function from `Trajectories` to what `statistics` counts.

    Raises:
        ValueError: a statistic differs by more than its tolerance; the sentence names it.
        FileNotFoundError: there is no manifest.
    """
    expected = manifest().get(name)
    if expected is None:
        maze = name.partition("-")[0].endswith("maze")
        command = f"maze_walks manifest {name}" if maze else f"local manifest {name.partition('-')[0]}"
        raise ValueError(
            f"data/manifest.json says nothing about {name!r}; run `python -m ttlib.datasets.{command}` to measure it."
        )
    if len(trajectories) < expected["transitions"]:
        raise ValueError(
            f"{name} has {len(trajectories):,} transitions, but at least {expected['transitions']:,} are due."
        )
    for key, value in statistics(trajectories, counted and counted(trajectories)).items():
        value, mean, tolerance = (np.atleast_1d(v) for v in (value, expected["mean"][key], expected["tolerance"][key]))
        if len(value) != len(mean):
            raise ValueError(f"{name} has {len(value)} dimensions in {key}, but data/manifest.json has {len(mean)}.")
        worst = int(np.argmax(np.abs(value - mean) - tolerance))
        if abs(value[worst] - mean[worst]) > tolerance[worst]:
            at = f"[{worst}]" if len(value) > 1 else ""
            raise ValueError(
                f"the data collected for {name} do not fit data/manifest.json: {key}{at} is {value[worst]:.4g} where "
                f"{mean[worst]:.4g} ± {tolerance[worst]:.2g} is due; the installed gymnasium or mujoco may simulate "
                "another body: install the versions in requirements.lock."
            )


def measure_manifest(body, kinds=None, seeds=6, transitions=50_000):
    """Rows of the manifest for `body`, see `keep_rows`. `kinds` are all of one part where they are left out."""
    kinds = kinds or [kind for kind in RECIPES[body].kinds if len(KINDS[kind]) == 1]
    sets = [find(f"{body}-{kind}") for kind in kinds]
    keep_rows({wanted.name: (wanted.env_id, TRANSITIONS, wanted) for wanted in sets}, _measure, seeds, transitions)


def keep_rows(sets, measure, seeds=6, transitions=50_000):
    """Measure rows of the manifest: means over collections with `seeds` seeds, tolerances from their spread.

    Another machine's rounding soon leads to other episodes of the same policies, so its
    data differ from ours as another seed's do. A tolerance is six standard deviations
    between seeds, see `tolerances`; `transitions` are fewer than a whole set has, which
    takes less time and makes it wider.

    Args:
        sets: name -> (environment, transitions of the whole set, what `measure` is called with).
        measure: function at the top of a module, of the last of these, `transitions` and a seed; gives `statistics`.
    """
    path = ROOT / "data" / "manifest.json"
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, (env_id, whole, wanted) in sets.items():
            jobs = [pool.submit(measure, wanted, transitions, SEED + 1 + number) for number in range(seeds)]
            runs = [job.result() for job in jobs]
            mean, tolerance = tolerances(runs)
            row = {
                "env_id": env_id,
                "transitions": whole,
                "measured": {"seeds": seeds, "transitions": transitions},
                "mean": {key: np.round(value, 5).tolist() for key, value in mean.items()},
                "tolerance": {key: np.round(value, 5).tolist() for key, value in tolerance.items()},
            }
            rows = (manifest() if path.exists() else {}) | {name: row}
            with checkpoints.written_atomically(path) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n")


def tolerances(runs):
    """Means over several collections' `statistics`, and how far another collection may be from them.

    That is six standard deviations between the collections, and at least 1% of the mean's size. Of a few
    collections a dimension can differ too little by chance, so each counts at least like the median one, in units of
    its own standard deviation.
    """
    mean = {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}
    spread = {key: np.std([run[key] for run in runs], axis=0, ddof=1) for key in runs[0]}
    for kind in ("observation", "action"):
        size = np.maximum(mean[f"{kind}_std"], 1e-9)
        for key in (f"{kind}_mean", f"{kind}_std"):
            spread[key] = np.maximum(spread[key], np.median(spread[key] / size) * size)
    return mean, {key: np.maximum(6 * spread[key], 0.01 * np.abs(mean[key])) for key in mean}


def _measure(wanted, transitions, seed):
    return statistics(collect(wanted, transitions, seed, show=False))


def manifest():
    """The rows of `data/manifest.json`: name -> what data collected for this set must be like."""
    path = ROOT / "data" / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, so what is collected cannot be checked; restore it with git.")
    return json.loads(path.read_text())


def acting(body, kind):
    """The shipped behaviours of `body` that act in sets of this kind."""
    path = ROOT / "data" / "behaviours" / f"{body}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; restore it with git, or train the behaviours with "
            f"`python -m ttlib.datasets.behaviours train {body}` and `python -m ttlib.datasets.ship {body} FOLDER`."
        )
    tensors, description = checkpoints.load(path)
    return [b for b in unpack(tensors, description["behaviours"]) if kind in b.info["sets"]]


def _origin(wanted):
    """What a cached file must have been made from to be used."""
    digest = hashlib.sha256()
    for part in wanted.parts:
        for _, tensor in sorted(pack(acting(wanted.body, part)).items()):
            digest.update(tensor.numpy().tobytes())
    behaviours = digest.hexdigest()[:16]
    return {"name": wanted.name, "behaviours": behaviours, "version": VERSION, "seed": SEED, "transitions": TRANSITIONS}


def _read(path, name, env_id, origin):
    """The cached `Trajectories`, or None where there are none of this origin or the file is damaged."""
    if not path.exists():
        return None
    try:
        tensors, description = checkpoints.load(path)
    except ValueError:
        return None  # a cache is made again
    if description != origin:
        return None
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    return Trajectories(**arrays, name=f"local:{name}", env_id=env_id)


def _join(parts, wanted):
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    joined = {key: np.concatenate([getattr(part, key) for part in parts]) for key in keys}
    return replace(parts[0], **joined, name=f"local:{wanted.name}")


def main():
    parser = argparse.ArgumentParser(description="Measure the manifest of the local data sets.")
    parser.add_argument("command", choices=["manifest"])
    parser.add_argument("body", choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="all of the body's when left out")
    options = parser.parse_args()
    try:
        measure_manifest(options.body, options.kinds, options.seeds)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
