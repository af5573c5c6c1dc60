//! Files made by hand: native files with a changed graph, archives, pickles, images.

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc, FlushCompress};
use serde_json::Value;
use std::io::Write;

/// Bytes without a pattern, the same every time.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A safetensors file of this header.
pub fn safetensors(header: &Value, tensors: &[u8]) -> Vec<u8> {
    let text = header.to_string();
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), tensors].concat()
}

/// A native file with its graph changed.
pub fn with_graph(native: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let size = u64::from_le_bytes(native[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&native[8..8 + size]).unwrap();
    let graph = &mut header["__metadata__"]["rheobase"];
    let mut parsed = serde_json::from_str(graph.as_str().unwrap()).unwrap();
    change(&mut parsed);
    *graph = parsed.to_string().into();
    safetensors(&header, &native[8 + size..])
}

/// An entry of a zip file: name, how it is packed (0 or 8), its bytes as packed, the length it claims, its checksum.
pub struct Entry<'a> {
    pub name: &'a str,
    pub method: u16,
    pub bytes: Vec<u8>,
    pub claims: u32,
    pub crc: u32,
}

impl<'a> Entry<'a> {
    pub fn stored(name: &'a str, bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        Entry { name, method: 0, bytes: bytes.to_vec(), claims: bytes.len() as u32, crc: crc.sum() }
    }
}

/// A zip file of these entries.
pub fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (vec![], vec![]);
    for e in entries {
        let mut common = vec![20, 0, 0, 0];
        common.extend(e.method.to_le_bytes());
        common.extend([0; 4]);
        for n in [e.crc, e.bytes.len() as u32, e.claims] {
            common.extend(n.to_le_bytes());
        }
        common.extend((e.name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(e.name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(common);
        out.extend(e.name.as_bytes());
        out.extend(&e.bytes);
    }
    let (start, count) = (out.len() as u32, (entries.len() as u16).to_le_bytes());
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// Zeros, some megabytes of them, packed to a thousandth.
pub fn packed_zeros(megabytes: usize) -> Vec<u8> {
    let mut one = flate2::Compress::new(Compression::best(), false);
    let (zeros, mut packed) = (vec![0; 1 << 20], Vec::with_capacity(1 << 14));
    one.compress_vec(&zeros, &mut packed, FlushCompress::Full).unwrap();
    let mut all = packed.repeat(megabytes);
    all.extend(DeflateEncoder::new(vec![], Compression::none()).finish().unwrap());
    all
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(vec![], Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A tar archive of one file.
pub fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    let mut out = tar::Builder::new(vec![]);
    out.append_data(&mut header, name, bytes).unwrap();
    out.into_inner().unwrap()
}

/// A pickle that calls `os.system("touch owned")` when it is executed.
pub fn malicious_pickle() -> Vec<u8> {
    b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch owned\x85R.".to_vec()
}

/// A pickle of lists in lists, ten times as many at every level.
pub fn pickle_of_lists(levels: u8) -> Vec<u8> {
    let mut out = b"\x80\x02]q\0".to_vec();
    for level in 1..=levels {
        out.extend([b']', b'q', level, b'(']);
        out.extend([b'h', level - 1].repeat(10));
        out.push(b'e');
    }
    out.push(b'.');
    out
}

/// An idx file: its sizes, then the bytes.
pub fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| out.extend(s.to_be_bytes()));
    out.extend(bytes);
    out
}

/// CIFAR-10 records of these labels.
pub fn cifar10(labels: &[u8]) -> Vec<u8> {
    let pixels = noise(3 * 32 * 32);
    labels.iter().flat_map(|&l| [&[l], &pixels[..]].concat()).collect()
}

/// A grey PNG.
pub fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let encoder = image::codecs::png::PngEncoder::new(&mut out);
    image::ImageEncoder::write_image(encoder, pixels, width, height, image::ExtendedColorType::L8).unwrap();
    out
}
