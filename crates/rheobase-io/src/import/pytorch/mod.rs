//! State dicts of zoo networks, from PyTorch's pickles or from safetensors.
//! In: a file, the network's name, the number of classes. Out: a checked network; a key that is missing, unexpected
//! or misshapen is an error. Pickles are parsed, never executed.
//!
//! A checkpoint may say more than weights: beside the state dict, `levels` (an integer) is L, `classes` (a list of
//! names) the class names, `mean` and `std` (lists, pixels in [0, 1]) the normalisation.

mod dict;
mod fit;
#[cfg(feature = "pytorch")]
mod pickle;
mod plain;

use super::Options;
use rheobase_core::{Network, Result};
use std::path::Path;

/// Reads a state dict from a `.pth`, `.pt` or `.th` file: zip or legacy layout, with or without a checkpoint around
/// it, with or without `module.` before its keys.
#[cfg(feature = "pytorch")]
pub fn read(path: impl AsRef<Path>, options: &Options) -> Result<Network> {
    let path = path.as_ref();
    pickle::open(path).and_then(|mut dict| fit::network(&mut dict, options)).map_err(|e| e.file(path))
}

/// Reads a state dict from a safetensors file.
pub fn read_safetensors(path: impl AsRef<Path>, options: &Options) -> Result<Network> {
    let path = path.as_ref();
    plain::open(path).and_then(|mut dict| fit::network(&mut dict, options)).map_err(|e| e.file(path))
}

/// Whether a file that begins with these bytes looks like one of `torch.save`.
pub(crate) fn recognises(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || matches!(head, [0x80, 0..=5, ..])
}
