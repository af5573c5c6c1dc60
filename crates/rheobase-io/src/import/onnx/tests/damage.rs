//! Damaged and hostile files end in an error: no panic, no large allocation.

use super::super::proto::{FunctionProto, NodeProto};
use super::{Attr, Model, node, ramp};

/// Small, repeatable random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// A model with a little of everything.
fn busy() -> Model {
    Model::new([2, 8, 8], 17)
        .floats("w", &[4, 2, 3, 3], &ramp(72))
        .floats("b", &[4], &ramp(4))
        .node(
            "Conv",
            "x w b",
            "c",
            &[("pads", Attr::Ints(vec![1, 1, 1, 1])), ("strides", Attr::Ints(vec![2, 2]))],
        )
        .floats("s", &[4], &ramp(4))
        .node("BatchNormalization", "c s s s s", "n", &[("epsilon", Attr::Float(1e-5))])
        .scalar("up", 2.0)
        .scalar("four", 4.0)
        .scalar("half", 0.5)
        .scalar("zero", 0.0)
        .scalar("one", 1.0)
        .node("Div", "n up", "q1", &[])
        .node("Mul", "q1 four", "q2", &[])
        .node("Add", "q2 half", "q3", &[])
        .node("Floor", "q3", "q4", &[])
        .node("Div", "q4 four", "q5", &[])
        .node("Clip", "q5 zero one", "q6", &[])
        .node("Mul", "q6 up", "a", &[])
        .ints("i0", &[0, 0])
        .ints("i1", &[i64::MAX, i64::MAX])
        .ints("i2", &[2, 3])
        .ints("i3", &[2, 2])
        .node("Slice", "x i0 i1 i2 i3", "cut", &[])
        .ints("p0", &[0, 1, 0, 0, 0, 1, 0, 0])
        .node("Pad", "cut p0", "short", &[])
        .node("Add", "a short", "sum", &[])
        .node("Concat", "sum a", "join", &[("axis", Attr::Int(1))])
        .node(
            "AveragePool",
            "join",
            "pool",
            &[("kernel_shape", Attr::Ints(vec![3, 3])), ("ceil_mode", Attr::Int(1))],
        )
        .node("Shape", "pool", "shape", &[])
        .ints("g", &[0])
        .node("Gather", "shape g", "batch", &[])
        .ints("m1", &[-1])
        .node("Concat", "batch m1", "target", &[("axis", Attr::Int(0))])
        .node("Reshape", "pool target", "flat", &[])
        .floats("fw", &[3, 32], &ramp(96))
        .node("Gemm", "flat fw", "y", &[("transB", Attr::Int(1))])
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = busy().bytes();
    assert!(busy().read().is_ok(), "{}", busy().error());
    let mut dice = Dice(7);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            match dice.roll(4) {
                0 => bytes[at] = dice.roll(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, dice.roll(256) as u8),
                _ => {
                    bytes.remove(at);
                    bytes.push(0);
                }
            }
        }
        let _ = super::super::read_bytes(&bytes, None, "fuzz");
    }
}

/// Numbers at the edges of what sizes, axes and steps can be.
const EDGES: &[i64] =
    &[i64::MIN, i64::MIN + 1, -(1 << 40), -5, -2, -1, 0, 1, 2, 3, 7, 9, 1 << 20, 1 << 31, 1 << 40, i64::MAX];

fn disturb(dice: &mut Dice, m: &mut Model) {
    let graph = m.graph();
    let names: Vec<String> =
        graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    let ops: Vec<Option<String>> = graph.node.iter().map(|n| n.op_type.clone()).collect();
    let count = graph.node.len();
    let node: &mut NodeProto = &mut graph.node[dice.roll(count)];
    match dice.roll(8) {
        0 => {
            let i = dice.roll(node.input.len());
            if let Some(input) = node.input.get_mut(i) {
                *input = names[dice.roll(names.len())].clone();
            }
        }
        1 => node.op_type = ops[dice.roll(ops.len())].clone(),
        2 | 3 => {
            let i = dice.roll(node.attribute.len());
            if let Some(a) = node.attribute.get_mut(i) {
                let j = dice.roll(a.ints.len());
                match a.ints.get_mut(j) {
                    Some(n) => *n = EDGES[dice.roll(EDGES.len())],
                    None => a.i = Some(EDGES[dice.roll(EDGES.len())]),
                }
            }
        }
        4 => node.input.truncate(dice.roll(3)),
        5 | 6 => {
            let n = graph.initializer.len();
            let t = &mut graph.initializer[dice.roll(n)];
            let j = dice.roll(t.int64_data.len());
            match t.int64_data.get_mut(j) {
                Some(n) => *n = EDGES[dice.roll(EDGES.len())],
                None => {
                    let j = dice.roll(t.dims.len());
                    if let Some(d) = t.dims.get_mut(j) {
                        *d = EDGES[dice.roll(EDGES.len())];
                    }
                }
            }
        }
        _ => {
            let swapped = dice.roll(count);
            let other = dice.roll(count);
            graph.node.swap(swapped, other);
        }
    }
}

#[test]
fn disturbed_graphs_never_panic() {
    let mut dice = Dice(11);
    for _ in 0..20_000 {
        let mut m = busy();
        for _ in 0..=dice.roll(3) {
            disturb(&mut dice, &mut m);
        }
        let _ = m.read();
    }
}

#[test]
fn a_small_file_cannot_ask_for_much() {
    // A scale of a value with a billion channels would need four numbers for each of them.
    let wide = Model::new([1 << 30, 1, 1], 17).scalar("c", 2.0).node("Mul", "x c", "m", &[]).head("m");
    assert!(wide.error().contains("far more computed numbers than it holds"), "{}", wide.error());
    // Functions that call functions twice each grow without bound.
    let mut bomb = Model::new([2, 2, 2], 17).node("f0", "x", "a", &[]).head("a");
    bomb.graph().node[0].domain = Some("d".into());
    for i in 0..15 {
        let mut one = node(&format!("f{}", i + 1), "v", "m", &[]);
        let mut two = node(&format!("f{}", i + 1), "m", "w", &[]);
        one.domain = Some("d".into());
        two.domain = Some("d".into());
        if i == 14 {
            one = node("Relu", "v", "m", &[]);
            two = node("Relu", "m", "w", &[]);
        }
        bomb.0.functions.push(FunctionProto {
            name: Some(format!("f{i}")),
            domain: Some("d".into()),
            input: vec!["v".into()],
            output: vec!["w".into()],
            node: vec![one.clone(), two.clone(), one, two].into_iter().take(2).collect(),
            ..Default::default()
        });
    }
    bomb.0.functions[3].node = vec![bomb.0.functions[3].node[0].clone(); 9];
    for (i, n) in bomb.0.functions[3].node.iter_mut().enumerate() {
        n.output = vec![format!("m{i}")];
    }
    assert!(bomb.read().is_err());
    // An empty array with an endless outer size.
    let empty = Model::new([2, 2, 2], 17)
        .ints("shape", &[1 << 40, 0])
        .node("ConstantOfShape", "shape", "e", &[])
        .node("Transpose", "e", "t", &[])
        .node("Concat", "t t", "j", &[("axis", Attr::Int(1))])
        .node("Add", "x j", "s", &[])
        .head("s");
    assert!(empty.read().is_err());
}
