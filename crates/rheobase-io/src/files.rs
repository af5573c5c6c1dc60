//! Result files: written beside their name, then renamed, so that a reader sees a whole file or none.

use rheobase_core::{Error, Kind, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How a path can be written.
enum Target {
    /// A file, or nothing yet: written under a hidden name beside it, then renamed. A link is followed, so that it stays a link.
    File { path: PathBuf, beside: PathBuf },
    /// A device or a pipe (`/dev/null`, `/dev/stdout`, a named pipe): written straight, since a rename would put a file in its place.
    Stream,
}

impl Target {
    fn of(path: &Path) -> Result<Self> {
        let path = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::new(Kind::Io, "cannot be written")
                    .file(path)
                    .expected("the name of a file")
                    .found("a folder"));
            }
            Ok(found) if !found.is_file() => return Ok(Self::Stream),
            Ok(_) => path.canonicalize().map_err(|e| Error::io(path, &e))?,
            Err(_) => path.to_owned(), // nothing there: the attempt to write says what is wrong
        };
        let name = path
            .file_name()
            .ok_or_else(|| Error::new(Kind::Usage, "the path to write to has no file name").file(&path))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(hidden);
        Ok(Self::File { path, beside })
    }
}

/// Finds out whether a file can be written, before the work whose result it shall hold. Leaves nothing behind.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if let Target::File { beside, .. } = Target::of(path)? {
        std::fs::File::create(&beside)
            .and_then(|_| std::fs::remove_file(&beside))
            .map_err(|e| Error::io(path, &e))?;
    }
    Ok(())
}

/// Writes a whole file, or leaves what was there. Devices and pipes are written as they are.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let written = match Target::of(path)? {
        Target::Stream => {
            std::fs::OpenOptions::new().write(true).open(path).and_then(|mut stream| stream.write_all(bytes))
        }
        Target::File { path, beside } => std::fs::File::create(&beside)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, path))
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&beside); // may not exist; the first error is the one to tell
            }),
    };
    written.map_err(|e| Error::io(path, &e))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    #[test]
    fn a_device_stays_a_device() {
        let null = Path::new("/dev/null");
        assert!(
            std::fs::metadata(null).unwrap().file_type().is_char_device(),
            "this machine's /dev/null is not a device"
        );
        check(null).unwrap();
        write(null, b"nothing").unwrap();
        assert!(std::fs::metadata(null).unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_link_stays_a_link_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.json"), folder.path().join("link.json"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        check(&link).unwrap();
        write(&link, b"new").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
