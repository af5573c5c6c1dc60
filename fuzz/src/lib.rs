//! What the targets share.
//! In: what a parser made of the input. Out: nothing, or a panic if it breaks a promise.

use rheobase_core::network::shape;
use rheobase_core::samples::Samples;
use rheobase_core::{Network, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// No input of the sizes tried here, a hundred kilobytes at most, may need more in one piece. The zoo's VGG-16 for
/// ImageNet, with which state dicts are compared, has a matrix of 411 MB.
const MAX_ALLOCATION: usize = 512 << 20;

/// The system's allocator, which takes asking for too much as a crash; libFuzzer's own limit needs a sanitizer.
struct Limited;

#[global_allocator]
static LIMITED: Limited = Limited;

impl Limited {
    fn check(size: usize) {
        if size > MAX_ALLOCATION {
            eprintln!("asked for {size} bytes at once\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check(size);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

/// Between the two files that one input holds.
pub const SEPARATOR: &[u8] = b"\n--next file--\n";

/// The input's two files; both are the whole input where nothing separates them.
pub fn two_files(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        Some(at) => (&data[..at], &data[at + SEPARATOR.len()..]),
        None => (data, data),
    }
}

/// An error is one line; a network that is accepted has shapes.
pub fn check_network(result: Result<Network>) {
    match result {
        Ok(network) => {
            shape::infer(&network).expect("an imported network has shapes");
        }
        Err(error) => check_error(&error.to_string()),
    }
}

/// An error is one line; a data set that is accepted can be read from end to end.
pub fn check_samples(result: Result<Box<dyn Samples>>) {
    let samples = match result {
        Ok(samples) => samples,
        Err(error) => return check_error(&error.to_string()),
    };
    assert!(!samples.is_empty());
    let mut pixels = vec![f32::NAN; samples.shape().iter().product()];
    for index in [0, samples.len() / 2, samples.len() - 1] {
        let label = samples.read(index, &mut pixels).expect("an accepted image can be read");
        assert!(label < samples.classes().len());
        check_pixels(&pixels);
    }
}

/// Pixels lie in [0, 1].
pub fn check_pixels(pixels: &[f32]) {
    assert!(pixels.iter().all(|p| (0.0..=1.0).contains(p)), "pixels outside [0, 1]");
}

/// One line, of a length that a person reads.
pub fn check_error(line: &str) {
    assert!(!line.is_empty() && !line.chars().any(char::is_control), "not one clean line: {line:?}");
    assert!(line.len() < 20_000, "an error of {} bytes", line.len());
}

/// The data as a file, for parsers that seek in one.
pub fn as_file(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("space for a temporary file");
    file
}
