"""Local maze data: walks from anywhere to anywhere else, by D4RL's recipe for AntMaze (Fu et al. 2020).

    load("local:antmaze-umaze")             an ant, led along the cells
    load("local:antmaze-large-diverse")
    load("local:pointmaze-medium-play")     a ball that is pushed
    load("local:pointmaze-medium-stitch")   the same, sent on short ways only

A walk has a start and a goal of its own: in `diverse` sets any two cells, in `play` sets (and in umaze)
two of `mazes.PLACES`, in `stitch` sets (as in OGBench, Park et al. 2025) any two that are near each
other. Whoever leads it looks up, breadth first, which cell comes next, and sends it to a jittered place
there. Its actions are disturbed. Afterwards all walks are relabelled (`maze_episodes`): what counts is
where they came, by chance, within half a metre of the one goal that is tested.

An ant that arrives is sent on to another goal, so that recordings do not end wherever ants turn to go on;
and it has `Whims`. Nobody is sent from the tested start to the tested goal, so the task has to be put
together from pieces of several walks.

    python -m ttlib.datasets.maze_walks try antmaze-large-diverse     says how many walks arrive
    python -m ttlib.datasets.maze_walks manifest pointmaze-umaze      measures rows of the manifest
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

import ttlib.envs  # noqa: F401  (registers the environments)
from ttlib.datasets import local
from ttlib.datasets.maze_episodes import relabel
from ttlib.datasets.policies import pack
from ttlib.envs.ant_maze import AntMaze, PointMaze
from ttlib.envs.ant_walker import FALLEN, STRENGTH, from_the_body, side_ahead, to_the_legs, upright
from ttlib.envs.guide import NOISE, Guide, Whims
from ttlib.envs.mazes import PLACES, Maze
from ttlib.progress import progress
from ttlib.trajectories import Trajectories

# An ant takes about 0.4 ms a step, a point 0.2: minutes for the largest sets.
TRANSITIONS = {"antmaze": 500_000, "pointmaze": 100_000}
LONGEST = {"antmaze": 1000, "pointmaze": 400}  # steps of a walk
GOES_ON = ("antmaze",)  # who is sent on to other goals until then, and has whims on the way
KINDS = {"umaze": ("",), "medium": ("-play", "-diverse"), "large": ("-play", "-diverse")}
STITCHED = ("pointmaze-medium-stitch",)
SHORT = 4  # cells that a walk of a stitch set goes at most
# Standard deviation of the velocity with which such a walk begins, m/s, about that of the point on its way. From rest
# nobody would ever be seen to turn round, and dynamic programming could not know that one can.
THROWN = 2.5
SCATTER = 0.25  # how far from the middle of its cell a walk begins, along x and y, in cells
GIVEN_UP = 200  # steps that an ant lies on its back before its walk ends
TOGETHER = 16  # walks in lock step; the data depend on it
# Raised whenever collection changes, so that older caches are made again.
VERSION = 2


@dataclass(frozen=True)
class MazeSet:
    """What is collected.

    Attributes:
        body: "antmaze" or "pointmaze".
        map: "umaze", "medium" or "large".
        kind: "", "-play", "-diverse" or "-stitch".
    """

    body: str
    map: str
    kind: str

    @property
    def name(self):
        return f"{self.body}-{self.map}{self.kind}"

    @property
    def env_id(self):
        body = {"antmaze": "AntMaze", "pointmaze": "PointMaze"}[self.body]
        return f"{body}{'UMaze' if self.map == 'umaze' else self.map.title()}-v0"

    @property
    def maze(self):
        return Maze.named(self.map, {"antmaze": AntMaze, "pointmaze": PointMaze}[self.body].size)

    @property
    def cells(self):
        """(K, 2) the cells that are starts and goals."""
        return self.maze.free if self.kind in ("-diverse", "-stitch") else np.array(PLACES[self.map])

    @property
    def farthest(self):
        """How many cells a walk is sent at most."""
        return SHORT if self.kind == "-stitch" else np.inf


def names():
    """The names of the maze sets, without the family `local:`."""
    mazes = [f"{name}{kind}" for name, kinds in KINDS.items() for kind in kinds]
    return [f"{body}-{maze}" for body in TRANSITIONS for maze in mazes] + list(STITCHED)


def find(name):
    """The `MazeSet` called `name`, e.g. "antmaze-large-play"; ValueError if there is none."""
    body, _, rest = name.partition("-")
    known, _, kind = rest.partition("-")
    if name not in names():
        raise ValueError(f"there is no maze data set {name!r}; there are {', '.join(names())}.")
    return MazeSet(body, known, f"-{kind}" if kind else "")


def load(name):
    """`Trajectories` of the maze set `name`, collected and cached on first use.

    Raises:
        ValueError: no such set, or what was collected does not fit the manifest.
        FileNotFoundError: the ant that walks is not shipped.
        OSError: the cache cannot be written.
    """
    wanted = find(name)
    origin = {"name": name, "version": VERSION, "seed": local.SEED, "transitions": TRANSITIONS[wanted.body]}
    if wanted.body == "antmaze":
        tensors = sorted(pack([walker()]).items())
        origin["walker"] = hashlib.sha256(b"".join(t.numpy().tobytes() for _, t in tensors)).hexdigest()[:16]
    return local.kept(name, wanted.env_id, origin, lambda: collect(wanted, TRANSITIONS[wanted.body]), on_its_legs)


def collect(wanted, transitions, seed=local.SEED, show=True):
    """Walk until at least about `transitions` steps are taken, and relabel; gives `Trajectories`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the policy is tiny
    try:
        with progress(total=transitions, label=f"collecting {wanted.name}", shown=show, unit=" steps") as bar:
            walks = walk(wanted, transitions, (seed, names().index(wanted.name)), bar.update)
    finally:
        torch.set_num_threads(threads)
    episodes = relabel(walks, wanted.maze.center(wanted.maze.goal))
    return Trajectories.from_episodes(episodes, name=f"local:{wanted.name}", env_id=wanted.env_id)


def walk(wanted, transitions, seed, on_step=None):
    """Begin walks as long as fewer than `transitions` steps are taken, and end all of them.

    Args:
        wanted: a `MazeSet`.
        seed: an integer or a sequence of integers.
        on_step: called with the number of steps just taken.

    Returns:
        List of dicts: observations (L + 1, N), the last one after the last action, actions (L, M), and whether the
        body `arrived` at its own, first goal, and `lies` on its back in the end.
    """
    rng, maze = np.random.default_rng(seed), wanted.maze
    move, strength = (_push, 1.0) if wanted.body == "pointmaze" else (_stride(walker()), STRENGTH)
    envs = [gymnasium.make(wanted.env_id).unwrapped for _ in range(TOGETHER)]
    guide, whims, walks, taken = Guide(maze, rng, TOGETHER), Whims(rng, TOGETHER), [], 0
    running = {}  # environment -> its walk

    def begin(number):
        start, goal = draw_pair(maze, wanted.cells, rng, wanted.farthest)
        place = maze.center(start) + rng.uniform(-1, 1, size=2) * SCATTER * maze.size
        options = {"start": place}
        if wanted.kind == "-stitch":
            options["velocity"] = rng.normal(scale=THROWN, size=2)
        observation, _ = envs[number].reset(seed=int(rng.integers(2**31)), options=options)
        guide.begin(number, start, goal)
        running[number] = {"observations": [observation], "actions": [], "lain": 0, "arrived": False}

    for number in range(TOGETHER):
        begin(number)
    while running:
        rows = np.array(sorted(running))
        seen = np.stack([running[number]["observations"][-1] for number in rows])
        waypoints = guide.waypoints(rows, seen[:, :2])
        if wanted.body in GOES_ON:
            waypoints = whims.redirect(rows, seen[:, :2], waypoints)
        actions = move(seen, waypoints, rng)
        actions = np.clip(actions + NOISE * rng.standard_normal(actions.shape), -1, 1)
        actions = (actions * strength).astype(np.float32)
        taken += len(rows)
        if on_step:
            on_step(len(rows))
        for number, action in zip(rows, actions, strict=True):
            one = running[number]
            observation = envs[number].step(action)[0]
            one["observations"].append(observation)
            one["actions"].append(action)
            lies = wanted.body == "antmaze" and upright(observation[3:7]) < FALLEN
            one["lain"] = one["lain"] + 1 if lies else 0
            over = len(one["actions"]) >= LONGEST[wanted.body] or one["lain"] >= GIVEN_UP
            if guide.arrived(number, observation[:2]):
                one["arrived"], here = True, guide.goals[number].copy()
                if wanted.body in GOES_ON:
                    guide.begin(number, here, draw_goal(maze, here, wanted.cells, rng))
                else:
                    over = True
            if over:
                arrays = {key: np.array(one[key], dtype=np.float32) for key in ("observations", "actions")}
                walks.append(arrays | {"arrived": one["arrived"], "lies": one["lain"] > 0})
                del running[number]
                if taken < transitions:
                    begin(number)
    for env in envs:
        env.close()
    return walks


def draw_pair(maze, cells, rng, farthest=np.inf):
    """A start and another cell as goal, two of `cells` (K, 2); never the tested start with the tested goal.

    Args:
        farthest: the goal is at most so many cells away, along the corridors.
    """
    while True:
        start, goal = cells[rng.choice(len(cells), 2, replace=False)]
        if (tuple(start), tuple(goal)) == (maze.start, maze.goal):
            continue
        if np.isinf(farthest) or maze.distances(start)[tuple(goal)] <= farthest:
            return start, goal


def draw_goal(maze, start, cells, rng):
    """Another of `cells` (K, 2) than `start` (2,); never the tested goal for one that begins at the tested start."""
    while True:
        goal = cells[rng.choice(len(cells))]
        if tuple(goal) != tuple(start) and (tuple(start), tuple(goal)) != (maze.start, maze.goal):
            return goal


def walker():
    """The shipped ant that goes where it is told.

    Raises:
        FileNotFoundError: it is not shipped.
    """
    return local.acting("antwalker", "expert")[0]


def _stride(behaviour):
    def move(seen, waypoints, rng):
        way = waypoints - seen[:, :2]
        direction = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        states = seen[:, 2:]
        actions = behaviour.act(from_the_body(states, direction), rng, noise=0.0)
        return to_the_legs(actions, side_ahead(states, direction))

    return move


def _push(seen, waypoints, rng):
    """D4RL's controller of the point: a pull toward the waypoint, and a brake."""
    return np.clip(10.0 * (waypoints - seen[:, :2]) - seen[:, 2:], -1, 1)


def describe(wanted, transitions, seed=1):
    """A sentence about fresh walks: how many arrive, how fast they are, and how many end on their back."""
    walks = walk(wanted, transitions, (seed, names().index(wanted.name)))
    moved = [np.linalg.norm(np.diff(one["observations"][:, :2], axis=0), axis=1) for one in walks]
    arrived, lies = (np.mean([one[key] for one in walks]) for key in ("arrived", "lies"))
    return (
        f"{wanted.name}: of {len(walks)} walks {arrived:.0%} arrive and {lies:.0%} end on their back; "
        f"{np.concatenate(moved).mean():.3f} m and {np.mean([len(steps) for steps in moved]):.0f} steps on average"
    )


def on_its_legs(trajectories):
    """(T,) bool: the steps in which a body does not lie on its back; a point never does.

    A walker falls once in hundreds of thousands of steps, and then lies there for so many that what the manifest says
    of small collections would not hold for a large one.
    """
    if not trajectories.env_id.startswith("Ant"):
        return np.ones(len(trajectories), dtype=bool)
    return upright(trajectories.observations[:, 3:7]) >= FALLEN


def _measure(wanted, transitions, seed):
    walked = collect(wanted, transitions, seed, show=False)
    return local.statistics(walked, on_its_legs(walked))


def main():
    parser = argparse.ArgumentParser(description="Try the walks of the maze data sets, or measure their manifest.")
    parser.add_argument("command", choices=["try", "manifest"])
    parser.add_argument("names", nargs="+", choices=names(), metavar="name", help=", ".join(names()))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--transitions", type=int, default=50_000)
    options = parser.parse_args()
    sets = {name: find(name) for name in options.names}
    # Relabelling leaves out the steps at the goal.
    rows = {name: (wanted.env_id, TRANSITIONS[wanted.body] * 8 // 10, wanted) for name, wanted in sets.items()}
    try:
        if options.command == "try":
            for wanted in sets.values():
                print(describe(wanted, options.transitions))
            return
        local.keep_rows(rows, _measure, options.seeds, options.transitions)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
