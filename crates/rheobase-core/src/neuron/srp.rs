//! SRP, residual membrane potential (Hao et al., AAAI 2023).
//! In: currents. Out: no spikes where v(τ) < 0 after τ steps, otherwise those from θ/2.

use super::{Cell, Entry, Lane, Placed, Rule};
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

    fn keeps_silent(&self) -> bool {
        true
    }

    fn leaves_steady(&self) -> bool {
        true
    }

    fn reach(&self, span: usize) -> usize {
        span + 2
    }

    const PLACES: bool = true;

    #[inline(always)]
    fn place<L: Lane>(&self, cell: &Cell<'_, L>) -> Placed<L> {
        let mut residual = cell.start;
        for &current in &cell.currents[..self.presim] {
            residual = if_step(residual, current, cell.theta).after;
        }
        let awake = Some(residual.ge(cell.theta.zero()));
        Placed { awake, ..Placed::at(cell.theta.half()) }
    }
}
