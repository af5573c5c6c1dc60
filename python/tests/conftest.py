"""What every test needs: one thread, a seed, the `rheobase` binary where there is one."""

import os
import shutil
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def quiet():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def binary():
    """The program: $RHEOBASE, the PATH's, or the one that cargo built here."""
    built = Path(__file__).resolve().parents[2] / "target" / "release" / "rheobase"
    found = os.environ.get("RHEOBASE") or shutil.which("rheobase") or (str(built) if built.exists() else None)
    if not found:
        pytest.skip("there is no rheobase binary: set RHEOBASE, or build with `cargo build --release`")
    return found
