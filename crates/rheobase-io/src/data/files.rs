//! Files read with a limit, gzipped or not.
//! In: a path. Out: its bytes or a stream of them, never more than the limit; errors that name the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rheobase_core::{Error, Kind, Result};

/// Passes on up to `left` bytes and then fails, where `Take` would end as if the data did.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(ErrorKind::FileTooLarge, format!("{}", self.limit))),
        }
        Ok(n)
    }
}

/// The stream as it is, or unpacked if it starts as gzip does; more than `limit` bytes are an error.
pub(super) fn unpacked<'a>(mut stream: impl BufRead + 'a, limit: u64) -> io::Result<Box<dyn Read + 'a>> {
    let gzip = stream.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        Box::new(Bounded { inner: MultiGzDecoder::new(stream), left: limit, limit })
    } else {
        Box::new(Bounded { inner: stream, left: limit, limit })
    })
}

/// An open regular file and its length.
pub(super) fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let data = file.metadata().map_err(|e| Error::io(path, &e))?;
    if !data.is_file() {
        let found = if data.is_dir() { "a folder" } else { "a device or pipe" };
        return Err(Error::new(Kind::Data, "cannot be read").file(path).expected("a file").found(found));
    }
    Ok((BufReader::with_capacity(1 << 16, file), data.len()))
}

/// The whole file, if it is no longer than `limit`.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > limit {
        return Err(Error::new(Kind::Limit, "file is too large")
            .file(path)
            .expected(format!("at most {limit} bytes"))
            .found(format!("{length}")));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize).map_err(|_| {
        Error::new(Kind::Limit, format!("no memory for the file's {length} bytes")).file(path)
    })?;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Error::io(path, &e))?;
    Ok(bytes)
}

/// The error of a stream that was being unpacked or parsed.
pub(super) fn stream_error(path: &Path, error: &io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::io(path, error);
    }
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::new(Kind::Format, "file is cut short"),
        ErrorKind::FileTooLarge => Error::new(Kind::Limit, "file unpacks to too much")
            .expected("no more bytes than Rheobase reads of such a file"),
        _ => Error::new(Kind::Format, "file is damaged").found(error.to_string()),
    }
    .file(path)
}

/// The directory's visible entries, sorted by name.
pub(super) fn list(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let io = |e: io::Error| Error::io(folder, &e);
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let mut kind = entry.file_type().map_err(io)?;
        if kind.is_symlink() {
            // A link to nowhere is neither file nor folder.
            match std::fs::metadata(entry.path()) {
                Ok(target) => kind = target.file_type(),
                Err(_) => continue,
            }
        }
        entries.push(Entry { name: name.into(), is_dir: kind.is_dir(), is_file: kind.is_file() });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// A name in a directory and what it stands for, links followed.
pub(super) struct Entry {
    pub(super) name: PathBuf,
    pub(super) is_dir: bool,
    pub(super) is_file: bool,
}
