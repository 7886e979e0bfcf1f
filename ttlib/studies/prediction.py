"""The prediction study: a hundred steps ahead, by Transformers and by ensembles (section 4.1, figure 3).

    python -m ttlib.studies.prediction run '<job in JSON>'
    python -m ttlib.studies.prediction gather '<configuration in JSON>'

`make study NAME=prediction` calls it (`studies/jobs.smk`). A job trains one method on the data of one
body and predicts the same stretches of fresh episodes as all others; what comes of it is in
`ttlib.studies.prediction_curves`.

Who chooses the actions, `actions` in the rows:

- "own": a Transformer draws them too;
- "policy": the policy that made the data acts on what the ensemble predicts. It is the true one, which
  the Transformer has to learn, so this favours the ensemble; "cloned" tells by how much: there the
  policy is learned from the same data, as the Transformer does;
- "recorded": both are told the actions that were really taken, noise included. Only the dynamics are compared then.

What any method could reach at best, "simulator" tells: there the simulator itself draws the futures, with the true
policy, and once more with its state put in words before each step, which is what words cost by themselves.

Where half of the state is hidden the policy cannot act on what the ensemble sees: its network needs all
numbers. So the ensemble is told the recorded actions, which know more than anyone who predicts could.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch

from ttlib import records, training
from ttlib.hiding import HiddenWindows
from ttlib.model import TrajectoryTransformer, load_model, save_model
from ttlib.ordered import order_bins
from ttlib.paths import ROOT
from ttlib.prediction import draw_futures, markovian, roll_out_simulator
from ttlib.provenance import commit, describe_device, how_trained, lock_hash, tokens_in_all
from ttlib.studies import jobs, parts, prediction_curves
from ttlib.studies.prediction_pets import ensemble
from ttlib.studies.prediction_task import Task, body_of, generator_of, measure_starts
from ttlib.tokens import TokenWindows

STUDY = "prediction"


def checkpoint_of(job):
    """The shipped model that a job predicts with instead of training one, or None."""
    name = job["settings"].get("checkpoint")
    return ROOT / "data" / "checkpoints" / f"{name}.safetensors" if name else None


def complete(job):
    """A job with what is asked of its body only, and a hash of the model that it uses: with others it is another job.

    Raises:
        FileNotFoundError: the model is missing.
    """
    job = job | {key: jobs.for_set(job[key], body_of(job)) for key in ("settings", "evaluation")}
    path = checkpoint_of(job)
    if path and not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; restore it with git, or put settings such as tt-half's in place of `checkpoint` in "
            f"studies/{STUDY}.yaml: the study then trains a model itself, which can be put there."
        )
    return job | {"model": hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else None}


def transformer(markov=False, half=False):
    """A job of a Trajectory Transformer, or of its Markovian twin: that of the shipped model, or one that is trained
    with windows of two transitions."""

    def work(job, folder, tell):
        task, chosen = Task(job, half), dict(job["settings"])
        modes, drop_mass = chosen.pop("actions", ["own", "recorded"]), chosen.pop("drop_mass", None)
        if checkpoint_of(job):
            model, tokenizer, about = load_model(checkpoint_of(job), job["device"])
            is_of = about["dataset"], tokenizer.method, about.get("hidden", 0.0)
            if is_of != (job["dataset"], task.method, task.hide):
                raise ValueError(
                    f"{checkpoint_of(job)} is no model of {job['dataset']} with {task.method} bins and a share of "
                    f"{task.hide} hidden."
                )
            model = markovian(model) if markov else model
        else:
            transitions = 2 if markov else chosen.pop("transitions", 10)
            model, tokenizer = train_transformer(job, task, chosen | {"transitions": transitions}, folder, tell)
            about = load_model(folder / "model.safetensors")[2]
        tokenizer.bins = tokenizer.bins.to("cpu")
        context = min(job["evaluation"]["context"], model.transitions)

        def draw(mode, number, reference, mask):
            told = tokenizer.bins.encode(reference.future_actions, tokenizer.layout.actions)
            tokens = draw_futures(
                model,
                reference.prompt(tokenizer, context, mask),
                task.horizon,
                task.samples,
                generator_of(job, number, mode),
                told if mode == "recorded" else None,
                task.hide,
                drop_mass=drop_mass,
            )
            return tokenizer.bins.decode(tokens, tokenizer.layout.observations)

        measured = measure_starts(task, job, folder, tell, draw, modes)
        trained = {key: about[key] for key in ("minutes", "fingerprint")}
        trained |= {"tokens": tokens_in_all(about), "model": model.size()}
        return measured | {"training": trained, "fingerprint": task.trajectories.fingerprint()}

    return work


def train_transformer(job, task, chosen, folder, tell):
    """Train what a job asks for, or go on with it; gives model and tokenizer, and writes `model.safetensors`."""
    sizes = {name: chosen.pop(name) for name in ("layers", "heads", "width", "dropout") if name in chosen}
    transitions, ordered = chosen.pop("transitions"), chosen.pop("ordered", False)
    tokenizer = task.words(chosen.pop("words", task.tokenizer.bins.size))
    if job["device"] != "cpu":
        chosen["microbatch"] = 0  # slices are for a CPU's cache
    settings = training.Settings(**(chosen | {"seed": job["seed"]}))
    if task.half:
        windows = HiddenWindows(tokenizer, task.trajectories, task.hidden, transitions)
    else:
        windows = TokenWindows(tokenizer, task.trajectories, transitions)
    torch.manual_seed(settings.seed)
    vocabulary = tokenizer.bins.size + task.half
    model = TrajectoryTransformer(tokenizer.layout, vocabulary, transitions, **sizes).to(job["device"])
    if ordered:
        order_bins(model)
    curve = training.train(model, windows, settings, folder, lambda row: tell(f"{row['tokens'] / 1e6:.1f} M tokens"))
    about = {
        "dataset": job["dataset"],
        "env_id": task.trajectories.env_id,
        "fingerprint": task.trajectories.fingerprint(),
        "tokens": curve[-1]["tokens"],
        "hidden": task.hide,
        "ordered": ordered,
    }
    about |= how_trained("ttlib.studies.prediction", curve, settings, job["device"])
    save_model(folder / "model.safetensors", model, tokenizer, about)
    return model, tokenizer


def simulator(job, folder, tell):
    """A job of the simulator itself: exactly ("policy"), and in `words` bins a number ("policy, 100 words")."""
    task = Task(job, half=False)
    bins = {f"policy, {words} words": task.words(words).bins for words in job["settings"].get("words", [])}
    env_id, behaviour = task.trajectories.env_id, task.behaviour

    def draw(mode, number, reference, mask):
        rng = np.random.default_rng((job["seed"], number, *mode.encode()))
        start = reference.observations[reference.context - 1]
        return roll_out_simulator(env_id, behaviour, start, task.horizon, task.samples, rng, bins.get(mode))

    measured = measure_starts(task, job, folder, tell, draw, ["policy", *bins])
    return measured | {"training": {"minutes": 0.0}, "fingerprint": task.trajectories.fingerprint()}


METHODS = {
    "simulator": simulator,
    "tt": transformer(),
    "markov": transformer(markov=True),
    "pets": ensemble(),
    "tt-half": transformer(half=True),
    "markov-half": transformer(markov=True, half=True),
    "pets-half": ensemble(half=True),
}


def work(job, folder):
    """Do one job in its folder: {"row": what it found, with its provenance}."""
    torch.set_num_threads(1)
    told = {key: job[key] for key in ("dataset", "method", "seed")}
    found = METHODS[job["method"]](job, Path(folder), jobs.Teller(job))
    provenance = {
        "commit": commit(),
        "lock": lock_hash(),
        "device": describe_device(job["device"]),
        "torch": torch.__version__,
    }
    return {"row": told | found | {"provenance": provenance}}


def gather(config):
    """Write the study's record from the results of its jobs; gives its path and the tables.

    What the record says of jobs that `config` does not ask for stays in it, see `ttlib.studies.parts`.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    listed = {name: complete(job) for name, job in jobs.listed(config, METHODS).items()}
    found = [result["row"] for result in jobs.results(STUDY, listed)]
    path, kept, prints = ROOT / "figures" / "studies" / f"{STUDY}.json", [], {}
    if path.is_file():
        before = records.read(path)
        rows, prints = before.get("rows", []), before["provenance"]["datasets"]
        measured, asked = prediction_curves.pairs(rows), {(job["dataset"], job["method"]) for job in listed.values()}
        others, config = parts.others(before, measured, asked, config, lambda dataset: body_of({"dataset": dataset}))
        kept = prediction_curves.rows_of(rows, others)
    record = prediction_curves.record(STUDY, config, found, kept, prints)
    return record.write(), prediction_curves.table(record.rows) + "\n\n" + prediction_curves.grid_table(record.rows)


def main(arguments=None):
    return jobs.main(STUDY, lambda job: jobs.do(STUDY, complete(job), work), gather, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
