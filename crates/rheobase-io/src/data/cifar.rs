//! CIFAR-10 and CIFAR-100, binary version (A. Krizhevsky, 2009).
//! In: the folder, a folder that holds it, or the distributor's archive read in place. Out: 32x32 colour images.

use std::borrow::Cow;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};

use super::packed::{Packed, names};
use super::{Options, Split, files};

/// Red, green and blue planes of 32x32.
const PIXELS: usize = 3 * 32 * 32;
/// No file of the real data sets is larger than 154 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The real archives hold less than 190 MB, all files together.
const MAX_ARCHIVE_BYTES: u64 = 512 << 20;

/// What sets CIFAR-10 and CIFAR-100 apart.
pub struct Version {
    name: &'static str,
    folder: &'static str,
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Bytes before the pixels; the last of them is the label that counts.
    labels: usize,
    classes: &'static [&'static str],
    /// Mean and standard deviation of red, green and blue, in units of 1/`scale`.
    mean: [f32; 3],
    std: [f32; 3],
    scale: f32,
}

impl Version {
    /// CIFAR-10.
    pub const CIFAR10: &'static Version = &Version {
        name: "cifar10",
        folder: "cifar-10-batches-bin",
        archive: "cifar-10-binary.tar.gz",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        labels: 1,
        classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        mean: [0.4914, 0.4822, 0.4465],
        std: [0.2023, 0.1994, 0.2010],
        scale: 1.0,
    };

    /// CIFAR-100 with its fine labels.
    pub const CIFAR100: &'static Version = &Version {
        name: "cifar100",
        folder: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        train: &["train.bin"],
        test: &["test.bin"],
        labels: 2,
        classes: FINE,
        mean: [129.3, 124.1, 112.4],
        std: [68.2, 65.4, 70.4],
        scale: 255.0,
    };

    fn record(&self) -> usize {
        self.labels + PIXELS
    }

    fn wanted(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }

    fn missing(&self, path: &Path, split: Split, what: &str) -> Error {
        Error::new(Kind::Data, what)
            .file(path)
            .expected(format!("`{}` or the archive `{}`", self.wanted(split).join("`, `"), self.archive))
            .hint(format!(
                "the binary version is at https://www.cs.toronto.edu/~kriz/{}; name the file or the folder it \
                 unpacks to",
                self.archive
            ))
    }

    /// The data set made of these records, one file after the other.
    fn samples(&self, split: Split, bytes: Vec<u8>) -> Result<Packed> {
        let scaled = |v: [f32; 3]| v.iter().map(|x| x / self.scale).collect();
        Packed {
            name: format!("{} ({split})", self.name),
            shape: [3, 32, 32],
            classes: names(self.classes),
            normalisation: Normalisation::new(scaled(self.mean), scaled(self.std))?,
            labels: bytes.chunks_exact(self.record()).map(|r| r[self.labels - 1]).collect(),
            bytes: Cow::Owned(bytes),
            start: self.labels,
            stride: self.record(),
            white: 255,
        }
        .checked()
    }

    /// Refuses a file that is not whole records with labels in range.
    fn check(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let record = self.record();
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(Error::new(Kind::Format, "file is not made of whole records")
                .file(path)
                .expected(format!("a multiple of {record} bytes ({} label, {PIXELS} pixel)", self.labels))
                .found(format!("{} bytes", bytes.len()))
                .hint("cut short, or of another version: download it again"));
        }
        for (i, r) in bytes.chunks_exact(record).enumerate() {
            let (at, label) = (i * record + self.labels - 1, usize::from(r[self.labels - 1]));
            if label >= self.classes.len() {
                return Err(Error::new(Kind::Format, "label out of range")
                    .file(path)
                    .byte(at as u64)
                    .expected(format!("0 to {}", self.classes.len() - 1))
                    .found(label.to_string()));
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, split: Split) -> Result<Box<dyn Samples>> {
        let data = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.missing(path, split, "no such folder or file"),
            _ => Error::io(path, &e),
        })?;
        if !data.is_dir() {
            return self.open_archive(path, split);
        }
        let wanted = self.wanted(split);
        for folder in [path.to_path_buf(), path.join(self.folder)] {
            if wanted.iter().any(|name| folder.join(name).exists()) {
                return self.open_folder(&folder, split);
            }
        }
        let archive = path.join(self.archive);
        if archive.exists() {
            return self.open_archive(&archive, split);
        }
        Err(self.missing(path, split, "folder does not hold the data set"))
    }

    fn open_folder(&self, folder: &Path, split: Split) -> Result<Box<dyn Samples>> {
        let mut all = Vec::new();
        for name in self.wanted(split) {
            let path = folder.join(name);
            if !path.exists() {
                return Err(self.missing(&path, split, "file is missing"));
            }
            let bytes = files::read(&path, MAX_FILE_BYTES)?;
            self.check(&bytes, &path)?;
            append(&mut all, bytes);
        }
        Ok(Box::new(self.samples(split, all)?))
    }

    fn open_archive(&self, path: &Path, split: Split) -> Result<Box<dyn Samples>> {
        let (file, _) = files::open(path)?;
        Ok(Box::new(self.read_archive(file, path, split)?))
    }

    /// Reads the split's files out of a tar archive, gzipped or not, to its very end, so that the checksum is tested.
    fn read_archive(&self, stream: impl BufRead, path: &Path, split: Split) -> Result<Packed> {
        let damaged = |e: std::io::Error| files::stream_error(path, &e);
        // What the archive's reader says of bytes that are no header quotes them.
        let unsound = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::Other => Error::new(Kind::Format, "not a sound tar archive")
                .file(path)
                .expected(format!("`{}` or the folder it unpacks to", self.archive)),
            _ => damaged(e),
        };
        let mut stream = files::unpacked(stream, MAX_ARCHIVE_BYTES).map_err(damaged)?;
        let wanted = self.wanted(split);
        let mut parts: Vec<Option<Vec<u8>>> = wanted.iter().map(|_| None).collect();
        let mut archive = tar::Archive::new(&mut stream);
        for entry in archive.entries().map_err(unsound)? {
            let mut entry = entry.map_err(unsound)?;
            let name = PathBuf::from(entry.path().map_err(unsound)?.file_name().unwrap_or_default());
            let Some(i) = wanted.iter().position(|w| Path::new(w) == name) else { continue };
            // A sparse entry can be far larger than the archive.
            if entry.size() > MAX_FILE_BYTES {
                return Err(Error::new(Kind::Limit, "file in the archive is too large")
                    .file(path.join(wanted[i]))
                    .expected(format!("at most {MAX_FILE_BYTES} bytes"))
                    .found(entry.size().to_string()));
            }
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(damaged)?;
            if bytes.len() as u64 != entry.size() {
                return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.check(&bytes, &path.join(wanted[i]))?;
            parts[i] = Some(bytes);
        }
        std::io::copy(&mut stream, &mut std::io::sink()).map_err(damaged)?;
        let mut all = Vec::new();
        for (part, name) in parts.into_iter().zip(wanted) {
            let Some(bytes) = part else {
                return Err(self.missing(path, split, &format!("archive does not hold `{name}`")));
            };
            append(&mut all, bytes);
        }
        self.samples(split, all)
    }
}

/// Adds the bytes at the end; the first are moved, not copied.
fn append(all: &mut Vec<u8>, bytes: Vec<u8>) {
    if all.is_empty() {
        *all = bytes;
    } else {
        all.extend_from_slice(&bytes);
    }
}

/// Opens CIFAR-10.
pub(super) fn open_cifar10(path: &Path, options: &Options) -> Result<Box<dyn Samples>> {
    Version::CIFAR10.open(path, options.split)
}

/// Opens CIFAR-100.
pub(super) fn open_cifar100(path: &Path, options: &Options) -> Result<Box<dyn Samples>> {
    Version::CIFAR100.open(path, options.split)
}

/// One file's records.
#[doc(hidden)]
pub fn parse_cifar_bytes(version: &Version, bytes: &[u8]) -> Result<Box<dyn Samples>> {
    version.check(bytes, Path::new("bytes"))?;
    Ok(Box::new(version.samples(Split::Test, bytes.to_vec())?))
}

/// The test part of an archive.
#[doc(hidden)]
pub fn parse_cifar_archive_bytes(version: &Version, bytes: &[u8]) -> Result<Box<dyn Samples>> {
    Ok(Box::new(version.read_archive(bytes, Path::new("bytes"), Split::Test)?))
}

/// CIFAR-100's fine classes.
#[rustfmt::skip]
const FINE: &[&str] = &[
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
];
