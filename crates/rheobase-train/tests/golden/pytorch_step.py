"""One training step of ResNet-20 with QCFS in PyTorch, for comparison: weights and images by formula, loss and updated weights out.

    python pytorch_step.py > pytorch_step.json        (from this folder; needs torch and this repository's python/)

In f64: a QCFS network is chaotic in its roundings, where a sum next to a step of the floor falls on its other side (the losses of
PyTorch's own f32 and f64 passes here differ by 0.7 %). Weights, images and labels come from SplitMix64 streams that the test draws too; the network and its QCFS are written in
PyTorch alone (python/rheobase/torch), the step is
torch.optim.SGD's.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))
from rheobase.torch.models import build  # noqa: E402

MASK = (1 << 64) - 1
BATCH = 32


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Stream:
    """rheobase_core::random::Stream."""

    def __init__(self, seed, purpose):
        self.state = mix(((seed ^ (purpose * 0xD1B54A32D192ED03 & MASK)) + 0x9E3779B97F4A7C15) & MASK)

    def uniform(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        return (mix(self.state) >> 11) / (1 << 53)


def purpose(name):
    """FNV-1a."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def signed(name, n):
    stream = Stream(20, purpose(name))
    return torch.tensor([2 * stream.uniform() - 1 for _ in range(n)], dtype=torch.float64)


def step(levels):
    model = build("resnet20", 10, levels=levels).train().double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            u = signed(name, p.numel()).reshape(p.shape)
            if name.endswith(".up"):
                value = torch.full(p.shape, 1.5)
            elif p.dim() > 1:
                value = u * math.sqrt(6 / p[0].numel())
            elif name.endswith(".weight"):
                value = 1 + 0.2 * u
            else:
                value = 0.1 * u
            p.copy_(value.to(torch.float32))
    images = 2 * signed("images", BATCH * 32 * 32 * 3).reshape(BATCH, 32, 32, 3).permute(0, 3, 1, 2)
    labels = torch.tensor([i % 10 for i in range(BATCH)])
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    loss = F.cross_entropy(model(images.to(torch.float32).double()), labels)
    loss.backward()
    optimiser.step()
    params = {}
    for name, p in model.named_parameters():
        flat = p.detach().reshape(-1)
        picked = [i * flat.numel() // 8 for i in range(8)] if flat.numel() >= 8 else list(range(flat.numel()))
        params[name] = {"norm": flat.norm().item(), "values": {i: flat[i].item() for i in picked}}
    return {"levels": levels, "loss": loss.item(), "params": params}


json.dump(step(4), sys.stdout, indent=0)
print()
