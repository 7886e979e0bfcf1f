"""A model with a map: what its context depends on, how it is trained, kept and steered."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ttlib.envs.minigrid_data import LAYOUT, MapWindows, make_tokenizer
from ttlib.envs.minigrid_maps import AHEAD, DOOR, FREE, WALL, Maps, generate, images
from ttlib.map_control import GreedyAgent, MapController, RandomAgent, visit
from ttlib.map_encoder import MapTransformer
from ttlib.model import TrajectoryTransformer, load_model, save_model
from ttlib.paths import ROOT
from ttlib.search import Plan
from ttlib.settings import Settings
from ttlib.training import train

SHIPPED = ROOT / "data/checkpoints/minigrid.safetensors"


@pytest.fixture(scope="module")
def maps():
    return generate(range(800, 808))


def small_model(seed=0):
    torch.manual_seed(seed)
    size = {"layers": 1, "heads": 2, "width": 16, "dropout": 0.0}
    return MapTransformer(LAYOUT, 25, 2, encoder={"features": 8, "narrow": 2, "hidden": 16}, **size)


def test_with_the_vector_of_its_image_it_is_the_model_without_a_map(maps):
    model = small_model().eval()
    tokens, _, (seen, rows) = MapWindows(maps, passes=1, each=4, random=0).batch(torch.arange(32))
    plain = TrajectoryTransformer.forward(model, tokens, model.encoder(seen)[rows])
    torch.testing.assert_close(model(tokens, (seen, rows)), plain)
    assert not torch.allclose(plain, TrajectoryTransformer.forward(model, tokens, None))


def test_a_door_that_opens_changes_the_vector_and_nothing_else_does(maps):
    model, opened = small_model(), np.zeros((len(maps), maps.doors), dtype=bool)
    before = model.encoder(torch.from_numpy(images(maps.cells, opened)))
    opened[3, 1] = True
    after = model.encoder(torch.from_numpy(images(maps.cells, opened)))
    changed = (before - after).abs().amax(dim=1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [3]


def test_it_learns_and_a_killed_run_ends_with_the_same_weights(maps, tmp_path):
    windows = MapWindows(maps, passes=2, each=8, random=1)
    settings = Settings(tokens=64 * 9 * 30, batch=64, learning_rate=5e-3, log_every=5, save_every=5, bf16=False)
    whole = small_model()
    curve = train(whole, windows, settings, tmp_path / "whole")
    assert curve[-1]["loss"] < 0.75 * curve[0]["loss"]

    def stop(row):
        if row["step"] == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_model(), windows, settings, tmp_path / "killed", stop)
    resumed = small_model(seed=1)
    train(resumed, windows, settings, tmp_path / "killed")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_a_checkpoint_brings_back_the_same_model_and_no_other_kind(maps, tmp_path):
    model, file = small_model(), tmp_path / "map.safetensors"
    save_model(file, model, make_tokenizer(), {"maps": 8})
    back, tokenizer, about = load_model(file, build=MapTransformer)
    seen = torch.from_numpy(images(maps.cells, np.zeros((len(maps), maps.doors), dtype=bool)))
    torch.testing.assert_close(back.encoder(seen), model.encoder(seen), rtol=0, atol=0.02)
    assert about == {"maps": 8} and tokenizer.layout == LAYOUT
    with pytest.raises(ValueError, match="holds no trajectory transformer; it says"):
        load_model(file)
    plain = TrajectoryTransformer(LAYOUT, 25, 2, layers=1, heads=2, width=16)
    save_model(file, plain, make_tokenizer(), {})
    with pytest.raises(ValueError, match="holds no trajectory transformer with a map"):
        load_model(file, build=MapTransformer)


def before_the_first_door(maps, number):
    """A pose (3,) in the first room that faces its door."""
    (door,) = np.argwhere(maps.cells[number] == DOOR)
    for heading, (x, y) in enumerate(door - AHEAD):
        left, top, width, height = maps.rooms[number, 0]
        if maps.cells[number, x, y] == FREE and left < x < left + width - 1 and top < y < top + height - 1:
            return x, y, heading


def test_a_visit_looks_anew_when_a_door_moves_and_forgets_who_arrived(maps):
    """The vectors that are kept are those of the images of this moment, episode by episode."""
    checked = []

    class Watched(MapController):
        def search(self, prompt):
            torch.testing.assert_close(self.vectors, self.model.encoder(self.seen), rtol=1e-4, atol=1e-5)
            checked.append(len(prompt))
            tokens = super().search(prompt).tokens.clone()
            tokens[:, :, 0] = 3 if len(checked) % 3 else 2  # toggles and steps, so that doors do move
            return Plan(tokens, None)

    near = replace(maps, goals=maps.goals.copy(), starts=maps.starts.copy())
    near.goals[0] = near.starts[0, :2]  # is there already
    near.starts[1] = before_the_first_door(maps, 1)
    done = visit(Watched(small_model().eval(), make_tokenizer(), near.goals, beam_width=3), near, 40)
    assert checked[0] == len(maps) - 1 and done.lengths[0] == 0 and done.reached[0]
    assert done.poses.shape[0] == len(done.actions) + 1 and done.opened.any()
    assert np.array_equal(done.reached, (done.poses[-1, :, :2] == near.goals).all(axis=1))


def test_who_comes_back_to_a_situation_tries_something_else(maps):
    """In a row of the same situation, the four actions of a model come up in the order of their likelihood."""
    model, one = small_model().eval(), maps[:1]
    agents = {kind: MapController(model, make_tokenizer(), one.goals, 1, 25, remember=kind) for kind in (True, False)}
    acted = {True: [], False: []}
    for kind, agent in agents.items():
        agent.reset(1)
        for _ in range(4):
            agent.look(images(one.cells, np.zeros((1, one.doors), dtype=bool)))
            acted[kind].append(int(agent.act(one.starts.astype(np.float32))[0, 0]))
            agent.observe(np.zeros(1))
    prompt = torch.tensor([[*one.goals[0].tolist(), *one.starts[0].tolist()]])
    logits = TrajectoryTransformer.forward(model, prompt, agents[True].vectors)[0, -1, :25]
    assert acted[True] == logits.argsort(descending=True)[:4].tolist()
    assert len(set(acted[False])) == 1


def test_a_model_for_other_maps_is_refused(maps):
    model = small_model()
    model.grid = 19
    with pytest.raises(ValueError, match="trained for maps of 19 x 19"):
        visit(MapController(model, make_tokenizer(), maps.goals), maps)


def one_room():
    cells = np.full((1, 25, 25), WALL, dtype=np.uint8)
    cells[0, 1:9, 1:9] = FREE
    return Maps(cells, np.array([[(0, 0, 10, 10)]]), np.array([(1, 1, 3)]), np.array([(7, 5)]))


def test_trivial_agents(maps):
    room = one_room()
    greedy = visit(GreedyAgent(room.goals), room)
    assert greedy.reached.all() and greedy.lengths[0] <= 12
    few, many = (visit(agent, maps) for agent in (RandomAgent(0), GreedyAgent(maps.goals)))
    assert few.poses.shape[1:] == (len(maps), 3) and few.lengths.max() == 80
    assert many.reached.sum() <= len(maps)


@pytest.mark.skipif(not SHIPPED.exists(), reason="no checkpoint is shipped")
def test_the_shipped_model_reaches_goals_in_maps_it_never_saw():
    assert SHIPPED.stat().st_size <= 5e6
    model, tokenizer, about = load_model(SHIPPED, build=MapTransformer)
    fresh = generate(range(10_000_000, 10_000_020))
    assert not set(range(10_000_000, 10_000_020)) & set(range(about["seeds"][0], about["seeds"][1] + 1))
    done = visit(MapController(model, tokenizer, fresh.goals), fresh)
    assert done.reached.mean() >= 0.8
