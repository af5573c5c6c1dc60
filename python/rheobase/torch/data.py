"""Image data sets as tensors of bytes.

In: `KIND:DIR` as the command line takes it. Out: training and test images (uint8, NCHW), labels, class names.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR100 = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm""".split()


@dataclass
class Images:
    """Images (uint8, NCHW) and their labels (int64)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)


@dataclass
class DataSet:
    """A training and a test set with class names and the usual normalisation (pixels in [0, 1])."""

    kind: str
    train: object
    test: object
    classes: list
    mean: list
    std: list


class DataError(ValueError):
    """The data are not there, or not what they should be."""


def _cifar(folder, files, labels, names):
    """Records of `labels` bytes, the last one the class, and 3,072 bytes of pixels, channel by channel."""
    records = []
    for file in files:
        path = _existing(folder, file)
        data = np.fromfile(path, np.uint8)
        if data.size == 0 or data.size % (labels + 3072):
            raise DataError(f"{path}: {data.size} bytes are no whole number of records of {labels + 3072}")
        records.append(data.reshape(-1, labels + 3072))
    data = np.concatenate(records)
    classes = data[:, labels - 1]
    if classes.max() >= len(names):
        raise DataError(f"{folder}: label {classes.max()} of {len(names)} classes")
    images = np.ascontiguousarray(data[:, labels:]).reshape(-1, 3, 32, 32)
    return Images(torch.from_numpy(images), torch.from_numpy(classes.astype(np.int64)))


def _existing(folder, *names):
    """The first of these files that is there; downloads of CIFAR unpack into a folder of their own."""
    for name in names:
        found = [p for p in (folder / name, *sorted(folder.glob(f"*/{name}"))) if p.is_file()]
        if found:
            return found[0]
    raise DataError(f"{folder}: there is no {' or '.join(names)} here")


def _cifar10(folder):
    train = _cifar(folder, [f"data_batch_{i}.bin" for i in range(1, 6)], 1, CIFAR10)
    test = _cifar(folder, ["test_batch.bin"], 1, CIFAR10)
    return DataSet("cifar10", train, test, CIFAR10, [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


def _cifar100(folder):
    train = _cifar(folder, ["train.bin"], 2, CIFAR100)
    test = _cifar(folder, ["test.bin"], 2, CIFAR100)
    mean, std = [129.3, 124.1, 112.4], [68.2, 65.4, 70.4]
    return DataSet("cifar100", train, test, CIFAR100, [m / 255 for m in mean], [s / 255 for s in std])


def _idx(path):
    """An array of bytes in the format of MNIST's files."""
    data = path.read_bytes()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an idx file of bytes")
    sides = data[3]
    shape = struct.unpack(f">{sides}I", data[4 : 4 + 4 * sides]) if len(data) >= 4 + 4 * sides else ()
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * sides) if shape else np.empty(0, np.uint8)
    if body.size != np.prod(shape, dtype=np.int64) or not shape:
        raise DataError(f"{path}: {body.size} bytes for the shape {shape}")
    return torch.from_numpy(body.reshape(shape).copy())


def _mnist(folder):
    def part(name):
        images = _idx(_existing(folder, f"{name}-images-idx3-ubyte", f"{name}-images.idx3-ubyte"))
        labels = _idx(_existing(folder, f"{name}-labels-idx1-ubyte", f"{name}-labels.idx1-ubyte"))
        if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
            raise DataError(f"{folder}: images {tuple(images.shape)} and labels {tuple(labels.shape)} do not match")
        return Images(images[:, None], labels.long())

    train, test = part("train"), part("t10k")
    pixels = train.images.float() / 255
    classes = [str(c) for c in range(int(train.labels.max()) + 1)]
    return DataSet("mnist", train, test, classes, [float(pixels.mean())], [float(pixels.std())])


class Decode:
    """A file's image as bytes (CHW): its short side scaled to `side`, the square in its middle."""

    def __init__(self, side):
        self.side = side

    def __call__(self, image):
        from torchvision.transforms import functional

        image = functional.center_crop(functional.resize(image.convert("RGB"), self.side), self.side)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Folder:
    """Images of a folder with a folder per class, decoded when they are wanted."""

    #: Side of the squares that are decoded, and of the network's images.
    DECODED, SIDE = 256, 224

    def __init__(self, folder):
        from torchvision.datasets import ImageFolder

        try:
            self.files = ImageFolder(folder, Decode(self.DECODED))
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        self.labels = torch.tensor(self.files.targets)

    def __len__(self):
        return len(self.labels)


def _imagefolder(folder):
    tests = [folder / name for name in ("test", "val") if (folder / name).is_dir()]
    if not tests or not (folder / "train").is_dir():
        raise DataError(f"{folder}: expected the folders train, and test or val, with a folder per class in each")
    train, test = Folder(folder / "train"), Folder(tests[0])
    if train.files.classes != test.files.classes:
        raise DataError(f"{folder}: train and {tests[0].name} have different classes")
    return DataSet("imagefolder", train, test, train.files.classes, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


KINDS = {"cifar10": _cifar10, "cifar100": _cifar100, "mnist": _mnist, "imagefolder": _imagefolder}


def load(spec):
    """The data set `KIND:DIR`; `mnist` reads any idx data set with MNIST's file names, `imagefolder` folders of
    images: train and test (or val), a folder per class in each."""
    kind, colon, folder = spec.partition(":")
    if kind not in KINDS or not colon:
        raise DataError(f"data {spec!r}: expected KIND:DIR with a KIND of {', '.join(KINDS)}")
    return KINDS[kind](Path(folder).expanduser())
