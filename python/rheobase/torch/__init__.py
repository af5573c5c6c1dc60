"""QCFS networks in PyTorch: the activation, the paper's networks, training, and files that Rheobase reads."""

from .models import ARCHS, build
from .qcfs import QCFS
from .replace import Replaced, ReplaceError, replace_activations
from .save import SaveError, save

__all__ = ["ARCHS", "QCFS", "ReplaceError", "Replaced", "SaveError", "build", "replace_activations", "save"]
