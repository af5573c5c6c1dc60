//! Readers of trained networks.
//! In: a file of any known kind. Out: a checked network.

pub mod native;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod pytorch;

use native::container;
use rheobase_core::network::shape;
use rheobase_core::{Error, Kind, Network, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a file may not say itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// The zoo network that a state dict belongs to (`--arch`).
    pub arch: Option<String>,
    /// The number of classes the network must have (`--classes`).
    pub classes: Option<usize>,
    /// L of a state dict's QCFS activations (`--levels`); without it the checkpoint's own, or [`DEFAULT_LEVELS`].
    pub levels: Option<u32>,
    /// Channels, height, width of the images (`--input`); without it the network's usual shape.
    pub input: Option<[usize; 3]>,
}

/// L of QCFS activations where neither checkpoint nor caller says it.
pub const DEFAULT_LEVELS: u32 = 4;

/// A kind of file, told by how it begins or by its extension.
struct Format {
    name: &'static str,
    extensions: &'static [&'static str],
    /// Whether a file with these first bytes is one.
    recognises: fn(&[u8]) -> bool,
    read: fn(&Path, &Options) -> Result<Network>,
}

/// Every kind of file that holds a network.
static FORMATS: &[Format] = &[
    Format {
        name: "Rheobase's own and state dicts in safetensors",
        extensions: &["safetensors"],
        recognises: container::recognises,
        read: safetensors,
    },
    Format {
        name: "PyTorch state dicts",
        extensions: &["pth", "pt", "th"],
        recognises: pytorch::recognises,
        read: pickle,
    },
    Format { name: "ONNX", extensions: &["onnx"], recognises: |_| false, read: onnx_file },
];

/// Reads a network, telling the kind of file by its content first and by its extension otherwise.
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Network> {
    let path = path.as_ref();
    let mut head = vec![];
    File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut head))
        .map_err(|e| Error::io(path, &e))?;
    if head.is_empty() {
        return Err(Error::new(Kind::Format, "the file is empty").file(path));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let format = FORMATS
        .iter()
        .find(|f| (f.recognises)(&head))
        .or_else(|| FORMATS.iter().find(|f| f.extensions.contains(&extension.as_str())));
    match format {
        Some(format) => (format.read)(path, options).map_err(|e| e.file(path)),
        None => {
            let known: Vec<_> =
                FORMATS.iter().map(|f| format!("{} (.{})", f.name, f.extensions.join(", ."))).collect();
            Err(Error::new(Kind::Format, "not a network that Rheobase reads")
                .file(path)
                .hint(format!("known: {}", known.join("; "))))
        }
    }
}

fn safetensors(path: &Path, options: &Options) -> Result<Network> {
    if options.arch.is_some() && !native::has_graph(path)? {
        return pytorch::read_safetensors(path, options);
    }
    complete(native::read(path)?, options)
}

fn pickle(path: &Path, options: &Options) -> Result<Network> {
    #[cfg(feature = "pytorch")]
    return pytorch::read(path, options);
    #[cfg(not(feature = "pytorch"))]
    Err(without("pytorch", path, options))
}

fn onnx_file(path: &Path, options: &Options) -> Result<Network> {
    #[cfg(feature = "onnx")]
    return complete(onnx::read(path)?, options);
    #[cfg(not(feature = "onnx"))]
    Err(without("onnx", path, options))
}

/// The error of a file whose reader was left out of this build.
#[cfg(not(all(feature = "onnx", feature = "pytorch")))]
fn without(feature: &str, _: &Path, _: &Options) -> Error {
    Error::new(Kind::Unsupported, format!("this build of Rheobase was made without the feature `{feature}`"))
}

/// A file that carries its graph needs no architecture, and must be what the caller says it is.
fn complete(network: Network, options: &Options) -> Result<Network> {
    let refuse = |option: &str| {
        Err(Error::new(
            Kind::Usage,
            format!("`{option}` is for state dicts, and this file carries its network"),
        )
        .hint(format!("leave out `{option}`")))
    };
    if options.arch.is_some() {
        return refuse("--arch");
    }
    if options.levels.is_some() {
        return refuse("--levels");
    }
    let shapes = shape::infer(&network)?;
    if let Some(input) = options.input
        && input != shapes[0]
    {
        return Err(Error::new(Kind::Shape, "the network takes other images")
            .expected(shape::text(input))
            .found(shape::text(shapes[0])));
    }
    let classes = shapes[network.output][0];
    if let Some(wanted) = options.classes
        && wanted != classes
    {
        return Err(other_classes(wanted, classes));
    }
    Ok(network)
}

/// The error of a network whose number of classes is not the one asked for.
fn other_classes(wanted: usize, found: usize) -> Error {
    Error::new(Kind::Shape, "the network has another number of classes")
        .expected(wanted.to_string())
        .found(found.to_string())
        .hint("leave out `--classes` to take the file's")
}
