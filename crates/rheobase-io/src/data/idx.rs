//! The idx format of MNIST and its likes (Y. LeCun): big-endian magic number, sizes, bytes.
//! In: a folder with images and labels, gzipped or not. Out: grey images of ten classes.

use std::borrow::Cow;
use std::io::{BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};

use super::digits::DIGITS;
use super::packed::{Packed, names};
use super::{Options, Split, files};

/// MNIST's training images are 47 MB.
const MAX_IDX_BYTES: u64 = 1 << 30;
/// MNIST's mean and standard deviation, as PyTorch's examples give them.
const MEAN: f32 = 0.1307;
const STD: f32 = 0.3081;

/// Sizes and the bytes after the header.
struct Idx {
    sizes: Vec<usize>,
    bytes: Vec<u8>,
}

/// Opens the images and labels of a split.
pub(super) fn open(folder: &Path, options: &Options) -> Result<Box<dyn Samples>> {
    let prefix = match options.split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let (images, labels) = (find(folder, prefix, "images", 3)?, find(folder, prefix, "labels", 1)?);
    let read = |path: &Path, rank| {
        let (file, length) = files::open(path)?;
        read_idx(file, Some(length), rank, path)
    };
    let set = combine(read(&images, 3)?, read(&labels, 1)?, options.split, &images, &labels)?;
    Ok(Box::new(set))
}

/// The file of that part, under one of the names it goes by.
fn find(folder: &Path, prefix: &str, part: &str, rank: usize) -> Result<PathBuf> {
    let dashed = format!("{prefix}-{part}-idx{rank}-ubyte");
    let dotted = format!("{prefix}-{part}.idx{rank}-ubyte");
    for name in [&dashed, &dotted] {
        for suffix in ["", ".gz"] {
            let path = folder.join(format!("{name}{suffix}"));
            if path.exists() {
                return Ok(path);
            }
        }
    }
    let what = match folder.is_dir() {
        true => "folder does not hold the data set",
        false if folder.exists() => "not a folder",
        false => "no such folder",
    };
    Err(Error::new(Kind::Data, what)
        .file(folder)
        .expected(format!("`{dashed}`, `{dotted}` or either with `.gz`"))
        .hint("MNIST is four .gz files in one folder, for example from https://ossci-datasets.s3.amazonaws.com/mnist/"))
}

/// Reads one file whose header must promise exactly what is there. `length` is the file's, where it is not gzipped.
fn read_idx(mut stream: impl BufRead, length: Option<u64>, rank: usize, path: &Path) -> Result<Idx> {
    let damaged = |e: std::io::Error| files::stream_error(path, &e);
    let gzip = stream.fill_buf().map_err(damaged)?.starts_with(&[0x1f, 0x8b]);
    let mut stream = files::unpacked(stream, MAX_IDX_BYTES).map_err(damaged)?;
    let header = 4 + 4 * rank;
    let mut head = vec![0u8; header];
    stream.read_exact(&mut head).map_err(damaged)?;
    let words: Vec<u32> =
        head.chunks_exact(4).map(|w| w.iter().fold(0, |n, &b| n << 8 | u32::from(b))).collect();
    let magic = 0x0800 + rank as u32;
    if words[0] != magic {
        return Err(Error::new(Kind::Format, "not an idx file of bytes")
            .file(path)
            .byte(0)
            .expected(format!("magic number {magic:#010x} ({rank} sizes)"))
            .found(format!("{:#010x}", words[0])));
    }
    let sizes: Vec<usize> = words[1..].iter().map(|&n| n as usize).collect();
    let shown = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let total = sizes.iter().try_fold(1u64, |n, &s| n.checked_mul(s as u64)).unwrap_or(u64::MAX);
    if total == 0 {
        return Err(Error::new(Kind::Data, "file holds no images").file(path).byte(4).found(shown));
    }
    if total > MAX_IDX_BYTES - header as u64 {
        return Err(Error::new(Kind::Limit, "header asks for too much")
            .file(path)
            .byte(4)
            .expected(format!("at most {MAX_IDX_BYTES} bytes"))
            .found(shown));
    }
    let differs = |found: String| {
        Error::new(Kind::Format, "header and length differ")
            .file(path)
            .expected(format!("{} bytes for {shown}", header as u64 + total))
            .found(found)
    };
    match length.filter(|_| !gzip) {
        Some(length) if length != header as u64 + total => return Err(differs(length.to_string())),
        _ => {}
    }
    // Grows with what arrives; a header's promise alone takes no memory.
    let mut bytes = Vec::new();
    stream.by_ref().take(total).read_to_end(&mut bytes).map_err(damaged)?;
    if (bytes.len() as u64) < total {
        return Err(differs((header + bytes.len()).to_string()));
    }
    match stream.read(&mut [0]) {
        Ok(0) => Ok(Idx { sizes, bytes }),
        Ok(_) => Err(differs("more".into())),
        Err(e) if e.kind() == ErrorKind::FileTooLarge => Err(differs("more".into())),
        Err(e) => Err(damaged(e)),
    }
}

/// Images and labels as one data set.
fn combine(images: Idx, labels: Idx, split: Split, image_file: &Path, label_file: &Path) -> Result<Packed> {
    let [count, height, width] = images.sizes[..] else {
        return Err(Error::new(Kind::Format, "not an idx file of images").file(image_file));
    };
    if labels.bytes.len() != count {
        return Err(Error::new(Kind::Format, "images and labels differ in number")
            .file(label_file)
            .expected(format!("{count} labels, one per image"))
            .found(labels.bytes.len().to_string()));
    }
    if let Some(i) = labels.bytes.iter().position(|&l| usize::from(l) >= DIGITS.len()) {
        return Err(Error::new(Kind::Format, format!("label of image {i} out of range"))
            .file(label_file)
            .expected("0 to 9")
            .found(labels.bytes[i].to_string()));
    }
    Packed {
        name: format!("mnist ({split})"),
        shape: [1, height, width],
        classes: names(&DIGITS),
        normalisation: Normalisation::new(vec![MEAN], vec![STD])?,
        bytes: Cow::Owned(images.bytes),
        labels: labels.bytes,
        start: 0,
        stride: height * width,
        white: 255,
    }
    .checked()
}

/// An images file and a labels file.
#[doc(hidden)]
pub fn parse_idx_bytes(images: &[u8], labels: &[u8]) -> Result<Box<dyn Samples>> {
    let path = Path::new("bytes");
    let images = read_idx(images, Some(images.len() as u64), 3, path)?;
    let labels = read_idx(labels, Some(labels.len() as u64), 1, path)?;
    Ok(Box::new(combine(images, labels, Split::Test, path, path)?))
}
