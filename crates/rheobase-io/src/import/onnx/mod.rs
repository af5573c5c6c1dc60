//! ONNX files.
use std::path::Path;

/// Reads an ONNX file.
pub fn read(path: &Path) -> rheobase_core::Result<rheobase_core::Network> {
    Err(rheobase_core::Error::new(rheobase_core::Kind::Unsupported, "ONNX files are not read yet").file(path))
}
