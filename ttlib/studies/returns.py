"""Asked and achieved: a Decision Transformer on locomotion data over the whole range of returns, and TT beside it."""

import time
from dataclasses import asdict

import numpy as np
import torch

from ttlib.baselines.decision_training import Settings, Stretches, train
from ttlib.baselines.decision_transformer import DecisionTransformer, TargetController
from ttlib.control import ReturnController
from ttlib.datasets import load, normalized_score
from ttlib.evaluation import evaluate
from ttlib.model import TrajectoryTransformer
from ttlib.studies import jobs
from ttlib.tokens import Tokenizer, TokenWindows


def sweep(job, folder, tell):
    """Train on a data set and ask for returns from its smallest to twice its best.

    The evaluation's `asked` returns lie evenly between the data's smallest and best, and `beyond` more
    up to twice the best; each is asked of `rollouts` episodes, all of them in lock step.
    """
    trajectories, asked = load(job["dataset"]), job["evaluation"]
    if min(asked["rollouts"], asked["asked"]) < 2:
        raise ValueError("a sweep needs two rollouts of two returns at least, for its errors and its correlation.")
    settings = Settings(**(job["settings"] | {"seed": job["seed"]}))
    torch.manual_seed(settings.seed)
    model = DecisionTransformer.of(trajectories)
    told = jobs.updates_told(tell, settings.updates)
    curve = train(model, Stretches(trajectories, model.context), settings, folder, told)
    low, best = float(trajectories.returns.min()), float(trajectories.returns.max())
    targets = np.concatenate(
        [np.linspace(low, best, asked["asked"]), np.linspace(best, 2 * best, asked["beyond"] + 1)[1:]]
    )
    each = asked["rollouts"]
    found = evaluate(
        trajectories.env_id, TargetController(model, np.repeat(targets, each)), each * len(targets), asked["seed"]
    )
    achieved = found.returns.reshape(-1, each)
    inside = targets <= best
    return {
        "asked": targets.tolist(),
        "achieved": achieved.mean(axis=1).tolist(),
        "standard_error": (achieved.std(axis=1, ddof=1) / np.sqrt(each)).tolist(),
        "spearman": spearman(targets[inside], achieved.mean(axis=1)[inside]),
        "data_best": best,
        "data_mean": float(trajectories.returns.mean()),
        "score_at_best": float(normalized_score(trajectories.env_id, achieved[inside][-1].mean())),
        "parameters": _parameters(model),
        "tokens": settings.updates * settings.batch * model.context * 3,
        "decision_ms": milliseconds(TargetController(model, best), trajectories),
        "minutes": round(sum(row["seconds"] for row in curve) / 60, 2),
        "fingerprint": trajectories.fingerprint(),
    }


def trajectory_transformer(job, folder, tell):
    """A Trajectory Transformer with the Decision Transformer's budget of tokens, and two layers for its parameters."""
    from ttlib import training

    trajectories, asked, chosen = load(job["dataset"]), job["evaluation"], dict(job["settings"])
    planner = chosen.pop("planner")
    tokenizer = Tokenizer.fit(trajectories, terminal_reward=-100.0)
    windows = TokenWindows(tokenizer, trajectories, 10)
    settings = training.Settings(**(chosen | {"seed": job["seed"]}))
    torch.manual_seed(settings.seed)
    model = TrajectoryTransformer(tokenizer.layout, tokenizer.bins.size, 10, layers=2)
    curve = training.train(model, windows, settings, folder, lambda row: tell(f"{row['tokens'] / 1e6:.1f} M tokens"))
    controller = ReturnController(model, tokenizer, **planner, seed=job["seed"])
    found = evaluate(trajectories.env_id, controller, asked["rollouts"], asked["seed"])
    return {
        "achieved": float(found.returns.mean()),
        "score": float(normalized_score(trajectories.env_id, found.returns.mean())),
        "parameters": _parameters(model),
        "tokens": curve[-1]["tokens"],
        "training": asdict(settings) | {"betas": list(settings.betas)},
        "decision_ms": milliseconds(ReturnController(model, tokenizer, **planner), trajectories),
        "minutes": round(sum(row["seconds"] for row in curve) / 60, 2),
        "fingerprint": trajectories.fingerprint(),
    }


def milliseconds(controller, trajectories, decisions=25):
    """Median wall time of one decision for one environment, over the last 20 with a full context, in ms."""
    controller.reset(1)
    taken = []
    for step in range(decisions):
        began = time.perf_counter()
        controller.act(trajectories.observations[step : step + 1].copy())
        taken.append(1000 * (time.perf_counter() - began))
        controller.observe(trajectories.rewards[step : step + 1])
    return float(np.median(taken[-20:]))


def spearman(first, second):
    """Rank correlation of two arrays (n,) without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())
