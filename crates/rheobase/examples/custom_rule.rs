//! A neuron rule of one's own, beside the built-in ones, on the digits: `cargo run --release -p rheobase --example custom_rule`.

#![allow(clippy::print_stdout)] // an example talks

use rheobase::core::Kernels;
use rheobase::core::evaluate::{Options, evaluate};
use rheobase::core::integer::Precision;
use rheobase::core::network::fold::fold;
use rheobase::core::neuron::{Cell, Cos, Iterations, Lane, Mask, NeuronRule, Qcfs, Rule, fire};
use rheobase::core::prepared::Prepared;
use rheobase::core::progress::Silent;
use rheobase::io::{data, import};
use std::path::Path;

/// A refractory neuron: a step after a spike it stays silent, whatever its potential.
///
/// One function over lanes: the engine runs it on vectors of integers, a test may run it on one f64.
#[derive(Clone)]
struct Refractory;

impl Rule for Refractory {
    fn presim(&self) -> usize {
        0 // it looks at no step before the first it reads out
    }

    #[inline(always)]
    fn run<L: Lane>(&self, cell: &Cell<'_, L>, spikes: &mut [L::Mask]) -> L {
        let mut v = cell.start;
        let mut before: Option<L::Mask> = None;
        for (&current, spike) in cell.currents.iter().zip(spikes) {
            let m = v.add(current);
            let awake = before.map_or(m.ge(cell.theta), |b| m.ge(cell.theta).and(b.not()));
            v = m.sub(cell.theta).or_else(awake, m);
            *spike = awake;
            before = Some(awake);
        }
        cell.start
    }
}

fn main() -> rheobase::Result<()> {
    // By itself, on one neuron in f64: input of one threshold a step, but every other spike is held back.
    let mut spikes = [false; 4];
    let cell = Cell::new(1.0, 0.5, &[1.0; 4]);
    Refractory.run(&cell, &mut spikes);
    assert_eq!(spikes, [true, false, true, false]);
    fire(&cell, cell.start, &mut spikes);
    assert_eq!(spikes, [true; 4]);

    // In a whole network.
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits-l4.safetensors");
    let network = fold(&import::native::read(&model)?)?;
    let digits = data::open("digits", &data::Options::default())?;
    let images = Prepared::new(&*digits, &network, None, None)?;
    let rules: [(&str, &dyn NeuronRule); 3] = [
        ("qcfs", &Qcfs),
        ("cos", &Cos { presim: 4, iterations: Iterations::Times(1) }),
        ("refractory", &Refractory),
    ];
    let options = Options {
        rules: &rules.map(|r| r.1),
        steps: 8,
        batch: 100,
        precision: Precision::default(),
        spread: None,
        ann: true,
        offsets: false,
        verify: false,
        kernels: Kernels::best(),
    };
    let evaluation = evaluate(&network, &images, &options, &Silent)?;
    for ((name, _), snn) in rules.iter().zip(&evaluation.snn) {
        println!("{name:<12} right after 1..8 steps, of {}: {:?}", evaluation.images, snn.correct);
    }
    Ok(())
}
