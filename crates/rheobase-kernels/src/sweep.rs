//! Event-driven sums of kernels of three columns: a row is walked once, and the spikes of a source column are added to the three
//! output columns that they reach, which stay in registers until no further spike can reach them.
//! In and out: as for [`crate::gather`], events listed by columns, weights packed with the columns of the kernel together.
//!
//! 1. The events of a column under neighbouring kernel rows lie together in the list of the column: one stretch of it is added as it is,
//!    nothing is copied. It moves down the list from one output row to the next, and the weights move against it.
//! 2. A spike is listed once, where `gather` lists it for every output that it reaches, and its three rows are one stretch of
//!    memory: one place is read for three rows that are added.
//! 3. Where there are registers enough, the sums of four steps are open: a neuron that fires at several of them is listed once, with
//!    the steps, and its weights are read once, from the second cache where a layer is large, and added under masks.
//! 4. Elsewhere few steps are in lockstep, the shorter ones adding zeros: that costs more here than a wrong guess.

use crate::cpu::{Isa, Job, Vectors};
use crate::events::{Entry, Order, TOGETHER};
use crate::gather::Walk;
use crate::lanes::{Element, SumLane};
use std::hint::select_unpredictable;
use std::ops::Range;

/// Columns of the kernel.
const COLUMNS: usize = 3;

/// Under which steps lanes are kept, for every train.
static MARKS: [[u32; TOGETHER]; 1 << TOGETHER] = {
    let (mut all, mut train) = ([[0; TOGETHER]; 1 << TOGETHER], 0);
    while train < 1 << TOGETHER {
        let mut s = 0;
        while s < TOGETHER {
            all[train][s] = if train >> s & 1 == 1 { u32::MAX } else { 0 };
            s += 1;
        }
        train += 1;
    }
    all
};

/// Whether maps with a kernel of so many columns, padded so on the left, are swept, if their rows are neighbours and their columns
/// have stride and dilation 1.
pub fn takes(kernel: usize, padding: usize) -> bool {
    kernel == COLUMNS && padding < COLUMNS
}

/// How the events of maps with so many kernel rows, inputs and outputs are best listed: trains where there are registers for them, and
/// weights enough that it pays to read each less often.
pub fn order<E: Element>(isa: Isa, [rows, ins, outs]: [usize; 3]) -> Order {
    let weights = [rows, COLUMNS, ins, outs, size_of::<E>()].into_iter().fold(1, usize::saturating_mul);
    if isa.run(Registers) >= TRAINS && weights > FEW { Order::Trains } else { Order::Columns }
}

/// Lanes that stay in registers where the sums of four steps are open.
const TRAINS: usize = 32;

/// Bytes of weights that come from the nearest cache often enough that it is cheaper to read them twice than to list trains.
const FEW: usize = 140 * 1024;

/// How many lanes stay in registers.
struct Registers;

impl Job for Registers {
    type Out = usize;
    #[inline(always)]
    fn run<V: Vectors>(self) -> usize {
        V::REGISTERS
    }
}

/// Where a walk reads and writes, for steps from some one on.
#[derive(Clone, Copy)]
struct Ground<E> {
    /// From the slot of the first row and channel of the source on, which need not be there.
    weights: *const E,
    /// Sums, and what two steps and two positions are apart.
    out: *mut E,
    apart: [usize; 2],
    /// What outputs begin with, likewise, and the last position of it.
    begin: *const E,
    begin_apart: [usize; 2],
    last: usize,
}

impl<E: Element> Ground<E> {
    /// What position `x` of a step begins with.
    ///
    /// # Safety
    /// They are there, and R registers of numbers.
    #[inline(always)]
    unsafe fn begin<L: SumLane<Element = E>, const R: usize>(&self, s: usize, x: usize, to: &mut [L; R]) {
        let [step, next] = self.begin_apart;
        for (r, sum) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum = unsafe { L::read(self.begin.add(s * step + x * next + r * L::LANES)) };
        }
    }

    /// Writes the sums of position `x` of a step.
    ///
    /// # Safety
    /// As for `begin`.
    #[inline(always)]
    unsafe fn end<L: SumLane<Element = E>, const R: usize>(&self, s: usize, x: usize, sums: &[L; R]) {
        let [step, next] = self.apart;
        for (r, sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { sum.write(self.out.add(s * step + x * next + r * L::LANES)) };
        }
    }
}

impl<E: Element, T: Entry> Walk<'_, '_, E, T> {
    /// That of steps from `t` on.
    #[inline(always)]
    fn ground(&mut self, t: usize, slot: usize) -> Ground<E> {
        let (row, ins) = (self.row, self.row.events.ins());
        let (y, ky) = row.taps.first().copied().unwrap_or_default();
        let pace = row.positions * row.stride;
        let out = self.out[t * pace + self.first..].as_mut_ptr();
        let (begin, begin_apart, last) = match self.begin {
            Some(begin) => (begin.as_ptr(), [0, 0], 0),
            None => (out.cast_const(), [pace, row.stride], row.positions - 1),
        };
        let weights = self.weights.as_ptr().wrapping_add(ky * ins * slot).wrapping_sub(y * ins * slot);
        Ground { weights, out, apart: [pace, row.stride], begin, begin_apart, last }
    }

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
        let (positions, pad) = (row.positions, row.kernel[3]);
        let ([_, columns], slot) = (row.events.size(), COLUMNS * R * L::LANES);
        let y = row.taps.first().map_or(0, |tap| tap.0);
        let (list, rows) = (row.events.list::<T>().as_ptr(), row.taps.len());
        let zeros = self.weights[row.weights.slots() * slot..].as_ptr();
        let ground = self.ground(t, slot);
        let (weights, last) = (ground.weights, ground.last);
        // The sums of output x + pad - k are open[k]. Those of outputs that are none are read and written with some other's place,
        // which is written again later.
        let mut open = [[[L::splat(E::default()); R]; COLUMNS]; S];
        for (s, open) in open.iter_mut().enumerate() {
            for (k, sums) in open.iter_mut().enumerate() {
                // SAFETY: a position of a step.
                unsafe { ground.begin(s, pad.saturating_sub(k + 1).min(last), sums) };
            }
        }
        let (mut newest, mut added) = (pad.min(last), 0);
        // behind the last column there are as many outputs as are still open
        for x in 0..(positions + COLUMNS - 1).saturating_sub(pad) {
            for (s, open) in open.iter_mut().enumerate() {
                open[2] = open[1];
                open[1] = open[0];
                // SAFETY: a position of a step.
                unsafe { ground.begin(s, newest, &mut open[0]) };
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
                // SAFETY: a position of a step.
                unsafe { ground.end(s, done, &open[COLUMNS - 1]) };
            }
        }
        (S, added)
    }

    /// The same of trains.
    ///
    /// # Safety
    /// As for `sweep_steps`.
    #[inline(always)]
    pub(crate) unsafe fn sweep_all_trains<V: Vectors>(&mut self, registers: usize) -> u64 {
        let mut added = 0;
        for group in 0..self.row.events.steps().div_ceil(TOGETHER) {
            // SAFETY: the caller's promise.
            added += unsafe {
                match registers {
                    0 => self.sweep_trains::<E::Narrow<V>, 1>(group),
                    1 => self.sweep_trains::<E::Wide<V>, 1>(group),
                    2 => self.sweep_trains::<E::Wide<V>, 2>(group),
                    _ => unreachable!("blocks of trains are of 1 or 2 registers"),
                }
            };
        }
        added
    }

    /// A group of [`TOGETHER`] steps of all positions, listed as trains; returns how many outputs spikes were added to.
    ///
    /// # Safety
    /// As for `sweep_steps`.
    #[inline(always)]
    unsafe fn sweep_trains<L: SumLane<Element = E>, const R: usize>(&mut self, group: usize) -> u64 {
        let row = self.row;
        let (positions, pad) = (row.positions, row.kernel[3]);
        let ([_, columns], slot) = (row.events.size(), COLUMNS * R * L::LANES);
        let y = row.taps.first().map_or(0, |tap| tap.0);
        let (list, ys) = (row.events.list::<T>().as_ptr(), y..y + row.taps.len());
        let t = group * TOGETHER;
        let steps = (row.events.steps() - t).min(TOGETHER);
        let ground = self.ground(t, slot);
        let (weights, last) = (ground.weights, ground.last);
        // as in `sweep_steps`; steps that are none begin as the last one
        let mut open = [[[L::splat(E::default()); R]; COLUMNS]; TOGETHER];
        for (s, open) in open.iter_mut().enumerate() {
            for (k, sums) in open.iter_mut().enumerate() {
                // SAFETY: a position of a step.
                unsafe { ground.begin(s.min(steps - 1), pad.saturating_sub(k + 1).min(last), sums) };
            }
        }
        let (mut newest, mut added) = (pad.min(last), 0);
        for x in 0..(positions + COLUMNS - 1).saturating_sub(pad) {
            for (s, open) in open.iter_mut().enumerate() {
                open[2] = open[1];
                open[1] = open[0];
                // SAFETY: a position of a step.
                unsafe { ground.begin(s.min(steps - 1), newest, &mut open[0]) };
            }
            newest += usize::from(newest < last);
            if x < columns {
                let ([a, b, c, d, several], mut all) = row.events.trains(x, group, ys.clone());
                // SAFETY: the entries of these rows are slots of the taps.
                unsafe {
                    all += add_once::<L, T, R>(&mut open[0], list, a, weights);
                    all += add_once::<L, T, R>(&mut open[1], list, b, weights);
                    all += add_once::<L, T, R>(&mut open[2], list, c, weights);
                    all += add_once::<L, T, R>(&mut open[3], list, d, weights);
                }
                for at in several {
                    // SAFETY: as above.
                    unsafe {
                        let (train, number) = (*list.add(at)).train();
                        let (from, marks) = (weights.wrapping_add(number * slot), &MARKS[train]);
                        for k in 0..COLUMNS {
                            for r in 0..R {
                                let weight = L::read(from.add((k * R + r) * L::LANES));
                                for (open, mark) in open.iter_mut().zip(marks) {
                                    open[k][r] = open[k][r].plus(weight.keep(*mark));
                                }
                            }
                        }
                    }
                }
                let behind = (x + pad + 1).saturating_sub(positions);
                added += (all * (x + pad + 1).min(COLUMNS).saturating_sub(behind)) as u64;
            }
            let done = (x + pad).saturating_sub(COLUMNS - 1);
            for (s, open) in open.iter().enumerate().take(steps) {
                // SAFETY: a position of a step.
                unsafe { ground.end(s, done, &open[COLUMNS - 1]) };
            }
        }
        added
    }
}

/// Adds the slots of some entries of a list to the sums of one step; returns how many these are.
///
/// # Safety
/// The entries are there, and slots of R registers by [`COLUMNS`] from `weights` on.
#[inline(always)]
unsafe fn add_once<L: SumLane, T: Entry, const R: usize>(
    open: &mut [[L; R]; COLUMNS],
    list: *const T,
    entries: Range<usize>,
    weights: *const L::Element,
) -> usize {
    let many = entries.len();
    for at in entries {
        // SAFETY: the caller's promise.
        unsafe {
            let from = weights.wrapping_add((*list.add(at)).number() * COLUMNS * R * L::LANES);
            for (k, sums) in open.iter_mut().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus(L::read(from.add((k * R + r) * L::LANES)));
                }
            }
        }
    }
    many
}
