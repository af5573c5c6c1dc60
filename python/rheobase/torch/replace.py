"""Makes a QCFS network of a ReLU network: any module that torch.fx can trace.

In: a model with ReLU or ReLU6, as modules or functions, and max pools. Out: a graph module with QCFS and average pools,
its parameters named as before, and a list of what was replaced.
"""

import copy
import math
from collections import namedtuple

import torch
from torch import fx, nn

from . import thresholds
from .qcfs import QCFS


class ReplaceError(ValueError):
    """Something in the model has no spiking counterpart, or cannot be traced."""


#: One replacement: the name of the new module in the model, what stood there, what stands there now.
Replaced = namedtuple("Replaced", "name before after")


class Tracer(fx.Tracer):
    """Keeps QCFS whole, and remembers where it is, for errors."""

    def __init__(self):
        super().__init__()
        self.path = []

    def is_leaf_module(self, module, name):
        return isinstance(module, QCFS) or super().is_leaf_module(module, name)

    def call_module(self, module, forward, args, kwargs):
        self.path.append(self.path_of_module(module))
        result = super().call_module(module, forward, args, kwargs)
        self.path.pop()
        return result

    def create_node(self, *args, **kwargs):
        node = super().create_node(*args, **kwargs)
        node.meta["within"] = self.path[-1] if self.path else ""
        return node


def unwrapped(model):
    """The network itself, without torch.compile and DistributedDataParallel around it."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def trace(model):
    """The model as a graph module; ReplaceError names the part that cannot be traced."""
    tracer = Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:
        where = f"`{tracer.path[-1]}` ({type(model.get_submodule(tracer.path[-1])).__name__})" if tracer.path else ""
        where = where or f"the forward of {type(model).__name__}"
        raise ReplaceError(f"torch.fx cannot trace {where}: {error}") from error
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


def activation(node, modules):
    """The ceiling of a ReLU (infinite) or ReLU6, None for what is no activation; ReplaceError for another one."""
    if node.op == "call_module":
        module = modules[node.target]
        if isinstance(module, nn.ReLU):
            return math.inf
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return _ceiling(node, module.min_val, module.max_val)
        if type(module).__module__ == "torch.nn.modules.activation":
            raise ReplaceError(f"`{node.target}`: {type(module).__name__} has no spiking counterpart here")
        return None
    name = operation(node)
    if name in ("relu", "relu_"):
        return math.inf
    if name == "relu6":
        return 6.0
    if name in ("hardtanh", "hardtanh_"):
        return _ceiling(node, *arguments(node, min_val=-1.0, max_val=1.0))
    if name in ("clamp", "clamp_", "clip", "clip_"):
        low, high = arguments(node, min=None, max=None)
        return _ceiling(node, low, math.inf if high is None else high)
    if name in ("clamp_min", "clamp_min_"):
        return _ceiling(node, *arguments(node, min=None), math.inf)
    if name.rstrip("_") in _OTHERS:
        raise ReplaceError(f"{place(node)}: {name} has no spiking counterpart here")
    return None


def _ceiling(node, low, high):
    if low != 0 or not isinstance(high, (int, float)) or not high > 0:
        raise ReplaceError(f"{place(node)}: a clamp from {low} to {high} is no ReLU; it has to start at 0")
    return float(high)


#: Functions that bend their input in a way no integrate-and-fire neuron does.
_OTHERS = set(
    """celu elu gelu glu hardshrink hardsigmoid hardswish leaky_relu logsigmoid log_softmax mish prelu rrelu selu
    sigmoid silu softmax softmin softplus softshrink softsign tanh tanhshrink threshold exp log sqrt pow square abs
    maximum minimum where scaled_dot_product_attention instance_norm group_norm layer_norm local_response_norm""".split()
)


def operation(node):
    """The name of a called function or method."""
    if node.op == "call_method":
        return node.target
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return ""


def arguments(node, **defaults):
    """Arguments after the first, by position or name."""
    given = list(node.args[1:])
    values = []
    for index, (name, default) in enumerate(defaults.items()):
        values.append(given[index] if index < len(given) else node.kwargs.get(name, default))
    return values


def place(node):
    """Where a node is, for errors."""
    if node.op == "call_module":
        return f"`{node.target}`"
    within = node.meta.get("within", "")
    return f"`{operation(node)}` in {f'`{within}`' if within else 'the forward of the model'}"


def replace_activations(model, levels, example=None, how="mse", threshold=8.0, per_channel=False):
    """A copy of `model` with QCFS for every ReLU and ReLU6, an average pool for every max pool; and what was replaced.

    `example`, a batch of images or several, sets each λ: `how` is "mse" (least rounding error) or a percentile of the
    activations. Without it every λ is `threshold`, or the ceiling of a ReLU6. Functions become modules of their own, and
    so does every use of a module that is used twice. Raises ReplaceError by name for anything else that is not linear.
    """
    QCFS(levels)  # refuses bad levels before anything else
    graph = trace(copy.deepcopy(unwrapped(model)))
    modules = dict(graph.named_modules())
    replaced, sites, used = [], [], set()

    for node in list(graph.graph.nodes):
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        ceiling = activation(node, modules)
        pool = None if ceiling is not None else _average_pool(node, modules)
        drop = None if ceiling is not None or pool is not None else _dropout(node)
        if ceiling is not None:
            new = nn.ReLU() if ceiling == math.inf else nn.Hardtanh(0.0, ceiling)
        elif pool is not None or drop is not None:
            new = drop if pool is None else pool
        else:
            continue
        before = type(modules[node.target]).__name__ if node.op == "call_module" else operation(node)
        name = _name(node, "act" if ceiling is not None else "pool" if pool is not None else "drop", modules, used)
        _insert(graph, node, name, new)
        modules[name] = new
        if ceiling is not None:
            sites.append((name, new, before))
        else:
            replaced.append(Replaced(name, before, type(new).__name__))

    if not sites:
        raise ReplaceError(f"{type(model).__name__} has no ReLU to replace")
    graph.graph.lint()
    graph.recompile()
    found = [min(threshold, getattr(relu, "max_val", math.inf)) for _, relu, _ in sites]
    if example is not None:
        batches = [example] if isinstance(example, torch.Tensor) else example
        found = thresholds.calibrate(graph, batches, levels, how, [r for _, r, _ in sites], per_channel)
    for (name, _, before), up in zip(sites, found):
        new = QCFS(levels, up)
        graph.add_submodule(name, new)
        replaced.append(Replaced(name, before, f"QCFS({new.extra_repr()})"))
    graph.train(model.training)
    graph.recompile()
    return _device_of(model, graph), replaced


def _device_of(model, graph):
    """The graph where the model was: new thresholds are made on the CPU."""
    parameter = next(model.parameters(), None)
    return graph if parameter is None else graph.to(parameter.device)


def _average_pool(node, modules):
    """The average pool in place of a max pool; None for another node."""
    if node.op == "call_module":
        m = modules[node.target]
        if isinstance(m, nn.AdaptiveMaxPool2d):
            return nn.AdaptiveAvgPool2d(m.output_size)
        if not isinstance(m, nn.MaxPool2d):
            return None
        options = (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)
    elif operation(node) in ("max_pool2d", "max_pool2d_with_indices", "boolean_dispatch"):
        wanted = arguments(
            node, kernel_size=None, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
        )
        options = tuple(wanted)
    elif operation(node).startswith(("max_pool", "adaptive_max_pool", "fractional_max_pool")):
        raise ReplaceError(f"{place(node)}: this max pool cannot become an average pool")
    else:
        return None
    kernel, stride, padding, dilation, ceil, indices = options
    if dilation not in (1, (1, 1), [1, 1]) or indices:
        raise ReplaceError(f"{place(node)}: a max pool with dilation or indices cannot become an average pool")
    return nn.AvgPool2d(kernel, kernel if stride in (None, [], ()) else stride, padding, ceil)


def _dropout(node):
    """A module for a dropout function, whose traced `training` would stay as it is now."""
    name = operation(node)
    if name in ("dropout", "dropout2d", "feature_dropout"):
        return (nn.Dropout if name == "dropout" else nn.Dropout2d)(arguments(node, p=0.5)[0])
    return None


def _name(node, kind, modules, used):
    """A name for the new module: that of the old one at its first use, else a new one beside."""
    if node.op == "call_module" and node.target not in used:
        used.add(node.target)
        return node.target
    if node.op == "call_module":
        stem, count = f"{node.target}_", 2
    else:
        within = node.meta.get("within", "")
        stem, count = f"{within}.{kind}" if within else kind, 1
    while f"{stem}{count}" in modules:
        count += 1
    used.add(f"{stem}{count}")
    return f"{stem}{count}"


def _insert(graph, node, name, module):
    graph.add_submodule(name, module)
    source = node.args[0] if node.args else node.kwargs["input"]
    with graph.graph.inserting_before(node):
        new = graph.graph.call_module(name, (source,))
        new.meta["within"] = node.meta.get("within", "")
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)

