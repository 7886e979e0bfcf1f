"""Methods: what the studies of locomotion compare, each from data or a shipped model to a controller.

A method is two functions. The first gives its settings for a data set, a dict. The second does
the training, if there is any, and gives a function from a seed to a controller, and notes
for the row. A method's own modules are imported when it is asked for.
"""

import re
from dataclasses import asdict, fields
from pathlib import Path

import torch

from ttlib.control import LikelihoodController, QController, ReturnController
from ttlib.model import load_model
from ttlib.paths import ROOT
from ttlib.provenance import tokens_in_all
from ttlib.studies import jobs


def settings_of(job):
    """All settings of a job's method: what `studies/<study>.yaml` changes, for all or its body or set, over defaults.

    Raises:
        ValueError: a name that the method does not have.
    """
    defaults = METHODS[job["method"]][0](job["dataset"])
    defaults.pop("seed", None)  # the job's
    changed = for_set(job, "settings")
    unknown = sorted(changed.keys() - defaults.keys())
    if unknown:
        raise ValueError(f"{job['method']} has no setting {', '.join(unknown)}; it has {', '.join(defaults)}.")
    return defaults | changed


def for_set(job, key):
    """What `jobs.for_set` leaves of a job's `settings` or `evaluation` for the body and the set of its data."""
    body, kind = _body(job["dataset"]), _kind(job["dataset"])
    return jobs.for_set(job[key], body, f"{body}-{kind}")


def _bc_settings(dataset):
    from ttlib.baselines.common import Settings

    return asdict(Settings())


def _bc(share):
    def make(job, trajectories, folder, tell):
        from ttlib.baselines import behaviour_cloning, common

        settings = _settings(common.Settings, job)
        told = jobs.updates_told(tell, settings.updates)
        policy, curve = behaviour_cloning.train(trajectories, settings, share, folder, told, job["device"])
        return lambda seed: behaviour_cloning.PolicyController(policy), _trained(curve)

    return make


def _iql_settings(dataset):
    from ttlib.baselines import iql

    return asdict(iql.settings_for(dataset))


def _iql(job, trajectories, folder, tell):
    from ttlib.baselines import iql
    from ttlib.baselines.behaviour_cloning import PolicyController

    settings = _settings(iql.IQLSettings, job)
    agent, curve = iql.train(trajectories, settings, folder, jobs.updates_told(tell, settings.updates), job["device"])
    return lambda seed: PolicyController(agent.policy), _trained(curve)


def _iql_policy(job, trajectories, folder, tell):
    """The policy of the very agent whose critics guide `tt-q`."""
    from ttlib.baselines.behaviour_cloning import PolicyController

    agent, notes = _agent(job)
    return lambda seed: PolicyController(agent.policy), notes


def _agent(job):
    """The IQL agent that a job acts or plans with, and notes for the row."""
    from ttlib.baselines import common
    from ttlib.baselines.iql import IQL
    from ttlib.baselines.maze_iql import MazeIQL

    path = critic_of(job)
    needed(job)
    agent, about = common.load_model(path, MazeIQL if _of_places(job["dataset"]) else IQL, job["device"])
    if about["dataset"] != job["dataset"]:
        raise ValueError(f"{path} was trained on {about['dataset']}, but an agent of {job['dataset']} is wanted.")
    return agent, {f"critic_{key}": about.get(key) for key in ("settings", "fingerprint", "minutes")}


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
    size = {"scale": 1.0} if "maze" in job["dataset"] else {}  # returns are 0 or 1 there
    model = DecisionTransformer.of(trajectories, **size)
    stretches = decision_training.Stretches(trajectories, model.context)
    told = jobs.updates_told(tell, settings.updates)
    curve = decision_training.train(model.to(job["device"]), stretches, settings, folder, told)
    return lambda seed: TargetController(model, target), _trained(curve) | {"target": target}


def planner(dataset):
    """The reference code's planner for a data set (its configuration file), with the paper's context.

    A tolerance and a temperature above 0 are ours, see `ReturnController`.
    """
    horizon, beam_width, top_k = 15, 128, None
    body, kind = _body(dataset), _kind(dataset)
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
    return chosen | {"expand": 2, "context": 5, "plan_every": 1, "tolerance": 0.0, "temperature": 0.0}


def checkpoint_of(job, root=None):
    """The model that a job plans with, `data/checkpoints/<set>[-uniform][-seed].safetensors`, or None."""
    if not job["method"].startswith("tt-"):
        return None
    name = jobs.slug(job["dataset"].partition(":")[2]) + ("-uniform" if job["method"] == "tt-uniform" else "")
    seed = f"-{job['seed']}" if job["seed"] else ""
    return Path(root or ROOT) / "data" / "checkpoints" / f"{name}{seed}.safetensors"


def critic_of(job, root=None):
    """The IQL agent that a job acts or plans with, `data/checkpoints/<set>-iql[-seed].safetensors`, or None."""
    if job["method"] not in (*BY_Q, "iql-policy"):
        return None
    seed = f"-{job['seed']}" if job["seed"] else ""
    name = jobs.slug(job["dataset"].partition(":")[2])
    return Path(root or ROOT) / "data" / "checkpoints" / f"{name}-iql{seed}.safetensors"


def needed(job, root=None):
    """The files that must be there before a job can start, for Snakemake.

    Raises:
        FileNotFoundError: one is missing; the sentence says how to make it.
    """
    rewards = "--terminal-reward -100 " if job["method"] in BY_RETURN else "--no-values "
    rewards = "" if "maze" in job["dataset"] else rewards
    agent = "maze_iql" if _of_places(job["dataset"]) else "iql"
    commands = {
        checkpoint_of(job, root): f"ttlib.training --dataset {job['dataset']} --method {_bins(job)} {rewards}"
        f"--seed {job['seed']} --tokens 100e6",
        critic_of(job, root): f"ttlib.baselines.{agent} --dataset {job['dataset']} --seed {job['seed']}",
    }
    commands.pop(None, None)
    for path, command in commands.items():
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; train it with `python -m {command} --out {path}`, or leave the method out."
            )
    return [str(path) for path in commands]


def imitator(horizon, beam_width=8, tolerance=0.4, actions_only=True):
    """Settings of the search by likelihood; with a horizon of 1 it writes one action.

    The tolerance was chosen on other episodes than the study's, for the Hopper and the Walker2d together.
    """
    chosen = {"horizon": horizon, "beam_width": beam_width, "context": 5, "plan_every": 1}
    chosen |= {"tolerance": tolerance, "actions_only": actions_only}
    return lambda dataset: dict(chosen)


def _tt(job, trajectories, folder, tell):
    path = checkpoint_of(job)
    needed(job)
    model, tokenizer, about = load_model(path, job["device"])
    # Not their fingerprints: another machine's local sets have the same policies' other episodes.
    if (about["dataset"], tokenizer.method) != (job["dataset"], _bins(job)):
        raise ValueError(
            f"{path} was trained on {about['dataset']} with {tokenizer.method} bins, but a model of "
            f"{job['dataset']} with {_bins(job)} bins is wanted."
        )
    notes = {f"training_{key}": about.get(key) for key in ("fingerprint", "minutes")}
    notes["training_tokens"] = tokens_in_all(about)
    if job["method"] in BY_Q:
        agent, more = _agent(job)
        make = {"critic": agent} | job["settings"]
        return lambda seed: QController(model, tokenizer, seed=seed, **make), notes | more
    if job["method"] in BY_RETURN:
        return lambda seed: ReturnController(model, tokenizer, seed=seed, **job["settings"]), notes
    return lambda seed: LikelihoodController(model, tokenizer, **job["settings"]), notes


def sized(beam_width, horizon):
    """The return planner at one size."""
    return lambda dataset: planner(dataset) | {"beam_width": beam_width, "horizon": horizon}


def q_planner(value="q", to_go=0.0):
    """The planner by Q: the return planner's settings, and how plans are scored (`ttlib.q_search.plan_by_q`)."""
    return lambda dataset: planner(dataset) | {"value": value, "to_go": to_go}


METHODS = {
    "bc": (_bc_settings, _bc(1.0)),
    "bc10": (_bc_settings, _bc(0.1)),
    "iql": (_iql_settings, _iql),
    "iql-policy": (lambda dataset: {}, _iql_policy),
    "dt": (_dt_settings, _dt),
    "tt-quantile": (planner, _tt),
    "tt-uniform": (planner, _tt),
    "tt-q": (q_planner(), _tt),
    "tt-q-search": (q_planner(), _tt),
    "tt-v": (q_planner("v"), _tt),
    "tt-last-q": (q_planner("last q"), _tt),
    "tt-q-and-to-go": (q_planner(to_go=1.0), _tt),
    "tt-likelihood": (imitator(horizon=3), _tt),
    "tt-one-action": (imitator(horizon=1, beam_width=1), _tt),
    "tt-algorithm-1": (imitator(horizon=3, tolerance=0.0, actions_only=False), _tt),
}
# The return planner at sizes from one glance to the paper's, for the question of what a millisecond buys.
SIZES = {
    f"tt-beam-{beam_width}-horizon-{horizon}": (beam_width, horizon)
    for beam_width in (1, 4, 8, 16, 32, 64, 128)
    for horizon in (1, 2, 3, 5, 10, 15)
}
METHODS |= {name: (sized(*size), _tt) for name, size in SIZES.items()}
BY_Q = ("tt-q", "tt-q-search", "tt-v", "tt-last-q", "tt-q-and-to-go")
BY_RETURN = ("tt-quantile", "tt-uniform", *BY_Q, *SIZES)


def _bins(job):
    return "uniform" if job["method"] == "tt-uniform" else "quantile"


def _of_places(dataset):
    """Whether the agent of a data set is one with values of places: the ants' that were collected here."""
    return dataset.startswith("local:antmaze")


def _body(dataset):
    return _found("hopper|halfcheetah|walker2d|antmaze|pointmaze|ant", dataset)


def _kind(dataset):
    return _found("medium-expert|medium-replay|medium|expert", dataset)


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
