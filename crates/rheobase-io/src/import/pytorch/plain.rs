//! State dicts in safetensors.
//! In: a path. Out: the tensors by name.

use super::dict::{Extras, Number, StateDict, unknown_type};
use crate::import::native::container::Container;
use rheobase_core::{Error, Result};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

pub(super) struct Plain {
    container: Container<BufReader<File>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

pub(super) fn open(path: &Path) -> Result<Plain> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    let container = Container::open(BufReader::new(file), length)?;
    let shape = |name: &String| container.info(name).map(|i| i.shape.clone()).unwrap_or_default();
    let shapes = container.names().into_iter().map(|name| (name.clone(), shape(&name))).collect();
    Ok(Plain { container, shapes })
}

impl StateDict for Plain {
    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&mut self, key: &str) -> Result<Vec<f32>> {
        let (bytes, dtype) = self.container.bytes(key)?;
        let number = match dtype {
            Dtype::F64 => Number::F64,
            Dtype::F32 => Number::F32,
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::BF16,
            Dtype::I64 => Number::I64,
            Dtype::I32 => Number::I32,
            Dtype::I16 => Number::I16,
            Dtype::I8 => Number::I8,
            Dtype::U8 => Number::U8,
            other => return Err(unknown_type(key, other)),
        };
        Ok(number.to_f32(&bytes))
    }

    fn extras(&self) -> Extras {
        Extras::default()
    }
}
