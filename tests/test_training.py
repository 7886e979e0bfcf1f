import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.models import random_model
from ttlib import checkpoints
from ttlib.loss import held_out_losses, slot_weights, token_losses
from ttlib.model import TrajectoryTransformer, dropout, load_model
from ttlib.ordered import share_gradients, shares
from ttlib.provenance import tokens_in_all
from ttlib.settings import make_optimizer, matrix_products
from ttlib.tokens import Layout, Tokenizer, TokenWindows
from ttlib.training import Settings, train, train_from_data, window_order
from ttlib.trajectories import Trajectories


def toy_windows(steps=400, goal=0):
    rng = np.random.default_rng(0)
    terminals = np.zeros(steps, dtype=bool)
    terminals[39::40] = True
    angle = 0.3 * np.arange(steps)  # something that can be learnt, beside rewards and actions that cannot
    circle = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    data = Trajectories(circle, rng.normal(size=(steps, 1)), rng.normal(size=steps), terminals, np.zeros(steps, bool))
    return TokenWindows(Tokenizer.fit(data, bins=10, goal=goal), data, transitions=4)


def toy_model(windows, seed=0, probability=0.1):
    torch.manual_seed(seed)
    return TrajectoryTransformer(windows.layout, 10, 4, layers=2, heads=2, width=16, dropout=probability)


def settings(**changes):
    defaults = {"tokens": 19 * 8 * 12, "batch": 8, "microbatch": 4, "log_every": 2, "save_every": 4, "bf16": False}
    return Settings(**(defaults | changes))


def test_the_loss_is_the_likelihood_of_each_token():
    layout = Layout(2, 1)
    model = random_model(layout)
    tokens = torch.randint(20, (3, model.length))
    losses = token_losses(model, tokens)
    with torch.no_grad():
        logits = model(tokens)
    for row, position in [(0, 0), (1, 4), (2, 27)]:
        expected = -F.log_softmax(logits[row, position], dim=-1)[tokens[row, position + 1]]
        torch.testing.assert_close(losses[row, position], expected)


def test_tokens_of_actions_and_of_values_weigh_more():
    weights = slot_weights(Layout(2, 1, goal=1), 11, 5.0)  # goal, s s a r R, s s a r R
    assert weights.tolist() == [1, 1, 5, 1, 1, 1, 1, 5, 1, 1]
    weights = slot_weights(Layout(2, 1, goal=3), 13, 5.0, 7.0)  # three of the goal, the rest alike
    assert weights.tolist() == [1, 1, 1, 1, 5, 7, 7, 1, 1, 5, 7, 7]
    assert slot_weights(Layout(2, 1, values=False), 6, 5.0, 7.0).tolist() == [1, 5, 1, 1, 5]


def test_every_window_is_seen_once_an_epoch():
    seen = torch.cat([window_order(10, 4, step, seed=1) for step in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_the_rate_rises_falls_and_stays():
    s = Settings(tokens=1000, warmup=0.1, learning_rate=1.0)
    assert s.rate(0) == 0
    assert s.rate(100) == pytest.approx(1.0)
    assert s.rate(550) == pytest.approx(0.55)
    assert s.rate(1000) == s.rate(5000) == pytest.approx(0.1)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = dropout(torch.ones(999, 1001), 0.1, training=True)
    assert torch.isclose((dropped == 0).float().mean(), torch.tensor(26 / 256), atol=1e-3)
    assert torch.isclose(dropped.mean(), torch.tensor(1.0), atol=2e-3)
    neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)
    assert torch.isclose(neighbours.float().mean(), torch.tensor(0.01), atol=1e-3)
    assert torch.equal(dropout(torch.ones(5), 0.1, training=False), torch.ones(5))


def test_training_learns_and_microbatches_do_not_change_it():
    windows = toy_windows()
    curves = []
    for microbatch in (0, 2):
        model = toy_model(windows, probability=0.0)
        curves.append(train(model, windows, settings(microbatch=microbatch, tokens=19 * 8 * 40, learning_rate=1e-2)))
    first, second = ([row["loss"] for row in curve] for curve in curves)
    np.testing.assert_allclose(first, second, rtol=1e-3)
    before, after = curves[0][0]["slots"], curves[0][-1]["slots"]
    assert len(after) == 5
    assert after[1] < 0.7 * before[1]  # the second coordinate follows from the first


def test_tokens_that_do_not_count_do_not_matter():
    windows = toy_windows()
    windows.terminal = torch.zeros_like(windows.terminal)  # now all that follows an end is only filling
    models = []
    for stop in (10, 3):
        windows.stop = stop
        models.append(toy_model(windows, probability=0.0))
        train(models[-1], windows, settings())
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        if one is not models[0].embedding.weight:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_folder_with_another_run_is_refused(tmp_path):
    windows = toy_windows()
    train(toy_model(windows), windows, settings(), tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        train(toy_model(windows), windows, settings(seed=5), tmp_path)


def test_a_model_can_start_from_another_one(tmp_path):
    for seed, name in enumerate(("one", "other")):
        rng = np.random.default_rng(seed)
        circle = np.stack([np.sin(0.3 * np.arange(400)), np.cos(0.3 * np.arange(400))], axis=1) + seed
        parts = {"observations": circle, "actions": rng.uniform(-1, 1, (400, 1)), "rewards": rng.normal(size=400)}
        timeouts = np.arange(400) % 40 == 39
        np.savez(tmp_path / f"{name}.npz", **parts, terminals=np.zeros(400, bool), timeouts=timeouts)
    size, tokens = {"layers": 1, "heads": 2, "width": 16, "dropout": 0.0}, {"bins": 10}

    def trained(name, out, count=120, **options):
        share = options.pop("share", 0.0)
        chosen = settings(tokens=19 * 8 * count, log_every=1, learning_rate=3e-3, share=share)
        arguments = (chosen, options.pop("size", size), options.pop("tokens", tokens), 4)
        return train_from_data(
            f"file:{tmp_path / name}.npz", tmp_path / out, *arguments, folder=tmp_path / out[:-12], **options
        )[2]

    first = trained("one", "a.safetensors")
    fresh, warm = (
        trained("other", "b.safetensors", 1),
        trained("other", "c.safetensors", 1, start=tmp_path / "a.safetensors"),
    )
    assert first[-1]["loss"] < fresh[0]["loss"] - 0.3 and warm[0]["loss"] < fresh[0]["loss"] - 0.2
    about = load_model(tmp_path / "c.safetensors")[2]
    assert about["start"]["tokens"] == first[-1]["tokens"] and about["start"]["dataset"].endswith("one.npz")
    trained("other", "f.safetensors", 1, start=tmp_path / "c.safetensors")
    last = load_model(tmp_path / "f.safetensors")[2]
    assert last["start"]["start"] == about["start"]
    assert tokens_in_all(last) == last["tokens"] + about["tokens"] + first[-1]["tokens"]
    ordered = trained("other", "e.safetensors", 1, ordered=True)
    assert ordered[0]["loss"] != fresh[0]["loss"]
    assert load_model(tmp_path / "e.safetensors")[2]["ordered"] and "ordered" not in about
    # With shared gradients each bin of the start is smoothed first, so that it begins elsewhere, and not far off.
    smoothed = trained("other", "h.safetensors", 1, start=tmp_path / "a.safetensors", share=6.0)
    assert 0 < abs(smoothed[0]["loss"] - warm[0]["loss"]) < 0.5
    # Words cut in half: two for each, so that it begins log 2 a token above where the first ended; of a transition's
    # five tokens the action counts five times.
    halves = trained("one", "g.safetensors", 1, start=tmp_path / "a.safetensors", tokens={"bins": 20})
    assert abs(halves[0]["loss"] - first[-1]["loss"] - 9 / 5 * np.log(2)) < 0.15
    for changed in ({"size": size | {"layers": 2}}, {"tokens": {"bins": 5}}):
        with pytest.raises(ValueError, match="another size"):
            trained("other", "d.safetensors", 1, start=tmp_path / "a.safetensors", **changed)


def test_first_transitions_are_read_besides_and_neighbours_share_gradients():
    windows = toy_windows()
    layout, length = windows.layout, windows.layout.length(windows.transitions)
    in_one = 8 * (length - 1) + 6 * (layout.length(1) - 1)
    several = {"firsts": 6, "value_weight": 3.0, "share": 2.0, "microbatch": 2}
    chosen = settings(tokens=2 * in_one, log_every=1, save_every=1, **several)
    model, by_hand = toy_model(windows, probability=0.0), toy_model(windows, probability=0.0)
    curve = train(model, windows, chosen)
    weights, optimizer = (
        slot_weights(layout, length, chosen.action_weight, chosen.value_weight),
        make_optimizer(by_hand, chosen),
    )
    for step, row in enumerate(curve):
        whole, firsts = (window_order(len(windows), count, step, seed) for count, seed in ((8, 0), (6, 1)))
        tokens, counted = windows.batch(torch.cat([whole, firsts]))
        counted[8:, layout.length(1) :] = False  # read whole, but only their first transitions count
        loss = (token_losses(by_hand, tokens) * counted[:, 1:] * weights).sum() / counted[:, 1:].sum()
        assert abs(row["loss"] - loss.item()) < 1e-5 and row["tokens"] == (step + 1) * in_one
        loss.backward()
        share_gradients(by_hand, shares(windows.bins, chosen.share))
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), chosen.clip)
        for group in optimizer.param_groups:
            group["lr"] = chosen.rate(step * in_one)
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_used_only_by_processors_that_have_it(monkeypatch, able):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able, raising=False)
    ones, device = torch.ones(2, 2), torch.device("cpu")
    with matrix_products(device, bf16=True):
        assert (ones @ ones).dtype == (torch.bfloat16 if able else torch.float32)
    with matrix_products(device, bf16=False):
        assert (ones @ ones).dtype == torch.float32


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_ends_with_the_same_weights(optimizer, tmp_path):
    windows, wanted = toy_windows(), settings(bf16=True, optimizer=optimizer, jitter=1.0)
    whole = toy_model(windows)
    train(whole, windows, wanted)

    class Stop(Exception):
        pass

    def stop_at(step):
        def on_log(row):
            if row["step"] >= step:
                raise Stop

        return on_log

    for step in (2, 6, 10):  # the second stop falls between two checkpoints
        with pytest.raises(Stop):
            train(toy_model(windows), windows, wanted, tmp_path, stop_at(step))
    resumed = toy_model(windows, seed=9)
    curve = train(resumed, windows, wanted, tmp_path)
    assert [row["step"] for row in curve] == [2, 4, 6, 8, 10, 12]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


SCRIPT = """
import sys, torch
from tests.test_training import settings, toy_model, toy_windows
from ttlib.training import train
torch.set_num_threads(1)
windows = toy_windows()
model = toy_model(windows)
print("started", flush=True)
train(model, windows, settings(tokens=19 * 8 * 400), sys.argv[1])
"""


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(tmp_path):
    def start(folder):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE)

    assert start(tmp_path / "whole").wait() == 0
    rng, kills = np.random.default_rng(), 0
    for _ in range(20):
        process = start(tmp_path / "killed")
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 1.0) if kills < 3 else 0)
        if kills < 3:
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert process.returncode == 0
    assert kills > 0
    whole, _ = checkpoints.load(tmp_path / "whole" / "training.safetensors")
    killed, _ = checkpoints.load(tmp_path / "killed" / "training.safetensors")
    assert whole.keys() == killed.keys()
    for name in whole:
        assert torch.equal(whole[name], killed[name]), name


PARALLEL = """
import json, sys, torch
import torch.distributed as dist
from tests.test_training import settings, toy_model, toy_windows
from ttlib.training import train
torch.set_num_threads(1)
dist.init_process_group("gloo")
windows = toy_windows()
curve = train(toy_model(windows, probability=0.0), windows, settings(microbatch=2))
if dist.get_rank() == 0:
    print("CURVE", json.dumps([row["loss"] for row in curve]))
dist.destroy_process_group()
"""


def test_two_processes_have_the_loss_of_one(tmp_path):
    windows = toy_windows()
    alone = [row["loss"] for row in train(toy_model(windows, probability=0.0), windows, settings())]
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("CURVE")]
    np.testing.assert_allclose(json.loads(lines[0].removeprefix("CURVE")), alone, rtol=1e-4)


def test_other_data_of_the_same_size_are_another_run(tmp_path):
    windows = toy_windows()
    train(toy_model(windows), windows, settings(), tmp_path)
    others = toy_windows()
    others.tokens = (others.tokens + 1) % 10
    with pytest.raises(ValueError, match="other data"):
        train(toy_model(others), others, settings(), tmp_path)
    with pytest.raises(ValueError, match="other origin"):
        train(toy_model(windows), windows, settings(), tmp_path, origin={"ordered": True})


def test_held_out_losses_are_those_without_dropout():
    windows = toy_windows()
    model = toy_model(windows, probability=0.5).train()
    found = held_out_losses(model, windows, torch.arange(50))
    assert model.training
    torch.testing.assert_close(found, held_out_losses(model.eval(), windows, torch.arange(50)), rtol=0, atol=0)
