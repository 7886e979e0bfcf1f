from collections import deque

import numpy as np
import pytest
import torch

from ttlib.envs.graph_walks import (
    Graph,
    best_walks,
    distances,
    find_paths,
    random_walks,
    recorded,
    seen_edges,
    steps_of,
)


def breadth_first(edges, goal):
    """Steps to the goal, by a queue over the edges backwards."""
    steps, queue = {goal: 0}, deque([goal])
    while queue:
        node = queue.popleft()
        for before in range(len(edges)):
            if edges[before, node] and before not in steps:
                steps[before] = steps[node] + 1
                queue.append(before)
    return np.array([steps.get(node, np.inf) for node in range(len(edges))])


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_those_of_breadth_first_search(seed):
    edges = np.random.default_rng(seed).random((15, 15)) < 0.1
    np.testing.assert_array_equal(distances(edges, 3), breadth_first(edges, 3))


def test_graphs_are_sparse_have_ways_out_and_lead_to_the_goal():
    for seed in range(5):
        graph = Graph.draw(seed)
        assert graph.edges.any(axis=1).all()
        assert not graph.edges.diagonal().any()
        assert 25 <= graph.edges.sum() <= 65
        assert np.isfinite(distances(graph.edges, graph.goal)).sum() > 10
    np.testing.assert_array_equal(Graph.draw(3).edges, Graph.draw(3).edges)


def test_walks_follow_edges_stay_at_the_goal_and_are_paid_for_arriving():
    graph = Graph.draw(0)
    data = random_walks(graph, count=200, seed=1)
    walks = recorded(data)
    assert walks.shape == (200, 11)
    for walk, value in zip(walks.tolist(), data.returns, strict=True):
        for here, there in zip(walk, walk[1:], strict=False):
            assert graph.edges[here, there] or here == there == graph.goal
        assert walk[0] != graph.goal
        assert value == (-10 if graph.goal not in walk else 1 - walk.index(graph.goal))
    seen = seen_edges(data, graph.goal)
    assert not (seen & ~graph.edges).any()
    best = best_walks(data, graph.goal)
    assert (best >= distances(seen, graph.goal)).all()
    assert min(best) == 1


class Table(torch.nn.Module):
    """A model that goes to `way[node][return]`, whatever came before."""

    context = 10

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, returns, observations, actions, times):
        assert returns.shape == actions.shape == times.shape == observations.shape[:2]
        nodes = observations.argmax(dim=-1)
        assert (actions[:, :-1] == nodes[:, 1:]).all()  # what was done led to where it is
        chosen = [
            [self.way(int(n), int(r)) for n, r in zip(*row, strict=True)] for row in zip(nodes, returns, strict=True)
        ]
        return torch.nn.functional.one_hot(torch.tensor(chosen), observations.shape[-1]).float(), None


def test_paths_are_what_the_model_does_when_asked_and_the_shortest_counts():
    edges = np.zeros((5, 5), dtype=bool)  # 0 -> 1 -> 2 -> 4, 0 -> 3 -> 4
    for here, there in [(0, 1), (1, 2), (2, 4), (0, 3), (3, 4)]:
        edges[here, there] = True

    def way(node, asked):
        if node == 0:
            return {0: 4, -1: 3}.get(asked, 1)  # asked to arrive at once, it takes an edge that is not there
        return {1: 2, 2: 4, 3: 4, 4: 4}[node]

    found, asked = find_paths(Table(way), edges, 4, [0, 1])
    assert found == [[0, 3, 4], [1, 2, 4]]
    assert asked.tolist() == [-1, 0]
    assert steps_of(found, 4).tolist() == [2, 2]
    edges[0, 3] = False
    found, asked = find_paths(Table(way), edges, 4, [0])
    assert (found, asked.tolist()) == ([[0, 1, 2, 4]], [-2])
    edges[2, 4] = False
    found, _ = find_paths(Table(way), edges, 4, [0])
    assert steps_of(found, 4).tolist() == [np.inf]


def test_too_small_a_graph_is_refused():
    with pytest.raises(ValueError, match="at least 2 nodes"):
        Graph.draw(0, nodes=1)
