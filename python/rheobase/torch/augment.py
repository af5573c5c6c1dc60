"""Augmentation of whole batches on their own device: no loop over images, so that a fast GPU is not starved.

In: images as bytes (NCHW, any device) and a generator of that device. Out: augmented images, bytes or floats.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F


def crop_flip(images, padding, generator, fill=0):
    """Each image cropped at random after padding, and mirrored with probability one half; channels last in memory."""
    n, _, h, w = images.shape
    device = images.device
    padded = F.pad(images, [padding] * 4, value=fill)
    top = torch.randint(2 * padding + 1, (n, 1), generator=generator, device=device)
    left = torch.randint(2 * padding + 1, (n, 1), generator=generator, device=device)
    mirrored = torch.rand((n, 1), generator=generator, device=device) < 0.5
    columns = torch.arange(w, device=device)
    columns = torch.where(mirrored, columns.flip(0), columns)
    rows = (top + torch.arange(h, device=device))[:, :, None]
    which = torch.arange(n, device=device)[:, None, None]
    return padded[which, :, rows, (left + columns)[:, None, :]].permute(0, 3, 1, 2)


def normalise(images, mean, std, dtype=torch.float32):
    """Bytes to floats in [0, 1], less the mean, over the standard deviation."""
    mean, std = (torch.tensor(v, dtype=dtype, device=images.device).view(1, -1, 1, 1) for v in (mean, std))
    return images.to(dtype).div_(255).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def cutout(images, size, generator):
    """A square of zeros at a random place of each image, in part outside near the edge; on normalised images."""
    n, _, h, w = images.shape
    device = images.device

    def hole(side):
        centre = torch.randint(side, (n, 1), generator=generator, device=device)
        place = torch.arange(side, device=device)
        return (place >= centre - size // 2) & (place < centre - size // 2 + size)

    inside = hole(h)[:, None, :, None] & hole(w)[:, None, None, :]
    return images.masked_fill(inside, 0)


def random_resized_crop(images, side, generator, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """A box of random area and shape from each image, mirrored at random and resized to `side`; floats from 0 to 255."""
    n, _, h, w = images.shape
    device = images.device

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=generator, device=device)

    area = uniform(*scale, n, 10) * (h * w)
    shape = uniform(math.log(ratio[0]), math.log(ratio[1]), n, 10).exp()
    widths, heights = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (widths >= 1) & (widths <= w) & (heights >= 1) & (heights <= h)
    first = fits.int().argmax(1, keepdim=True)
    some = fits.any(1)
    width = torch.where(some, widths.gather(1, first)[:, 0], float(min(h, w)))
    height = torch.where(some, heights.gather(1, first)[:, 0], float(min(h, w)))
    left = (torch.rand(n, generator=generator, device=device) * (w - width + 1)).floor()
    top = (torch.rand(n, generator=generator, device=device) * (h - height + 1)).floor()
    mirror = torch.where(torch.rand(n, generator=generator, device=device) < 0.5, -1.0, 1.0)
    affine = torch.zeros(n, 2, 3, device=device)
    affine[:, 0, 0], affine[:, 0, 2] = width / w * mirror, (2 * left + width) / w - 1
    affine[:, 1, 1], affine[:, 1, 2] = height / h, (2 * top + height) / h - 1
    grid = F.affine_grid(affine, [n, images.shape[1], side, side], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def auto(images, generator, fill=128):
    """AutoAugment's policy for CIFAR-10 (Cubuk et al., CVPR 2019); bytes in, bytes out."""
    images = images.clone(memory_format=torch.contiguous_format)
    operations, chances, levels = policies(images.device)
    n, device = len(images), images.device
    chosen = torch.randint(len(operations), (n,), generator=generator, device=device)
    draws = torch.rand((n, 2), generator=generator, device=device)
    signs = torch.where(torch.rand((n, 2), generator=generator, device=device) < 0.5, -1.0, 1.0)
    happens = draws < chances[chosen]
    # One copy to the host per batch, so that choosing the images of each operation waits for the device only once.
    plan = torch.where(happens, operations[chosen], -1).cpu()
    for stage in (0, 1):
        for index, name in enumerate(NAMES):
            those = (plan[:, stage] == index).nonzero()[:, 0]
            if len(those):
                those = those.to(device)
                level, sign = levels[chosen[those], stage], signs[those, stage]
                images[those] = apply(name, images[those], magnitude(name, level, images.shape), sign, fill)
    return images


NAMES = (
    "ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize Solarize AutoContrast "
    "Equalize Invert"
).split()


@lru_cache(maxsize=8)
def policies(device):
    """Operations (their place in NAMES), probabilities and levels (0 to 9) of the policy's pairs."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    pairs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    operations = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in pairs], device=device)
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs], device=device)
    levels = torch.tensor([[level or 0 for _, _, level in pair] for pair in pairs], device=device)
    return operations, chances, levels


def magnitude(name, level, shape):
    """What a level from 0 to 9 means to an operation."""
    share = level.float() / 9
    if name.startswith("Shear"):
        return 0.3 * share
    if name.startswith("Translate"):
        return (150 / 331 * share * shape[3 if name.endswith("X") else 2]).trunc()
    if name == "Rotate":
        return 30 * share
    if name == "Posterize":
        return 8 - (level.float() / (9 / 4)).round()
    if name == "Solarize":
        return 255 * (1 - share)
    return 0.9 * share


def apply(name, images, amount, sign, fill=128):
    """One operation on a batch of bytes, with an amount and a sign for each image."""
    if name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"):
        return _move(name, images, amount * sign, fill)
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        other = {"Brightness": torch.zeros_like, "Color": grey, "Contrast": _mean_grey, "Sharpness": _smooth}[name]
        if name == "Color" and images.shape[1] != 3:
            return images
        factor = (1 + amount * sign).view(-1, 1, 1, 1)
        return (factor * images + (1 - factor) * other(images)).clamp(0, 255).to(torch.uint8)
    amount = amount.view(-1, 1, 1, 1)
    if name == "Posterize":
        step = torch.exp2(8 - amount).int()
        return (images.int() // step * step).to(torch.uint8)
    if name == "Solarize":
        return torch.where(images >= amount, 255 - images, images)
    if name == "Invert":
        return 255 - images
    return _auto_contrast(images) if name == "AutoContrast" else _equalize(images)


def _move(name, images, amount, fill):
    """Nearest pixels under a map of each image: sheared from its corner, shifted, or turned about its centre."""
    n, c, h, w = images.shape
    zero, one = torch.zeros_like(amount), torch.ones_like(amount)
    rows = {
        "ShearX": [one, amount, zero, zero, one, zero],
        "ShearY": [one, zero, zero, amount, one, zero],
        "TranslateX": [one, zero, amount, zero, one, zero],
        "TranslateY": [one, zero, zero, zero, one, amount],
    }
    if name == "Rotate":
        cos, sin = torch.cos(amount * (math.pi / 180)), torch.sin(amount * (math.pi / 180))
        x0, y0 = w / 2, h / 2
        rows["Rotate"] = [cos, sin, x0 - cos * x0 - sin * y0, -sin, cos, y0 + sin * x0 - cos * y0]
    a, b, tx, d, e, ty = (v.view(-1, 1, 1) for v in rows[name])
    x = torch.arange(w, device=images.device).view(1, 1, w) + 0.5
    y = torch.arange(h, device=images.device).view(1, h, 1) + 0.5
    from_x, from_y = (a * x + b * y + tx).floor().long(), (d * x + e * y + ty).floor().long()
    outside = (from_x < 0) | (from_x >= w) | (from_y < 0) | (from_y >= h)
    index = (from_y.clamp(0, h - 1) * w + from_x.clamp(0, w - 1)).view(n, 1, h * w).expand(n, c, h * w)
    return images.reshape(n, c, h * w).gather(2, index).view(n, c, h, w).masked_fill(outside[:, None], fill)


def grey(images):
    """Brightness of each pixel, as whole numbers."""
    if images.shape[1] != 3:
        return images
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).floor()


def _mean_grey(images):
    return grey(images).float().mean((1, 2, 3), keepdim=True)


def _smooth(images):
    """Each pixel inside the edge averaged with its neighbours."""
    c = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5
    smooth = images.float()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(smooth, (kernel / 13).expand(c, 1, 3, 3), groups=c).round()
    return smooth


def _auto_contrast(images):
    low, high = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    scale = 255 / (high - low)
    stretched = ((images - low) * scale).clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def _equalize(images):
    n, c, h, w = images.shape
    values = images.reshape(n * c, h * w).long()
    counts = torch.zeros(n * c, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    largest = counts.gather(1, values.amax(1, keepdim=True))
    step = (h * w - largest) // 255
    table = ((counts.cumsum(1) - counts) + step // 2) // step.clamp(min=1)
    equal = table.clamp(0, 255).gather(1, values)
    return torch.where(step == 0, values, equal).view(n, c, h, w).to(torch.uint8)
