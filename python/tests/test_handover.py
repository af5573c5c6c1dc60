"""The hand-over: a ReLU network of torchvision's kind becomes a QCFS network, is trained on real images, and Rheobase
gives the accuracy that PyTorch counts. Needs RHEOBASE_CIFAR10, the folder of CIFAR-10's binary files; two minutes.
"""

import json
import os
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rheobase.torch import augment, data, replace_activations, save

#: Images of the epoch, and of the test: real ones, few enough for a CPU.
TRAINING, TEST = 10_000, 2_000


class BasicBlock(nn.Module):
    """torchvision's block, its ReLUs as functions."""

    def __init__(self, channels, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += identity
        return F.relu(out)


class ResNet(nn.Module):
    """torchvision's ResNet, small, with a max pool in its stem."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(BasicBlock(16, 16))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def test_rheobase_counts_what_pytorch_counts(binary, tmp_path):
    folder = os.environ.get("RHEOBASE_CIFAR10")
    if not folder:
        pytest.skip("set RHEOBASE_CIFAR10 to the folder of CIFAR-10's binary files")
    cifar = data.load(f"cifar10:{folder}")
    images, labels = cifar.train.images[:TRAINING], cifar.train.labels[:TRAINING]
    model, replaced = replace_activations(ResNet(), 4, threshold=3.0)
    assert sum(r.before == "relu" for r in replaced) == 7 and any(r.after == "AvgPool2d" for r in replaced)

    optimiser = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    batches = torch.randperm(len(labels), generator=generator).split(100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=len(batches))
    model.train()
    for batch in batches:
        x = augment.normalise(augment.crop_flip(images[batch], 4, generator), cifar.mean, cifar.std)
        loss = F.cross_entropy(model(x), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    model.eval()
    with torch.no_grad():
        x = augment.normalise(cifar.test.images[:TEST], cifar.mean, cifar.std)
        logits = torch.cat([model(part) for part in x.split(500)])
    right = int((logits.argmax(1) == cifar.test.labels[:TEST]).sum())
    print(f"PyTorch: {right} of {TEST} right")
    assert right > TEST * 0.3, "one epoch teaches more than chance"

    path = tmp_path / "handed-over.safetensors"
    save(model, x[:1], path, normalisation=(cifar.mean, cifar.std), classes=cifar.classes)
    command = [binary, "eval", path, "--data", f"cifar10:{folder}", "--limit", str(TEST), "--steps", "1", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ann = json.loads(done.stdout)["ann"]["correct"]
    print(f"Rheobase: {ann} of {TEST} right")
    assert abs(ann - right) <= TEST * 2 // 1000
