//! ONNX models, without the files beside them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rheobase_fuzz::check_network(rheobase_io::import::onnx::read_bytes(data, None, "fuzz"));
});
