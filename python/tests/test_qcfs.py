import pytest
import torch

from rheobase.torch import QCFS


class Floor(torch.autograd.Function):
    """floor, its gradient 1."""

    @staticmethod
    def forward(_, x):
        return x.floor()

    @staticmethod
    def backward(_, gradient):
        return gradient


def by_formula(z, up, levels):
    """With everything but the floor, and the place where the clip begins, left to autograd."""
    share = Floor.apply(z * levels / up + 0.5) / levels
    return up * torch.where((z > 0) & (z < up), share, (z >= up).to(z.dtype))


def test_values_lie_on_the_staircase():
    act = QCFS(4, 2.0)
    z = torch.tensor([-1.0, 0.24, 0.25, 0.74, 0.75, 1.7, 1.75, 9.0])
    assert act(z).tolist() == [0, 0, 0.5, 0.5, 1, 1.5, 2, 2]


def test_gradients_of_input_and_threshold():
    z = torch.linspace(-1.03, 3.07, 83, dtype=torch.float64, requires_grad=True)
    act = QCFS(4, 2.0).double()
    weights = torch.randn(83, dtype=torch.float64)
    (act(z) * weights).sum().backward()
    assert torch.equal(z.grad, weights * ((z > 0) & (z < 2)))

    up = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    value = by_formula(z.detach(), up, 4)
    torch.testing.assert_close(act(z), value)
    (value * weights).sum().backward()
    torch.testing.assert_close(act.up.grad, up.grad)


def test_a_threshold_per_channel():
    ups = torch.tensor([1.0, 2.0, 4.0])
    act = QCFS(4, ups)
    z = torch.randn(2, 3, 5, 5, requires_grad=True)
    a = act(z)
    for c in range(3):
        torch.testing.assert_close(a[:, c], QCFS(4, ups[c])(z[:, c]))
    a.square().sum().backward()
    one = QCFS(4, ups[1])
    one(z[:, 1]).square().sum().backward()
    torch.testing.assert_close(act.up.grad[1:2], one.up.grad)
    with pytest.raises(ValueError, match="3 thresholds, its input 4 channels"):
        act(torch.zeros(1, 4, 2, 2))


def test_half_precision_keeps_steps_where_they_are():
    act = QCFS(4, 1.7)
    z = torch.linspace(-1, 3, 999).bfloat16()
    torch.testing.assert_close(act(z), act(z.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("levels, up", [(0, 1.0), (2.5, 1.0), (4, 0.0), (4, float("nan")), (4, [])])
def test_bad_levels_and_thresholds_are_refused(levels, up):
    with pytest.raises(ValueError, match="QCFS needs"):
        QCFS(levels, up)
