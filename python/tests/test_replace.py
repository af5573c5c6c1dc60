import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from rheobase.torch import QCFS, ReplaceError, replace_activations


class Functional(nn.Module):
    """ReLUs, a max pool and a dropout as functions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block()
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.block(x).clamp(min=0)
        return self.fc(F.dropout(x.view(x.size(0), -1), 0.5, self.training))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.conv(x)) + x
        return self.act(torch.relu_(x) - 0 if False else x.relu())


def test_functions_and_shared_modules_get_a_qcfs_each():
    model = Functional()
    new, replaced = replace_activations(model, 4)
    names = [r.name for r in replaced if r.after.startswith("QCFS")]
    assert names == ["act1", "block.act", "block.act1", "block.act_2", "act2"]
    assert [r.before for r in replaced if r.name in names] == ["relu", "ReLU", "relu", "ReLU", "clamp"]
    assert {(r.name, r.after) for r in replaced if r.name not in names} == {("pool1", "AvgPool2d"), ("drop1", "Dropout")}
    assert isinstance(model.block.act, nn.ReLU), "the given model stays as it is"
    assert new.block.act is not new.block.act_2
    own = {n for n, _ in model.named_parameters()}
    assert own == {n for n, _ in new.named_parameters() if not n.endswith(".up")}
    x = torch.randn(2, 3, 8, 8)
    new.eval()
    assert torch.equal(new(x), new(x))
    new.train()
    assert not torch.equal(new(x), new(x)), "dropout follows train and eval as before"


def test_thresholds_from_images():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.ReLU6(), nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(64, 1, 2, 2)
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].bias.copy_(torch.tensor([0.0, 1.0, 10.0, -9.0]))
    new, _ = replace_activations(model, 4, images, how=100, per_channel=True)
    torch.testing.assert_close(getattr(new, "1").up[:3], images.max() + torch.tensor([0.0, 1.0, 10.0]))
    assert getattr(new, "1").up[3] == 1, "a silent channel keeps a threshold above zero"
    torch.testing.assert_close(getattr(new, "2").up[2], torch.tensor(6.0))
    new, _ = replace_activations(model, 16, [images[:32], images[32:]])
    ups = [m.up.item() for m in new.modules() if isinstance(m, QCFS)]
    assert 5 < ups[0] < 11.1 and 3 < ups[1] <= 6
    with pytest.raises(ValueError, match="percentile"):
        replace_activations(model, 4, images, how=0)


def test_many_levels_come_near_the_relu_network():
    model = torchvision.models.resnet18(num_classes=10).eval()
    model.maxpool = nn.AvgPool2d(3, 2, 1)
    x = torch.randn(4, 3, 64, 64)
    new, replaced = replace_activations(model, 4096, x, how=100)
    assert len(replaced) == 17
    torch.testing.assert_close(new(x), model(x), rtol=0, atol=0.02)


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    "layer, message",
    [
        (nn.GELU(), r"`1`: GELU has no spiking counterpart"),
        (nn.PReLU(), r"`1`: PReLU has no"),
        (nn.Hardtanh(-1, 1), r"`1`: a clamp from -1.* to 1.* is no ReLU"),
        (Branch(), r"cannot trace `1` \(Branch\)"),
        (nn.MaxPool2d(2, dilation=2), r"`1`: a max pool with dilation"),
    ],
)
def test_what_cannot_be_replaced_is_named(layer, message):
    with pytest.raises(ReplaceError, match=message):
        replace_activations(nn.Sequential(nn.ReLU(), layer), 4)


@pytest.mark.parametrize("function", [torch.sigmoid, F.silu, F.gelu, torch.tanh, lambda x: x.clamp(-1, 1)])
def test_other_functions_are_named(function):
    class Odd(nn.Module):
        def forward(self, x):
            return function(F.relu(x))

    with pytest.raises(ReplaceError, match=r"in `0`"):
        replace_activations(nn.Sequential(Odd()), 4)


def test_a_network_without_relu_is_an_error():
    with pytest.raises(ReplaceError, match="no ReLU to replace"):
        replace_activations(nn.Sequential(nn.Linear(3, 3)), 4)
