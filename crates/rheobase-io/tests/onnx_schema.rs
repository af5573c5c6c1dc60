//! The checked-in ONNX types are what their schema generates.
//! In: src/import/onnx/onnx.proto. Out: src/import/onnx/proto.rs, compared, or rewritten where `RHEOBASE_BLESS` is set.
#![cfg(feature = "onnx")]

use std::path::Path;

#[test]
fn generated_types_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/onnx");
    let descriptors = protox::compile(["onnx.proto"], [&folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(out.path()).compile_fds(descriptors).unwrap();
    let fresh = std::fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    let kept = folder.join("proto.rs");
    if std::env::var_os("RHEOBASE_BLESS").is_some() {
        std::fs::write(&kept, &fresh).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&kept).unwrap_or_default(),
        fresh,
        "run the test once with RHEOBASE_BLESS=1 and commit proto.rs"
    );
}
