//! Activations recognised in chains of steps: ReLU, clip, and QCFS in any of its equivalent orders.
//! In: the steps on each number of a value. Out: the one activation that they amount to, or none.
//! A QCFS is λ/L · clip(floor(x·L/λ + ½), 0, L). What comes before the floor is one clip(a·x + b, ..), what comes after it one
//! clip(c·n + d, ..) of the whole number n; the steps are a QCFS where b = ½, d = 0, a·c = 1 and n runs from 0 to L. Then λ = c·L.

use rheobase_core::network::{Activation, ActivationKind, Start, Threshold};

use super::steps::{Act, Clipped, Step};

/// How far constants in f32 may be from what they stand for.
const CLOSE: f64 = 1e-5;

/// How far bounds in units of one level may be from whole numbers.
const WHOLE: f64 = 1e-4;

/// The largest number of levels, as the network allows.
const MAX_LEVELS: f64 = (1u32 << 20) as f64;

/// The activation that the steps are, all of them together.
pub(super) fn recognise(steps: &[Step]) -> Option<Activation> {
    let mut floors = steps.iter().enumerate().filter(|(_, s)| s.act == Act::Floor).map(|(i, _)| i);
    match (floors.next(), floors.next()) {
        (None, _) => clip(&Clipped::of(steps)),
        (Some(at), None) => qcfs(&Clipped::of(steps.get(..at)?), &Clipped::of(steps.get(at + 1..)?)),
        (Some(_), Some(_)) => None,
    }
}

/// One activation.
fn activation(kind: ActivationKind, threshold: Option<Threshold>) -> Activation {
    Activation { kind, threshold, start: Start::Half }
}

/// The number of channel `i`.
fn at(numbers: &[f64], i: usize) -> Option<f64> {
    match numbers {
        &[one] => Some(one),
        many => many.get(i).copied(),
    }
}

/// How many channels the numbers tell apart.
fn width(all: &[&Clipped]) -> usize {
    let lists = all.iter().flat_map(|c| [&c.map.scale, &c.map.shift, &c.low, &c.high]);
    lists.map(Vec::len).max().unwrap_or(1)
}

fn clip(whole: &Clipped) -> Option<Activation> {
    let first = at(&whole.high, 0)?;
    for i in 0..width(&[whole]) {
        let (a, b) = (at(&whole.map.scale, i)?, at(&whole.map.shift, i)?);
        let (low, high) = (at(&whole.low, i)?, at(&whole.high, i)?);
        let slack = if high.is_finite() { 1e-6 * high } else { 0.0 };
        let same = high == first || (high - first).abs() <= slack;
        let good = (a - 1.0).abs() <= 1e-6 && b.abs() <= slack && low.abs() <= slack && high > 0.0 && same;
        if !good {
            return None;
        }
    }
    Some(match first {
        f64::INFINITY => activation(ActivationKind::Relu, None),
        high => activation(ActivationKind::Clip { ceiling: high as f32 }, None),
    })
}

fn qcfs(before: &Clipped, after: &Clipped) -> Option<Activation> {
    let mut thresholds = Vec::new();
    let mut levels = None;
    for i in 0..width(&[before, after]) {
        let (a, b) = (at(&before.map.scale, i)?, at(&before.map.shift, i)?);
        let (c, d) = (at(&after.map.scale, i)?, at(&after.map.shift, i)?);
        let scaled = a > 0.0 && c > 0.0 && (a * c - 1.0).abs() <= CLOSE;
        if !scaled || (b - 0.5).abs() > CLOSE || d.abs() > CLOSE * c {
            return None;
        }
        let low = (at(&before.low, i)? + WHOLE).floor().max((at(&after.low, i)? - d) / c);
        let high = (at(&before.high, i)? + WHOLE).floor().min((at(&after.high, i)? - d) / c);
        let whole = high.round();
        let counts = (1.0..=MAX_LEVELS).contains(&whole) && (high - whole).abs() <= WHOLE.max(whole * 1e-6);
        if low.abs() > WHOLE || !counts || levels.is_some_and(|l| l != whole) {
            return None;
        }
        levels = Some(whole);
        thresholds.push((c * whole) as f32);
    }
    let kind = ActivationKind::Qcfs { levels: levels? as u32 };
    let first = *thresholds.first()?;
    let threshold = if thresholds.iter().all(|&t| t == first) {
        Threshold::Layer(first)
    } else {
        Threshold::Channel(thresholds)
    };
    Some(activation(kind, Some(threshold)))
}

#[cfg(test)]
mod tests {
    use super::super::steps::Affine;
    use super::*;

    fn mul(x: f64) -> Act {
        Act::Affine(Affine { scale: vec![x], shift: vec![0.0] })
    }
    fn add(x: f64) -> Act {
        Act::Affine(Affine { scale: vec![1.0], shift: vec![x] })
    }
    fn bounds(low: f64, high: f64) -> Act {
        Act::Clip { low: vec![low], high: vec![high] }
    }
    fn run(acts: &[Act]) -> Option<Activation> {
        let steps: Vec<Step> = acts.iter().map(|a| Step { act: a.clone(), node: "n".into() }).collect();
        recognise(&steps)
    }
    const INF: f64 = f64::INFINITY;

    #[test]
    fn every_equivalent_order_of_qcfs_is_one_qcfs() {
        // λ = 3, L = 4
        let (t, l) = (3.0, 4.0);
        let floor = Act::Floor;
        let orders: Vec<Vec<Act>> = vec![
            vec![mul(1.0 / t), mul(l), add(0.5), floor.clone(), mul(1.0 / l), bounds(0.0, 1.0), mul(t)],
            vec![mul(l / t), add(0.5), floor.clone(), bounds(0.0, l), mul(t / l)],
            vec![mul(l / t), add(0.5), bounds(0.0, l), floor.clone(), mul(t / l)],
            vec![mul(l / t), add(0.5), bounds(0.5, l + 0.5), floor.clone(), mul(t / l)],
            vec![mul(1.0 / t), bounds(0.0, 1.0), mul(l), add(0.5), floor.clone(), mul(1.0 / l), mul(t)],
            vec![bounds(0.0, t), mul(1.0 / t), mul(l), add(0.5), floor.clone(), mul(t), mul(1.0 / l)],
            vec![bounds(0.0, INF), mul(l / t), add(0.5), floor.clone(), mul(t / l), bounds(-INF, t)],
            vec![mul(l), add(0.5 * t), mul(1.0 / t), floor.clone(), mul(t), bounds(0.0, t * l), mul(1.0 / l)],
            vec![mul(-l / t), add(-0.5), mul(-1.0), floor.clone(), bounds(0.0, l), mul(t / l)],
            vec![add(t / (2.0 * l)), mul(l / t), floor, bounds(0.0, INF), bounds(-INF, l), mul(t / l)],
        ];
        for (i, order) in orders.iter().enumerate() {
            let a = run(order).unwrap_or_else(|| panic!("order {i} is not recognised"));
            assert_eq!(a.kind, ActivationKind::Qcfs { levels: 4 }, "order {i}");
            assert_eq!(a.threshold, Some(Threshold::Layer(3.0)), "order {i}");
        }
    }

    #[test]
    fn what_is_almost_a_qcfs_is_none() {
        let floor = Act::Floor;
        let wrong: Vec<Vec<Act>> = vec![
            vec![mul(2.0), floor.clone(), bounds(0.0, 4.0), mul(0.5)],
            vec![mul(2.0), add(0.5), floor.clone(), mul(0.5)],
            vec![mul(2.0), add(0.5), floor.clone(), bounds(0.0, INF), mul(0.5)],
            vec![mul(2.0), add(0.5), floor.clone(), bounds(-1.0, 4.0), mul(0.5)],
            vec![mul(2.0), add(0.5), floor.clone(), bounds(0.0, 3.5), mul(0.5)],
            vec![mul(2.0), add(0.5), floor.clone(), bounds(0.0, 4.0), mul(0.6)],
            vec![mul(2.0), add(0.5), floor.clone(), bounds(0.0, 4.0), mul(0.5), add(0.1)],
            vec![mul(2.0), add(0.5), floor.clone(), floor, bounds(0.0, 4.0), mul(0.5)],
            vec![mul(2.0), add(0.5), bounds(0.0, 0.6), mul(0.5)],
        ];
        for (i, steps) in wrong.iter().enumerate() {
            assert_eq!(run(steps), None, "chain {i}");
        }
    }

    #[test]
    fn thresholds_may_differ_by_channel_but_levels_may_not() {
        let per = |x: [f64; 2]| Act::Affine(Affine { scale: x.to_vec(), shift: vec![0.0] });
        let a = run(&[per([4.0, 2.0]), add(0.5), Act::Floor, bounds(0.0, 4.0), per([0.25, 0.5])]).unwrap();
        assert_eq!(a.threshold, Some(Threshold::Channel(vec![1.0, 2.0])));
        let uneven = Act::Clip { low: vec![0.0], high: vec![4.0, 8.0] };
        assert_eq!(run(&[mul(2.0), add(0.5), Act::Floor, uneven, mul(0.5)]), None);
    }

    #[test]
    fn scaled_clips_are_clips_and_an_open_one_is_relu() {
        let kind = |acts: &[Act]| run(acts).map(|a| a.kind);
        assert_eq!(kind(&[bounds(0.0, INF)]), Some(ActivationKind::Relu));
        assert_eq!(kind(&[bounds(0.0, INF), bounds(-INF, 6.0)]), Some(ActivationKind::Clip { ceiling: 6.0 }));
        let trained = [mul(1.0 / 3.0), bounds(0.0, 1.0), mul(3.0)];
        assert_eq!(kind(&trained), Some(ActivationKind::Clip { ceiling: 3.0 }));
        assert_eq!(kind(&[bounds(-1.0, 1.0)]), None);
    }
}
