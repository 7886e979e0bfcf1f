"""MiniGrid: the shipped model in 1,000 maps that it has never seen, beside trivial agents, and in larger maps.

`make study NAME=minigrid` writes `figures/studies/minigrid.json`. All agents get the same maps, from the
evaluation's own seeds, and minigrid's own limit of 20 actions a room.
"""

import argparse
import sys
import time

import numpy as np

from ttlib.envs.minigrid_data import fewest_actions
from ttlib.envs.minigrid_maps import DOOR, FIRST_SEED, load_maps
from ttlib.map_control import GreedyAgent, MapController, RandomAgent, visit
from ttlib.map_encoder import MapTransformer
from ttlib.model import load_model
from ttlib.paths import ROOT
from ttlib.records import Record, claims_table

CHECKPOINT = ROOT / "data/checkpoints/minigrid.safetensors"


class OtherMap(MapController):
    """Sees the map of another episode."""

    def look(self, seen):
        super().look(np.roll(seen, 1, axis=0))


def new_shapes(maps, trained):
    """(M,) bool: maps of which no map in `trained` has the same walls and doors, whatever their order."""
    known = {np.minimum(cells, DOOR).tobytes() for cells in trained.cells}
    return np.array([np.minimum(cells, DOOR).tobytes() not in known for cells in maps.cells])


def measure(name, agent, maps):
    """A row of the study's table: how many goals an agent reaches, and how directly."""
    clock = time.perf_counter()
    done = visit(agent, maps)
    detour = done.lengths[done.reached] / fewest_actions(maps)[done.reached]
    row = {
        "agent": name,
        "rooms": maps.doors + 1,
        "maps": len(maps),
        "reached": round(float(done.reached.mean()), 4),
        "median actions over fewest": round(float(np.median(detour)), 3) if len(detour) else None,
        "seconds": round(time.perf_counter() - clock, 1),
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def run(maps=1000, tried=50, larger=200, horizon=1, beam_width=4):
    """Measure everything; `tried` maps for what is changed about the planner. Gives the `Record`."""
    model, tokenizer, about = load_model(CHECKPOINT, build=MapTransformer)
    held_out, six = load_maps(maps, "evaluation"), load_maps(larger, "evaluation", rooms=6)
    some = held_out[:tried]

    def planner(goals, kind=MapController, horizon=horizon, beam_width=beam_width, **settings):
        return kind(model, tokenizer, goals, horizon, beam_width, **settings)

    record = Record(
        "minigrid",
        "studies",
        parameters={"maps": maps, "tried": tried, "larger": larger, "horizon": horizon, "beam_width": beam_width}
        | {"trained": {key: about[key] for key in ("maps", "seeds", "tokens", "minutes", "commit") if key in about}},
        seeds=[FIRST_SEED["evaluation"], FIRST_SEED["evaluation"] + max(maps, larger) - 1],
        datasets={"minigrid, 4 rooms": held_out.fingerprint(), "minigrid, 6 rooms": six.fingerprint()},
    )
    rows = record.rows
    rows.append(measure("likelihood beam search", planner(held_out.goals), held_out))
    fresh = held_out[new_shapes(held_out, load_maps(about["maps"]))]
    rows.append(measure("likelihood beam search, shapes not in the training maps", planner(fresh.goals), fresh))
    rows.append(measure("greedy toward the goal", GreedyAgent(held_out.goals), held_out))
    rows.append(measure("random", RandomAgent(), held_out))
    rows.append(measure("likelihood beam search", planner(six.goals), six))
    rows.append(measure("greedy toward the goal", GreedyAgent(six.goals), six))
    rows.append(measure("the same without memory", planner(some.goals, remember=False), some))
    rows.append(
        measure("the likeliest action, neither search nor memory", planner(some.goals, horizon=1, beam_width=1), some)
    )
    rows.append(measure("sees an empty image", planner(some.goals, blind=True), some))
    rows.append(measure("sees another episode's map", planner(some.goals, OtherMap), some))
    reached = [row["reached"] for row in rows]
    record.claim("reach_rate", reached[0], "fraction", (0.94, 1.0), paper=0.94, note="held-out maps of 4 rooms")
    note = f"{len(fresh)} of these maps: no training map has the same walls and doors, moved to the corner"
    record.claim("reach_rate_new_shapes", reached[1], "fraction", (0.94, 1.0), note=note)
    record.claim(
        "reach_rate_greedy",
        reached[2],
        "fraction",
        (0.6, 0.9),
        note="the same maps; no model; acts at random where it is stuck",
    )
    record.claim("reach_rate_random", reached[3], "fraction", (0.0, 0.05), note="the same maps; no model")
    record.claim(
        "reach_rate_without_memory",
        reached[6],
        "fraction",
        (0.9, 1.0),
        note="the first of these maps; may go round in circles",
    )
    record.claim("reach_rate_6_rooms", reached[4], "fraction", (0.2, 0.7), note="the model was trained on 4 rooms")
    record.write()
    return record


def main():
    parser = argparse.ArgumentParser(description="Measure the shipped MiniGrid model on maps it has never seen.")
    for name, default in (("maps", 1000), ("tried", 50), ("larger", 200), ("horizon", 1), ("beam-width", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    try:
        record = run(**vars(parser.parse_args()))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(claims_table([(None, claim) for claim in record.claims]))


if __name__ == "__main__":
    main()
