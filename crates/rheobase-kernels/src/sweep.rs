//! Event-driven sums of kernels of three columns: a row is walked once, and the spikes of a source column are added to the three
//! output columns that they reach, which stay in registers until no further spike can reach them.
//! In and out: as for [`crate::gather`], weights packed with the columns of the kernel together.
//!
//! 1. The lists of a whole row are made first: then the loop that adds waits for nothing but the end of a column.
//! 2. A spike is listed once, where `gather` lists it for every output that it reaches, and its three rows are one stretch of
//!    memory: one place is read for three rows that are added.
//! 3. Few steps are in lockstep: what fills their lists up to the longest costs more here than a wrong guess.

use crate::cpu::Vectors;
use crate::events::Entry;
use crate::gather::{BLOCK, TAPS, Walk, copy, fill};
use crate::lanes::{Element, SumLane};
use crate::packed::UNIT;

/// Columns of the kernel.
const COLUMNS: usize = 3;

/// Whether maps with a kernel of so many rows and columns, padded so on the left, are swept, if their stride and dilation are 1.
pub fn takes(kernel: [usize; 2], padding: usize) -> bool {
    kernel[0] <= TAPS && kernel[1] == COLUMNS && padding < COLUMNS
}

impl<E: Element, T: Entry> Walk<'_, '_, E, T> {
    /// All steps, some in lockstep; returns how many outputs events were added to.
    ///
    /// # Safety
    /// As for `together`.
    #[inline(always)]
    pub(crate) unsafe fn sweep<V: Vectors>(&mut self, registers: usize) -> u64 {
        let (mut t, mut n, steps) = (0, 0, self.row.events.steps());
        while t < steps {
            // SAFETY: the caller's promise.
            let (done, events) = unsafe {
                match (registers, steps - t) {
                    (0, 4..) => self.together::<E::Narrow<V>, 4, 1>(t),
                    (0, _) => self.together::<E::Narrow<V>, 1, 1>(t),
                    (1, 4..) => self.together::<E::Wide<V>, 4, 1>(t),
                    (1, _) => self.together::<E::Wide<V>, 1, 1>(t),
                    (2, 2..) => self.together::<E::Wide<V>, 2, 2>(t),
                    (2, _) => self.together::<E::Wide<V>, 1, 2>(t),
                    (4, _) => self.together::<E::Wide<V>, 1, 4>(t),
                    _ => unreachable!("blocks are of 1, 2 or 4 registers"),
                }
            };
            t += done;
            n += events;
        }
        n
    }

    /// Steps `t .. t + S` of all positions; returns S and how many outputs events were added to.
    ///
    /// # Safety
    /// `weights` are all slots and one of zeros of three rows of `R · LANES` columns, the taps lie inside, and `lists` has room
    /// for S times as many events as the taps' rows can have, and the slack.
    #[inline(always)]
    unsafe fn together<L: SumLane<Element = E>, const S: usize, const R: usize>(
        &mut self,
        t: usize,
    ) -> (usize, u64) {
        let row = self.row;
        let (positions, pad, stride) = (row.positions, row.kernel[3], row.stride);
        let times = (COLUMNS * R * L::LANES * size_of::<E>() / UNIT) as u32;
        // SAFETY: the caller's promise.
        let added = unsafe { self.list::<S>(t, times) };
        let (list, room, weights) = (self.lists.as_ptr(), self.room, self.weights.as_ptr());
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
        let mut newest = pad.min(last);
        let (mut at, mut x, ends, many) = (0, 0, self.ends.as_ptr(), self.ends.len());
        while x < many {
            for (s, open) in open.iter_mut().enumerate() {
                open[2] = open[1];
                open[1] = open[0];
                for (r, sum) in open[0].iter_mut().enumerate() {
                    // SAFETY: a position of a step.
                    *sum = unsafe { L::read(begin.add(s * step + newest * next + r * L::LANES)) };
                }
            }
            newest += usize::from(newest < last);
            // SAFETY: one of the ends.
            let end = unsafe { *ends.add(x) } as usize;
            while at < end {
                for (s, open) in open.iter_mut().enumerate() {
                    // SAFETY: entries of the lists are slots of the taps, or that of zeros.
                    unsafe {
                        let from = weights.byte_add((*list.add(s * room + at)).number() * UNIT);
                        for (k, sums) in open.iter_mut().enumerate() {
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.plus(L::read(from.add((k * R + r) * L::LANES)));
                            }
                        }
                    }
                }
                at += 1;
            }
            let done = (x + pad).saturating_sub(COLUMNS - 1);
            for (s, open) in open.iter().enumerate() {
                for (r, sum) in open[COLUMNS - 1].iter().enumerate() {
                    // SAFETY: a position of a step.
                    unsafe { sum.write(out.add(s * pace + done * stride + r * L::LANES)) };
                }
            }
            x += 1;
        }
        (S, added)
    }

    /// Lists the places of events under all taps, column by column, every step's column filled up to the longest with the place
    /// of zeros; returns how many outputs they reach.
    ///
    /// # Safety
    /// As for `together`.
    #[inline(always)]
    unsafe fn list<const S: usize>(&mut self, t: usize, times: u32) -> u64 {
        let row = self.row;
        let ([_, columns], ins, room) = (row.events.size(), row.events.ins(), self.room);
        let (events, lists) = (row.events.list::<T>().as_ptr(), self.lists.as_mut_ptr());
        let zero = T::cut(row.weights.slots() as u32).place(0, times);
        let mut bounds = [([row.events.bounds(0, 0).as_ptr(); S], 0); TAPS];
        for ((bounds, offset), &(y, ky)) in bounds.iter_mut().zip(row.taps) {
            for (s, bounds) in bounds.iter_mut().enumerate() {
                *bounds = row.events.bounds(y, t + s).as_ptr();
            }
            *offset = (ky * ins) as u32;
        }
        let bounds = &bounds[..row.taps.len()];
        let (mut at, mut added) = (0, 0);
        // behind the last column there are as many outputs as are still open
        let many = (row.positions + COLUMNS - 1).saturating_sub(row.kernel[3]);
        self.ends.resize(many, 0);
        let (ends, behind) = self.ends.split_at_mut(many.min(columns));
        for (x, end) in ends.iter_mut().enumerate() {
            let mut n = [0; S];
            for (bounds, offset) in bounds {
                let offset = offset.wrapping_sub((x * ins) as u32);
                for (s, n) in n.iter_mut().enumerate() {
                    // SAFETY: one position's events, no longer than the list has room for.
                    unsafe {
                        let (from, to) = (*bounds[s].add(x) as usize, *bounds[s].add(x + 1) as usize);
                        let to_list = lists.add(s * room + at + *n);
                        copy::<T, 1>(events.add(from), to - from, offset, times, to_list);
                        *n += to - from;
                    }
                }
            }
            let pad = row.kernel[3];
            let reached =
                (0..COLUMNS).filter(|&k| (x + pad).checked_sub(k).is_some_and(|o| o < row.positions)).count();
            let most = n.into_iter().fold(0, usize::max);
            added += (n.iter().sum::<usize>() * reached) as u64;
            if S > 1 {
                for (s, n) in n.into_iter().enumerate() {
                    let mut n = n;
                    loop {
                        // SAFETY: n <= most, and the slack lies behind.
                        unsafe { fill(lists.add(s * room + at + n), zero) };
                        n += BLOCK;
                        if n >= most {
                            break;
                        }
                    }
                }
            }
            at += most;
            *end = at as u32;
        }
        behind.fill(at as u32);
        added
    }
}
