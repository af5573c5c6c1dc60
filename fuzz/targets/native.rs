//! Rheobase's own files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rheobase_fuzz::check_network(rheobase_io::import::native::read_bytes(data, "fuzz"));
});
