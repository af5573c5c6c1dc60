"""A converted network as PyTorch runs it: calibrated neurons (COS) as tensor operations, and SpikingJelly's.

In: a network in Rheobase's own format (safetensors), T, rho, which neurons. Out: a module from images to logits.

As fast as we know how to write it in PyTorch:
1. the linear part of a layer sees all steps and images as one batch, [steps * images, channels, height, width];
2. BatchNorm is folded, and a spike is a 1: its threshold is folded into the weights that read it;
3. the first layer's current, which is the same at every step, is computed once;
4. what follows the last neurons is linear, so it runs once, on their mean over the T steps read out.
"""

import copy
import json
import math

import torch
import torch.nn.functional as F
from torch import nn


class Unsupported(ValueError):
    """The network has something that this reading does not know."""


# -- neurons: currents [steps * images, ...] -> spikes [steps * images, ...], the last ones their mean over T


def shifted(v, low, high, theta):
    """v(0) of the run that is read out (method: one spike less where too many were fired, one more where too few)."""
    half, eps = theta / 2, theta / 1000
    fewer = half - (low + eps).clamp_min(theta)
    more = half + (theta + eps - high).clamp_min(theta)
    v0 = torch.where((v < 0) & (low < math.inf), fewer, half)
    return torch.where((v >= theta) & (high > -math.inf), more, v0)


def shift(steps, theta):
    """v(0) after one round of calibration of the neurons with these currents."""
    # Extremes of the potential: the least after a spike, the largest after a silent step.
    v, low, high = theta / 2, torch.full_like(steps[0], math.inf), torch.full_like(steps[0], -math.inf)
    for current in steps:
        m = v + current
        fired = m >= theta
        v = torch.where(fired, m - theta, m)
        low = torch.where(fired, torch.minimum(low, v), low)
        high = torch.where(fired, high, torch.maximum(high, v))
    return shifted(v, low, high, theta)


def cos(steps, theta, presim, count, mean):
    """COS without writing to memory in place, for torch.compile; `theta` may be a tensor."""
    v = shift(steps[:presim], theta)
    spikes = []
    for t in range(count):
        m = v + steps[t]
        fired = m >= theta
        v = torch.where(fired, m - theta, m)
        spikes.append(fired.to(v.dtype))
    return sum(spikes[1:], spikes[0]) / count if mean else torch.cat(spikes)


def cos_in_place(steps, theta, presim, count, mean):
    """The same for eager mode: few and small writes, and the shift for the few neurons alone that need one."""
    v, spike = torch.full_like(steps[0], theta / 2), torch.empty_like(steps[0])
    fired = torch.zeros_like(v)
    for t in range(presim):
        v.add_(steps[t])
        torch.ge(v, theta, out=spike)
        v.sub_(spike, alpha=theta)
        fired.add_(spike)
    wrong = ((v < 0) & (fired > 0)).logical_or_((v >= theta) & (fired < presim))
    wrong = flat(wrong).nonzero().squeeze(1)
    v.fill_(theta / 2)
    flat(v)[wrong] = shift([flat(current)[wrong] for current in steps[:presim]], theta)
    if mean:
        total = torch.zeros_like(v)
    else:
        spikes = repeated(v, count)
        parts = spikes.split(len(v))
    for t in range(count):
        v.add_(steps[t])
        if not mean:
            spike = parts[t]
        torch.ge(v, theta, out=spike)
        v.sub_(spike, alpha=theta)
        if mean:
            total.add_(spike)
    return total.div_(count) if mean else spikes


def flat(x):
    """One dimension in the order of the memory."""
    return (x.permute(0, 2, 3, 1) if innermost(x) else x).view(-1)


def innermost(x):
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def repeated(x, count):
    """Room for `count` tensors like x, one after the other."""
    order = torch.channels_last if innermost(x) else torch.contiguous_format
    return torch.empty((count * len(x), *x.shape[1:]), memory_format=order)


class Cos(nn.Module):
    """One layer of calibrated neurons."""

    def __init__(self, rule, theta, steps, presim, last):
        super().__init__()
        # Steps that are simulated, read out of the last layer, and of every other one.
        self.simulated, self.presim, self.last = max(steps, presim), presim, last
        self.count = steps if last else self.simulated
        self.rule, self.theta = rule, theta

    def forward(self, current, constant):
        steps = [current] * self.simulated if constant else current.split(len(current) // self.simulated)
        return self.rule(steps, self.theta, self.presim, self.count, self.last)


class Jelly(nn.Module):
    """One layer of SpikingJelly's neurons in multi-step mode: v(0) = theta/2, soft reset, no calibration."""

    def __init__(self, theta, steps, last):
        super().__init__()
        from spikingjelly.activation_based import neuron

        self.node = neuron.IFNode(v_threshold=theta, v_reset=None, step_mode="m")
        self.theta, self.simulated, self.last = theta, steps, last

    def forward(self, current, constant):
        if constant:
            current = current.unsqueeze(0).expand(self.simulated, *current.shape)
        else:
            current = current.unflatten(0, (self.simulated, -1))
        self.node.reset()
        self.node.v = self.theta / 2
        spikes = self.node(current)
        return spikes.mean(0) if self.last else spikes.flatten(0, 1)


# -- the network


def read(path):
    """Nodes, the output's index and tensors of a file in Rheobase's own format."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        graph = json.loads(file.metadata()["rheobase"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return graph, tensors


def folded(graph, tensors):
    """Nodes without BatchNorm and identities: a list of (kind, inputs, operation, its tensors)."""
    where, users, nodes = {}, {}, []
    for index, node in enumerate(graph["nodes"]):
        for source in node["inputs"]:
            users[source] = users.get(source, 0) + 1
    for index, node in enumerate(graph["nodes"]):
        op, kind = node["op"], node["op"]["kind"]
        own = {name.split(".")[1]: t.clone() for name, t in tensors.items() if name.split(".")[0] == str(index)}
        sources = [where[s] for s in node["inputs"]]
        if kind == "identity":
            where[index] = sources[0]
        elif kind == "batch_norm":
            before = nodes[sources[0]]
            if before[0] not in ("conv2d", "linear") or users[node["inputs"][0]] != 1:
                raise Unsupported(f"`{node['name']}`: a BatchNorm that follows no convolution of its own")
            factor = own["scale"].double() / (own["var"].double() + op["eps"]).sqrt()
            weight, bias = before[3]["weight"].double(), before[3].get("bias", torch.zeros(len(factor))).double()
            before[3]["weight"] = (weight * factor.view(-1, *[1] * (weight.dim() - 1))).float()
            before[3]["bias"] = ((bias - own["mean"].double()) * factor + own["shift"].double()).float()
            where[index] = sources[0]
        else:
            where[index] = len(nodes)
            nodes.append((kind, sources, op, own))
    return nodes, where[graph["output"]]


class Conv(nn.Module):
    """A convolution whose padding may differ from side to side."""

    def __init__(self, op, own):
        super().__init__()
        top, left, bottom, right = op["padding"]
        even = (top, left) == (bottom, right)
        self.pad = None if even else (left, right, top, bottom)
        outputs, inputs, *kernel = own["weight"].shape
        self.conv = nn.Conv2d(
            inputs * op["groups"],
            outputs,
            kernel,
            tuple(op["stride"]),
            (top, left) if even else 0,
            tuple(op["dilation"]),
            op["groups"],
            "bias" in own,
        )
        fill(self.conv, own)

    def forward(self, x):
        return self.conv(x if self.pad is None else F.pad(x, self.pad))


class Dense(nn.Module):
    """A linear layer; values of one position may still be (n, c, 1, 1)."""

    def __init__(self, own):
        super().__init__()
        self.linear = nn.Linear(own["weight"].shape[1], own["weight"].shape[0], "bias" in own)
        fill(self.linear, own)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Take(nn.Module):
    """Every n-th pixel, and channels of zeros before and after."""

    def __init__(self, op):
        super().__init__()
        self.stride, self.sides = op["stride"], (op["before"], op["after"])

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride[0], :: self.stride[1]], (0, 0, 0, 0, *self.sides))


class Mixed(nn.Module):
    """What values of different scales give together; a scale is a number or, per channel, a tensor."""

    def __init__(self, scales):
        super().__init__()
        self.scales = [None if isinstance(s, torch.Tensor) else s for s in scales]
        for index, scale in enumerate(scales):
            if isinstance(scale, torch.Tensor):
                self.register_buffer(f"scale{index}", scale.view(1, -1, 1, 1))

    def scaled(self, index, part):
        scale = self.scales[index]
        if scale == 1:
            return part
        return part * (getattr(self, f"scale{index}") if scale is None else scale)


class Sum(Mixed):
    """A sum, whose first part is the one that needs no scaling."""

    def forward(self, *parts):
        order = sorted(range(len(parts)), key=lambda i: self.scales[i] != 1)
        total = self.scaled(order[0], parts[order[0]])
        for index in order[1:]:
            scale = self.scales[index]
            if scale is None:
                total = torch.addcmul(total, parts[index], getattr(self, f"scale{index}"))
            else:
                total = torch.add(total, parts[index], alpha=scale)
        return total


class Join(Mixed):
    """Channels one after the other."""

    def forward(self, *parts):
        return torch.cat([self.scaled(index, part) for index, part in enumerate(parts)], 1)


class Scaled(nn.Module):
    """Neurons with a threshold per channel: their currents in units of it."""

    def __init__(self, theta, neurons):
        super().__init__()
        self.register_buffer("factor", (1 / theta).view(1, -1, 1, 1))
        self.neurons = neurons

    def forward(self, current, constant):
        factor = self.factor if current.dim() == 4 else self.factor.flatten(1)
        return self.neurons(current * factor, constant)


def fill(module, own):
    with torch.no_grad():
        for name, value in own.items():
            getattr(module, name).copy_(value)


def pool(op):
    top, left, bottom, right = op["padding"]
    if op["window"] == "max" or (top, left) != (bottom, right):
        raise Unsupported("a max pool, or a pool that is padded on one side")
    included = op["window"] == "average"
    return nn.AvgPool2d(op["kernel"], op["stride"], (top, left), op["ceil"], included)


class Spiking(nn.Module):
    """Images [n, c, h, w] to the logits after T steps. `neurons(theta, last)` makes a layer of neurons."""

    def __init__(self, path, neurons):
        super().__init__()
        nodes, self.output = folded(*read(path))
        spiking = [i for i, node in enumerate(nodes) if node[0] == "activation"]
        if not spiking:
            raise Unsupported("the network has no activation")
        self.last, self.sources = spiking[-1], [node[1] for node in nodes]
        # A value is (what the forward holds) * scale. Values before the first neurons are alike at every step.
        scales, constant = [1.0], [True]
        modules = [nn.Identity()]
        for index, (kind, sources, op, own) in enumerate(nodes[1:], start=1):
            given = [scales[s] for s in sources]
            modules.append(self.build(kind, op, own, given, neurons, index == self.last))
            same = {constant[s] for s in sources}
            if len(same) > 1 and index < self.last:
                raise Unsupported("a sum of spikes with something that is the same at every step")
            constant.append(kind != "activation" and constant[sources[0]])
            if kind == "activation":
                own = own["threshold"]
                scales.append(own.item() if own.numel() == 1 else own)
            elif kind in ("conv2d", "linear", "add", "concat"):
                scales.append(1.0)
            elif kind == "shortcut" and isinstance(given[0], torch.Tensor):
                scales.append(F.pad(given[0], (op["before"], op["after"]), value=1.0))
            else:
                scales.append(given[0])
        if not (isinstance(scales[self.output], float) and scales[self.output] == 1):
            raise Unsupported("an output that is not a linear layer's")
        self.parts, self.constant = nn.ModuleList(modules), constant
        self.spiking = set(spiking)
        # The last reader of every value: nothing is kept longer.
        reader = {s: i for i, sources in enumerate(self.sources) for s in sources}
        self.done = [[s for s, i in reader.items() if i == index] for index in range(len(nodes))]
        self.steps = None
        self.requires_grad_(False).eval()

    @staticmethod
    def build(kind, op, own, scales, neurons, last):
        if kind in ("conv2d", "linear"):
            own = copy.deepcopy(own)
            factor = scales[0]
            if isinstance(factor, torch.Tensor):
                weight, groups = own["weight"], op.get("groups", 1)
                # flattened: as often as a channel has positions
                factor = factor.repeat_interleave(weight.shape[1] * groups // len(factor))
                factor = factor.view(groups, 1, -1).expand(groups, len(weight) // groups, -1)
                factor = factor.reshape(len(weight), -1, *[1] * (weight.dim() - 2))
            own["weight"] = own["weight"] * factor
            return Conv(op, own) if kind == "conv2d" else Dense(own)
        if kind == "activation":
            if "threshold" not in own:
                raise Unsupported("activations without a threshold: convert the network first")
            if op["start"] != "half":
                raise Unsupported("neurons that start elsewhere than at half their threshold")
            theta = own["threshold"] / scales[0]
            return neurons(theta.item(), last) if theta.numel() == 1 else Scaled(theta, neurons(1.0, last))
        if kind in ("add", "concat"):
            return Sum(scales) if kind == "add" else Join(scales)
        if kind == "pool":
            return pool(op)
        if kind == "global_average":
            return nn.AdaptiveAvgPool2d(1)
        if kind == "flatten":
            return nn.Flatten()
        if kind == "shortcut":
            return Take(op)
        raise Unsupported(f"`{kind}`")

    def forward(self, x):
        values = {0: x}
        for index in range(1, len(self.parts)):
            part, given = self.parts[index], [values[s] for s in self.sources[index]]
            if index in self.spiking:
                values[index] = part(given[0], self.constant[self.sources[index][0]])
            else:
                values[index] = part(*given)
            for source in self.done[index]:
                if source != self.output:
                    del values[source]
            if index == self.last and len(values) > 1:
                values = {i: self.mean(i, v, len(x)) for i, v in values.items()}
        return values[self.output].flatten(1)

    def mean(self, index, value, images):
        """Over the steps that are read out, of what is read after the last neurons too."""
        if index == self.last or self.constant[index]:
            return value
        return value.unflatten(0, (-1, images))[: self.steps].mean(0)


def network(path, steps, presim, how):
    """`how`: "eager" or "compile" for COS, "spikingjelly" for plain neurons."""

    def neurons(theta, last):
        if how == "spikingjelly":
            return Jelly(theta, steps, last)
        return Cos(cos if how == "compile" else cos_in_place, theta, steps, presim, last)

    made = Spiking(path, neurons)
    made.steps = steps
    return made
