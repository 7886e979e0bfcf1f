"""The task of the prediction study: what is to be predicted on one data set, and how each prediction is measured."""

import json
import time

import numpy as np
import torch

from ttlib.checkpoints import written_atomically
from ttlib.datasets import load
from ttlib.datasets.local import acting, find
from ttlib.hiding import draw_hidden
from ttlib.prediction import log_shares, oracle, references
from ttlib.tokens import Tokenizer

HIDDEN = 0.5  # probability with which a number is hidden, in the methods whose name ends in -half
PSEUDOCOUNTS = (1.0, 0.1)  # the first is the study's; the second shows whether it matters


def body_of(job):
    """Such as "hopper" for local:hopper-expert."""
    return find(job["dataset"].removeprefix("local:")).body


class Task:
    """What all jobs on one data set have in common: the data, who made it, the words, what is to be predicted."""

    def __init__(self, job, half):
        asked = job["evaluation"]
        if missing := [key for key in ("bins", "starts") if asked.get(key) is None]:
            raise ValueError(
                f"the evaluation of {job['dataset']} has no {' and no '.join(missing)}; name its body there."
            )
        self.trajectories = load(job["dataset"])
        self.horizon, self.samples = asked["horizon"], asked["samples"]
        wanted = find(job["dataset"].removeprefix("local:"))
        behaviours = acting(wanted.body, wanted.kind)
        if len(behaviours) != 1:
            raise ValueError(
                f"{len(behaviours)} policies made {job['dataset']}; predict a set of one, such as -expert."
            )
        self.behaviour = behaviours[0]
        self.method = asked["bins"]
        self.tokenizer = self.words(100)
        self.half, self.hide = half, HIDDEN if half else 0.0
        self.hidden = draw_hidden(self.trajectories.observations.shape, HIDDEN, (job["seed"], 0)) if half else None

    def words(self, count):
        """`Tokenizer` with `count` bins a number; `tokenizer` itself has those in which all methods are compared."""
        return Tokenizer.fit(self.trajectories, count, self.method, values=False)

    def references(self, count, context, seed):
        """`count` stretches, and what of each is hidden: the same for all methods."""
        found = references(self.trajectories.env_id, self.behaviour, count, self.horizon, context, seed)
        masks = [draw_hidden(each.observations.shape, HIDDEN, (seed, 3, n)) for n, each in enumerate(found)]
        return list(zip(found, masks if self.half else [None] * count, strict=True))

    def measure(self, reference, drawn):
        """{"oracle": (H,), pseudocount: (H,)} log shares of a reference's future among drawn (samples, H, N) values."""
        bins, slots = self.tokenizer.bins, self.tokenizer.layout.observations
        came, tokens = bins.encode(reference.future, slots), bins.encode(drawn, slots)
        shares = {str(count): log_shares(tokens, came, bins.size, count) for count in PSEUDOCOUNTS}
        return {name: values.tolist() for name, values in (shares | {"oracle": oracle(bins, came)}).items()}


def measure_starts(task, job, folder, tell, draw, modes):
    """Measure every start of the evaluation; what is done is kept one by one.

    Args:
        task: `Task`.
        draw: function of a mode, the start's number, its reference and mask that gives (samples, H, N) values.
        modes: who chooses the actions, one after the other.

    Returns:
        {"starts": [{mode: what `Task.measure` gives}], "minutes", "future": {"actions": the first mode, "came": (H, N)
        what came after the first start, "drawn": (H, N) the first sample}}.
    """
    asked, path = job["evaluation"], folder / "starts.json"
    done = json.loads(path.read_text()) if path.is_file() else {"starts": [], "seconds": 0.0}
    stretches = task.references(asked["starts"], asked["context"], asked["seed"])
    for number in range(len(done["starts"]), len(stretches)):
        tell(f"start {number + 1} of {len(stretches)}", now=True)
        began, (reference, mask) = time.monotonic(), stretches[number]
        drawn = {mode: draw(mode, number, reference, mask) for mode in modes}
        done["starts"].append({mode: task.measure(reference, values) for mode, values in drawn.items()})
        if number == 0:
            ways = {"came": reference.future, "drawn": drawn[modes[0]][0]}
            done["future"] = {"actions": modes[0]} | {name: np.round(way, 4).tolist() for name, way in ways.items()}
        done["seconds"] += time.monotonic() - began
        keep(path, done)
    return {key: done[key] for key in ("starts", "future")} | {"minutes": round(done["seconds"] / 60, 2)}


def generator_of(job, number, mode):
    """Random numbers of one start and mode, on the job's device."""
    seed = np.random.SeedSequence((job["seed"], number, *mode.encode())).generate_state(1)[0]
    return torch.Generator(job["device"]).manual_seed(int(seed))


def keep(path, values):
    """Write plain values as JSON, in one move."""
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(values))
