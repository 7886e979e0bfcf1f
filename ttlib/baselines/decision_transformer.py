"""Decision Transformer: an action that is conditioned on the return that is asked for (Chen et al. 2021).

A step is three tokens: the return still to come R, the observation s, the action a. A causal
transformer reads them, and what comes out at the token of s is the next action. There is no
planning: who wants a good action asks for a large R, and takes what the data would have done.

R_t sums the rewards from t on, undiscounted. Sequences shorter than the context are padded
at the *end*, where causality alone hides the padding; the authors pad in front and mask it.
As each step brings its own embedding of time, both are the same function.

Beyond the paper's form, returns can be hidden from a sequence. Without them the model
imitates (behaviour cloning with a memory), and can be asked to predict the return itself:
it is a critic, as in the paper's section on credit assignment.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ttlib import checkpoints
from ttlib.model import Block, dropout


class DecisionTransformer(nn.Module):
    """The model; its size is the paper's for OpenAI Gym by default (appendix A, table 8).

    Args:
        observation: numbers in an observation.
        action: numbers in an action in [-1, 1], or how many discrete actions there are.
        discrete: whether actions are discrete.
        context: K, the longest sequence, in steps.
        longest: steps of the longest episode; times are 0 .. longest - 1.
        scale: what returns are divided by.
        outcomes: the values that a predicted return can have; none: returns are not predicted.
        encoder: a module from observations (rows, N) to (rows, width), such as a small CNN
            behind `nn.Unflatten`. A linear map if left out.

    Raises:
        ValueError: the width is not a multiple of the heads.
    """

    @classmethod
    def of(cls, trajectories, **size):
        """One for continuous actions and observations as in a data set, its times as long as the longest episode.

        1,000 steps at least, for episodes of evaluations that go on for longer than any recorded one.
        """
        size = {"longest": max(1000, int(trajectories.lengths.max()))} | size
        model = cls(trajectories.observation_dim, trajectories.action_dim, **size)
        model.standardise(trajectories.observations)
        return model

    def __init__(
        self,
        observation,
        action,
        discrete=False,
        context=20,
        longest=1000,
        scale=1000.0,
        outcomes=(),
        layers=3,
        heads=1,
        width=128,
        dropout=0.1,
        encoder=None,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"the width, {width}, must be a multiple of the number of heads, {heads}.")
        self.observation, self.action, self.discrete, self.context = observation, action, discrete, context
        self.longest, self.scale, self.outcomes = longest, scale, tuple(outcomes)
        self.layers, self.heads, self.width, self.dropout = layers, heads, width, dropout
        self.register_buffer("mean", torch.zeros(observation))
        self.register_buffer("std", torch.ones(observation))
        self.embed_return, self.hidden_return = nn.Linear(1, width), nn.Parameter(0.02 * torch.randn(width))
        self.embed_observation = encoder or nn.Linear(observation, width)
        self.embed_action = nn.Embedding(action, width) if discrete else nn.Linear(action, width)
        self.embed_time = nn.Embedding(longest, width)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, activation=F.relu) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.action_head = nn.Linear(width, action)
        self.return_head = nn.Linear(width, len(self.outcomes)) if self.outcomes else None
        bias = torch.full((3 * context, 3 * context), -torch.inf).triu(1)
        self.register_buffer("bias", bias, persistent=False)
        for module in (*self.blocks.modules(), self.action_head):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def size(self):
        """What `load_model` needs to build the same model, as plain values; the encoder is not among them."""
        names = "observation action discrete context longest scale layers heads width dropout"
        return {name: getattr(self, name) for name in names.split()} | {"outcomes": list(self.outcomes)}

    def standardise(self, observations):
        """Let observations (T, N) tell the mean and spread by which all are standardised from now on."""
        self.mean.copy_(torch.as_tensor(observations.mean(axis=0)))
        self.std.copy_(torch.as_tensor(observations.std(axis=0) + 1e-6))

    def forward(self, returns, observations, actions, times, hidden=None):
        """What each step's action should be, given the steps before and its own return and observation.

        Args:
            returns: (B, T) returns-to-go R_t, T at most `context`.
            observations: (B, T, N).
            actions: (B, T, M) float32, or (B, T) int64 if discrete. A step's own action does not
                count for its own output, so that any will do where it is still to be chosen.
            times: (B, T) int64 steps since the episode began.
            hidden: (B,) bool, the sequences that are not told their returns; None: all are told.

        Returns:
            (B, T, M) actions in [-1, 1], or logits (B, T, actions); and logits (B, T, outcomes)
            of R_t, or None without outcomes. The latter mean something where returns are hidden.
        """
        returns = self.embed_return(returns[..., None] / self.scale)
        if hidden is not None:
            returns = torch.where(hidden[:, None, None], self.hidden_return, returns)
        observations = ((observations - self.mean) / self.std).flatten(0, 1)
        observations = self.embed_observation(observations).unflatten(0, times.shape)
        tokens = torch.stack([returns, observations, self.embed_action(actions)], dim=2)
        x = (tokens + self.embed_time(times)[:, :, None]).flatten(1, 2)
        x = dropout(self.embed_norm(x), self.dropout, self.training)
        for block in self.blocks:
            x, _, _ = block(x, self.bias[: x.shape[1], : x.shape[1]])
        x = self.norm(x[:, 1::3])
        chosen = self.action_head(x) if self.discrete else torch.tanh(self.action_head(x))
        return chosen, self.return_head(x) if self.outcomes else None


class TargetController:
    """Acts so as to reach a return: what is asked for falls by each reward that came.

    It has the interface of `ttlib.control.Controller`, so `ttlib.evaluation.evaluate` runs it.

    Args:
        model: a trained `DecisionTransformer`.
        target: the return to ask for, one number or one an episode (E,); None hides it: imitation.
        context: steps that the model sees, the model's K if left out.
        sample: draw discrete actions instead of taking the likeliest.
        seed: of the draws.
    """

    def __init__(self, model, target, context=None, sample=False, seed=0):
        self.model, self.target, self.sample, self.seed = model.eval(), target, sample, seed
        self.context = context or model.context
        if not 1 <= self.context <= model.context:
            raise ValueError(f"a context of {context} steps does not fit this model's {model.context}.")
        if sample and not model.discrete:
            raise ValueError("this model's actions are not discrete, so that none can be drawn.")

    def reset(self, episodes):
        """Forget everything; `episodes` new ones begin."""
        model, device = self.model, self.model.bias.device
        target = np.zeros(episodes) if self.target is None else np.asarray(self.target, dtype=float)
        self.asked = torch.tensor(np.broadcast_to(target, episodes), dtype=torch.float32, device=device)
        self.hidden = torch.full((episodes,), self.target is None, device=device)
        self.returns = torch.empty(episodes, 0, device=device)
        self.observations = torch.empty(episodes, 0, model.observation, device=device)
        self.actions = (
            torch.empty(episodes, 0, dtype=torch.int64, device=device)
            if model.discrete
            else torch.empty(episodes, 0, model.action, device=device)
        )
        self.time = 0
        self.generator = torch.Generator(device).manual_seed(self.seed)

    @torch.inference_mode()
    def act(self, observations):
        """Actions for observations (E, ...), numpy arrays: (E, M) float32, or (E,) int64 if discrete."""
        model = self.model
        seen = torch.tensor(np.asarray(observations), dtype=torch.float32, device=self.asked.device).flatten(1)
        if seen.shape[1] != model.observation:
            raise ValueError(f"the environment has {seen.shape[1]} observation numbers, the model {model.observation}.")
        if self.time >= model.longest:
            raise ValueError(
                f"an episode is longer than the {model.longest} steps that this model knows; stop it there."
            )
        self.returns = self._append(self.returns, self.asked)
        self.observations = self._append(self.observations, seen)
        self.actions = self._append(self.actions, self.actions.new_zeros(len(seen), *self.actions.shape[2:]))
        times = torch.arange(self.time + 1 - self.returns.shape[1], self.time + 1, device=seen.device)
        times = times.expand(self.returns.shape)
        chosen = model(self.returns, self.observations, self.actions, times, self.hidden)[0][:, -1]
        if model.discrete:
            chosen = self._choose(chosen)
        self.actions[:, -1] = chosen
        return chosen.cpu().numpy()

    def observe(self, rewards):
        """Take in the rewards (E,) of the actions just enacted."""
        rewards = torch.tensor(np.asarray(rewards), dtype=torch.float32, device=self.asked.device)
        self.asked = self.asked - rewards
        self.time += 1

    def drop(self, going):
        """Forget the episodes that ended; `going` (E,) bool says which go on."""
        going = torch.as_tensor(going, device=self.asked.device)
        for name in ("asked", "hidden", "returns", "observations", "actions"):
            setattr(self, name, getattr(self, name)[going])

    def _append(self, past, new):
        return torch.cat([past, new[:, None]], dim=1)[:, -self.context :]

    def _choose(self, logits):
        if not self.sample:
            return logits.argmax(dim=-1)
        return torch.multinomial(logits.softmax(dim=-1), 1, generator=self.generator)[:, 0]


@torch.inference_mode()
def predict_returns(model, observations, actions):
    """The distribution of the return still to come, at each step of whole episodes, which are not told it.

    Args:
        model: a `DecisionTransformer` with outcomes, trained with hidden returns.
        observations: (B, T, N), from the episodes' first step on, T at most the model's context.
        actions: (B, T, M), or (B, T) if discrete. The prediction at a step does not see its action.

    Returns:
        (B, T, outcomes) probabilities.
    """
    if not model.outcomes:
        raise ValueError("this model was made without outcomes, so that it predicts no returns.")
    shape = observations.shape[:2]
    times = torch.arange(shape[1], device=model.bias.device).expand(shape)
    zeros, hidden = torch.zeros(shape, device=times.device), torch.ones(shape[0], dtype=torch.bool, device=times.device)
    return model.eval()(zeros, observations, actions, times, hidden)[1].softmax(dim=-1)


def save_model(path, model, about):
    """Write a model to a checkpoint, weights in bfloat16; `about`, its provenance, are plain values."""
    exact = ("mean", "std")
    weights = {name: w if name in exact else w.bfloat16() for name, w in model.state_dict().items()}
    checkpoints.save(path, weights, {"kind": "decision transformer", "model": model.size(), "about": about})


def load_model(path, encoder=None, device="cpu"):
    """Read what `save_model` wrote: model (float32, evaluation mode), about.

    Args:
        encoder: a module like the one that the model was made with, if it was made with one.

    Raises:
        FileNotFoundError, ValueError: no such file; damaged, not a Decision Transformer, or of another encoder.
    """
    tensors, description = checkpoints.load(path)
    if description.get("kind") != "decision transformer":
        raise ValueError(f"{path} holds no Decision Transformer.")
    model = DecisionTransformer(**description["model"], encoder=encoder)
    try:
        model.load_state_dict({name: weight.float() for name, weight in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"{path} was made with another encoder of observations; give load_model that one.") from error
    return model.to(device).eval(), description["about"]
