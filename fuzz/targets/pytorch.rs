//! State dicts: pickles in both layouts, and safetensors without a graph.
#![no_main]

use rheobase_io::import::{self, Options};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = rheobase_fuzz::as_file(data);
    let options = Options { arch: Some("cnn".into()), ..Options::default() };
    let result = match data.first() {
        // How both layouts of `torch.save` begin.
        Some(b'P' | 0x80) => import::pytorch::read(file.path(), &options),
        _ => import::pytorch::read_safetensors(file.path(), &options),
    };
    rheobase_fuzz::check_network(result);
});
