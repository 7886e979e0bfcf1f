"""Hidden dimensions: a body of which only a part is seen, another part at each step (section 4.1).

Each number of each observation is hidden with the same probability, independently of all others
and for good: no pass over the data sees it. A Transformer reads a hidden number as a token of
its own, V, between the bins and the stop token, which moves up by one; a network reads it as NaN.
Nobody learns to predict what is hidden.
"""

import numpy as np

from ttlib.tokens import TokenWindows


def draw_hidden(shape, probability, seed):
    """(...) bool of this shape: which numbers are hidden. The same seed hides the same ones for every method."""
    return np.random.default_rng(seed).random(shape) < probability


class HiddenWindows(TokenWindows):
    """`TokenWindows` for a model with a vocabulary of V + 1: the bins, and the token of hidden numbers.

    Args:
        tokenizer, trajectories, transitions: see `TokenWindows`.
        hidden: (T, N) bool, what is hidden of the observations.

    Raises:
        ValueError: `hidden` does not fit the data, or the tokenizer has goals.
    """

    def __init__(self, tokenizer, trajectories, hidden, transitions=10):
        if hidden.shape != trajectories.observations.shape or tokenizer.layout.goal:
            raise ValueError(
                f"what is hidden of {trajectories.observations.shape} observations without goals is an array of that "
                f"shape, not {hidden.shape} with {tokenizer.layout.goal} goal tokens."
            )
        super().__init__(tokenizer, trajectories, transitions)
        self.hidden, self.stop = self.stop, self.stop + 1
        self.tokens[:, self.layout.observations][hidden] = self.hidden  # a view, so this writes to the tokens

    def batch(self, starts):
        """As `TokenWindows.batch`; hidden tokens do not count."""
        tokens, counted = super().batch(starts)
        return tokens, counted & (tokens != self.hidden)
