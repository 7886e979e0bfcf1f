"""Resume: episodes that a killed run had begun go on where they were, as if it had not been killed.

An episode is determined by its beginning and its actions. So what is kept is every action enacted so far, and
what the controller remembers. A run that is started again enacts the recorded actions without planning, which
takes seconds, gives the controller its memory back, and plans on. To begin half-done episodes anew instead would
not be fair: those that were about to fail would get a second chance.
"""

import time
from pathlib import Path

import numpy as np
import torch

from ttlib import checkpoints


class Resumed:
    """A controller that keeps what it did in a file, and goes on from such a file where there is one.

    Args:
        controller: has `memory` and `remember` beside what `ttlib.evaluation.evaluate` asks for.
        path: the file, *.safetensors. Delete it when the episodes are over.
        about: plain values that say which episodes these are.
        every: seconds between two times of keeping.

    Raises:
        ValueError: the file is damaged, or the episodes do not go as they are recorded there.
    """

    def __init__(self, controller, path, about, every=30.0):
        self.controller, self.path, self.about, self.every = controller, Path(path), about, every
        self.spent = 0.0  # seconds, in runs that were killed

    def reset(self, episodes):
        self.controller.reset(episodes)
        self.enacted, self.recorded, self.replaying = [], [], False
        self.began = self.kept = time.monotonic()
        if not self.path.exists():
            return
        tensors, description = checkpoints.load(self.path)
        if description["about"] != self.about:
            raise ValueError(f"{self.path} was recorded for other episodes; delete it.")
        counts = tensors["counts"].tolist()
        self.recorded = [actions.numpy() for actions in tensors["actions"].split(counts)]
        self.spent = description["seconds"]
        self.seen, self.stored = tensors["seen"].numpy(), checkpoints.part(tensors, "memory/")

    def act(self, observations):
        step = len(self.enacted)
        self.replaying = step < len(self.recorded)
        if self.replaying:
            actions = self.recorded[step]
            if len(actions) != len(observations):
                raise self._diverged()
        else:
            if self.recorded and step == len(self.recorded):
                if not np.array_equal(observations, self.seen):
                    raise self._diverged()
                self.controller.remember(self.stored)
            if self.enacted and time.monotonic() - self.kept >= self.every:
                self.keep(observations)
            actions = self.controller.act(observations)
        self.enacted.append(np.asarray(actions, dtype=np.float32))
        return actions

    def observe(self, rewards):
        if not self.replaying:
            self.controller.observe(rewards)

    def drop(self, going):
        if not self.replaying:
            self.controller.drop(going)

    def keep(self, observations):
        """Write what happened before `observations` (E, N), those of the episodes that go on, were made."""
        tensors = {
            "counts": torch.tensor([len(actions) for actions in self.enacted]),
            "actions": torch.from_numpy(np.concatenate(self.enacted)),
            "seen": torch.from_numpy(np.asarray(observations)),
        }
        memory = {f"memory/{name}": tensor for name, tensor in self.controller.memory().items()}
        self.kept = time.monotonic()
        description = {"about": self.about, "seconds": self.spent + self.kept - self.began}
        checkpoints.save(self.path, tensors | memory, description)

    def _diverged(self):
        return ValueError(
            f"the episodes do not go as they are recorded in {self.path}, so another version of the environment "
            "acts here; delete the file to begin them anew."
        )

    def __getattr__(self, name):
        return getattr(self.controller, name)
