"""Control: plan, enact the first action, look again (section 3).

A controller keeps the last transitions of every episode as tokens, searches on from
there, and enacts the best plan's first action, or its first few. `ttlib.evaluation` runs
it in environments.
"""

import numpy as np
import torch

from ttlib import q_search, search


class Controller:
    """Receding-horizon control; subclasses say how a plan is found.

    Args:
        model, tokenizer: a trained pair.
        context: transitions in the prompt, the current one included.
        plan_every: actions enacted from each plan; 1 plans at every step.
        goals: (E, goal) what each episode is to reach, for a layout with a goal.

    Raises:
        ValueError: a prompt of this length does not fit the model, goals are missing, or more
            actions are to be enacted than a plan has.
    """

    def __init__(self, model, tokenizer, horizon, beam_width, context=5, plan_every=1, goals=None):
        layout = tokenizer.layout
        if not 1 <= context <= model.transitions:
            raise ValueError(f"a context of {context} transitions does not fit this model's {model.transitions}.")
        if not 1 <= plan_every <= horizon:
            raise ValueError(f"of a plan of {horizon} transitions, {plan_every} actions cannot be enacted.")
        if bool(layout.goal) != (goals is not None):
            raise ValueError("this model needs goals." if layout.goal else "this model was trained without goals.")
        self.model, self.tokenizer = model, tokenizer.to(model.head.device)
        self.horizon, self.beam_width = horizon, beam_width
        self.context, self.plan_every, self.goals = context, plan_every, goals
        self.keep_transitions = min(4, model.transitions - 1)

    def reset(self, episodes):
        """Forget everything; `episodes` new ones begin."""
        device, layout = self.model.head.device, self.tokenizer.layout
        self.past = torch.empty(episodes, 0, layout.transition, dtype=torch.int64, device=device)
        self.goal = torch.empty(episodes, 0, dtype=torch.int64, device=device)
        if layout.goal:
            goals = torch.as_tensor(np.asarray(self.goals, dtype=np.float32)).to(device)
            if goals.shape != (episodes, layout.goal):
                raise ValueError(
                    f"{episodes} episodes need goals of shape {(episodes, layout.goal)}, not {tuple(goals.shape)}."
                )
            self.goal = self.tokenizer.bins.encode(goals, slice(0, layout.goal))
        self.waiting = torch.empty(episodes, 0, layout.action, dtype=torch.int64, device=device)
        self.plan = None

    def act(self, observations):
        """Actions (E, M) float32 for observations (E, N), both numpy arrays."""
        bins, layout = self.tokenizer.bins, self.tokenizer.layout
        seen = bins.encode(torch.as_tensor(observations, device=self.model.head.device), layout.observations)
        if self.waiting.shape[1] == 0:
            past = self.past[:, self.past.shape[1] - min(self.context - 1, self.past.shape[1]) :]
            self.plan = self.search(torch.cat([self.goal, past.flatten(1), seen], dim=1))
            starts = torch.arange(self.plan_every, device=seen.device)[:, None] * layout.transition
            slots = starts + torch.arange(layout.action, device=seen.device)
            self.waiting = self.choose(self.plan.tokens[:, :, slots], self.plan.scores)
        chosen, self.waiting = self.waiting[:, 0], self.waiting[:, 1:]
        self.latest = torch.cat([seen, chosen], dim=1)
        return bins.decode(chosen, layout.actions).cpu().numpy()

    def choose(self, actions, scores):
        """Tokens (E, plan_every, M) of the actions to enact, of those that beams begin with: the best beam's.

        Args:
            actions: (E, beams, plan_every, M) tokens.
            scores: (E, beams), the best first.
        """
        return actions[:, 0]

    def observe(self, rewards):
        """Take in the rewards (E,) of the actions just enacted."""
        transition = self.latest
        if self.tokenizer.layout.values:
            # What R will be nobody knows; its token is never attended to, so that any will do.
            rewards = torch.tensor(np.asarray(rewards, dtype=np.float32), device=transition.device)[:, None]
            slot = self.tokenizer.layout.reward
            reward = self.tokenizer.bins.encode(rewards, slice(slot, slot + 1))
            transition = torch.cat([transition, reward, torch.zeros_like(reward)], dim=1)
        self.past = torch.cat([self.past, transition[:, None]], dim=1)[:, -self.context :]

    def drop(self, going):
        """Forget the episodes that ended; `going` (E,) bool says which go on."""
        going = torch.as_tensor(going, device=self.past.device)
        self.past, self.goal, self.waiting = self.past[going], self.goal[going], self.waiting[going]

    def memory(self):
        """Everything that `remember` needs to go on from here, as named tensors."""
        return {"past": self.past, "goal": self.goal, "waiting": self.waiting}

    def remember(self, memory):
        """Go on from what `memory` gave, in a controller made alike."""
        device = self.model.head.device
        self.past, self.goal, self.waiting = (memory[key].to(device) for key in ("past", "goal", "waiting"))

    def search(self, prompt):
        """A `Plan` for prompts (E, T)."""
        raise NotImplementedError


class LikelihoodController(Controller):
    """Enacts the likeliest plan: imitation, or goal reaching where the layout has a goal.

    Args (beside `Controller`'s):
        tolerance: how far apart two actions are that count as nearly the same; see `nearness` of
            `ttlib.search.beam_search`. The wider, the nearer comes the best action to the mean. 0: as in Algorithm 1.
        actions_only: see `ttlib.search.beam_search`.

    Raises:
        ValueError: a tolerance below 0.
    """

    vectors = None  # (E, width) what is added to each episode's tokens, for a model with a context

    def __init__(self, *args, tolerance=0.0, actions_only=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.actions_only, self.nearness = actions_only, nearness_of_actions(self.tokenizer, tolerance)

    def search(self, prompt):
        steps = self.horizon * self.tokenizer.layout.transition - self.tokenizer.layout.observation
        if self.horizon == 1:
            steps = self.tokenizer.layout.action
        return search.beam_search(
            self.model,
            prompt,
            steps,
            self.beam_width,
            self.keep_transitions,
            self.vectors,
            self.nearness,
            self.actions_only,
        )


class ReturnController(Controller):
    """Enacts the plan with the largest predicted return.

    With a `temperature` above 0 it enacts the mean of all beams' actions, weighted by exp(score / temperature). What
    is best of many samples owes that to the mistakes of what ranks them as much as to its merits; the mean of the good
    ones does not. With a horizon of 1 it is what a policy becomes that is fitted to the data by such weights, as in
    IQL, beta being 1 / temperature.

    Args (beside `Controller`'s):
        expand, top_k, drop_mass: see `ttlib.search.plan_by_return`.
        tolerance: how far apart two actions are that count as nearly the same where the unlikely ones are left out;
            see `nearness` of `ttlib.choice.sample`. 0: a token counts as likely as it is itself.
        temperature: in units of the score; 0: the best plan's actions.
        seed: of the sampled actions.

    Raises:
        ValueError: a tolerance or a temperature below 0.
    """

    def __init__(self, *args, expand=2, top_k=None, drop_mass=0.6, tolerance=0.0, temperature=0.0, seed=0, **kwargs):
        super().__init__(*args, **kwargs)
        if temperature < 0:
            raise ValueError(f"a temperature of {temperature} is below 0.")
        self.settings, self.seed = {"expand": expand, "top_k": top_k, "drop_mass": drop_mass}, seed
        self.settings["nearness"] = nearness_of_actions(self.tokenizer, tolerance)
        self.temperature = temperature

    def choose(self, actions, scores):
        if not self.temperature:
            return super().choose(actions, scores)
        bins, span = self.tokenizer.bins, self.tokenizer.layout.actions
        weights = (scores / self.temperature).softmax(dim=1)[:, :, None, None]
        return bins.encode((weights * bins.decode(actions, span)).sum(dim=1), span)

    def reset(self, episodes):
        super().reset(episodes)
        self.generator = torch.Generator(self.model.head.device).manual_seed(self.seed)

    def memory(self):
        return super().memory() | {"generator": self.generator.get_state()}

    def remember(self, memory):
        super().remember(memory)
        self.generator.set_state(memory["generator"].cpu())

    def search(self, prompt):
        return search.plan_by_return(
            self.model,
            self.tokenizer,
            prompt,
            self.horizon,
            self.beam_width,
            keep=self.keep_transitions,
            generator=self.generator,
            **self.settings,
        )


class QController(ReturnController):
    """Enacts the plan that a critic thinks best.

    Args (beside `ReturnController`'s):
        critic, value, to_go: see `ttlib.q_search.plan_by_q`.
    """

    def __init__(self, *args, critic, value="q", to_go=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings |= {"value": value, "to_go": to_go}
        self.critic = critic

    def search(self, prompt):
        return q_search.plan_by_q(
            self.model,
            self.tokenizer,
            self.critic,
            prompt,
            self.horizon,
            self.beam_width,
            keep=self.keep_transitions,
            generator=self.generator,
            **self.settings,
        )


def nearness_of_actions(tokenizer, tolerance):
    """{slot: (V, V)} `Bins.nearness` of every action slot; empty for a tolerance of 0.

    Raises:
        ValueError: a tolerance below 0.
    """
    if tolerance < 0:
        raise ValueError(f"a tolerance of {tolerance} is below 0.")
    actions = tokenizer.layout.actions
    slots = range(actions.start, actions.stop) if tolerance else ()
    return {slot: tokenizer.bins.nearness(slot, tolerance) for slot in slots}
