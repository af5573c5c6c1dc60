//! A safetensors file, read piece by piece.
//! In: anything that reads and seeks, and its length. Out: the header, and tensors as f32 when asked for.
//!
//! The header is parsed by the safetensors crate; its bounds are checked here, with sums that cannot overflow.

use rheobase_core::{Error, Kind, Result};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::io::{Read, Seek, SeekFrom};

/// The longest header that is read: 16 MiB, some 100,000 tensors.
pub(crate) const MAX_HEADER: u64 = 16 << 20;

/// The largest tensor that is read, in numbers.
pub(crate) const MAX_NUMBERS: usize = 1 << 31;

/// An open safetensors file.
pub(crate) struct Container<R> {
    reader: R,
    /// Where the tensors' bytes begin.
    start: u64,
    header: Metadata,
}

/// Whether a file that begins with these bytes looks like safetensors: a length, then `{`.
pub(crate) fn recognises(head: &[u8]) -> bool {
    head.len() >= 9 && head[8] == b'{' && head[6..8] == [0, 0]
}

impl<R: Read + Seek> Container<R> {
    /// Reads the header; every tensor then lies inside the file's `length` bytes.
    pub fn open(mut reader: R, length: u64) -> Result<Self> {
        let mut size = [0; 8];
        if length < 8 {
            return Err(Error::new(Kind::Format, "the file is too short for a safetensors file")
                .expected("8 bytes or more")
                .found(length.to_string()));
        }
        reader.read_exact(&mut size).map_err(cannot_read)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(Error::new(Kind::Limit, "the safetensors header is too long")
                .expected(format!("at most {MAX_HEADER} bytes"))
                .found(size.to_string()));
        }
        if size > length - 8 {
            return Err(Error::new(Kind::Format, "the file is cut short inside its header")
                .expected(format!("{} bytes", size + 8))
                .found(length.to_string()));
        }
        let mut text = vec![0; size as usize];
        reader.read_exact(&mut text).map_err(cannot_read)?;
        let header: Metadata = serde_json::from_slice(&text).map_err(|e| {
            Error::new(Kind::Format, "the safetensors header is damaged").found(e.to_string()).byte(8)
        })?;
        let (data, room) = (header.data_len() as u64, length - 8 - size);
        if data != room {
            let what =
                if data > room { "the file is cut short" } else { "the file is longer than its tensors" };
            return Err(Error::new(Kind::Format, what)
                .expected(format!("{data} bytes of tensors"))
                .found(room.to_string()));
        }
        Ok(Container { reader, start: 8 + size, header })
    }

    /// The text under a metadata key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Names of the tensors, in the file's order.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// A tensor's bytes and type.
    pub fn bytes(&mut self, name: &str) -> Result<(Vec<u8>, Dtype)> {
        let info = self.header.info(name).ok_or_else(|| {
            Error::new(Kind::Format, "the file lacks a tensor that its graph needs").tensor(name)
        })?;
        let (dtype, (from, to)) = (info.dtype, info.data_offsets);
        if (to - from) / 4 > MAX_NUMBERS {
            return Err(Error::new(Kind::Limit, "the tensor is too large")
                .expected(format!("at most {MAX_NUMBERS} numbers"))
                .found(format!("{} bytes", to - from))
                .tensor(name));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(to - from).map_err(|_| {
            Error::new(Kind::Limit, "not enough memory for the tensor")
                .found(format!("{} bytes", to - from))
                .tensor(name)
        })?;
        self.reader.seek(SeekFrom::Start(self.start + from as u64)).map_err(cannot_read)?;
        self.reader.by_ref().take((to - from) as u64).read_to_end(&mut bytes).map_err(cannot_read)?;
        if bytes.len() != to - from {
            return Err(Error::new(Kind::Format, "the file became shorter while it was read").tensor(name));
        }
        Ok((bytes, dtype))
    }

    /// A tensor of f32.
    pub fn floats(&mut self, name: &str) -> Result<Vec<f32>> {
        let (bytes, dtype) = self.bytes(name)?;
        if dtype != Dtype::F32 {
            return Err(Error::new(Kind::Format, "tensor has the wrong type")
                .expected("F32")
                .found(format!("{dtype:?}"))
                .tensor(name));
        }
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

fn cannot_read(error: std::io::Error) -> Error {
    Error::new(Kind::Io, "cannot read the file").found(error.to_string())
}
