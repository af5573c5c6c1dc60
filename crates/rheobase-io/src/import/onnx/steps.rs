//! Steps on each number of a value: multiply and add, clip, floor.
//! In: nodes such as Mul, Add, Clip, Floor with constants. Out: the same function in as few numbers as it needs.
//! Numbers are kept one for all channels or one per channel, in f64 so that chains of f32 constants do not drift.

use rheobase_core::network::{BatchNorm, Op};

/// One number for all channels, or one per channel.
pub(super) type Numbers = Vec<f64>;

/// x ↦ scale · x + shift.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    pub scale: Numbers,
    pub shift: Numbers,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Multiplies and adds.
    Affine(Affine),
    /// Clips between two bounds, which may be infinite.
    Clip { low: Numbers, high: Numbers },
    /// Rounds down.
    Floor,
}

/// A step and the node it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub act: Act,
    pub node: String,
}

/// Two lists of numbers, combined channel by channel.
pub(super) fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Numbers {
    match (a, b) {
        (&[a], b) => b.iter().map(|&b| f(a, b)).collect(),
        (a, &[b]) => a.iter().map(|&a| f(a, b)).collect(),
        (a, b) => a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect(),
    }
}

impl Affine {
    /// x ↦ x.
    pub fn identity() -> Self {
        Affine { scale: vec![1.0], shift: vec![0.0] }
    }

    /// This map, then `next`.
    pub fn then(&self, next: &Affine) -> Self {
        let moved = zip(&self.shift, &next.scale, |t, s| t * s);
        Affine {
            scale: zip(&self.scale, &next.scale, |a, s| a * s),
            shift: zip(&moved, &next.shift, |t, u| t + u),
        }
    }

    /// Whether it only adds.
    pub fn is_addition(&self) -> bool {
        self.scale.iter().all(|&s| s == 1.0)
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.is_addition() && self.shift.iter().all(|&t| t == 0.0)
    }

    /// The additions of `channels` channels.
    pub fn shift_of(&self, channels: usize) -> Vec<f32> {
        spread(&self.shift, channels)
    }

    /// The map as a node of the network.
    pub fn op(&self, channels: usize, shift: Vec<f32>) -> Op {
        let (mean, var) = (vec![0.0; channels], vec![1.0; channels]);
        Op::BatchNorm(BatchNorm { scale: spread(&self.scale, channels), shift, mean, var, eps: 0.0 })
    }
}

/// Numbers for `channels` channels, as f32.
pub(super) fn spread(numbers: &[f64], channels: usize) -> Vec<f32> {
    match numbers {
        &[one] => vec![one as f32; channels],
        many => many.iter().map(|&x| x as f32).collect(),
    }
}

/// x ↦ clip(scale · x + shift, low, high).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clipped {
    pub map: Affine,
    pub low: Numbers,
    pub high: Numbers,
}

impl Clipped {
    /// The composition of steps without a floor.
    pub fn of(steps: &[Step]) -> Self {
        let free =
            Clipped { map: Affine::identity(), low: vec![f64::NEG_INFINITY], high: vec![f64::INFINITY] };
        steps.iter().fold(free, |all, step| match &step.act {
            Act::Affine(a) => all.scaled(a),
            Act::Clip { low, high } => {
                let bound = |v: &[f64]| zip(&zip(v, low, f64::max), high, f64::min);
                Clipped { low: bound(&all.low), high: bound(&all.high), map: all.map }
            }
            Act::Floor => all,
        })
    }

    fn scaled(self, a: &Affine) -> Self {
        // A negative scale swaps the bounds; a zero leaves the addition alone and nothing to clip.
        let moved = |bounds: &[f64], free: f64| {
            let scaled = zip(bounds, &a.scale, |b, s| if s == 0.0 { free } else { b * s });
            zip(&scaled, &a.shift, |b, t| b + t)
        };
        let (low, high) = (moved(&self.low, f64::NEG_INFINITY), moved(&self.high, f64::INFINITY));
        Clipped { map: self.map.then(a), low: zip(&low, &high, f64::min), high: zip(&low, &high, f64::max) }
    }
}
