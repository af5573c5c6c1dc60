//! The only clock: how long something took, beside results and never in them.

use std::time::Instant;

/// Seconds spent in several stretches of work.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timing {
    seconds: f64,
}

impl Timing {
    /// Does the work and adds the time it takes.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.seconds += start.elapsed().as_secs_f64();
        result
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}
