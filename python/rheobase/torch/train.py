"""Trains QCFS networks in PyTorch, on one device or several.

    python -m rheobase.torch.train --arch resnet20 --data cifar100:DIR --levels 4 --epochs 300 --out MODEL
    torchrun --nproc-per-node 4 -m rheobase.torch.train ... --device cuda --amp

In: a network's name, data, a recipe. Out: MODEL (the epoch with the best test accuracy, in Rheobase's format), beside
it MODEL.metrics.jsonl (a line per epoch) and MODEL.checkpoint (everything that `--resume` needs).
"""

import argparse
import contextlib
import json
import math
import os
import shlex
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.fx.experimental.optimization
import torch.nn.functional as F
from torch import nn

from . import augment, data, files
from .models import ARCHS, build
from .qcfs import QCFS
from .thresholds import calibrate


class Stop(SystemExit):
    """An error for the command line: one line, exit status 2."""

    def __init__(self, message):
        super().__init__(2)
        print(f"error: {message}", file=sys.stderr)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m rheobase.torch.train", description="Trains a QCFS network.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--arch", required=True, choices=ARCHS)
    add("--data", required=True, metavar="KIND:DIR", help=f"KIND is {', '.join(data.KINDS)}")
    add("--out", required=True, metavar="MODEL", help="written in Rheobase's format")
    add("--levels", type=int, default=4, help="quantisation levels L; 0 trains with ReLU")
    add("--epochs", type=int, default=300)
    add("--lr", type=float, default=0.02, help="learning rate at the start")
    add("--momentum", type=float, default=0.9)
    add("--weight-decay", type=float, default=5e-4)
    add("--warm-up", type=float, default=0, metavar="EPOCHS", help="epochs of linear warm-up")
    add("--batch-size", type=int, default=128, help="images per step, over all processes")
    add("--label-smoothing", type=float, default=0.0)
    add("--augment", choices=["none", "standard", "auto"], default="auto")
    add("--mean", type=_numbers, help="normalisation of pixels in [0, 1], a number per channel, comma between")
    add("--std", type=_numbers)
    add("--threshold", type=float, default=8.0, help="λ at the start when training from scratch")
    add("--init", metavar="FILE", help="state dict to start from; from ReLUs, λ is set by --calibrate")
    add("--calibrate", default="mse", metavar="mse|PERCENT", help="λ of former ReLUs: least error, or a percentile")
    add("--teacher", metavar="FILE|init", help="state dict of a ReLU network of the same --arch to distil from")
    add("--temperature", type=float, default=4.0)
    add("--distil", type=float, default=0.5, help="share of the distillation in the loss")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--amp", action="store_true", help="bfloat16 where it is safe")
    add("--compile", action="store_true", help="torch.compile")
    add("--threads", type=int, help="CPU threads of PyTorch")
    add("--resume", action="store_true", help="continue from MODEL.checkpoint")
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.batch_size < 1 or options.levels < 0:
        parser.error("--epochs and --batch-size take numbers from 1, --levels from 0")
    if (options.mean is None) != (options.std is None):
        parser.error("--mean and --std belong together")
    return options


def _numbers(text):
    return [float(part) for part in text.split(",")]


class Processes:
    """This process among those of torchrun; alone without it."""

    def __init__(self, device):
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        self.device = torch.device(device)
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                raise Stop("--device cuda: PyTorch sees no GPU")
            if self.device.index is None:
                self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self):
        return self.rank == 0

    def share(self, indices):
        """This process's part; every part has the same length."""
        return indices[self.rank : len(indices) // self.count * self.count : self.count]

    def total(self, numbers):
        """The sum over all processes."""
        if self.count > 1:
            dist.all_reduce(numbers)
        return numbers

    def close(self):
        if self.count > 1:
            dist.destroy_process_group()


class Pipeline:
    """Batches on the device: the whole data set lies there as bytes, augmentation runs there too."""

    def __init__(self, part, normalisation, processes, options):
        self.images = part.images.to(processes.device)
        self.labels = part.labels.to(processes.device)
        self.mean, self.std = normalisation
        self.processes, self.options = processes, options

    def __len__(self):
        return max(1, len(self.labels) // self.options.batch_size)

    def epoch(self, number):
        """Augmented batches in an order that depends on seed and epoch alone."""
        options, device = self.options, self.processes.device
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(mix(options.seed, number)))
        generator = torch.Generator(device).manual_seed(mix(options.seed, number, 1 + self.processes.rank))
        for batch in order.split(options.batch_size)[: len(self)]:
            batch = self.processes.share(batch).to(device)
            images = augmented(self.images[batch], options, generator)
            yield augment.normalise(images, self.mean, self.std), self.labels[batch]

    def plain(self, size=500, limit=None):
        """Batches as they are, in order."""
        for start in range(0, len(self.labels) if limit is None else limit, size):
            images = self.images[start : start + size]
            yield augment.normalise(images, self.mean, self.std), self.labels[start : start + size]


def augmented(images, options, generator):
    """A training batch: bytes in, bytes out."""
    if options.augment == "none":
        return images
    images = augment.crop_flip(images, 4, generator)
    if options.augment == "auto":
        images = augment.auto(images, generator)
        images = augment.cutout(images, 8 if options.data.startswith("cifar100") else 16, generator)
    return images


def mix(seed, *parts):
    """A seed of its own for each combination of numbers."""
    for part in parts:
        seed = (seed * 0x9E3779B97F4A7C15 + part + 0x632BE59BD9B4E019) % (1 << 63)
    return seed


def rate(options, step, steps_per_epoch):
    """Cosine to zero after a linear warm-up."""
    warm = options.warm_up * steps_per_epoch
    if step < warm:
        return options.lr * (step + 1) / warm
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (options.epochs * steps_per_epoch - warm)))


class Trainer:
    def __init__(self, options):
        self.options = options
        self.processes = Processes(options.device)
        device = self.processes.device
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.data = data.load(options.data)
        if options.mean is not None:
            self.data.mean, self.data.std = options.mean, options.std
        channels = self.data.train.images.shape[1]
        if len(self.data.mean) != channels or len(self.data.std) != channels:
            raise Stop(f"the images have {channels} channels, the normalisation {len(self.data.mean)}")
        normalisation = self.data.mean, self.data.std
        self.train = Pipeline(self.data.train, normalisation, self.processes, options)
        self.test = Pipeline(self.data.test, normalisation, self.processes, options)
        self.shape = tuple(self.data.train.images.shape[1:])
        self.model = self.network(options.levels or None)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), options.lr, options.momentum, weight_decay=options.weight_decay
        )
        self.epoch, self.best = 0, -1
        if not (options.resume and self.load()):
            self.start()
        self.teacher = self.load_teacher()
        self.parallel = self.model
        if self.processes.count > 1:
            ids = [device.index] if device.type == "cuda" else None
            self.parallel = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)
        self.forward = torch.compile(self.parallel) if options.compile else self.parallel

    def network(self, levels):
        model = build(self.options.arch, len(self.data.classes), levels, self.options.threshold, self.shape)
        return model.to(self.processes.device, memory_format=torch.channels_last)

    def note(self, message):
        if self.processes.first:
            print(message, file=sys.stderr, flush=True)

    # -- start, checkpoints

    def start(self):
        """A fresh network, or one with the parameters of --init."""
        options = self.options
        if not options.init:
            return
        state = files.state_dict(options.init)
        from_relu = not any(name.endswith((".up", ".thresh")) for name in state)
        missing = files.fill(self.model, state, options.init, thresholds=options.levels and not from_relu)
        if options.levels and from_relu:
            relu = self.network(None)
            files.fill(relu, state, options.init)
            found = calibrate(relu, (x for x, _ in self.train.plain(256, 2048)), options.levels, options.calibrate)
            for (name, module), threshold in zip(qcfs_modules(self.model), found):
                module.up.data.fill_(threshold)
            self.note("λ from the ReLU network: " + " ".join(f"{t:.3g}" for t in found))
        del missing

    def load_teacher(self):
        options = self.options
        if not options.teacher:
            return None
        file = options.init if options.teacher == "init" else options.teacher
        if not file:
            raise Stop("--teacher init needs --init")
        state = files.state_dict(file)
        if any(name.endswith((".up", ".thresh")) for name in state):
            raise Stop(f"--teacher: {file} is not a ReLU network")
        teacher = self.network(None)
        files.fill(teacher, state, file)
        self.note(f"teacher: {self.accuracy(teacher.eval())} of {len(self.test.labels)} right")
        teacher = torch.fx.experimental.optimization.fuse(teacher).requires_grad_(False)
        return teacher.to(memory_format=torch.channels_last)

    @property
    def checkpoint(self):
        return Path(f"{self.options.out}.checkpoint")

    def recipe(self):
        """What must not change between a run and its continuation."""
        names = "arch levels epochs lr momentum weight_decay warm_up batch_size label_smoothing augment seed teacher"
        return {name: getattr(self.options, name) for name in (names + " temperature distil").split()}

    def save(self):
        state = {
            "state_dict": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "recipe": self.recipe(),
        }
        files.write_atomically(self.checkpoint, lambda file: torch.save(state, file))

    def load(self):
        if not self.checkpoint.exists():
            self.note(f"no checkpoint {self.checkpoint} yet: starting from the beginning")
            return False
        state = torch.load(self.checkpoint, map_location=self.processes.device, weights_only=True)
        for name, now in self.recipe().items():
            if (then := state["recipe"].get(name)) != now:
                raise Stop(f"{self.checkpoint} was made with --{name.replace('_', '-')} {then}, not {now}")
        self.model.load_state_dict(state["state_dict"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best = state["epoch"], state["best"]
        self.note(f"continuing after epoch {self.epoch}")
        return True

    # -- training

    def run(self):
        options = self.options
        if not self.epoch:
            self.note(f"at the start: {self.accuracy(self.model)} of {len(self.test.labels)} right")
        while self.epoch < options.epochs:
            began = time.perf_counter()
            loss, right, seen = self.one_epoch()
            trained = time.perf_counter()
            correct = self.accuracy(self.model)
            self.epoch += 1
            accuracy = correct / len(self.test.labels)
            if self.processes.first:
                if correct > self.best:
                    self.best = correct
                    self.write_model(accuracy)
                self.save()
                self.report(loss, right / seen, accuracy, seen / (trained - began), time.perf_counter() - began)
            self.best = max(self.best, correct)
        self.processes.close()
        return self.best / len(self.test.labels)

    def one_epoch(self):
        options, steps = self.options, len(self.train)
        self.model.train()
        totals = torch.zeros(3, device=self.processes.device, dtype=torch.float64)
        for index, (images, labels) in enumerate(self.train.epoch(self.epoch)):
            for group in self.optimiser.param_groups:
                group["lr"] = rate(options, self.epoch * steps + index, steps)
            loss, logits = self.loss(images, labels)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            totals += torch.stack([loss.detach() * len(labels), (logits.argmax(1) == labels).sum(), labels.new_tensor(len(labels))])
            if index % 100 == 99 or index + 1 == steps:
                self.check(float(loss.detach()))
        loss, right, seen = self.processes.total(totals).tolist()
        return loss / seen, right, seen

    def loss(self, images, labels):
        options = self.options
        with self.autocast():
            logits = self.forward(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)
        if self.teacher is not None:
            with torch.no_grad(), self.autocast():
                target = self.teacher(images).float() / options.temperature
            mine = F.log_softmax(logits / options.temperature, 1)
            kl = F.kl_div(mine, F.log_softmax(target, 1), reduction="batchmean", log_target=True)
            loss = (1 - options.distil) * loss + options.distil * options.temperature**2 * kl
        return loss, logits

    def autocast(self):
        if not self.options.amp:
            return contextlib.nullcontext()
        return torch.autocast(self.processes.device.type, torch.bfloat16)

    def check(self, loss):
        smallest = min((float(m.up.detach().min()) for _, m in qcfs_modules(self.model)), default=1.0)
        if not math.isfinite(loss) or not smallest > 0:
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"a threshold fell to {smallest:.3g}"
            kept = f"; {self.checkpoint} holds epoch {self.epoch}" if self.epoch else ""
            raise Stop(f"training diverged in epoch {self.epoch + 1}: {what}{kept}. A lower --lr or --warm-up may help")

    @torch.no_grad()
    def accuracy(self, model):
        """Test images right, in f32."""
        model.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.processes.device)
        for index, (images, labels) in enumerate(self.test.plain()):
            if index % self.processes.count == self.processes.rank:
                right += (model(images).argmax(1) == labels).sum()
        return int(self.processes.total(right))

    def write_model(self, accuracy):
        extra = {"accuracy": accuracy, "epoch": self.epoch, "seed": self.options.seed, "command": command()}
        files.write_model(self, extra)

    def report(self, loss, train_accuracy, accuracy, images_per_second, seconds):
        line = {
            "epoch": self.epoch,
            "lr": self.optimiser.param_groups[0]["lr"],
            "loss": round(loss, 5),
            "train_accuracy": round(train_accuracy, 5),
            "test_accuracy": round(accuracy, 5),
            "best": round(self.best / len(self.test.labels), 5),
            "images_per_second": round(images_per_second, 1),
            "seconds": round(seconds, 1),
        }
        with open(f"{self.options.out}.metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        left = seconds * (self.options.epochs - self.epoch)
        self.note(
            f"epoch {self.epoch}/{self.options.epochs}: loss {loss:.4f}, training {100 * train_accuracy:.2f} %, "
            f"test {100 * accuracy:.2f} % (best {100 * line['best']:.2f}), {images_per_second:.0f} images/s, "
            f"{seconds:.0f} s, about {left / 60:.0f} min left"
        )


def qcfs_modules(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, QCFS)]


def command():
    return shlex.join(["python", "-m", "rheobase.torch.train", *sys.argv[1:]])


def main(arguments=None):
    options = parse(arguments)
    try:
        return Trainer(options).run()
    except (data.DataError, files.FileError) as error:
        raise Stop(str(error)) from None
    except OSError as error:
        raise Stop(f"{error.filename or options.out}: {error.strerror}") from None


if __name__ == "__main__":
    main()
