import math

import pytest
import torch
from torchvision.transforms import functional as reference

from rheobase.torch import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(n=64, c=3, side=32):
    """Bytes with smooth shapes and a range short of 0 and 255."""
    x = torch.rand(n, c, side // 4, side // 4, generator=generator(5))
    x = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear")
    return (x * 200 + 20).to(torch.uint8)


def test_crop_and_flip_give_windows_of_the_padded_image():
    images = photos(40, side=8)
    out = augment.crop_flip(images, 2, generator())
    assert out.shape == images.shape and out.dtype == torch.uint8
    assert out.is_contiguous(memory_format=torch.channels_last)
    padded = torch.nn.functional.pad(images, [2] * 4)
    seen = set()
    for image, frame in zip(out, padded):
        found = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if torch.equal(image.flip(2) if flip else image, frame[:, top : top + 8, left : left + 8])
        ]
        assert found
        seen.update(found)
    assert len(seen) > 25 and {flip for _, _, flip in seen} == {False, True}
    assert torch.equal(out, augment.crop_flip(images, 2, generator()))


def test_cutout_is_one_square_clipped_at_the_edge():
    holes = augment.cutout(torch.ones(200, 3, 32, 32), 8, generator()) == 0
    assert torch.equal(holes[:, 0], holes[:, 2])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(heights * widths, holes[:, 0].sum((1, 2)))
    assert heights.max() == 8 and 4 <= heights.min() < 8


REFERENCES = {
    "Brightness": lambda x, m: reference.adjust_brightness(x, 1 + m),
    "Color": lambda x, m: reference.adjust_saturation(x, 1 + m),
    "Contrast": lambda x, m: reference.adjust_contrast(x, 1 + m),
    "Sharpness": lambda x, m: reference.adjust_sharpness(x, 1 + m),
    "Posterize": lambda x, m: reference.posterize(x, int(m)),
    "Solarize": lambda x, m: reference.solarize(x, m),
    "AutoContrast": lambda x, m: reference.autocontrast(x),
    "Equalize": lambda x, m: reference.equalize(x),
    "Invert": lambda x, m: reference.invert(x),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_colours_are_torchvisions(name):
    images = photos(10)
    images[9] = 77  # one colour alone
    levels = torch.arange(10)
    amount = augment.magnitude(name, levels, images.shape)
    signs = torch.where(levels % 2 == 0, 1.0, -1.0)
    out = augment.apply(name, images, amount, signs)
    signed = amount * signs if name in ("Brightness", "Color", "Contrast", "Sharpness") else amount
    for image, mine, m in zip(images, out, signed.tolist()):
        difference = (mine.int() - REFERENCES[name](image, m).int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 0.2, "all but what rounds elsewhere"


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_movements_are_torchvisions(name):
    images = photos(10, side=32)
    amount = augment.magnitude(name, torch.arange(10), images.shape)
    if name.startswith("Shear"):
        amount += 0.0007  # no pixel halfway between two
    out = augment.apply(name, images, amount, torch.ones(10), fill=128)
    for image, mine, m in zip(images, out, amount.tolist()):
        same = []
        for sign in (1, -1):
            degrees = math.degrees(math.atan(m)) * sign
            moves = {
                "ShearX": {"shear": [degrees, 0.0], "center": [0, 0]},
                "ShearY": {"shear": [0.0, degrees], "center": [0, 0]},
                "TranslateX": {"translate": [sign * int(m), 0]},
                "TranslateY": {"translate": [0, sign * int(m)]},
                "Rotate": {"angle": sign * m},
            }
            options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | moves[name]
            same.append((mine == reference.affine(image, fill=[128.0], **options)).float().mean())
        assert max(same) > 0.97, (name, m)


def test_auto_changes_most_images_and_repeats_itself():
    images = photos(256)
    kept = images.clone()
    out = augment.auto(images, generator())
    assert torch.equal(images, kept)
    assert out.dtype == torch.uint8 and out.shape == images.shape
    changed = (out != images).flatten(1).any(1).float().mean()
    assert 0.6 < changed < 0.99
    assert torch.equal(out, augment.auto(images, generator()))
    assert augment.auto(photos(32, c=1), generator()).shape == (32, 1, 32, 32)


def test_resized_crops_stay_inside_the_image():
    rows = torch.arange(64.0).view(1, 1, 64, 1).expand(300, 1, 64, 64)
    out = augment.random_resized_crop(rows.to(torch.uint8), 32, generator())
    assert out.shape == (300, 1, 32, 32)
    assert out.min() >= 0 and out.max() <= 63
    heights = (out[:, 0, -1, 0] - out[:, 0, 0, 0]) * 32 / 31
    assert heights.min() > 10 and heights.max() > 60 and 25 < heights.mean() < 55
    columns = rows.transpose(2, 3).to(torch.uint8)
    slopes = augment.random_resized_crop(columns, 32, generator())[:, 0, 0].diff(dim=1).mean(1)
    assert 0.35 < (slopes < 0).float().mean() < 0.65, "half of them are mirrored"


def test_normalised_pixels():
    out = augment.normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), [0.5], [0.25])
    assert out.flatten().tolist() == [-2, 2]
