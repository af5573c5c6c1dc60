//! Tiny committed exports give ONNX Runtime's logits: tests/onnx/SOURCE.md says how they were made.
#![cfg(feature = "onnx")]

#[path = "onnx/compare.rs"]
mod compare;

use std::path::Path;

use compare::gap;
use rheobase_io::import::onnx;

#[derive(serde::Deserialize)]
struct Golden {
    shape: [usize; 3],
    pixels: Vec<Vec<u8>>,
    logits: Vec<Vec<f32>>,
}

#[test]
fn golden_exports_give_onnx_runtimes_logits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let json = std::fs::read_to_string(file.with_extension("json")).unwrap();
        let golden: Golden = serde_json::from_str(&json).unwrap();
        let network = onnx::read(&file).unwrap();
        assert_eq!(network.input_shape(), golden.shape, "{name}");
        let images: Vec<f32> = golden.pixels.iter().flatten().map(|&p| f32::from(p) / 64.0 - 2.0).collect();
        let gap = gap(&network, &images, &golden.logits.concat());
        assert!(gap.quantile(1.0) < 1e-4, "{name}: error {}", gap.quantile(1.0));
        assert_eq!(gap.classes, 0, "{name}");
        files += 1;
    }
    assert!(files >= 12, "{files} golden files found");
}
