"""Reads Rheobase's files in PyTorch, by the format's words and not by the writer's code; ANN only."""

import json

import torch
import torch.nn.functional as F
from safetensors import safe_open


def read(path):
    """The graph and the tensors of a file."""
    with safe_open(path, "pt") as file:
        graph = json.loads(file.metadata()["rheobase"])
        return graph, {name: file.get_tensor(name) for name in file.keys()}


def run(path, images):
    """Logits of the network in the file."""
    graph, tensors = read(path)
    values, used = [], set()

    def tensor(index, field):
        used.add(f"{index}.{field}")
        return tensors[f"{index}.{field}"]

    for i, node in enumerate(graph["nodes"]):
        op, inputs = dict(node["op"]), [values[j] for j in node["inputs"]]
        kind = op.pop("kind")
        x = inputs[0] if inputs else None
        if kind == "input":
            assert i == 0 and list(images.shape[1:]) == op["shape"]
            y = images
        elif kind == "conv2d":
            top, left, bottom, right = op["padding"]
            bias = tensor(i, "bias") if op["bias"] else None
            x = F.pad(x, (left, right, top, bottom))
            y = F.conv2d(x, tensor(i, "weight"), bias, op["stride"], 0, op["dilation"], op["groups"])
        elif kind == "linear":
            bias = tensor(i, "bias") if op["bias"] else None
            y = F.linear(x.flatten(1), tensor(i, "weight"), bias)[:, :, None, None]
        elif kind == "batch_norm":
            fields = [tensor(i, f) for f in ("mean", "var", "scale", "shift")]
            y = F.batch_norm(x, *fields, eps=op["eps"])
        elif kind == "activation":
            y = activation(x, op, tensor(i, "threshold") if op["threshold"] else None)
        elif kind == "pool":
            top, left, bottom, right = op["padding"]
            assert (top, left) == (bottom, right)
            options = [op["kernel"], op["stride"], [top, left]]
            if op["window"] == "max":
                y = F.max_pool2d(x, *options, ceil_mode=op["ceil"])
            else:
                y = F.avg_pool2d(x, *options, op["ceil"], op["window"] == "average")
        elif kind == "global_average":
            y = x.mean((2, 3), keepdim=True)
        elif kind == "add":
            y = sum(inputs)
        elif kind == "concat":
            y = torch.cat(inputs, 1)
        elif kind == "flatten":
            y = x.flatten(1)[:, :, None, None]
        elif kind == "shortcut":
            rows, columns = op["stride"]
            y = F.pad(x[:, :, ::rows, ::columns], (0, 0, 0, 0, op["before"], op["after"]))
        else:
            assert kind == "identity"
            y = x
        values.append(y)
    assert used == set(tensors), "the file holds tensors that its graph does not use"
    return values[graph["output"]].flatten(1)


def activation(x, op, threshold):
    assert op["start"] == "half"
    if op["function"] == "relu":
        return x.relu()
    ((function, options),) = op["function"].items()
    if function == "clip":
        return x.clamp(0, options["ceiling"])
    up, levels = threshold.view(1, -1, 1, 1), options["levels"]
    assert op["threshold"] == ("layer" if threshold.numel() == 1 else "channel")
    return (x * levels / up + 0.5).floor().clamp(0, levels) * up / levels
