"""Firing thresholds of former ReLUs, chosen on images.

In: a network whose activations still are ReLUs, images. Out: a λ per activation: of least rounding error, or a percentile.
"""

import torch
from torch import nn

#: Values kept per activation and batch.
SAMPLE = 1 << 15


def calibrate(model, batches, levels, how="mse", modules=None, per_channel=False):
    """λ of each ReLU module (those given, or all in the order of the model's modules) from batches of images.

    `how` is "mse" or a percentile of the positive activations. A float per module, or a tensor with one per channel.
    """
    if how != "mse" and not 0 < float(how) <= 100:
        raise ValueError(f"thresholds by {how!r}: expected mse or a percentile above 0 and up to 100")
    if modules is None:
        modules = [m for m in model.modules() if isinstance(m, (nn.ReLU, nn.Hardtanh))]
    kept = {}

    def keep(module, inputs, output):
        values = output.detach().float().transpose(0, 1).flatten(1)
        values = values[:, torch.randperm(values.shape[1], device=values.device)[: max(1, SAMPLE // len(values))]]
        kept.setdefault(module, []).append(values if per_channel else values.reshape(1, -1))

    hooks = [m.register_forward_hook(keep) for m in modules]
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            for images in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    if not kept:
        raise ValueError("thresholds need at least one batch of images")
    found = [threshold(torch.cat(kept[m], 1), levels, how) for m in modules]
    return found if per_channel else [float(t) for t in found]


def threshold(values, levels, how="mse"):
    """λ for each row of activations; 1 where none is above zero."""
    top = values.amax(1)
    if how == "mse":
        shares = torch.arange(2, 41, device=values.device) / 40
        errors = torch.stack([_error(values, (top * s).clamp(min=1e-12), levels) for s in shares])
        found = top * shares[errors.argmin(0)]
    else:
        order = values.sort(1).values
        zeros = (order <= 0).sum(1)
        index = zeros + ((values.shape[1] - zeros - 1).clamp(min=0) * (float(how) / 100)).long()
        found = order.gather(1, index.clamp(max=values.shape[1] - 1)[:, None])[:, 0]
    return torch.where(top > 0, found, torch.ones_like(found))


def _error(values, up, levels):
    """Mean squared error of rounding with these λ."""
    up = up[:, None]
    rounded = torch.floor(values * (levels / up) + 0.5).clamp(0, levels) * (up / levels)
    return (rounded - values).square().mean(1)
