import struct

import numpy as np
import pytest
import torch
from PIL import Image

from rheobase.torch import data


def cifar10(folder, n=20):
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (n, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def test_cifar10_and_its_subfolder(tmp_path):
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    cifar10(inner)
    found = data.load(f"cifar10:{tmp_path}")
    assert found.train.images.shape == (100, 3, 32, 32) and found.test.images.shape == (20, 3, 32, 32)
    record = np.frombuffer((inner / "test_batch.bin").read_bytes(), np.uint8)[3073 : 2 * 3073]
    assert found.test.labels[1] == record[0]
    assert found.test.images[1, 2, 5, 7] == record[1 + 2 * 1024 + 5 * 32 + 7]
    assert found.classes[3] == "cat"


def test_cifar100_takes_the_fine_label(tmp_path):
    records = np.zeros((3, 3074), np.uint8)
    records[:, 1] = [7, 99, 0]
    for name in ("train", "test"):
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    found = data.load(f"cifar100:{tmp_path}")
    assert found.test.labels.tolist() == [7, 99, 0] and len(found.classes) == 100


def test_idx(tmp_path):
    for part, n in (("train", 4), ("t10k", 2)):
        pixels = np.arange(n * 6, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", n, 2, 3) + pixels.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", n) + bytes(range(n)))
    found = data.load(f"mnist:{tmp_path}")
    assert found.train.images.shape == (4, 1, 2, 3) and found.test.labels.tolist() == [0, 1]
    assert found.classes == ["0", "1", "2", "3"]


def test_image_folders(tmp_path):
    for part in ("train", "val"):
        for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (300, 280), colour).save(tmp_path / part / name / "1.png")
    found = data.load(f"imagefolder:{tmp_path}")
    assert found.classes == ["blue", "red"] and found.test.labels.tolist() == [0, 1]
    image, label = found.test.files[1]
    assert image.shape == (3, 256, 256) and image.dtype == torch.uint8 and label == 1
    assert image[:, 9, 9].tolist() == [255, 0, 0]


def test_what_is_missing_or_damaged_is_named(tmp_path):
    for spec, message in [
        ("cifar11:x", "KIND of cifar10"),
        ("cifar10", "expected KIND:DIR"),
        (f"cifar10:{tmp_path}", "there is no data_batch_1.bin here"),
        (f"mnist:{tmp_path}", "train-images-idx3-ubyte or train-images.idx3-ubyte"),
        (f"imagefolder:{tmp_path}", "expected the folders train"),
    ]:
        with pytest.raises(data.DataError, match=message):
            data.load(spec)
    cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(b"1234")
    with pytest.raises(data.DataError, match="data_batch_2.bin: 4 bytes"):
        data.load(f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_2.bin").write_bytes(b"\xff" * 3073)
    with pytest.raises(data.DataError, match="label 255 of 10"):
        data.load(f"cifar10:{tmp_path}")
