"""Pictures that the operations of augment/ are compared with: augment.json (what and where) and augment.bin (pixels).

    python3 make_augment.py        (Pillow, numpy, torchvision)

Magnitudes and calls are those of the training code that published QCFS networks share (Pillow calls on 8-bit images);
the table of sub-policies is read out of torchvision, which wrote it down from the paper on its own.
"""

import json

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

GREY_FILL = 128


def picture(height, width, channels, seed):
    """A gradient with a bright corner and noise that leaves both ends of the range empty."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    state = (seed + y * 7919 + x * 104729 + c * 1299709) % 4093
    noise = (state * state + 17 * state) % 97
    values = 25 + 3 * y + (5 - 2 * c) * x + noise + 60 * ((y < height // 3) & (x > width // 2))
    return np.clip(values, 20 + 5 * c, 235).astype(np.uint8)


def linear(stop, level, start=0.0):
    return np.linspace(start, stop, 10)[level]


def affine(image, matrix, resample):
    fill = (GREY_FILL,) * 3 if image.mode == "RGB" else GREY_FILL
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def rotated(image, degrees):
    turned = image.convert("RGBA").rotate(degrees)
    background = Image.new("RGBA", turned.size, (GREY_FILL,) * 4)
    return Image.composite(turned, background, turned).convert(image.mode)


BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
OPS = {
    "ShearY": lambda i, v, s: affine(i, (1, 0, 0, linear(0.3, v) * s, 1, 0), BICUBIC),
    "TranslateX": lambda i, v, s: affine(i, (1, 0, linear(150 / 331, v) * i.size[0] * s, 0, 1, 0), NEAREST),
    "TranslateY": lambda i, v, s: affine(i, (1, 0, 0, 0, 1, linear(150 / 331, v) * i.size[1] * s), NEAREST),
    "Color": lambda i, v, s: ImageEnhance.Color(i).enhance(1 + linear(0.9, v) * s),
    "Contrast": lambda i, v, s: ImageEnhance.Contrast(i).enhance(1 + linear(0.9, v) * s),
    "Sharpness": lambda i, v, s: ImageEnhance.Sharpness(i).enhance(1 + linear(0.9, v) * s),
    "Brightness": lambda i, v, s: ImageEnhance.Brightness(i).enhance(1 + linear(0.9, v) * s),
    "Rotate": lambda i, v, s: rotated(i, linear(30, v)),
    "Posterize": lambda i, v, s: ImageOps.posterize(i, int(np.round(linear(4, v, 8), 0))),
    "Solarize": lambda i, v, s: ImageOps.solarize(i, linear(0, v, 256)),
    "AutoContrast": lambda i, v, s: ImageOps.autocontrast(i),
    "Equalize": lambda i, v, s: ImageOps.equalize(i),
    "Invert": lambda i, v, s: ImageOps.invert(i),
}
SIGNED = 7  # the first of them take either sign
LEVELS = {"Rotate": [2, 9], "Posterize": [3, 7], "Solarize": [0, 3, 5]}

blob = bytearray()


def store(data):
    blob.extend(data)
    return len(blob) - len(data)


def main():
    shapes = [(16, 18, 3), (32, 32, 1)]
    arrays = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    pictures = [{"shape": shape, "at": store(a.tobytes())} for shape, a in zip(shapes, arrays)]
    cases = []
    for which, array in enumerate(arrays):
        image = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
        for number, (op, call) in enumerate(OPS.items()):
            signed = number < SIGNED
            levels = LEVELS.get(op, [3, 9] if signed else [0])
            for level in levels[-1:] if which else levels:
                for sign in (1, -1) if signed else (1,):
                    result = np.asarray(call(image, level, sign))
                    case = {"picture": which, "op": op, "level": level, "sign": sign, "at": store(result.tobytes())}
                    cases.append(case)
    resized = []
    for top, left, height, width, size in [(0, 0, 16, 18, (5, 6)), (3, 2, 4, 5, (12, 10)), (1, 4, 15, 3, (8, 8))]:
        planes = []
        for c in range(3):
            part = arrays[0][top : top + height, left : left + width, c].astype(np.float32)
            planes.append(np.asarray(Image.fromarray(part).resize(size[::-1], Image.Resampling.BILINEAR)))
        at = store(np.stack(planes, -1).astype("<f4").tobytes())
        resized.append({"box": [top, left, height, width], "size": size, "at": at})
    table = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    policy = [[{"op": o, "probability": p, "level": m} for o, p, m in sub] for sub in table]
    with open("augment.bin", "wb") as file:
        file.write(blob)
    lines = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
        for name, rows in [("pictures", pictures), ("cases", cases), ("resized", resized), ("policy", policy)]
    )
    with open("augment.json", "w") as file:
        file.write("{" + lines + "}\n")


main()
