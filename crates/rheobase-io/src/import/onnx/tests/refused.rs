//! Every refusal: what the file holds and the line that says so.

use super::super::proto::tensor_shape_proto::{Dimension, dimension};
use super::super::proto::{StringStringEntryProto, TensorProto, type_proto};
use super::{Attr, Model, floats, ramp};

fn image() -> Model {
    Model::new([2, 8, 8], 17)
}

/// Changes the declared sizes of the image.
fn resized(f: impl Fn(&mut Vec<Dimension>, &mut i32)) -> Model {
    let mut m = image().head("x");
    let Some(type_proto::Value::TensorType(t)) = m.graph().input[0].r#type.as_mut().unwrap().value.as_mut()
    else {
        panic!()
    };
    let mut kind = 1;
    f(&mut t.shape.as_mut().unwrap().dim, &mut kind);
    t.elem_type = Some(kind);
    m
}

fn conv(weight: TensorProto, attributes: &[(&str, Attr)]) -> Model {
    let mut m = image().node("Conv", "x w", "c", attributes).head("c");
    m.graph().initializer.push(weight);
    m
}

fn with(mut m: Model, f: impl Fn(&mut Model)) -> Model {
    f(&mut m);
    m
}

fn weight() -> TensorProto {
    floats("w", &[2, 2, 3, 3], &ramp(36))
}

fn changed(f: impl Fn(&mut TensorProto)) -> Model {
    let mut w = weight();
    f(&mut w);
    conv(w, &[])
}

fn external(location: &str) -> TensorProto {
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    let mut w = weight();
    w.raw_data = None;
    w.data_location = Some(1);
    w.external_data = vec![entry("location", location), entry("offset", "0")];
    w
}

#[test]
fn each_refusal_is_one_line_that_names_the_place() {
    let sized = |n: i64| Dimension { value: Some(dimension::Value::DimValue(n)) };
    let cases: Vec<(Model, &str)> = vec![
        // the file
        (with(image().head("x"), |m| m.0.graph = None), "the file holds no ONNX graph"),
        (with(image().head("x"), |m| m.0.opset_import.clear()), "the file names no operator set"),
        (
            with(image().head("x"), |m| m.0.opset_import[0].version = Some(9)),
            "operator set is too old: expected 11 or newer, found 9",
        ),
        (
            with(image().head("x"), |m| m.graph().sparse_initializer.push(Default::default())),
            "sparse weights",
        ),
        // the image
        (with(image().head("x"), |m| m.graph().input.clear()), "must read one image: no input"),
        (resized(|d, _| d[2].value = None), "the image's size is not fixed"),
        (
            resized(|d, _| d[1].value = Some(dimension::Value::DimParam("C".into()))),
            "found [N, C, 8, 8] (export with a dummy image",
        ),
        (resized(|d, _| *d = [8, 8, 8, 3].map(sized).to_vec()), "the image's channels come last"),
        (
            resized(|d, _| d.truncate(2)),
            "the network must read an image: expected [N, C, H, W], found [N, 2]",
        ),
        (resized(|d, _| d[1..].iter_mut().for_each(|d| *d = sized(1 << 40))), "too large"),
        (
            resized(|_, kind| *kind = 10),
            "node `x`: the image must be float32: FLOAT16 (export the model in float32)",
        ),
        // the graph
        (image().node("Relu", "z", "r", &[]).head("r"), "node `r`: reads `z`, which nothing makes"),
        (image().node("Relu", "r", "r", &[]).head("r"), "node `r`: reads `r` before it is made"),
        (
            image().node("Relu", "b", "a", &[]).node("Relu", "a", "b", &[]).head("b"),
            "reads `b` before it is made",
        ),
        (
            image().node("Relu", "x", "a", &[]).node("Relu", "x", "a", &[]).head("a"),
            "value `a` is made twice",
        ),
        (image().node("Relu", "x", "x", &[]).head("x"), "value `x` is made twice"),
        (
            image().floats("w", &[1], &[1.0]).floats("w", &[1], &[1.0]).head("x"),
            "tensor `w`: weights are given twice",
        ),
        (image(), "the output `y` is not made from the image"),
        (
            image().scalar("w", 1.0).node("Identity", "w", "y", &[]),
            "the output `y` is not made from the image",
        ),
        (with(image().head("x"), |m| m.graph().output.clear()), "one output, its logits: no output"),
        (image().node("Relu", "x", "y", &[]), "the network's output is not one number per class"),
        (image().node("Relu", "-", "r", &[]).head("r"), "Relu lacks its input"),
        (image().node("Relu", "", "r", &[]).head("r"), "Relu lacks its input"),
        // weights
        (
            changed(|w| w.raw_data.as_mut().unwrap().truncate(40)),
            "tensor `w`: tensor's data does not match its shape: expected 144 bytes, found 40",
        ),
        (changed(|w| w.dims[0] = -2), "tensor `w`: tensor has a negative size"),
        (changed(|w| w.dims = vec![i64::MAX; 4]), "tensor `w`: tensor is larger than any memory"),
        (changed(|w| w.dims = vec![1 << 40]), "does not match its shape"),
        (changed(|w| w.dims = vec![1; 60]), "tensor has too many dimensions"),
        (changed(|w| w.data_type = Some(8)), "element type is not converted: STRING"),
        (changed(|w| w.data_type = Some(99)), "element type is not converted: 99"),
        (
            changed(|w| w.raw_data = Some([f32::NAN; 36].iter().flat_map(|x| x.to_le_bytes()).collect())),
            "tensor `w`: weights must be finite: NaN at index 0",
        ),
        (
            changed(|w| w.raw_data.as_mut().unwrap()[2..4].copy_from_slice(&[0x80, 0x7f])),
            "weights must be finite",
        ),
        (conv(external("w.bin"), &[]), "weights lie in another file: `w.bin` (read the model from its path)"),
        // layers
        (conv(floats("w", &[2, 2, 3], &ramp(12)), &[]), "only two-dimensional convolutions are converted"),
        (conv(floats("w", &[2, 3, 3, 3], &ramp(54)), &[]), "node `c`: input does not fit the weights"),
        (
            conv(weight(), &[("kernel_shape", Attr::Ints(vec![2, 2]))]),
            "kernel_shape does not match the weights",
        ),
        (conv(weight(), &[("group", Attr::Int(-1))]), "groups must be above 0"),
        (conv(weight(), &[("strides", Attr::Ints(vec![0, 1]))]), "strides are not converted"),
        (conv(weight(), &[("dilations", Attr::Ints(vec![1 << 30, 1]))]), "dilations are not converted"),
        (conv(weight(), &[("pads", Attr::Ints(vec![-1, 0, 0, 0]))]), "pads are not converted"),
        (conv(weight(), &[("pads", Attr::Int(1))]), "attribute `pads` is of another type"),
        (conv(weight(), &[("auto_pad", Attr::Text("SAME"))]), "unknown auto_pad: `SAME`"),
        (conv(weight(), &[("activation", Attr::Text("Relu"))]), "attribute `activation` is not known"),
        (image().node("Conv", "x x", "c", &[]).head("c"), "weights are computed from the image"),
        (
            image().floats("w", &[2, 3], &ramp(6)).node("MatMul", "x w", "y", &[]),
            "expected [N, features], found 2x8x8 read as [N, 2, 8, 8]",
        ),
        (
            image()
                .floats("s", &[2], &ramp(2))
                .node("BatchNormalization", "x s s s s", "b", &[("training_mode", Attr::Int(1))])
                .head("b"),
            "call `model.eval()` before the export",
        ),
        (
            image().floats("s", &[3], &ramp(3)).node("BatchNormalization", "x s s s s", "b", &[]).head("b"),
            "scale do not match the channels",
        ),
        // operators
        (
            image().node("Sigmoid", "x", "s", &[]).head("s"),
            "node `s`: Sigmoid: a spiking neuron stands for ReLU, ReLU6 or QCFS only",
        ),
        (
            image().node("LeakyRelu", "x", "s", &[("alpha", Attr::Float(0.1))]).head("s"),
            "LeakyRelu: a spiking neuron",
        ),
        (image().node("If", "x", "s", &[]).head("s"), "control flow is not converted"),
        (
            with(image().node("Magic", "x", "s", &[]).head("s"), |m| {
                m.graph().node[0].domain = Some("com.vendor".into())
            }),
            "domain `com.vendor` is not known",
        ),
        (image().node("Mul", "x x", "s", &[]).head("s"), "Mul of two computed values is not converted"),
        (
            image().scalar("c", 1.0).node("Div", "c x", "s", &[]).head("s"),
            "a constant divided by a computed value",
        ),
        (image().scalar("c", 0.0).node("Div", "x c", "s", &[]).head("s"), "division by zero"),
        (image().scalar("c", f32::INFINITY).node("Mul", "x c", "s", &[]).head("s"), "weights must be finite"),
        (
            image().floats("c", &[8, 8], &ramp(64)).node("Mul", "x c", "s", &[]).head("s"),
            "a constant that differs from pixel to pixel",
        ),
        (
            image().floats("c", &[3, 1, 1], &ramp(3)).node("Add", "x c", "s", &[]).head("s"),
            "a constant of this shape",
        ),
        (image().node("Softmax", "x", "s", &[]).head("s"), "only over the classes at the very end"),
        (
            image().node("Cast", "x", "s", &[("to", Attr::Int(10))]).head("s"),
            "values of the network stay float32",
        ),
        (
            image().node("Transpose", "x", "s", &[("perm", Attr::Ints(vec![0, 2, 3, 1]))]).head("s"),
            "a transpose that moves numbers",
        ),
        (image().ints("t", &[-1, 8]).node("Reshape", "x t", "y", &[]), "only a reshape that keeps the batch"),
        (
            image().ints("t", &[0, 3, -1]).node("Reshape", "x t", "s", &[]).head("s"),
            "only a reshape that keeps the batch",
        ),
        (
            image().node("Flatten", "x", "y", &[("axis", Attr::Int(0))]),
            "only a flattening that keeps the batch",
        ),
        (
            image()
                .ints("p", &[0, 0, 1, 1, 0, 0, 1, 1])
                .node("Pad", "x p", "s", &[("mode", Attr::Text("reflect"))])
                .head("s"),
            "only padding by zeros is converted: mode `reflect`",
        ),
        (
            image()
                .ints("p", &[0, 0, 1, 1, 0, 0, 1, 1])
                .scalar("v", 1.0)
                .node("Pad", "x p v", "s", &[])
                .head("s"),
            "only padding by zeros is converted: 1",
        ),
        (
            image().ints("p", &[0, 0, 1, 1, 0, 0, 1, 1]).node("Pad", "x p", "s", &[]).head("s"),
            "zero padding is converted only before a convolution or pool",
        ),
        (
            image().ints("p", &[0, 0, -1, 0, 0, 0, 0, 0]).node("Pad", "x p", "s", &[]).head("s"),
            "pads are not converted",
        ),
        (
            image().ints("p", &[1, 1]).node("Pad", "x p", "s", &[]).head("s"),
            "Pad's amounts do not match the value",
        ),
        (
            image()
                .ints("a", &[1])
                .ints("b", &[9])
                .ints("c", &[2])
                .node("Slice", "x a b c", "s", &[])
                .head("s"),
            "only slices that take every k-th pixel",
        ),
        (image().node("Concat", "x x", "s", &[("axis", Attr::Int(2))]).head("s"), "only channels are joined"),
        (
            image().node("ReduceMean", "x", "s", &[("axes", Attr::Ints(vec![1]))]).head("s"),
            "only means over positions are converted",
        ),
        (
            image().node("ReduceMean", "x", "s", &[("axes", Attr::Ints(vec![9]))]).head("s"),
            "axis outside the value",
        ),
        (
            image()
                .node(
                    "MaxPool",
                    "x",
                    "s",
                    &[("kernel_shape", Attr::Ints(vec![2, 2])), ("dilations", Attr::Ints(vec![2, 2]))],
                )
                .head("s"),
            "dilated pools are not converted",
        ),
        (
            image().node("MaxPool", "x", "s", &[("kernel_shape", Attr::Ints(vec![20, 2]))]).head("s"),
            "the window is larger than its padded input",
        ),
        (
            image()
                .ints("big", &[1 << 20, 1 << 20])
                .node("ConstantOfShape", "big", "c", &[])
                .node("Add", "x c", "s", &[])
                .head("s"),
            "far more computed numbers than it holds",
        ),
        (
            with(
                image()
                    .node("Dropout", "x", "d", &[])
                    .node("Identity", "mask", "i", &[])
                    .node("Add", "d i", "s", &[])
                    .head("s"),
                |m| m.graph().node[0].output.push("mask".into()),
            ),
            "its output 1 is not converted",
        ),
    ];
    for (i, (model, expected)) in cases.iter().enumerate() {
        let e = model.error();
        assert!(e.starts_with("model.onnx: ") && !e.contains('\n'), "case {i}: {e}");
        assert!(e.contains(expected), "case {i}: expected `{expected}` in: {e}");
    }
}

#[test]
fn all_unsupported_nodes_are_listed_at_once() {
    let m = image()
        .node("Sigmoid", "x", "s1", &[])
        .node("Relu", "s1", "r", &[])
        .node("Sigmoid", "r", "s2", &[])
        .node("Magic", "s2", "m", &[])
        .head("m");
    assert_eq!(
        m.error(),
        "model.onnx: 3 nodes cannot be converted: Sigmoid `s1`, `s2`; Magic `m` \
         (the first: node `s1`: Sigmoid: a spiking neuron stands for ReLU, ReLU6 or QCFS only)"
    );
}

#[test]
fn an_empty_file_is_no_empty_model() {
    let e = super::super::read_bytes(&[], None, "a.onnx").unwrap_err();
    assert_eq!(e.to_string(), "a.onnx: the file is empty");
    let e = super::super::read("no/such.onnx".as_ref()).unwrap_err();
    assert_eq!(e.to_string(), "no/such.onnx: no such file or directory");
    let e = super::super::read_bytes(b"PK\x03\x04 not onnx", None, "a.onnx").unwrap_err();
    assert!(e.to_string().starts_with("a.onnx: not an ONNX file, or damaged: "), "{e}");
}

#[test]
fn external_data_stays_in_the_models_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let bytes: Vec<u8> = ramp(36).iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join("w.bin"), &bytes).unwrap();
    std::fs::write(root.path().join("outside.bin"), &bytes).unwrap();
    std::fs::write(folder.join("short.bin"), &bytes[..100]).unwrap();
    let read = |location: &str| {
        let model = conv(external(location), &[]).bytes();
        super::super::read_bytes(&model, Some(&folder), "model.onnx").map_err(|e| e.to_string())
    };
    assert!(read("w.bin").is_ok());
    assert!(read("./w.bin").is_ok());
    for outside in ["../outside.bin", "/etc/hosts", "sub/../../outside.bin"] {
        let e = read(outside).unwrap_err();
        assert!(e.contains("external data must lie inside the model's folder"), "{e}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.path().join("outside.bin"), folder.join("link.bin")).unwrap();
        assert!(read("link.bin").unwrap_err().contains("inside the model's folder"));
    }
    assert!(read("missing.bin").unwrap_err().contains("no such file or directory"));
    let short = read("short.bin").unwrap_err();
    assert!(
        short.contains(
            "external data ends too early: expected 144 bytes from byte 0, found a file of 100 bytes"
        ),
        "{short}"
    );
    assert!(read("").unwrap_err().contains("external data names no file"));
}
