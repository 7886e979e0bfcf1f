"""The Decision Transformer study: what can be asked of return-conditioned models, one job each.

    python -m ttlib.studies.decision_transformer run '<job in JSON>'
    python -m ttlib.studies.decision_transformer gather '<configuration in JSON>'

`make study NAME=decision_transformer` calls it (`studies/jobs.smk`). The jobs
on locomotion data lie in `ttlib.studies.returns`.
"""

import argparse
import json
import sys
from dataclasses import replace

import numpy as np
import torch

import ttlib.envs  # noqa: F401  (registers the environments)
from ttlib.baselines import behaviour_cloning, common, conservative_q
from ttlib.baselines.cells import CellEncoder, PictureEncoder, features, pictures
from ttlib.baselines.decision_training import Settings, Stretches, train
from ttlib.baselines.decision_transformer import DecisionTransformer, TargetController, predict_returns
from ttlib.envs import graph_walks, key_to_door
from ttlib.evaluation import evaluate
from ttlib.paths import ROOT
from ttlib.provenance import commit, describe_device, lock_hash
from ttlib.records import Record
from ttlib.studies import jobs, returns

STUDY = "decision_transformer"
LONGEST = key_to_door.Task().leaving[-1]  # steps of Key-to-Door's longest episode
DOOR = {"action": 3, "scale": 1.0}


def train_on(stretches, settings, folder, tell, size, encoder=None):
    """A Decision Transformer of discrete actions; the seed is that of its weights too.

    Args:
        settings: those of training, and layers, heads, width and dropout where they are not the defaults.
        size: further arguments of the model.

    Returns:
        model, curve.
    """
    chosen = {name: settings[name] for name in ("layers", "heads", "width", "dropout") if name in settings}
    settings = Settings(**{name: value for name, value in settings.items() if name not in chosen})
    torch.manual_seed(settings.seed)
    numbers = stretches.observations.shape[1]
    model = DecisionTransformer(
        numbers, discrete=True, context=stretches.context, longest=stretches.context, **size, **chosen, encoder=encoder
    )
    told = jobs.updates_told(tell, settings.updates)
    return model, train(model, stretches, settings, folder, told)


def paths(job, folder, tell):
    """Shortest paths in one random graph, from the data set graph-<count>; the seed is the graph's, the walks' and
    the model's.

    A walk that did not arrive does not say how far its nodes are from the goal, so it teaches no return
    and is left out. Every rest of a walk is a walk too: time counts from where a stretch begins.
    """
    seed, length = job["seed"], graph_walks.LENGTH
    graph = graph_walks.Graph.draw(seed)
    walks = graph_walks.random_walks(graph, _count(job), seed)
    edges, nodes = graph_walks.seen_edges(walks, graph.goal), len(graph)
    arrived = int((walks.returns > -length).sum())
    used = behaviour_cloning.best_trajectories(walks, (arrived + 0.5) / len(walks.lengths))
    stretches = Stretches(used, length, discrete=True, even=True, restart=True)
    settings = job["settings"] | {"seed": seed}
    model, curve = train_on(stretches, settings, folder, tell, {"action": nodes, "scale": 2.0})
    limit, walked = graph_walks.distances(edges, graph.goal), graph_walks.best_walks(walks, graph.goal)
    starts = np.flatnonzero((limit <= length) & (np.arange(nodes) != graph.goal))
    found, asked = graph_walks.find_paths(model, edges, graph.goal, starts)
    steps = graph_walks.steps_of(found, graph.goal)
    return {
        "solvable": len(starts),
        "optimal": int((steps <= limit[starts]).sum()),
        "shorter_than_walks": int((steps < walked[starts]).sum()),
        "could_be_shorter": int((limit[starts] < walked[starts]).sum()),
        "walks_arrive": arrived / len(walks.lengths),
        "paths": found,
        "asked": asked.tolist(),
        "shortest_seen": limit[starts].tolist(),
        "shortest_true": graph_walks.distances(graph.edges, graph.goal)[starts].tolist(),
        "best_walk": [None if np.isinf(best) else int(best) for best in walked[starts]],
        "minutes": _minutes(curve),
        "fingerprint": walks.fingerprint(),
    }


def walks_of(job):
    """The random walks of a job on key-to-door-<count>."""
    return key_to_door.collect(_count(job), job["seed"])


def _count(job):
    return int(job["dataset"].rpartition("-")[2])


def success(job, controller, make_env="KeyToDoor-v0"):
    """Share of the evaluation's episodes in which the door was opened; the same beginnings for every method."""
    asked = job["evaluation"]
    return float(evaluate(make_env, controller, asked["episodes"], asked["seed"]).returns.mean())


def key_to_door_job(share=1.0, told=True):
    """A job that trains on Key-to-Door's walks, or the best share of them, told their returns or not."""

    def work(job, folder, tell):
        walks, cells = walks_of(job), key_to_door.Task().view ** 2
        settings = job["settings"] | {"seed": job["seed"], "hide": 0.0 if told else 1.0}
        encoder = CellEncoder(cells, settings.get("width", 128))
        used = walks if share == 1 else behaviour_cloning.best_trajectories(walks, share)
        stretches = Stretches(used, LONGEST, discrete=True, whole=True, even=told)
        model, curve = train_on(stretches, settings, folder, tell, DOOR | {"outcomes": (0.0, 1.0)}, encoder)
        target = 1.0 if told else None
        row = {
            "success": success(job, TargetController(model, target)),
            "success_drawn": success(job, TargetController(model, target, sample=True)),
            "walks_open": float(walks.returns.mean()),
            "minutes": _minutes(curve),
            "fingerprint": walks.fingerprint(),
        }
        return row if told or share < 1 else row | credit(model, job["evaluation"])

    return work


def credit(model, evaluation):
    """How likely a model that is not told the return deems success, on as many fresh random walks as asked for.

    Returns:
        {"jump": mean prediction just before and just after the key was taken, "without": mean prediction at the
        beginning of the first and of the last room, over the walks that do not take it}.
    """
    task = key_to_door.Task()
    rng, count = np.random.default_rng([20, evaluation["seed"]]), evaluation["walks"]
    walkers, length = key_to_door.Walkers(task, key_to_door.Layouts.draw(task, rng, count)), task.leaving[-1]
    actions, seen, keys = rng.integers(3, size=(count, length)), [], [np.zeros(count, dtype=bool)]
    for step in range(length):
        seen.append(walkers.observe())
        walkers.step(actions[:, step])
        keys.append(walkers.has_key.copy())
    likely = predict_returns(model, torch.tensor(np.stack(seen, axis=1)), torch.tensor(actions))[:, :, 1].numpy()
    keys = np.stack(keys, axis=1)  # before each step, and after the last
    taken, missed = (np.flatnonzero(group) for group in (keys[:, task.leaving[0]], ~keys[:, -1]))
    when = keys[taken].argmax(axis=1)  # the first observation that follows
    return {
        "jump": [float(likely[taken, when - 1].mean()), float(likely[taken, when].mean())],
        "without": [float(likely[missed, step].mean()) for step in (0, task.leaving[0])],
    }


def td(job, folder, tell):
    """Conservative Q-learning from the same views and the time. The last step of an episode ends it for good."""
    walks = walks_of(job)
    times = np.arange(len(walks)) - np.repeat(walks.bounds[:, 0], walks.lengths)
    ended = replace(
        walks,
        observations=features(walks.observations, times, LONGEST),
        terminals=walks.terminals | walks.timeouts,
        timeouts=np.zeros(len(walks), dtype=bool),
    )
    settings = common.Settings(**({"hidden": (128, 128)} | job["settings"] | {"seed": job["seed"]}))
    told = jobs.updates_told(tell, settings.updates)
    model, curve = conservative_q.train(ended, 3, settings, folder, told)
    controller = conservative_q.GreedyController(
        model, lambda views, step: features(views, np.full(len(views), step), LONGEST)
    )
    return {
        "success": success(job, controller),
        "walks_open": float(walks.returns.mean()),
        "minutes": _minutes(curve),
        "fingerprint": walks.fingerprint(),
    }


def pixels(job, folder, tell):
    """Key-to-Door from minigrid's pixels instead of the kinds of objects."""
    walks = walks_of(job)
    drawn = replace(walks, observations=pictures(walks.observations))
    settings = job["settings"] | {"seed": job["seed"]}
    encoder = PictureEncoder(round((drawn.observation_dim / 3) ** 0.5), settings.get("width", 128))
    stretches = Stretches(drawn, LONGEST, discrete=True, whole=True, even=True)
    model, curve = train_on(stretches, settings, folder, tell, DOOR, encoder)
    controller = Seeing(TargetController(model, 1.0))
    return {"success": success(job, controller), "minutes": _minutes(curve), "fingerprint": drawn.fingerprint()}


class Seeing:
    """A controller that is shown pictures of the views."""

    def __init__(self, controller):
        self.controller = controller

    def act(self, observations):
        return self.controller.act(pictures(observations))

    def __getattr__(self, name):
        return getattr(self.controller, name)


METHODS = {
    "paths": paths,
    "dt": key_to_door_job(),
    "bc": key_to_door_job(told=False),
    "bc10": key_to_door_job(share=0.1, told=False),
    "td": td,
    "pixels": pixels,
    "sweep": returns.sweep,
    "tt": returns.trajectory_transformer,
}


def work(job, folder):
    """Do one job in its folder: {"row": what it found, with its provenance}.

    Raises:
        ValueError: another device than the CPU, on which its small models train.
    """
    if job["device"] != "cpu":
        raise ValueError(f"this study's small models train on the CPU, not on {job['device']}; say `device: cpu`.")
    torch.set_num_threads(1)
    told = {key: job[key] for key in ("dataset", "method", "seed")}
    found = METHODS[job["method"]](job, folder, jobs.Teller(job))
    provenance = {"commit": commit(), "lock": lock_hash(), "device": describe_device("cpu"), "torch": torch.__version__}
    return {"row": told | found | {"settings": job["settings"], "provenance": provenance}}


def claim(record):
    """State the study's claims in a `Record` from its rows; leave out those whose rows are not there."""
    rows = {}
    for row in record.rows:
        rows.setdefault((row["dataset"], row["method"]), []).append(row)
    if graphs := rows.get(("graph-1000", "paths")):
        share = sum(row["optimal"] for row in graphs) / sum(row["solvable"] for row in graphs)
        note = f"1,000 walks in each of {len(graphs)} random graphs"
        record.claim("graph_optimal_share", share, "fraction", (0.95, None), note=note)
    graphs = rows.get(("graph-100", "paths"), [])
    if could := sum(row["could_be_shorter"] for row in graphs):
        share = sum(row["shorter_than_walks"] for row in graphs) / could
        note = f"100 walks in each of {len(graphs)} random graphs"
        record.claim("graph_stitched_share", share, "fraction", (0.7, None), note=note)
    published = {"key-to-door-10000": (0.90, 0.946), "key-to-door-1000": (0.65, 0.718)}
    for dataset, (bar, paper) in published.items():
        if found := rows.get((dataset, "dt")):
            name = f"key_to_door_{int(dataset.rpartition('-')[2]) // 1000}k"
            record.claim(name, np.mean([row["success"] for row in found]), "fraction", (bar, None), paper)
    sweeps = [row["spearman"] for found in rows.values() for row in found if row["method"] == "sweep"]
    if sweeps:
        note = f"the smaller of {len(sweeps)} data sets"
        record.claim("return_sweep_spearman", min(sweeps), "correlation", (0.9, None), note=note)


def gather(config, partial=False):
    """Write the study's record from the results of its jobs; gives its path.

    Args:
        partial: take the jobs that are done, and write to `build/studies/partial/` instead of `figures/studies/`.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    asked, done = jobs.listed(config, METHODS), {}
    for name, job in asked.items():
        if not partial or (jobs.folder_of(STUDY) / f"{name}.json").is_file():
            done[name] = job
    rows = [result["row"] for result in jobs.results(STUDY, done)]
    seeds = sorted({row["seed"] for row in rows}) + [config["evaluation"]["seed"]]
    prints = {f"{row['dataset']} {row['method']} {row['seed']}": row["fingerprint"] for row in rows}
    record = Record(STUDY, "studies", config, seeds, prints, rows)
    record.started -= 60 * sum(row["minutes"] for row in rows)  # what the jobs took
    claim(record)
    return record.write(ROOT / "build" / "studies" / "partial" if partial else None)


def _minutes(curve):
    return round(sum(row["seconds"] for row in curve) / 60, 2)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog=f"python -m ttlib.studies.{STUDY}", description=__doc__.splitlines()[0])
    parser.add_argument(
        "task", choices=["run", "gather", "partial"], help="do a job; write the record; of what is done"
    )
    parser.add_argument("what", help="the job, or the study's configuration, in JSON")
    options = parser.parse_args(arguments)
    try:
        asked = json.loads(options.what)
        if options.task == "run":
            jobs.do(STUDY, asked, work)
        else:
            print(gather(asked, partial=options.task == "partial").relative_to(ROOT))
    except (ValueError, OSError) as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.exit(main())
