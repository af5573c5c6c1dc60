"""Augmentation of whole batches on their own device.

In: images as bytes (NCHW, any device) and a generator of that device. Out: augmented images, bytes or floats.
"""

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
