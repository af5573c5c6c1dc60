//! The integer network read as a QCFS network: counts 0..=L in place of spike trains.
//! In: an image, L. Out: the logits after L steps of exactly calibrated spikes, by another way: plain loops, no time, no packing.
//! With T = ρ = L and exact calibration the engine must give these integers to the bit.

use super::{FRACTION, IntegerNetwork, Role, Source, Stage, Term, Weights};

/// The QCFS reading of an integer network.
pub struct QcfsReading<'a> {
    network: &'a IntegerNetwork,
    levels: i64,
}

impl<'a> QcfsReading<'a> {
    /// Reads `network` with `levels` levels (L).
    pub fn new(network: &'a IntegerNetwork, levels: u32) -> Self {
        QcfsReading { network, levels: levels.into() }
    }

    /// Logits of one normalised image `[height, width, channels]`, in units of the read-out.
    pub fn logits(&self, image: &[f32]) -> Vec<i64> {
        let mut values: Vec<Vec<i64>> = vec![];
        for stage in &self.network.stages {
            let totals = self.totals(stage, image, &values);
            values.push(match &stage.role {
                Role::Spiking { theta, .. } => {
                    let count = |(i, z): (usize, &i64)| {
                        let theta = i64::from(theta[i % theta.len()]);
                        // the largest k with 2z >= (2k - 1)·θ
                        (2 * z + theta).div_euclid(2 * theta).clamp(0, self.levels)
                    };
                    totals.iter().enumerate().map(count).collect()
                }
                Role::Linear | Role::Readout => totals,
            });
        }
        values.pop().unwrap_or_default()
    }

    /// Currents of all L steps together, `[height, width, channels]`.
    pub(crate) fn totals(&self, stage: &Stage, image: &[f32], values: &[Vec<i64>]) -> Vec<i64> {
        let [channels, h, w] = stage.shape;
        let mut out = Vec::with_capacity(channels * h * w);
        let limit = f64::from(1 << self.network.precision.bits());
        for p in 0..h * w {
            for o in 0..channels {
                let (mut sum, mut exact) = (i64::from(stage.bias[o]) * self.levels, 0i128);
                for term in stage.terms.iter().filter(|t| (t.to..t.to + t.outs).contains(&o)) {
                    if term.only.as_ref().is_some_and(|only| !only[p]) {
                        continue;
                    }
                    let (width, all) = self.source(term, values);
                    let mut pixels = 0f32;
                    self.inputs(term, [p / w, p % w], o - term.to, |weight, positions, channel| match &term
                        .weights
                    {
                        Weights::Image(weights) => {
                            for at in positions {
                                pixels += image[at * width + channel] * weights[weight];
                            }
                        }
                        Weights::Spikes(weights) => {
                            for at in positions {
                                sum += i64::from(weights[weight]) * all[at * width + channel];
                            }
                        }
                        Weights::Currents(weights) => {
                            for at in positions {
                                exact += i128::from(weights[weight]) * i128::from(all[at * width + channel]);
                            }
                        }
                    });
                    if let Weights::Image(_) = term.weights {
                        let units = (pixels * 2f32.powi(-stage.unit[o])).round_ties_even();
                        sum += f64::from(units).clamp(-limit, limit) as i64 * self.levels;
                    }
                }
                out.push(sum + ((exact + (1 << (FRACTION - 1))) >> FRACTION) as i64);
            }
        }
        out
    }

    fn source<'v>(&self, term: &Term, values: &'v [Vec<i64>]) -> (usize, &'v [i64]) {
        match term.source {
            Source::Image => (self.network.input[0], &[]),
            Source::Stage(s) => (self.network.stages[s].shape[0], &values[s]),
        }
    }

    /// Calls `f(index of the weight, positions of the source that it multiplies, channel of the source)`, taps in order.
    fn inputs(&self, term: &Term, at: [usize; 2], o: usize, mut f: impl FnMut(usize, Vec<usize>, usize)) {
        let size = match term.source {
            Source::Image => self.network.input,
            Source::Stage(s) => self.network.stages[s].shape,
        };
        for tap in 0..term.taps() {
            let (ky, kx) = (tap / term.window.kernel[1], tap % term.window.kernel[1]);
            let (Some(y), Some(x)) = (term.source_of(0, at[0], ky), term.source_of(1, at[1], kx)) else {
                continue;
            };
            let positions = match &term.pool {
                None => vec![y * size[2] + x],
                Some(pool) => {
                    let mut positions = vec![];
                    for i in 0..pool.kernel[0] {
                        for j in 0..pool.kernel[1] {
                            let (y, x) = (y * pool.stride[0] + i, x * pool.stride[1] + j);
                            let (y, x) = (y.wrapping_sub(pool.padding[0]), x.wrapping_sub(pool.padding[1]));
                            if y < size[1] && x < size[2] {
                                positions.push(y * size[2] + x);
                            }
                        }
                    }
                    positions
                }
            };
            let n = term.channels.len();
            if term.depthwise {
                f(tap * n + o, positions, term.channels.start + o);
            } else {
                for c in 0..n {
                    f((tap * n + c) * term.outs + o, positions.clone(), term.channels.start + c);
                }
            }
        }
    }
}
