//! Networks exported by PyTorch on this machine give ONNX Runtime's logits on 200 real images each.
//! In: the folder that `bench/onnx_exports.py` filled, named by `RHEOBASE_ONNX_EXPORTS`; without it the test says that it is skipped.
#![cfg(feature = "onnx")]

#[path = "onnx/compare.rs"]
mod compare;

use std::path::Path;

use compare::gap;
use rheobase_core::network::{ActivationKind, Op};
use rheobase_io::import::onnx;

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn exported_networks_agree_with_onnx_runtime() {
    let Some(folder) = std::env::var_os("RHEOBASE_ONNX_EXPORTS") else {
        println!(
            "skipped: RHEOBASE_ONNX_EXPORTS is not set; bench/onnx_exports.py makes the folder it should name"
        );
        return;
    };
    let folder = Path::new(&folder);
    let images = floats(&folder.join("images.f32"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx") && p.with_extension("f32").exists())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no exported networks in {}", folder.display());
    let mut wrong = 0;
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let network = match onnx::read(file) {
            Ok(network) => network,
            Err(e) => {
                println!("{name:45} {e}");
                wrong += 1;
                continue;
            }
        };
        let gap = gap(&network, &images, &floats(&file.with_extension("f32")));
        // At a tie of floor, rounding decides in which of two steps a neuron of a QCFS network ends.
        let is_qcfs = network
            .nodes
            .iter()
            .any(|n| matches!(&n.op, Op::Activation(a) if matches!(a.kind, ActivationKind::Qcfs { .. })));
        let (usual, worst) = (gap.quantile(0.95), gap.quantile(1.0));
        let good = gap.classes == 0 && if is_qcfs { usual < 1e-3 } else { worst < 1e-3 };
        wrong += usize::from(!good);
        let verdict = if good { "" } else { "  WRONG" };
        println!(
            "{name:45} 95 % within {usual:.1e}, all within {worst:.1e}, classes that differ: {}{verdict}",
            gap.classes
        );
    }
    println!("{} of {} files agree", files.len() - wrong, files.len());
    assert_eq!(wrong, 0);
}
