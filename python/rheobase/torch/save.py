"""Writes PyTorch modules as Rheobase's own files: one safetensors with the graph as JSON in its metadata.

In: a module that torch.fx can trace, an example of its images. Out: a file that `rheobase` reads, whole or not at all.
"""

import copy
import json
import math

import torch
from torch import fx, nn

from .files import write_atomically
from .qcfs import QCFS
from .replace import ReplaceError, activation, arguments, operation, place, trace, unwrapped

FORMAT = 1


class SaveError(ValueError):
    """The model has a part that Rheobase's format cannot hold."""


def save(model, example, path, normalisation=None, classes=(), name=None, notes=()):
    """Writes `model` to `path`. `example` is a batch of images as the model takes them; `normalisation` the pair of mean
    and standard deviation per channel (pixels in [0, 1]); `classes` the names of the classes in the output's order.
    """
    graph, tensors = describe(model, example)
    output = graph.pop("classes_count")
    classes = [str(c) for c in classes]
    if classes and len(classes) != output:
        raise SaveError(f"{len(classes)} class names for {output} outputs")
    if normalisation is not None:
        mean, std = ([float(x) for x in torch.as_tensor(v, dtype=torch.float64).reshape(-1)] for v in normalisation)
        channels = graph["nodes"][0]["op"]["shape"][0]
        if len(mean) != channels or len(std) != channels or not all(s > 0 and math.isfinite(s) for s in std):
            raise SaveError(f"the normalisation needs {channels} means and as many standard deviations above 0")
        normalisation = {"mean": mean, "std": std}
    graph = {
        "format": FORMAT,
        "name": name or type(unwrapped(model)).__name__,
        "neuron": {"fires": "potential >= threshold", "reset": "subtract threshold"},
        **graph,
        "classes": classes,
        "normalisation": normalisation,
        "notes": [str(note) for note in notes],
    }
    from safetensors.torch import save as serialise

    data = serialise(tensors, {"rheobase": json.dumps(graph, ensure_ascii=False, separators=(",", ":"))})
    write_atomically(path, lambda file: file.write(data))


def describe(model, example):
    """Nodes and tensors of the model's graph. Raises SaveError or ReplaceError by name for what does not fit."""
    if not isinstance(example, torch.Tensor) or example.dim() not in (2, 4) or not len(example):
        raise SaveError("the example has to be a batch of images (N, channels, height, width)")
    model = copy.deepcopy(unwrapped(model)).cpu().float().eval()
    graph = trace(model)
    walk = Walk(graph)
    with torch.no_grad():
        walk.run(example[:2].detach().cpu().float())
    return walk.result()


class Walk(fx.Interpreter):
    """Runs the traced model on the example and writes a node for each step that touches the images."""

    def __init__(self, graph):
        super().__init__(graph)
        self.modules = dict(graph.named_modules())
        self.nodes, self.tensors = [], {}
        # Which of our nodes holds an fx node's value.
        self.held = {}
        self.users = {}

    def run_node(self, n):
        value = super().run_node(n)
        if n.op == "placeholder":
            if self.nodes:
                raise SaveError("the model takes more than one input")
            shape = list(value.shape[1:]) + [1] * (4 - value.dim())
            self.held[n] = self.push("input", [], {"kind": "input", "shape": shape})
        elif n.op == "output":
            self.finish(n, value)
        elif isinstance(value, torch.Tensor) and any(s in self.held for s in n.all_input_nodes):
            self.held[n] = self.step(n, value)
        elif isinstance(value, (tuple, list)) and any(
            isinstance(v, torch.Tensor) for v in value
        ):
            raise SaveError(f"{place(n)} gives several values; Rheobase's graph holds one per node")
        return value

    def finish(self, n, value):
        result = n.args[0]
        if not isinstance(result, fx.Node) or result not in self.held:
            raise SaveError("the model has to give one tensor, the logits")
        if value.dim() != 2:
            raise SaveError(f"the output is {tuple(value.shape)}, not one number per class")
        self.logits, self.count = self.held[result], value.shape[1]

    def result(self):
        graph = {"output": self.logits, "nodes": self.nodes, "classes_count": self.count}
        return graph, self.tensors

    def push(self, name, inputs, op, **tensors):
        index = len(self.nodes)
        self.nodes.append({"name": name, "inputs": inputs, "op": op})
        for field, tensor in tensors.items():
            if tensor is not None:
                if not torch.isfinite(tensor).all():
                    raise SaveError(f"`{name}`: {field} holds numbers that are not finite")
                self.tensors[f"{index}.{field}"] = tensor.detach().float().cpu().clone().contiguous()
        return index

    # -- one step

    def step(self, n, value):
        ceiling = activation(n, self.modules)
        if ceiling is not None:
            function = "relu" if ceiling == math.inf else {"clip": {"ceiling": ceiling}}
            op = {"kind": "activation", "function": function, "threshold": None, "start": "half"}
            return self.push(self.label(n), [self.source(n)], op)
        if n.op == "call_module":
            return self.write_module(n, self.modules[n.target], value)
        return self.write_function(n, operation(n), value)

    def label(self, n):
        if n.op == "call_module":
            same = sum(node["name"].split("#")[0] == n.target for node in self.nodes)
            return n.target if not same else f"{n.target}#{same + 1}"
        within = n.meta.get("within", "")
        return f"{within}.{n.name}" if within else n.name

    def source(self, n):
        """Our node for the first argument."""
        first = n.args[0] if n.args else n.kwargs.get("input", n.kwargs.get("self"))
        if not isinstance(first, fx.Node) or first not in self.held:
            raise SaveError(f"{place(n)}: its first argument does not come from the images")
        others = [s for s in n.all_input_nodes if s is not first and isinstance(self.env.get(s), torch.Tensor)]
        if others and operation(n) not in _SUMS | {"cat", "concat"}:
            raise SaveError(f"{place(n)} takes a tensor beside the images, which no node of Rheobase's does")
        return self.held[first]

    def shape(self, n):
        """Shape of the first argument's value, without the batch."""
        first = n.args[0] if n.args else n.kwargs.get("input", n.kwargs.get("self"))
        return tuple(self.env[first].shape[1:])

    def write_module(self, n, m, value):
        label, source = self.label(n), [self.source(n)]
        push, kind = self.push, type(m)
        if isinstance(m, QCFS):
            op = {"kind": "activation", "function": {"qcfs": {"levels": m.levels}}, "start": "half"}
            op["threshold"] = "layer" if m.up.numel() == 1 else "channel"
            if not (m.up > 0).all():
                raise SaveError(f"`{label}`: a threshold is not above 0")
            return push(label, source, op, threshold=m.up)
        if kind is nn.Conv2d:
            if m.padding_mode != "zeros":
                raise SaveError(f"`{label}`: padding with {m.padding_mode} values; only zeros are known")
            op = {"kind": "conv2d", "stride": list(m.stride), "padding": _sides(m), "dilation": list(m.dilation)}
            op |= {"groups": m.groups, "bias": m.bias is not None}
            return push(label, source, op, weight=m.weight, bias=m.bias)
        if kind is nn.Linear:
            if len(self.shape(n)) != 1:
                raise SaveError(f"`{label}`: a linear layer on {self.shape(n)}; flatten it first")
            return push(label, source, {"kind": "linear", "bias": m.bias is not None}, weight=m.weight, bias=m.bias)
        if kind in (nn.BatchNorm2d, nn.BatchNorm1d):
            return self.batch_norm(label, source, m)
        if kind in (nn.AvgPool2d, nn.MaxPool2d):
            return self.pool(n, label, source, kind is nn.MaxPool2d, vars(m))
        if kind is nn.AdaptiveAvgPool2d:
            return self.adaptive(n, label, source, value)
        if kind is nn.Flatten:
            return self.reshape(n, label, source, value)
        if isinstance(m, (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)):
            return push(label, source, {"kind": "identity"})
        raise SaveError(f"`{label}`: {kind.__name__} is no operation of Rheobase's format")

    def write_function(self, n, name, value):
        if name in _SUMS:
            return self.add(n, value)
        if name in ("cat", "concat"):
            parts, dim = n.args[0] if n.args else n.kwargs["tensors"], arguments(n, dim=0)[0]
            if dim % value.dim() != 1 or any(part not in self.held for part in parts):
                raise SaveError(f"{place(n)}: only channels of the images' own values can be joined")
            if len(parts) == 1:
                return self.held[parts[0]]
            return self.push(self.label(n), [self.held[part] for part in parts], {"kind": "concat"})
        label, source = self.label(n), [self.source(n)]
        if name in ("flatten", "view", "reshape", "squeeze", "unflatten"):
            return self.reshape(n, label, source, value)
        if name in ("mean", "adaptive_avg_pool2d"):
            return self.adaptive(n, label, source, value, mean=name == "mean")
        if name == "avg_pool2d":
            wanted = {"kernel_size": None, "stride": None, "padding": 0, "ceil_mode": False}
            wanted |= {"count_include_pad": True, "divisor_override": None}
            return self.pool(n, label, source, False, dict(zip(wanted, arguments(n, **wanted))))
        if name in ("max_pool2d", "boolean_dispatch"):
            wanted = {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
            return self.pool(n, label, source, True, dict(zip(wanted, arguments(n, **wanted))))
        if name in ("dropout", "dropout2d", "dropout_", "contiguous", "clone", "detach", "float", "to"):
            return self.push(label, source, {"kind": "identity"})
        if name == "getitem":
            return self.subsample(n, label, source)
        if name == "pad":
            return self.pad(n, label, source)
        raise SaveError(f"{place(n)} is no operation of Rheobase's format")

    def batch_norm(self, label, source, m):
        if m.running_mean is None:
            raise SaveError(f"`{label}`: a BatchNorm without running statistics")
        one = torch.ones_like(m.running_mean)
        scale, shift = (one, torch.zeros_like(one)) if m.weight is None else (m.weight, m.bias)
        op = {"kind": "batch_norm", "eps": m.eps}
        return self.push(label, source, op, scale=scale, shift=shift, mean=m.running_mean, var=m.running_var)

    def pool(self, n, label, source, largest, options):
        kernel = _pair(options["kernel_size"])
        stride = options["stride"]
        stride = kernel if stride in (None, [], ()) else _pair(stride)
        padding = _pair(options["padding"])
        if options.get("divisor_override") or _pair(options.get("dilation", 1)) != [1, 1]:
            raise SaveError(f"{place(n)}: a pool with a divisor or dilation of its own")
        average = "average" if options.get("count_include_pad", True) else "average_without_padding"
        op = {"kind": "pool", "window": "max" if largest else average, "kernel": kernel, "stride": stride}
        return self.push(label, source, op | {"padding": padding * 2, "ceil": bool(options["ceil_mode"])})

    def adaptive(self, n, label, source, value, mean=False):
        """Global averages, and adaptive ones whose windows are all alike."""
        before, after = self.shape(n), tuple(value.shape[1:])
        if len(before) != 3:
            raise SaveError(f"{place(n)}: a mean of {before}, which is no image")
        if mean:
            dims = arguments(n, dim=None)[0]
            dims = list(n.args[1:]) if isinstance(dims, int) and len(n.args) > 2 else dims
            if not isinstance(dims, (list, tuple)) or sorted(d % 4 for d in dims) != [2, 3]:
                raise SaveError(f"{place(n)}: a mean over {dims}; only over both sides of the image")
            return self.push(label, source, {"kind": "global_average"})
        if after[1:] == (1, 1):
            return self.push(label, source, {"kind": "global_average"})
        if before == after:
            return self.push(label, source, {"kind": "identity"})
        if before[1] % after[1] or before[2] % after[2]:
            raise SaveError(f"{place(n)}: an adaptive pool from {before} to {after} has windows that differ")
        window = [before[1] // after[1], before[2] // after[2]]
        op = {"kind": "pool", "window": "average", "kernel": window, "stride": window}
        return self.push(label, source, op | {"padding": [0] * 4, "ceil": False})

    def reshape(self, n, label, source, value):
        before, after = self.shape(n), tuple(value.shape[1:])
        if before == after:
            return self.push(label, source, {"kind": "identity"})
        if value.dim() == 2 and len(value) == len(self.env[n.all_input_nodes[0]]):
            return self.push(label, source, {"kind": "flatten"})
        if len(before) == 1 and after == (*before, 1, 1):
            return self.push(label, source, {"kind": "identity"})
        raise SaveError(f"{place(n)}: reshapes {before} to {after}; only flattening is known")

    def add(self, n, value):
        if len(n.args) > 2 or n.kwargs.get("alpha", 1) != 1:
            raise SaveError(f"{place(n)}: a sum with a factor")
        parts = list(n.args) + [n.kwargs[k] for k in ("other",) if k in n.kwargs]
        if len(parts) != 2 or any(not isinstance(p, fx.Node) or p not in self.held for p in parts):
            raise SaveError(f"{place(n)}: a sum with something that does not come from the images")
        if any(self.env[p].shape != value.shape for p in parts):
            raise SaveError(f"{place(n)}: a sum of values of different shapes")
        within = n.meta.get("within", "")
        label = f"{within}.add" if within else n.name
        return self.push(label, [self.held[p] for p in parts], {"kind": "add"})

    def subsample(self, n, label, source):
        """x[:, :, ::2, ::2], the shortcut of CIFAR ResNets."""
        index = n.args[1] if isinstance(n.args[1], tuple) else (n.args[1],)
        steps = []
        for part in index:
            plain = isinstance(part, slice) and part.start in (None, 0) and part.stop is None
            if not plain or not (part.step is None or isinstance(part.step, int) and part.step > 0):
                raise SaveError(f"{place(n)}: only every n-th pixel can be taken, as in x[:, :, ::2, ::2]")
            steps.append(part.step or 1)
        steps += [1] * (4 - len(steps))
        if len(steps) > 4 or steps[:2] != [1, 1] or len(self.shape(n)) != 3:
            raise SaveError(f"{place(n)}: images or channels are left out")
        return self.push(label, source, {"kind": "shortcut", "stride": steps[2:], "before": 0, "after": 0})

    def pad(self, n, label, source):
        """Zero channels before and after; joined with the subsampling it follows."""
        sides, mode, fill = arguments(n, pad=None, mode="constant", value=None)
        sides = list(sides) + [0] * (6 - len(sides))
        if mode != "constant" or fill not in (None, 0) or len(sides) != 6 or any(sides[:4]) or min(sides) < 0:
            raise SaveError(f"{place(n)}: only channels of zeros can be added; pad images in the convolution itself")
        before, after = sides[4:]
        first, stride = n.all_input_nodes[0], [1, 1]
        last = self.nodes[source[0]]
        if last["op"]["kind"] == "shortcut" and len(first.users) == 1 and source[0] == len(self.nodes) - 1:
            stride, source = last["op"]["stride"], last["inputs"]
            before, after = before + last["op"]["before"], after + last["op"]["after"]
            self.nodes.pop()
            within = n.meta.get("within", "")
            label = within or label
        return self.push(label, source, {"kind": "shortcut", "stride": stride, "before": before, "after": after})


_SUMS = {"add", "iadd", "add_"}


def _pair(x):
    return [x, x] if isinstance(x, int) else list(x)


def _sides(conv):
    """Zeros at top, left, bottom, right."""
    if conv.padding == "valid":
        return [0, 0, 0, 0]
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size)]
        return [t // 2 for t in total] + [t - t // 2 for t in total]
    return list(conv.padding) * 2


__all__ = ["ReplaceError", "SaveError", "describe", "save"]
