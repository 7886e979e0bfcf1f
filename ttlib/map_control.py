"""Control with a map: look at it as it is now, plan toward the goal, enact one action, look again (appendix F)."""

from dataclasses import dataclass

import numpy as np
import torch

from ttlib import search
from ttlib.control import LikelihoodController
from ttlib.envs.minigrid_maps import AHEAD, FORWARD, LEFT, RIGHT, TOGGLE, check, front, images, step
from ttlib.progress import progress

STEPS_PER_ROOM = 20  # minigrid gives an episode so many steps a room


class MapController(LikelihoodController):
    """Enacts the likeliest plan to the goal, given the map's image at that moment.

    The context vector is a function of the image alone, so it is computed anew only where a door
    was opened or closed.

    The likeliest plan depends on place, heading and image only, so an agent that comes back to a
    situation would go round in a circle for ever. It therefore remembers what it did where, and
    takes the likeliest of those plans whose first action it has tried least there.

    Args:
        model: `ttlib.map_encoder.MapTransformer`.
        goals: (E, 2).
        remember: whether it does.
        blind: show it an empty image instead.
    """

    def __init__(self, model, tokenizer, goals, horizon=2, beam_width=16, remember=True, blind=False):
        super().__init__(model, tokenizer, horizon, beam_width, context=1, goals=goals)
        self.remember, self.blind = remember, blind

    def reset(self, episodes):
        super().reset(episodes)
        self.seen = self.vectors = None
        self.tried = [{} for _ in range(episodes)]  # (state, image) -> how often each action was taken there

    def search(self, prompt):
        plan = super().search(prompt)
        if not self.remember:
            return plan
        state, first = prompt[:, self.tokenizer.layout.goal :].cpu().numpy(), plan.tokens[:, :, 0].cpu().numpy()
        seen, chosen = self.seen.cpu().numpy(), np.zeros(len(first), dtype=int)
        for row, tried in enumerate(self.tried):
            counts = tried.setdefault((state[row].tobytes(), seen[row].tobytes()), np.zeros(self.model.vocabulary))
            chosen[row] = counts[first[row]].argmin()  # the first of equals, and plans are in order
            counts[first[row, chosen[row]]] += 1
        best = torch.as_tensor(chosen, device=prompt.device)[:, None]
        return search.Plan(plan.tokens.take_along_dim(best[..., None], dim=1), plan.scores.take_along_dim(best, dim=1))

    @torch.inference_mode()
    def look(self, seen):
        """Take in the images (E, C, G, G) uint8 of this moment."""
        seen = torch.as_tensor(seen, device=self.model.head.device)
        seen = torch.zeros_like(seen) if self.blind else seen
        if self.vectors is None:
            self.vectors = self.model.encoder(seen)
        elif len(changed := (seen != self.seen).flatten(1).any(dim=1).nonzero()[:, 0]):
            self.vectors = self.vectors.index_copy(0, changed, self.model.encoder(seen[changed]))
        self.seen = seen

    def drop(self, going):
        super().drop(going)
        going = torch.as_tensor(going, device=self.seen.device)
        self.seen, self.vectors = self.seen[going], self.vectors[going]
        self.tried = [tried for tried, goes in zip(self.tried, going.tolist(), strict=True) if goes]


class RandomAgent:
    """Chooses each of the four actions with the same probability."""

    def __init__(self, seed=0):
        self.seed = seed

    def reset(self, episodes):
        self.rng = np.random.default_rng(self.seed)

    def look(self, seen):
        """Take in the images (E, C, G, G) of this moment."""
        self.seen = seen

    def act(self, poses):
        """Actions (E, 1) at poses (E, 3)."""
        return self.rng.integers(4, size=(len(poses), 1))

    def observe(self, rewards):
        pass

    def drop(self, going):
        pass


class GreedyAgent(RandomAgent):
    """Goes where its goal (E, 2) comes closer and no wall is, and opens doors that it meets; acts at random where
    nothing brings it closer."""

    def __init__(self, goals, seed=0):
        super().__init__(seed)
        self.all_goals = np.asarray(goals).astype(int)

    def reset(self, episodes):
        super().reset(episodes)
        self.goals = self.all_goals

    def act(self, poses):
        poses, rows = np.asarray(poses).astype(int), np.arange(len(poses))
        around = poses[:, None, :2] + AHEAD
        nearer = np.abs(self.goals[:, None] - around).sum(-1) < np.abs(self.goals - poses[:, :2]).sum(-1)[:, None]
        good = nearer & (self.seen[rows[:, None], 0, around[..., 0], around[..., 1]] == 0)
        on, to_left, to_right, behind = (good[rows, (poses[:, 2] + turn) % 4] for turn in (0, -1, 1, 2))
        closed = self.seen[rows, 1, *front(poses).T] == 1
        turn = np.where(to_left | (behind & ~to_right), LEFT, np.where(to_right, RIGHT, super().act(poses)[:, 0]))
        return np.where(on, np.where(closed, TOGGLE, FORWARD), turn)[:, None]

    def drop(self, going):
        self.goals = self.goals[going]


@dataclass
class Visits:
    """What `visit` saw.

    Attributes:
        poses: (T + 1, E, 3) x, y, heading of each; it stays where it reached its goal.
        opened: (T + 1, E, D) which doors were open.
        actions: (T, E); -1 after the end.
        lengths: (E,) actions taken.
        reached: (E,) bool.
    """

    poses: np.ndarray
    opened: np.ndarray
    actions: np.ndarray
    lengths: np.ndarray
    reached: np.ndarray


def visit(agent, maps, max_steps=None):
    """Send one agent from the start of each of `maps` to its goal, all of them in one batch; doors start closed.

    Args:
        agent: `MapController` or another with reset, look, act, observe and drop.
        max_steps: minigrid's own limit if left out.

    Raises:
        ValueError: a map that is not valid, a goal that cannot be reached, see `minigrid_maps.check`.
    """
    check(maps, agent.model.grid if hasattr(agent, "model") else maps.cells.shape[-1])
    max_steps = STEPS_PER_ROOM * (maps.doors + 1) if max_steps is None else max_steps
    poses, opened = [maps.starts.astype(int)], [np.zeros((len(maps), maps.doors), dtype=bool)]
    done, actions = (poses[0][:, :2] == maps.goals).all(axis=1), []
    lengths = np.zeros(len(maps), dtype=int)
    agent.reset(len(maps))
    bar = progress(total=max_steps, label="steps")
    while not done.all() and len(actions) < max_steps:
        going = np.flatnonzero(~done)
        if not actions:
            agent.look(images(maps.cells, opened[-1]))
            if done.any():
                agent.drop(~done)
        agent.look(images(maps.cells[going], opened[-1][going]))
        chosen = np.full(len(maps), -1)
        chosen[going] = agent.act(poses[-1][going])[:, 0].astype(int)
        here, doors = poses[-1].copy(), opened[-1].copy()
        here[going], doors[going] = step(maps.cells[going], here[going], doors[going], chosen[going])
        poses.append(here)
        opened.append(doors)
        actions.append(chosen)
        lengths[going] += 1
        ended = (here[going, :2] == maps.goals[going]).all(axis=1)
        agent.observe(ended.astype(np.float32))
        if ended.any():
            agent.drop(~ended)
            done[going[ended]] = True
        bar.set_postfix(going=int((~done).sum()), refresh=False)
        bar.update()
    bar.close()
    return Visits(np.array(poses), np.array(opened), np.array(actions).reshape(-1, len(maps)), lengths, done)
