//! Result files: written beside their name, then renamed, so that a reader sees a whole file or none.

use rheobase_core::{Error, Kind, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Finds out whether a file can be written, before the work whose result it shall hold. Leaves nothing behind.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.is_dir() {
        return Err(Error::new(Kind::Io, "cannot be written")
            .file(path)
            .expected("the name of a file")
            .found("a folder"));
    }
    let beside = beside(path)?;
    std::fs::File::create(&beside).map_err(|e| Error::io(path, &e))?;
    std::fs::remove_file(&beside).map_err(|e| Error::io(path, &e))
}

/// The hidden name that a file has while it is written.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(Kind::Usage, "the path to write to has no file name").file(path))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// Writes a whole file, or leaves what was there.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let beside = beside(path)?;
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&beside); // may not exist; the first error is the one to tell
        Error::io(path, &e)
    })
}
