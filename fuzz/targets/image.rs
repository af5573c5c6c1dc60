//! JPEG and PNG files, decoded, resized and cut out.
#![no_main]

use rheobase_io::data::Transform;

/// Low, so that an input does not spend its time on filling pixels.
const MAX_PIXELS: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for channels in [1, 3] {
        let transform = Transform::new(Some([7, 9]), Some(11)).expect("sizes that fit");
        let mut pixels = vec![0.0; 7 * 9 * channels];
        match transform.read_bytes(data, MAX_PIXELS, channels, &mut pixels) {
            Ok(()) => rheobase_fuzz::check_pixels(&pixels),
            Err(error) => rheobase_fuzz::check_error(&error.to_string()),
        }
    }
});
