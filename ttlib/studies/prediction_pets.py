"""The ensemble's part of the prediction study: tuned on validation episodes, then trained for longer and measured."""

import json
from dataclasses import asdict

import numpy as np
import torch

from ttlib.baselines import behaviour_cloning, common, pets
from ttlib.prediction import roll_out_ensemble
from ttlib.provenance import how_trained
from ttlib.studies.jobs import updates_told
from ttlib.studies.prediction_task import PSEUDOCOUNTS, Task, generator_of, keep, measure_starts


def ensemble(half=False):
    """A job of the PETS ensemble: each candidate of the grid is trained and predicts validation episodes; the one that
    makes them likeliest, which is what is measured afterwards, is trained for longer."""

    def work(job, folder, tell):
        task, chosen = Task(job, half), job["settings"]
        cloned = None
        if not half:
            settings = common.Settings(updates=chosen["clone_updates"], seed=job["seed"])
            cloned = behaviour_cloning.train(task.trajectories, settings, folder=folder / "clone", device=job["device"])
            cloned = Cloned(cloned[0])

        def draw_with(model):
            def draw(mode, number, reference, mask):
                rng = np.random.default_rng((job["seed"], number))
                actors = {
                    "policy": lambda step, states: task.behaviour.act(states, rng),
                    "cloned": lambda step, states: cloned.act(states, rng),
                    "recorded": lambda step, states: reference.future_actions[step][None].repeat(len(states), axis=0),
                }
                start = reference.observations[reference.context - 1]
                start = start if mask is None else np.where(mask[reference.context - 1], np.nan, start)
                samples = task.samples - task.samples % model.members
                chance = generator_of(job, number, mode)
                return roll_out_ensemble(model, start, task.horizon, samples, actors[mode], chance, task.hide)

            return draw

        tried = tune(job, task, chosen, folder, tell, draw_with)
        best = max(tried, key=lambda row: row["log_likelihood"])["settings"]
        longer = {"updates": chosen["updates"], "seed": job["seed"]}
        told = updates_told(tell, chosen["updates"])
        settings = _pets_settings(best | longer)
        model, curve = pets.train(task.trajectories, settings, task.hidden, folder / "final", told, job["device"])
        about = {"dataset": job["dataset"], "fingerprint": task.trajectories.fingerprint()}
        about |= how_trained("ttlib.studies.prediction", curve, settings, job["device"])
        common.save_model(folder / "model.safetensors", model, about, half=True)  # such as is shipped
        modes = ("recorded",) if half else ("policy", "recorded", "cloned")
        measured = measure_starts(task, job, folder, tell, draw_with(model), modes)
        stretches = task.references(*(job["evaluation"][key] for key in ("starts", "context", "seed")))
        return measured | {
            "training": {"settings": asdict(settings), "minutes": about["minutes"]},
            "grid": tried,
            "r2": one_step(model, stretches),
            "fingerprint": task.trajectories.fingerprint(),
        }

    return work


def tune(job, task, chosen, folder, tell, draw_with):
    """Each candidate of `grid` after `grid_updates`: settings, log-likelihood a step and R2, on validation episodes."""
    asked, path = job["evaluation"], folder / "grid.json"
    tried = json.loads(path.read_text()) if path.is_file() else []
    stretches = task.references(asked["validation_starts"], asked["context"], asked["validation_seed"])
    mode = "recorded" if task.half else "policy"
    for number, candidate in enumerate(chosen["grid"][len(tried) :], start=len(tried)):
        tell(f"candidate {number + 1} of {len(chosen['grid'])}: {candidate}", now=True)
        settings = _pets_settings(candidate | {"updates": chosen["grid_updates"], "seed": job["seed"]})
        told = updates_told(tell, settings.updates)
        model, curve = pets.train(
            task.trajectories, settings, task.hidden, folder / f"grid-{number}", told, job["device"]
        )
        draw = draw_with(model)
        found = [task.measure(each, draw(mode, n, each, mask)) for n, (each, mask) in enumerate(stretches)]
        shares = [np.add(one[str(PSEUDOCOUNTS[0])], one["oracle"]).mean() for one in found]
        minutes = round(sum(row["seconds"] for row in curve) / 60, 2)
        row = {"settings": candidate, "log_likelihood": float(np.mean(shares)), "minutes": minutes}
        tried.append(row | {"r2": one_step(model, stretches)})
        keep(path, tried)
    return tried


def one_step(model, stretches):
    """{"state": R2 of each dimension one step ahead, "change": the same of its change} over references and masks."""
    now, actions, following = [], [], []
    for reference, mask in stretches:
        states = reference.observations
        now.append((states if mask is None else np.where(mask, np.float32(np.nan), states))[:-1])
        actions.append(reference.actions)
        following.append(states[1:])
    state, change = pets.r2(model, *(np.concatenate(parts) for parts in (now, actions, following)))
    change = change if not np.isnan(change).any() else np.zeros(0)
    return {"state": state.round(4).tolist(), "change": change.round(4).tolist()}


class Cloned:
    """A cloned policy that acts with the noise it has learned, as a `Behaviour` does."""

    def __init__(self, policy):
        self.policy = policy.eval()

    @torch.inference_mode()
    def act(self, observations, rng):
        """Actions (S, M) in [-1, 1] for observations (S, N), numpy arrays."""
        states = torch.as_tensor(observations, dtype=torch.float32, device=self.policy.log_std.device)
        mean, spread = self.policy(states).cpu().numpy(), self.policy.log_std.clamp(-5, 2).exp().cpu().numpy()
        return np.clip(mean + spread * rng.standard_normal(mean.shape), -1, 1).astype(np.float32)


def _pets_settings(values):
    """`PetsSettings` from plain values; a list of widths becomes a tuple."""
    return pets.PetsSettings(**(values | {"hidden": tuple(values.get("hidden", pets.PetsSettings.hidden))}))
