"""Shortest paths in a graph, from random walks only (Chen et al. 2021, figure 2).

Nobody looked for the goal in these data: walkers strolled about, and some came by. What each
step earned is -1, and 0 once the goal is reached, so the return of a walk says in how many steps
it arrived. A model of such walks that is asked at each node for the best return it deems
possible there joins pieces of different walks: it finds paths that nobody walked.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ttlib.trajectories import Trajectories

LENGTH = 10  # steps of a walk


@dataclass(frozen=True, eq=False)
class Graph:
    """Directed edges (n, n) bool, [from, to], and the node that is the goal."""

    edges: np.ndarray
    goal: int

    def __len__(self):
        return len(self.edges)

    @classmethod
    def draw(cls, seed, nodes=20, density=0.1):
        """Each pair of nodes has an edge with probability `density`; each node has at least one way out.

        The goal is the node with the most ways in. Redrawn until it can be reached from at least half of the others.
        """
        if nodes < 2:
            raise ValueError(f"a graph needs at least 2 nodes, not {nodes}.")
        rng = np.random.default_rng([17, seed])
        while True:
            edges = rng.random((nodes, nodes)) < density
            np.fill_diagonal(edges, False)
            for node in np.flatnonzero(~edges.any(axis=1)):
                edges[node, rng.choice(np.delete(np.arange(nodes), node))] = True
            goal = int(edges.sum(axis=0).argmax())
            if np.isfinite(distances(edges, goal)).sum() - 1 >= (nodes - 1) / 2:
                return cls(edges, goal)


def distances(edges, goal):
    """(n,) steps of the shortest path from each node to the goal along `edges` (n, n); inf where there is none."""
    steps = np.full(len(edges), np.inf)
    front = np.zeros(len(edges), dtype=bool)
    front[goal], depth = True, 0
    while front.any():
        steps[front] = depth
        front = edges[:, front].any(axis=1) & np.isinf(steps)
        depth += 1
    return steps


def random_walks(graph, count=1000, seed=0, length=LENGTH):
    """Walks that begin at any node but the goal and take any edge; at the goal they stay.

    Returns:
        `Trajectories` of `count` episodes of `length` steps: observations are nodes, one-hot (n,), an
        action is the number of the next node (1,), the reward 0 for arriving at the goal and staying
        there, -1 for any other step. So a walk that arrives in d steps has the return 1 - d, and
        one that never does has -length.
    """
    rng = np.random.default_rng([18, seed])
    node = rng.choice(np.delete(np.arange(len(graph)), graph.goal), size=count)
    places = [node]
    for _ in range(length):
        drawn = np.where(graph.edges[node], rng.random((count, len(graph))), -1).argmax(axis=1)
        node = np.where(node == graph.goal, graph.goal, drawn)
        places.append(node)
    places = np.stack(places, axis=1)
    ends = np.tile(np.arange(length) == length - 1, count)
    return Trajectories(
        observations=np.eye(len(graph), dtype=np.float32)[places[:, :-1].ravel()],
        actions=places[:, 1:].reshape(-1, 1),
        rewards=np.where(places[:, 1:] == graph.goal, 0.0, -1.0).ravel(),
        terminals=np.zeros(len(ends), dtype=bool),
        timeouts=ends,
        name="random walks",
    )


def recorded(trajectories):
    """(E, L + 1) the nodes of each walk."""
    length = trajectories.lengths[0]
    first = trajectories.observations[::length].argmax(axis=1)
    return np.concatenate([first[:, None], trajectories.actions.reshape(-1, length).astype(int)], axis=1)


def seen_edges(trajectories, goal):
    """(n, n) bool, the edges along which some walk went; staying at the goal is none."""
    walks = recorded(trajectories)
    edges = np.zeros((trajectories.observation_dim,) * 2, dtype=bool)
    edges[walks[:, :-1].ravel(), walks[:, 1:].ravel()] = True
    edges[goal, goal] = False
    return edges


def best_walks(trajectories, goal):
    """(n,) the fewest steps in which a walk that *began* at each node arrived; inf if none did."""
    walks = recorded(trajectories)
    arrived = walks == goal
    steps = np.where(arrived.any(axis=1), arrived.argmax(axis=1), np.inf)
    best = np.full(trajectories.observation_dim, np.inf)
    np.minimum.at(best, walks[:, 0], steps)
    return best


@torch.inference_mode()
def find_paths(model, edges, goal, starts, length=LENGTH):
    """Paths from each of `starts` (E,) as the model goes when it is asked for returns, the best ones first.

    To arrive in one step is asked for, in two, and so on to as many as a walk has; of the paths that
    arrive, the shortest is the answer. No step is chosen by anything but the model; `edges` only
    say whether a step can be taken, and one that cannot ends that try.

    Args:
        model: a `DecisionTransformer` of discrete actions.
        edges: (n, n) bool, the edges that are known, such as those seen in the data.

    Returns:
        A list of E lists of nodes, start included, and the return that each was asked for (E,). Where no
        path arrives, it is the one of the largest return.
    """
    starts, asked = np.asarray(starts), -np.arange(length)  # to arrive in 1, 2, ... steps
    paths = torch.tensor(np.repeat(starts, length))[:, None]
    returns = torch.tensor(np.tile(asked, len(starts)), dtype=torch.float32)[:, None]
    known = torch.tensor(edges)
    stuck = torch.zeros(len(paths), dtype=torch.bool)
    for step in range(length):
        recent = slice(max(0, step + 1 - model.context), None)
        nodes, times = paths[:, recent], torch.arange(step + 1)[recent].expand(len(paths), -1)
        actions = torch.cat([nodes[:, 1:], torch.zeros_like(nodes[:, :1])], dim=1)
        observations = F.one_hot(nodes, len(edges)).float()
        chosen = model(returns[:, recent], observations, actions, times)[0][:, -1].argmax(dim=-1)
        here, arrived = paths[:, -1], paths[:, -1] == goal
        stuck |= ~arrived & ~known[here, chosen]
        paths = torch.cat([paths, torch.where(arrived | stuck, here, chosen)[:, None]], dim=1)
        returns = torch.cat([returns, (returns[:, -1:] + 1).clamp(max=0)], dim=1)
    tries = paths.view(len(starts), length, length + 1)
    steps = torch.where(tries[:, :, -1] == goal, (tries != goal).sum(dim=2), length + 1)
    shortest = steps.min(dim=1).indices  # the first of them, where several are
    found = tries[torch.arange(len(starts)), shortest].tolist()
    return [_without_waiting(path) for path in found], asked[shortest.numpy()]


def _without_waiting(path):
    """A path up to where it stays for good."""
    end = len(path)
    while end > 1 and path[end - 1] == path[end - 2]:
        end -= 1
    return path[:end]


def steps_of(paths, goal):
    """(E,) steps of each path that ends at the goal; inf for the others."""
    return np.array([len(path) - 1 if path[-1] == goal else np.inf for path in paths])
