//! Attribute forms and input forms of the same operators, and what becomes of each.

use rheobase_core::network::{ActivationKind, Op, Pool, PoolKind, Shortcut};

use super::super::proto::{FunctionProto, StringStringEntryProto};
use super::{Attr, Model, attribute, node, ramp};

fn image() -> Model {
    Model::new([2, 8, 8], 17)
}

fn first(m: &Model) -> Op {
    m.read().unwrap().nodes[1].op.clone()
}

#[test]
fn clip_takes_its_bounds_from_attributes_or_inputs() {
    let six = ActivationKind::Clip { ceiling: 6.0 };
    let attributes =
        image().node("Clip", "x", "c", &[("min", Attr::Float(0.0)), ("max", Attr::Float(6.0))]).head("c");
    let inputs = image().scalar("a", 0.0).scalar("b", 6.0).node("Clip", "x a b", "c", &[]).head("c");
    let open = image().scalar("a", 0.0).node("Clip", "x a -", "c", &[]).head("c");
    for (m, kind) in [(attributes, six), (inputs, six), (open, ActivationKind::Relu)] {
        let Op::Activation(a) = first(&m) else { panic!() };
        assert_eq!((a.kind, a.threshold), (kind, None));
    }
}

#[test]
fn axes_come_from_attributes_or_inputs() {
    let mean = [("axes", Attr::Ints(vec![-1, 2])), ("keepdims", Attr::Int(0))];
    assert_eq!(image().node("ReduceMean", "x", "y", &mean).ops(), ["GlobalAvgPool"]);
    let keep = image().ints("a", &[2, 3]).node("ReduceMean", "x a", "m", &[]).node(
        "Squeeze",
        "m",
        "y",
        &[("axes", Attr::Ints(vec![2, 3]))],
    );
    assert_eq!(keep.ops(), ["GlobalAvgPool"]);
    let there = image()
        .head("x")
        .ints("two", &[2])
        .node("Unsqueeze", "y two", "u", &[])
        .node("Squeeze", "u two", "z", &[])
        .node("Identity", "z", "w", &[]);
    let mut there = there;
    there.graph().output[0].name = Some("w".into());
    assert_eq!(there.ops(), ["GlobalAvgPool"]);
}

#[test]
fn one_mean_after_the_other_is_exact() {
    let rows = [("axes", Attr::Ints(vec![3])), ("keepdims", Attr::Int(0))];
    let columns = [("axes", Attr::Ints(vec![2])), ("keepdims", Attr::Int(0))];
    let m = image().node("ReduceMean", "x", "a", &rows).node("ReduceMean", "a", "y", &columns);
    assert_eq!(m.ops(), ["AvgPool", "GlobalAvgPool"]);
}

#[test]
fn automatic_padding_is_worked_out() {
    let conv = |mode: &'static str, stride: i64| {
        image()
            .floats("w", &[1, 2, 3, 2], &ramp(12))
            .node(
                "Conv",
                "x w",
                "c",
                &[("auto_pad", Attr::Text(mode)), ("strides", Attr::Ints(vec![stride, 1]))],
            )
            .head("c")
    };
    let padding = |m: &Model| match first(m) {
        Op::Conv2d(c) => c.padding,
        other => panic!("{other:?}"),
    };
    assert_eq!(padding(&conv("SAME_UPPER", 1)), [1, 0, 1, 1]);
    assert_eq!(padding(&conv("SAME_LOWER", 1)), [1, 1, 1, 0]);
    assert_eq!(padding(&conv("SAME_UPPER", 2)), [0, 0, 1, 1]);
    assert_eq!(padding(&conv("VALID", 1)), [0; 4]);
}

#[test]
fn gemm_takes_its_matrix_either_way_round() {
    let flat = || {
        Model::new([2, 1, 1], 17).node("Flatten", "x", "f", &[]).floats("w", &[2, 3], &ramp(6)).floats(
            "b",
            &[3],
            &ramp(3),
        )
    };
    let gemm = flat().node("Gemm", "f w b", "y", &[("alpha", Attr::Float(2.0)), ("beta", Attr::Float(10.0))]);
    let Op::Linear(l) = first(&gemm) else { panic!() };
    assert_eq!(l.weight.shape, [3, 2]);
    assert_eq!(l.weight.data, [0.2, 0.8, 0.4, 1.0, 0.6, 1.2]);
    assert_eq!(l.bias.unwrap().len(), 3);
    // A sum after a product is the layer's bias.
    let product = flat().node("MatMul", "f w", "p", &[]).node("Add", "p b", "y", &[]);
    assert_eq!(product.ops(), ["Linear"]);
    let Op::Linear(l) = first(&product) else { panic!() };
    assert_eq!(l.bias, Some(ramp(3)));
    // ... but not where something else reads the product.
    let shared =
        flat().node("MatMul", "f w", "p", &[]).node("Add", "p b", "a", &[]).node("Add", "a p", "y", &[]);
    assert_eq!(shared.ops(), ["Linear", "BatchNorm", "Add"]);
}

#[test]
fn pools_say_what_counts() {
    let pool = |attributes: &[(&str, Attr)]| image().node("AveragePool", "x", "p", attributes).head("p");
    let kernel = ("kernel_shape", Attr::Ints(vec![3, 3]));
    let own = [kernel.clone(), ("pads", Attr::Ints(vec![1, 1, 0, 0])), ("count_include_pad", Attr::Int(1))];
    let expected = Pool {
        kind: PoolKind::Average { count_padding: true },
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1, 0, 0],
        ceil: false,
    };
    assert_eq!(first(&pool(&own)), Op::Pool(expected.clone()));
    let padded = image().ints("p", &[0, 0, 1, 1, 0, 0, 0, 0]).node("Pad", "x p", "q", &[]).node(
        "AveragePool",
        "q",
        "r",
        std::slice::from_ref(&kernel),
    );
    assert_eq!(first(&padded.head("r")), Op::Pool(expected));
    // Rounding up that changes nothing is no rounding.
    let ceil = [
        ("kernel_shape", Attr::Ints(vec![2, 2])),
        ("ceil_mode", Attr::Int(1)),
        ("strides", Attr::Ints(vec![2, 2])),
    ];
    let Op::Pool(p) = first(&pool(&ceil)) else { panic!() };
    assert!(!p.ceil);
    let odd = [kernel, ("ceil_mode", Attr::Int(1)), ("strides", Attr::Ints(vec![2, 2]))];
    let Op::Pool(p) = first(&pool(&odd)) else { panic!() };
    assert!(p.ceil);
}

#[test]
fn slices_and_zeros_are_one_shortcut() {
    let m = image()
        .ints("start", &[0, 0])
        .ints("end", &[i64::MAX, 100])
        .ints("axes", &[-2, 3])
        .ints("steps", &[2, 2])
        .node("Slice", "x start end axes steps", "s", &[])
        .node("ConstantOfShape", "size", "z", &[])
        .node("Concat", "z s z", "c", &[("axis", Attr::Int(1))])
        .head("c");
    let mut m = m;
    let shape = node("Shape", "s", "shape", &[]);
    let size = node("Identity", "shape", "size", &[]);
    m.graph().node.splice(1..1, [shape, size]);
    let Op::Shortcut(s) = first(&m) else { panic!() };
    assert_eq!(s, Shortcut { stride: [2, 2], before: 2, after: 2 });
    let pixels = image().node(
        "MaxPool",
        "x",
        "p",
        &[("kernel_shape", Attr::Ints(vec![1, 1])), ("strides", Attr::Ints(vec![2, 3]))],
    );
    assert_eq!(first(&pixels.head("p")), Op::Shortcut(Shortcut { stride: [2, 3], before: 0, after: 0 }));
}

#[test]
fn a_softmax_at_the_end_is_dropped_and_noted() {
    let mut m = image().head("x").node("Softmax", "y", "z", &[]);
    m.graph().output[0].name = Some("z".into());
    let network = m.read().unwrap();
    assert_eq!(network.notes, ["dropped Softmax `z` at the end: the output is the logits"]);
}

#[test]
fn functions_are_written_out() {
    let mut m = image().node("act", "x", "a", &[("top", Attr::Float(6.0))]).head("a");
    let mut clip = node("Clip", "v", "w", &[("min", Attr::Float(0.0))]);
    let mut top = attribute("max", &Attr::Float(0.0));
    top.ref_attr_name = Some("top".into());
    top.f = None;
    clip.attribute.push(top);
    let function = FunctionProto {
        name: Some("act".into()),
        domain: Some("mine".into()),
        input: vec!["v".into()],
        output: vec!["w".into()],
        attribute: vec!["top".into()],
        node: vec![clip],
        ..Default::default()
    };
    m.graph().node[0].domain = Some("mine".into());
    m.0.functions.push(function);
    let Op::Activation(a) = first(&m) else { panic!() };
    assert_eq!(a.kind, ActivationKind::Clip { ceiling: 6.0 });
    // One that calls itself ends.
    m.0.functions[0].node.push(m.0.graph.as_ref().unwrap().node[0].clone());
    m.0.functions[0].node[1].output = vec!["again".into()];
    assert!(m.error().contains("functions call each other too deeply"), "{}", m.error());
}

#[test]
fn class_names_are_read_where_they_fit() {
    let mut m = image().head("x");
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    m.0.metadata_props = vec![entry("names", "{0: 'cat', 1: 'dog'}")];
    assert_eq!(m.read().unwrap().classes, ["cat", "dog"]);
    m.0.metadata_props = vec![entry("classes", "a, b, c")];
    let network = m.read().unwrap();
    assert!(network.classes.is_empty());
    assert_eq!(network.notes, ["left out 3 class names of the file: the network has 2 outputs"]);
}

#[test]
fn dead_nodes_are_ignored() {
    assert_eq!(image().node("Sigmoid", "x", "dead", &[]).head("x").ops(), ["GlobalAvgPool"]);
}
