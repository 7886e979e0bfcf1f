"""Rollouts: what a study's job does from data to scores, and the record of all jobs.

A job trains a method (or loads what is shipped), acts in the environment of its data, and keeps
the scores. Episodes begin from the evaluation's own seeds, the same for all methods.
"""

import hashlib
import json
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch

import ttlib.envs  # noqa: F401  (registers the environments)
from ttlib.checkpoints import written_atomically
from ttlib.datasets import load, normalized_score
from ttlib.evaluation import evaluate
from ttlib.provenance import commit, describe_device, lock_hash, peak_mib
from ttlib.records import Record
from ttlib.studies import jobs
from ttlib.studies.methods import METHODS, for_set, needed, settings_of
from ttlib.studies.resume import Resumed


def complete(job, root=None):
    """A job with all that its result depends on: every setting, and a hash of the model it plans with.

    Raises:
        ValueError: a setting that the method does not have.
        FileNotFoundError: the model is missing.
    """
    models = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in needed(job, root)]
    return job | {"settings": settings_of(job), "evaluation": for_set(job, "evaluation"), "models": models}


def work(job, folder):
    """Do a complete job in its folder; gives its row of the record. See `jobs.do`.

    Raises:
        ValueError, OSError: the data, the settings or the checkpoint are not what they must be.
    """
    torch.set_num_threads(1)  # jobs run side by side
    tell = jobs.Teller(job)
    tell("starts", now=True)
    trajectories = load(job["dataset"])
    env_id = job["env_id"] or trajectories.env_id
    if not env_id:
        raise ValueError(f"{job['dataset']} names no environment; give it one under `environments` of the study.")
    zero, one = normalized_score(env_id, np.array([0.0, 1.0]))  # refuses an environment before any work is done
    check_spaces(env_id, trajectories)
    make, notes = METHODS[job["method"]][1](job, trajectories, folder, tell)
    rollouts = roll_out(job, env_id, make, folder, tell)
    returns = np.array(rollouts["returns"])
    raw_error = float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else None
    row = {
        "dataset": job["dataset"],
        "method": job["method"],
        "seed": job["seed"],
        "rollouts": len(returns),
        "score": float(normalized_score(env_id, returns.mean())),
        "standard_error": None if raw_error is None else raw_error * float(one - zero),
        "raw_return": float(returns.mean()),
        "raw_standard_error": raw_error,
        "data_return": float(trajectories.returns.mean()),
        "mean_length": float(np.mean(rollouts["lengths"])),
        "returns": [round(value, 2) for value in rollouts["returns"]],
        "settings": job["settings"] | {"evaluation": job["evaluation"], "models": job["models"]},
        "provenance": {
            "commit": commit(),
            "lock": lock_hash(),
            "fingerprint": trajectories.fingerprint(),
            "env_id": env_id,
            "device": describe_device() if job["device"] != "cpu" else "cpu, one thread",
            "torch": torch.__version__,
            **notes,
            "rollout_minutes": round(rollouts["seconds"] / 60, 2),
            "peak_mib": peak_mib(),
        },
    }
    tell(f"score {row['score']:.1f} of {len(returns)} rollouts", now=True)
    return {"row": row}


def check_spaces(env_id, trajectories):
    """Raise ValueError unless there is such an environment, and its numbers are as many as the data's."""
    try:
        env = gymnasium.make(env_id)
    except gymnasium.error.Error as error:
        raise ValueError(f"{trajectories.name} cannot be evaluated: {error}") from error
    theirs = env.observation_space.shape, env.action_space.shape
    env.close()
    ours = (trajectories.observation_dim,), (trajectories.action_dim,)
    if theirs != ours:
        raise ValueError(
            f"observations and actions of {trajectories.name} have shapes {ours[0]} and {ours[1]}, those of {env_id} "
            f"{theirs[0]} and {theirs[1]}; give the data another one under `environments` of the study."
        )


def roll_out(job, env_id, make, folder, tell):
    """{"returns", "lengths", "seconds"} of the job's rollouts, so many at once in lock step, kept after each batch
    and, of a planner, within one.

    Rollout i of a job begins from the evaluation's seed + 1000 x the job's seed + i, whatever the method.
    """
    asked, path = job["evaluation"], folder / "rollouts.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"returns": [], "lengths": [], "seconds": 0.0}
    while (done := len(kept["returns"])) < asked["rollouts"]:
        began, count = time.monotonic(), min(asked["together"], asked["rollouts"] - done)
        seed = asked["seed"] + 1000 * job["seed"] + done
        controller, half_done = make(seed), folder / f"half-done-{done}.safetensors"
        if hasattr(controller, "memory"):  # it plans, so that a batch may take hours
            controller = Resumed(controller, half_done, {"seed": seed, "episodes": count})
        controller = _Told(controller, lambda step: tell(f"rollouts {done + 1} to {done + count}, step {step}"))
        found = evaluate(env_id, controller, count, seed, asked["max_steps"])
        kept["returns"] += found.returns.tolist()
        kept["lengths"] += found.lengths.tolist()
        kept["seconds"] += time.monotonic() - began + getattr(controller, "spent", 0.0)
        with written_atomically(path) as temporary:
            temporary.write_text(json.dumps(kept))
        half_done.unlink(missing_ok=True)
    return kept


class _Told:
    """A controller that says which step it is at."""

    def __init__(self, controller, tell):
        self.controller, self.tell, self.step = controller, tell, 0

    def act(self, observations):
        self.step += 1
        self.tell(self.step)
        return self.controller.act(observations)

    def __getattr__(self, name):
        return getattr(self.controller, name)


def record(study, config):
    """The `Record` of a study, not yet written and without claims, from the results of all of its jobs.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    asked = {name: complete(job) for name, job in jobs.listed(config, METHODS).items()}
    rows = [result["row"] for result in jobs.results(study, asked)]
    seeds = sorted({row["seed"] for row in rows})
    fingerprints = {row["dataset"]: row["provenance"]["fingerprint"] for row in rows}
    gathered = Record(study, "studies", config, [*seeds, config["evaluation"]["seed"]], fingerprints, rows)
    took = [row["provenance"].get("training_minutes", 0.0) for row in rows if not row["method"].startswith("tt-")]
    took += [row["provenance"]["rollout_minutes"] for row in rows]
    gathered.started -= 60 * sum(took)  # what the jobs took, not what collecting their results does
    return gathered


def main(study, gather, description, arguments=None):
    """The command line of a study whose jobs are those of this module; see `jobs.main`."""
    return jobs.main(study, lambda job: jobs.do(study, complete(job), work), gather, description, arguments)
