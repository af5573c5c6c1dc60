//! SRP, residual membrane potential (Hao et al., AAAI 2023).
//! In: currents. Out: no spikes where v(τ) < 0 after τ steps, otherwise those from θ/2.

use super::{Cell, Entry, Lane, Mask, Rule, fire};
use rheobase_kernels::if_step::if_step;

/// Silences neurons whose residual potential after `presim` (τ) steps is below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Srp {
    /// τ.
    pub presim: usize,
}

pub(super) const ENTRY: Entry = Entry {
    name: "srp",
    help: "neurons whose potential after --presim steps is below 0 stay silent",
    source: "Hao et al., AAAI 2023",
    calibrates: true,
    build: |p| Box::new(Srp { presim: p.presim }),
};

impl Rule for Srp {
    fn presim(&self) -> usize {
        self.presim
    }

    fn leaves_steady(&self) -> bool {
        true
    }

    #[inline(always)]
    fn run<L: Lane>(&self, cell: &Cell<'_, L>, spikes: &mut [L::Mask]) -> L {
        let residual =
            cell.currents[..self.presim].iter().fold(cell.start, |v, &i| if_step(v, i, cell.theta).after);
        let awake = residual.ge(cell.theta.zero());
        let start = cell.theta.half();
        fire(cell, start, spikes);
        for spike in spikes {
            *spike = spike.and(awake);
        }
        start
    }
}
