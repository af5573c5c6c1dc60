"""QCFS networks in PyTorch: the activation, the paper's networks, training, and files that Rheobase reads."""

from .models import ARCHS, build
from .qcfs import QCFS

__all__ = ["ARCHS", "QCFS", "build"]
