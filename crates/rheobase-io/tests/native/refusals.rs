//! Damaged and hostile files, each with its one line.

use rheobase_core::Kind;
use rheobase_core::network::zoo;
use rheobase_io::{export, import};
use serde_json::{Value, json};

/// A good file as header and tensors.
fn parts() -> (Value, Vec<u8>) {
    let network = zoo::random("cnn", 10, None, 4, 1).unwrap();
    let bytes = export::native::to_bytes(&network).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + size]).unwrap(), bytes[8 + size..].to_vec())
}

fn file(header: &Value, tensors: &[u8]) -> Vec<u8> {
    let text = header.to_string();
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(tensors);
    bytes
}

/// The file with its graph changed.
fn with_graph(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, tensors) = parts();
    let text = header["__metadata__"]["rheobase"].as_str().unwrap();
    let mut graph: Value = serde_json::from_str(text).unwrap();
    change(&mut graph);
    header["__metadata__"]["rheobase"] = graph.to_string().into();
    file(&header, &tensors)
}

fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, tensors) = parts();
    change(&mut header);
    file(&header, &tensors)
}

#[track_caller]
fn refused(bytes: &[u8], kind: Kind, start: &str) {
    let e = import::native::read_bytes(bytes, "m").unwrap_err();
    let text = e.to_string();
    assert!(text.starts_with(&format!("m: {start}")), "{text}");
    assert_eq!(e.kind(), kind, "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn the_unchanged_file_is_read() {
    let (header, tensors) = parts();
    import::native::read_bytes(&file(&header, &tensors), "m").unwrap();
}

#[test]
fn files_cut_short_anywhere_are_refused() {
    let (header, tensors) = parts();
    let good = file(&header, &tensors);
    for n in (0..good.len()).step_by(97).chain(0..20) {
        import::native::read_bytes(&good[..n], "m").unwrap_err();
    }
    refused(&[], Kind::Format, "the file is too short for a safetensors file");
    refused(&good[..100], Kind::Format, "the file is cut short inside its header");
    refused(
        &good[..good.len() - 1],
        Kind::Format,
        "the file is cut short: expected 208384 bytes of tensors, found 208383",
    );
    refused(&[&good[..], b"x"].concat(), Kind::Format, "the file is longer than its tensors");
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let mut bytes = (1u64 << 62).to_le_bytes().to_vec();
    bytes.extend(b"{}");
    refused(
        &bytes,
        Kind::Limit,
        "the safetensors header is too long: expected at most 16777216 bytes, found 4611686018427387904",
    );
    // Sizes whose sum overflows 64 bits.
    let mut header = json!({});
    let mut at = 0u64;
    for i in 0..8 {
        let end = at.saturating_add((1 << 61) - 1);
        header[format!("t{i}")] = json!({"dtype": "U8", "shape": [end - at], "data_offsets": [at, end]});
        at = end;
    }
    refused(&file(&header, &[]), Kind::Format, "the ");
    refused(
        &with_graph(|g| {
            g["nodes"][0]["op"]["shape"] = json!([1_000_000_000, 1, 1]);
            g["nodes"] = json!([g["nodes"][0]]);
            g["output"] = 0.into();
        }),
        Kind::Format,
        "tensor `1.weight`: the file holds a tensor that its graph does not know",
    );
}

#[test]
fn a_billion_classes_are_refused() {
    let graph = json!({
        "format": 1, "name": "x", "output": 0, "classes": [], "normalisation": null, "notes": [],
        "neuron": {"fires": "potential >= threshold", "reset": "subtract threshold"},
        "nodes": [{"name": "in", "inputs": [], "op": {"kind": "input", "shape": [1_000_000_000, 1, 1]}}],
    });
    let header = json!({"__metadata__": {"rheobase": graph.to_string()}});
    refused(&file(&header, &[]), Kind::Limit, "too many classes: expected at most 65536, found 1000000000");
}

#[test]
fn a_newer_format_is_refused_by_number() {
    refused(
        &with_graph(|g| {
            g["format"] = 2.into();
            g["something new"] = 1.into();
        }),
        Kind::Unsupported,
        "the file's format is not known to this version: expected format 1, found format 2 (read it",
    );
}

#[test]
fn a_safetensors_file_of_another_kind_is_refused_with_a_hint() {
    refused(
        &with_header(|h| {
            h.as_object_mut().unwrap().remove("__metadata__");
        }),
        Kind::Format,
        "a safetensors file without a graph, so not a Rheobase model (if it is a state dict,",
    );
    refused(b"\x02\0\0\0\0\0\0\0{}", Kind::Format, "a safetensors file without a graph");
}

#[test]
fn tensors_must_be_those_of_the_graph() {
    refused(
        &with_header(|h| {
            let t = h.as_object_mut().unwrap().remove("1.weight").unwrap();
            h["1.other"] = t;
        }),
        Kind::Format,
        "tensor `1.weight`: the file lacks a tensor that its graph needs",
    );
    refused(
        &with_header(|h| h["1.weight"]["dtype"] = "I32".into()),
        Kind::Format,
        "tensor `1.weight`: tensor has the wrong type: expected F32, found I32",
    );
    refused(
        &with_header(|h| h["1.weight"]["shape"] = json!([16, 9])),
        Kind::Shape,
        "node `conv1`: convolution weights need four dimensions",
    );
    refused(&with_header(|h| h["1.weight"]["shape"] = json!([4, 1, 4, 9])), Kind::Shape, "node `");
    refused(
        &with_header(|h| h["1.weight"]["shape"] = json!([1u64 << 40, 1u64 << 40, 0])),
        Kind::Format,
        "byte 8: the safetensors header is damaged",
    );
    refused(
        &with_header(|h| h["1.weight"]["data_offsets"] = json!([0, 10])),
        Kind::Format,
        "byte 8: the safetensors header is damaged",
    );
}

#[test]
fn numbers_must_be_finite() {
    let (header, mut tensors) = parts();
    tensors[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let e = import::native::read_bytes(&file(&header, &tensors), "m").unwrap_err();
    assert_eq!(e.kind(), Kind::Value);
    refused(
        &with_graph(|g| g["nodes"][2]["op"]["eps"] = json!(1e300)),
        Kind::Value,
        "node `bn1`: batch normalisation needs var + eps above 0",
    );
}

#[test]
fn graphs_that_make_no_sense_are_refused() {
    refused(
        &with_graph(|g| g["nodes"][2]["inputs"] = json!([5])),
        Kind::Format,
        "node `bn1`: reads node 5, which does not come before it",
    );
    refused(
        &with_graph(|g| g["output"] = 4_000_000_000u32.into()),
        Kind::Format,
        "the network's output is not one of its nodes",
    );
    refused(
        &with_graph(|g| g["output"] = json!(1u64 << 40)),
        Kind::Format,
        "the graph in the file's metadata is damaged: invalid value",
    );
    refused(
        &with_graph(|g| g["nodes"][1]["op"]["padding"] = json!([u32::MAX, u32::MAX, u32::MAX, 0])),
        Kind::Shape,
        "node `conv1`: kernel, stride or dilation makes no sense",
    );
    refused(
        &with_graph(|g| g["nodes"][3]["op"]["kind"] = "softsign".into()),
        Kind::Format,
        "the graph in the file's metadata is damaged: unknown variant `softsign`",
    );
    refused(
        &with_graph(|g| g["nodes"][3]["op"]["leak"] = 0.5.into()),
        Kind::Format,
        "the graph in the file's metadata is damaged: unknown field `leak`",
    );
    refused(
        &with_graph(|g| g["neuron"]["reset"] = "zero".into()),
        Kind::Format,
        "the graph in the file's metadata is damaged: unknown variant `zero`",
    );
    refused(
        &with_graph(|g| g["classes"] = json!(["a", "b"])),
        Kind::Shape,
        "class names do not match the network's output: expected 10 names, found 2",
    );
    refused(
        &with_graph(|g| g["normalisation"] = json!({"mean": [0.5], "std": [0.0]})),
        Kind::Usage,
        "normalisation makes no sense",
    );
    refused(&with_graph(|g| g["nodes"] = json!([])), Kind::Format, "tensor `");
}

#[test]
fn json_that_nests_without_end_is_refused() {
    let mut bytes = 100_000u64.to_le_bytes().to_vec();
    bytes.extend([b'['; 100_000]);
    refused(&bytes, Kind::Format, "byte 8: the safetensors header is damaged");
    refused(
        &with_header(|h| h["__metadata__"]["rheobase"] = "[".repeat(100_000).into()),
        Kind::Format,
        "the graph in the file's metadata is damaged",
    );
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let e = import::native::read("no/such.safetensors").unwrap_err();
    assert_eq!(e.to_string(), "no/such.safetensors: no such file or directory");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(import::native::read(folder.path()).unwrap_err().kind(), Kind::Io);
}
