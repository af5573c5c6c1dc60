//! QCFS in the orders that exporters write, as nodes.

use rheobase_core::network::{ActivationKind, Op, Threshold};

use super::{Attr, Model};

/// Steps separated by commas: `op` or `op number`; `a-op` has the constant first.
fn chain(steps: &str) -> Model {
    let mut model = Model::new([2, 4, 4], 17);
    let mut from = "x".to_string();
    for (i, step) in steps.split(", ").enumerate() {
        let (op, rest) = step.split_once(' ').unwrap_or((step, ""));
        let to = format!("s{i}");
        let (constant, inputs) =
            (format!("c{i}"), |flip| if flip { format!("c{i} {from}") } else { format!("{from} c{i}") });
        model = match op {
            "Floor" | "Relu" | "Neg" | "Round" | "Identity" => model.node(op, &from, &to, &[]),
            "Clip" => {
                let (low, high) = rest.split_once(' ').unwrap();
                let bound = |m: Model, name: &str, text: &str| match text {
                    "-" => (m, "-".to_string()),
                    x => (m.scalar(name, x.parse().unwrap()), name.to_string()),
                };
                let (m, low) = bound(model, &format!("low{i}"), low);
                let (m, high) = bound(m, &format!("high{i}"), high);
                m.node("Clip", &format!("{from} {low} {high}"), &to, &[])
            }
            _ => {
                let flip = op.starts_with("a-");
                let numbers: Vec<f32> = rest.split('|').map(|x| x.parse().unwrap()).collect();
                let dims: &[i64] = if numbers.len() == 1 { &[1] } else { &[1, numbers.len() as i64, 1, 1] };
                model.floats(&constant, dims, &numbers).node(
                    op.trim_start_matches("a-"),
                    &inputs(flip),
                    &to,
                    &[],
                )
            }
        };
        from = to;
    }
    model.head(&from)
}

#[test]
fn qcfs_in_any_order_is_one_node_with_its_threshold_and_levels() {
    // λ = 3, L = 4 throughout
    for steps in [
        "Div 3, Mul 4, Add 0.5, Floor, Div 4, Clip 0 1, Mul 3",
        "Mul 4, Div 3, Add 0.5, Floor, Clip 0 4, Mul 3, Div 4",
        "Div 0.75, a-Add 0.5, Floor, Clip 0 4, a-Mul 0.75",
        "Div 3, Clip 0 1, Mul 4, Add 0.5, Floor, Mul 0.25, Mul 3",
        "Clip 0 3, Div 3, Mul 4, Add 0.5, Floor, Div 4, Mul 3",
        "Relu, Min 3, Div 0.75, Add 0.5, Floor, Mul 0.75",
        "Max 0, Min 3, Div 0.75, Add 0.5, Floor, Mul 0.75",
        "Add 0.375, Div 0.75, Floor, Max 0, Min 4, Mul 0.75",
        "Div 0.75, Sub -0.5, Floor, Clip 0 4, Mul 0.75",
        "Div 0.75, Add 0.5, Clip 0 4.5, Floor, Mul 0.75",
        "Div 0.75, Add 0.5, Floor, Relu, Mul 0.75, Clip - 3",
        "Neg, Div -0.75, Add 0.5, Identity, Floor, Clip 0 4, Mul 0.75",
    ] {
        let network = chain(steps).read().unwrap_or_else(|e| panic!("{steps}: {e}"));
        assert_eq!(network.nodes.len(), 3, "{steps}");
        let Op::Activation(a) = &network.nodes[1].op else { panic!("{steps}") };
        assert_eq!(a.kind, ActivationKind::Qcfs { levels: 4 }, "{steps}");
        assert_eq!(a.threshold, Some(Threshold::Layer(3.0)), "{steps}");
    }
}

#[test]
fn a_threshold_per_channel_is_kept_per_channel() {
    let network = chain("Div 3|1.5, Mul 4, Add 0.5, Floor, Div 4, Clip 0 1, Mul 3|1.5").read().unwrap();
    let Op::Activation(a) = &network.nodes[1].op else { panic!() };
    assert_eq!(a.threshold, Some(Threshold::Channel(vec![3.0, 1.5])));
}

#[test]
fn what_surrounds_a_qcfs_is_an_affine_map_of_its_own() {
    let around = chain("Mul 2|5, Add 1, Div 3, Mul 4, Add 0.5, Floor, Div 4, Clip 0 1, Mul 3, Mul 7");
    assert_eq!(around.ops(), ["BatchNorm", "QCFS", "BatchNorm", "GlobalAvgPool"]);
    for rescaled in [
        "Div 0.75, Add 0.5, Floor, Clip 0 4, Mul 0.5",
        "Div 3|1.5, Mul 4, Add 0.5, Floor, Div 4, Clip 0 1, Mul 3",
    ] {
        assert!(chain(rescaled).ops().contains(&"BatchNorm"), "{rescaled}");
    }
    assert_eq!(chain("Mul 2, Relu, Add 1").ops(), ["BatchNorm", "ReLU", "BatchNorm", "GlobalAvgPool"]);
    assert_eq!(chain("Div 3, Clip 0 1, Mul 3").ops(), ["Clip", "GlobalAvgPool"]);
}

#[test]
fn a_floor_that_is_no_qcfs_is_refused_with_the_form_that_is_expected() {
    for steps in [
        "Floor",
        "Div 0.75, Floor, Clip 0 4, Mul 0.75",
        "Div 0.75, Add 0.5, Floor, Mul 0.75",
        "Div 0.75, Add 0.5, Floor, Clip 0 3.5, Mul 0.75",
        "Div 0.75, Add 0.5, Floor, Floor, Clip 0 4, Mul 0.75",
    ] {
        let e = chain(steps).error();
        assert!(
            e.contains("Floor is not part of a QCFS") && e.contains("λ/L · clip(floor(x·L/λ + ½), 0, L)"),
            "{steps}: {e}"
        );
    }
    let round = chain("Div 0.75, Round, Clip 0 4, Mul 0.75").error();
    assert_eq!(
        round,
        "model.onnx: node `s1`: Round: rounds ties otherwise than floor(x + ½), which QCFS needs"
    );
}

#[test]
fn an_intermediate_that_is_read_twice_is_no_qcfs() {
    let model = Model::new([2, 4, 4], 17)
        .scalar("a", 0.75)
        .scalar("h", 0.5)
        .scalar("zero", 0.0)
        .scalar("four", 4.0)
        .node("Div", "x a", "d", &[])
        .node("Add", "d h", "e", &[])
        .node("Floor", "e", "f", &[])
        .node("Clip", "f zero four", "c", &[])
        .node("Mul", "c a", "m", &[])
        .node("Add", "m f", "sum", &[("unknown", Attr::Int(1))])
        .head("sum");
    assert!(model.error().contains("Floor is not part of a QCFS"), "{}", model.error());
}

#[test]
fn clips_that_are_no_relu_are_refused_by_their_bounds() {
    let e = chain("Clip -1 1").error();
    assert!(
        e.contains("expected a lower bound of 0 and one upper bound above it, found bounds -1 and 1"),
        "{e}"
    );
    assert!(chain("Min 3").error().contains("found bounds -inf and 3"));
    assert!(chain("Relu, Min 3|4").error().contains("one per channel"));
}
