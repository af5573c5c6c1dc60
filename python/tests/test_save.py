import json
import subprocess

import native
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from rheobase.torch import ARCHS, QCFS, ReplaceError, SaveError, build, replace_activations, save


def settle(model, images):
    """Running statistics and thresholds that the images suit."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            if m.affine:
                nn.init.uniform_(m.weight, 0.5, 1.5)
                nn.init.normal_(m.bias, 0, 0.2)
            m.momentum = None
        elif isinstance(m, QCFS):
            nn.init.uniform_(m.up, 1, 2)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def check(model, images, path, **more):
    save(model, images, path, **more)
    torch.testing.assert_close(native.run(path, images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [4, None])
@pytest.mark.parametrize("arch", [a for a in ARCHS if a not in ("vgg16", "resnet34", "resnet56-pad")])
def test_networks_of_the_zoo(arch, levels, tmp_path):
    shape = (1, 8, 8) if arch == "cnn" else (3, 32, 32)
    images = torch.randn(4, *shape)
    check(settle(build(arch, 10, levels, shape=shape), images), images, tmp_path / "m.safetensors")


class Functional(nn.Module):
    """What torchvision-style networks do with functions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding="valid", bias=False)
        self.bn = nn.BatchNorm2d(8, affine=False)
        self.deep = nn.Conv2d(8, 8, (3, 2), padding="same", dilation=2, groups=8)
        self.fc = nn.Linear(16, 5, bias=False)

    def forward(self, x):
        x = F.relu6(self.bn(self.stem(x)))
        x = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)
        y = self.deep(x)
        x += y
        x = torch.cat([F.relu(x), x.clamp(0, 3)], 1)
        x = F.max_pool2d(x, kernel_size=2, ceil_mode=True)
        x = F.adaptive_avg_pool2d(x, (2, 2)).mean([2, 3])
        return self.fc(torch.flatten(F.dropout(x, training=self.training), 1))


def test_functions(tmp_path):
    images = torch.randn(3, 3, 31, 31)
    check(settle(Functional(), images), images, tmp_path / "m.safetensors")


def test_a_resnet_of_torchvision_with_thresholds_per_channel(tmp_path):
    images = torch.randn(2, 3, 64, 64)
    model = settle(torchvision.models.resnet18(num_classes=7), images)
    model, _ = replace_activations(model, 8, images, per_channel=True)
    model.eval()
    check(model, images, tmp_path / "m.safetensors")


def test_what_the_file_says(tmp_path):
    path = tmp_path / "m.safetensors"
    model = build("cnn", 3, shape=(3, 16, 16))
    more = {"normalisation": ([0.5, 0.4, 0.3], [0.1, 0.2, 0.3]), "classes": ["a", "b", "ü"], "name": "cnn"}
    save(model, torch.zeros(1, 3, 16, 16), path, **more, notes=["made for a test"])
    graph, tensors = native.read(path)
    assert graph["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    assert (graph["format"], graph["name"], graph["classes"]) == (1, "cnn", ["a", "b", "ü"])
    assert graph["notes"] == ["made for a test"]
    assert [n["name"] for n in graph["nodes"]][:4] == ["input", "conv1", "bn1", "act1"]
    assert graph["nodes"][3]["op"] == {
        "kind": "activation",
        "function": {"qcfs": {"levels": 4}},
        "start": "half",
        "threshold": "layer",
    }
    assert tensors["3.threshold"].tolist() == [8.0]
    before = path.read_bytes()
    save(model, torch.zeros(1, 3, 16, 16), path, **more, notes=["made for a test"])
    assert path.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p != path]


class Wrong(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda m, x: x.flatten(1) * 2, "`mul` in the forward of the model is no operation"),
        (lambda m, x: x.flatten(1) + m.factor, "does not come from the images"),
        (lambda m, x: x.flatten(1).sigmoid(), "sigmoid has no spiking counterpart"),
        (lambda m, x: x, "not one number per class"),
        (lambda m, x: (x.flatten(1), x), "has to give one tensor"),
        (lambda m, x: F.pad(x, (1, 1, 1, 1)).flatten(1), "only channels of zeros"),
        (lambda m, x: x[:, :, 1::2].flatten(1), "only every n-th pixel"),
        (lambda m, x: x.mean(1).flatten(1), "a mean over 1"),
        (lambda m, x: F.adaptive_avg_pool2d(x, 3).flatten(1), "windows that differ"),
        (lambda m, x: x.flatten(1) + x.flatten(1).mean(1, keepdim=True), "a mean of"),
        (lambda m, x: F.instance_norm(x).flatten(1), "instance_norm"),
    ],
)
def test_what_the_format_cannot_hold_is_named(function, message, tmp_path):
    with pytest.raises((SaveError, ReplaceError), match=message):
        save(Wrong(function), torch.randn(2, 4, 8, 8), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_and_bad_words_are_refused(tmp_path):
    path, example = tmp_path / "m", torch.zeros(1, 1, 8, 8)
    model = build("cnn", 10, shape=(1, 8, 8))
    with pytest.raises(SaveError, match="3 class names for 10 outputs"):
        save(model, example, path, classes="abc")
    with pytest.raises(SaveError, match="needs 1 means"):
        save(model, example, path, normalisation=([0.1, 0.2], [0.1, 0.2]))
    model.conv2.weight.data[0] = float("nan")
    with pytest.raises(SaveError, match="`conv2`: weight"):
        save(model, example, path)
    with pytest.raises(SaveError, match="batch of images"):
        save(model, example[0], path)


def test_rheobase_reads_the_files(binary, tmp_path):
    for name, model, shape in [
        ("cnn", build("cnn", 10, shape=(1, 8, 8)), (1, 8, 8)),
        ("pad", build("resnet20-pad", 10), (3, 32, 32)),
        ("functional", Functional(), (3, 31, 31)),
    ]:
        path = tmp_path / f"{name}.safetensors"
        save(model, torch.zeros(1, *shape), path, normalisation=([0.5] * shape[0], [0.25] * shape[0]))
        done = subprocess.run([binary, "inspect", path, "--json", "-"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
