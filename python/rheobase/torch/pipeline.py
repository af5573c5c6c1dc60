"""Batches for training and test.

In: a data set, the recipe's augmentation, this process among several. Out: normalised images and labels on the device.
"""

import torch

from . import augment
from .data import Folder

PADDING = 4


def mix(seed, *parts):
    """A seed of its own for each combination of numbers."""
    for part in parts:
        seed = (seed * 0x9E3779B97F4A7C15 + part + 0x632BE59BD9B4E019) % (1 << 63)
    return seed


class Pipeline:
    """What both kinds share: the order of an epoch depends on seed and epoch alone, so that a run can be resumed."""

    def __init__(self, part, normalisation, processes, options):
        self.part, self.processes, self.options = part, processes, options
        self.mean, self.std = normalisation
        self.labels = part.labels

    def __len__(self):
        """Steps per epoch; the last, smaller batch is left out."""
        return max(1, len(self.labels) // self.options.batch_size)

    def order(self, epoch):
        """This process's images of each batch."""
        generator = torch.Generator().manual_seed(mix(self.options.seed, epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        return [self.processes.share(b) for b in order.split(self.options.batch_size)[: len(self)]]

    def generator(self, epoch):
        seed = mix(self.options.seed, epoch, 1 + self.processes.rank)
        return torch.Generator(self.processes.device).manual_seed(seed)

    def normalised(self, images, generator=None):
        images = augment.normalise(images, self.mean, self.std)
        if generator is not None and self.options.augment == "auto" and not isinstance(self.part, Folder):
            images = augment.cutout(images, 8 if self.options.data.startswith("cifar100") else 16, generator)
        return images


class Memory(Pipeline):
    """The whole data set lies on the device as bytes, and augmentation runs there."""

    def __init__(self, part, *others):
        super().__init__(part, *others)
        self.images = part.images.to(self.processes.device)
        self.labels = part.labels.to(self.processes.device)

    @property
    def shape(self):
        return tuple(self.images.shape[1:])

    def epoch(self, number):
        generator = self.generator(number)
        for batch in self.order(number):
            batch = batch.to(self.processes.device)
            images = self.images[batch]
            if self.options.augment != "none":
                images = augment.crop_flip(images, PADDING, generator)
            if self.options.augment == "auto":
                images = augment.auto(images, generator)
            yield self.normalised(images, generator), self.labels[batch]

    def plain(self, size=500, limit=None, share=False):
        """Images as they are, in order; with `share` this process's part of them."""
        starts = range(0, min(len(self.labels), limit or len(self.labels)), size)
        for start in self.processes.share(starts) if share else starts:
            images = self.images[start : start + size]
            yield self.normalised(images), self.labels[start : start + size]


class Files(Pipeline):
    """Images are decoded by worker processes; random resized crop, flip and normalisation run on the device."""

    @property
    def shape(self):
        return (3, Folder.SIDE, Folder.SIDE)

    def loader(self, batches):
        return torch.utils.data.DataLoader(
            self.part.files,
            batch_sampler=[b.tolist() for b in batches],
            num_workers=self.options.workers,
            pin_memory=self.processes.device.type == "cuda",
        )

    def epoch(self, number):
        generator = self.generator(number)
        for images, labels in self.moved(self.loader(self.order(number))):
            if self.options.augment == "none":
                images = self.centre(images)
            else:
                images = augment.random_resized_crop(images, Folder.SIDE, generator)
            yield self.normalised(images, generator), labels

    def plain(self, size=100, limit=None, share=False):
        batches = torch.arange(min(len(self.labels), limit or len(self.labels))).split(size)
        batches = self.processes.share(batches) if share else batches
        for images, labels in self.moved(self.loader(batches)):
            yield self.normalised(self.centre(images)), labels

    def moved(self, batches):
        device = self.processes.device
        for images, labels in batches:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    @staticmethod
    def centre(images):
        edge = (Folder.DECODED - Folder.SIDE) // 2
        return images[:, :, edge : edge + Folder.SIDE, edge : edge + Folder.SIDE]


def pipeline(part, *others):
    """The pipeline for a part of a data set."""
    return (Files if isinstance(part, Folder) else Memory)(part, *others)
