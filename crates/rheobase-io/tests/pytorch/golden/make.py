"""Makes the checkpoints beside it with PyTorch: `python make.py` (torch 2). All tensors but the first share one
storage of constants as strided views, so that the files stay small."""

import os
import pickle
import zipfile

import torch
from torch import nn

torch.manual_seed(0)
VALUE = torch.tensor([0.25])
WIDTHS = [16, 16, 32, 32, 48, 48]


def constant(*shape):
    return VALUE.expand(shape)


def norm(name, c):
    yield f"{name}.weight", constant(c)
    yield f"{name}.bias", constant(c)
    yield f"{name}.running_mean", constant(c)
    yield f"{name}.running_var", constant(c)
    yield f"{name}.num_batches_tracked", torch.tensor(3)


def cnn(up=True):
    c = 1
    for i, width in enumerate(WIDTHS, start=1):
        counted = torch.arange(width * c * 9.0).reshape(width, c, 3, 3) / 256
        weight = counted if i == 1 else constant(width, c, 3, 3)
        yield f"conv{i}.weight", weight
        yield from norm(f"bn{i}", width)
        if up:
            yield f"act{i}.up", torch.tensor([i + 0.5])
        c = width
    yield "fc.weight", constant(10, 48)
    yield "fc.bias", constant(10)


def padded():
    """akamaster's ResNet-20."""
    yield "conv1.weight", constant(16, 3, 3, 3)
    yield from norm("bn1", 16)
    c = 16
    for stage, width in enumerate([16, 32, 64], start=1):
        for block in range(3):
            name = f"layer{stage}.{block}"
            yield f"{name}.conv1.weight", constant(width, c, 3, 3)
            yield from norm(f"{name}.bn1", width)
            yield f"{name}.conv2.weight", constant(width, width, 3, 3)
            yield from norm(f"{name}.bn2", width)
            c = width
    yield "linear.weight", constant(10, 64)
    yield "linear.bias", constant(10)


def typed():
    """A type for every parameter; the first weights as a transposed view."""
    types = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8]
    for i, (name, tensor) in enumerate(cnn()):
        if name == "conv1.weight":
            tensor = tensor.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        elif tensor.dim() > 0 and "running_var" not in name and "up" not in name:
            tensor = torch.ones(1).to(types[i % len(types)]).expand(tensor.shape)
        yield name, tensor


class Net(nn.Module):
    """The same keys as `cnn`, as a module that is pickled whole."""

    def __init__(self):
        super().__init__()
        for i, (c, width) in enumerate(zip([1, *WIDTHS], WIDTHS), start=1):
            setattr(self, f"conv{i}", nn.Conv2d(c, width, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
        self.fc = nn.Linear(48, 10)
        for parameter in self.parameters():
            parameter.data = constant(*parameter.shape)
        self.conv1.weight.data = dict(cnn())["conv1.weight"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch rheobase-was-here",)


def main():
    checkpoint = {
        "levels": 8,
        "classes": [f"digit {i}" for i in range(10)],
        "mean": [0.5],
        "std": [0.25],
    }
    torch.save(dict(cnn()), "zip.pth")
    torch.save(checkpoint | {"state_dict": dict(cnn())}, "checkpoint.pt")
    legacy = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in cnn(up=False)}}
    torch.save(legacy, "legacy.th", _use_new_zipfile_serialization=False)
    torch.save(dict(padded()), "padded.pth")
    torch.save(dict(typed()), "types.pth")
    torch.save(Net(), "module.pt")
    optimizer = {"state": {0: {"momentum_buffer": constant(16, 1, 3, 3)}}}
    torch.save({"model": dict(cnn(up=False)), "optimizer": optimizer}, "optimizer.pt")
    torch.save(dict(cnn(up=False)) | {"evil": Evil()}, "evil-beside.pth")
    with zipfile.ZipFile("evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(), protocol=2))
        archive.writestr("archive/version", "3\n")
    with open("evil-plain.pth", "wb") as file:
        pickle.dump(Evil(), file)


if __name__ == "__main__":
    main()
