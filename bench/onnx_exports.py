"""Small networks exported by both of PyTorch's ONNX exporters, with the logits ONNX Runtime gives for them.

    python bench/onnx_exports.py --cifar cifar-10-batches-bin/test_batch.bin --out exports
    RHEOBASE_ONNX_EXPORTS=exports cargo test -p rheobase-io --test onnx_exports -- --nocapture

In: 200 images of CIFAR-10's binary test batch. Out: images.f32 ([200, 3, 32, 32], little endian), and for every network,
exporter and operator set NAME.onnx with its logits NAME.f32 ([200, 10]). With --golden DIR also the tiny files that the tests
always read, each with a JSON of pixels and logits. Needs torch, onnx, onnxscript, onnxruntime, numpy.
"""

import argparse
import json
import pathlib
import traceback
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import nn

SCRIPT_OPSETS = (11, 12, 13, 15, 17, 18, 20)
DYNAMO_OPSETS = (18, 20, 21, 23, 25)
# Most networks are exported at a few of these only; the first of this table's at all of them.
FEW_SCRIPT = (11, 13, 17)
FEW_DYNAMO = (18, 23)


class Block(nn.Module):
    """A residual block; `kind` is how its shortcut changes shape."""

    def __init__(self, cin, cout, stride, kind="conv", act=nn.ReLU, functional=False):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.functional = functional
        if not functional:
            self.act1, self.act2 = act(), act()
        self.change = None
        if stride != 1 or cin != cout:
            missing = cout - cin
            self.change = {
                "conv": lambda: nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)),
                "pad": lambda: PadShortcut(stride, missing),
                "cat": lambda: CatShortcut(stride, missing),
                "zeros": lambda: ZerosShortcut(stride, missing),
            }[kind]()

    def forward(self, x):
        short = x if self.change is None else self.change(x)
        if self.functional:
            y = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.bn2(self.conv2(y)) + short)
        y = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(y)) + short)


class PadShortcut(nn.Module):
    """Every stride-th pixel, channels of zeros on both sides."""

    def __init__(self, stride, missing):
        super().__init__()
        self.stride, self.pad = stride, (missing // 2, missing - missing // 2)

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))


class CatShortcut(nn.Module):
    """An average pool of one pixel and zeros made by a multiplication."""

    def __init__(self, stride, missing):
        super().__init__()
        self.pool = nn.AvgPool2d(1, stride)

    def forward(self, x):
        x = self.pool(x)
        return torch.cat((x, x.mul(0)), dim=1)


class ZerosShortcut(nn.Module):
    """Zeros of the batch's size joined to the channels."""

    def __init__(self, stride, missing):
        super().__init__()
        self.stride, self.missing = stride, missing

    def forward(self, x):
        x = F.max_pool2d(x, 1, self.stride)
        return torch.cat((x, torch.zeros(x.size(0), self.missing, x.size(2), x.size(3))), 1)


class ResNet(nn.Module):
    """Three stages, one block each."""

    def __init__(self, kind="conv", act=nn.ReLU, functional=False, width=8, head="pool"):
        super().__init__()
        w = width
        self.conv = nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(w)
        self.act = act()
        args = dict(kind=kind, act=act, functional=functional)
        self.blocks = nn.Sequential(Block(w, w, 1, **args), Block(w, 2 * w, 2, **args), Block(2 * w, 4 * w, 2, **args))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * w, 10)
        self.head = head

    def forward(self, x):
        x = self.blocks(self.act(self.bn(self.conv(x))))
        if self.head == "pool":
            x = torch.flatten(self.pool(x), 1)
        elif self.head == "view":
            x = F.avg_pool2d(x, x.size(3))
            x = x.view(x.size(0), -1)
        elif self.head == "mean":
            x = x.mean([2, 3])
        elif self.head == "means":
            x = x.mean(3).mean(2)
        elif self.head == "keepdim":
            x = x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)
        elif self.head == "viewmean":
            x = x.view(x.size(0), x.size(1), -1).mean(2)
        elif self.head == "max":
            x = F.adaptive_max_pool2d(x, 1).flatten(1)
        elif self.head == "conv":
            x = F.conv2d(self.pool(x), self.fc.weight[:, :, None, None], self.fc.bias)
            return x.flatten(1)
        elif self.head == "softmax":
            return F.softmax(self.fc(self.pool(x).flatten(1)), dim=1)
        elif self.head == "log_softmax":
            return F.log_softmax(self.fc(self.pool(x).flatten(1)), dim=-1)
        return self.fc(x)


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, cin, cout, stride, expand=4):
        super().__init__()
        mid = cin * expand
        self.body = nn.Sequential(
            nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU6(inplace=True),
            nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False), nn.BatchNorm2d(mid), nn.ReLU6(inplace=True),
            nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.blocks = nn.Sequential(Inverted(8, 8, 1), Inverted(8, 16, 2), Inverted(16, 16, 1))
        self.head = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class DenseNet(nn.Module):
    """Batch norm before ReLU before convolution, so that it cannot be folded backwards; channels joined."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        layer = lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 6, 3, 1, 1, bias=False))
        self.one = nn.ModuleList([layer(8), layer(14)])
        self.between = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2))
        self.two = nn.ModuleList([layer(10), layer(16)])
        self.bn = nn.BatchNorm2d(22)
        self.fc = nn.Linear(22, 10)

    def forward(self, x):
        x = self.stem(x)
        for l in self.one:
            x = torch.cat([x, l(x)], 1)
        x = self.between(x)
        for l in self.two:
            x = torch.cat([x, l(x)], 1)
        x = F.relu(self.bn(x), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Vgg(nn.Module):
    def __init__(self, pool=lambda: nn.AvgPool2d(2), act=nn.ReLU, bn1d=False):
        super().__init__()
        conv = lambda i, o: [nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o), act()]
        self.features = nn.Sequential(*conv(3, 8), pool(), *conv(8, 16), pool(), *conv(16, 16), pool())
        norm = [nn.BatchNorm1d(32)] if bn1d else []
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 32), *norm, act(), nn.Dropout(), nn.Linear(32, 24), act(), nn.Dropout(), nn.Linear(24, 10)
        )

    def forward(self, x):
        return self.classifier(self.features(x))


class Windows(nn.Module):
    """Uneven strides, dilation, groups, kernels that are not square, padding on one side."""

    def __init__(self, w=16):
        super().__init__()
        self.a = nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(1, 2))
        self.b = nn.Conv2d(8, w, 3, stride=(2, 1), padding=2, dilation=2, groups=4)
        self.c = nn.Conv2d(w, w, (2, 4), padding="same", groups=w)
        self.d = nn.Conv2d(w, w, 3, stride=2)
        self.e = nn.Conv2d(w, w, 3, padding=(1, 2), dilation=(1, 2))
        self.fc = nn.Linear(w, 10)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x))))
        x = F.relu(self.c(x))
        x = F.relu(self.d(F.pad(x, (0, 1, 0, 1))))
        x = F.relu(self.e(F.pad(x, (2, 0, 0, 3))))
        return self.fc(x.mean((2, 3)))


class Pools(nn.Module):
    """Average pools in all their settings; a maximum pool."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.p1 = nn.AvgPool2d(3, 2, 1, count_include_pad=True)
        self.p2 = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.p3 = nn.AvgPool2d(3, 2, ceil_mode=True)
        self.p4 = nn.MaxPool2d(3, 2, 1)
        self.p5 = nn.AvgPool2d((2, 3), (1, 2), (0, 1), ceil_mode=True, count_include_pad=False)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = self.p1(x) + self.p2(x) + self.p3(x) + self.p4(x)
        x = self.p5(F.relu(self.conv2(x)))
        x = F.max_pool2d(F.pad(F.relu(x), (1, 1, 1, 1)), 3, 2)
        x = F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 2)
        return self.fc(x.mean((2, 3)))


class Affine(nn.Module):
    """Normalisation inside the network, layer scale, products and sums with constants, a matrix product."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.9, 1.1, 1.3]).view(3, 1, 1))
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.gamma = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.randn(1, 8, 1, 1) * 0.2)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.w1 = nn.Parameter(torch.randn(8, 16) * 0.4)
        self.b1 = nn.Parameter(torch.randn(16) * 0.2)
        self.fc = nn.Linear(16, 10, bias=False)

    def forward(self, x):
        x = (x - self.mean) / self.std
        y = F.relu(self.conv(x) + self.shift)
        y = y + self.gamma * self.conv2(y)
        y = F.relu(1.0 - y * 0.5)
        y = y.mean((2, 3)) @ self.w1 + self.b1
        return self.fc(F.relu(y)) / 2


class Clips(nn.Module):
    """ReLU6 and its like, in all spellings."""

    def __init__(self, w=8):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3 if i == 0 else w, w, 3, 2 if i == 0 else 1, 1) for i in range(7)])
        self.fc = nn.Linear(w, 10)
        self.register_buffer("top", torch.tensor(1.5))
        self.register_buffer("zero", torch.zeros(1))
        self.bound = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        acts = [
            F.relu6,
            lambda v: F.hardtanh(v, 0.0, 1.25),
            lambda v: torch.clamp(v, min=0),
            lambda v: torch.clamp(v, 0, 2),
            lambda v: torch.minimum(torch.maximum(v, self.zero), self.top),
            lambda v: torch.clamp(v / self.bound, 0, 1) * self.bound,
            lambda v: torch.clamp(F.relu(v), max=3.0),
        ]
        for conv, act in zip(self.convs, acts):
            x = act(conv(x) * 1.5)
        return self.fc(x.mean((2, 3)))


class Reshapes(nn.Module):
    """Reshapes that amount to a flattening or to nothing."""

    def __init__(self, which):
        super().__init__()
        self.which = which
        self.conv = nn.Conv2d(3, 4, 3, 4, 1)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        if self.which == 0:
            x = x.view(x.size(0), -1)
        elif self.which == 1:
            x = x.reshape(-1, 256)
        elif self.which == 2:
            x = torch.flatten(x, 1).unsqueeze(2).squeeze(2)
        elif self.which == 3:
            n, c, h, w = x.shape
            x = x.view(n, c, h * w).view(n, c * h * w)
        elif self.which == 4:
            x = x.flatten(2).unsqueeze(1).flatten(1)
        elif self.which == 5:
            x = x.view(-1, x.shape[1] * x.shape[2] * x.shape[3])
        elif self.which == 6:
            x = torch.flatten(x, 1)[:, :, None].permute(0, 2, 1).reshape(x.size(0), -1)
        return self.fc(x)


class Floor(torch.autograd.Function):
    """floor with a straight-through gradient, as the authors' code has it."""

    @staticmethod
    def forward(ctx, x):
        return x.floor()

    @staticmethod
    def backward(ctx, grad):
        return grad


ORDERS = 12


class Qcfs(nn.Module):
    """λ/L · clip(floor(x·L/λ + ½), 0, L) in one of its orders."""

    def __init__(self, order=0, levels=4, channels=None):
        super().__init__()
        self.order, self.t = order, levels
        shape = (1, channels, 1, 1) if channels else ()
        self.up = nn.Parameter(torch.rand(shape) * 2 + 1.5)
        self.register_buffer("levels", torch.tensor([float(levels)]))
        self.register_buffer("one", torch.tensor(1.0))

    def forward(self, x):
        up, t, o = self.up, self.t, self.order
        if o == 0:
            x = torch.floor(x / up * t + 0.5) / t
            return torch.clamp(x, 0, 1) * up
        if o == 1:
            x = torch.clamp(x / up, 0, 1)
            return torch.floor(x * t + 0.5) / t * up
        if o == 2:
            return torch.clamp(torch.floor(x * (t / up) + 0.5), 0, t) * (up / t)
        if o == 3:
            x = torch.clamp(torch.floor(x * self.levels / up + 0.5), 0, t)
            return x * up / self.levels
        if o == 4:
            x = torch.minimum(F.relu(x / up), self.one)
            return (x * t + 0.5).floor().mul(up).div(t)
        if o == 5:
            x = F.hardtanh((x + up / (2 * t)) * t / up, 0, t)
            return x.floor() / t * up
        if o == 6:
            return up * (torch.floor(0.5 + t * torch.clamp(x / up, 0, 1)) / t)
        if o == 7:
            x = torch.maximum(torch.minimum(x, up), torch.zeros(1))
            return torch.floor(x / (up / t) + 0.5) * (up / t)
        if o == 8:
            x = torch.floor(x * t / up + 0.5) * up / t
            return torch.minimum(F.relu(x), up)
        if o == 9:
            x = Floor.apply((x / up) * t + 0.5) / t
            return torch.clamp(x, 0.0, 1.0) * up
        if o == 10:
            x = torch.clamp(x * t / up + 0.5, 0, t + 0.5).floor()
            return x / t * up
        return -(torch.clamp(-torch.floor(x / up * t + 0.5), -t, 0) * (up / t))


class QcfsNet(nn.Module):
    """Two residual blocks with QCFS in place of ReLU."""

    def __init__(self, order, levels=4, per_channel=False, width=8, kind="conv"):
        super().__init__()
        act = lambda c: Qcfs(order, levels, c if per_channel else None)
        self.a = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), act(width))
        self.b = Block(width, 2 * width, 2, kind, act=lambda: act(2 * width))
        self.c = Block(2 * width, 2 * width, 2, act=lambda: act(2 * width))
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.c(self.b(self.a(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Plain(nn.Module):
    """A convolution, an activation and a head: the smallest network worth a golden file."""

    def __init__(self, act, width=6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 2, 1)
        self.act = act
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


def networks():
    """Name → (constructor, options). Options: all (every operator set), script, dynamo (export arguments), external, batch."""
    nets = {
        "resnet": (ResNet, dict(all=True)),
        "resnet-functional": (lambda: ResNet(functional=True, head="view"), dict(all=True)),
        "mobilenet": (MobileNet, dict(all=True)),
        "densenet": (DenseNet, dict(all=True)),
        "vgg": (Vgg, dict(all=True)),
        "vgg-max": (lambda: Vgg(pool=lambda: nn.MaxPool2d(2)), {}),
        "vgg-bn1d": (lambda: Vgg(bn1d=True), {}),
        "resnet-pad": (lambda: ResNet("pad"), dict(all=True)),
        "resnet-cat": (lambda: ResNet("cat"), {}),
        "resnet-zeros": (lambda: ResNet("zeros"), {}),
        "unfolded": (ResNet, dict(script=dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False),
                                  dynamo=dict(optimize=False))),
        "mobilenet-unfolded": (MobileNet, dict(script=dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False),
                                               dynamo=dict(optimize=False))),
        "external": (ResNet, dict(external=True)),
        "windows": (Windows, dict(all=True)),
        "pools": (Pools, dict(all=True)),
        "affine": (Affine, {}),
        "clips": (Clips, dict(all=True)),
        "batch1": (lambda: ResNet("pad", head="view"), dict(batch=1)),
        "qcfs-pad": (lambda: QcfsNet(0, kind="pad"), dict(all=True)),
        "qcfs-channel": (lambda: QcfsNet(0, per_channel=True), {}),
        "qcfs-channel-2": (lambda: QcfsNet(2, levels=8, per_channel=True), {}),
        "qcfs-16": (lambda: QcfsNet(1, levels=16), {}),
        "qcfs-3": (lambda: QcfsNet(0, levels=3), {}),
        "vgg-qcfs": (lambda: Vgg(act=lambda: Qcfs(0, 4)), {}),
        "qcfs-unfolded": (lambda: QcfsNet(0), dict(script=dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False),
                                                  dynamo=dict(optimize=False))),
    }
    for head in ("mean", "means", "keepdim", "viewmean", "max", "conv", "softmax", "log_softmax"):
        nets[f"head-{head}"] = (lambda head=head: ResNet(head=head), {})
    for which in range(7):
        nets[f"reshape-{which}"] = (lambda which=which: Reshapes(which), {})
    for order in range(ORDERS):
        nets[f"qcfs-order-{order}"] = (lambda order=order: QcfsNet(order), {})
    return nets


def torchvision_networks():
    """Whole networks of torchvision, random weights, as they are on its shelf."""
    import torchvision.models as tv

    small = dict(num_classes=10)
    names = ["resnet18", "resnext50_32x4d", "mobilenet_v2", "densenet121", "squeezenet1_1", "mnasnet0_5"]
    return {f"tv-{n}": (lambda n=n: getattr(tv, n)(**small), dict(few=True)) for n in names}


def golden():
    """Tiny networks for 8x8 images; (constructor, exporter, operator set, options)."""
    tiny = dict(width=3)
    return {
        "resnet-script-11": (lambda: ResNet(**tiny), "script", 11, {}),
        "resnet-functional-dynamo-18": (lambda: ResNet(functional=True, head="mean", **tiny), "dynamo", 18, {}),
        "mobilenet-script-13": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), Inverted(4, 4, 1, 2), Inverted(4, 6, 2, 2),
                                                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)), "script", 13, {}),
        "densenet-dynamo-23": (DenseNet, "dynamo", 23, {}),
        "linear-script-17": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(),
                                                   nn.Dropout(), nn.Linear(12, 10)), "script", 17, {}),
        "unfolded-script-12": (lambda: ResNet(**tiny), "script", 12,
                               dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)),
        "pad-shortcut-script-11": (lambda: ResNet("pad", **tiny), "script", 11, {}),
        "zeros-shortcut-dynamo-20": (lambda: ResNet("zeros", **tiny), "dynamo", 20, {}),
        "windows-script-20": (lambda: Windows(8), "script", 20, {}),
        "pools-dynamo-21": (Pools, "dynamo", 21, {}),
        "clips-script-11": (lambda: Clips(4), "script", 11, {}),
        "affine-dynamo-18": (Affine, "dynamo", 18, {}),
        "qcfs-script-17": (lambda: QcfsNet(0, width=3, kind="pad"), "script", 17, {}),
        "qcfs-channel-dynamo-18": (lambda: QcfsNet(2, width=3, per_channel=True), "dynamo", 18, {}),
        "qcfs-functions-dynamo-18": (lambda: QcfsNet(1, width=3), "dynamo", 18, dict(optimize=False)),
        "external-script-13": (lambda: ResNet(**tiny), "script", 13, dict(external=True)),
    }


def load(path, n):
    """The first n images of a binary batch, pixels 0..255, [n, 3, 32, 32]."""
    raw = np.fromfile(path, dtype=np.uint8, count=n * 3073).reshape(-1, 3073)
    return raw[:, 1:].reshape(-1, 3, 32, 32)


def make(build, images, seed):
    """A network whose batch norms have the statistics of real images and random scales."""
    torch.manual_seed(seed)
    net = build()
    x = torch.from_numpy(images)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
                m.momentum = None
                m.weight.uniform_(0.6, 1.4)
                m.bias.uniform_(-0.4, 0.4)
        net.train()
        for _ in range(2):
            net(x)
        for m in net.modules():
            if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
                m.running_var.mul_(torch.empty_like(m.running_var).uniform_(0.7, 1.5))
                m.running_mean.add_(torch.empty_like(m.running_mean).uniform_(-0.1, 0.1))
    return net.eval()


def export(net, images, path, exporter, opset, options):
    """Writes one file; `external` puts the weights beside it."""
    options = dict(options)
    external = options.pop("external", False)
    batch = options.pop("batch", None)
    dummy = torch.from_numpy(images[: batch or 2])
    names = dict(input_names=["image"], output_names=["logits"], opset_version=opset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "script":
            axes = {} if batch else {"image": {0: "N"}, "logits": {0: "N"}}
            torch.onnx.export(net, (dummy,), str(path), dynamo=False, dynamic_axes=axes, **names, **options)
            if external:
                model = onnx.load(path)
                onnx.save_model(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)
        else:
            shapes = None if batch else {"x" if not isinstance(net, nn.Sequential) else "input": {0: torch.export.Dim("N")}}
            torch.onnx.export(net, (dummy,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=external,
                              verbose=False, **names, **options)


def run(path, images, batch=None):
    """ONNX Runtime's logits, its graph left as it is."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    step = batch or len(images)
    return np.concatenate([session.run(None, {name: images[i : i + step]})[0] for i in range(0, len(images), step)])


def strip(path):
    """Leaves out where in the source each node came from: it is of no use here and larger than the weights."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    del model.graph.value_info[:]
    onnx.save(model, path)


def write_all(out, images, nets, only):
    """Every network with every exporter and operator set; one line each."""
    (out / "images.f32").write_bytes(images.astype("<f4").tobytes())
    for seed, (name, (build, options)) in enumerate(nets.items()):
        if only and only not in name:
            continue
        net = make(build, images, seed)
        every = options.get("all", False)
        few = options.get("few", False)
        plan = [("script", o) for o in (SCRIPT_OPSETS if every else FEW_SCRIPT[-1:] if few else FEW_SCRIPT)]
        plan += [("dynamo", o) for o in (DYNAMO_OPSETS if every else FEW_DYNAMO[:1] if few else FEW_DYNAMO)]
        for exporter, opset in plan:
            extra = dict(options.get(exporter, {}))
            extra.update({k: options[k] for k in ("external", "batch") if k in options})
            path = out / f"{name}-{exporter}-{opset}.onnx"
            try:
                export(net, images, path, exporter, opset, extra)
                logits = run(path, images, extra.get("batch"))
            except Exception as e:  # an exporter that cannot do a network is reported and passed over
                path.unlink(missing_ok=True)
                print(f"{path.name}: not exported: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}", flush=True)
                continue
            if name == "head-softmax" or name == "head-log_softmax":
                net.head = "pool"
                with torch.no_grad():
                    logits = net(torch.from_numpy(images)).numpy()
                net.head = name.removeprefix("head-")
            path.with_suffix(".f32").write_bytes(logits.astype("<f4").tobytes())
            print(f"{path.name}: {path.stat().st_size // 1000} kB", flush=True)


def write_golden(out, pixels):
    """Tiny files for images of 8x8; value = pixel / 64 - 2, exact in f32."""
    small = pixels.reshape(len(pixels), 3, 8, 4, 8, 4).mean((3, 5)).round().astype(np.uint8)
    images = small.astype(np.float32) / 64 - 2
    for seed, (name, (build, exporter, opset, options)) in enumerate(golden().items()):
        path = out / f"{name}.onnx"
        try:
            net = make(build, images, 100 + seed)
            export(net, images, path, exporter, opset, options)
            if not options.get("external"):
                strip(path)
            logits = run(path, images)
        except Exception:
            path.unlink(missing_ok=True)
            print(f"{path.name}: not exported")
            traceback.print_exc(limit=1)
            continue
        n = 4
        rows = [[float(f"{v:.7g}") for v in row] for row in logits[:n].tolist()]
        text = json.dumps({"shape": [3, 8, 8], "pixels": small[:n].reshape(n, -1).tolist(), "logits": rows}, separators=(",", ":"))
        path.with_suffix(".json").write_text(text + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", required=True, type=pathlib.Path, help="CIFAR-10's binary test batch")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the networks")
    parser.add_argument("--golden", type=pathlib.Path, help="folder for the tiny files")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", default="", help="networks with this in their name")
    parser.add_argument("--torchvision", action="store_true", help="whole networks of torchvision too (300 MB)")
    args = parser.parse_args()
    pixels = load(args.cifar, args.images)
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    std = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    images = ((pixels.astype(np.float32) / 255 - mean) / std).astype(np.float32)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        nets = networks()
        if args.torchvision:
            nets.update(torchvision_networks())
        write_all(args.out, images, nets, args.only)
    if args.golden:
        args.golden.mkdir(parents=True, exist_ok=True)
        write_golden(args.golden, pixels)


if __name__ == "__main__":
    main()
