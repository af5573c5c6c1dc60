//! Event-driven sums: the weight rows of the spikes that reach one output position, added up.
//! In: events as indices, row by row of the input, and a weight matrix `[rows, cols]`.
//! Out: `out[cols] +=` the sum. Integers, so the order never matters.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::IntLane;

/// Columns of weight matrices and lengths of rows are multiples of this.
pub const COLS: usize = 16;

/// Adds to `out` the weight rows of the list.
///
/// # Panics
/// If `cols` is not a multiple of [`COLS`], `out` is shorter than `cols`, or a row is not there.
pub fn gather(isa: Isa, rows: &[u32], weights: &[i32], cols: usize, out: &mut [i32]) {
    isa.run(Gather { rows, weights, cols, out });
}

struct Gather<'a> {
    rows: &'a [u32],
    weights: &'a [i32],
    cols: usize,
    out: &'a mut [i32],
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
                block::<V::I32, 8>(self.rows, self.weights, self.cols, first, out)
            } else if left >= 4 * lanes && lanes > 1 {
                block::<V::I32, 4>(self.rows, self.weights, self.cols, first, out)
            } else if left >= 2 * lanes && lanes > 1 {
                block::<V::I32, 2>(self.rows, self.weights, self.cols, first, out)
            } else {
                block::<V::I32, 1>(self.rows, self.weights, self.cols, first, out)
            };
        }
    }
}

/// Columns `first .. first + N·LANES`; returns how many that were.
#[inline(always)]
fn block<L: IntLane, const N: usize>(
    rows: &[u32],
    weights: &[i32],
    cols: usize,
    first: usize,
    out: &mut [i32],
) -> usize {
    let width = N * L::LANES;
    let out = &mut out[first..first + width];
    // No closure: it would not take on the caller's instruction set.
    let mut sums = [L::load(out); N];
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = L::load(&out[i * L::LANES..]);
    }
    for &row in rows {
        let row = row as usize * cols + first;
        let row = &weights[row..row + width];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.add(L::load(&row[i * L::LANES..]));
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        sum.store(&mut out[i * L::LANES..]);
    }
    width
}

/// Event lists end with so many entries that no position owns: runs are copied in blocks of this size.
pub const SLACK: usize = 16;

/// One row of output positions of a convolution over event lists.
///
/// The events of input row r, position x are `events[index[base(r) + x]..index[base(r) + x + 1]]`, each one x·ins + channel;
/// [`SLACK`] more entries follow the last.
pub struct Row<'a> {
    /// Kernel rows that lie on the image: where their input row begins in `index`, and their first weight row.
    pub taps: &'a [(u32, u32)],
    /// Beginnings of positions in `events`.
    pub index: &'a [u32],
    /// Events.
    pub events: &'a [u32],
    /// Positions of an input row.
    pub width: usize,
    /// Input channels.
    pub ins: usize,
    /// Kernel width, stride, dilation, padding on the left.
    pub kernel: [usize; 4],
    /// `[kernel rows · kernel width · ins, cols]`.
    pub weights: &'a [i32],
    /// Columns, a multiple of [`COLS`].
    pub cols: usize,
    /// Distance of two output positions in `out`.
    pub stride: usize,
}

/// Adds one row of sums to `out`, position by position, and returns how many events were added. `list` is room to work in.
///
/// # Panics
/// If events, weights or `out` are too short for what the row describes.
pub fn gather_row(isa: Isa, row: &Row<'_>, positions: usize, list: &mut Vec<u32>, out: &mut [i32]) -> u64 {
    isa.run(GatherRow { row, positions, list, out })
}

struct GatherRow<'a, 'b> {
    row: &'a Row<'b>,
    positions: usize,
    list: &'a mut Vec<u32>,
    out: &'a mut [i32],
}

impl Job for GatherRow<'_, '_> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let (row, list) = (self.row, self.list);
        let [kw, stride, dilation, pad] = row.kernel;
        let mut added = 0;
        for (x, out) in self.out.chunks_mut(row.stride).take(self.positions).enumerate() {
            let mut n = 0;
            let left = (x * stride) as isize - pad as isize;
            for &(base, first) in row.taps {
                let index = &row.index[base as usize..][..=row.width];
                if dilation == 1 {
                    // neighbouring taps read neighbouring positions: one run of events
                    let begin = left.clamp(0, row.width as isize) as usize;
                    let end = (left + kw as isize).clamp(begin as isize, row.width as isize) as usize;
                    let offset = first as isize - left * row.ins as isize;
                    copy(row.events, index[begin], index[end], offset as i32, list, &mut n);
                } else {
                    for kx in 0..kw {
                        let at = left + (kx * dilation) as isize;
                        if (0..row.width as isize).contains(&at) {
                            let offset = first as isize + (kx as isize - at) * row.ins as isize;
                            let (begin, end) = (index[at as usize], index[at as usize + 1]);
                            copy(row.events, begin, end, offset as i32, list, &mut n);
                        }
                    }
                }
            }
            added += n as u64;
            if n > 0 {
                Gather { rows: &list[..n], weights: row.weights, cols: row.cols, out }.run::<V>();
            }
        }
        added
    }
}

/// Appends a run of events as weight rows. Whole blocks are copied, so that a short run costs no branch that cannot be guessed;
/// one list for all runs then means one loop, and one wrong guess where it ends.
#[inline(always)]
fn copy(events: &[u32], begin: u32, end: u32, offset: i32, list: &mut Vec<u32>, n: &mut usize) {
    let (begin, end) = (begin as usize, end as usize);
    if list.len() < *n + (end - begin) + SLACK {
        list.resize((*n + (end - begin) + SLACK).next_power_of_two(), 0);
    }
    let mut from = begin;
    while from < end {
        let block = &events[from..from + SLACK];
        let to = &mut list[*n + (from - begin)..][..SLACK];
        to.iter_mut().zip(block).for_each(|(to, e)| *to = e.wrapping_add_signed(offset));
        from += SLACK;
    }
    *n += end - begin;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_adds_the_same_rows() {
        for cols in [16, 32, 48, 112, 128, 272] {
            let weights: Vec<i32> = (0..40 * cols).map(|i| (i as i32 * 7919) % 1001 - 500).collect();
            let rows: Vec<u32> = (0..30).map(|i| (i * 17) % 40).collect();
            let sum = |c: usize| 3 + rows.iter().map(|&r| weights[r as usize * cols + c]).sum::<i32>();
            for isa in Isa::available() {
                let mut out = vec![3; cols];
                gather(isa, &rows, &weights, cols, &mut out);
                assert!(out.iter().enumerate().all(|(c, &x)| x == sum(c)), "{} {cols}", isa.name());
            }
        }
    }

    #[test]
    #[should_panic]
    fn an_event_outside_the_weights_is_caught() {
        gather(Isa::best(), &[1], &[0; 16], 16, &mut [0; 16]);
    }
}
