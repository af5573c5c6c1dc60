"""Firing thresholds of former ReLUs, chosen on images.

In: a network whose activations still are ReLUs, images. Out: a λ per activation: of least rounding error, or a percentile.
"""

import torch
from torch import nn

#: Values kept per activation.
SAMPLE = 1 << 18


def calibrate(model, batches, levels, how="mse"):
    """λ of each `nn.ReLU` of the model, in the order of its modules; `how` is "mse" or a percentile."""
    kept = {}

    def keep(module, inputs, _):
        values = inputs[0].detach().float().flatten()
        kept.setdefault(module, []).append(values[:: max(1, len(values) // (SAMPLE // 8))])

    modules = [m for m in model.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    hooks = [m.register_forward_hook(keep) for m in modules]
    model.eval()
    with torch.no_grad():
        for images in batches:
            model(images)
    for hook in hooks:
        hook.remove()
    return [threshold(torch.cat(kept[m]), levels, how) for m in modules]


def threshold(values, levels, how="mse"):
    """λ for these pre-activations."""
    values = values.relu()
    top = float(values.max())
    if top <= 0:
        return 1.0
    if how != "mse":
        positive = values[values > 0]
        return float(torch.quantile(positive[: 1 << 22], float(how) / 100)) or top
    candidates = [top * share / 40 for share in range(2, 41)]
    return min(candidates, key=lambda up: float((rounded(values, up, levels) - values).square().mean()))


def rounded(values, up, levels):
    return torch.floor(values * (levels / up) + 0.5).clamp(0, levels) * (up / levels)
