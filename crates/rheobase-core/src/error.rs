//! The one error of all crates.
//! In: what went wrong, where, what was expected and found. Out: one clear line with a hint.

use std::fmt;
use std::path::{Path, PathBuf};

/// The first names of a list, for errors and notes: `a`, `b`, `c` and 5 more.
pub fn few<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|n| format!("`{}`", n.as_ref())).collect();
    match names.len().saturating_sub(3) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The operating system could not read or write a file.
    Io,
    /// A file is damaged, cut short or not of the format it claims.
    Format,
    /// A file is sound but holds something that Rheobase does not convert.
    Unsupported,
    /// Shapes do not fit together.
    Shape,
    /// A number that cannot be computed with: NaN, infinite, out of range.
    Value,
    /// An option or argument makes no sense.
    Usage,
    /// A data set is missing, empty or does not fit the network.
    Data,
    /// A size beyond a named limit.
    Limit,
    /// The caller asked long work to stop.
    Cancelled,
    /// A check ran and failed.
    Check,
}

/// Where inside a file or network.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Node(String),
    Tensor(String),
    Byte(u64),
}

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    what: String,
    file: Option<PathBuf>,
    place: Option<Place>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
}

/// An error that names file, node and what was expected.
///
/// ```
/// use rheobase_core::{Error, Kind};
/// let e = Error::new(Kind::Shape, "input does not fit the weights")
///     .file("net.onnx").node("conv1").expected("3 channels").found("1").hint("check `--data`");
/// assert_eq!(
///     e.to_string(),
///     "net.onnx: node `conv1`: input does not fit the weights: expected 3 channels, found 1 (check `--data`)"
/// );
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of this kind; `what` is a short sentence without a final stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            what: what.into(),
            file: None,
            place: None,
            expected: None,
            found: None,
            hint: None,
        }))
    }

    /// An operating system's error about a file.
    pub fn io(path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_string(),
            _ => error.to_string(),
        };
        Error::new(Kind::Io, what).file(path)
    }

    /// The file it is about; the first one named stays.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file.get_or_insert_with(|| path.as_ref().to_path_buf());
        self
    }

    /// The node it is about; the first place named stays.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.0.place.get_or_insert(Place::Node(name.into()));
        self
    }

    /// The tensor it is about; the first place named stays.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.0.place.get_or_insert(Place::Tensor(name.into()));
        self
    }

    /// The byte of the file it is about; the first place named stays.
    #[must_use]
    pub fn byte(mut self, offset: u64) -> Self {
        self.0.place.get_or_insert(Place::Byte(offset));
        self
    }

    /// What was expected.
    #[must_use]
    pub fn expected(mut self, what: impl Into<String>) -> Self {
        self.0.expected = Some(what.into());
        self
    }

    /// What was found instead.
    #[must_use]
    pub fn found(mut self, what: impl Into<String>) -> Self {
        self.0.found = Some(what.into());
        self
    }

    /// What to do next.
    #[must_use]
    pub fn hint(mut self, what: impl Into<String>) -> Self {
        self.0.hint = Some(what.into());
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The sentence alone, without place and hint.
    pub fn what(&self) -> &str {
        &self.0.what
    }
}

/// Names from files may hold anything: control characters are shown, overlong names cut.
fn show(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (i, c) in text.chars().enumerate() {
        if i == 400 {
            return f.write_str("...");
        }
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { fmt::Write::write_char(f, c)? }
    }
    Ok(())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        if let Some(file) = &e.file {
            show(f, &file.display().to_string())?;
            f.write_str(": ")?;
        }
        match &e.place {
            Some(Place::Node(n)) => {
                f.write_str("node `")?;
                show(f, n)?;
                f.write_str("`: ")?;
            }
            Some(Place::Tensor(n)) => {
                f.write_str("tensor `")?;
                show(f, n)?;
                f.write_str("`: ")?;
            }
            Some(Place::Byte(b)) => write!(f, "byte {b}: ")?,
            None => {}
        }
        show(f, &e.what)?;
        match (&e.expected, &e.found) {
            (Some(a), Some(b)) => {
                f.write_str(": expected ")?;
                show(f, a)?;
                f.write_str(", found ")?;
                show(f, b)?;
            }
            (Some(a), None) => {
                f.write_str(": expected ")?;
                show(f, a)?;
            }
            (None, Some(b)) => {
                f.write_str(": ")?;
                show(f, b)?;
            }
            (None, None) => {}
        }
        if let Some(hint) = &e.hint {
            f.write_str(" (")?;
            show(f, hint)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_place_wins_and_control_characters_are_shown() {
        let e = Error::new(Kind::Format, "bad").node("a\nb").node("outer").file("x").file("y");
        assert_eq!(e.to_string(), "x: node `a\\nb`: bad");
    }
}
