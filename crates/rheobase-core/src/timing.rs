//! The only clock: how long something took, beside results and never in them.

use std::sync::atomic::{AtomicU64, Ordering};
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

/// Seconds of several kinds of work, added up from any thread.
#[derive(Debug, Default)]
pub struct Laps {
    nanoseconds: Vec<AtomicU64>,
}

impl Laps {
    /// For so many kinds.
    pub fn new(kinds: usize) -> Self {
        Laps { nanoseconds: (0..kinds).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Does the work and adds the time it takes to that of its kind.
    pub fn measure<T>(&self, kind: usize, work: impl FnOnce() -> T) -> T {
        let mut time = Timing::default();
        let result = time.measure(work);
        if let Some(sum) = self.nanoseconds.get(kind) {
            sum.fetch_add((time.seconds() * 1e9) as u64, Ordering::Relaxed);
        }
        result
    }

    /// Seconds of a kind so far, all threads together.
    pub fn seconds(&self, kind: usize) -> f64 {
        self.nanoseconds.get(kind).map_or(0.0, |n| n.load(Ordering::Relaxed) as f64 * 1e-9)
    }
}
