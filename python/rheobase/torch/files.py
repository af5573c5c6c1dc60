"""State dicts in, files out.

In: checkpoints of other projects, modules. Out: modules with their parameters, files that appear whole or not at all.
"""

import os
import tempfile
from pathlib import Path

import torch


class FileError(ValueError):
    """A file that does not hold what was asked of it."""


def state_dict(path):
    """The state dict in a checkpoint, without prefixes of wrappers."""
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        found = load_file(path)
    else:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:
            raise FileError(f"{path}: not a checkpoint of PyTorch ({str(error).splitlines()[0]})") from None
    for key in ("state_dict", "model", "net"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise FileError(f"{path}: no state dict in this checkpoint")
    for prefix in ("module.", "_orig_mod."):
        if found and all(name.startswith(prefix) for name in found):
            found = {name[len(prefix) :]: value for name, value in found.items()}
    return {name[:-7] + ".up" if name.endswith(".thresh") else name: value for name, value in found.items()}


def fill(model, state, path, thresholds=False):
    """Loads a state dict by name; λ only where `thresholds`. Raises FileError, naming what does not fit."""
    own = model.state_dict()
    wanted = {n for n in own if not n.endswith(".num_batches_tracked") and (thresholds or not n.endswith(".up"))}
    given = {n: v for n, v in state.items() if not n.endswith(".num_batches_tracked")}
    if not thresholds:
        given = {n: v for n, v in given.items() if not n.endswith(".up")}
    problems = [f"lacks {name}" for name in sorted(wanted - given.keys())]
    problems += [f"has {name}, which the network has not" for name in sorted(given.keys() - wanted)]
    for name in sorted(wanted & given.keys()):
        shape = given[name].reshape(1).shape if name.endswith(".up") and given[name].dim() == 0 else given[name].shape
        if shape != own[name].shape:
            problems.append(f"{name} is {tuple(shape)}, not {tuple(own[name].shape)}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise FileError(f"{path} does not fit the network: it " + "; ".join(problems[:3]) + more)
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(given[name].reshape(own[name].shape))


def write_atomically(path, write):
    """Calls `write` with an open file that becomes `path` when all is on the disk; a failure leaves `path` alone."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

