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

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::events::{Entry, Events, SLACK};
use crate::lanes::{Element, SumLane};

/// Columns of weight matrices and lengths of rows are multiples of this.
pub const COLS: usize = 16;

/// Weights of a dense map, cut into blocks of columns, each with a row of zeros behind its rows.
#[derive(Debug)]
pub struct Packed<E> {
    isa: Isa,
    data: Aligned<E>,
    blocks: Vec<Block>,
    rows: usize,
    cols: usize,
}

/// Some columns.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// First column.
    first: usize,
    /// Registers; 0 for 16 columns in narrow lanes.
    registers: usize,
    /// Where its weights begin.
    at: usize,
}

impl<E: Element> Packed<E> {
    /// Packs `[rows, outs]`; columns are filled up to a multiple of [`COLS`].
    pub fn new(isa: Isa, rows: usize, outs: usize, weight: impl Fn(usize, usize) -> E) -> Self {
        let cols = outs.next_multiple_of(COLS);
        let (lanes, narrow) = isa.run(Widths::<E>(std::marker::PhantomData));
        let mut data = Aligned::zeros((rows + 1) * cols);
        let (mut blocks, mut first, mut at) = (vec![], 0, 0);
        while first < cols {
            // rows of a block are counted in 16 bits of 8 bytes, if they can be
            let fits = |n: usize| {
                let bytes = n * lanes * size_of::<E>();
                let least = bytes <= UNIT.max(lanes * size_of::<E>());
                n * lanes <= cols - first && (least || reach(rows, bytes) <= SHORT)
            };
            let registers = [4, 2, 1].into_iter().find(|&n| fits(n)).unwrap_or(0);
            let width = if registers > 0 { registers * lanes } else { narrow.max(1) };
            blocks.push(Block { first, registers, at });
            for row in 0..rows {
                for c in (first..first + width).take_while(|&c| c < outs) {
                    data[at + row * width + c - first] = weight(row, c);
                }
            }
            at += (rows + 1) * width;
            first += width;
        }
        Packed { isa, data, blocks, rows, cols }
    }

    /// Columns, a multiple of [`COLS`].
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether events in 16 bits are enough for all rows.
    pub fn is_short(&self) -> bool {
        (0..self.blocks.len()).all(|b| reach(self.rows, self.width(b) * size_of::<E>()) <= SHORT)
    }

    /// Columns of a block.
    fn width(&self, block: usize) -> usize {
        self.blocks.get(block + 1).map_or(self.cols, |b| b.first) - self.blocks[block].first
    }
}

/// Places of rows are counted in so many bytes, which an address can multiply with.
const UNIT: usize = 8;
/// Places that 16 bits tell apart.
const SHORT: usize = 1 << 16;

/// How many places a block of rows of so many bytes has, that of the zeros included.
fn reach(rows: usize, bytes: usize) -> usize {
    (rows + 1).saturating_mul(bytes) / UNIT
}

/// Lanes and narrow lanes.
struct Widths<E>(std::marker::PhantomData<E>);

impl<E: Element> Job for Widths<E> {
    type Out = (usize, usize);
    #[inline(always)]
    fn run<V: Vectors>(self) -> Self::Out {
        (E::Wide::<V>::LANES, E::Narrow::<V>::LANES)
    }
}

/// One row of output positions of a convolution over event lists, at every step.
pub struct Row<'a, E> {
    /// Kernel rows that lie on the source: the source's row and the first weight row.
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
}

/// Adds the sums to `out`, `[steps, positions, stride]`, or writes them there where a row has its own beginning; returns how many
/// events were added. `lists` is room to work in.
///
/// # Panics
/// If weights or `out` are too small for what the row describes, or the weights were packed for another instruction set.
pub fn gather_row<E: Element>(isa: Isa, row: &Row<'_, E>, lists: &mut Lists, out: &mut [E]) -> u64 {
    assert!(isa == row.weights.isa, "weights are packed for the instruction set");
    if row.events.is_short() {
        assert!(row.weights.is_short(), "events in 16 bits are enough");
        isa.run(GatherRow { row, lists: &mut lists.short, out })
    } else {
        isa.run(GatherRow { row, lists: &mut lists.long, out })
    }
}

/// Room to work in.
#[derive(Debug, Default)]
pub struct Lists {
    short: Vec<u16>,
    long: Vec<u32>,
}

struct GatherRow<'a, 'b, E, T> {
    row: &'a Row<'b, E>,
    lists: &'a mut Vec<T>,
    out: &'a mut [E],
}

impl<E: Element, T: Entry> Job for GatherRow<'_, '_, E, T> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let GatherRow { row, lists, out } = self;
        let [kw, ..] = row.kernel;
        let (steps, [height, _], weights) = (row.events.steps(), row.events.size(), row.weights);
        let under = kw.checked_mul(row.events.ins());
        for &(y, first) in row.taps {
            let end = under.and_then(|n| n.checked_add(first));
            assert!(y < height && end.is_some_and(|n| n <= weights.rows), "taps lie on the source");
        }
        let step = row.positions.checked_mul(row.stride);
        let whole = step.and_then(|n| n.checked_mul(steps));
        let fits = row.stride.checked_sub(row.to).is_some_and(|n| weights.cols <= n);
        assert!(fits && whole.is_some_and(|n| n <= out.len()), "room for every sum");
        assert!(row.begin.is_none_or(|b| b.len() >= weights.cols), "a number for every column");
        assert!(u32::try_from(reach(weights.rows, 4 * 64)).is_ok(), "places are counted in 32 bits at most");
        // A position's events, and blocks that are copied or filled beyond.
        let events = row.taps.len().checked_mul(kw).and_then(|n| n.checked_mul(row.events.most()));
        let room = events.and_then(|n| n.checked_add(2 * SLACK));
        let room = room.filter(|n| n.checked_mul(4).is_some()).expect("events of a position fit the memory");
        if lists.len() < 4 * room {
            lists.resize(4 * room, T::default());
        }
        let mut added = 0;
        for (i, block) in weights.blocks.iter().enumerate() {
            let weights = &weights.data[block.at..][..(weights.rows + 1) * weights.width(i)];
            let begin = row.begin.map(|b| &b[block.first..]);
            let mut walk = Walk { row, weights, first: row.to + block.first, begin, room, lists, out };
            let mut t = 0;
            let mut n = 0;
            while t < steps {
                let left = steps - t;
                // SAFETY: taps, room and `out` are checked above, the weights are those of the block.
                unsafe {
                    let (done, events) = match (block.registers, left) {
                        (0, 4..) => walk.steps::<E::Narrow<V>, 4, 1>(t),
                        (0, 2..) => walk.steps::<E::Narrow<V>, 2, 1>(t),
                        (0, _) => walk.steps::<E::Narrow<V>, 1, 1>(t),
                        (1, 4..) => walk.steps::<E::Wide<V>, 4, 1>(t),
                        (1, 2..) => walk.steps::<E::Wide<V>, 2, 1>(t),
                        (1, _) => walk.steps::<E::Wide<V>, 1, 1>(t),
                        (2, 4..) => walk.steps::<E::Wide<V>, 4, 2>(t),
                        (2, 2..) => walk.steps::<E::Wide<V>, 2, 2>(t),
                        (2, _) => walk.steps::<E::Wide<V>, 1, 2>(t),
                        (4, 2..) => walk.steps::<E::Wide<V>, 2, 4>(t),
                        (4, _) => walk.steps::<E::Wide<V>, 1, 4>(t),
                        _ => unreachable!("blocks are of 1, 2 or 4 registers"),
                    };
                    t += done;
                    n += events;
                }
            }
            added = n;
        }
        added
    }
}

/// One block of columns.
struct Walk<'a, 'b, E, T> {
    row: &'a Row<'b, E>,
    weights: &'a [E],
    /// First column in `out`.
    first: usize,
    /// What the columns begin with.
    begin: Option<&'a [E]>,
    /// Entries of one step's list.
    room: usize,
    lists: &'a mut Vec<T>,
    out: &'a mut [E],
}

/// Kernel rows that the usual walk takes.
const TAPS: usize = 8;

impl<E: Element, T: Entry> Walk<'_, '_, E, T> {
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
        let shift = (R * L::LANES * size_of::<E>() / UNIT).trailing_zeros();
        let zero = T::cut(row.weights.rows as u32).shifted(0, shift);
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
                    self.taps::<S>(t, left, shift)
                } else if ins <= 40 {
                    self.runs::<S, 1>(&bounds, from, end, left, shift)
                } else {
                    self.runs::<S, 2>(&bounds, from, end, left, shift)
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
        shift: u32,
    ) -> [usize; S] {
        let (events, lists, room) =
            (self.row.events.list::<T>().as_ptr(), self.lists.as_mut_ptr(), self.room);
        let ins = self.row.events.ins();
        let mut n = [0; S];
        for (bounds, &(_, first)) in bounds.iter().zip(self.row.taps) {
            let offset = (first as isize - left * ins as isize) as u32;
            for (s, n) in n.iter_mut().enumerate() {
                // SAFETY: runs of a row's positions, no longer than the list has room for.
                unsafe {
                    let (from, to) = (*bounds[s].add(begin) as usize, *bounds[s].add(end) as usize);
                    copy::<T, B>(events.add(from), to - from, offset, shift, lists.add(s * room + *n));
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
    unsafe fn taps<const S: usize>(&mut self, t: usize, left: isize, shift: u32) -> [usize; S] {
        let [kw, _, dilation, _] = self.row.kernel;
        let (events, lists, room) =
            (self.row.events.list::<T>().as_ptr(), self.lists.as_mut_ptr(), self.room);
        let ([_, columns], ins) = (self.row.events.size(), self.row.events.ins());
        let mut n = [0; S];
        for &(y, first) in self.row.taps {
            for kx in 0..kw {
                let at = left + (kx * dilation) as isize;
                if !(0..columns as isize).contains(&at) {
                    continue;
                }
                let offset = (first as isize + (kx as isize - at) * ins as isize) as u32;
                for (s, n) in n.iter_mut().enumerate() {
                    let bounds = &self.row.events.bounds(y, t + s)[at as usize..at as usize + 2];
                    let (from, to) = (bounds[0] as usize, bounds[1] as usize);
                    // SAFETY: one position's events.
                    unsafe {
                        copy::<T, 1>(events.add(from), to - from, offset, shift, lists.add(s * room + *n))
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
unsafe fn copy<T: Entry, const B: usize>(from: *const T, many: usize, offset: u32, shift: u32, to: *mut T) {
    let mut at = 0;
    loop {
        for _ in 0..B {
            // SAFETY: the caller's promise: at < many, or the blocks of the first round.
            unsafe {
                // read whole, so that nothing can lie over what is written
                let mut block = from.add(at).cast::<[T; BLOCK]>().read_unaligned();
                for row in &mut block {
                    *row = row.shifted(offset, shift);
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
    use crate::events::Spikes;

    /// Two rows of 5 positions of 40 channels, 7 steps, against the sum written out.
    #[test]
    fn every_version_adds_the_rows_of_the_spikes() {
        let mut state = 1u64;
        let bits: Vec<u64> = (0..2 * 7 * 5)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state & state >> 13) & ((1 << 40) - 1) & if i % 7 == 3 { 0 } else { !0 }
            })
            .collect();
        let spikes = Spikes { bits: &bits, steps: 7, size: [2, 5], words: 1 };
        let mut events = Events::default();
        for isa in Isa::available() {
            for (i, outs) in [5, 16, 20, 48, 64, 100, 272, 5, 48, 64].into_iter().enumerate() {
                events.fill(isa, &spikes, 0..40, None, [2, 5], i < 7);
                check::<i32>(isa, &bits, &events, outs, 1);
                check::<i16>(isa, &bits, &events, outs, 1);
                check::<i16>(isa, &bits, &events, outs, 2);
            }
        }
    }

    fn check<E: Element>(isa: Isa, bits: &[u64], events: &Events, outs: usize, dilation: usize) {
        let weight = |row: usize, c: usize| ((row * 7919 + c * 31) % 1001) as i32 - 500;
        let weights = Packed::new(isa, 6 * 40, outs, |row, c| E::cut(weight(row, c)));
        let (positions, stride) = (5, weights.cols() + 16);
        let (taps, kernel) = ([(0, 0), (1, 120)], [3, 1, dilation, 1]);
        let row =
            Row { taps: &taps, events, kernel, weights: &weights, positions, stride, to: 16, begin: None };
        let mut out = vec![E::cut(3); 7 * positions * stride];
        let added = gather_row(isa, &row, &mut Lists::default(), &mut out);
        let mut count = 0;
        for (t, x) in (0..7).flat_map(|t| (0..positions).map(move |x| (t, x))) {
            let mut sums = vec![3i32; stride];
            for (y, kx, c) in (0..2).flat_map(|y| (0..3).flat_map(move |k| (0..40).map(move |c| (y, k, c)))) {
                let at = (x + kx * dilation).wrapping_sub(1);
                if at < 5 && bits[(y * 7 + t) * 5 + at] >> c & 1 == 1 {
                    count += 1;
                    for o in 0..outs {
                        sums[16 + o] += weight(y * 120 + kx * 40 + c, o);
                    }
                }
            }
            let got = &out[(t * positions + x) * stride..][..stride];
            assert!(got.iter().zip(&sums).all(|(g, s)| *g == E::cut(*s)), "{} {outs} {dilation}", isa.name());
        }
        assert_eq!(added, count);
        let begin: Vec<E> = (0..weights.cols() as i32).map(E::cut).collect();
        let mut begun = vec![E::cut(99); out.len()];
        gather_row(isa, &Row { begin: Some(&begin), ..row }, &mut Lists::default(), &mut begun);
        for (begun, out) in begun.chunks_exact(stride).zip(out.chunks_exact(stride)) {
            for c in 16..stride {
                assert_eq!(begun[c].wide() - (c as i32 - 16), out[c].wide() - 3);
            }
        }
    }

    #[test]
    #[should_panic(expected = "taps lie on the source")]
    fn a_tap_beyond_the_weights_is_caught() {
        let mut events = Events::default();
        let spikes = Spikes { bits: &[1; 2], steps: 1, size: [1, 2], words: 1 };
        events.fill(Isa::best(), &spikes, 0..64, None, [1, 2], true);
        let weights = Packed::<i32>::new(Isa::best(), 64, 16, |_, _| 1);
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
        };
        gather_row(Isa::best(), &row, &mut Lists::default(), &mut [0; 16]);
    }
}
