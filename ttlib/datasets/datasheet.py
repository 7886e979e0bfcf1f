"""The datasheet of the local data sets, written from what is measured on them.

    python -m ttlib.datasets.datasheet

loads (so, if need be, collects) every local set whose behaviours are shipped and
writes `data/DATASHEET.md`.
"""

import argparse
import sys

import numpy as np

from ttlib import checkpoints
from ttlib.datasets import load, maze_episodes, maze_walks, normalized_score
from ttlib.datasets.behaviours import RECIPES
from ttlib.datasets.local import SEED, manifest
from ttlib.envs.ant_maze import RADIUS
from ttlib.envs.ant_walker import STRENGTH
from ttlib.envs.guide import JITTER, NOISE, WHIM_EVERY, WHIM_LASTS
from ttlib.paths import ROOT

INTRODUCTION = """# Datasheet of the local data sets

Written by `python -m ttlib.datasets.datasheet` from the data themselves; do not edit it by hand.

Every set is collected on first use in real MuJoCo by policies that are shipped in `data/behaviours/`
(`ttlib.datasets.load("local:hopper-medium")`), checked against `data/manifest.json` and kept in `data/cache/local/`.
On one machine the same versions give the same data; on another, rounding leads to other episodes of the same policies,
so the figures below may differ by what the manifest allows.

## How each kind is made
- **Behaviours**: PPO (stable-baselines3) by the recipe of each body, which stands below; a snapshot of the policy
  every few updates. Actions are sampled as in training and clipped to the action's bounds.
- **expert**: of the snapshots of a run's second half (of its last quarter for Hopper and Walker2d), the one with the
  best mean return over 40 episodes. Of several runs, the one with the better expert is used for all sets.
- **medium**: the three consecutive early snapshots whose mean normalised score is nearest to a third of the expert's.
- **medium-replay**: every snapshot up to the middle one of these, each acting for an equal share of the steps.
- **medium-expert**: medium, then expert.
- Episodes end in a terminal (the task's own end) or in a timeout after 1,000 steps; none is cut otherwise.
  The policies are chosen on other random numbers than the data are collected with.

## How this differs from D4RL
1. D4RL's behaviours are SAC's; these are PPO's. Scores by the same reference returns can be compared, the data cannot
   be exchanged.
2. D4RL's medium data come from one policy stopped early; these come from three neighbouring snapshots, so their returns
   spread more.
3. D4RL's environments are MuJoCo's `-v2`; these are `-v5`, and models of these data are evaluated there.

## How medium-replay differs from a real replay buffer
1. PPO is on-policy and has no buffer. What its run saw is imitated: the snapshots act again, each for an equal share.
2. Between two snapshots the policy stands still, while in the run it changed `snapshot_every` times; the run's
   first transitions, before the first snapshot, are missing.
3. Each snapshot starts from freshly reset environments and finishes every episode, while in the run an episode could
   see several policies.
4. The number of transitions is chosen by us and is not the number that the run had seen.
5. Episodes lie in the order of the snapshots, oldest policy first.
"""


def write():
    """Write `data/DATASHEET.md` and return its path."""
    sections = [INTRODUCTION]
    bodies = [body for body in RECIPES if (ROOT / "data" / "behaviours" / f"{body}.safetensors").exists()]
    for body in bodies:
        sections.append(_behaviours(body))
        sets = {f"{body}-{kind}": load(f"local:{body}-{kind}") for kind in RECIPES[body].kinds}
        sections += [_table(sets)] if sets else []
        sections += [_set(name, trajectories) for name, trajectories in sets.items()]
    mazes = [name for name in maze_walks.names() if name in manifest()]
    sections += [_mazes(mazes)] if mazes else []
    path = ROOT / "data" / "DATASHEET.md"
    with checkpoints.written_atomically(path) as temporary:
        temporary.write_text("\n".join(sections))
    return path


def _behaviours(body):
    """Where the policies of `body` come from, and a row for each."""
    _, description = checkpoints.load(ROOT / "data" / "behaviours" / f"{body}.safetensors")
    env_id, provenance = description["recipe"]["env_id"], description["provenance"]
    lines = [f"## {env_id}", "", f"Trained with `{provenance['train']}`, chosen with `{provenance['ship']}`."]
    for run in provenance["runs"]:
        used = "used for all sets" if run["used"] else "not used"
        lines.append(
            f"Run {run['folder']}: {run['steps']:,} steps in {run['minutes']:.0f} minutes ({provenance['device']}), "
            f"expert's return {run['expert_return']:.0f}; {used}."
        )
    recipe = ", ".join(f"{key} {value}" for key, value in description["recipe"].items() if key != "env_id")
    lines += [
        "",
        f"Recipe: {recipe}.",
        "",
        "| policy after steps | acts in | mean return when chosen | normalised |",
        "| --- | --- | --- | --- |",
    ]
    for info in description["behaviours"]:
        value = info["measured_return"]
        lines.append(f"| {info['steps']:,} | {', '.join(info['sets'])} | {value:.0f} | {_score(env_id, value)} |")
    return "\n".join(lines) + "\n"


def _table(sets):
    lines = [
        "| set | transitions | episodes | return, mean ± std | least | greatest | score | mean length | terminals |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, t in sets.items():
        returns = t.returns
        lines.append(
            f"| local:{name} | {len(t):,} | {len(returns):,} | {returns.mean():.0f} ± {returns.std():.0f} "
            f"| {returns.min():.0f} | {returns.max():.0f} | {_score(t.env_id, returns.mean())} "
            f"| {t.lengths.mean():.0f} | {t.terminals.sum() / len(returns):.0%} |"
        )
    note = (
        "*terminals*: the share of episodes that end in one; the others end in a timeout. "
        "*score*: of the mean return, by D4RL's reference returns."
    )
    return "\n".join([*lines, "", note, ""])


def _score(env_id, value):
    """The normalised score in print; a dash for a body that D4RL has no reference returns of."""
    try:
        return f"{normalized_score(env_id, value):.1f}"
    except ValueError:
        return "-"


def _set(name, trajectories):
    """Histogram of the returns of one set, as text."""
    counts, edges = np.histogram(trajectories.returns, bins=10)
    lines = [f"### local:{name}", "", f"Seed {SEED}, fingerprint `{trajectories.fingerprint()}`.", "", "```"]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        lines.append(f"return {low:6.0f} to {high:6.0f}  {count:5d}  {'#' * round(40 * count / counts.max())}".rstrip())
    return "\n".join([*lines, "```", ""])


MAZES = f"""## Mazes

Walks through AntMaze and PointMaze (`ttlib.datasets.maze_walks`), led from cell to cell by a breadth-first search:
the ant by the policy antwalker, which faces east whichever way it goes, the point by a pull toward its waypoint.
Waypoints lie 0 to {JITTER} of a cell from the middle of theirs, actions have normal noise of {NOISE} added
and are clipped. The ant uses {STRENGTH} of its torques, with noise of {NOISE} of that, since with all of them it falls;
and it has whims: about every {WHIM_EVERY} steps it goes any way, for {WHIM_LASTS[0]} to {WHIM_LASTS[1]} steps.

A walk goes from one cell to another: in `diverse` sets any two, in `play` sets and in umaze two of a few that stand in
`ttlib.envs.mazes.PLACES`, in the `stitch` set (named after OGBench's, Park et al. 2025) any two that are at most
{maze_walks.SHORT} cells apart, with a velocity at the start, normal with {maze_walks.THROWN} m/s a direction, so that
bodies are seen to turn round; never from the tested start to the tested goal. An ant that arrives is sent on to another
such cell, until it has walked for {maze_walks.LONGEST["antmaze"]:,} steps. Afterwards an episode ends, with reward 1
and a terminal, where it comes within {RADIUS} m of the tested goal, and in a timeout otherwise.

How this differs from D4RL: 1. the point's walks end at their own goal, so they are shorter; 2. umaze has walks between
four cells, where D4RL's has the tested start and goal only; 3. a body counts as being in a cell once it is well inside,
and a waypoint that is not reached is drawn anew, both against corners; 4. the last waypoint has no jitter; 5. an ant
that lies on its back for {maze_walks.GIVEN_UP} steps is given up; 6. the ant is gymnasium's, not D4RL's, and has whims.
"""


def _mazes(names):
    """How maze data are made, a row for each set, and where its steps are."""
    lines = [
        MAZES,
        "| set | transitions | episodes | mean length | reach the goal | of these, from the start | fingerprint |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    maps = []
    for name in names:
        t, maze = load(f"local:{name}"), maze_walks.find(name).maze
        ends = t.terminals.sum()
        lines.append(
            f"| local:{name} | {len(t):,} | {len(t.lengths):,} | {t.lengths.mean():.0f} | {ends / len(t.lengths):.1%} "
            f"| {maze_episodes.solved(t, maze).sum()} | `{t.fingerprint()}` |"
        )
        counts = maze_episodes.coverage(t, maze)
        maps += [f"### local:{name}: thousands of steps in each cell", "", "```"]
        for walls, row in zip(maze.rows, counts, strict=True):
            cells = ["#####" if wall else f"{count / 1000:5.1f}" for wall, count in zip(walls, row, strict=True)]
            maps.append(" ".join(cells))
        maps += ["```", ""]
    return "\n".join([*lines, "", *maps])


def main():
    argparse.ArgumentParser(description="Write data/DATASHEET.md from the local data sets.").parse_args()
    try:
        print(write())
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
