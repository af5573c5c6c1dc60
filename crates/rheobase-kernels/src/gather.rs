//! Event-driven sums: the weight rows of the spikes that reach an output position, added up.
//! In: [`Events`] of the source, weights `[rows, cols]` packed for the instruction set. Out: `out[cols] +=` (or `=`) the sum of
//! every step and position of an output row. Integers, so the order never matters.
//!
//! 1. A position's events lie in as many runs as the kernel has rows; they are copied into one list, so that one loop adds
//!    them and only its end is a branch that cannot be guessed. Whole blocks are copied, so that short runs do not branch either.
//!    What is copied becomes the place of a weight row, so that the loop computes no addresses.
//! 2. As many accumulators as fit the registers live through the whole list: some columns of some steps. The steps of a
//!    position run in lockstep, their lists filled up to the longest with a row of zeros: one wrong guess for all of them.
//! 3. Wider outputs are cut into blocks whose weights lie together, so that a row of a block is one stretch of memory.
//! 4. Kernels of three columns at stride 1 are swept instead, [`crate::sweep`]; this file checks what both walks rely on.

use crate::cpu::{Isa, Job, Vectors};
use crate::events::{Entry, Events, Order, SLACK, TOGETHER};
use crate::lanes::{Element, SumLane};
use crate::packed::{Packed, UNIT, reach};

/// One row of output positions of a convolution over event lists, at every step.
#[derive(Clone, Copy)]
pub struct Row<'a, E> {
    /// Kernel rows that lie on the source: the source's row and the kernel's.
    pub taps: &'a [(usize, usize)],
    /// Events of the source.
    pub events: &'a Events,
    /// Kernel width, stride, dilation, padding on the left.
    pub kernel: [usize; 4],
    /// `[kernel rows · kernel width · ins, cols]`.
    pub weights: &'a Packed<E>,
    /// Output positions.
    pub positions: usize,
    /// Numbers of an output position; steps lie `positions · stride` apart.
    pub stride: usize,
    /// First column.
    pub to: usize,
    /// What every position begins with, `[cols]` of the weights, in place of what `out` holds.
    pub begin: Option<&'a [E]>,
    /// Only this block of columns, of [`Packed::many`].
    pub block: Option<usize>,
}

/// Adds the sums to `out`, `[steps, positions, stride]`, or writes them there where a row has its own beginning; returns how many
/// events were added. `lists` is room to work in.
///
/// # Panics
/// If weights or `out` are too small for what the row describes, or the weights were packed for another instruction set.
pub fn gather_row<E: Element>(isa: Isa, row: &Row<'_, E>, lists: &mut Lists, out: &mut [E]) -> u64 {
    assert!(isa == row.weights.isa(), "weights are packed for the instruction set");
    let is_short = row.events.is_short();
    assert!(!is_short || takes_short(row.weights, row.events.size()[0]), "events in 16 bits are enough");
    match (row.weights.order(), is_short) {
        (Order::Trains, true) => isa.run(GatherRow::<_, _, true> { row, lists: &mut lists.short, out }),
        (Order::Trains, false) => isa.run(GatherRow::<_, _, true> { row, lists: &mut lists.long, out }),
        (_, true) => isa.run(GatherRow::<_, _, false> { row, lists: &mut lists.short, out }),
        (_, false) => isa.run(GatherRow::<_, _, false> { row, lists: &mut lists.long, out }),
    }
}

/// Whether events in 16 bits are enough for maps with these weights over a source of so many rows.
pub fn takes_short<E: Element>(weights: &Packed<E>, rows: usize) -> bool {
    let places = rows.saturating_mul(weights.ins());
    match weights.order() {
        Order::Rows => weights.is_short(),
        Order::Columns => places <= 1 << 16,
        Order::Trains => places <= 1 << 16 >> TOGETHER,
    }
}

/// Room to work in.
#[derive(Debug, Default)]
pub struct Lists {
    short: Vec<u16>,
    long: Vec<u32>,
}

/// Events listed as TRAINS, or otherwise, for themselves: what one walk is compiled to changes the other's speed.
struct GatherRow<'a, 'b, E, T, const TRAINS: bool> {
    row: &'a Row<'b, E>,
    lists: &'a mut Vec<T>,
    out: &'a mut [E],
}

impl<E: Element, T: Entry, const TRAINS: bool> Job for GatherRow<'_, '_, E, T, TRAINS> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let GatherRow { row, lists, out } = self;
        let ([kw, stride, dilation, pad], ins) = (row.kernel, row.events.ins());
        let (steps, [height, _], weights) = (row.events.steps(), row.events.size(), row.weights);
        let rows = weights.slots().saturating_mul(weights.together());
        let under = kw.checked_mul(ins);
        for &(y, ky) in row.taps {
            let end = under.and_then(|n| ky.checked_add(1)?.checked_mul(n));
            assert!(y < height && end.is_some_and(|n| n <= rows), "taps lie on the source");
        }
        let swept = weights.together() > 1;
        let neighbours = row.taps.windows(2).all(|taps| (taps[0].0 + 1, taps[0].1 + 1) == taps[1]);
        let sweeps = [weights.together(), 1, 1] == [kw, stride, dilation] && pad < kw && neighbours;
        assert!(!swept || sweeps && ins == weights.ins(), "weights are packed for this kernel");
        let order = weights.order();
        let is_meant = row.events.order() == Some(order) && TRAINS == (order == Order::Trains);
        assert!(is_meant, "events are listed for this walk");
        let places = height.checked_mul(ins).filter(|n| !TRAINS || *n <= 1 << (32 - TOGETHER));
        assert!(places.is_some(), "trains are counted in what their steps leave of 32 bits");
        let step = row.positions.checked_mul(row.stride);
        let whole = step.and_then(|n| n.checked_mul(steps));
        let fits = row.stride.checked_sub(row.to).is_some_and(|n| weights.cols() <= n);
        assert!(fits && whole.is_some_and(|n| n <= out.len()), "room for every sum");
        assert!(row.begin.is_none_or(|b| b.len() >= weights.cols()), "a number for every column");
        let mut room = 0;
        if !swept {
            let widest = reach(weights.slots(), 4 * 64);
            assert!(u32::try_from(widest).is_ok(), "places are counted in 32 bits at most");
            // A position's events, and blocks that are copied or filled beyond.
            let events = row.taps.len().checked_mul(kw).and_then(|n| n.checked_mul(row.events.most()));
            let most = events.and_then(|n| n.checked_add(2 * SLACK));
            room = most.filter(|n| n.checked_mul(4).is_some()).expect("events of a position fit the memory");
            if lists.len() < 4 * room {
                lists.resize(4 * room, T::default());
            }
        }
        if row.positions == 0 {
            return 0;
        }
        let mut added = 0;
        let blocks = match row.block {
            Some(block) => &weights.blocks()[block..=block],
            None => weights.blocks(),
        };
        for block in blocks {
            let begin = row.begin.map(|b| &b[block.first..]);
            let weights = weights.of(block);
            let mut walk = Walk { row, weights, first: row.to + block.first, begin, room, lists, out };
            // SAFETY: taps, room and `out` are checked above, the weights are those of the block.
            added = unsafe {
                match swept {
                    true if TRAINS => walk.sweep_all_trains::<V>(block.registers),
                    true => walk.sweep::<V>(block.registers),
                    false => walk.all::<V>(block.registers),
                }
            };
        }
        added
    }
}

/// One block of columns.
pub(crate) struct Walk<'a, 'b, E, T> {
    pub row: &'a Row<'b, E>,
    pub weights: &'a [E],
    /// First column in `out`.
    pub first: usize,
    /// What the columns begin with.
    pub begin: Option<&'a [E]>,
    /// Entries of one step's list.
    pub room: usize,
    pub lists: &'a mut Vec<T>,
    pub out: &'a mut [E],
}

/// Kernel rows that the usual walk takes.
const TAPS: usize = 8;

impl<E: Element, T: Entry> Walk<'_, '_, E, T> {
    /// All steps, some at a time; returns the events added.
    ///
    /// # Safety
    /// As for `steps`.
    #[inline(always)]
    unsafe fn all<V: Vectors>(&mut self, registers: usize) -> u64 {
        let (mut t, mut n, steps) = (0, 0, self.row.events.steps());
        while t < steps {
            // SAFETY: the caller's promise.
            let (done, events) = unsafe {
                match (registers, steps - t) {
                    (0, 4..) => self.steps::<E::Narrow<V>, 4, 1>(t),
                    (0, 2..) => self.steps::<E::Narrow<V>, 2, 1>(t),
                    (0, _) => self.steps::<E::Narrow<V>, 1, 1>(t),
                    (1, 4..) => self.steps::<E::Wide<V>, 4, 1>(t),
                    (1, 2..) => self.steps::<E::Wide<V>, 2, 1>(t),
                    (1, _) => self.steps::<E::Wide<V>, 1, 1>(t),
                    (2, 4..) => self.steps::<E::Wide<V>, 4, 2>(t),
                    (2, 2..) => self.steps::<E::Wide<V>, 2, 2>(t),
                    (2, _) => self.steps::<E::Wide<V>, 1, 2>(t),
                    (4, 2..) => self.steps::<E::Wide<V>, 2, 4>(t),
                    (4, _) => self.steps::<E::Wide<V>, 1, 4>(t),
                    _ => unreachable!("blocks are of 1, 2 or 4 registers"),
                }
            };
            t += done;
            n += events;
        }
        n
    }

    /// Steps `t .. t + S` of all positions; returns S and the events added.
    ///
    /// # Safety
    /// `weights` are all rows and one of zeros of `R · LANES` columns, the taps and columns lie inside, and `lists` has
    /// room for S lists of as many events as a position can have, and two times the slack.
    #[inline(always)]
    unsafe fn steps<L: SumLane<Element = E>, const S: usize, const R: usize>(
        &mut self,
        t: usize,
    ) -> (usize, u64) {
        let row = self.row;
        let [kw, stride, dilation, pad] = row.kernel;
        let ([_, columns], ins) = (row.events.size(), row.events.ins());
        let lists = self.lists.as_mut_ptr();
        // Lists hold where weight rows begin.
        let times = (R * L::LANES * size_of::<E>() / UNIT) as u32;
        let zero = T::cut(row.weights.slots() as u32).place(0, times);
        let usual = dilation == 1 && row.taps.len() <= TAPS;
        let mut bounds = [[row.events.bounds(0, 0).as_ptr(); S]; TAPS];
        if usual {
            for (bounds, &(y, _)) in bounds.iter_mut().zip(row.taps) {
                for (s, bounds) in bounds.iter_mut().enumerate() {
                    *bounds = row.events.bounds(y, t + s).as_ptr();
                }
            }
        }
        let mut begin = [[L::splat(E::default()); R]; S];
        if let Some(numbers) = self.begin {
            for begin in &mut begin {
                for (r, lane) in begin.iter_mut().enumerate() {
                    *lane = L::load(&numbers[r * L::LANES..]);
                }
            }
        }
        let mut added = 0;
        for x in 0..row.positions {
            let left = (x * stride) as isize - pad as isize;
            // neighbouring taps read neighbouring positions: one run of events
            let from = left.clamp(0, columns as isize) as usize;
            let end = (left + kw as isize).clamp(from as isize, columns as isize) as usize;
            // SAFETY: the caller's promises; they are positions of the row.
            let n = unsafe {
                if !usual {
                    self.taps::<S>(t, left, times)
                } else if ins <= 40 {
                    self.runs::<S, 1>(&bounds, from, end, left, times)
                } else {
                    self.runs::<S, 2>(&bounds, from, end, left, times)
                }
            };
            let mut most = 0;
            for n in n {
                most = most.max(n);
                added += n as u64;
            }
            if most == 0 && self.begin.is_none() {
                continue;
            }
            for (s, n) in n.into_iter().enumerate() {
                let mut at = n;
                loop {
                    // SAFETY: at <= most, and the slack lies behind the longest list.
                    unsafe { fill(lists.add(s * self.room + at), zero) };
                    at += BLOCK;
                    if at > most {
                        break;
                    }
                }
            }
            let mut sums = begin;
            for (s, sums) in sums.iter_mut().enumerate().take(if self.begin.is_none() { S } else { 0 }) {
                let out =
                    &self.out[((t + s) * row.positions + x) * row.stride + self.first..][..R * L::LANES];
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(&out[r * L::LANES..]);
                }
            }
            let weights = self.weights.as_ptr();
            // Two rounds at a time: where the number is odd, the second reads zeros.
            for i in (0..most).step_by(2) {
                for i in [i, i + 1] {
                    for (s, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: entries of the lists are rows of the taps, or that of zeros.
                        unsafe {
                            let from = weights.byte_add((*lists.add(s * self.room + i)).number() * UNIT);
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.plus(L::read(from.add(r * L::LANES)));
                            }
                        }
                    }
                }
            }
            for (s, sums) in sums.iter().enumerate() {
                let out =
                    &mut self.out[((t + s) * row.positions + x) * row.stride + self.first..][..R * L::LANES];
                for (r, sum) in sums.iter().enumerate() {
                    sum.store(&mut out[r * L::LANES..]);
                }
            }
        }
        (S, added)
    }

    /// Lists the events of positions `begin..end` under every kernel row, B blocks at a time; returns how many each step has.
    ///
    /// # Safety
    /// As for `steps`; `bounds` are those of the taps' rows.
    #[inline(always)]
    unsafe fn runs<const S: usize, const B: usize>(
        &mut self,
        bounds: &[[*const u32; S]; TAPS],
        begin: usize,
        end: usize,
        left: isize,
        times: u32,
    ) -> [usize; S] {
        let (events, lists, room) =
            (self.row.events.list::<T>().as_ptr(), self.lists.as_mut_ptr(), self.room);
        let ins = self.row.events.ins();
        let mut n = [0; S];
        for (bounds, &(_, ky)) in bounds.iter().zip(self.row.taps) {
            let offset = ((ky * self.row.kernel[0]) as isize - left).wrapping_mul(ins as isize) as u32;
            for (s, n) in n.iter_mut().enumerate() {
                // SAFETY: runs of a row's positions, no longer than the list has room for.
                unsafe {
                    let (from, to) = (*bounds[s].add(begin) as usize, *bounds[s].add(end) as usize);
                    copy::<T, B>(events.add(from), to - from, offset, times, lists.add(s * room + *n));
                    *n += to - from;
                }
            }
        }
        n
    }

    /// The same for taps that lie apart, or many kernel rows.
    ///
    /// # Safety
    /// As for `steps`.
    #[inline(never)]
    unsafe fn taps<const S: usize>(&mut self, t: usize, left: isize, times: u32) -> [usize; S] {
        let [kw, _, dilation, _] = self.row.kernel;
        let (events, lists, room) =
            (self.row.events.list::<T>().as_ptr(), self.lists.as_mut_ptr(), self.room);
        let ([_, columns], ins) = (self.row.events.size(), self.row.events.ins());
        let mut n = [0; S];
        for &(y, ky) in self.row.taps {
            for kx in 0..kw {
                let at = left + (kx * dilation) as isize;
                if !(0..columns as isize).contains(&at) {
                    continue;
                }
                let offset = ((ky * kw + kx) as isize - at).wrapping_mul(ins as isize) as u32;
                for (s, n) in n.iter_mut().enumerate() {
                    let bounds = &self.row.events.bounds(y, t + s)[at as usize..at as usize + 2];
                    let (from, to) = (bounds[0] as usize, bounds[1] as usize);
                    // SAFETY: one position's events.
                    unsafe {
                        copy::<T, 1>(events.add(from), to - from, offset, times, lists.add(s * room + *n))
                    };
                    *n += to - from;
                }
            }
        }
        n
    }
}

/// Copies a run of events as places of weight rows, B whole blocks at a time.
///
/// # Safety
/// So many entries and [`SLACK`] more can be read and written.
#[inline(always)]
unsafe fn copy<T: Entry, const B: usize>(from: *const T, many: usize, offset: u32, times: u32, to: *mut T) {
    let mut at = 0;
    loop {
        for _ in 0..B {
            // SAFETY: the caller's promise: at < many, or the blocks of the first round.
            unsafe {
                // read whole, so that nothing can lie over what is written
                let mut block = from.add(at).cast::<[T; BLOCK]>().read_unaligned();
                for row in &mut block {
                    *row = row.place(offset, times);
                }
                to.add(at).cast::<[T; BLOCK]>().write_unaligned(block);
            }
            at += BLOCK;
        }
        if at >= many {
            return;
        }
    }
}

/// Writes a block of the same place.
///
/// # Safety
/// A block can be written.
#[inline(always)]
unsafe fn fill<T: Entry>(to: *mut T, place: T) {
    // SAFETY: the caller's promise.
    unsafe { to.cast::<[T; BLOCK]>().write_unaligned([place; BLOCK]) };
}

/// Entries that are copied at once.
const BLOCK: usize = 16;
const _: () = assert!(SLACK == 2 * BLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Listing, Spikes};
    use crate::packed::Rows;
    use crate::sweep;

    const STEPS: usize = 7;
    const INS: usize = 40;

    /// Spikes of two rows of so many positions, some of them silent, and many in some places.
    fn bits(columns: usize) -> Vec<u64> {
        let mut state = 1u64;
        (0..2 * STEPS * columns)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let some = if i % 11 == 5 { !0 } else { state & state >> 13 };
                some & ((1 << INS) - 1) & if i % 7 == 3 { 0 } else { !0 }
            })
            .collect()
    }

    /// Kernels of three and of two columns, with every padding, stride and dilation, short rows and long ones, in both widths of
    /// events, against the sum written out.
    #[test]
    fn every_version_adds_the_rows_of_the_spikes() {
        // columns of the source, kernel columns, stride, dilation, padding
        let maps = [
            (5, [3, 1, 1, 1]),
            (5, [3, 1, 2, 1]),
            (33, [3, 1, 1, 0]),
            (6, [3, 1, 1, 2]),
            (9, [3, 2, 1, 1]),
            (1, [3, 1, 1, 1]),
            (7, [2, 1, 1, 0]),
        ];
        for isa in Isa::available() {
            for (m, (columns, kernel)) in maps.into_iter().enumerate() {
                let bits = bits(columns);
                let spikes = Spikes { bits: &bits, steps: STEPS, size: [2, columns], words: 1 };
                let mut events = Events::default();
                let few: &[usize] = if m == 0 { &[5, 16, 20, 48, 64, 100, 272] } else { &[16, 48, 100] };
                let swept = [kernel[1], kernel[2]] == [1, 1] && sweep::takes(kernel[0], kernel[3]);
                let orders: &[Order] = if swept { &[Order::Columns, Order::Trains] } else { &[Order::Rows] };
                for (&order, short) in orders.iter().flat_map(|order| [(order, true), (order, false)]) {
                    let size = [2, columns];
                    events.fill(isa, &spikes, &Listing { channels: 0..INS, pool: None, size, short, order });
                    for &outs in few {
                        check::<i32>(isa, &bits, &events, outs, kernel);
                        check::<i16>(isa, &bits, &events, outs, kernel);
                    }
                }
            }
        }
    }

    fn check<E: Element>(isa: Isa, bits: &[u64], events: &Events, outs: usize, kernel: [usize; 4]) {
        let [kw, pace, dilation, pad] = kernel;
        let columns = events.size()[1];
        let weight = |row: usize, c: usize| ((row * 7919 + c * 31) % 1001) as i32 - 500;
        let rows = Rows { kernel: [2, kw], ins: INS, order: events.order().expect("listed") };
        let weights = Packed::new(isa, rows, outs, |row, c| E::cut(weight(row, c)));
        let positions = (columns + 2 * pad - dilation * (kw - 1) - 1) / pace + 1;
        let stride = weights.cols() + 16;
        // the first kernel row alone, as at the lower edge, the second alone, and both
        for taps in [&[(1, 0)][..], &[(0, 1)], &[(0, 0), (1, 1)]] {
            let row = Row {
                taps,
                events,
                kernel,
                weights: &weights,
                positions,
                stride,
                to: 16,
                begin: None,
                block: None,
            };
            let mut out = vec![E::cut(3); STEPS * positions * stride];
            let added = gather_row(isa, &row, &mut Lists::default(), &mut out);
            let mut count = 0;
            for (t, x) in (0..STEPS).flat_map(|t| (0..positions).map(move |x| (t, x))) {
                let mut sums = vec![3i32; stride];
                for (&(y, ky), kx) in taps.iter().flat_map(|tap| (0..kw).map(move |k| (tap, k))) {
                    let at = (x * pace + kx * dilation).wrapping_sub(pad);
                    if at >= columns {
                        continue;
                    }
                    for c in (0..INS).filter(|c| bits[(y * STEPS + t) * columns + at] >> c & 1 == 1) {
                        count += 1;
                        for o in 0..outs {
                            sums[16 + o] += weight((ky * kw + kx) * INS + c, o);
                        }
                    }
                }
                let got = &out[(t * positions + x) * stride..][..stride];
                let same = got.iter().zip(&sums).all(|(g, s)| *g == E::cut(*s));
                assert!(same, "{} {outs} {kernel:?} {taps:?} {t} {x}", isa.name());
            }
            assert_eq!(added, count, "{kernel:?} {taps:?}");
            let mut by_block = vec![E::cut(3); out.len()];
            for block in 0..weights.many() {
                let row = Row { block: Some(block), ..row };
                assert_eq!(gather_row(isa, &row, &mut Lists::default(), &mut by_block), count);
            }
            assert!(by_block == out, "block by block");
            let begin: Vec<E> = (0..weights.cols() as i32).map(E::cut).collect();
            let mut begun = vec![E::cut(99); out.len()];
            gather_row(isa, &Row { begin: Some(&begin), ..row }, &mut Lists::default(), &mut begun);
            for (begun, out) in begun.chunks_exact(stride).zip(out.chunks_exact(stride)) {
                assert!(begun[..16].iter().all(|&x| x == E::cut(99)));
                for c in 16..stride {
                    let (begun, out) = (begun[c].wide() - (c as i32 - 16), out[c].wide() - 3);
                    assert_eq!(E::cut(begun), E::cut(out));
                }
            }
        }
    }

    /// An image of nothing, and nine kernel rows, which are too many for the usual walks.
    #[test]
    fn no_taps_and_many() {
        let bits: Vec<u64> =
            (0..9 * 2 * 4).map(|i| 0x9_1234_5678u64.rotate_left(i) & ((1 << INS) - 1)).collect();
        let spikes = Spikes { bits: &bits, steps: 2, size: [9, 4], words: 1 };
        let mut events = Events::default();
        for isa in Isa::available() {
            let orders = [Order::Rows, Order::Columns, Order::Trains];
            for (kernel, order) in orders.into_iter().flat_map(|order| [([9, 3], order), ([3, 3], order)]) {
                let channels = 0..INS;
                events.fill(
                    isa,
                    &spikes,
                    &Listing { channels, pool: None, size: [9, 4], short: true, order },
                );
                let rows = Rows { kernel, ins: INS, order };
                let weights = Packed::new(isa, rows, 16, |row, c| (row % 13 + c) as i32);
                let taps: Vec<_> = (0..kernel[0]).filter(|_| kernel[0] == 9).map(|ky| (ky, ky)).collect();
                let (positions, stride) = (4, 16);
                let kernel = [3, 1, 1, 1];
                let (weights, begin) = (&weights, Some(&[1; 16][..]));
                let (taps, events) = (&taps[..], &events);
                let row = Row { taps, events, kernel, weights, positions, stride, to: 0, begin, block: None };
                let mut out = vec![9; 2 * 4 * 16];
                gather_row(isa, &row, &mut Lists::default(), &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let (t, x, o) = (i / 64, i / 16 % 4, i % 16);
                    let mut want = 1;
                    for (&(y, ky), kx) in taps.iter().flat_map(|tap| (0..3).map(move |k| (tap, k))) {
                        let at = (x + kx).wrapping_sub(1);
                        let fired = |c: &usize| at < 4 && bits[(y * 2 + t) * 4 + at] >> c & 1 == 1;
                        want +=
                            (0..INS).filter(fired).map(|c| ((ky * 3 + kx) * INS + c) % 13 + o).sum::<usize>();
                    }
                    assert_eq!(got, want as i32, "{} {t} {x} {o}", isa.name());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "taps lie on the source")]
    fn a_tap_beyond_the_weights_is_caught() {
        let mut events = Events::default();
        let spikes = Spikes { bits: &[1; 2], steps: 1, size: [1, 2], words: 1 };
        let channels = 0..64;
        let listing = Listing { channels, pool: None, size: [1, 2], short: true, order: Order::Rows };
        events.fill(Isa::best(), &spikes, &listing);
        let rows = Rows { kernel: [1, 1], ins: 64, order: Order::Rows };
        let weights = Packed::<i32>::new(Isa::best(), rows, 16, |_, _| 1);
        let (taps, kernel) = ([(0, 0)], [2, 1, 1, 0]);
        let row = Row {
            taps: &taps,
            events: &events,
            kernel,
            weights: &weights,
            positions: 1,
            stride: 16,
            to: 0,
            begin: None,
            block: None,
        };
        gather_row(Isa::best(), &row, &mut Lists::default(), &mut [0; 16]);
    }
}
