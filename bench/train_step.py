"""Seconds per training step: ResNet-20 with QCFS (L = 4), batch 128, f32; PyTorch eager and compiled, Rheobase beside.

    python bench/train_step.py [--threads 2] [--steps 15] [--rounds 3] [--modes eager,default,max-autotune-no-cudagraphs]
                               [--rheobase target/release/examples/step] [--json FILE]

Opponents take turns within each round, so that a disturbance of the machine falls on all of them; medians over all
rounds are printed. A step is forward, loss, backward and SGD (momentum 0.9, weight decay 5e-4) on random images that
lie ready. `--rheobase` is the built example of the training crate (`cargo build --release -p rheobase-train --example step`);
it prints one JSON object with `seconds`: the list of its steps, and its peak memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from rheobase.torch.models import build  # noqa: E402

BATCH = 128


class Torch:
    """One way to run the step in PyTorch."""

    def __init__(self, mode):
        torch.manual_seed(0)
        self.name = f"torch {mode}"
        self.model = build("resnet20", 10, levels=4).to(memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
        self.images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (BATCH,))
        self.run = self.model if mode == "eager" else torch.compile(self.model, mode=None if mode == "default" else mode)

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self.run(self.images), self.labels).backward()
        self.optimiser.step()

    def round(self, steps):
        self.step()
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - start)
        return seconds


class Rheobase:
    """The step in Rust."""

    name = "rheobase"
    peak = None

    def __init__(self, binary, threads):
        self.command = [binary, "--arch", "resnet20", "--levels", "4", "--batch", str(BATCH)]
        self.command += ["--threads", str(threads), "--steps"]

    def round(self, steps):
        done = subprocess.run([*self.command, str(steps)], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        self.peak = result["peak_bytes"]
        return result["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=15, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", default="eager,default,max-autotune-no-cudagraphs")
    parser.add_argument("--rheobase", help="the built example; without it only PyTorch is timed")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    opponents = [Torch(mode) for mode in options.modes.split(",") if mode]
    if options.rheobase:
        opponents.append(Rheobase(options.rheobase, options.threads))
    for opponent in opponents:
        start = time.perf_counter()
        opponent.round(2)
        print(f"{opponent.name}: ready after {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    seconds = {opponent.name: [] for opponent in opponents}
    for _ in range(options.rounds):
        for opponent in opponents:
            seconds[opponent.name] += opponent.round(options.steps)
    rows = []
    for name, all_steps in seconds.items():
        middle = statistics.median(all_steps)
        rows.append({"name": name, "median": middle, "least": min(all_steps), "steps": len(all_steps)})
        print(f"{name:36} {1000 * middle:8.1f} ms (least {1000 * min(all_steps):.1f}, {len(all_steps)} steps)")
    print(f"peak memory: all of PyTorch's {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", end="")
    print("".join(f", {o.name} {o.peak / 1e6:.0f} MB" for o in opponents if isinstance(o, Rheobase) and o.peak))
    if options.json:
        head = {"torch": torch.__version__, "threads": options.threads, "cores": os.cpu_count(), "batch": BATCH}
        Path(options.json).write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
