"""The loss: how unlikely the model finds what was recorded, token by token (section 2, equation 2)."""

import torch
from torch.nn import functional as F


def token_losses(model, tokens, context=None):
    """Cross-entropy (B, T - 1) of each token after the first, given those before it, in nats.

    Args:
        tokens: (B, T) int64.
        context: (B, width) or None, see `TrajectoryTransformer.forward`.
    """
    logits = model(tokens[:, :-1], context)
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none").view(
        len(tokens), -1
    )


def slot_weights(layout, length, action_weight, value_weight=1.0):
    """(length - 1,) weight in the loss of each token after the first; what is no action, reward or R weighs 1."""
    positions = torch.arange(1, length) - layout.goal
    slots = torch.where(positions >= 0, positions % layout.transition, 0)  # a goal weighs as an observation does
    is_action = (slots >= layout.actions.start) & (slots < layout.actions.stop)
    is_value = slots >= layout.actions.stop
    return 1.0 + (action_weight - 1.0) * is_action + (value_weight - 1.0) * is_value


def mean_losses(by_slot, weights, layout):
    """{"loss": weighted mean, "slots": mean of each slot} from sums and counts (2, length - 1) at each position."""
    slots = (torch.arange(1, len(weights) + 1) - layout.goal) % layout.transition
    losses, counts = by_slot.cpu()
    per_slot = [float(losses[slots == s].sum() / counts[slots == s].sum()) for s in range(layout.transition)]
    return {"loss": float((losses * weights.cpu()).sum() / counts.sum()), "slots": per_slot}


def held_out_losses(model, windows, starts):
    """Mean cross-entropy (slots,) in nats of each slot over the windows that begin at `starts`, without dropout."""
    windows, training = windows.to(model.head.device), model.training
    by_slot = 0
    model.eval()
    with torch.no_grad():
        for some in torch.as_tensor(starts).split(64):
            tokens, counted = windows.batch(some.to(model.head.device))
            losses, mask = token_losses(model, tokens), counted[:, 1:]
            by_slot = by_slot + torch.stack([(losses * mask).sum(dim=0), mask.sum(dim=0)])
    model.train(training)
    return torch.tensor(mean_losses(by_slot, torch.ones(by_slot.shape[1]), model.layout)["slots"])
