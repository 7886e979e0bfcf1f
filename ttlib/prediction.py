"""Prediction: many futures drawn from one start, and how likely they make the one that came (section 4.1).

A future is drawn a token at a time from a Trajectory Transformer, which also draws the actions, or a
step at a time from an ensemble (`ttlib.baselines.pets`), which has to be told them. Both are
then binned alike. What is measured is a density: a share of the samples, spread evenly over its bin,

    log p(s_t) = sum_i  log share_i(bin of s_t^i)  -  log width_i(bin of s_t^i)

in which each dimension has its own marginal. The second sum is all that a prediction without
any error could get, the discrete oracle of appendix B; differences between methods come from the first.
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

from ttlib.beams import Beams
from ttlib.choice import sample
from ttlib.datasets.rollouts import rollout


@dataclass
class Reference:
    """A stretch of a recorded episode: what came before a start, and what came after it.

    Attributes:
        observations, actions: (context + horizon, N) and (context + horizon - 1, M).
        context: observations up to the start, itself included; it is number context - 1.
    """

    observations: np.ndarray
    actions: np.ndarray
    context: int

    @property
    def future(self):
        """(horizon, N) the observations to be predicted."""
        return self.observations[self.context :]

    @property
    def future_actions(self):
        """(horizon, M) the actions that led to them."""
        return self.actions[self.context - 1 :]

    def prompt(self, tokenizer, context, hidden=None):
        """(T,) int64: the last `context` observations up to the start as tokens, and what lies between them.

        Args:
            hidden: (context or more, N) bool, what is hidden of this reference's observations, or None.

        Raises:
            ValueError: the layout has more than observations and actions, or the context is not there.
        """
        layout, first, stop = tokenizer.layout, self.context - context, self.context
        if layout.values or layout.goal:
            raise ValueError("prediction is of observations and actions only; train the model with --no-values.")
        if not 1 <= context <= self.context:
            raise ValueError(f"this reference has {self.context} observations up to its start, not {context}.")
        seen = tokenizer.bins.encode(self.observations[first:stop], layout.observations)
        if hidden is not None:
            seen[torch.from_numpy(hidden[first:stop])] = tokenizer.stop  # where a model that hides has its token
        past = torch.zeros(context - 1, layout.transition, dtype=torch.int64)
        past[:, layout.observations] = seen[:-1]
        past[:, layout.actions] = tokenizer.bins.encode(self.actions[first : stop - 1], layout.actions)
        return torch.cat([past.flatten(), seen[-1]])


def references(env_id, behaviour, count, horizon, context, seed):
    """Stretches of `count` fresh episodes of a behaviour, one each, from a random step on.

    Episodes that end too early for one are left out, as no method predicts an end.

    Args:
        behaviour: has `act`, see `ttlib.datasets.rollouts.rollout`.
        horizon, context: steps after the start, and observations up to it.
        seed: an integer, of the episodes and the stretches.

    Raises:
        ValueError: episodes are too short.
    """
    found, rng = [], np.random.default_rng((seed, 1))
    for block in range(10):
        for episode in rollout(env_id, behaviour, (seed, 2, block), episodes=count):
            free = len(episode["rewards"]) - (context + horizon)
            if free >= 0 and len(found) < count:
                first = int(rng.integers(free + 1))
                steps = slice(first, first + context + horizon)
                found.append(Reference(episode["observations"][steps], episode["actions"][steps][:-1], context))
        if len(found) == count:
            return found
    raise ValueError(
        f"of {10 * count} episodes of {env_id} only {len(found)} have {context + horizon} steps; "
        "ask for a shorter horizon, or for a behaviour that does not fall."
    )


def markovian(model):
    """A model's twin that has one transition in view, the last, of each that it writes (section 4.1's ablation).

    It has the same weights and positions for two transitions, so that of a sequence of two both say the same. What
    it loses is what the memory is worth; a twin that is trained by itself loses by fewer tokens, too.
    """
    twin = type(model)(model.layout, **(model.size() | {"transitions": min(2, model.transitions)}))
    weights = model.state_dict()
    twin.load_state_dict(weights | {"position": weights["position"][: twin.length]})
    return twin.to(model.head.device).train(model.training)


@torch.inference_mode()
def draw_futures(model, prompt, horizon, samples, generator=None, actions=None, hide=0.0, keep=None, drop_mass=None):
    """Draw futures from a Trajectory Transformer.

    Args:
        prompt: (T,) int64, ends with an observation.
        horizon: steps to draw.
        samples: how many futures, all at once.
        generator: `torch.Generator` on the model's device.
        actions: (horizon, M) the tokens of the actions that are taken; the model's own where left out.
        hide: probability with which a number of a drawn observation is hidden from the model afterwards.
            Then the model's last bin is the token of hidden numbers.
        keep: whole transitions that go on when the model's positions are used up; half of them if left out.
        drop_mass: leave out the unlikeliest words that together have less than this probability, see
            `ttlib.choice.sample`, or None. A model spreads a little of it over all words, and of hundreds of draws a
            step some would fall there.

    Returns:
        (samples, horizon, N) int64: the observations drawn, before anything is hidden.

    Raises:
        ValueError: the prompt does not end with an observation, or is too long.
    """
    layout, device = model.layout, model.head.device
    if (len(prompt) - layout.goal) % layout.transition != layout.observation or len(prompt) >= model.length:
        raise ValueError(
            f"futures are drawn from a prompt that ends with an observation and has fewer than {model.length} tokens, "
            f"not from one of {len(prompt)}."
        )
    steps, bins = horizon * layout.transition, model.vocabulary - (hide > 0)
    beams = Beams(model, prompt[None].to(device), samples, steps, keep or max(1, model.transitions // 2))
    drawn = torch.empty(samples, steps, dtype=torch.int64, device=device)
    for step in range(steps):
        slot = (layout.observation + step) % layout.transition
        logits = torch.cat([beams.logits[:, :bins], beams.logits[:, -1:]], dim=1)
        tokens = sample(logits, torch.rand(samples, generator=generator, device=device), drop_mass=drop_mass)
        if actions is not None and layout.actions.start <= slot < layout.actions.stop:
            tokens = actions[step // layout.transition, slot - layout.observation].expand(samples).to(device)
        drawn[:, step] = tokens
        if hide and slot < layout.observation:
            unseen = torch.rand(samples, generator=generator, device=device) < hide
            tokens = torch.where(unseen, bins, tokens)
        if step < steps - 1:
            beams.append(tokens)
    return drawn.view(samples, horizon, layout.transition)[:, :, -layout.observation :].cpu()


@torch.inference_mode()
def roll_out_ensemble(ensemble, observation, horizon, samples, act, generator=None, hide=0.0):
    """Draw futures from an `Ensemble`; each follows one network to its end (TS-inf).

    Args:
        observation: (N,) the start, NaN where hidden.
        samples: how many futures, a multiple of the networks.
        act: function of the step and observations (samples, N), numpy arrays, that gives actions (samples, M).
        generator: `torch.Generator` on the ensemble's device.
        hide: probability with which a number of a drawn observation is hidden from what follows.

    Returns:
        (samples, horizon, N) float32: the observations drawn, before anything is hidden.
    """
    members, device = ensemble.members, ensemble.scale.device
    if samples % members:
        raise ValueError(f"{samples} futures cannot be shared evenly by {members} networks.")
    now = torch.as_tensor(observation, dtype=torch.float32, device=device).expand(members, samples // members, -1)
    drawn = torch.empty(samples, horizon, now.shape[-1])
    for step in range(horizon):
        actions = torch.as_tensor(act(step, now.flatten(0, 1).cpu().numpy()), dtype=torch.float32, device=device)
        now = ensemble.sample(now, actions.view(members, samples // members, -1), generator)
        drawn[:, step] = now.flatten(0, 1).cpu()
        if hide:
            unseen = torch.rand(now.shape, generator=generator, device=device) < hide
            now = now.masked_fill(unseen, torch.nan)
    return drawn


def roll_out_simulator(env_id, behaviour, observation, horizon, samples, rng, bins=None):
    """Draw futures from the simulator itself and the policy that acted: what a prediction without any error is like.

    A future in which the episode ends gives way to another one, as `references` leaves such episodes out.

    With `bins`, what one is like whose memory is one step of words: before each step the state, and the action, are
    put somewhere in their bins. What is lost by that is lost to every model of these words that has no longer memory.

    Args:
        env_id: an environment of MuJoCo whose observation is the positions, but for the first few (where on the ground
            the body is), and all velocities.
        behaviour: has `act`, see `ttlib.datasets.rollouts.rollout`.
        observation: (N,) the start.
        rng: `numpy.random.Generator`.
        bins: `Bins` of N + M rows, or None.

    Returns:
        (samples, horizon, N) float32, before they are put in bins.

    Raises:
        ValueError: the environment has not the positions and velocities that the observation has.
    """
    env = gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True)
    env.reset(seed=0)
    body = env.unwrapped.data
    velocities, unseen = len(body.qvel), len(body.qpos) + len(body.qvel) - len(observation)
    if not 0 <= unseen <= 3:
        raise ValueError(f"{env_id}'s observations are not its positions and velocities; it cannot start from one.")
    seen = slice(0, len(observation))
    now = np.repeat(np.asarray(observation, dtype=np.float32)[None], samples, axis=0)
    states = now.astype(float)  # as the simulator has them: the Hopper's observation cuts velocities beyond 10
    drawn, ended = np.empty((samples, horizon, len(observation)), dtype=np.float32), np.zeros(samples, dtype=bool)
    for step in range(horizon):
        now = now if bins is None else _somewhere_near(now, bins, seen, rng)
        actions = behaviour.act(now, rng)
        if bins is not None:
            actions = _somewhere_near(actions, bins, slice(len(observation), None), rng)
            states = now.astype(float)
        for row, (state, action) in enumerate(zip(states, actions, strict=True)):
            env.unwrapped.set_state(np.concatenate([np.zeros(unseen), state[:-velocities]]), state[-velocities:])
            drawn[row, step], _, ended[row], _, _ = env.step(action)
            states[row] = np.concatenate([body.qpos[unseen:], body.qvel])
        if ended.any() and not ended.all():
            others = rng.choice(np.flatnonzero(~ended), ended.sum())
            drawn[ended], states[ended] = drawn[others], states[others]
        now = drawn[:, step]
    env.close()
    return drawn


def _somewhere_near(values, bins, dims, rng):
    """Numbers drawn evenly from the bins of values (rows, D), float32."""
    tokens, edges = bins.encode(values, dims).numpy(), bins.edges[dims].numpy()
    places = np.arange(len(edges))
    low, high = edges[places, tokens], edges[places, tokens + 1]
    return (low + (high - low) * rng.random(values.shape)).astype(np.float32)


def log_shares(drawn, came, bins, pseudocount=1.0):
    """Log of the share of samples in the bin where the state came, summed over its dimensions.

    Every bin of every dimension begins with `pseudocount` samples (1: Laplace's rule), so that a bin
    without samples has a probability too. The same for each method.

    Args:
        drawn: (samples, H, N) tokens of the futures.
        came: (H, N) tokens of what came.
        bins: V, bins a dimension.

    Returns:
        (H,) nats.
    """
    hits = (drawn == came).sum(dim=0)
    return ((hits + pseudocount) / (len(drawn) + pseudocount * bins)).log().sum(dim=-1)


def oracle(bins, came):
    """The log density of what came if every sample were in its bin (appendix B), summed over the dimensions.

    With uniform bins it is sum_i log(V / range_i), whatever came. A bin of no width holds one value that repeats:
    there its probability stands for a density, as if it were 1 wide.

    Args:
        bins: `Bins` whose first N rows are the observation's.
        came: (H, N) tokens.

    Returns:
        (H,) nats.
    """
    widths = bins.edges.diff(dim=1).cpu()[torch.arange(came.shape[-1]), came]
    return -torch.where(widths > 0, widths, 1.0).log().sum(dim=-1)
