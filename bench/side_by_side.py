"""Images per second beside other engines: one command, one run, turns interleaved, answers checked first.

    python bench/side_by_side.py --snn resnet20-qcfs.onnx --ann resnet20-relu.onnx --data cifar10:DIR
                                 [--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225] [--rheobase target/release/rheobase]
                                 [--steps 1,2,4,8] [--batches 1,100] [--threads 1,2] [--precisions int32,int16,int8]
                                 [--rounds 5] [--seconds 2] [--only torch,ort,rheobase] [--quick] [--json FILE]

`--snn` is the network that spikes (anything `rheobase import` reads, a state dict with `--arch`), `--ann` its source or
ReLU twin as ONNX. bench/README.md says who the opponents are and with which settings they run.

For each batch size and number of threads every opponent prepares in a process of its own (imports, compilation and the
choice of its fastest setting are not timed) and classifies the first `--check` images; then, each round, each opponent
has one turn of `--seconds`, the order rotated from round to round. Only the process whose turn it is runs at all, the
others are stopped. Printed: the median of images/s over the rounds, least and most, and the ratio to ONNX Runtime's f32
in the same round.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from opponents import OPPONENTS, Rheobase, cpu_flags  # noqa: E402

BASE = "ort-f32"


class Worker:
    """One opponent's process: stopped but for its own turns."""

    def __init__(self, job):
        environment = dict(os.environ, OMP_NUM_THREADS=str(job["threads"]), MKL_NUM_THREADS=str(job["threads"]))
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = [sys.executable, str(HERE / "opponents.py")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.name, self.steps = job["name"], job["steps"]
        self.first = self.ask(job)

    def ask(self, request):
        self.process.send_signal(signal.SIGCONT)
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"skip": f"its process ended with {self.process.wait()}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def end(self):
        self.process.kill()
        self.process.wait()


# -- images


def folder_images(folder, split, count, side):
    """Images and labels of an image folder as `rheobase eval` reads it: short side to side·256/224, centre cut out."""
    from PIL import Image

    subfolders = {"train": ["train"], "test": ["test", "val"]}[split]
    found = [folder / s for s in subfolders if (folder / s).is_dir()]
    if not found and any((folder / s).is_dir() for s in ("train", "test", "val")):
        return None
    root = found[0] if found else folder
    classes = sorted(p for p in root.iterdir() if p.is_dir())
    files = [(f, label) for label, c in enumerate(classes) for f in sorted(c.rglob("*"))]
    files = [(f, label) for f, label in files if f.suffix.lower() in SUFFIXES]
    if split == "train" and not found:
        # One folder for both: images to quantise with are taken from its end, the ones judged from its start.
        files = files[::-1]
    short, pixels = side * 256 // 224, []
    for file, _ in files[:count]:
        image = Image.open(file).convert("RGB")
        scale = short / min(image.size)
        image = image.resize([max(short, int(s * scale)) for s in image.size], Image.Resampling.BILINEAR)
        left, top = ((s - side) // 2 for s in image.size)
        pixels.append(np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1))
    return np.stack(pixels), np.array([label for _, label in files[:count]]), len(files)


SUFFIXES = {".jpg", ".jpeg", ".png"}


def load(spec, check, train, side):
    """Pixels and labels to judge by, pixels to quantise with, how many images there are, mean and std."""
    kind, _, folder = spec.partition(":")
    if kind == "imagefolder":
        test = folder_images(Path(folder).expanduser(), "test", check, side)
        calibration = folder_images(Path(folder).expanduser(), "train", train, side)
        if test is None or calibration is None:
            raise SystemExit(f"{spec}: train and test (or val) are needed, or neither")
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        return test[0], test[1], calibration[0], test[2], mean, std
    # In a process of its own: PyTorch's threads stay out of this one.
    code = f"""
import numpy as np, sys
sys.path.insert(0, {str(HERE.parent / "python")!r})
from rheobase.torch.data import load
d = load({spec!r})
np.savez(sys.argv[1], images=d.test.images[:{check}], labels=d.test.labels[:{check}], count=len(d.test),
         train=d.train.images[:{train}], mean=d.mean, std=d.std)
"""
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/images.npz"
        if subprocess.run([sys.executable, "-c", code, path]).returncode:
            raise SystemExit(f"{spec}: cannot be read")
        data = np.load(path)
        pixels = (data[k] for k in ("images", "labels", "train"))
        return (*pixels, int(data["count"]), list(data["mean"]), list(data["std"]))


def normalised(pixels, mean, std):
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (mean, std))
    return ((pixels.astype(np.float32) / 255 - mean) / std).astype(np.float32)


# -- what is compared


def numbers(text):
    return [int(x) for x in text.split(",")]


def floats(text):
    return [float(x) for x in text.split(",")]


def words(text):
    return [w for w in text.split(",") if w]


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snn", help="the spiking network: native file, ONNX, or state dict with --arch")
    parser.add_argument("--arch", help="architecture of a state dict")
    parser.add_argument("--levels", type=int, default=4, help="levels of a state dict's QCFS activations")
    parser.add_argument("--ann", help="the source network or its ReLU twin, ONNX")
    parser.add_argument("--data", required=True, help="KIND:DIR as `rheobase eval` takes it")
    parser.add_argument("--mean", type=floats, help="mean per channel [default: the data set's]")
    parser.add_argument("--std", type=floats, help="standard deviation per channel")
    parser.add_argument("--rheobase", default="target/release/rheobase", help="our program")
    parser.add_argument("--steps", type=numbers, default=[1, 2, 4, 8], help="T of the spiking opponents")
    parser.add_argument("--presim", type=int, default=4, help="rho")
    parser.add_argument("--batches", type=numbers, default=[1, 100])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--precisions", type=words, default=["int32", "int16", "int8"], help="of ours")
    parser.add_argument("--compile-modes", type=words, default=["freezing", "neurons"], help="torch.compile's to try")
    parser.add_argument("--pieces", type=numbers, default=[10], help="PyTorch also tries so many images at once")
    parser.add_argument("--check", type=int, default=500, help="images that are classified first")
    parser.add_argument("--train", type=int, default=256, help="training images to quantise with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--tune", type=float, default=1.0, help="seconds for each way an opponent tries")
    parser.add_argument("--only", type=words, help="opponents whose names start so")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s, T 1 and 4, batch 100, 100 images")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.tune, options.check = 1, 1.0, 0.3, min(options.check, 100)
        options.steps, options.batches, options.threads = [1, 4], [100], options.threads[-1:]
        options.compile_modes = options.compile_modes[-1:]
    if not (options.snn or options.ann):
        parser.error("--snn, --ann or both")
    return options


def selected(options):
    """Opponents for which there is a network."""
    ours = [f"rheobase-{p}" for p in options.precisions]
    names = [n for n in OPPONENTS if not n.startswith("rheobase-")] + ours
    if options.only:
        names = [n for n in names if any(n.startswith(o) for o in options.only)]
    return [n for n in names if (options.snn if spiking(n) else options.ann)]


def spiking(name):
    return OPPONENTS.get(name, Rheobase).spiking


def imported(options, scratch):
    """The spiking network as a file of our own, which PyTorch's opponents read too."""
    path = scratch / "network.safetensors"
    command = [options.rheobase, "import", options.snn, "--out", str(path)]
    if options.arch:
        command += ["--arch", options.arch, "--levels", str(options.levels)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return path


def normalisation_of(path):
    """Mean and std in a file of our own; None where it has none."""
    with open(path, "rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(head["__metadata__"]["rheobase"])["normalisation"]


def ann_input(path):
    """Name, height and the name of the batch dimension (None where it is fixed) of an ONNX network's input."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {w.name for w in graph.initializer}
    image = next(i for i in graph.input if i.name not in weights)
    dims = image.type.tensor_type.shape.dim
    return image.name, dims[2].dim_value, dims[0].dim_param or None


def reference(job, options, method):
    """Right after each step by our program in int32: what spiking opponents are judged by."""
    command = [options.rheobase, "eval", job["snn"], *job["options"], "--method", method, "--steps", max(options.steps)]
    command += ["--presim", options.presim] if method == "cos" else []
    command += ["--limit", options.check, "--no-ann", "--json", "-"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["snn"]["correct"]


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    vectors = ("avx", "amx", "fma", "sse4", "asimd", "sve", "i8mm", "bf16")
    flags = sorted(f for f in cpu_flags() if f.startswith(vectors))
    system = {"system": platform.platform(), "python": platform.python_version()}
    return {"cpu": model, "cores": os.cpu_count(), "flags": flags, **system}


# -- the run


def table(options, job, names, expected, batch, threads, skipped):
    """Prepares, checks and times all opponents at one batch size and number of threads."""
    workers, rows = [], []
    try:
        for name in names:
            if name in skipped:
                continue
            begun = time.perf_counter()
            steps = options.steps if spiking(name) else [0]
            worker = Worker({**job, "name": name, "batch": batch, "threads": threads, "steps": steps})
            workers.append(worker)
            if "skip" in worker.first:
                skipped[name] = worker.first["skip"]
                print(f"{name}: skipped: {skipped[name]}", flush=True)
                continue
            ready = worker.first["ready"]
            for t in steps:
                found = worker.ask({"do": "check", "steps": t})
                row = {"name": name, "steps": t or None, **found, "versions": ready["versions"], "worker": worker}
                row |= {"way": ready["chosen"].get(str(t), ""), "tried": ready["tried"].get(str(t), {}), "turns": []}
                row |= {"kernel": ready["kernel"]} if "kernel" in ready else {}
                rows.append(row)
                judge(row, expected)
            own = [row for row in rows if row["worker"] is worker]
            shown = ", ".join(f"T={r['steps']}: {r['right']}" if r["steps"] else str(r["right"]) for r in own)
            took = f"ready after {time.perf_counter() - begun:.0f} s"
            print(f"{name}: right of {options.check}: {shown} ({took})", flush=True)
        turns(options, rows, skipped)
    finally:
        for worker in workers:
            worker.end()
    rows = [row for row in rows if len(row["turns"]) == options.rounds]
    for row in rows:
        del row["worker"]
    return rows


def turns(options, rows, skipped):
    """Every round each row once; the first one moves on from round to round."""
    for number in range(options.rounds):
        first = number * max(1, len(rows) // max(1, options.rounds))
        for row in rows[first:] + rows[:first]:
            if row["worker"].process.returncode is not None:
                continue
            done = row["worker"].ask({"do": "run", "steps": row["steps"] or 0, "seconds": options.seconds})
            if "skip" in done:
                skipped[row["name"]] = done["skip"]
                print(f"{row['name']}: {done['skip']}", flush=True)
            else:
                row["turns"].append({"rate": done["images"] / done["seconds"], **done})


def judge(row, expected):
    """Right answers may differ by roundings; more is said aloud and marked in the table."""
    kind = "ann" if row["steps"] is None else "qcfs" if row["name"] == "spikingjelly" else "cos"
    if kind == "ann" and row["name"] == BASE:
        expected["ann"] = row["right"]
    want = expected.get(kind)
    want = want[row["steps"] - 1] if isinstance(want, list) else want
    row["expected"] = want
    row["agrees"] = want is None or abs(row["right"] - want) <= 2 + 0.02 * row["images"]
    if not row["agrees"]:
        print(f"WARNING: {row['name']}: {row['right']} of {row['images']} right, {want} expected", flush=True)


def spread(values, form):
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({least:{form}}..{most:{form}})"


def finish(rows):
    """Medians, spreads and ratios to the base in the same round."""
    base = next((r for r in rows if r["name"] == BASE), None)
    for row in rows:
        rates = [t["rate"] for t in row["turns"]]
        row["median"], row["least"], row["most"] = statistics.median(rates), min(rates), max(rates)
        if base:
            row["ratios"] = [mine["rate"] / theirs["rate"] for mine, theirs in zip(row["turns"], base["turns"])]
            row["ratio"] = statistics.median(row["ratios"])


def show(options, rows, batch, threads):
    print(f"\nbatch {batch}, {threads} thread{'s' * (threads > 1)}:", end=" ")
    print(f"images/s, median (least..most) of {options.rounds} rounds\n")
    print(f"| opponent | T | right of {options.check} | images/s | over {BASE} | cores used | way |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = spread(row["ratios"], ".2f") if "ratios" in row else ""
        rate = spread([t["rate"] for t in row["turns"]], ",.0f")
        used = [t["cores"] for t in row["turns"] if t["cores"] is not None]
        used = f"{statistics.median(used):.2f}" if used else ""
        right = f"{row['right']}{'' if row['agrees'] else ' (!)'}"
        print(f"| {row['name']} | {row['steps'] or ''} | {right} | {rate} | {ratio} | {used} | {row['way']} |")
    print(flush=True)


def main():
    # An end from outside ends the workers too, which else would wait stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = parsed()
    names = selected(options)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        job = {name: getattr(options, name) for name in ("presim", "compile_modes", "tune", "pieces")}
        job["scratch"] = str(scratch)
        side, expected, skipped = 224, {}, {}
        if options.ann:
            job["ann"] = options.ann
            job["input"], side, job["free"] = ann_input(options.ann)
        images, labels, train, most, mean, std = load(options.data, options.check, options.train, side)
        options.check = len(images)
        if options.snn:
            job["snn"] = str(imported(options, scratch))
            own = normalisation_of(job["snn"])
            mean, std = (own["mean"], own["std"]) if own else (mean, std)
        mean, std = options.mean or mean, options.std or std
        for name, pixels in (("images", images), ("train", train)):
            job[name] = str(scratch / f"{name}.npy")
            np.save(job[name], normalised(pixels, mean, std))
        job["labels"] = str(scratch / "labels.npy")
        np.save(job["labels"], labels)
        comma = [",".join(f"{float(x):.9g}" for x in v) for v in (mean, std)]
        job |= {"binary": options.rheobase, "most": most}
        job["options"] = ["--data", options.data, "--mean", comma[0], "--std", comma[1]]
        if options.snn:
            expected = {method: reference(job, options, method) for method in ("cos", "qcfs")}
            for method, right in expected.items():
                print(f"expected of {options.check} by `rheobase eval --method {method}`, T = 1..{len(right)}: {right}")
        tables = []
        for threads in options.threads:
            for batch in options.batches:
                rows = table(options, job, names, expected, batch, threads, skipped)
                finish(rows)
                show(options, rows, batch, threads)
                tables.append({"batch": batch, "threads": threads, "rows": rows})
                if options.json:
                    write(options, tables, expected, skipped)
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")


def write(options, tables, expected, skipped):
    """After every table, so that a long run that is cut off leaves what it has."""
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "rheobase")}
    settings |= {k: Path(settings[k]).name for k in ("snn", "ann") if settings[k]}
    settings["data"] = options.data.split(":")[0]
    result = {"machine": machine(), "settings": settings, "expected": expected, "skipped": skipped, "tables": tables}
    options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
