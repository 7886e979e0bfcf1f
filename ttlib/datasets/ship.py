"""Ship: choose, from training runs, the few policies that the local data sets are made of.

    python -m ttlib.datasets.ship hopper data/cache/behaviours/hopper-0 data/cache/behaviours/hopper-1

measures the snapshots of each run by rollouts of sampled actions and writes
`data/behaviours/hopper.safetensors`: policy weights only, each one's info naming the
sets that it acts in. The run with the better expert is used for all of them.

- expert: of the second half's snapshots the five best over a few episodes are
  measured again on other seeds; the best of them then. Not the last ones only: a
  policy can go on to become faster and fall more often.
- medium: three consecutive snapshots whose mean score is nearest to a third of the
  expert's, among those before the run first passes two thirds of it.
- medium-replay: every snapshot up to the middle one of these.

A body whose recipe makes expert data only has the first of these.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ttlib import checkpoints
from ttlib.datasets.behaviours import RECIPES
from ttlib.datasets.policies import pack, unpack
from ttlib.datasets.rollouts import mean_return, rollout
from ttlib.datasets.scores import normalized_score
from ttlib.paths import ROOT
from ttlib.progress import progress
from ttlib.provenance import commit

# Seeds that choose are no seeds that collect: those of `local` begin with another number.
FIRST_LOOK, SECOND_LOOK = 101, 102


def ship(name, runs, out=None, look=10, second_look=40):
    """Choose the behaviours of `name` from the folders `runs` and write them to `out`.

    Args:
        look, second_look: episodes of each late snapshot, and of the five best of these.

    Raises:
        ValueError: no recipe of that name, or damaged snapshots.
        FileNotFoundError: a folder without snapshots.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    recipe, out = RECIPES[name], Path(out or ROOT / "data" / "behaviours" / f"{name}.safetensors")
    torch.set_num_threads(1)
    found = []
    for folder in map(Path, runs):
        snapshots = unpack(*checkpoints.load(folder / "snapshots.safetensors"))
        _, state = checkpoints.load(folder / "ppo.safetensors")
        index, expert_return = _expert(recipe.env_id, snapshots, look, second_look)
        steps, minutes = snapshots[-1].info["steps"], state["seconds"] / 60
        found.append(
            {"folder": folder.name, "steps": steps, "minutes": minutes, "expert": index, "return": expert_return}
        )
        print(f"{folder.name}: expert at {snapshots[index].info['steps']:,} steps returns {expert_return:.0f}")
        if expert_return == max(run["return"] for run in found):
            best, chosen = found[-1], snapshots
    early = []
    if "medium" in recipe.kinds:
        expert_score = normalized_score(recipe.env_id, best["return"])
        medium, early = _medium(recipe.env_id, chosen, expert_score, second_look)
        for index in range(medium + 1):
            chosen[index].info["sets"] = ["medium-replay"]
        for index in range(medium - 1, medium + 2):
            chosen[index].info.setdefault("sets", []).append("medium")
    chosen[best["expert"]].info["sets"] = ["expert"]
    for index, value in [*enumerate(early), (best["expert"], best["return"])]:
        chosen[index].info["measured_return"] = round(value, 1)
    kept = [behaviour for behaviour in chosen if "sets" in behaviour.info]
    description = {
        "behaviours": [behaviour.info for behaviour in kept],
        "recipe": asdict(recipe),
        "provenance": {
            "train": f"python -m ttlib.datasets.behaviours train {name} --seed SEED",
            "ship": f"python -m ttlib.datasets.ship {name} {' '.join(run['folder'] for run in found)} --look {look}",
            "runs": [
                {
                    "folder": run["folder"],
                    "steps": run["steps"],
                    "expert_return": round(run["return"], 1),
                    "minutes": round(run["minutes"], 1),
                    "used": run is best,
                }
                for run in found
            ],
            "device": "cpu, one thread a run",
            "commit": commit(),
        },
    }
    checkpoints.save(out, pack(kept), description)
    print(f"{out}: {len(kept)} behaviours, {out.stat().st_size / 2**20:.2f} MiB")
    return out


def _expert(env_id, snapshots, look, second_look):
    """Index and measured return of the best snapshot of the second half of the training."""
    half = snapshots[-1].info["steps"] / 2
    late = [index for index, snapshot in enumerate(snapshots) if snapshot.info["steps"] > half]
    first = {
        index: mean_return(rollout(env_id, snapshots[index], (FIRST_LOOK, index), episodes=look))
        for index in progress(late, label="expert, first look")
    }
    candidates = sorted(first, key=first.get)[-5:]
    second = {
        index: mean_return(rollout(env_id, snapshots[index], (SECOND_LOOK, index), episodes=second_look))
        for index in progress(candidates, label="expert, second look")
    }
    best = max(second, key=second.get)
    return best, second[best]


def _medium(env_id, snapshots, expert_score, look):
    """Middle index of the medium snapshots, and the measured returns of all up to two thirds of the expert's."""
    returns, scores = [], []
    for index, snapshot in enumerate(progress(snapshots, label="medium")):
        returns.append(mean_return(rollout(env_id, snapshot, (FIRST_LOOK, index), episodes=look)))
        scores.append(normalized_score(env_id, returns[-1]))
        if scores[-1] > expert_score * 2 / 3 and len(scores) >= 3:
            break
    means = np.convolve(scores, np.ones(3) / 3, mode="valid")
    return int(np.abs(means - expert_score / 3).argmin()) + 1, returns


def main():
    parser = argparse.ArgumentParser(description="Choose the behaviours that are shipped from training runs.")
    parser.add_argument("name")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--look", type=int, default=10, help="episodes by which the five candidates are found")
    options = parser.parse_args()
    try:
        ship(options.name, options.runs, options.out, options.look)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
