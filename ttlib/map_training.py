"""Train the model that finds its way in MiniGrid's multi-room maps (appendix F).

    torchrun --nproc-per-node 2 -m ttlib.map_training --out data/checkpoints/minigrid.safetensors

The same loop as for every other model (`ttlib.training.train`), with other windows and a model
that has an encoder. A run that was killed goes on with the same command.
"""

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from ttlib import checkpoints
from ttlib.envs.minigrid_data import LAYOUT, MapWindows, make_tokenizer
from ttlib.envs.minigrid_maps import FIRST_SEED, SIZE, load_maps
from ttlib.map_encoder import MapTransformer
from ttlib.model import save_model
from ttlib.paths import ROOT
from ttlib.provenance import how_trained
from ttlib.settings import Settings
from ttlib.training import processes, train


def train_on_maps(out, settings, maps=120_000, folder=None, device="cpu", from_run=None, windows=None, size=None):
    """Train on the first `maps` training maps and write a checkpoint.

    Args:
        out: the checkpoint to write; the run is kept in `folder`, by default a cache named after it.
        settings: `ttlib.training.Settings`.
        from_run: the folder of another run whose weights this one begins with, or None.
        windows: keyword arguments of `MapWindows`.
        size: keyword arguments of `MapTransformer`.

    Returns:
        model, tokenizer, curve.
    """
    tokenizer, some = make_tokenizer(), load_maps(maps)
    data = MapWindows(some, **(windows or {}))
    torch.manual_seed(settings.seed)
    model = MapTransformer(LAYOUT, SIZE, data.transitions, grid=SIZE, **({"dropout": 0.0} | (size or {}))).to(device)
    before = []  # the curve of the run that this one goes on from
    if from_run:
        tensors, begun = checkpoints.load(Path(from_run) / "training.safetensors")
        model.load_state_dict(checkpoints.part(tensors, "model/"))
        before = begun["curve"]
    main_process = not dist.is_initialized() or dist.get_rank() == 0
    progress = tqdm(total=int(settings.tokens), unit="tok", unit_scale=True, mininterval=1, disable=not main_process)

    def show(row):
        progress.update(row["tokens"] - progress.n)
        progress.set_postfix(loss=f"{row['loss']:.3f}", action=f"{row['slots'][-1]:.3f}")

    folder = folder or ROOT / "data/cache/training" / Path(out).stem
    curve = train(model, data, settings, folder, show, {"from_run": begun["settings"]} if from_run else None)
    if main_process:
        seen = before[-1]["tokens"] if before else 0
        whole = before + [row | {"tokens": seen + row["tokens"]} for row in curve]
        about = {
            "dataset": "local:minigrid-4-rooms",
            "maps": maps,
            "seeds": [FIRST_SEED["training"], FIRST_SEED["training"] + maps - 1],
            "windows": windows or {},
            "fingerprint": some.fingerprint(),
            "from_run": {key: begun[key] for key in ("settings", "step")} if from_run else None,
            "tokens": whole[-1]["tokens"],
        } | how_trained("ttlib.map_training", whole, settings, device)
        save_model(out, model, tokenizer, about)
    return model, tokenizer.to(device), curve


def main():
    parser = argparse.ArgumentParser(description="Train a model with a map and write its checkpoint.")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    parser.add_argument("--from-run", type=Path, help="the folder of a run whose weights this one begins with")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--maps", type=int, default=120_000)
    for name, default in (("tokens", 100e6), ("learning-rate", 1e-3), ("floor", 0.02), ("warmup", 0.02)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--batch", type=int, default=256, help="windows an update, 4 of each image")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings = Settings(
        **{name: getattr(options, name) for name in ("tokens", "learning_rate", "floor", "warmup", "batch", "seed")},
        weight_decay=0.01,
        log_every=50,
        save_every=200,
    )
    with processes(options.device) as device:
        train_on_maps(options.out, settings, options.maps, options.folder, device, options.from_run)


if __name__ == "__main__":
    main()
