"""The paper's networks and a few more, in PyTorch, with the parameter names that the importer knows.

In: a name as `--arch` takes it, the number of classes, levels or None for ReLU. Out: an untrained module.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .qcfs import QCFS


class Residual(nn.Module):
    """The paper's block: two 3x3 convolutions beside a shortcut of a 1x1 convolution where the shape changes."""

    def __init__(self, channels, width, stride, act):
        super().__init__()
        self.residual_function = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            act(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.relu = act()

    def forward(self, x):
        return self.relu(self.residual_function(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-20 (widths 16, 32, 64) and ResNet-18/34 (64 to 512) with a 3x3 stem without max pool."""

    def __init__(self, widths, blocks, act, classes=100, channels=3):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), act()
        )
        before = widths[0]
        self.stages = [f"conv{i + 2}_x" for i in range(len(widths))]
        for i, (name, width, count) in enumerate(zip(self.stages, widths, blocks)):
            stage = []
            for j in range(count):
                stage.append(Residual(before, width, 2 if i and not j else 1, act))
                before = width
            setattr(self, name, nn.Sequential(*stage))
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.conv1(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(self.avg_pool(x), 1))


class Shorten(nn.Module):
    """Every stride-th pixel, as many zero channels before as after."""

    def __init__(self, stride, before, after):
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class PadBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters."""

    def __init__(self, channels, width, stride, act):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = act()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            side = (width - channels) // 2
            self.shortcut = Shorten(stride, side, width - channels - side)
        self.act2 = act()

    def forward(self, x):
        y = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(y)) + self.shortcut(x))


class PadResNet(nn.Module):
    """ResNet-20, 32, 44, 56 with parameter-free shortcuts: 3, 5, 7, 9 blocks per stage."""

    def __init__(self, blocks, act, classes=10, channels=3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act = act()
        before = 16
        for i, width in enumerate([16, 32, 64]):
            stage = []
            for j in range(blocks):
                stage.append(PadBlock(before, width, 2 if i and not j else 1, act))
                before = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.avg_pool(x), 1))


class VGG(nn.Module):
    """VGG-16 with BatchNorm, average pools and two hidden layers of 4,096, named as in the authors' code."""

    STAGES = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]

    def __init__(self, act, classes=100, channels=3, side=32, dropout=0.0):
        super().__init__()
        for i, widths in enumerate(self.STAGES, start=1):
            stage = []
            for width in widths:
                stage += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), act(), nn.Dropout(dropout)]
                channels = width
            setattr(self, f"layer{i}", nn.Sequential(*stage, nn.AvgPool2d(2)))
        flat = channels * (side // 32) ** 2
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(flat, 4096),
            act(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            act(),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )

    def forward(self, x):
        for i in range(1, 6):
            x = getattr(self, f"layer{i}")(x)
        return self.classifier(x)


class CNN(nn.Module):
    """Three stages of two 3x3 convolutions with 16, 32, 48 channels, average pools, global average, linear."""

    def __init__(self, act, classes=10, channels=1):
        super().__init__()
        for i, width in enumerate([16, 16, 32, 32, 48, 48], start=1):
            setattr(self, f"conv{i}", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
            setattr(self, f"act{i}", act())
            channels = width
        self.pool1 = nn.AvgPool2d(2)
        self.pool2 = nn.AvgPool2d(2)
        self.average = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        for i in range(1, 7):
            if i in (3, 5):
                x = getattr(self, f"pool{i // 2}")(x)
            x = getattr(self, f"act{i}")(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.fc(torch.flatten(self.average(x), 1))


_NETWORKS = {
    "resnet20": lambda act, classes, shape: ResNet([16, 32, 64], [3, 3, 3], act, classes, shape[0]),
    "resnet18": lambda act, classes, shape: ResNet([64, 128, 256, 512], [2, 2, 2, 2], act, classes, shape[0]),
    "resnet34": lambda act, classes, shape: ResNet([64, 128, 256, 512], [3, 4, 6, 3], act, classes, shape[0]),
    "resnet20-pad": lambda act, classes, shape: PadResNet(3, act, classes, shape[0]),
    "resnet32-pad": lambda act, classes, shape: PadResNet(5, act, classes, shape[0]),
    "resnet44-pad": lambda act, classes, shape: PadResNet(7, act, classes, shape[0]),
    "resnet56-pad": lambda act, classes, shape: PadResNet(9, act, classes, shape[0]),
    "vgg16": lambda act, classes, shape: VGG(act, classes, shape[0], shape[1]),
    "cnn": lambda act, classes, shape: CNN(act, classes, shape[0]),
}

ARCHS = tuple(_NETWORKS)


def build(arch, classes, levels=4, threshold=8.0, shape=(3, 32, 32)):
    """The network `arch` for images of `shape`; `levels=None` gives ReLUs instead of QCFS."""
    if arch not in _NETWORKS:
        raise ValueError(f"unknown network {arch!r} (known: {', '.join(ARCHS)})")
    act = nn.ReLU if levels is None else partial(QCFS, levels, threshold)
    return _NETWORKS[arch](act, classes, tuple(shape))
