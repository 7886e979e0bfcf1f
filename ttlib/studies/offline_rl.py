"""Offline RL: planning with a Trajectory Transformer beside baselines on the same data, starts and rollouts.

`make study NAME=offline_rl` does every job of `studies/offline_rl.yaml`: train (or load what is
shipped), act in the environment, keep the scores. Episodes begin from the evaluation's own
seeds, the same for all methods. All job results go into `figures/studies/offline_rl.json`.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from ttlib.checkpoints import written_atomically
from ttlib.control import ReturnController, evaluate
from ttlib.datasets import load, normalized_score
from ttlib.model import load_model
from ttlib.paths import ROOT
from ttlib.provenance import commit, describe_device, lock_hash, peak_mib
from ttlib.records import Record
from ttlib.studies import jobs, scores

STUDY = "offline_rl"


def settings_of(job):
    """All settings of a job's method: what `studies/offline_rl.yaml` changes, over the defaults.

    Raises:
        ValueError: a name that the method does not have.
    """
    defaults = METHODS[job["method"]][0](job["dataset"])
    defaults.pop("seed", None)  # the job's
    unknown = sorted(job["settings"].keys() - defaults.keys())
    if unknown:
        raise ValueError(f"{job['method']} has no setting {', '.join(unknown)}; it has {', '.join(defaults)}.")
    return defaults | job["settings"]


# The methods: each has its default settings, a dict for a data set; and a function of the job, the data,
# the job's folder and a `Teller` that gives (function from a seed to a controller, notes for the row).


def _bc_settings(dataset):
    from ttlib.baselines.common import Settings

    return asdict(Settings())


def _bc(share):
    def make(job, trajectories, folder, tell):
        from ttlib.baselines import behaviour_cloning, common

        settings = _settings(common.Settings, job)
        told = _updates_told(tell, settings.updates)
        policy, curve = behaviour_cloning.train(trajectories, settings, share, folder, told, job["device"])
        return lambda seed: behaviour_cloning.PolicyController(policy), _trained(curve)

    return make


def _iql_settings(dataset):
    from ttlib.baselines import iql

    return asdict(iql.ANTMAZE if "antmaze" in dataset else iql.IQLSettings())


def _iql(job, trajectories, folder, tell):
    from ttlib.baselines import iql
    from ttlib.baselines.behaviour_cloning import PolicyController

    settings = _settings(iql.IQLSettings, job)
    agent, curve = iql.train(trajectories, settings, folder, _updates_told(tell, settings.updates), job["device"])
    return lambda seed: PolicyController(agent.policy), _trained(curve)


def _dt_settings(dataset):
    from ttlib.baselines.decision_training import Settings

    return asdict(Settings()) | {"target": None}


def _dt(job, trajectories, folder, tell):
    """Asks for `target`; if that is None, for what the authors ask of D4RL's sets and for the best return of others."""
    from ttlib.baselines import decision_training
    from ttlib.baselines.decision_transformer import DecisionTransformer, TargetController

    targets = {"hopper": 3600.0, "halfcheetah": 12000.0, "walker2d": 5000.0}
    target = job["settings"]["target"]
    if target is None:
        best = float(trajectories.returns.max())
        target = targets.get(_body(job["dataset"]), best) if job["dataset"].startswith("d4rl:") else best
    settings = _settings(decision_training.Settings, job)
    torch.manual_seed(settings.seed)
    model = DecisionTransformer(trajectories.observation_dim, trajectories.action_dim)
    model.standardise(trajectories.observations)
    stretches = decision_training.Stretches(trajectories, model.context)
    told = _updates_told(tell, settings.updates)
    curve = decision_training.train(model.to(job["device"]), stretches, settings, folder, told)
    return lambda seed: TargetController(model, target), _trained(curve) | {"target": target}


def planner(dataset):
    """The reference code's planner for a data set (its configuration file), with the paper's context."""
    horizon, beam_width, top_k = 15, 128, None
    body, kind = _body(dataset), _found("medium-expert|medium-replay|medium|expert", dataset)
    if body == "halfcheetah":
        horizon, beam_width = 15 if kind == "medium-expert" else 5, 32
    if body == "walker2d" and kind == "medium-expert":
        horizon = 5
    if body == "walker2d" and kind == "medium-replay":
        horizon, beam_width, top_k = 20, 32, 40
    if body == "ant":
        horizon = 5
    drop_mass = 0.6 if top_k is None else None
    chosen = {"horizon": horizon, "beam_width": beam_width, "top_k": top_k, "drop_mass": drop_mass}
    return chosen | {"expand": 2, "context": 5, "plan_every": 1}


def checkpoint_of(job, root=None):
    """The model that a job plans with, `data/checkpoints/<set>[-uniform][-seed].safetensors`, or None."""
    if not job["method"].startswith("tt-"):
        return None
    name = jobs.slug(job["dataset"].partition(":")[2]) + ("-uniform" if job["method"] == "tt-uniform" else "")
    seed = f"-{job['seed']}" if job["seed"] else ""
    return Path(root or ROOT) / "data" / "checkpoints" / f"{name}{seed}.safetensors"


def needed(job, root=None):
    """The files that must be there before a job can start, for Snakemake.

    Raises:
        FileNotFoundError: one is missing; the sentence says how to make it.
    """
    path = checkpoint_of(job, root)
    if path is None:
        return []
    if not path.is_file():
        method = job["method"].removeprefix("tt-")
        raise FileNotFoundError(
            f"{path} is missing; train it with `python -m ttlib.training --dataset {job['dataset']} --method {method} "
            f"--terminal-reward -100 --seed {job['seed']} --tokens 100e6 --out {path}`, or leave the method out."
        )
    return [str(path)]


def _tt(job, trajectories, folder, tell):
    path = checkpoint_of(job)
    needed(job)
    model, tokenizer, about = load_model(path, job["device"])
    method = job["method"].removeprefix("tt-")
    if about["fingerprint"] != trajectories.fingerprint() or tokenizer.method != method:
        raise ValueError(
            f"{path} was trained on {about['dataset']} ({about['fingerprint']}) with {tokenizer.method} bins, but "
            f"{job['dataset']} ({trajectories.fingerprint()}) with {method} bins is to be planned."
        )
    notes = {"trained_tokens": about["tokens"], "training_minutes": about.get("minutes")}
    return lambda seed: ReturnController(model, tokenizer, seed=seed, **job["settings"]), notes


METHODS = {
    "bc": (_bc_settings, _bc(1.0)),
    "bc10": (_bc_settings, _bc(0.1)),
    "iql": (_iql_settings, _iql),
    "dt": (_dt_settings, _dt),
    "tt-quantile": (planner, _tt),
    "tt-uniform": (planner, _tt),
}


def _body(dataset):
    return _found("hopper|halfcheetah|walker2d|antmaze|ant", dataset)


def _found(words, text):
    match = re.search(words, text)
    return match[0] if match else None


def _settings(kind, job):
    """A method's settings as the dataclass `kind`, with the job's seed."""
    names = {field.name for field in fields(kind)}
    values = {key: tuple(value) if key == "hidden" else value for key, value in job["settings"].items() if key in names}
    return kind(**values, seed=job["seed"])


def _trained(curve):
    """What a row says about training: the last row of the curve, and how long it all took."""
    last = {f"final_{key}": value for key, value in curve[-1].items() if key not in ("step", "seconds")}
    return last | {"training_minutes": round(sum(row["seconds"] for row in curve) / 60, 2)}


def _updates_told(tell, updates):
    return lambda row: tell(f"{row['step']:,} of {updates:,} updates")


# A job, from data to scores.


def complete(job, root=None):
    """A job with all that its result depends on: every setting, and a hash of the model it plans with.

    Raises:
        ValueError: a setting that the method does not have.
        FileNotFoundError: the model is missing.
    """
    models = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in needed(job, root)]
    return job | {"settings": settings_of(job), "models": models}


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


def roll_out(job, env_id, make, folder, tell):
    """{"returns", "lengths", "seconds"} of the job's rollouts, so many at once in lock step, kept after each batch.

    Rollout i of a job begins from the evaluation's seed + 1000 x the job's seed + i, whatever the method.
    """
    asked, path = job["evaluation"], folder / "rollouts.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"returns": [], "lengths": [], "seconds": 0.0}
    while (done := len(kept["returns"])) < asked["rollouts"]:
        began, count = time.monotonic(), min(asked["together"], asked["rollouts"] - done)
        seed = asked["seed"] + 1000 * job["seed"] + done
        controller = _Told(make(seed), lambda step: tell(f"rollouts {done + 1} to {done + count}, step {step}"))
        found = evaluate(env_id, controller, count, seed, asked["max_steps"])
        kept["returns"] += found.returns.tolist()
        kept["lengths"] += found.lengths.tolist()
        kept["seconds"] += time.monotonic() - began
        with written_atomically(path) as temporary:
            temporary.write_text(json.dumps(kept))
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


# All jobs, from scores to the record.


def gather(config):
    """Write `figures/studies/offline_rl.json`, and its bar chart, from the results of all jobs; gives its path.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    asked = {name: complete(job) for name, job in jobs.listed(config, METHODS).items()}
    rows = [result["row"] for result in jobs.results(STUDY, asked)]
    seeds = sorted({row["seed"] for row in rows})
    fingerprints = {row["dataset"]: row["provenance"]["fingerprint"] for row in rows}
    record = Record(STUDY, "studies", config, [*seeds, config["evaluation"]["seed"]], fingerprints, rows)
    took = [row["provenance"]["training_minutes"] for row in rows if not row["method"].startswith("tt-")]
    took += [row["provenance"]["rollout_minutes"] for row in rows]
    record.started -= 60 * sum(took)  # what the jobs took, not what collecting their results does
    scores.claim(record)
    path = record.write()
    scores.draw(record.as_dict())
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m ttlib.studies.offline_rl", description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["run", "gather"], help="do one job; write the record from all of them")
    parser.add_argument("what", help="the job, or the study's configuration, in JSON")
    options = parser.parse_args(arguments)
    try:
        asked = json.loads(options.what)
        if options.task == "run":
            jobs.do(STUDY, complete(asked), work)
        else:
            print(f"{gather(asked).relative_to(ROOT)}: {len(jobs.listed(asked, METHODS))} jobs")
    except (ValueError, OSError) as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.exit(main())
