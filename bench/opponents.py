"""The opponents of bench/side_by_side.py, each run in a process of its own, so that each has its threads for itself.

In: a job as the first line on standard input, then one request a line. Out: one answer a line, JSON both ways:

    {"name": "ort-f32", "threads": 2, "batch": 100, "steps": [0], ...}  -> {"ready": {...}} or {"skip": "why"}
    {"do": "check", "steps": 4}                                        -> {"right": 425, "images": 500}
    {"do": "run", "steps": 4, "seconds": 2}                           -> {"images": 700, "seconds": 2.03, "cores": 1.98}

An opponent offers several ways to run a network (`ways`). Each is timed before the first turn and the fastest takes the
turns: nobody is judged by a setting that is not its best on this machine.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np


class Skip(Exception):
    """This machine, or this network, has no such opponent."""


def package(name):
    """The version of a package; Skip where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Skip(f"`{name}` is not installed") from None


def cpu_flags():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


# -- ways to run a network: `run(numbers, sink)` takes numbers of batches and calls `sink(number, logits)` for each


class InTurn:
    """One batch after the other."""

    def __init__(self, batches, call):
        self.batches, self.call = batches, call

    def run(self, numbers, sink):
        for number in numbers:
            sink(number, self.call(self.batches[number]))


class SideBySide:
    """Several callers with a thread each."""

    def __init__(self, batches, calls):
        self.batches, self.calls = batches, calls

    def run(self, numbers, sink):
        lock, numbers, errors = threading.Lock(), iter(numbers), []

        def work(call):
            try:
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    logits = call(self.batches[number])
                    with lock:
                        sink(number, logits)
            except Exception as error:
                errors.append(error)

        callers = [threading.Thread(target=work, args=(call,)) for call in self.calls]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        if errors:
            raise errors[0]


class Requests:
    """OpenVINO's queue of requests under way."""

    def __init__(self, batches, compiled, requests):
        import openvino

        self.batches, self.queue = batches, openvino.AsyncInferQueue(compiled, requests)

    def run(self, numbers, sink):
        self.queue.set_callback(lambda request, number: sink(number, request.get_output_tensor(0).data))
        for number in numbers:
            self.queue.start_async(self.batches[number], number, share_inputs=True)
        self.queue.wait_all()


# -- opponents


class Opponent:
    """`ways(steps)` gives (label, function that makes the way); what it cannot do it refuses by Skip."""

    spiking = False
    #: Whether trying a way costs so much that the first T decides for all.
    slow = False

    def __init__(self, job):
        self.job, self.threads, self.batch = job, job["threads"], job["batch"]
        self.images = np.load(job["images"])
        self.labels = np.load(job["labels"])[: len(self.images)]
        # All batches have one size: the last is filled up, its surplus not counted.
        missing = -len(self.images) % self.batch
        filled = np.concatenate([self.images, np.repeat(self.images[:1], missing, 0)])
        self.batches = [np.ascontiguousarray(b) for b in np.split(filled, len(filled) // self.batch)]
        self.chosen, self.tried = {}, {}

    def prepare(self):
        """Times every way for every T and keeps the fastest."""
        for steps in self.job["steps"]:
            best, tried = None, {}
            decided = next(iter(self.chosen.values()), None) if self.slow else None
            for label, make in self.ways(steps):
                if decided and label != decided[0]:
                    continue
                try:
                    way = make()
                    self.timed(way, 0)
                    self.timed(way, 0)
                    images, seconds, _ = self.timed(way, self.job["tune"])
                    tried[label] = images / seconds
                except Skip:
                    raise
                except Exception as error:
                    tried[label] = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
                    print(f"{self.job['name']}: {label}: {tried[label]}", file=sys.stderr)
                    continue
                if best is None or tried[label] > best[0]:
                    best = (tried[label], label, way)
                del way
            if best is None:
                why = "; ".join(f"{label} {what}" for label, what in tried.items())
                raise Skip(why or "no way to run it was asked for")
            self.chosen[steps] = best[1:]
            self.tried[steps] = tried
        return {
            "versions": self.versions(),
            "chosen": {s: label for s, (label, _) in self.chosen.items()},
            "tried": self.tried,
        }

    def timed(self, way, seconds):
        """Images, seconds and cores used over whole batches until the time is up; at least one for each thread."""
        count, least = 0, self.threads

        def numbers():
            nonlocal count
            end = time.perf_counter() + seconds
            while count < least or time.perf_counter() < end:
                count += 1
                yield (count - 1) % len(self.batches)

        start, before = time.perf_counter(), time.process_time()
        way.run(numbers(), lambda number, logits: None)
        spent = time.perf_counter() - start
        return count * self.batch, spent, (time.process_time() - before) / spent

    def run(self, steps, seconds):
        images, spent, cores = self.timed(self.chosen[steps][1], seconds)
        return {"images": images, "seconds": spent, "cores": cores}

    def check(self, steps):
        """Images that get their label."""
        classes = np.zeros(len(self.batches) * self.batch, np.int64)

        def sink(number, logits):
            classes[number * self.batch : (number + 1) * self.batch] = np.asarray(logits).argmax(1)

        self.chosen[steps][1].run(range(len(self.batches)), sink)
        return {"right": int((classes[: len(self.labels)] == self.labels).sum()), "images": len(self.labels)}


class Torch(Opponent):
    """COS in PyTorch (spiking_torch.py), eager: with channels innermost and outermost."""

    spiking, how = True, "eager"

    def __init__(self, job):
        super().__init__(job)
        package("torch"), package("safetensors")
        import spiking_torch
        import torch

        self.torch, self.spiking_torch = torch, spiking_torch
        torch._dynamo.config.recompile_limit = 64
        torch.set_num_threads(self.threads)
        torch.set_num_interop_threads(1)

    def versions(self):
        return {"torch": self.torch.__version__}

    def network(self, steps, how, order):
        try:
            made = self.spiking_torch.network(self.job["snn"], steps, self.job["presim"], how)
        except self.spiking_torch.Unsupported as error:
            raise Skip(f"the network is not for PyTorch: {error}") from None
        return made.to(memory_format=order)

    def way(self, steps, order, piece, wrap=lambda net: net):
        """`piece`: images that go through the network at once; fewer than the batch stay in the caches."""
        network = wrap(self.network(steps, self.how, order))
        batches = [self.torch.from_numpy(b).contiguous(memory_format=order) for b in self.batches]

        def call(images):
            with self.torch.inference_mode():
                if piece == len(images):
                    return network(images).numpy()
                return self.torch.cat([network(part) for part in images.split(piece)]).numpy()

        return InTurn(batches, call)

    def pieces(self):
        return [p for p in self.job["pieces"] if p < self.batch and self.batch % p == 0] + [self.batch]

    def ways(self, steps):
        for order in ("channels_last", "contiguous_format"):
            for piece in self.pieces():
                yield f"{order}, {piece} at once", partial(self.way, steps, getattr(self.torch, order), piece)


class TorchCompile(Torch):
    """The same, compiled: as a whole, or (mode `neurons`) the neurons alone between PyTorch's own convolutions."""

    how, slow = "compile", True
    #: Options of torch.compile by the names that `--compile-modes` takes.
    MODES = {
        "default": {},
        "freezing": {"freezing": True},
        "freezing-cpp": {"freezing": True, "cpp_wrapper": True},
        "max-autotune": {"freezing": True, "max_autotune": True},
        "neurons": None,
    }

    def ways(self, steps):
        for mode in self.job["compile_modes"]:
            for piece in self.pieces():
                wrap = partial(self.compiled, mode)
                yield f"{mode}, {piece} at once", partial(self.way, steps, self.torch.channels_last, piece, wrap)

    def compiled(self, mode, network):
        options = self.MODES[mode]
        if options is not None:
            return self.torch.compile(network, dynamic=False, options=options)
        rule = self.torch.compile(self.spiking_torch.cos, dynamic=False)
        for module in network.modules():
            if isinstance(module, self.spiking_torch.Cos):
                # A number would be compiled in, one kernel a layer.
                module.rule, module.theta = rule, self.torch.tensor(module.theta)
        return network


class SpikingJelly(Torch):
    """SpikingJelly's neurons in multi-step mode on the same network, eager and compiled; no calibration."""

    how = "spikingjelly"

    def __init__(self, job):
        self.version = package("spikingjelly")
        super().__init__(job)

    def versions(self):
        return {"spikingjelly": self.version, "torch": self.torch.__version__}

    def ways(self, steps):
        yield from super().ways(steps)
        for piece in self.pieces() if self.job["compile_modes"] else []:
            wrap = partial(self.torch.compile, dynamic=False, options={"freezing": True})
            yield f"compiled, {piece} at once", partial(self.way, steps, self.torch.channels_last, piece, wrap)


class Onnx(Opponent):
    """ONNX Runtime on the source network: one session with all threads, and a session of one thread for each."""

    def __init__(self, job):
        super().__init__(job)
        self.version = package("onnxruntime")
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        self.ort, self.model = onnxruntime, job["ann"]

    def versions(self):
        return {"onnxruntime": self.version}

    def session(self, threads):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = self.ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        if self.job["free"]:
            options.add_free_dimension_override_by_name(self.job["free"], self.batch)
        made = self.ort.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])
        name, outputs = made.get_inputs()[0].name, [made.get_outputs()[0].name]
        return lambda images: made.run(outputs, {name: images})[0]

    def ways(self, steps):
        yield "one session", lambda: InTurn(self.batches, self.session(self.threads))
        if self.threads > 1:
            yield "a session a thread", lambda: SideBySide(self.batches, [self.session(1) for _ in range(self.threads)])


class OnnxInt8(Onnx):
    """The network quantised by ONNX Runtime itself: QDQ, weights signed per channel, calibrated on training images."""

    def __init__(self, job):
        super().__init__(job)
        self.model = quantised(job)


def quantised(job):
    """The file of ONNX Runtime's quantised network, made once for all workers."""
    path = Path(job["scratch"]) / "int8.onnx"
    if path.exists():
        return path
    package("onnx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    train = np.load(job["train"])

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(np.split(train, range(32, len(train), 32)))

        def get_next(self):
            images = next(self.rest, None)
            return None if images is None else {job["input"]: images}

    # Without dot products of bytes (VNNI) a sum of two u8·s8 products can saturate: weights then get 7 bits.
    dots = {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags()
    with tempfile.TemporaryDirectory(dir=job["scratch"]) as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(job["ann"], str(ready))
        quantize_static(
            str(ready),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not dots,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        made.replace(path)
    return path


class OpenVino(Opponent):
    """OpenVINO on the source network: throughput hint with a stream for each thread, and latency hint."""

    precision, capability = "f32", "FP32"

    def __init__(self, job):
        super().__init__(job)
        self.version = package("openvino")
        import openvino

        self.core = openvino.Core()
        if self.capability not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Skip(f"OpenVINO says that this CPU has no {self.capability}")
        self.model = self.read()
        self.model.reshape([self.batch, *self.images.shape[1:]])

    def read(self):
        return self.core.read_model(self.job["ann"])

    def versions(self):
        return {"openvino": self.version}

    def way(self, hint, streams, requests):
        options = {
            "PERFORMANCE_HINT": hint,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        return Requests(self.batches, self.core.compile_model(self.model, "CPU", options), requests)

    def ways(self, steps):
        for requests in (self.threads, 2 * self.threads):
            label = f"throughput, streams {self.threads}, requests {requests}"
            yield label, partial(self.way, "THROUGHPUT", self.threads, requests)
        yield "latency, stream 1, request 1", partial(self.way, "LATENCY", 1, 1)


class OpenVinoBf16(OpenVino):
    precision, capability = "bf16", "BF16"


class OpenVinoInt8(OpenVino):
    """Quantised by NNCF where it is installed, else ONNX Runtime's quantised network."""

    capability = "INT8"

    def read(self):
        self.by = "NNCF"
        try:
            self.nncf = package("nncf")
        except Skip:
            package("onnxruntime")
            self.by, self.nncf = "ONNX Runtime", None
            return self.core.read_model(quantised(self.job))
        path = Path(self.job["scratch"]) / "nncf.xml"
        if not path.exists():
            import nncf
            import openvino

            train = np.load(self.job["train"])
            data = nncf.Dataset([train[i : i + 1] for i in range(len(train))])
            model = nncf.quantize(super().read(), data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(train))
            openvino.save_model(model, path, compress_to_fp16=False)
        return self.core.read_model(path)

    def versions(self):
        return {"openvino": self.version, "quantised by": self.by} | ({"nncf": self.nncf} if self.nncf else {})


class Rheobase(Opponent):
    """Our program; its own figure for the passes alone, without start, reading and loading."""

    spiking = True

    def __init__(self, job):
        super().__init__(job)
        self.precision, self.rate = job["name"].removeprefix("rheobase-"), {}
        self.binary, self.engines = job["binary"], 1
        self.sharing = {"one engine": 1}
        if self.batch < self.threads:
            self.sharing = {"all threads on an image": 1, "an engine a thread": self.threads}

    def evaluate(self, steps, images, engines=1):
        """So many engines side by side, each with its share of threads and images."""
        images = -(-images // engines)
        command = [self.binary, "eval", self.job["snn"], *self.job["options"], "--method", "cos"]
        command += ["--presim", self.job["presim"], "--steps", steps, "--precision", self.precision]
        command += ["--batch", self.batch, "--threads", self.threads // engines, "--limit", images, "--no-ann", "--json"]
        paths = [Path(self.job["scratch"]) / f"{self.job['name']}-{i}.json" for i in range(engines)]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        running = [subprocess.Popen([str(c) for c in [*command, path]], **pipes) for path in paths]
        errors = [process.communicate()[1] for process in running]
        for process, error in zip(running, errors):
            if process.returncode:
                lines = [line for line in error.splitlines() if line.startswith("error")]
                raise Skip(lines[0] if lines else f"exit code {process.returncode}")
        done = [json.loads(path.read_text()) for path in paths]
        seconds = max(d["snn"]["seconds"] for d in done)
        return done[0] | {"images": images * engines, "seconds": seconds}

    def prepare(self):
        done = self.evaluate(1, min(self.batch, 10))
        version = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        self.counts = {steps: self.evaluate(steps, len(self.images)) for steps in self.job["steps"]}
        tried = {}
        for way, engines in self.sharing.items():
            spent = [
                self.counts[steps] if engines == 1 else self.evaluate(steps, len(self.images), engines)
                for steps in self.job["steps"]
            ]
            tried[way] = sum(d["images"] for d in spent) / sum(d["seconds"] for d in spent)
        way = max(tried, key=tried.get)
        self.engines = self.sharing[way]
        versions = {"rheobase": version.stdout.split()[-1]}
        chosen, tried = ({steps: x for steps in self.job["steps"]} for x in (way, tried))
        return {"versions": versions, "chosen": chosen, "tried": tried, "kernel": done["kernel"]}

    def check(self, steps):
        found = self.counts[steps]
        self.rate[steps] = found["images"] / found["seconds"]
        return {"right": found["snn"]["correct"][steps - 1], "images": len(self.images)}

    def run(self, steps, seconds):
        images = spent = 0
        while images == 0 or spent < 0.8 * seconds:
            wanted = max(1, round(self.rate[steps] * (seconds - spent) / self.batch)) * self.batch
            done = self.evaluate(steps, min(wanted, self.engines * self.job["most"]), self.engines)
            images += done["images"]
            spent += done["seconds"]
            self.rate[steps] = done["images"] / done["seconds"]
        return {"images": images, "seconds": spent, "cores": None}


OPPONENTS = {
    "torch": Torch,
    "torch-compile": TorchCompile,
    "spikingjelly": SpikingJelly,
    "ort-f32": Onnx,
    "ort-int8": OnnxInt8,
    "openvino-f32": OpenVino,
    "openvino-bf16": OpenVinoBf16,
    "openvino-int8": OpenVinoInt8,
    "rheobase-int32": Rheobase,
    "rheobase-int16": Rheobase,
    "rheobase-int8": Rheobase,
}


def main():
    # Libraries write where they like: answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    try:
        opponent = OPPONENTS[job["name"]](job)
        answer({"ready": opponent.prepare()})
    except Skip as why:
        return answer({"skip": str(why)})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "check":
            answer(opponent.check(request["steps"]))
        else:
            answer(opponent.run(request["steps"], request["seconds"]))


if __name__ == "__main__":
    main()
