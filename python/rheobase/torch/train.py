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
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.optimization import fuse

from . import data, files
from .models import ARCHS, build
from .pipeline import pipeline
from .qcfs import QCFS
from .replace import ReplaceError
from .save import SaveError, save
from .thresholds import calibrate


def portable(words):
    """A command line without where things lie on this machine: files by name, data sets as KIND:DIR."""
    shown = []
    for before, word in zip(["", *words], words):
        if before == "--data" and ":" in word:
            word = word.split(":")[0] + ":DIR"
        elif "/" in word or "\\" in word:
            word = os.path.basename(word)
        shown.append(word)
    return shlex.join(w for w in shown if w != "--resume")


class Stop(Exception):
    """An error that the command line shows as one line."""


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m rheobase.torch.train", description="Trains a QCFS network.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--arch", required=True, choices=ARCHS)
    add("--data", required=True, metavar="KIND:DIR", help=f"KIND is {', '.join(data.KINDS)}")
    add("--out", required=True, metavar="MODEL", help="written in Rheobase's format (.safetensors)")
    add("--levels", type=int, default=4, help="quantisation levels L; 0 trains with ReLU [default: 4]")
    add("--epochs", type=int, default=300, help="[default: 300]")
    add("--lr", type=float, default=0.02, help="learning rate, falling to 0 with a cosine [default: 0.02]")
    add("--momentum", type=float, default=0.9, help="[default: 0.9]")
    add("--weight-decay", type=float, default=5e-4, help="[default: 5e-4]")
    add("--warm-up", type=float, default=0, metavar="EPOCHS", help="epochs of linear warm-up [default: 0]")
    add("--batch-size", type=int, default=128, help="images per step, over all processes [default: 128]")
    add("--label-smoothing", type=float, default=0.0, help="[default: 0]")
    add(
        "--augment",
        choices=["none", "standard", "auto"],
        default="auto",
        help="standard: random crop and flip (image folders: random resized crop and flip); "
        "auto: with AutoAugment and Cutout besides [default: auto]",
    )
    add("--mean", type=_numbers, help="mean of pixels in [0, 1], a number per channel, comma between")
    add("--std", type=_numbers, help="standard deviation of pixels in [0, 1], likewise")
    add("--threshold", type=float, default=8.0, help="λ at the start when training from scratch [default: 8]")
    add("--init", metavar="FILE", help="state dict to start from; from ReLUs, λ is set by --calibrate")
    add(
        "--calibrate",
        default="mse",
        metavar="mse|PERCENT",
        help="λ of former ReLUs: least rounding error, or a percentile of activations [default: mse]",
    )
    add("--teacher", metavar="FILE|init", help="state dict of a ReLU network of the same --arch to distil from")
    add("--temperature", type=float, default=4.0, help="of the distillation [default: 4]")
    add("--distil", type=float, default=0.5, help="share of the distillation in the loss [default: 0.5]")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--amp", action="store_true", help="bfloat16 where it is safe; test accuracy stays f32")
    add("--compile", action="store_true", help="torch.compile")
    add("--threads", type=int, help="CPU threads of PyTorch")
    add("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes that decode image folders")
    add("--resume", action="store_true", help="continue from MODEL.checkpoint")
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.batch_size < 1 or options.levels < 0:
        parser.error("--epochs and --batch-size take numbers from 1, --levels from 0")
    if not options.lr > 0 or not options.threshold > 0 or not 0 <= options.distil <= 1:
        parser.error("--lr and --threshold take numbers above 0, --distil from 0 to 1")
    if (options.mean is None) != (options.std is None):
        parser.error("--mean and --std belong together")
    if options.teacher == "init" and not options.init:
        parser.error("--teacher init needs --init")
    options.command = portable(["python", "-m", "rheobase.torch.train", *(arguments or sys.argv[1:])])
    return options


def _numbers(text):
    return [float(part) for part in text.split(",")]


class Processes:
    """This process among those of torchrun; alone without it."""

    def __init__(self, device="cpu"):
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

    def share(self, items):
        """Every `count`-th of them."""
        return items[self.rank :: self.count]

    def total(self, numbers):
        """The sum over all processes."""
        if self.count > 1:
            dist.all_reduce(numbers)
        return numbers

    def close(self):
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


def rate(options, step, steps_per_epoch):
    """The learning rate of a step: a cosine to zero after a linear warm-up."""
    warm, end = options.warm_up * steps_per_epoch, options.epochs * steps_per_epoch
    if step < warm:
        return options.lr * (step + 1) / warm
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, end - warm)))


def qcfs_modules(model):
    return [module for module in model.modules() if isinstance(module, QCFS)]


class Trainer:
    """One run: everything it holds that changes is in the checkpoint."""

    def __init__(self, options):
        self.options = options
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.processes = Processes(options.device)
        self.data = data.load(options.data)
        if options.mean is not None:
            self.data.mean, self.data.std = options.mean, options.std
        normalisation = self.data.mean, self.data.std
        self.train = pipeline(self.data.train, normalisation, self.processes, options)
        self.test = pipeline(self.data.test, normalisation, self.processes, options)
        self.shape = self.train.shape
        if {len(self.data.mean), len(self.data.std)} != {self.shape[0]}:
            raise Stop(f"the images have {self.shape[0]} channels, the normalisation {len(self.data.mean)}")
        if options.batch_size < self.processes.count or len(self.train.labels) < options.batch_size:
            images = len(self.train.labels)
            raise Stop(f"--batch-size {options.batch_size}: expected from {self.processes.count} to {images}")
        self.model = self.network(options.levels or None)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), options.lr, options.momentum, weight_decay=options.weight_decay
        )
        self.epoch, self.best = 0, -1
        Path(options.out).absolute().parent.mkdir(parents=True, exist_ok=True)
        if not (options.resume and self.load()):
            self.start()
        self.teacher = self.load_teacher()
        parallel = self.model
        if self.processes.count > 1:
            ids = [self.processes.device.index] if self.processes.device.type == "cuda" else None
            parallel = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)
        self.forward = torch.compile(parallel) if options.compile else parallel

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
        self.metrics.unlink(missing_ok=True)
        if not options.init:
            return
        state = files.state_dict(options.init)
        qcfs = any(name.endswith(".up") for name in state)
        files.fill(self.model, state, options.init, thresholds=options.levels and qcfs)
        if options.levels and not qcfs:
            relu = self.network(None)
            files.fill(relu, state, options.init)
            images = (images for images, _ in self.train.plain(256, limit=2048))
            found = calibrate(relu, images, options.levels, options.calibrate)
            for module, threshold in zip(qcfs_modules(self.model), found, strict=True):
                module.up.data.fill_(threshold)
            self.note("λ from the ReLU network: " + " ".join(f"{t:.3g}" for t in found))

    def load_teacher(self):
        options = self.options
        if not options.teacher:
            return None
        file = options.init if options.teacher == "init" else options.teacher
        state = files.state_dict(file)
        if any(name.endswith(".up") for name in state):
            raise Stop(f"--teacher: {file} is not a ReLU network")
        teacher = self.network(None)
        files.fill(teacher, state, file)
        self.note(f"teacher: {self.right(teacher)} of {len(self.test.labels)} right")
        return fuse(teacher.eval()).requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def checkpoint(self):
        return Path(f"{self.options.out}.checkpoint")

    @property
    def metrics(self):
        return Path(f"{self.options.out}.metrics.jsonl")

    def recipe(self):
        """What must not change between a run and its continuation."""
        names = "arch levels epochs lr momentum weight_decay warm_up batch_size label_smoothing augment seed mean std"
        names += " teacher temperature distil"
        kind = self.options.data.partition(":")[0]
        return {"data": kind, **{name: getattr(self.options, name) for name in names.split()}}

    def store(self):
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
            self.note(f"there is no {self.checkpoint} yet: starting from the beginning")
            return False
        try:
            state = torch.load(self.checkpoint, map_location=self.processes.device, weights_only=True)
            then = state["recipe"]
        except OSError:
            raise
        except Exception as error:
            raise Stop(f"{self.checkpoint} is no checkpoint of this program ({str(error).splitlines()[0]})") from None
        for name, now in self.recipe().items():
            if then.get(name) != now:
                raise Stop(f"{self.checkpoint} was made with --{name.replace('_', '-')} {then.get(name)}, not {now}")
        self.model.load_state_dict(state["state_dict"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best = state["epoch"], state["best"]
        if self.processes.first and self.metrics.exists():
            lines = self.metrics.read_text().splitlines(keepends=True)
            kept = "".join(line for line in lines if json.loads(line)["epoch"] <= self.epoch)
            files.write_atomically(self.metrics, lambda file: file.write(kept.encode()))
        self.note(f"continuing after epoch {self.epoch}")
        return True

    # -- training

    def run(self):
        """All epochs that are left; the best test accuracy."""
        options, images = self.options, len(self.test.labels)
        if not self.epoch and options.init:
            self.note(f"at the start: {self.right(self.model)} of {images} right")
        while self.epoch < options.epochs:
            began = time.perf_counter()
            loss, right, seen = self.one_epoch()
            trained = time.perf_counter()
            correct = self.right(self.model)
            self.epoch += 1
            better, self.best = correct > self.best, max(self.best, correct)
            if self.processes.first:
                if better:
                    self.write_model(correct)
                rates = seen / (trained - began), time.perf_counter() - began
                self.report(loss, right / seen, correct / images, *rates)
                self.store()
        return self.best / images

    def one_epoch(self):
        """Trains on every image once; mean loss, images right and images seen."""
        steps = len(self.train)
        self.model.train()
        totals = torch.zeros(3, device=self.processes.device, dtype=torch.float64)
        for index, (images, labels) in enumerate(self.train.epoch(self.epoch)):
            for group in self.optimiser.param_groups:
                group["lr"] = rate(self.options, self.epoch * steps + index, steps)
            loss, logits = self.loss(images, labels)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            totals[0] += loss.detach() * len(labels)
            totals[1] += (logits.argmax(1) == labels).sum()
            totals[2] += len(labels)
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
        """Stops a run that has diverged before anything of it is written."""
        least = min((float(m.up.detach().min()) for m in qcfs_modules(self.model)), default=1.0)
        if math.isfinite(loss) and least > 0:
            return
        what = f"a threshold fell to {least:.3g}" if math.isfinite(loss) else f"the loss is {loss}"
        kept = f"; {self.checkpoint} holds epoch {self.epoch}" if self.epoch else ""
        raise Stop(f"training diverged in epoch {self.epoch + 1}: {what}{kept} (try a lower --lr, or --warm-up 1)")

    @torch.no_grad()
    def right(self, model):
        """Test images right, computed in f32."""
        if self.processes.count > 1:
            # Each process has followed its own batches with its running statistics.
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)
        model.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.processes.device)
        for images, labels in self.test.plain(share=True):
            right += (model(images).argmax(1) == labels).sum()
        return int(self.processes.total(right))

    def write_model(self, correct):
        options, images = self.options, len(self.test.labels)
        notes = [
            f"trained with PyTorch {torch.__version__.partition('+')[0]}: {options.command}",
            f"{correct} of {images} test images right ({100 * correct / images:.2f} %) as ANN after epoch "
            f"{self.epoch} of {options.epochs}, seed {options.seed}",
        ]
        example = torch.zeros(1, *self.shape)
        normalisation = self.data.mean, self.data.std
        save(self.model, example, options.out, normalisation, self.data.classes, options.arch, notes)

    def report(self, loss, train_accuracy, accuracy, images_per_second, seconds):
        best = self.best / len(self.test.labels)
        line = {
            "epoch": self.epoch,
            "lr": self.optimiser.param_groups[0]["lr"],
            "loss": round(loss, 5),
            "train_accuracy": round(train_accuracy, 5),
            "test_accuracy": round(accuracy, 5),
            "best": round(best, 5),
            "images_per_second": round(images_per_second, 1),
            "seconds": round(seconds, 1),
        }
        with open(self.metrics, "a") as file:
            file.write(json.dumps(line) + "\n")
        left = seconds * (self.options.epochs - self.epoch) / 60
        self.note(
            f"epoch {self.epoch}/{self.options.epochs}: loss {loss:.4f}, training {100 * train_accuracy:.2f} %, "
            f"test {100 * accuracy:.2f} % (best {100 * best:.2f}), {images_per_second:.0f} images/s, "
            f"{seconds:.0f} s, about {left:.0f} min left"
        )


def main(arguments=None):
    """Runs the command line; the exit status."""
    options = parse(arguments)
    trainer = None
    try:
        trainer = Trainer(options)
        best = trainer.run()
        trainer.note(f"best: {100 * best:.2f} % of the test images right; {options.out}")
    except (Stop, data.DataError, files.FileError, SaveError, ReplaceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = f"; {trainer.checkpoint} holds epoch {trainer.epoch}" if trainer and trainer.epoch else ""
        print(f"interrupted{kept}", file=sys.stderr)
        return 130
    finally:
        if trainer:
            trainer.processes.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
