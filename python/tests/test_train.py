import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import native
import numpy as np
import pytest
import torch

from rheobase.torch import build, train


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """CIFAR-10's files with two kinds of images that a network tells apart within a few steps."""
    folder = tmp_path_factory.mktemp("cifar10")
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 100, (40, 3073), np.uint8)
        records[:, 0] = np.arange(40) % 2
        records[1::2, 1 : 1 + 1024] += 150
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return f"cifar10:{folder}"


def arguments(images, out, *more):
    common = ["--arch", "cnn", "--data", images, "--out", str(out), "--batch-size", "20", "--threads", "1"]
    return [*common, "--device", "cpu", "--threshold", "2", "--epochs", "3", *more]


def test_a_short_run_learns_and_writes_everything(images, tmp_path):
    out = tmp_path / "new" / "m.safetensors"
    assert train.main(arguments(images, out)) == 0
    lines = [json.loads(line) for line in open(f"{out}.metrics.jsonl")]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["best"] == max(line["test_accuracy"] for line in lines) > 0.9
    assert lines[0]["lr"] > lines[1]["lr"] > lines[2]["lr"] > 0
    graph, _ = native.read(out)
    assert graph["name"] == "cnn" and graph["classes"][3] == "cat"
    assert graph["normalisation"]["mean"] == [0.4914, 0.4822, 0.4465]
    assert "--arch cnn" in graph["notes"][0] and "seed 0" in graph["notes"][1]
    trainer = train.Trainer(train.parse(arguments(images, out, "--resume")))
    batch = next(iter(trainer.test.plain(40)))
    right = int((native.run(out, batch[0]).argmax(1) == batch[1]).sum())
    assert f"{right} of 40" in graph["notes"][1]


def test_a_resumed_run_ends_in_the_same_state(images, tmp_path):
    recipe = ["--augment", "auto", "--warm-up", "0.5"]
    assert train.main(arguments(images, tmp_path / "whole", *recipe)) == 0
    for limit in (1, 2):
        options = train.parse(arguments(images, tmp_path / "parts", *recipe, "--resume"))
        trainer = train.Trainer(options)
        trainer.one_epoch, inner = (lambda inner=trainer.one_epoch: stop_after(trainer, limit, inner)), None
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert train.main(arguments(images, tmp_path / "parts", *recipe, "--resume")) == 0
    whole, parts = (torch.load(tmp_path / f"{name}.checkpoint", weights_only=True) for name in ("whole", "parts"))
    assert whole["best"] == parts["best"] and whole["epoch"] == parts["epoch"] == 3
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][name]), name
    tensors = [native.read(tmp_path / name)[1] for name in ("whole", "parts")]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    lines = [json.loads(line) for line in open(tmp_path / "parts.metrics.jsonl")]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def stop_after(trainer, epochs, one_epoch):
    if trainer.epoch >= epochs:
        raise KeyboardInterrupt
    return one_epoch()


def test_from_a_relu_network_with_itself_as_teacher(images, tmp_path, capsys):
    relu = build("cnn", 10, None, shape=(3, 32, 32))
    state = {f"module.{name}": value for name, value in relu.state_dict().items()}
    torch.save({"state_dict": state, "best": 1}, tmp_path / "relu.th")
    more = ["--init", str(tmp_path / "relu.th"), "--teacher", "init", "--calibrate", "99", "--amp", "--epochs", "1"]
    assert train.main(arguments(images, tmp_path / "m", *more)) == 0
    told = capsys.readouterr().err
    assert "λ from the ReLU network:" in told and "teacher: " in told and "at the start: " in told


def test_from_a_qcfs_network_its_thresholds_are_kept(images, tmp_path):
    state = build("cnn", 10, 4, threshold=3.0, shape=(3, 32, 32)).state_dict()
    torch.save({name.replace(".up", ".thresh"): value for name, value in state.items()}, tmp_path / "qcfs.pth")
    trainer = train.Trainer(train.parse(arguments(images, tmp_path / "m", "--init", str(tmp_path / "qcfs.pth"))))
    assert all(torch.equal(value, state[name]) for name, value in trainer.model.state_dict().items())


def test_errors_are_one_line(images, tmp_path, capsys):
    out = tmp_path / "m"
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save(build("cnn", 10, 4, shape=(1, 8, 8)).state_dict(), tmp_path / "grey.pth")
    cases = [
        (["--data", "cifar10:/nowhere"], "/nowhere: there is no data_batch_1.bin"),
        (["--init", "/nowhere.pth"], "/nowhere.pth: No such file"),
        (["--init", str(tmp_path / "text.pth")], "text.pth: not a checkpoint of PyTorch"),
        (["--init", str(tmp_path / "grey.pth")], "conv1.weight is (16, 1, 3, 3), not (16, 3, 3, 3)"),
        (["--init", str(tmp_path / "grey.pth"), "--arch", "resnet20"], "does not fit the network: it lacks"),
        (["--teacher", str(tmp_path / "grey.pth")], "is not a ReLU network"),
        (["--batch-size", "1000"], "--batch-size 1000"),
        (["--mean", "0.5", "--std", "0.5"], "the images have 3 channels, the normalisation 1"),
        (["--lr", "1e30"], "training diverged in epoch 1"),
    ]
    for more, message in cases:
        assert train.main(arguments(images, out, *more)) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert message in told[-1] and told[-1].startswith("error: "), told
    assert not out.exists()


def test_a_checkpoint_of_another_recipe_is_refused(images, tmp_path, capsys):
    out = tmp_path / "m"
    assert train.main(arguments(images, out, "--epochs", "1")) == 0
    assert train.main(arguments(images, out, "--resume")) == 2
    assert "was made with --epochs 1, not 3" in capsys.readouterr().err
    assert train.main(arguments(images, out, "--epochs", "1", "--resume", "--arch", "resnet20")) == 2
    assert "was made with --arch cnn, not resnet20" in capsys.readouterr().err


def test_two_processes_train_one_network(images, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command += ["-m", "rheobase.torch.train", *arguments(images, out)]
    python = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": python, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in open(f"{out}.metrics.jsonl")]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[-1]["best"] > 0.9
    assert native.read(out)[0]["name"] == "cnn"


def test_image_folders(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (260, 256), colour).save(tmp_path / "data" / part / name / f"{i}.png")
    more = ["--data", f"imagefolder:{tmp_path / 'data'}", "--batch-size", "2", "--epochs", "1", "--workers", "0"]
    assert train.main(arguments("", tmp_path / "m", *more)) == 0
    graph, _ = native.read(tmp_path / "m")
    assert graph["classes"] == ["blue", "red"] and graph["nodes"][0]["op"]["shape"] == [3, 224, 224]
