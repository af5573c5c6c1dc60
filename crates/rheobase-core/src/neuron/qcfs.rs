//! QCFS without calibration (Bu et al., ICLR 2022): the neuron as it is.
//! In: currents. Out: the spikes from the stored v(0), θ/2.

use super::{Entry, Rule};

/// Runs every neuron from its stored v(0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcfs;

pub(super) const ENTRY: Entry = Entry {
    name: "qcfs",
    help: "plain integrate-and-fire from v(0), no calibration",
    source: "Bu et al., ICLR 2022",
    calibrates: false,
    build: |_| Box::new(Qcfs),
};

impl Rule for Qcfs {
    fn presim(&self) -> usize {
        0
    }

    fn keeps_silent(&self) -> bool {
        true
    }

    fn is_watched(&self) -> bool {
        true
    }

    fn reach(&self, span: usize) -> usize {
        span + 2
    }

    const PLACES: bool = true;
    const CALIBRATES: bool = false;
}
