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
    mut draft: Draft,
    source: &dyn Fn(&DraftTerm) -> &'a Reads,
    precision: Precision,
) -> Result<(Stage, Reads)> {
    let channels = draft.shape[0];
    let theta = |c: usize| match &draft.role {
        DraftRole::Spiking { threshold, .. } => f64::from(threshold.of(c)),
        DraftRole::Linear | DraftRole::Readout => 0.0,
    };
    let reads_currents = draft.terms.iter().any(|t| matches!(source(t), Reads::Currents { .. }));
    let thetas: Vec<f64> = (0..channels).map(theta).collect();
    let rule = match (precision, &draft.role, reads_currents) {
        (Precision::Int32, ..) | (_, DraftRole::Readout, true) => Rule::Wide,
        (_, DraftRole::Linear, _) => Rule::Short,
        (_, DraftRole::Spiking { .. }, true) => Rule::Products,
        (Precision::Int16, DraftRole::Readout, false) => Rule::Weights(i16::MAX.into()),
        (Precision::Int16, DraftRole::Spiking { .. }, false) => Rule::Short,
        (Precision::Int8, _, false) => Rule::Weights(i8::MAX.into()),
    };
    let readout = matches!(draft.role, DraftRole::Readout);
    let mut unit = first_units(&draft, source, &thetas, rule)?;
    let Integers { bias, weights, bound, limit } = loop {
        // one unit for all classes at the read-out
        if readout {
            let most = unit.iter().copied().max().unwrap_or(0);
            unit.fill(most);
        }
        let integers = integers_in(&draft, source, &unit, rule)?;
        // Rounding may carry a sum of small integers beyond its range: the channel's unit doubles.
        let mut fits = true;
        for (unit, _) in unit.iter_mut().zip(&integers.bound).filter(|(_, b)| **b > rule.most()) {
            fits = false;
            *unit += 1;
        }
        if fits {
            break integers;
        }
        if rule == Rule::Wide {
            return Err(Error::new(Kind::Limit, "currents leave the range of 32 bits")
                .hint("too many inputs a neuron"));
        }
    };
    let terms = std::mem::take(&mut draft.terms);
    let terms = terms.into_iter().zip(weights).map(|(term, weights)| finished(term, weights)).collect();

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
                    .map(|(i, v)| {
                        let v = (f64::from(*v) * f64::from(theta[i % channels])).round();
                        (v.abs() < f64::from(i32::MAX)).then_some(v as i32).ok_or_else(|| {
                            Error::new(Kind::Limit, "an initial potential leaves the range of 32 bits")
                                .expected("fewer thresholds")
                        })
                    })
                    .collect::<Result<_>>()?,
            };
            (Role::Spiking { theta, start }, Reads::Spikes(threshold))
        }
        DraftRole::Linear => (Role::Linear, Reads::Currents { unit: unit.clone(), bound: bound.clone() }),
        DraftRole::Readout => (Role::Readout, Reads::Currents { unit: unit.clone(), bound: bound.clone() }),
    };
    let Draft { name, node, shape, .. } = draft;
    let fraction = rule.fraction();
    Ok((Stage { name, node, shape, role, bias, unit, bound, limit, fraction, terms }, reads))
}

/// How the units of a stage are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// Σ|w·θ_in| + |b| and θ within 2^26.
    Wide,
    /// The sum of the positive weights and that of the negative ones within 16 bits, the bias in either.
    Short,
    /// Each weight within so much.
    Weights(i32),
    /// Weights that are multiplied with currents of 16 bits within 16 bits, the sums within 2^29.
    Products,
}

impl Rule {
    /// The largest current there may be.
    fn most(self) -> i64 {
        match self {
            Rule::Wide | Rule::Weights(_) => 1 << 29,
            Rule::Short => i16::MAX.into(),
            Rule::Products => 1 << PRODUCTS,
        }
    }

    /// Fraction bits of exact sums over currents.
    fn fraction(self) -> u32 {
        if self == Rule::Products { 0 } else { FRACTION }
    }
}

/// The log2 of every channel's unit, by real numbers.
fn first_units<'a>(
    draft: &Draft,
    source: &dyn Fn(&DraftTerm) -> &'a Reads,
    thetas: &[f64],
    rule: Rule,
) -> Result<Vec<i32>> {
    let channels = draft.shape[0];
    // all magnitudes, those of positive numbers, those of negative ones
    let mut sums: Vec<[f64; 3]> = draft.bias.iter().map(|&b| [b.abs(), b.max(0.0), (-b).max(0.0)]).collect();
    let mut largest = vec![0f64; channels];
    let mut image = false;
    for term in &draft.terms {
        let (reads, most) = (source(term), term.scale * counted(term) as f64);
        image |= matches!(reads, Reads::Image(_));
        each_weight(term, |i, c, o| {
            let weight = f64::from(term.weights[i]) * reads.largest(c);
            sums[o][0] += weight.abs() * most;
            match reads {
                // a pixel or a current has either sign
                Reads::Image(_) | Reads::Currents { .. } => {
                    sums[o][1..].iter_mut().for_each(|s| *s += weight.abs() * most);
                }
                Reads::Spikes(_) => {
                    sums[o][1 + usize::from(weight < 0.0)] += weight.abs() * most;
                    // a shortcut's weight is a θ, not one of a matrix
                    if !(term.depthwise && term.weights.len() == term.outs) {
                        largest[o] = largest[o].max(weight.abs() * term.scale);
                    }
                }
            }
        });
    }
    if let Some(bad) = sums.iter().flatten().find(|x| !x.is_finite() || **x > 1e30) {
        return Err(
            Error::new(Kind::Value, "currents are too large to compute with").found(format!("{bad:e}"))
        );
    }
    let theta = |c: usize| if thetas[c] > 0.0 { exponent(thetas[c], WIDE) } else { i32::MIN };
    let short = |[_, p, n]: [f64; 3]| exponent(p.max(n), 15);
    Ok((0..channels)
        .map(|c| match rule {
            Rule::Wide => exponent(sums[c][0].max(thetas[c]), WIDE),
            // currents are seldom near their bound; a θ there would ask for potentials of 64 bits
            Rule::Products => exponent(sums[c][0].max(32.0 * thetas[c]), PRODUCTS),
            Rule::Short => short(sums[c]).max(theta(c)),
            Rule::Weights(most) => {
                let mut unit = i32::MIN;
                if largest[c] > 0.0 {
                    unit = exponent(largest[c], 32 - most.leading_zeros() as i32);
                    while (largest[c] * 2f64.powi(-unit)).round() > f64::from(most) {
                        unit += 1;
                    }
                }
                // an image's part has no integer weights
                let whole = if image || largest[c] == 0.0 { short(sums[c]) } else { i32::MIN };
                unit.max(whole).max(theta(c))
            }
        })
        .map(|unit: i32| unit.max(LEAST))
        .collect())
}

/// No unit is smaller than 2^this, so that 1 over a unit is a finite f32.
const LEAST: i32 = -126;

/// k of numbers of 32 bits.
const WIDE: i32 = 26;

/// k of sums of products of 16 bits, whose weights take what precision they can get.
const PRODUCTS: i32 = 29;

/// A stage's numbers.
struct Integers {
    bias: Vec<i32>,
    weights: Vec<Weights>,
    bound: Vec<i64>,
    limit: Vec<i32>,
}

/// Everything in units, and how large the currents can be.
fn integers_in<'a>(
    draft: &Draft,
    source: &dyn Fn(&DraftTerm) -> &'a Reads,
    unit: &[i32],
    rule: Rule,
) -> Result<Integers> {
    let channels = draft.shape[0];
    let bias: Vec<i32> =
        draft.bias.iter().zip(unit).map(|(b, &u)| (b * 2f64.powi(-u)).round() as i32).collect();
    let mut sums: Vec<[i64; 2]> =
        bias.iter().map(|&b| i64::from(b)).map(|b| [b.max(0), (-b).max(0)]).collect();
    let mut exact = vec![0i128; channels]; // bounds of the products that are rounded together
    // of every channel: what the image can add, in real numbers, and how many terms add it
    let (mut image, mut parts) = (vec![0f64; channels], vec![0i64; channels]);
    let mut all = Vec::with_capacity(draft.terms.len());
    for term in &draft.terms {
        let reads = source(term);
        let weights = weights(term, reads, unit, rule.fraction());
        each_weight(term, |i, c, o| match (&weights, reads) {
            (Weights::Spikes(w), _) => {
                sums[o][usize::from(w[i] < 0)] += i64::from(w[i].unsigned_abs()) * counted(term) as i64;
            }
            (Weights::Currents(w), Reads::Currents { bound, .. }) => {
                exact[o] += i128::from(w[i].unsigned_abs()) * i128::from(bound[c]);
                if rule == Rule::Products && w[i].unsigned_abs() > i16::MAX as u32 {
                    exact[o] = exact[o].max(i128::from(rule.most()) + 1);
                }
            }
            (Weights::Currents(_) | Weights::Image(_), _) => {
                image[o] += f64::from(term.weights[i].abs()) * term.scale * reads.largest(c);
            }
        });
        if let Weights::Image(_) = weights {
            parts[term.to..term.to + term.outs].iter_mut().for_each(|n| *n += 1);
        }
        all.push(weights);
    }
    let mut bound: Vec<i64> = match rule {
        Rule::Wide | Rule::Products => sums.iter().map(|[p, n]| p + n).collect(),
        Rule::Short | Rule::Weights(_) => sums.iter().map(|[p, n]| *p.max(n)).collect(),
    };
    let limit: Vec<i32> = match rule {
        Rule::Wide => vec![1 << WIDE; channels],
        Rule::Short | Rule::Weights(_) | Rule::Products => {
            // all that the image can add, and its rounding
            image.iter().zip(unit).map(|(x, &u)| (x * 2f64.powi(-u)).ceil().min(1e9) as i32 + 1).collect()
        }
    };
    for (c, bound) in bound.iter_mut().enumerate() {
        *bound += parts[c] * i64::from(limit[c]);
        if exact[c] >= 1 << 53 {
            return Err(Error::new(Kind::Limit, "a linear map over currents leaves the exact range of 2^53"));
        }
        if exact[c] > 0 {
            // what is rounded may be one more at each end
            *bound += (exact[c] >> rule.fraction()) as i64 + if rule.fraction() > 0 { 2 } else { 0 };
        }
    }
    Ok(Integers { bias, weights: all, bound, limit })
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

fn weights(term: &DraftTerm, reads: &Reads, unit: &[i32], fraction: u32) -> Weights {
    if let Reads::Image(_) = reads {
        return Weights::Image(term.weights.iter().map(|&w| (f64::from(w) * term.scale) as f32).collect());
    }
    let mut integers = vec![0i32; term.weights.len()];
    each_weight(term, |i, c, o| {
        let per_unit = match reads {
            Reads::Spikes(theta) => f64::from(theta.of(c)),
            Reads::Currents { bound, .. } if bound[c] == 0 => 0.0,
            Reads::Currents { unit, .. } => 2f64.powi(unit[c] + fraction as i32),
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
