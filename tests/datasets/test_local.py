"""Local data sets: collected, checked, cached; on a body with behaviours made up here."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ttlib import checkpoints
from ttlib.datasets import datasheet, load, local, ship
from ttlib.datasets.behaviours import RECIPES
from ttlib.datasets.policies import Behaviour, pack
from ttlib.datasets.rollouts import mean_return, rollout
from ttlib.datasets.scores import normalized_score


def behaviour(seed, sets=(), **info):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(8, 11), (3, 8)]
    weights = [(torch.randn(size, generator=generator) * 0.3, torch.zeros(size[0])) for size in sizes]
    return Behaviour(weights, torch.zeros(11), torch.ones(11), torch.full((3,), -1.0), {"sets": list(sets)} | info)


STEPS = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The files of a project with three made-up hopper behaviours: small sets and their manifest."""
    folder = tmp_path_factory.mktemp("project")
    kept = [behaviour(0, ["medium-replay"]), behaviour(1, ["medium-replay", "medium"]), behaviour(2, ["expert"])]
    for one in kept:
        one.info |= {"steps": 1000, "measured_return": 12.3}
    run = {"folder": "hopper-7", "steps": 9000, "minutes": 1.5, "expert_return": 12.3, "used": True}
    provenance = {"train": "TRAIN", "ship": "SHIP", "runs": [run], "device": "cpu"}
    description = {"behaviours": [b.info for b in kept], "recipe": {"env_id": "Hopper-v5"}, "provenance": provenance}
    checkpoints.save(folder / "data" / "behaviours" / "hopper.safetensors", pack(kept), description)
    manifest = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "ROOT", folder)
        for kind in ("expert", "medium", "medium-replay"):
            measured = local.statistics(local.collect(local.find(f"hopper-{kind}"), STEPS, show=False))
            tolerance = {key: (np.abs(value) * 0.01 + 1e-4).tolist() for key, value in measured.items()}
            manifest[f"hopper-{kind}"] = {"transitions": STEPS, "mean": measured, "tolerance": tolerance}
    (folder / "data" / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def root(project, tmp_path, monkeypatch):
    """A copy of the project that the tests may spoil."""
    shutil.copytree(project / "data", tmp_path / "data")
    monkeypatch.setattr(local, "ROOT", tmp_path)
    monkeypatch.setattr(datasheet, "ROOT", tmp_path)
    monkeypatch.setattr(local, "TRANSITIONS", STEPS)
    return tmp_path


def test_collected_once_and_then_read_from_the_cache(root, monkeypatch):
    first = load("local:hopper-medium-replay")
    assert len(first) >= STEPS and (first.name, first.env_id) == ("local:hopper-medium-replay", "Hopper-v5")
    monkeypatch.setattr(local, "collect", lambda *args: pytest.fail("it is cached"))
    assert load("local:hopper-medium-replay").fingerprint() == first.fingerprint()


def test_the_same_seed_gives_the_same_data(root):
    wanted = local.find("hopper-medium")
    first, again, other = (local.collect(wanted, STEPS, seed=seed, show=False) for seed in (3, 3, 4))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_medium_expert_is_both_together(root):
    joined, medium, expert = (load(f"local:hopper-{kind}") for kind in ("medium-expert", "medium", "expert"))
    assert joined.name == "local:hopper-medium-expert" and joined.env_id == "Hopper-v5"
    assert np.array_equal(joined.rewards, np.concatenate([medium.rewards, expert.rewards]))
    assert joined.lengths.tolist() == [*medium.lengths, *expert.lengths]


def test_a_damaged_or_outdated_cache_is_made_again(root, monkeypatch):
    first = load("local:hopper-expert")
    path = root / "data" / "cache" / "local" / "hopper-expert.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert load("local:hopper-expert").fingerprint() == first.fingerprint()
    checkpoints.load(path)
    monkeypatch.setattr(local, "collect", lambda *args: pytest.fail("collected again"))
    monkeypatch.setattr(local, "VERSION", local.VERSION + 1)
    with pytest.raises(pytest.fail.Exception, match="collected again"):
        load("local:hopper-expert")


def test_new_experts_leave_the_other_caches(root):
    load("local:hopper-medium")
    kept = [behaviour(1, ["medium"]), behaviour(5, ["expert"])]
    path = root / "data" / "behaviours" / "hopper.safetensors"
    before = {kind: local._origin(local.find(f"hopper-{kind}"))["behaviours"] for kind in ("medium", "expert")}
    checkpoints.save(path, pack(kept), {"behaviours": [b.info for b in kept]})
    after = {kind: local._origin(local.find(f"hopper-{kind}"))["behaviours"] for kind in ("medium", "expert")}
    assert before["medium"] == after["medium"] and before["expert"] != after["expert"]


def test_data_that_do_not_fit_the_manifest_are_refused_and_not_cached(root):
    path = root / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["hopper-medium"]["mean"]["action_mean"][1] += 0.5
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"do not fit data/manifest.json: action_mean\[1\] is .* is due"):
        load("local:hopper-medium")
    assert not (root / "data" / "cache").exists()


def test_missing_files_are_named(root):
    manifest, behaviours = root / "data" / "manifest.json", root / "data" / "behaviours" / "hopper.safetensors"
    manifest.write_text("{}")
    with pytest.raises(ValueError, match="manifest.json says nothing about 'hopper-medium'"):
        load("local:hopper-medium")
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match="manifest.json is missing"):
        load("local:hopper-medium")
    behaviours.unlink()
    with pytest.raises(FileNotFoundError, match="hopper.safetensors is missing; restore it with git"):
        load("local:hopper-medium")


@pytest.mark.parametrize("name", ["local:hopper-best", "local:fish-medium", "hopper-medium", "", "web:x", None])
def test_unknown_names_are_refused_with_a_list(name):
    with pytest.raises(ValueError, match="there is no (local )?data set .*hopper-medium"):
        load(name)


def test_the_datasheet_says_what_was_measured(root):
    text = datasheet.write().read_text()
    for kind in local.KINDS:
        trajectories = load(f"local:hopper-{kind}")
        row = next(line for line in text.splitlines() if line.startswith(f"| local:hopper-{kind} |"))
        assert f"{len(trajectories):,}" in row and f"{trajectories.returns.mean():.0f} ± " in row
        assert f"{normalized_score('Hopper-v5', trajectories.returns.mean()):.1f}" in row
        assert trajectories.fingerprint() in text
    assert "Run hopper-7: 9,000 steps" in text and "TRAIN" in text and "SHIP" in text


def test_rollouts_keep_episodes_whole():
    episodes = rollout("Hopper-v5", behaviour(1), seed=0, steps=200, environments=4)
    assert sum(len(episode["rewards"]) for episode in episodes) >= 200
    for episode in episodes:
        assert len(episode["observations"]) == len(episode["actions"]) == len(episode["rewards"]) > 1
        assert episode["terminal"], "an untrained hopper falls"
        assert np.abs(episode["actions"]).max() <= 1
    assert len(rollout("Hopper-v5", behaviour(1), seed=0, episodes=3)) == 3
    assert mean_return([{"rewards": np.float32([1, 2])}, {"rewards": np.float32([5])}]) == 4


def test_a_rollout_replays_in_one_environment():
    """The recorded actions, taken again from the same start, earn the recorded rewards in the recorded states."""
    import gymnasium

    episode = rollout("Hopper-v5", behaviour(1), seed=7, episodes=1)[0]
    env = gymnasium.make("Hopper-v5")
    observation, _ = env.reset(seed=int(np.random.default_rng(7).integers(2**31)))
    for step, action in enumerate(episode["actions"]):
        np.testing.assert_allclose(observation, episode["observations"][step], rtol=1e-5, atol=1e-6)
        observation, reward, terminal, timeout, _ = env.step(action)
        assert reward == pytest.approx(episode["rewards"][step], rel=1e-5)
        assert terminal == (step == len(episode["rewards"]) - 1) and not timeout


def test_what_is_shipped_fits_its_recipes():
    root = local.ROOT
    manifest = json.loads((root / "data" / "manifest.json").read_text())
    for path in (root / "data" / "behaviours").glob("*.safetensors"):
        assert path.stat().st_size < 2 * 2**20
        tensors, description = checkpoints.load(path)
        kinds = {kind for info in description["behaviours"] for kind in info["sets"]}
        made = {kind for kind in RECIPES[path.stem].kinds if len(local.KINDS[kind]) == 1}
        assert kinds == (made or {"expert"})
        assert all(np.isfinite(tensor.numpy()).all() for tensor in tensors.values())
        for kind in made:
            assert manifest[f"{path.stem}-{kind}"]["env_id"] == RECIPES[path.stem].env_id
            assert manifest[f"{path.stem}-{kind}"]["transitions"] >= 200_000


def test_medium_is_found_at_a_third_of_the_expert(monkeypatch):
    """Snapshots whose returns are known: 0, 300, 600, ... of an expert of 3,000."""
    monkeypatch.setattr(ship, "rollout", lambda env_id, snapshot, seed, episodes: snapshot.info["return"])
    monkeypatch.setattr(ship, "mean_return", lambda value: value)
    snapshots = [SimpleNamespace(info={"steps": k, "return": 300.0 * k}) for k in range(11)]
    middle, returns = ship._medium("Hopper-v5", snapshots, normalized_score("Hopper-v5", 3000.0), 1)
    assert middle == 3 and returns == [300.0 * k for k in range(len(returns))] and returns[-2] < 2000 < returns[-1]
    assert ship._expert("Hopper-v5", snapshots, 1, 1) == (10, 3000.0)


def test_an_expert_is_of_the_second_half(monkeypatch):
    """The best return comes early, before the policy has settled."""
    monkeypatch.setattr(ship, "rollout", lambda env_id, snapshot, seed, episodes: snapshot.info["return"])
    monkeypatch.setattr(ship, "mean_return", lambda value: value)
    snapshots = [SimpleNamespace(info={"steps": 10 * k, "return": 1000.0 - abs(k - 4)}) for k in range(1, 11)]
    assert ship._expert("Hopper-v5", snapshots, 1, 1) == (5, 998.0)


def test_a_body_has_the_sets_of_its_recipe_only():
    assert local.find("humanoid-expert").env_id == "Humanoid45-v5" and "humanoid-expert" in local.names()
    with pytest.raises(ValueError, match="no local data set 'humanoid-medium'"):
        local.find("humanoid-medium")


def test_a_body_without_reference_returns_has_no_score():
    assert datasheet._score("Hopper-v5", 3234.3) == "100.0" and datasheet._score("Humanoid45-v5", 3234.3) == "-"


def test_scores():
    assert normalized_score("Hopper-v5", 3234.3) == pytest.approx(100)
    assert normalized_score("Walker2d-v4", [1.629008, 4592.3]) == pytest.approx([0, 100])
    with pytest.raises(ValueError, match="no reference returns for 'Fish-v1'"):
        normalized_score("Fish-v1", 3)


def test_a_dimension_that_agreed_between_seeds_by_chance_has_room_all_the_same():
    rng = np.random.default_rng(0)
    std, runs = np.array([1.0, 2.0, 5.0]), []
    for _ in range(5):
        means = 0.01 * std * rng.normal(size=3)
        means[1] = 0.0  # by chance the same in all of them
        run = {"observation_mean": means, "observation_std": std, "action_mean": means[:1], "action_std": std[:1]}
        runs.append(run | {"return_mean": 100.0})
    mean, tolerance = local.tolerances(runs)
    others = 6 * np.std([run["observation_mean"] for run in runs], axis=0, ddof=1)
    assert tolerance["observation_mean"][1] >= 2.0 * (others / std)[[0, 2]].min() > 0
    assert (tolerance["observation_mean"][[0, 2]] >= others[[0, 2]]).all()
    assert mean["return_mean"] == 100 and tolerance["return_mean"] == pytest.approx(1)
