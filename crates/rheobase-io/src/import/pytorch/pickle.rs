//! State dicts in PyTorch's own files.
//! In: a path. Out: the tensors by full key, read when asked for. The pickle is parsed, never executed.

use super::dict::{Extras, Number, StateDict, unknown_type};
use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};
use rheobase_core::samples::Normalisation;
use rheobase_core::{Error, Kind, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub(super) struct Pickle {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    shapes: BTreeMap<String, Vec<usize>>,
}

pub(super) fn open(path: &Path) -> Result<Pickle> {
    let tensors = PytorchReader::new(path).map_err(|e| refusal(path, &e))?.into_tensors();
    if tensors.is_empty() {
        return Err(Error::new(Kind::Format, "the file holds no tensors")
            .hint("save the network's `state_dict()` with `torch.save`"));
    }
    let shapes = tensors.iter().map(|(key, t)| (key.clone(), t.shape().to_vec())).collect();
    Ok(Pickle { path: path.to_path_buf(), tensors, shapes })
}

fn refusal(path: &Path, error: &PytorchError) -> Error {
    let kind = match error {
        PytorchError::Io(e) if e.raw_os_error().is_some() => return Error::io(path, e),
        PytorchError::Pickle(pytorch_reader::PickleError::UnsupportedType(_)) => Kind::Unsupported,
        _ => Kind::Format,
    };
    Error::new(kind, "cannot read the PyTorch file").found(error.to_string())
}

impl StateDict for Pickle {
    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&mut self, key: &str) -> Result<Vec<f32>> {
        let missing = || Error::new(Kind::Format, "the tensor is not in the file").tensor(key);
        let tensor = self.tensors.get(key).ok_or_else(missing)?;
        let number = match tensor.dtype() {
            DType::F64 => Number::F64,
            DType::F32 => Number::F32,
            DType::F16 => Number::F16,
            DType::BF16 => Number::BF16,
            DType::I64 => Number::I64,
            DType::I32 => Number::I32,
            DType::I16 => Number::I16,
            DType::I8 => Number::I8,
            DType::U8 => Number::U8,
            other @ (DType::U64 | DType::U32 | DType::U16 | DType::Bool) => {
                return Err(unknown_type(key, other));
            }
        };
        let bytes = tensor.read().map_err(|e| {
            Error::new(Kind::Format, "cannot read the tensor").found(e.to_string()).tensor(key)
        })?;
        Ok(number.to_f32(&bytes))
    }

    /// Values that are not of the expected kind mean something else and are left alone.
    fn extras(&self) -> Extras {
        let Ok(PickleValue::Dict(root)) = PytorchReader::read_pickle_data(&self.path, None) else {
            return Extras::default();
        };
        let levels = match root.get("levels") {
            Some(PickleValue::Int(n)) => u32::try_from(*n).ok(),
            _ => None,
        };
        let list = |key: &str| match root.get(key) {
            Some(PickleValue::List(items)) => items.as_slice(),
            _ => &[],
        };
        let strings: Option<Vec<String>> = list("classes")
            .iter()
            .map(|item| if let PickleValue::String(s) = item { Some(s.clone()) } else { None })
            .collect();
        let floats = |key: &str| -> Option<Vec<f32>> {
            list(key)
                .iter()
                .map(|item| if let PickleValue::Float(x) = item { Some(*x as f32) } else { None })
                .collect()
        };
        let normalisation =
            floats("mean").zip(floats("std")).and_then(|(mean, std)| Normalisation::new(mean, std).ok());
        Extras { levels, classes: strings.unwrap_or_default(), normalisation }
    }
}
