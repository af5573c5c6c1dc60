//! What reads the last spiking layer: which spread fits it, and what its neurons' spikes weigh.
//! In: an integer network. Out: a [`Spread`], and the [`Outgoing`] weights that one of them needs.

use super::{IntegerNetwork, Role, Source, Stage, Term, Weights};
use crate::neuron::Spread;
use crate::neuron::spread::Outgoing;

/// The last stage that spikes.
pub fn last_spiking(network: &IntegerNetwork) -> Option<usize> {
    network.stages.iter().rposition(|s| matches!(s.role, Role::Spiking { .. }))
}

/// The spread that fits the head: diffusion where a channel has several positions and all of them weigh the same, as before a
/// global average pool; weights where the read-out reads the spikes themselves; aligned elsewhere.
pub fn form(network: &IntegerNetwork) -> Spread {
    let Some(last) = last_spiking(network) else { return Spread::None };
    let [_, h, w] = network.stages[last].shape;
    let mut all = readers(network, last);
    if h * w > 1 && all.all(|(stage, term)| stage.shape[1..] == [1, 1] && alike(term, [h, w])) {
        Spread::Diffusion
    } else if plain(network, last) {
        Spread::Weights
    } else {
        Spread::Aligned
    }
}

/// Outgoing weights of the last spiking layer, for runs of ρ = `presim` or less; `None` where something other than the read-out
/// reads it.
pub fn outgoing(network: &IntegerNetwork, presim: usize) -> Option<Outgoing> {
    let last = last_spiking(network)?;
    if !plain(network, last) {
        return None;
    }
    let ([channels, h, w], classes) = (network.stages[last].shape, network.classes());
    let mut sums = vec![0i64; h * w * channels * classes];
    for (_, term) in readers(network, last) {
        for (tap, position) in term.reads([0, 0], [h, w]) {
            add_tap(term, tap, &mut sums[position * channels * classes..][..channels * classes], classes);
        }
    }
    Some(Outgoing::new(&sums, classes, presim))
}

/// Terms that read a stage, and whose they are.
fn readers(network: &IntegerNetwork, read: usize) -> impl Iterator<Item = (&Stage, &Term)> {
    let of = |stage| -> &Stage { stage };
    network
        .stages
        .iter()
        .flat_map(move |stage| stage.terms.iter().map(move |term| (of(stage), term)))
        .filter(move |(_, term)| term.source == Source::Stage(read))
}

/// Whether the read-out reads the stage's spikes, and nothing else does.
fn plain(network: &IntegerNetwork, read: usize) -> bool {
    let mut all = readers(network, read).peekable();
    all.peek().is_some()
        && all.all(|(stage, term)| {
            stage.role == Role::Readout
                && stage.shape[1..] == [1, 1]
                && matches!(term.weights, Weights::Spikes(_))
        })
}

/// Whether a term with one output position gives every position of its source, `[h, w]`, the same weights.
fn alike(term: &Term, [h, w]: [usize; 2]) -> bool {
    let mut taps = vec![vec![]; h * w];
    for (tap, position) in term.reads([0, 0], [h, w]) {
        taps[position].push(tap);
    }
    let outs = term.to + term.outs;
    let sums = |taps: &[usize]| {
        let mut sums = vec![0; term.channels.end * outs];
        taps.iter().for_each(|&tap| add_tap(term, tap, &mut sums, outs));
        sums
    };
    let first = sums(&taps[0]);
    taps.iter().all(|other| *other == taps[0] || sums(other) == first)
}

/// Adds the weights of one tap to `sums`, `[channel of the source, outs]`.
fn add_tap(term: &Term, tap: usize, sums: &mut [i64], outs: usize) {
    let (Weights::Spikes(weights) | Weights::Currents(weights)) = &term.weights else { return };
    let n = term.channels.len();
    for c in 0..n {
        let row = &mut sums[(term.channels.start + c) * outs..][..outs];
        if term.depthwise {
            row[term.to + c] += i64::from(weights[tap * n + c]);
        } else {
            let weights = &weights[(tap * n + c) * term.outs..][..term.outs];
            row[term.to..].iter_mut().zip(weights).for_each(|(sum, &w)| *sum += i64::from(w));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integer::Precision;
    use crate::network::{
        Activation, ActivationKind, Linear, Network, Op, Pool, PoolKind, SpikingNetwork, Start, Threshold,
    };
    use crate::samples::Normalisation;
    use crate::tensor::Tensor;

    fn act() -> Op {
        let threshold = Some(Threshold::Layer(1.0));
        Op::Activation(Activation { kind: ActivationKind::Relu, threshold, start: Start::Half })
    }

    fn linear(n: usize, out: usize) -> Op {
        let data = (0..n * out).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect();
        Op::Linear(Linear { weight: Tensor::new([out, n], data).unwrap(), bias: None })
    }

    fn average(kernel: usize, pad: usize) -> Op {
        let kind = PoolKind::Average { count_padding: false };
        Op::Pool(Pool { kind, kernel: [kernel; 2], stride: [1, 1], padding: [pad; 4], ceil: false })
    }

    /// A spiking image of 2 channels of `size`² pixels, then a head.
    fn head(size: usize, ops: Vec<Op>) -> IntegerNetwork {
        let mut n = Network::new("head", [2, size, size]);
        n.push("if", act(), &[0]);
        for op in ops {
            let last = n.nodes.len() - 1;
            n.push("head", op, &[last]);
        }
        n.output = n.nodes.len() - 1;
        let spiking = SpikingNetwork::new(n).unwrap();
        IntegerNetwork::new(&spiking, &Normalisation::identity(2), Precision::Int32).unwrap()
    }

    #[test]
    fn the_head_says_the_spread() {
        let classes = || linear(2, 3);
        let cases = [
            (head(4, vec![Op::GlobalAverage, classes()]), Spread::Diffusion),
            (head(4, vec![average(4, 0), classes()]), Spread::Diffusion),
            (head(2, vec![average(3, 1), Op::GlobalAverage, classes()]), Spread::Aligned),
            (head(4, vec![Op::Flatten, linear(32, 3)]), Spread::Weights),
            (head(4, vec![average(2, 0), Op::Flatten, linear(18, 3)]), Spread::Weights),
            (head(1, vec![classes()]), Spread::Weights),
            (head(1, vec![Op::GlobalAverage, classes()]), Spread::Weights),
            (head(1, vec![classes(), linear(3, 3)]), Spread::Aligned),
            (head(4, vec![Op::Flatten, linear(32, 8), act(), linear(8, 3)]), Spread::Weights),
        ];
        for (i, (network, want)) in cases.iter().enumerate() {
            assert_eq!(form(network), *want, "case {i}");
            assert!(*want != Spread::Weights || outgoing(network, 8).is_some(), "case {i}");
            assert!(*want != Spread::Aligned || outgoing(network, 8).is_none(), "case {i}");
        }
    }

    #[test]
    fn outgoing_weights_are_those_that_each_neuron_adds_to_the_logits() {
        for ops in [vec![Op::Flatten, linear(32, 3)], vec![average(2, 0), Op::Flatten, linear(18, 3)]] {
            let network = head(4, ops);
            // The read-out's currents when this neuron alone fires, by the network's other reading.
            let reading = super::super::QcfsReading::new(&network, 1);
            let (neurons, read) = (4 * 4 * 2, network.stages.len() - 1);
            let mut sums = vec![];
            for neuron in 0..neurons {
                let mut values = vec![vec![0; neurons]; read];
                values[read - 1][neuron] = 1;
                sums.extend(reading.totals(&network.stages[read], &[], &values));
            }
            let silent = reading.totals(&network.stages[read], &[], &vec![vec![0; neurons]; read]);
            sums.iter_mut().enumerate().for_each(|(i, s)| *s -= silent[i % 3]);
            assert_eq!(outgoing(&network, 4).unwrap(), Outgoing::new(&sums, 3, 4));
        }
    }
}
