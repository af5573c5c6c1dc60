//! Every rule against its text, neuron by neuron in i128, on every instruction set; and what all of them promise.

use super::*;
use crate::neuron::{Cell, count, desired};
use proptest::prelude::*;

const RULES: [Spread; 4] = [Spread::None, Spread::Aligned, Spread::Diffusion, Spread::Weights];

/// A layer with its numbers.
#[derive(Debug, Clone)]
struct Owned {
    /// Height, width, channels, classes.
    size: [usize; 4],
    span: usize,
    presim: usize,
    steps: usize,
    /// `[span, positions, cols]`.
    currents: Vec<i32>,
    theta: Vec<i32>,
    /// `[positions, channels, classes]`.
    weights: Vec<i64>,
}

impl Owned {
    /// `noise`: currents stray so many θ from the neuron's mean.
    fn new(size: [usize; 4], [presim, steps, more]: [usize; 3], theta: i32, noise: i64, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut draw = |n: i64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 20) as i64 % n
        };
        let [h, w, channels, classes] = size;
        let (positions, span, cols) = (h * w, presim.max(steps) + more, channels.next_multiple_of(16));
        let theta: Vec<i32> = (0..cols)
            .map(|c| if c < channels { theta - draw(theta.into()) as i32 } else { 1 << 26 })
            .collect();
        let mut currents = vec![0; span * positions * cols];
        for p in 0..positions {
            for c in 0..channels {
                let theta = i64::from(theta[c]);
                let mean = draw(2 * theta) - theta / 2;
                for t in 0..span {
                    let stray = draw(2 * noise * theta + 1) - noise * theta;
                    currents[(t * positions + p) * cols + c] = (mean + stray) as i32;
                }
            }
        }
        let weights = (0..positions * channels * classes).map(|_| draw(1 << 21) - (1 << 20)).collect();
        Owned { size, span, presim, steps, currents, theta, weights }
    }

    fn layer<'a>(&'a self, wide: bool, outgoing: Option<&'a Outgoing>) -> Layer<'a> {
        let [height, width, channels, _] = self.size;
        let &Owned { span, presim, steps, .. } = self;
        let (currents, theta, cols) = (&self.currents[..], &self.theta[..], self.theta.len());
        Layer { span, presim, steps, height, width, channels, cols, currents, theta, wide, outgoing }
    }

    fn outgoing(&self) -> Outgoing {
        Outgoing::new(&self.weights, self.size[3], self.presim)
    }

    fn bound(&self) -> i64 {
        self.currents.iter().chain(&self.theta).map(|x| i64::from(x.unsigned_abs())).max().unwrap_or(0)
    }

    /// Whether potentials need 64 bits, as the engine asks.
    fn wide(&self) -> bool {
        (2 * self.span as i64 + 3) * self.bound() >= 1 << 31
    }

    fn neuron(&self, p: usize, c: usize) -> (i128, Vec<i128>) {
        let (positions, cols) = (self.size[0] * self.size[1], self.theta.len());
        let at = |t| i128::from(self.currents[(t * positions + p) * cols + c]);
        (self.theta[c].into(), (0..self.span).map(at).collect())
    }

    fn starts(&self, isa: Isa, spread: Spread, wide: bool) -> Vec<i32> {
        let outgoing = self.outgoing();
        let mut out = vec![7; 3];
        starts(isa, spread, &self.layer(wide, Some(&outgoing)), &mut out);
        out
    }

    /// The same for every instruction set and width, as `starts` must have it.
    fn checked(&self, spread: Spread) -> Vec<i32> {
        let want = self.starts(Isa::scalar(), spread, true);
        for isa in Isa::available() {
            for wide in [true, false] {
                if wide || !self.wide() {
                    assert!(self.starts(isa, spread, wide) == want, "{spread} {} wide {wide}", isa.name());
                }
            }
        }
        want
    }
}

/// [lo, hi) and d.
fn exact(theta: i128, currents: &[i128]) -> (i128, i128, i128) {
    let presim = currents.len();
    let (least, most) = (i128::MIN / 4, i128::MAX / 4);
    let mut b = vec![most; presim + 2];
    b[0] = least;
    let mut sum = 0;
    for current in currents {
        sum += current;
        for k in (1..=presim).rev() {
            b[k] = b[k].min(b[k - 1].max(k as i128 * theta - sum));
        }
    }
    let d = (1..=presim as i128).filter(|k| 2 * sum >= (2 * k - 1) * theta).count();
    let lo = if d == 0 { b[1] - theta } else { b[d] };
    let hi = if d == presim { b[d] + theta } else { b[d + 1] };
    (lo, hi, d as i128)
}

/// N(1..).
fn counts(theta: i128, currents: &[i128], start: i128) -> Vec<i128> {
    let (mut v, mut n) = (start, 0);
    currents
        .iter()
        .map(|i| {
            v += i;
            if v >= theta {
                (v, n) = (v - theta, n + 1);
            }
            n
        })
        .collect()
}

/// The rules from their text; errors over P = min(T, ρ) steps.
fn reference(layer: &Owned, spread: Spread) -> Vec<i32> {
    let ([h, w, channels, classes], cols) = (layer.size, layer.theta.len());
    let presim = layer.presim as i128;
    let seen = layer.presim.min(layer.steps);
    let shift = layer.outgoing().shift();
    let mut of_channel = vec![vec![0i128; seen]; cols];
    let mut of_class = vec![vec![0i128; classes]; seen];
    let mut out = vec![];
    for p in 0..h * w {
        for (c, of_channel) in of_channel.iter_mut().enumerate() {
            let (theta, all) = layer.neuron(p, c);
            let currents = &all[..layer.presim];
            let (lo, hi, d) = exact(theta, currents);
            let tried: Vec<i128> = (0..8).map(|k| lo + (2 * k + 1) * (hi - lo) / 16).collect();
            let early = |v: i128| -> Vec<i128> {
                let n = counts(theta, currents, v);
                (0..seen).map(|t| presim * n[t] - (t as i128 + 1) * d).collect()
            };
            out.push(match spread {
                Spread::None => lo.div_euclid(2) + hi.div_euclid(2),
                Spread::Aligned => {
                    const BAYER: [[i128; 8]; 8] = [
                        [0, 32, 8, 40, 2, 34, 10, 42],
                        [48, 16, 56, 24, 50, 18, 58, 26],
                        [12, 44, 4, 36, 14, 46, 6, 38],
                        [60, 28, 52, 20, 62, 30, 54, 22],
                        [3, 35, 11, 43, 1, 33, 9, 41],
                        [51, 19, 59, 27, 49, 17, 57, 25],
                        [15, 47, 7, 39, 13, 45, 5, 37],
                        [63, 31, 55, 23, 61, 29, 53, 21],
                    ];
                    let one = 1i128 << 30;
                    let golden = (2_654_435_769 * c as i128 % (1 << 32)) >> 2;
                    let phase = (BAYER[p / w % 8][p % w % 8] * (one / 64) + golden) % one;
                    let mean = d * ((theta * ((presim + 1) * one / (2 * presim))) >> 30);
                    let shares =
                        currents.iter().zip(0..).map(|(x, i)| (x * ((presim - i) * one / presim)) >> 30);
                    let v = ((phase * theta) >> 30) + mean - shares.sum::<i128>();
                    // what it stands for, within its roundings
                    let sums = (1..=layer.presim).map(|t| currents[..t].iter().sum::<i128>());
                    let twice = d * theta * (presim + 1) - 2 * sums.sum::<i128>();
                    let plain = ((phase * theta) >> 30) + twice.div_euclid(2 * presim);
                    assert!((v - plain).abs() <= 2 * presim + 2, "{v} {plain}");
                    v.clamp(lo, hi - 1)
                }
                Spread::Diffusion => {
                    let cost = |v: &i128| -> i128 {
                        early(*v).iter().zip(of_channel.iter()).map(|(x, e)| (x + e) * (x + e)).sum()
                    };
                    let best = *tried.iter().min_by_key(|v| cost(v)).unwrap(); // the first of several
                    of_channel.iter_mut().zip(early(best)).for_each(|(e, x)| *e += x);
                    best
                }
                Spread::Weights if c >= channels => tried[0],
                Spread::Weights => {
                    let row: Vec<i128> = layer.weights[(p * channels + c) * classes..][..classes]
                        .iter()
                        .map(|&w| w.into())
                        .collect();
                    let sum: i128 = row.iter().sum();
                    let row: Vec<i128> =
                        row.iter().map(|w| (w * classes as i128 - sum) / (1 << shift)).collect();
                    let cost = |v: &i128| -> i128 {
                        let of_step = |(x, e): (&i128, &Vec<i128>)| {
                            row.iter().zip(e).map(|(w, e)| (e + w * x) * (e + w * x)).sum::<i128>()
                        };
                        early(*v).iter().zip(&of_class).map(of_step).sum()
                    };
                    let best = *tried.iter().min_by_key(|v| cost(v)).unwrap();
                    for (e, x) in of_class.iter_mut().zip(early(best)) {
                        e.iter_mut().zip(&row).for_each(|(e, w)| *e += w * x);
                    }
                    best
                }
            });
        }
    }
    out.iter().map(|&v| i32::try_from(v).unwrap()).collect()
}

/// Every promise on one layer.
fn check(layer: &Owned) {
    let bound = layer.bound();
    assert!(fits(layer.presim, bound));
    for spread in RULES {
        let got = layer.checked(spread);
        assert!(got == reference(layer, spread), "{spread} {layer:?}");
        for (i, &v) in got.iter().enumerate() {
            let (theta, all) = layer.neuron(i / layer.theta.len(), i % layer.theta.len());
            let currents: Vec<i64> = all.iter().map(|&x| x as i64).collect();
            let cell = Cell::new(theta as i64, 0, &currents);
            let (fired, wanted) = (count(&cell, v.into(), layer.presim), desired(&cell, layer.presim));
            assert_eq!(fired, wanted, "{spread}: ψ of neuron {i}");
            assert!(i64::from(v).abs() <= (layer.presim as i64 + 1) * bound);
            if i % layer.theta.len() >= layer.size[2] {
                assert_eq!(count(&cell, v.into(), layer.span), 0, "{spread}: padding {i}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn rules_are_what_their_text_says(
        size in (1usize..6, 1usize..11, 1usize..35, 1usize..5).prop_map(|(h, w, c, k)| [h, w, c, k]),
        steps in (1usize..11, 0usize..13, 0usize..3).prop_map(|(p, t, more)| [p, t, more]),
        theta in prop_oneof![1i32..40, 1000i32..100_000, 1_000_000i32..7_000_000],
        noise in 0i64..4,
        seed in any::<u64>(),
    ) {
        check(&Owned::new(size, steps, theta, noise, seed));
    }
}

#[test]
fn odd_layers_do() {
    for size in [[1, 1, 1, 1], [1, 1, 16, 3], [9, 17, 3, 2], [1, 1, 33, 10], [0, 4, 5, 2], [2, 2, 0, 2]] {
        for steps in [[1, 1, 0], [1, 4, 0], [4, 0, 0], [4, 4, 1], [4, 9, 0], [9, 2, 0], [9, 9, 0], [20, 3, 2]]
        {
            check(&Owned::new(size, steps, 3_000_000, 1, 5));
        }
    }
}

/// The largest currents, thresholds and ρ that potentials of 32 bits hold.
#[test]
fn bounds_are_reached_without_overflow() {
    for presim in [2, 4, 14] {
        let mut layer = Owned::new([3, 3, 16, 2], [presim, presim / 2, 0], 1 << 26, 0, 3);
        let most = ((1i64 << 31) / (2 * presim as i64 + 3) - 1) as i32;
        let mut state = 1u32;
        for x in &mut layer.currents {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            *x = [most, -most, most / 2, 0][(state >> 30) as usize];
        }
        layer.theta.iter_mut().enumerate().for_each(|(c, t)| *t = [most, 1, most / 3][c % 3]);
        assert!(!layer.wide());
        check(&layer);
    }
}

/// Errors that only grow: all spikes come in the first half, whatever v(0).
#[test]
fn costs_beyond_32_bits_are_wide() {
    let (presim, theta) = (24, 1000);
    let mut layer = Owned::new([60, 60, 3, 3], [presim, presim, 0], theta, 0, 3);
    layer.theta[..3].fill(theta);
    let early = theta * presim as i32; // I(1), taken back at the last step but for half the spikes
    for (i, x) in layer.currents.iter_mut().enumerate() {
        if i % 16 < 3 {
            *x = match i / (3600 * 16) {
                0 => early,
                23 => -early / 2,
                _ => 0,
            };
        }
    }
    assert!(layer.layer(false, None).costs_are_wide());
    check(&layer);
    layer.presim = 4;
    assert!(!layer.layer(false, None).costs_are_wide());
    check(&layer);
}

#[test]
fn heavy_weights_are_shifted_until_sums_fit() {
    let mut layer = Owned::new([4, 4, 20, 6], [8, 3, 0], 50_000, 1, 11);
    assert_eq!(layer.outgoing().shift(), 3);
    check(&layer);
    layer.weights.iter_mut().for_each(|w| *w <<= 30);
    assert_eq!(layer.outgoing().shift(), 33);
    check(&layer);
    layer.weights.fill(3);
    assert_eq!(layer.outgoing().shift(), 0);
    check(&layer);
}

/// Currents of a quarter, a half and three quarters of θ: where all neurons of a channel would fire together, the share of every
/// step is fired, to a spike or two a channel (or class).
#[test]
fn the_first_steps_fire_their_share() {
    let mut layer = Owned::new([8, 8, 48, 10], [4, 4, 0], 5_000_000, 0, 21);
    layer.currents.iter_mut().enumerate().for_each(|(i, x)| *x = layer.theta[i % 48] / 4 * (i as i32 % 4));
    let miss = |spread| -> (i128, i128) {
        let got = layer.checked(spread);
        let mut channels = vec![0i128; 48 * 3];
        let mut classes = vec![0i128; 10 * 3];
        for p in 0..64 {
            for c in 0..48 {
                let (theta, currents) = layer.neuron(p, c);
                let (_, _, d) = exact(theta, &currents[..4]);
                let n = counts(theta, &currents, got[p * 48 + c].into());
                for t in 0..3 {
                    let early = 4 * n[t] - (t as i128 + 1) * d;
                    channels[c * 3 + t] += early;
                    let row = &layer.weights[(p * 48 + c) * 10..][..10];
                    let mean = row.iter().sum::<i64>() / 10;
                    (0..10).for_each(|k| classes[k * 3 + t] += early * i128::from(row[k] - mean));
                }
            }
        }
        let most = |all: &[i128]| all.iter().map(|x| x.abs()).max().unwrap();
        (most(&channels), most(&classes) >> 20)
    };
    let [none, aligned, diffusion, weights] = RULES.map(miss);
    assert!(none.0 >= 40 && none.1 >= 40, "{none:?}");
    assert!(aligned.0 <= 12, "{aligned:?}");
    assert!(diffusion.0 <= 4, "{diffusion:?}");
    assert!(weights.1 <= 10, "{weights:?}");
}

#[test]
fn with_all_steps_read_out_the_counts_are_those_of_exact() {
    let layer = Owned::new([3, 3, 20, 3], [6, 6, 0], 90_000, 2, 77);
    let total = |spread| -> Vec<i128> {
        let got = layer.checked(spread);
        let of = |(i, &v): (usize, &i32)| {
            let (theta, currents) = layer.neuron(i / 32, i % 32);
            counts(theta, &currents, v.into())[5]
        };
        got.iter().enumerate().map(of).collect()
    };
    let none = total(Spread::None);
    assert!(none.iter().sum::<i128>() > 100);
    for spread in RULES {
        assert_eq!(total(spread), none, "{spread}");
    }
}

#[test]
fn names_come_back() {
    for spread in RULES {
        assert_eq!(spread.to_string().parse::<Spread>().unwrap(), spread);
    }
    let refused = "even".parse::<Spread>().unwrap_err().to_string();
    assert!(refused.contains("`even`") && refused.contains("none, aligned, diffusion, weights"), "{refused}");
}
