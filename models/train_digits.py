"""Trains the network of the quickstart: `cnn` with QCFS (L = 4) on the UCI digits that scikit-learn carries.

    python models/train_digits.py --out digits-l4.pth [--levels 4] [--epochs 60] [--seed 0]

Needs torch and scikit-learn; two minutes on one core. Writes a checkpoint (state dict, levels, class names, normalisation)
that Rheobase imports with `--arch cnn`. Data: the first 1,437 of the 1,797 images train, the last 360 test; pixels over
16, then normalised with mean and standard deviation of the training pixels.
"""

import argparse
import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

TRAIN = 1437


class Floor(torch.autograd.Function):
    """floor with the straight-through gradient."""

    @staticmethod
    def forward(_, x):
        return x.floor()

    @staticmethod
    def backward(_, gradient):
        return gradient


class QCFS(nn.Module):
    """a = up/L · clip(floor(z·L/up + 1/2), 0, L), up = λ trained (Bu et al., ICLR 2022)."""

    def __init__(self, levels, up):
        super().__init__()
        self.up = nn.Parameter(torch.tensor([up]))
        self.levels = levels

    def forward(self, z):
        steps = Floor.apply(z / self.up * self.levels + 0.5)
        return torch.clamp(steps / self.levels, 0, 1) * self.up


class CNN(nn.Module):
    """Rheobase's `cnn`: stages of two convolutions with an average pool between them, global average, linear."""

    WIDTHS = [16, 16, 32, 32, 48, 48]

    def __init__(self, levels, up, channels=1, classes=10):
        super().__init__()
        for i, width in enumerate(self.WIDTHS, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
            setattr(self, f"act{i}", QCFS(levels, up))
            channels = width
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        for i in range(1, 7):
            if i in (3, 5):
                x = F.avg_pool2d(x, 2)
            x = getattr(self, f"act{i}")(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.fc(x.mean((2, 3)))


def data():
    """Normalised images and labels for training and test, and the normalisation."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    mean, std = images[:TRAIN].mean(), images[:TRAIN].std()
    images = (images - mean) / std
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:], float(mean), float(std)


def moved(images, background):
    """Each image turned by up to 10 degrees, scaled by up to 10 % and moved by up to one pixel."""
    n = len(images)
    angle = (2 * torch.rand(n) - 1) * math.radians(10)
    scale = 1 + (2 * torch.rand(n) - 1) * 0.1
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale * angle.cos()
    affine[:, 1, 0] = scale * angle.sin()
    affine[:, 0, 1] = -affine[:, 1, 0]
    affine[:, :, 2] = (2 * torch.rand(n, 2) - 1) / 4
    grid = F.affine_grid(affine, images.shape, align_corners=False)
    return F.grid_sample(images - background, grid, align_corners=False) + background


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--up", type=float, default=4.0, help="λ at the start")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--decay", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    train, labels, test, truth, mean, std = data()
    model = CNN(options.levels, options.up)
    optimiser = torch.optim.SGD(model.parameters(), options.rate, momentum=0.9, weight_decay=options.decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
    for epoch in range(options.epochs):
        model.train()
        for batch in torch.randperm(TRAIN).split(options.batch):
            loss = F.cross_entropy(model(moved(train[batch], -mean / std)), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        if epoch % 10 == 9 or epoch + 1 == options.epochs:
            model.eval()
            with torch.no_grad():
                right = int((model(test).argmax(1) == truth).sum())
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}, test {right} of {len(truth)}", flush=True)

    torch.save(
        {
            "state_dict": model.state_dict(),
            "levels": options.levels,
            "classes": [str(digit) for digit in range(10)],
            "mean": [mean],
            "std": [std],
        },
        options.out,
    )


if __name__ == "__main__":
    main()
