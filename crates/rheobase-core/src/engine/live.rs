//! Channels that can never fire, left out of what the engine runs.
//! In: an integer network. Out: the same network without them; every other spike and the read-out are the same.
//!
//! Training with weight decay takes the weights of a channel that has become silent to 0, so that trained networks have some: a bound of their
//! currents says which. What is left of a layer's channels lies together, those of its residual stream in one order, so that a
//! shortcut still reads what it adds to.

use crate::integer::{IntegerNetwork, Role, Source, Stage, Term, Weights, head};
use crate::neuron::is_silent;
use std::ops::Range;

/// Steps for which silence is proven.
pub const STEPS: usize = 64;

/// The network without the channels that stay silent for [`STEPS`] steps from any v(0) that a rule which [keeps them
/// silent](crate::neuron::Rule::keeps_silent) chooses; `None` if there are none to leave out.
pub fn without_silent(network: &IntegerNetwork) -> Option<IntegerNetwork> {
    let kept = kept(network, &silent(network));
    if kept.iter().all(Option::is_none) {
        return None;
    }
    let stages = network.stages.iter().enumerate().map(|(s, stage)| without(stage, s, &kept)).collect();
    Some(IntegerNetwork { precision: network.precision, input: network.input, stages })
}

/// Of every stage and channel whether no neuron ever fires: its largest current, step after step, takes it from v(0) to less than θ.
fn silent(network: &IntegerNetwork) -> Vec<Vec<bool>> {
    let mut all: Vec<Vec<bool>> = Vec::with_capacity(network.stages.len());
    for stage in &network.stages {
        let channels = stage.shape[0];
        let silent = match (&stage.role, largest(stage, &all)) {
            (Role::Spiking { theta, start }, Some(largest)) if start.len() == channels => {
                let neurons = theta.iter().zip(start).zip(largest);
                neurons.map(|((&theta, &start), largest)| is_silent(theta, start, largest, STEPS)).collect()
            }
            _ => vec![false; channels],
        };
        all.push(silent);
    }
    all
}

/// The largest current of every channel: all that may fire and adds to it does; `None` where currents are read.
fn largest(stage: &Stage, silent: &[Vec<bool>]) -> Option<Vec<i64>> {
    let mut most: Vec<i64> = stage.bias.iter().map(|&b| b.into()).collect();
    for term in &stage.terms {
        let (ins, outs) = (term.channels.len(), term.outs);
        match &term.weights {
            Weights::Currents(_) => return None,
            Weights::Image(_) => {
                for (most, &limit) in most[term.to..].iter_mut().zip(&stage.limit[term.to..]).take(outs) {
                    *most += i64::from(limit);
                }
            }
            Weights::Spikes(weights) => {
                let Source::Stage(source) = term.source else { return None };
                let silent = &silent[source][term.channels.clone()];
                // a window that is counted first gives a weight so often
                let often = term.pool.map_or(1, |pool| pool.kernel[0] * pool.kernel[1]) as i64;
                let width = if term.depthwise { 1 } else { outs };
                for (i, weights) in weights.chunks_exact(width).enumerate() {
                    if silent[i % ins] {
                        continue;
                    }
                    let first = term.to + if term.depthwise { i % ins } else { 0 };
                    for (most, &w) in most[first..].iter_mut().zip(weights) {
                        *most += often * i64::from(w.max(0));
                    }
                }
            }
        }
    }
    Some(most)
}

/// The channels that are left of each stage, in their new order; `None` where all are, in the old one.
fn kept(network: &IntegerNetwork, silent: &[Vec<bool>]) -> Vec<Option<Vec<usize>>> {
    let n = network.stages.len();
    let mut is_free: Vec<bool> = (0..n).map(|s| is_free(network, s)).collect();
    // stages that share an order, by their first; what is tied to one that keeps its order keeps it
    let ties = ties(network);
    let mut stream: Vec<usize> = (0..n).collect();
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for &(a, b) in &ties {
            let (free, first) = (is_free[a] && is_free[b], stream[a].min(stream[b]));
            is_settled &= is_free[a] == free && is_free[b] == free && [stream[a], stream[b]] == [first; 2];
            (is_free[a], is_free[b], stream[a], stream[b]) = (free, free, first, first);
        }
    }
    let mut kept = vec![None; n];
    for first in (0..n).filter(|&s| stream[s] == s && is_free[s]) {
        let stages: Vec<usize> = (first..n).filter(|&s| stream[s] == first).collect();
        let mut order: Vec<usize> = (0..network.stages[first].shape[0]).collect();
        // those that most stages have are first: what a stage has not is behind
        order.sort_by_key(|&c| stages.iter().filter(|&&s| silent[s][c]).count());
        let mut many = vec![0; n];
        for &s in &stages {
            let live = order.iter().rposition(|&c| !silent[s][c]).unwrap_or(0) + 1;
            // spikes that reach it channel by channel are counted whatever it does
            let read = ties.iter().filter(|(_, reader)| *reader == s).map(|&(source, _)| many[source]);
            many[s] = read.max().unwrap_or(0).max(live);
        }
        if stages.iter().any(|&s| many[s] < order.len()) {
            for &s in &stages {
                kept[s] = Some(order[..many[s]].to_vec());
            }
        }
    }
    kept
}

/// Whether a stage's channels may be in any order and some left out: it has v(0) by the channel, its maps write all of them, what
/// reads them reads spikes of all of them, and none are spread.
fn is_free(network: &IntegerNetwork, s: usize) -> bool {
    let stage = &network.stages[s];
    let channels = stage.shape[0];
    let writes_all = |term: &Term| {
        let is_image = matches!(term.weights, Weights::Image(_));
        (term.to, term.outs) == (0, channels) && !(is_image && term.depthwise)
    };
    let reads_all = |term: &Term| {
        let is_spikes = matches!(term.weights, Weights::Spikes(_));
        term.channels == (0..channels)
            && is_spikes
            && (!term.depthwise || (term.to, term.outs) == (0, channels))
    };
    let mut readers = network.stages.iter().flat_map(|reader| &reader.terms);
    matches!(&stage.role, Role::Spiking { start, .. } if start.len() == channels)
        && head::last_spiking(network) != Some(s)
        && stage.terms.iter().all(writes_all)
        && readers.all(|term| term.source != Source::Stage(s) || reads_all(term))
}

/// Stages of which one reads the other channel by channel.
fn ties(network: &IntegerNetwork) -> Vec<(usize, usize)> {
    let stages = network.stages.iter().enumerate();
    let of_stage = |(s, stage): (usize, &Stage)| -> Vec<(usize, usize)> {
        let reads = stage.terms.iter().filter(|term| term.depthwise);
        let reads = reads.filter_map(|term| match term.source {
            Source::Stage(source) => Some((source, s)),
            Source::Image => None,
        });
        reads.collect()
    };
    stages.flat_map(of_stage).collect()
}

/// A stage without the channels that are left out of it and of what it reads.
fn without(stage: &Stage, s: usize, kept: &[Option<Vec<usize>>]) -> Stage {
    let mut stage = stage.clone();
    for term in &mut stage.terms {
        let from = match term.source {
            Source::Stage(source) => kept[source].as_deref(),
            Source::Image => None,
        };
        cut(term, from, kept[s].as_deref());
    }
    if let Some(kept) = &kept[s] {
        stage.shape[0] = kept.len();
        let ints = [&mut stage.bias, &mut stage.unit, &mut stage.limit];
        ints.into_iter().for_each(|numbers| pick(numbers, kept));
        pick(&mut stage.bound, kept);
        if let Role::Spiking { theta, start } = &mut stage.role {
            pick(theta, kept);
            pick(start, kept);
        }
    }
    stage
}

fn pick<T: Copy>(numbers: &mut Vec<T>, kept: &[usize]) {
    *numbers = kept.iter().map(|&c| numbers[c]).collect();
}

/// Leaves channels out of a term: of what it reads and of what it writes.
fn cut(term: &mut Term, from: Option<&[usize]>, to: Option<&[usize]>) {
    if from.is_none() && to.is_none() {
        return;
    }
    let (ins, outs) = (term.channels.len(), term.outs);
    let all =
        |kept: Option<&[usize]>, range: Range<usize>| kept.map_or_else(|| range.collect(), <[_]>::to_vec);
    let (read, mut written) = (all(from, 0..ins), all(to, 0..outs));
    if term.depthwise {
        // one order for both, of which what is read has the beginning
        written = vec![0];
        term.outs = read.len();
    } else {
        term.outs = written.len();
    }
    let line = if term.depthwise { 1 } else { outs };
    match &mut term.weights {
        Weights::Spikes(weights) | Weights::Currents(weights) => take(weights, [ins, line], &read, &written),
        Weights::Image(weights) => take(weights, [ins, line], &read, &written),
    }
    if from.is_some() {
        term.channels = 0..read.len();
        term.from[0] = read.len();
    }
}

/// `[tap, in, out]`, some of each.
fn take<T: Copy>(weights: &mut Vec<T>, [ins, outs]: [usize; 2], read: &[usize], written: &[usize]) {
    let taps = weights.chunks_exact(ins * outs);
    let some =
        taps.flat_map(|tap| read.iter().flat_map(move |&i| written.iter().map(move |&o| tap[i * outs + o])));
    *weights = some.collect();
}
