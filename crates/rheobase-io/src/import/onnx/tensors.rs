//! Tensors of an ONNX file in all their encodings.
//! In: a `TensorProto`, and the model's folder where its bytes lie in another file. Out: an [`Array`], every size checked before memory is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use rheobase_core::{Error, Kind, Result};

use super::array::{Array, Int, product};
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};

/// The most dimensions that a tensor may have.
pub(super) const MAX_RANK: usize = 8;

/// How often, on average, the bytes of external files may be read: tied weights are, a few times.
const MAX_REREADS: u64 = 4;

/// Files beside the model that hold tensors.
pub(super) struct External {
    folder: Option<PathBuf>,
    files: BTreeMap<PathBuf, u64>,
    read: u64,
}

impl External {
    /// Files in `folder`; without one, external data is refused.
    pub fn new(folder: Option<&Path>) -> Self {
        External { folder: folder.map(Path::to_path_buf), files: BTreeMap::new(), read: 0 }
    }

    /// How many bytes have been read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// `size` bytes of the file that `tensor` names.
    fn read(&mut self, tensor: &TensorProto, size: usize) -> Result<Vec<u8>> {
        let field = |key: &str| {
            let entry = tensor.external_data.iter().find(|e| e.key() == key);
            entry.map(|e| e.value())
        };
        let number = |key: &str| -> Result<Option<u64>> {
            let Some(text) = field(key) else { return Ok(None) };
            text.trim().parse().map(Some).map_err(|_| {
                Error::new(Kind::Format, format!("external data has a bad {key}"))
                    .expected("a number of bytes")
                    .found(format!("`{text}`"))
            })
        };
        let location = field("location").filter(|l| !l.is_empty()).ok_or_else(|| {
            Error::new(Kind::Format, "external data names no file").expected("the key `location`")
        })?;
        let size = size as u64;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(size);
        if length != size {
            return Err(Error::new(Kind::Format, "external data does not match the tensor's shape")
                .expected(format!("{size} bytes"))
                .found(format!("{length} bytes")));
        }
        let path = self.path(location)?;
        self.read_range(&path, offset, size).map_err(|e| e.file(&path))
    }

    /// The file's path; it must lie inside the model's folder, also after links are followed.
    fn path(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.folder else {
            return Err(Error::new(Kind::Unsupported, "weights lie in another file")
                .found(format!("`{location}`"))
                .hint("read the model from its path"));
        };
        let outside = || {
            Error::new(Kind::Format, "external data must lie inside the model's folder")
                .found(format!("`{location}`"))
        };
        let relative = Path::new(location);
        if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(outside());
        }
        let path = folder.join(relative);
        let real = path.canonicalize().map_err(|e| {
            Error::io(&path, &e).hint("external data belongs beside the model; copy both files together")
        })?;
        let home = folder.canonicalize().map_err(|e| Error::io(folder, &e))?;
        if real.starts_with(&home) { Ok(real) } else { Err(outside()) }
    }

    fn read_range(&mut self, path: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
        let io = |e| Error::io(path, &e);
        let mut file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(Error::new(Kind::Format, "external data is not a regular file"));
        }
        let end = offset.checked_add(size);
        if end.is_none_or(|end| end > meta.len()) {
            return Err(Error::new(Kind::Format, "external data ends too early")
                .expected(format!("{size} bytes from byte {offset}"))
                .found(format!("a file of {} bytes", meta.len())));
        }
        self.files.insert(path.to_path_buf(), meta.len());
        self.read = self.read.saturating_add(size);
        let whole = self.files.values().fold(0u64, |n, &f| n.saturating_add(f));
        if self.read > whole.saturating_mul(MAX_REREADS) {
            return Err(Error::new(Kind::Limit, "tensors share the same external bytes too often"));
        }
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let size = usize::try_from(size).map_err(|_| Error::new(Kind::Limit, "tensor too large"))?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

/// Decodes a tensor.
pub(super) fn decode(tensor: &TensorProto, external: &mut External) -> Result<Array> {
    decode_unnamed(tensor, external).map(|a| a.named(tensor.name())).map_err(|e| e.tensor(tensor.name()))
}

fn decode_unnamed(tensor: &TensorProto, external: &mut External) -> Result<Array> {
    let shape = shape(tensor)?;
    let elements = product(&shape).ok_or_else(|| too_large(&shape))?;
    let code = tensor.data_type();
    let kind = DataType::try_from(code).unwrap_or(DataType::Undefined);
    let Some(width) = width(kind) else {
        return Err(Error::new(Kind::Unsupported, "element type is not converted")
            .found(if kind == DataType::Undefined {
                code.to_string()
            } else {
                kind.as_str_name().to_string()
            })
            .hint("export the model in float32"));
    };
    let size = elements.checked_mul(width).ok_or_else(|| too_large(&shape))?;
    let place = tensor.data_location.unwrap_or(0);
    if place == DataLocation::External as i32 {
        let bytes = external.read(tensor, size)?;
        return from_bytes(kind, shape, &bytes);
    }
    if place != DataLocation::Default as i32 {
        return Err(Error::new(Kind::Format, "unknown place of data").found(place.to_string()));
    }
    match &tensor.raw_data {
        Some(raw) if !raw.is_empty() || elements == 0 => {
            counted(raw.len(), size, "bytes")?;
            from_bytes(kind, shape, raw)
        }
        _ => from_fields(kind, shape, elements, tensor),
    }
}

fn shape(tensor: &TensorProto) -> Result<Vec<usize>> {
    if tensor.dims.len() > MAX_RANK {
        return Err(Error::new(Kind::Limit, "tensor has too many dimensions")
            .expected(format!("at most {MAX_RANK}"))
            .found(tensor.dims.len().to_string()));
    }
    let size = |&d: &i64| {
        usize::try_from(d).map_err(|_| {
            Error::new(Kind::Format, "tensor has a negative size").found(format!("{:?}", tensor.dims))
        })
    };
    tensor.dims.iter().map(size).collect()
}

fn too_large(shape: &[usize]) -> Error {
    Error::new(Kind::Limit, "tensor is larger than any memory").found(format!("{shape:?}"))
}

fn counted(found: usize, expected: usize, what: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(Kind::Format, "tensor's data does not match its shape")
        .expected(format!("{expected} {what}"))
        .found(found.to_string()))
}

/// Bytes of one element; `None` where the type is not read.
fn width(kind: DataType) -> Option<usize> {
    match kind {
        DataType::Uint8 | DataType::Int8 | DataType::Bool => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Int64 | DataType::Uint64 | DataType::Double => Some(8),
        _ => None,
    }
}

/// Little-endian bytes, exactly as many as the shape needs.
fn from_bytes(kind: DataType, shape: Vec<usize>, bytes: &[u8]) -> Result<Array> {
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|&b| f(b)).collect()
    }
    let floats = |data: Vec<f32>| Array::floats(shape.clone(), data);
    let ints = |data: Vec<i64>| Array::ints(shape.clone(), data.into_iter().map(Int::Known).collect());
    Ok(match kind {
        DataType::Float => floats(each(bytes, f32::from_le_bytes)),
        DataType::Double => floats(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        DataType::Float16 => floats(each(bytes, |b| half(u16::from_le_bytes(b)))),
        DataType::Bfloat16 => floats(each(bytes, |b| bfloat(u16::from_le_bytes(b)))),
        DataType::Uint8 => ints(each(bytes, |b: [u8; 1]| b[0].into())),
        DataType::Int8 => ints(each(bytes, |b| i8::from_le_bytes(b).into())),
        DataType::Bool => ints(each(bytes, |b: [u8; 1]| (b[0] != 0).into())),
        DataType::Uint16 => ints(each(bytes, |b| u16::from_le_bytes(b).into())),
        DataType::Int16 => ints(each(bytes, |b| i16::from_le_bytes(b).into())),
        DataType::Int32 => ints(each(bytes, |b| i32::from_le_bytes(b).into())),
        DataType::Uint32 => ints(each(bytes, |b| u32::from_le_bytes(b).into())),
        DataType::Int64 => ints(each(bytes, i64::from_le_bytes)),
        DataType::Uint64 => {
            let numbers: Result<Vec<i64>> = each(bytes, u64::from_le_bytes).into_iter().map(signed).collect();
            ints(numbers?)
        }
        _ => return Err(Error::new(Kind::Unsupported, "element type is not converted")),
    })
}

/// Numbers in the typed field of their kind.
fn from_fields(kind: DataType, shape: Vec<usize>, elements: usize, t: &TensorProto) -> Result<Array> {
    let count = |n: usize| counted(n, elements, "numbers");
    let ints = |data: Vec<i64>| Array::ints(shape.clone(), data.into_iter().map(Int::Known).collect());
    let bits = |x: &i32| (*x & 0xffff) as u16;
    Ok(match kind {
        DataType::Float => {
            count(t.float_data.len())?;
            Array::floats(shape, t.float_data.clone())
        }
        DataType::Double => {
            count(t.double_data.len())?;
            Array::floats(shape, t.double_data.iter().map(|&x| x as f32).collect())
        }
        DataType::Float16 => {
            count(t.int32_data.len())?;
            Array::floats(shape, t.int32_data.iter().map(|x| half(bits(x))).collect())
        }
        DataType::Bfloat16 => {
            count(t.int32_data.len())?;
            Array::floats(shape, t.int32_data.iter().map(|x| bfloat(bits(x))).collect())
        }
        DataType::Int64 => {
            count(t.int64_data.len())?;
            ints(t.int64_data.clone())
        }
        DataType::Uint32 | DataType::Uint64 => {
            count(t.uint64_data.len())?;
            let numbers: Result<Vec<i64>> = t.uint64_data.iter().copied().map(signed).collect();
            ints(numbers?)
        }
        _ => {
            count(t.int32_data.len())?;
            let bool = kind == DataType::Bool;
            ints(t.int32_data.iter().map(|&x| if bool { i64::from(x != 0) } else { x.into() }).collect())
        }
    })
}

fn signed(x: u64) -> Result<i64> {
    i64::try_from(x).map_err(|_| Error::new(Kind::Value, "integer too large").found(x.to_string()))
}

/// IEEE half precision to f32, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        e => sign * (1.0 + fraction / 1024.0) * 2f32.powi(e - 15),
    }
}

/// bfloat16 to f32, exactly.
fn bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, x) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), x);
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
        assert_eq!(bfloat(0x3fc0), 1.5);
    }
}
