//! Data sets by name: one table, one way to open.
//! In: what a person writes, such as `cifar10:DIR`, and options. Out: `Samples`, or an error that says what to download.

mod cifar;
mod digits;
mod files;
#[cfg(feature = "images")]
mod folder;
mod idx;
mod packed;
#[cfg(feature = "images")]
mod resample;
#[cfg(feature = "images")]
mod transform;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rheobase_core::samples::Samples;
use rheobase_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

#[doc(hidden)]
pub use cifar::{Version as CifarVersion, parse_cifar_archive_bytes, parse_cifar_bytes};
#[doc(hidden)]
pub use idx::parse_idx_bytes;
#[cfg(feature = "images")]
pub use transform::Transform;

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The images a network learns from and is calibrated with.
    Train,
    /// The images it is judged by.
    #[default]
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "train" => Ok(Split::Train),
            "test" => Ok(Split::Test),
            _ => Err(Error::new(Kind::Usage, "unknown split")
                .expected("`train` or `test`")
                .found(format!("`{text}`"))),
        }
    }
}

/// How to open a data set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Which part.
    pub split: Split,
    /// Height and width that the network wants; only an image folder can obey (224x224 where it is not given).
    pub size: Option<[usize; 2]>,
    /// What the short side is resized to before the centre is cut out; image folders only. Where it is not given:
    /// 256/224 of the larger of height and width, rounded (256 for 224).
    pub resize: Option<usize>,
}

/// A kind of data set.
pub struct Dataset {
    /// Its name, before the colon.
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Whether a folder or file has to be named.
    needs_path: bool,
    /// Whether images are resized on reading.
    resizes: bool,
    open: fn(&Path, &Options) -> Result<Box<dyn Samples>>,
}

/// All kinds of data set.
pub const DATASETS: &[Dataset] = &[
    Dataset {
        name: "cifar10",
        usage: "cifar10:DIR",
        help: "CIFAR-10, binary version: the unpacked folder or the .tar.gz file itself",
        needs_path: true,
        resizes: false,
        open: cifar::open_cifar10,
    },
    Dataset {
        name: "cifar100",
        usage: "cifar100:DIR",
        help: "CIFAR-100 (fine labels), binary version: the unpacked folder or the .tar.gz file itself",
        needs_path: true,
        resizes: false,
        open: cifar::open_cifar100,
    },
    Dataset {
        name: "mnist",
        usage: "mnist:DIR",
        help: "MNIST, Fashion-MNIST and others of ten classes in the idx format, .gz or unpacked",
        needs_path: true,
        resizes: false,
        open: idx::open,
    },
    #[cfg(feature = "images")]
    Dataset {
        name: "imagefolder",
        usage: "imagefolder:DIR",
        help: "JPEG and PNG files in one folder per class, below train/ and val/ or test/ where those exist",
        needs_path: true,
        resizes: true,
        open: folder::open,
    },
    Dataset {
        name: "digits",
        usage: "digits",
        help: "1,797 handwritten digits of 8x8 pixels, built into the program",
        needs_path: false,
        resizes: false,
        open: digits::open,
    },
];

/// Opens the data set that `spec` names: `KIND:DIR`, or `KIND` alone where it needs no folder.
pub fn open(spec: &str, options: &Options) -> Result<Box<dyn Samples>> {
    let (name, path) = match spec.split_once(':') {
        Some((name, path)) => (name, Some(path)),
        None => (spec, None),
    };
    let Some(dataset) = DATASETS.iter().find(|d| d.name == name) else {
        let known: Vec<String> = DATASETS.iter().map(|d| format!("`{}`", d.usage)).collect();
        return Err(Error::new(Kind::Usage, "unknown kind of data set")
            .found(format!("`{name}`"))
            .hint(format!("known: {}", known.join(", "))));
    };
    let usage = |what: &str| {
        Error::new(Kind::Usage, format!("data set `{name}` {what}"))
            .expected(format!("`{}`", dataset.usage))
            .found(format!("`{spec}`"))
    };
    let path = match (path.filter(|p| !p.is_empty()), dataset.needs_path) {
        (Some(path), true) => path,
        (None, false) if !spec.contains(':') => "",
        (None, true) => return Err(usage("needs a folder").hint(dataset.help)),
        (_, false) => return Err(usage("takes no folder").hint(dataset.help)),
    };
    if options.resize.is_some() && !dataset.resizes {
        return Err(Error::new(Kind::Usage, format!("images of `{name}` are not resized"))
            .hint("leave the resize option out"));
    }
    (dataset.open)(Path::new(path), options)
}
