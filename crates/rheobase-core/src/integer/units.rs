//! Units of every channel, and every number as an integer in them.
//! In: drafts in real numbers, the largest pixel per channel. Out: stages in integers.

use super::lower::{Draft, DraftRole, DraftTerm};
use super::{FRACTION, Precision, Role, Source, Stage, Term, Weights};
use crate::error::{Error, Kind, Result};
use crate::network::{Start, Threshold};

/// What a term may read of each channel of a finished stage or the image.
enum Reads {
    /// A spike stands for θ.
    Spikes(Threshold),
    /// A current: unit (log2), largest integer.
    Currents { unit: Vec<i32>, bound: Vec<i64> },
    /// A pixel, at most so large.
    Image(Vec<f64>),
}

impl Reads {
    /// Largest real magnitude of channel `c`.
    fn largest(&self, c: usize) -> f64 {
        match self {
            Reads::Spikes(theta) => theta.of(c).into(),
            Reads::Currents { unit, bound } => bound[c] as f64 * 2f64.powi(unit[c]),
            Reads::Image(largest) => largest[c],
        }
    }
}

pub fn integers(drafts: Vec<Draft>, pixels: &[f64], precision: Precision) -> Result<Vec<Stage>> {
    let image = Reads::Image(pixels.to_vec());
    let mut reads: Vec<Reads> = Vec::with_capacity(drafts.len());
    let mut stages: Vec<Stage> = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        for term in &mut draft.terms {
            if let (Source::Stage(s), 0) = (term.source, term.from[1]) {
                term.from = [term.from[0], stages[s].shape[1], stages[s].shape[2]];
            }
        }
        let name = draft.name.clone();
        let source = |t: &DraftTerm| match t.source {
            Source::Image => &image,
            Source::Stage(s) => &reads[s],
        };
        let stage = stage(draft, &source, precision).map_err(|e| e.node(name))?;
        reads.push(stage.1);
        stages.push(stage.0);
    }
    Ok(stages)
}

fn stage<'a>(
    draft: Draft,
    source: &dyn Fn(&DraftTerm) -> &'a Reads,
    precision: Precision,
) -> Result<(Stage, Reads)> {
    let channels = draft.shape[0];
    let theta = |c: usize| match &draft.role {
        DraftRole::Spiking { threshold, .. } => f64::from(threshold.of(c)),
        DraftRole::Linear | DraftRole::Readout => 0.0,
    };
    // Real bounds, then units: one for all classes at the read-out.
    let mut largest: Vec<f64> = draft.bias.iter().map(|b| b.abs()).collect();
    for term in &draft.terms {
        let most = term.scale * counted(term) as f64;
        each_weight(term, |i, c, o| {
            largest[o] += f64::from(term.weights[i].abs()) * most * source(term).largest(c)
        });
    }
    (0..channels).for_each(|c| largest[c] = largest[c].max(theta(c)));
    if let DraftRole::Readout = draft.role {
        let most = largest.iter().copied().fold(0.0, f64::max);
        largest.fill(most);
    }
    if let Some(bad) = largest.iter().find(|x| !x.is_finite() || **x > 1e30) {
        return Err(
            Error::new(Kind::Value, "currents are too large to compute with").found(format!("{bad:e}"))
        );
    }
    let unit: Vec<i32> = largest.iter().map(|&x| exponent(x, precision.bits())).collect();

    let bias: Vec<i32> =
        draft.bias.iter().zip(&unit).map(|(b, &u)| (b * 2f64.powi(-u)).round() as i32).collect();
    let mut bound: Vec<i64> = bias.iter().map(|b| i64::from(b.unsigned_abs())).collect();
    let mut exact = vec![0i128; channels]; // bounds of the products that are rounded together
    let mut terms = Vec::with_capacity(draft.terms.len());
    for term in draft.terms {
        let reads = source(&term);
        let weights = weights(&term, reads, &unit);
        each_weight(&term, |i, c, o| match (&weights, reads) {
            (Weights::Spikes(w), _) => {
                bound[o] += i64::from(w[i].unsigned_abs()) * counted(&term) as i64;
            }
            (Weights::Currents(w), Reads::Currents { bound, .. }) => {
                exact[o] += i128::from(w[i].unsigned_abs()) * i128::from(bound[c]);
            }
            (Weights::Currents(_) | Weights::Image(_), _) => {}
        });
        if let Weights::Image(_) = weights {
            bound[term.to..term.to + term.outs].iter_mut().for_each(|b| *b += 1 << precision.bits());
        }
        terms.push(finished(term, weights));
    }
    for (b, e) in bound.iter_mut().zip(&exact) {
        if *e >= 1 << 53 {
            return Err(Error::new(Kind::Limit, "a linear map over currents leaves the exact range of 2^53"));
        }
        if *e > 0 {
            *b += (*e >> FRACTION) as i64 + 2;
        }
    }
    if bound.iter().any(|&b| b > 1 << 29) {
        return Err(
            Error::new(Kind::Limit, "currents leave the range of 32 bits").hint("too many inputs a neuron")
        );
    }

    let (role, reads) = match draft.role {
        DraftRole::Spiking { threshold, start } => {
            let theta: Vec<i32> = (0..channels)
                .map(|c| ((f64::from(threshold.of(c)) * 2f64.powi(-unit[c])).round() as i32).max(1))
                .collect();
            let start = match start {
                Start::Half => theta.iter().map(|t| t >> 1).collect(),
                Start::Zero => vec![0; channels],
                Start::Neuron(v) => v
                    .iter()
                    .enumerate()
                    .map(|(i, v)| (f64::from(*v) * f64::from(theta[i % channels])).round() as i32)
                    .collect(),
            };
            (Role::Spiking { theta, start }, Reads::Spikes(threshold))
        }
        DraftRole::Linear => (Role::Linear, Reads::Currents { unit: unit.clone(), bound: bound.clone() }),
        DraftRole::Readout => (Role::Readout, Reads::Currents { unit: unit.clone(), bound: bound.clone() }),
    };
    let Draft { name, node, shape, .. } = draft;
    Ok((Stage { name, node, shape, role, bias, unit, bound, terms }, reads))
}

/// How many spikes one input of the term can stand for in one step.
fn counted(term: &DraftTerm) -> usize {
    term.pool.map_or(1, |p| p.kernel[0] * p.kernel[1])
}

/// Calls `f(index of the weight, channel of the source, channel of the stage)` for every weight of a term.
fn each_weight(term: &DraftTerm, mut f: impl FnMut(usize, usize, usize)) {
    let (ins, outs) = (term.channels.len(), term.outs);
    for i in 0..term.weights.len() {
        let (c, o) = if term.depthwise { (i % ins, i % ins) } else { (i / outs % ins, i % outs) };
        f(i, term.channels.start + c, term.to + o);
    }
}

fn weights(term: &DraftTerm, reads: &Reads, unit: &[i32]) -> Weights {
    if let Reads::Image(_) = reads {
        return Weights::Image(term.weights.iter().map(|&w| (f64::from(w) * term.scale) as f32).collect());
    }
    let mut integers = vec![0i32; term.weights.len()];
    each_weight(term, |i, c, o| {
        let per_unit = match reads {
            Reads::Spikes(theta) => f64::from(theta.of(c)),
            Reads::Currents { bound, .. } if bound[c] == 0 => 0.0,
            Reads::Currents { unit, .. } => 2f64.powi(unit[c] + FRACTION as i32),
            Reads::Image(_) => 1.0,
        } * 2f64.powi(-unit[o]);
        integers[i] = (f64::from(term.weights[i]) * term.scale * per_unit).round() as i32;
    });
    match reads {
        Reads::Spikes(_) => Weights::Spikes(integers),
        Reads::Currents { .. } | Reads::Image(_) => Weights::Currents(integers),
    }
}

fn finished(t: DraftTerm, weights: Weights) -> Term {
    let DraftTerm { source, channels, pool, from, window, dilation, depthwise, to, outs, only, .. } = t;
    Term { source, channels, pool, from, window, dilation, depthwise, to, outs, only, weights }
}

/// The smallest e with x <= 2^(bits + e); a channel that is always 0 gets 1 as its unit.
fn exponent(x: f64, bits: i32) -> i32 {
    if x == 0.0 {
        return 0;
    }
    let mut e = x.log2().ceil() as i32 - bits;
    while 2f64.powi(e + bits) < x {
        e += 1;
    }
    while 2f64.powi(e + bits - 1) >= x {
        e -= 1;
    }
    e
}
