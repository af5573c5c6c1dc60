//! Result files: written beside their name, then renamed, so that a reader sees a whole file or none.

use rheobase_core::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes a whole file, or leaves what was there.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&beside); // may not exist; the first error is the one to tell
        Error::io(path, &e)
    })
}
