//! Constant chains, as exporters write them around a Pad, a Reshape or a Clip.

use rheobase_core::network::{Op, Shortcut};

use super::{Attr, Model, floats, ints, ramp};

/// The amounts of a Pad as PyTorch computes them: reversed pairs, transposed, flattened, cast.
fn pad_chain(shortest: [i64; 6]) -> Model {
    Model::new([4, 8, 8], 17)
        .ints("amounts", &shortest)
        .ints("two", &[2])
        .node("ConstantOfShape", "two", "zeros", &[("value", Attr::Tensor(Box::new(ints("", &[1], &[0]))))])
        .node("Concat", "amounts zeros", "all", &[("axis", Attr::Int(0))])
        .ints("pairs", &[-1, 2])
        .node("Reshape", "all pairs", "table", &[])
        .ints("zero", &[0])
        .ints("last", &[-1])
        .ints("first", &[-9223372036854775807])
        .node("Slice", "table last first zero last", "reversed", &[])
        .node("Transpose", "reversed", "turned", &[("perm", Attr::Ints(vec![1, 0]))])
        .node("Reshape", "turned last", "flat", &[])
        .node("Cast", "flat", "pads", &[("to", Attr::Int(7))])
}

#[test]
fn a_pads_amounts_come_through_a_chain_of_constants() {
    let m = pad_chain([0, 0, 0, 0, 1, 3])
        .node("Pad", "x pads", "p", &[("mode", Attr::Text("constant"))])
        .head("p");
    assert_eq!(m.ops(), ["Shortcut", "GlobalAvgPool"]);
    let network = m.read().unwrap();
    let Op::Shortcut(s) = &network.nodes[1].op else { panic!() };
    assert_eq!(*s, Shortcut { stride: [1, 1], before: 1, after: 3 });
    assert_eq!(network.nodes[1].name, "p");
}

#[test]
fn zeros_around_the_image_become_the_convolutions_padding() {
    let m = pad_chain([1, 2, 3, 4, 0, 0])
        .node("Pad", "x pads", "p", &[])
        .floats("w", &[2, 4, 3, 3], &ramp(72))
        .node("Conv", "p w", "c", &[("pads", Attr::Ints(vec![1, 0, 0, 0]))])
        .head("c");
    let network = m.read().unwrap();
    let Op::Conv2d(c) = &network.nodes[1].op else { panic!() };
    assert_eq!(c.padding, [4, 1, 4, 2]);
}

#[test]
fn shapes_with_a_symbolic_batch_are_computed() {
    let start = || Model::new([2, 3, 4], 17).ints("i0", &[0]).ints("zero", &[0]).ints("minus", &[-1]);
    // x.view(x.size(0), -1)
    let view = start()
        .node("Shape", "x", "s", &[])
        .node("Gather", "s zero", "n", &[("axis", Attr::Int(0))])
        .node("Concat", "n minus", "target", &[("axis", Attr::Int(0))])
        .node("Reshape", "x target", "y", &[]);
    assert_eq!(view.ops(), ["Flatten"]);
    // The same through arithmetic that leaves the batch alone, and sizes multiplied together.
    let product = start()
        .node("Shape", "x", "s", &[("end", Attr::Int(1))])
        .node("Shape", "x", "rest", &[("start", Attr::Int(1))])
        .ints("one", &[1])
        .ints("two", &[2])
        .node("Mul", "s one", "n", &[])
        .node("Gather", "rest zero", "c", &[])
        .node("Gather", "rest one", "h", &[])
        .node("Gather", "rest two", "w", &[])
        .node("Mul", "c h", "ch", &[])
        .node("Mul", "ch w", "chw", &[])
        .node("Concat", "n chw", "target", &[("axis", Attr::Int(0))])
        .node("Reshape", "x target", "y", &[]);
    assert_eq!(product.ops(), ["Flatten"]);
    // What would mix images is refused.
    let mixed = start()
        .node("Shape", "x", "s", &[])
        .node("Gather", "s zero", "n", &[("axis", Attr::Int(0))])
        .node("Concat", "minus n", "target", &[("axis", Attr::Int(0))])
        .node("Reshape", "x target", "y", &[]);
    assert!(mixed.error().contains("only a reshape that keeps the batch is converted"), "{}", mixed.error());
}

#[test]
fn weights_may_be_computed() {
    let m = Model::new([2, 3, 3], 17)
        .floats("v", &[2, 1, 1, 1], &[1.0, 4.0])
        .floats("g", &[2, 1, 1, 1], &[3.0, 2.0])
        .ints("to", &[2, 2, 1, 1])
        .node("Sqrt", "v", "norm", &[])
        .node("Div", "g norm", "scale", &[])
        .node("Expand", "scale to", "w", &[])
        .node("Conv", "x w", "c", &[])
        .head("c");
    let network = m.read().unwrap();
    let Op::Conv2d(c) = &network.nodes[1].op else { panic!() };
    assert_eq!(c.weight.data, [3.0, 3.0, 1.0, 1.0]);
}

#[test]
fn every_encoding_of_weights_gives_the_same_numbers() {
    use super::super::proto::tensor_proto::DataType;
    let numbers = [1.0f32, -2.0, 0.5, 3.0];
    let plain = floats("w", &[2, 2, 1, 1], &numbers);
    let typed = |t: DataType| {
        let mut p = plain.clone();
        p.raw_data = None;
        p.data_type = Some(t as i32);
        p
    };
    let mut all = vec![plain.clone()];
    let mut p = typed(DataType::Float);
    p.float_data = numbers.to_vec();
    all.push(p);
    let mut p = typed(DataType::Double);
    p.double_data = numbers.iter().map(|&x| x.into()).collect();
    all.push(p);
    let mut p = typed(DataType::Double);
    p.raw_data = Some(numbers.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect());
    all.push(p);
    let mut p = typed(DataType::Float16);
    p.int32_data = vec![0x3c00, 0xc000, 0x3800, 0x4200];
    all.push(p);
    let mut p = typed(DataType::Bfloat16);
    p.raw_data = Some(numbers.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect());
    all.push(p);
    for tensor in all {
        let mut m = Model::new([2, 3, 3], 17).node("Conv", "x w", "c", &[]).head("c");
        m.graph().initializer.push(tensor);
        let network = m.read().unwrap();
        let Op::Conv2d(c) = &network.nodes[1].op else { panic!() };
        assert_eq!(c.weight.data, numbers);
    }
}
