//! Event-driven sums: the weight rows of the spikes that reach one output position, added up.
//! In: events as indices, segments of them that belong to this position, a weight matrix `[rows, cols]`.
//! Out: `out[cols] +=` the sum. Integers, so the order never matters.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::IntLane;

/// Columns of weight matrices and lengths of rows are multiples of this.
pub const COLS: usize = 16;

/// A run of events and what turns each of them into a weight row: row = event + offset.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// First event.
    pub begin: u32,
    /// One past the last event.
    pub end: u32,
    /// Added to the event's index.
    pub offset: i32,
}

/// Adds to `out` the weight rows that the events of the segments name.
///
/// # Panics
/// If `cols` is not a multiple of [`COLS`], `out` is shorter than `cols`, or an event names a row that is not there.
pub fn gather(isa: Isa, segments: &[Segment], events: &[u32], weights: &[i32], cols: usize, out: &mut [i32]) {
    isa.run(Gather { segments, events, weights, cols, out });
}

/// [`gather`] inside another job.
pub struct Gather<'a> {
    /// What to add.
    pub segments: &'a [Segment],
    /// All events of the input.
    pub events: &'a [u32],
    /// `[rows, cols]`.
    pub weights: &'a [i32],
    /// Columns.
    pub cols: usize,
    /// Where to add.
    pub out: &'a mut [i32],
}

impl Job for Gather<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        assert!(self.cols.is_multiple_of(COLS), "columns come in blocks");
        let out = &mut self.out[..self.cols];
        let lanes = V::I32::LANES;
        let mut first = 0;
        while first < self.cols {
            let left = self.cols - first;
            // As many accumulators as fit the registers; all of them live through the whole list.
            first += if left >= 8 * lanes && lanes > 1 {
                block::<V::I32, 8>(self.segments, self.events, self.weights, self.cols, first, out)
            } else if left >= 4 * lanes && lanes > 1 {
                block::<V::I32, 4>(self.segments, self.events, self.weights, self.cols, first, out)
            } else if left >= 2 * lanes && lanes > 1 {
                block::<V::I32, 2>(self.segments, self.events, self.weights, self.cols, first, out)
            } else {
                block::<V::I32, 1>(self.segments, self.events, self.weights, self.cols, first, out)
            };
        }
    }
}

/// Columns `first .. first + N·LANES`; returns how many that were.
#[inline(always)]
fn block<L: IntLane, const N: usize>(
    segments: &[Segment],
    events: &[u32],
    weights: &[i32],
    cols: usize,
    first: usize,
    out: &mut [i32],
) -> usize {
    let width = N * L::LANES;
    let out = &mut out[first..first + width];
    let mut sums: [L; N] = std::array::from_fn(|i| L::load(&out[i * L::LANES..]));
    for s in segments {
        for &event in &events[s.begin as usize..s.end as usize] {
            let row = event.wrapping_add_signed(s.offset) as usize * cols + first;
            let row = &weights[row..row + width];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(L::load(&row[i * L::LANES..]));
            }
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        sum.store(&mut out[i * L::LANES..]);
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_adds_the_same_rows() {
        for cols in [16, 32, 48, 112, 128, 272] {
            let rows = 40;
            let weights: Vec<i32> = (0..rows * cols).map(|i| (i as i32 * 7919) % 1001 - 500).collect();
            let events: Vec<u32> = (0..30).map(|i| (i * 17) % 30).collect();
            let segments = [
                Segment { begin: 2, end: 9, offset: 5 },
                Segment { begin: 9, end: 9, offset: 0 },
                Segment { begin: 20, end: 30, offset: 10 },
            ];
            let mut expected: Vec<i64> = vec![3; cols];
            for s in &segments {
                for &e in &events[s.begin as usize..s.end as usize] {
                    let row = (e as i32 + s.offset) as usize;
                    for (c, x) in expected.iter_mut().enumerate() {
                        *x += i64::from(weights[row * cols + c]);
                    }
                }
            }
            for isa in Isa::available() {
                let mut out = vec![3; cols];
                gather(isa, &segments, &events, &weights, cols, &mut out);
                assert!(out.iter().zip(&expected).all(|(a, b)| i64::from(*a) == *b), "{} {cols}", isa.name());
            }
        }
    }

    #[test]
    #[should_panic]
    fn an_event_outside_the_weights_is_caught() {
        let segments = [Segment { begin: 0, end: 1, offset: -1 }];
        gather(Isa::best(), &segments, &[0], &[0; 16], 16, &mut [0; 16]);
    }
}
