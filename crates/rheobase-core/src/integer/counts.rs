//! The integer network read as a QCFS network: counts 0..=L in place of spike trains.
//! In: an image, L. Out: the logits after L steps of exactly calibrated spikes, by another way: plain loops, no time, no packing.
//! With T = ρ = L and exact calibration the engine must give these integers to the bit.

use super::{IntegerNetwork, Role, Source, Stage, Term, Weights};
use crate::network::shape::Shape;

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
        for p in 0..h * w {
            let mut sums: Vec<i64> = stage.bias.iter().map(|&b| i64::from(b) * self.levels).collect();
            let mut exact = vec![0i128; channels];
            for term in &stage.terms {
                if term.only.as_ref().is_none_or(|only| only[p]) {
                    self.term(stage, term, [p / w, p % w], image, values, &mut sums, &mut exact);
                }
            }
            out.extend(sums.iter().zip(exact).map(|(sum, exact)| sum + stage.rounded(exact)));
        }
        out
    }

    /// One term at one position.
    #[allow(clippy::too_many_arguments)] // everything there is
    fn term(
        &self,
        stage: &Stage,
        term: &Term,
        at: [usize; 2],
        image: &[f32],
        values: &[Vec<i64>],
        sums: &mut [i64],
        exact: &mut [i128],
    ) {
        let (n, outs, to) = (term.channels.len(), term.outs, term.to);
        // weight and output of input channel c and output o: every o of a dense map, c alone of a channel-by-channel one
        let outputs = |tap: usize, c: usize| {
            let (first, os) =
                if term.depthwise { (tap * n, c..c + 1) } else { ((tap * n + c) * outs, 0..outs) };
            os.map(move |o| (first + o, o))
        };
        let source = match term.source {
            Source::Image => &[][..],
            Source::Stage(s) => values[s].as_slice(),
        };
        let mut pixels = vec![0f32; outs];
        let [width, h, w] = self.shape(term);
        for (tap, position) in term.reads(at, [h, w]) {
            for c in 0..n {
                let from = position * width + term.channels.start + c;
                match &term.weights {
                    Weights::Image(w) => outputs(tap, c).for_each(|(i, o)| pixels[o] += image[from] * w[i]),
                    _ if source[from] == 0 => {}
                    Weights::Spikes(w) => {
                        outputs(tap, c).for_each(|(i, o)| sums[to + o] += i64::from(w[i]) * source[from]);
                    }
                    Weights::Currents(w) => outputs(tap, c)
                        .for_each(|(i, o)| exact[to + o] += i128::from(w[i]) * i128::from(source[from])),
                }
            }
        }
        if let Weights::Image(_) = term.weights {
            for (o, pixels) in pixels.iter().enumerate() {
                let limit = f64::from(stage.limit[to + o]);
                let units = (pixels * 2f32.powi(-stage.unit[to + o])).round_ties_even();
                sums[to + o] += f64::from(units).clamp(-limit, limit) as i64 * self.levels;
            }
        }
    }

    fn shape(&self, term: &Term) -> Shape {
        match term.source {
            Source::Image => self.network.input,
            Source::Stage(s) => self.network.stages[s].shape,
        }
    }
}
