//! Event-driven sums of kernels of three columns: a row is walked once, and the spikes of a source column are added to the three
//! output columns that they reach, which stay in registers until no further spike can reach them.
//! In and out: as for [`crate::gather`], events listed by columns, weights packed with the columns of the kernel together.
//!
//! 1. The events of a column under neighbouring kernel rows lie together in the list of the column: one stretch of it is added as it is,
//!    nothing is copied. It moves down the list from one output row to the next, and the weights move against it.
//! 2. A spike is listed once, where `gather` lists it for every output that it reaches, and its three rows are one stretch of
//!    memory: one place is read for three rows that are added.
//! 3. Few steps are in lockstep, the shorter ones adding zeros: that costs more here than a wrong guess.

use crate::cpu::Vectors;
use crate::events::Entry;
use crate::gather::Walk;
use crate::lanes::{Element, SumLane};
use std::hint::select_unpredictable;

/// Columns of the kernel.
const COLUMNS: usize = 3;

/// Whether maps with a kernel of so many columns, padded so on the left, are swept, if their rows are neighbours and their columns
/// have stride and dilation 1.
pub fn takes(kernel: usize, padding: usize) -> bool {
    kernel == COLUMNS && padding < COLUMNS
}

impl<E: Element, T: Entry> Walk<'_, '_, E, T> {
    /// All steps; returns how many outputs events were added to.
    ///
    /// # Safety
    /// As for `sweep_steps`.
    #[inline(always)]
    pub(crate) unsafe fn sweep<V: Vectors>(&mut self, registers: usize) -> u64 {
        let (mut t, mut added, steps) = (0, 0, self.row.events.steps());
        while t < steps {
            // SAFETY: the caller's promise.
            let (done, events) = unsafe {
                match (registers, steps - t) {
                    (0, 4..) => self.sweep_steps::<E::Narrow<V>, 4, 1>(t),
                    (0, _) => self.sweep_steps::<E::Narrow<V>, 1, 1>(t),
                    (1, 4..) => self.sweep_steps::<E::Wide<V>, 4, 1>(t),
                    (1, _) => self.sweep_steps::<E::Wide<V>, 1, 1>(t),
                    (2, 2..) => self.sweep_steps::<E::Wide<V>, 2, 2>(t),
                    (2, _) => self.sweep_steps::<E::Wide<V>, 1, 2>(t),
                    (4, _) => self.sweep_steps::<E::Wide<V>, 1, 4>(t),
                    _ => unreachable!("blocks are of 1, 2 or 4 registers"),
                }
            };
            t += done;
            added += events;
        }
        added
    }

    /// Steps `t .. t + S` of all positions; returns S and how many outputs events were added to.
    ///
    /// # Safety
    /// `weights` are all slots and one of zeros of three rows of `R · LANES` columns, and the taps are neighbours that lie inside.
    #[inline(always)]
    unsafe fn sweep_steps<L: SumLane<Element = E>, const S: usize, const R: usize>(
        &mut self,
        t: usize,
    ) -> (usize, u64) {
        let row = self.row;
        let (positions, pad, stride) = (row.positions, row.kernel[3], row.stride);
        let ([_, columns], ins, slot) = (row.events.size(), row.events.ins(), COLUMNS * R * L::LANES);
        let (y, ky) = row.taps.first().copied().unwrap_or_default();
        let (list, rows) = (row.events.list::<T>().as_ptr(), row.taps.len());
        let zeros = self.weights[row.weights.slots() * slot..].as_ptr();
        // from the slot of the first row and channel of the source on, which need not be there
        let weights = self.weights.as_ptr().wrapping_add(ky * ins * slot).wrapping_sub(y * ins * slot);
        let pace = positions * stride;
        let out = self.out[t * pace + self.first..].as_mut_ptr();
        // Where outputs begin: what a step, a position is apart, and the last position.
        let (begin, [step, next], last) = match self.begin {
            Some(begin) => (begin.as_ptr(), [0, 0], 0),
            None => (out.cast_const(), [pace, stride], positions - 1),
        };
        // The sums of output x + pad - k are open[k]. Those of outputs that are none are read and written with some other's place,
        // which is written again later.
        let mut open = [[[L::splat(E::default()); R]; COLUMNS]; S];
        for (s, open) in open.iter_mut().enumerate() {
            for (k, sums) in open.iter_mut().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = pad.saturating_sub(k + 1).min(last);
                    // SAFETY: a position of a step.
                    *sum = unsafe { L::read(begin.add(s * step + x * next + r * L::LANES)) };
                }
            }
        }
        let (mut newest, mut added) = (pad.min(last), 0);
        // behind the last column there are as many outputs as are still open
        for x in 0..(positions + COLUMNS - 1).saturating_sub(pad) {
            for (s, open) in open.iter_mut().enumerate() {
                open[2] = open[1];
                open[1] = open[0];
                for (r, sum) in open[0].iter_mut().enumerate() {
                    // SAFETY: a position of a step.
                    *sum = unsafe { L::read(begin.add(s * step + newest * next + r * L::LANES)) };
                }
            }
            newest += usize::from(newest < last);
            if x < columns {
                let (mut events, mut many, mut most, mut all) = ([list; S], [0; S], 0, 0);
                for s in 0..S {
                    let bounds = row.events.column(x, t + s);
                    let (from, to) = (bounds[y] as usize, bounds[y + rows] as usize);
                    // SAFETY: entries of the list.
                    events[s] = unsafe { list.add(from) };
                    many[s] = to - from;
                    most = most.max(to - from);
                    all += to - from;
                }
                for at in 0..most {
                    for (s, open) in open.iter_mut().enumerate() {
                        // SAFETY: the entries of these rows are slots of the taps; behind them are as many as there may be.
                        unsafe {
                            let place = weights.wrapping_add((*events[s].add(at)).number() * slot);
                            let from =
                                if S == 1 { place } else { select_unpredictable(at < many[s], place, zeros) };
                            for (k, sums) in open.iter_mut().enumerate() {
                                for (r, sum) in sums.iter_mut().enumerate() {
                                    *sum = sum.plus(L::read(from.add((k * R + r) * L::LANES)));
                                }
                            }
                        }
                    }
                }
                let behind = (x + pad + 1).saturating_sub(positions);
                added += (all * (x + pad + 1).min(COLUMNS).saturating_sub(behind)) as u64;
            }
            let done = (x + pad).saturating_sub(COLUMNS - 1);
            for (s, open) in open.iter().enumerate() {
                for (r, sum) in open[COLUMNS - 1].iter().enumerate() {
                    // SAFETY: a position of a step.
                    unsafe { sum.write(out.add(s * pace + done * stride + r * L::LANES)) };
                }
            }
        }
        (S, added)
    }
}
