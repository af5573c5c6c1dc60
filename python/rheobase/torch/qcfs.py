"""The QCFS activation: quantisation, clip and floor with a shift, its clipping bound trained.

In: pre-activations, the number of levels L. Out: activations on L + 1 values from 0 to λ.
"""

import torch
from torch import nn


class _Quantise(torch.autograd.Function):
    """λ · clip(floor(z·L/λ + 1/2)/L, 0, 1); backward with floor as the identity.

    dz is 1 for 0 < z < λ, else 0; λ receives clip(floor(..)/L, 0, 1), less z/λ where 0 < z < λ.
    """

    @staticmethod
    def forward(ctx, z, up, levels):
        ctx.save_for_backward(z, up)
        ctx.levels = levels
        return torch.floor(z * (levels / up) + 0.5).clamp(0, levels) * (up / levels)

    @staticmethod
    def backward(ctx, gradient):
        z, up = ctx.saved_tensors
        levels = ctx.levels
        inside = (z > 0) & (z < up)
        d_z = torch.where(inside, gradient, 0)
        d_up = None
        if ctx.needs_input_grad[1]:
            scaled = z / up
            rounded = torch.floor(scaled * levels + 0.5).clamp(0, levels) / levels
            share = gradient * (rounded - torch.where(inside, scaled, 0))
            d_up = share.sum_to_size(up.shape)
        return d_z, d_up, None


class QCFS(nn.Module):
    """a = λ/L · clip(floor(z·L/λ + 1/2), 0, L), λ = `up` trained (Bu et al., ICLR 2022).

    `threshold` is λ at the start: one number for the layer, or one per channel. State dicts hold it as `up` with shape
    [1] or [channels].
    """

    def __init__(self, levels, threshold=8.0):
        super().__init__()
        if int(levels) != levels or levels < 1:
            raise ValueError(f"QCFS needs a whole number of levels, 1 or more, not {levels!r}")
        up = torch.as_tensor(threshold, dtype=torch.float32).detach().clone().reshape(-1)
        if not (torch.isfinite(up).all() and (up > 0).all() and len(up)):
            raise ValueError(f"QCFS needs finite thresholds above 0, not {threshold!r}")
        self.levels = int(levels)
        self.up = nn.Parameter(up)

    def forward(self, z):
        up = self.up
        if up.numel() > 1:
            channels = z.shape[1] if z.dim() > 1 else 0
            if channels != up.numel():
                raise ValueError(f"QCFS has {up.numel()} thresholds, its input {channels} channels")
            up = up.reshape(1, -1, *[1] * (z.dim() - 2))
        else:
            up = up.reshape([1] * z.dim())
        if z.dtype != up.dtype:
            # Under autocast z has half precision: λ's rounding there would move every step of the staircase.
            return _Quantise.apply(z.float(), up, self.levels).to(z.dtype)
        return _Quantise.apply(z, up, self.levels)

    def extra_repr(self):
        shown = f"{self.up.item():.4g}" if self.up.numel() == 1 else f"{self.up.numel()} channels"
        return f"levels={self.levels}, threshold={shown}"
