//! The idx files of MNIST: images and labels, gzipped or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (images, labels) = rheobase_fuzz::two_files(data);
    rheobase_fuzz::check_samples(rheobase_io::data::parse_idx_bytes(images, labels));
});
