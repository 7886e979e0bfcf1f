"""Behaviours: policies trained with stable-baselines3's PPO.

    python -m ttlib.datasets.behaviours train hopper --seed 0

trains one behaviour from nothing (or resumes it) and keeps a snapshot of the
policy every few updates. Those snapshots are what the local data sets are made
of: the last ones act as the expert, an early one as the medium policy, and all up
to the medium one, replayed in turn, as the training run's own experience.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import ttlib.envs  # noqa: F401  (registers the project's environments)
from ttlib import checkpoints
from ttlib.datasets.policies import Behaviour, pack, unpack


@dataclass(frozen=True)
class Recipe:
    """How one behaviour is trained: the environment and PPO's settings; and which local sets it makes."""

    env_id: str
    steps: int
    environments: int = 8
    rollout: int = 256
    batch: int = 128
    epochs: int = 10
    learning_rate: float = 3e-4  # falls to 0 along a line
    discount: float = 0.99
    gae_lambda: float = 0.95
    log_std: float = -0.5
    snapshot_every: int = 10  # updates
    early_every: int = 0  # the same for the first 100 updates, where learning is fast; 0: no difference
    hidden: tuple = (64, 64)
    activation: str = "tanh"  # or "relu"
    clip: float = 0.2
    kinds: tuple = ("expert", "medium", "medium-replay", "medium-expert")


RECIPES = {
    "hopper": Recipe("Hopper-v5", steps=4_000_000),
    "walker2d": Recipe("Walker2d-v5", steps=6_000_000),
    # With wide noise at the start a cheetah learns to slide on its back and never gets up again.
    "halfcheetah": Recipe(
        "HalfCheetah-v5",
        steps=7_000_000,
        discount=0.98,
        gae_lambda=0.92,
        log_std=-2.0,
        snapshot_every=20,
        early_every=4,
        hidden=(128, 128),
        activation="relu",
        clip=0.1,
    ),
    # Many small batches. With batches of 512, 5 epochs, a discount of 0.99, a lambda of 0.95 and tanh it took three
    # times as many steps to a return of 590; those batches with relu, 0.95 and 0.9 did not help.
    "humanoid": Recipe(
        "Humanoid45-v5",
        steps=6_000_000,
        environments=16,
        epochs=10,
        discount=0.97,
        gae_lambda=0.92,
        log_std=-1.0,
        snapshot_every=50,
        hidden=(256, 256),
        activation="relu",
        kinds=("expert",),
    ),
    # Leads ants through mazes (`ttlib.datasets.maze_walks`); what it does by itself makes no data set. With batches of
    # 1,024, 6 epochs, 0.99, 0.95 and tanh its return was still below 0 where these had come to 88 (164,000 steps).
    "antwalker": Recipe(
        "AntWalker-v0",
        steps=1_200_000,
        environments=16,
        batch=256,
        discount=0.98,
        gae_lambda=0.92,
        log_std=-0.7,
        hidden=(256, 256),
        activation="relu",
        kinds=(),
    ),
}


def train(name, seed, folder, steps=None, report=print):
    """Train behaviour `name`, resuming from `folder` when a run of it is there.

    Writes `snapshots.safetensors` (packed behaviours; each one's info holds the steps
    taken and the mean return of the last 100 episodes) and `ppo.safetensors` (what a
    resumed run needs) to `folder`.

    Raises:
        ValueError: `name` has no recipe, or the folder's files are damaged.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    recipe, folder = RECIPES[name], Path(folder)
    total = steps or recipe.steps
    state_file, snapshot_file = folder / "ppo.safetensors", folder / "snapshots.safetensors"
    torch.set_num_threads(1)

    done, snapshots, state, seconds = 0, [], None, 0.0
    if state_file.exists():
        state, about = checkpoints.load(state_file)
        done, seconds = about["steps"], about["seconds"]
        tensors, infos = checkpoints.load(snapshot_file)
        snapshots = [b for b in unpack(tensors, infos) if b.info["steps"] <= done]
    start, began = done, time.monotonic() - seconds

    env = VecNormalize(
        make_vec_env(recipe.env_id, recipe.environments, seed=seed + done), gamma=recipe.discount, clip_obs=10.0
    )
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=recipe.rollout,
        batch_size=recipe.batch,
        n_epochs=recipe.epochs,
        learning_rate=lambda remaining: recipe.learning_rate * remaining,
        gamma=recipe.discount,
        gae_lambda=recipe.gae_lambda,
        clip_range=recipe.clip,
        policy_kwargs={
            "net_arch": list(recipe.hidden),
            "log_std_init": recipe.log_std,
            "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[recipe.activation],
        },
        seed=seed + done,
        device="cpu",
    )
    if state:
        _restore(model, env, state)

    class Snapshots(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            update = self.model.num_timesteps // (recipe.rollout * recipe.environments)
            every = recipe.early_every if recipe.early_every and update <= 100 else recipe.snapshot_every
            if update % every == 0 and self.model.num_timesteps > start:
                self.keep()

        def keep(self):
            returns = [episode["r"] for episode in self.model.ep_info_buffer]
            info = {"steps": self.model.num_timesteps, "mean_return": float(np.mean(returns)) if returns else None}
            snapshots.append(_snapshot(self.model, env, info | {"activation": recipe.activation}))
            about = {"steps": info["steps"], "seconds": time.monotonic() - began}
            checkpoints.save(snapshot_file, pack(snapshots), [b.info for b in snapshots])
            checkpoints.save(state_file, _state(self.model, env), about)
            rate = (info["steps"] - start) / max(about["seconds"] - seconds, 1e-9)
            report(f"{name}: {info['steps']:,} of {total:,} steps, return {info['mean_return']}, {rate:,.0f} steps/s")

    callback = Snapshots()
    if done < total:
        model.num_timesteps = done
        model.learn(total - done, callback=callback, reset_num_timesteps=False)
        callback.keep()
    return snapshots


def _snapshot(model, env, info):
    layers = [m for m in model.policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
    weights = [(m.weight.detach().clone(), m.bias.detach().clone()) for m in [*layers, model.policy.action_net]]
    mean = torch.as_tensor(env.obs_rms.mean, dtype=torch.float32)
    std = torch.as_tensor(np.sqrt(env.obs_rms.var + env.epsilon), dtype=torch.float32)
    return Behaviour(weights, mean, std, model.policy.log_std.detach().clone(), info)


def _state(model, env):
    """Everything a resumed run needs, as named tensors: policy, Adam's moments, running means."""
    state = checkpoints.run_tensors(model.policy, model.policy.optimizer)
    for name, running in (("obs_rms", env.obs_rms), ("ret_rms", env.ret_rms)):
        for part in ("mean", "var", "count"):
            state[f"{name}/{part}"] = torch.as_tensor(np.asarray(getattr(running, part), dtype=np.float64))
    return state


def _restore(model, env, state):
    checkpoints.restore_run(state, model.policy, model.policy.optimizer)
    for key in ("obs_rms", "ret_rms"):
        for name, tensor in checkpoints.part(state, f"{key}/").items():
            value = tensor.numpy()
            setattr(getattr(env, key), name, float(value) if name == "count" else value)


def main():
    parser = argparse.ArgumentParser(description="Train a behaviour policy.")
    parser.add_argument("command", choices=["train"])
    parser.add_argument("name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="environment steps; the recipe's when left out")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    options = parser.parse_args()
    folder = options.folder or Path("data/cache/behaviours") / f"{options.name}-{options.seed}"
    try:
        train(options.name, options.seed, folder, options.steps, report=lambda line: print(line, flush=True))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
