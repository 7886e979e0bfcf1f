"""What the model learns MiniGrid from: trajectories of an agent that finds its goals, and of one that only stumbles.

The first follows a shortest way, counted in actions, to a goal of its own; the second chooses each
action at random. Nobody tells the model which goals they had: any place that a trajectory
visits later is a goal for which what it did before is an example.

Doors start closed. A shortest way never depends on them: rooms make a chain, so whoever goes from
one to another must pass the doors between, and opening each costs one action whatever the way.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch

from ttlib import checkpoints
from ttlib.discretize import Bins
from ttlib.envs.minigrid_maps import AHEAD, DOOR, FORWARD, LEFT, RIGHT, SIZE, TOGGLE, front, images, reachable, step
from ttlib.tokens import Layout, Tokenizer

LAYOUT = Layout(observation=3, action=1, values=False, goal=2)  # goal x, y; then x, y, heading, action
FAR = 127  # a distance that no place has


def make_tokenizer():
    """One token a number: x, y, heading and action stand for themselves."""
    edges = torch.arange(SIZE + 1.0).expand(LAYOUT.transition, -1) - 0.5
    return Tokenizer(LAYOUT, Bins(edges), method="uniform")


class Ways:
    """The places of M maps and how they are joined.

    Attributes:
        places: (M, P, 2) the free places and doors that the start is joined to; the rest of a row is unused.
        count: (M,) how many there are.
        number: (M, 25, 25) the place's number, or -1.
        ahead: (M, P, 4) number of the place in front, by heading; a place's own where a wall is.
    """

    def __init__(self, maps):
        inside = reachable(maps)
        self.count = inside.sum(axis=(1, 2))
        self.number = np.where(inside, inside.reshape(len(maps), -1).cumsum(axis=1).reshape(inside.shape) - 1, -1)
        self.places = np.zeros((len(maps), self.count.max(), 2), dtype=np.int64)
        m, i, j = np.nonzero(inside)
        self.places[m, self.number[m, i, j]] = np.stack([i, j], axis=1)
        around = self.places[:, :, None] + AHEAD
        rows = np.arange(len(maps))[:, None, None]
        self.ahead = self.number[rows, around[..., 0].clip(0, SIZE - 1), around[..., 1].clip(0, SIZE - 1)]
        own = np.broadcast_to(np.arange(self.places.shape[1])[:, None], self.ahead.shape)
        self.ahead = np.where(self.ahead < 0, own, self.ahead)

    def distances(self, rows, goals):
        """Actions to each goal from everywhere, doors open.

        Args:
            rows: (B,) maps.
            goals: (B,) numbers of places in them.

        Returns:
            (B, P, 4) int8 by place and heading; `FAR` where no way leads.
        """
        width = self.places.shape[1]
        first = np.arange(len(rows)) * width
        ahead = (self.ahead[rows].transpose(2, 0, 1) + first[:, None]).reshape(4, -1)
        ahead += np.arange(4)[:, None] * ahead.shape[1]
        found = np.full(ahead.shape, FAR, dtype=np.int8)  # by heading, then all places of all rows
        found[:, first + goals] = 0
        while True:
            best = np.minimum(found[[1, 2, 3, 0]], found[[3, 0, 1, 2]])
            np.minimum(best, found.take(ahead), out=best)
            np.minimum(best, FAR - 1, out=best)
            best += 1
            np.minimum(best, found, out=best)
            if (best == found).all():
                return found.reshape(4, len(rows), width).transpose(1, 2, 0)
            found = best


def expert_actions(cells, ways, rows, distances, poses, opened):
    """(B,) what an agent does that takes a shortest way: forward if that is one, else left, else right.

    Before a closed door on its way it toggles.

    Args:
        cells: (B, 25, 25) codes.
        rows: (B,) maps in `ways`.
        distances: (B, P, 4), see `Ways.distances`.
        poses, opened: (B, 3) and (B, D) where it is and which doors are open.
    """
    each, place, heading = np.arange(len(rows)), ways.number[rows, poses[:, 0], poses[:, 1]], poses[:, 2]
    here = distances[each, place, heading]
    on = distances[each, ways.ahead[rows, place, heading], heading] < here
    left = distances[each, place, (heading - 1) % 4] < here
    ahead = front(poses)
    code = cells[each, ahead[:, 0], ahead[:, 1]].astype(int)
    closed = (code >= DOOR) & ~opened[each, np.maximum(code - DOOR, 0)]
    return np.where(on, np.where(closed, TOGGLE, FORWARD), np.where(left, LEFT, RIGHT))


@dataclass
class Walks:
    """B trajectories of at most T actions.

    Attributes:
        poses: (B, T + 1, 3); a walk that has ended stays where it is.
        opened: (B, T + 1, D) bool.
        actions: (B, T).
        lengths: (B,) actions of each.
    """

    poses: np.ndarray
    opened: np.ndarray
    actions: np.ndarray
    lengths: np.ndarray


def walk(maps, ways, rows, starts, opened, goals, rng=None, steps=80, after_change=None):
    """Walk in the maps `rows` (B,) from the poses `starts` (B, 3) while the doors `opened` (B, D) are open.

    Args:
        goals: (B,) numbers of places, where a walk ends.
        rng: of random walks, which have no goal; None follows the shortest way.
        steps: the longest walk.
        after_change: end so many steps after a door was first opened or closed; None walks on.
    """
    cells, distances = maps.cells[rows], None if rng else ways.distances(rows, goals)
    poses, doors, actions = [starts], [opened], []
    left, lengths = np.full(len(rows), steps), np.zeros(len(rows), dtype=int)
    while True:
        here = poses[-1]
        going = (left > 0) & (True if rng else ways.number[rows, here[:, 0], here[:, 1]] != goals)
        if not going.any():
            break
        if rng:
            chosen = rng.integers(4, size=len(rows))
        else:
            chosen = expert_actions(cells, ways, rows, distances, here, doors[-1])
        moved, turned = step(cells, here, doors[-1], chosen)
        poses.append(np.where(going[:, None], moved, here))
        doors.append(np.where(going[:, None], turned, doors[-1]))
        actions.append(chosen)
        lengths += going
        left -= 1
        if after_change is not None:
            left = np.where((doors[-1] != doors[-2]).any(axis=1), np.minimum(left, after_change), left)
    return Walks(np.stack(poses, 1), np.stack(doors, 1), np.stack(actions, 1), lengths)


class MapWindows:
    """What the model trains on: short pieces of walks in many maps, each with a goal and the map's image at its start.

    Neighbouring windows, `each` at a time, share one image: they are cut from walks that start
    anywhere in one map while the same doors are open, before the first of these doors changes.

    Args:
        maps: `Maps`.
        passes: images a map, each with doors and walks of its own.
        each: windows an image.
        group: how many of them a batch takes together. Few, and a batch shows many maps, from which
            the model learns faster; many, and fewer images are to be read.
        random: how many of `each` are cut from a random walk; the others from walks to a goal.
        walks: walks to a goal that the others are cut from.
        transitions: of a window. Two are enough to learn where an action leads.
        relabel: whether the goal of a random walk is a place that it came to later; if not, it is
            the place it was meant for, which it hardly ever finds.
        seed: of doors, walks and windows.
    """

    def __init__(self, maps, passes=1, each=16, group=4, random=2, walks=5, transitions=2, relabel=True, seed=0):
        if each % group:
            raise ValueError(f"{each} windows an image cannot be taken {group} at a time; choose a divisor.")
        self.layout, self.maps, self.transitions, self.device = LAYOUT, maps, transitions, "cpu"
        self.each, self.group, chunk = each, group, 500
        kinds = [(each - random, walks, False), (random, 1, True)]
        parts = []
        for turn in range(passes):
            for begin in range(0, len(maps), chunk):
                some, rng = maps[begin : begin + chunk], np.random.default_rng([seed, turn, begin])
                ways, opened = Ways(some), rng.integers(2, size=(len(some), maps.doors)) == 1
                cut = [
                    _windows(some, ways, opened, count, number, transitions, rng, stray, relabel)
                    for count, number, stray in kinds
                    if count
                ]
                bits = (opened << np.arange(maps.doors)).sum(axis=1)
                mixed = rng.permuted(np.tile(np.arange(each), (len(some), 1)), axis=1)
                tokens, left = (np.concatenate(kind, axis=1) for kind in zip(*cut, strict=True))
                tokens = np.take_along_axis(tokens, mixed[..., None], axis=1)
                parts.append((tokens, np.take_along_axis(left, mixed, axis=1), bits))
        tokens, left, bits = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        self.tokens, self.left = torch.from_numpy(tokens).flatten(0, 1), torch.from_numpy(left).flatten()
        self.doors = bits  # of each image

    def __len__(self):
        return len(self.tokens)

    def fingerprint(self):
        """Short hash of the windows and of what their images show: those with the same one are the same."""
        return self.maps.fingerprint() + checkpoints.fingerprint(self.tokens, self.left, torch.from_numpy(self.doors))

    def to(self, device):
        """The same windows, whose batches lie on `device`."""
        moved = copy(self)
        moved.device = device
        return moved

    def batch(self, chosen):
        """Windows `chosen` (B,).

        Returns:
            tokens: (B, T) int64.
            counted: (B, T) bool, which tokens are to be predicted: not the goal, and nothing that comes
                after it was reached. Where agents are at first shows where a map has room, so it counts.
            context: images (I, 3, 25, 25) uint8 and (B,) the image of each window.
        """
        chosen = torch.as_tensor(chosen).cpu()
        tokens, left = self.tokens[chosen].long(), self.left[chosen].long()[:, None]
        at = torch.arange(self.transitions)[None]
        state, action = at <= left, at < left
        counted = torch.stack([state, state, state, action], dim=2).flatten(1)
        counted = torch.cat([torch.zeros(len(chosen), 2, dtype=torch.bool), counted], dim=1)
        shown, rows = (chosen // self.each).unique(return_inverse=True)
        shown = shown.numpy()
        opened = self.doors[shown, None] >> np.arange(self.maps.doors) & 1 == 1
        seen = torch.from_numpy(images(self.maps.cells[shown % len(self.maps)], opened))
        return tokens.to(self.device), counted.to(self.device), (seen.to(self.device), rows.to(self.device))


def _windows(maps, ways, opened, count, walks, transitions, rng, stray, relabel):
    """`count` windows a map, all seen while the doors `opened` (M, D) are open.

    Returns:
        tokens (M, count, T), and how many actions follow until the goal is reached, at most
        `transitions` (M, count); both uint8.
    """
    rows = np.repeat(np.arange(len(maps)), walks)
    starts, goals = _ends(maps, ways, rows, opened[rows], rng)
    if stray:
        done = walk(maps, ways, rows, starts, opened[rows], goals, rng, steps=40)
    else:
        done = walk(maps, ways, rows, starts, opened[rows], goals, after_change=transitions - 1)
    # Any step at which the doors are as in the image; each once before one comes twice.
    last = done.actions.shape[1]
    fits = (np.arange(last) < done.lengths[:, None]) & (done.opened[:, :-1] == done.opened[:, :1]).all(axis=-1)
    fits = fits.reshape(len(maps), -1)
    order = np.argsort(np.where(fits, rng.random(fits.shape), 2), axis=1)[:, :count]
    wrapped = np.arange(order.shape[1]) % fits.sum(axis=1, keepdims=True)
    number, t = np.divmod(np.take_along_axis(order, wrapped, axis=1), last)
    number += np.arange(len(maps))[:, None] * walks

    end = done.lengths[number]
    if stray and relabel:
        end = np.maximum(rng.integers(t + 1, end + 1), rng.integers(t + 1, end + 1))
        goal = done.poses[number, end, :2]
    else:
        goal = ways.places[rows[number], goals[number]]
    times = t[..., None] + np.arange(transitions)
    poses = done.poses[number[..., None], np.minimum(times, last)]
    actions = done.actions[number[..., None], np.minimum(times, last - 1)]
    pieces = np.concatenate([poses, actions[..., None]], axis=-1).reshape(*t.shape, -1)
    tokens = np.concatenate([goal, pieces], axis=-1).astype(np.uint8)
    return tokens, np.minimum(end - t, transitions).astype(np.uint8)


def _ends(maps, ways, rows, opened, rng):
    """Starts (B, 3) and numbers of goals (B,) for walks in the maps `rows` while the doors `opened` (B, D) are open:
    starts anywhere, half of the goals in the first or last room, where the task has them, half anywhere."""

    def in_room(number):
        left, top, width, height = maps.rooms[rows, number].astype(int).T
        return ways.number[rows, left + rng.integers(1, width - 1), top + rng.integers(1, height - 1)]

    def anywhere():
        return rng.integers(ways.count[rows])

    each, last = np.arange(len(rows)), maps.rooms.shape[1] - 1
    start = anywhere()
    x, y = ways.places[rows, start].T
    door = maps.cells[rows, x, y].astype(int) - DOOR
    closed = np.pad(~opened, ((0, 0), (0, 1)))  # one more, for a map without any doors
    inside = (door >= 0) & closed[each, np.maximum(door, 0)]  # nobody stands in a closed door
    start = np.where(inside, in_room(rng.integers(last + 1, size=len(rows))), start)
    goal = np.where(rng.random(len(rows)) < 0.5, in_room(rng.choice([0, last], size=len(rows))), anywhere())
    other = in_room(np.where(goal == in_room(0), last, 0))
    goal = np.where(goal == start, other, goal)
    goal = np.where(goal == start, in_room(min(1, last)), goal)
    return np.concatenate([ways.places[rows, start], rng.integers(4, size=(len(rows), 1))], axis=1), goal


def fewest_actions(maps):
    """(M,) actions on a shortest way from the start of each map to its goal, doors closed at first."""
    ways, rows = Ways(maps), np.arange(len(maps))
    goals = ways.number[rows, maps.goals[:, 0], maps.goals[:, 1]]
    closed = np.zeros((len(maps), maps.doors), dtype=bool)
    return walk(maps, ways, rows, maps.starts.astype(int), closed, goals, steps=20 * (maps.doors + 1)).lengths
