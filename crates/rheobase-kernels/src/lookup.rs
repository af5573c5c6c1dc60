//! Sums looked up across positions: every lane is an output position, a few bits of spikes say which of the partial sums that two
//! registers hold it adds.
//! In: [`Flat`] spikes, the weights of a map as tables. Out: currents of some positions, `[channels, vectors, steps, lanes]`: no lists and no
//! branches, whatever the spikes are.
//!
//! 1. For every tap, piece of channels, step and vector of positions the bits become an index, once for all outputs.
//! 2. Two outputs go over eight indices at a time, their sums in registers; tables and indices are read in order, so that they
//!    are fetched before they are needed.
//! 3. Many look-ups are cut into batches whose indices stay in the nearest cache while all outputs go over them.
//!
//! 16 bits make 64 sums in two registers of 32 lanes (six channels a look-up), 32 bits 32 sums of 16 lanes (five).
//! What sixes leave of a group of 16 channels goes together for three taps: 16 channels of 3x3 taps are 24 look-ups, 14 are 21.

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::flat::{Flat, GROUP, Raster, Taps, kept};
use crate::lanes::{Element, SumLane};
use std::ops::Range;

/// Outputs that go together.
const OUTS: usize = 2;
/// Indices that go together.
const COLUMNS: usize = 8;
/// The most look-ups of an output whose indices stay in the nearest cache.
const BATCH: usize = 32;

/// Batches of so many look-ups, of nearly the same size.
fn batches(each: usize) -> impl Iterator<Item = Range<usize>> {
    let many = each.div_ceil(BATCH).max(1);
    (0..many).map(move |i| i * each / many..(i + 1) * each / many)
}

/// Positions of a layer at every step, and where they lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The first position.
    pub first: usize,
    /// Vectors of positions.
    pub vectors: usize,
    /// Steps.
    pub steps: usize,
}

impl Block {
    /// Positions of a vector on an instruction set.
    pub fn lanes<E: Element>(isa: Isa) -> usize {
        isa.run(Lanes::<E>(std::marker::PhantomData)).0
    }

    /// Vectors that are worth taking together.
    pub fn vectors(steps: usize) -> usize {
        (COLUMNS / steps.max(1)).max(1)
    }

    /// Numbers of a channel.
    pub fn numbers(&self, lanes: usize) -> usize {
        self.vectors * self.steps * lanes
    }
}

/// Whether looking up is an instruction of few cycles, and takes in enough at once to be faster than adding weights.
pub fn is_fast<E: Element>(isa: Isa) -> bool {
    isa.run(Lanes::<E>(std::marker::PhantomData)).1 >= 6
}

/// Lanes, and channels of a look-up.
struct Lanes<E>(std::marker::PhantomData<E>);

impl<E: Element> Job for Lanes<E> {
    type Out = (usize, usize);
    #[inline(always)]
    fn run<V: Vectors>(self) -> Self::Out {
        (E::Wide::<V>::LANES, E::Wide::<V>::INPUTS)
    }
}

/// Look-ups that are made from the same numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unit {
    /// Of one tap: a few channels each, from these on.
    One { tap: usize, group: usize, shifts: Vec<u32> },
    /// Of three taps in order: sixes of each, and what is left of all three together.
    Three { tap: usize, group: usize, sixes: Sixes },
}

/// How the channels of a group are cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sixes {
    /// One six and one or two left, of three taps four look-ups.
    OneAndTwo,
    /// One six and three or four left: five.
    OneAndFour,
    /// Two sixes and one or two left: seven.
    TwoAndTwo,
    /// Two sixes and three or four left: eight.
    TwoAndFour,
}

impl Sixes {
    /// If what is left of three taps takes fewer look-ups together than apart.
    fn of(channels: u32) -> Option<Self> {
        match channels {
            7 | 8 => Some(Sixes::OneAndTwo),
            9 | 10 => Some(Sixes::OneAndFour),
            13 | 14 => Some(Sixes::TwoAndTwo),
            15 | 16 => Some(Sixes::TwoAndFour),
            _ => None,
        }
    }

    /// Sixes, and how many at most are left.
    fn parts(self) -> (u32, u32) {
        match self {
            Sixes::OneAndTwo => (1, 2),
            Sixes::OneAndFour => (1, 4),
            Sixes::TwoAndTwo => (2, 2),
            Sixes::TwoAndFour => (2, 4),
        }
    }
}

/// The tables of a dense map.
#[derive(Debug)]
pub struct Tables<E> {
    isa: Isa,
    /// For every batch of look-ups `[outs / 2, look-ups, 2, sums]`.
    data: Aligned<E>,
    units: Vec<Unit>,
    /// Look-ups of an output.
    each: usize,
    taps: usize,
    outs: usize,
}

/// The tap and channel of every input of a look-up, lowest bit first; nothing where the bit counts for nothing.
type Inputs = Vec<Option<(usize, usize)>>;

/// How look-ups of so many inputs make up a map, and what each takes in.
fn units(taps: usize, channels: &Range<usize>, inputs: usize) -> (Vec<Unit>, Vec<Inputs>) {
    let (mut all, mut of) = (vec![], vec![]);
    for group in channels.start / GROUP..channels.end.div_ceil(GROUP) {
        let kept = kept(channels, group);
        let input =
            |tap: usize, bit: u32| (kept >> bit & 1 == 1).then_some((tap, group * GROUP + bit as usize));
        // a gap below or between them is left to the usual way
        let sixes = if kept & kept.wrapping_add(1) == 0 { Sixes::of(kept.count_ones()) } else { None };
        let mut tap = 0;
        while tap < taps {
            if inputs == 6
                && let Some(sixes) = sixes
                && tap + 3 <= taps
            {
                let (whole, rest) = sixes.parts();
                let left = 6 * whole;
                for tap in tap..tap + 3 {
                    of.extend((0..whole).map(|i| (6 * i..6 * i + 6).map(|bit| input(tap, bit)).collect()));
                }
                let of_tap = |i: usize, bits: Range<u32>| bits.map(move |bit| input(tap + i, left + bit));
                if rest == 2 {
                    of.push(of_tap(0, 0..2).chain(of_tap(1, 0..2)).chain(of_tap(2, 0..2)).collect());
                } else {
                    of.push(of_tap(0, 0..4).chain(of_tap(1, 0..2)).collect());
                    of.push(of_tap(1, 2..4).chain(of_tap(2, 0..4)).collect());
                }
                all.push(Unit::Three { tap, group, sixes });
                tap += 3;
                continue;
            }
            let (mut left, mut shifts) = (kept, vec![]);
            while left != 0 {
                let shift = left.trailing_zeros().min((GROUP - inputs.min(GROUP)) as u32);
                // what an earlier one has counts for nothing
                let bits = (shift..shift + inputs as u32).take_while(|&bit| bit < GROUP as u32);
                of.push(bits.map(|bit| input(tap, bit).filter(|_| left >> bit & 1 == 1)).collect());
                left &= !((((1u32 << inputs) - 1) << shift) as u16);
                shifts.push(shift);
            }
            all.push(Unit::One { tap, group, shifts });
            tap += 1;
        }
    }
    (all, of)
}

impl<E: Element> Tables<E> {
    /// Tables over some channels of the source; `weight(tap, channel of these, output)`.
    pub fn new(
        isa: Isa,
        taps: usize,
        channels: &Range<usize>,
        outs: usize,
        weight: impl Fn(usize, usize, usize) -> E,
    ) -> Self {
        let (lanes, inputs) = isa.run(Lanes::<E>(std::marker::PhantomData));
        let (units, of) = units(taps, channels, inputs);
        let each = of.len();
        let mut data = Aligned::<E>::zeros(outs.next_multiple_of(OUTS) * each * 2 * lanes);
        let pairs = outs.div_ceil(OUTS);
        let places = batches(each).flat_map(|batch| {
            (0..pairs)
                .flat_map(move |pair| batch.clone().flat_map(move |at| [0, 1].map(|o| (at, pair * OUTS + o))))
        });
        for (sums, (at, o)) in data.chunks_exact_mut(2 * lanes).zip(places) {
            if o >= outs {
                continue;
            }
            for (bit, input) in of[at].iter().enumerate() {
                let Some((tap, channel)) = *input else { continue };
                let weight = weight(tap, channel - channels.start, o).wide();
                for (index, sum) in sums.iter_mut().enumerate() {
                    if index >> bit & 1 == 1 {
                        *sum = E::cut(sum.wide().wrapping_add(weight));
                    }
                }
            }
        }
        Tables { isa, data, units, each, taps, outs }
    }

    /// Bytes that the tables of such a map take.
    pub fn bytes(isa: Isa, taps: usize, channels: &Range<usize>, outs: usize) -> usize {
        let (lanes, inputs) = isa.run(Lanes::<E>(std::marker::PhantomData));
        let each = units(taps, channels, inputs).1.len();
        outs.next_multiple_of(OUTS) * each * 2 * lanes * size_of::<E>()
    }
}

/// A dense map over flat spikes.
pub struct Dense<'a, E> {
    /// The spikes.
    pub flat: &'a Flat,
    /// How they are laid out.
    pub raster: &'a Raster,
    /// Where the taps read.
    pub taps: &'a Taps,
    /// The weights.
    pub tables: &'a Tables<E>,
    /// The first output channel.
    pub to: usize,
    /// What every position begins with, a number per output, in place of what `out` holds.
    pub begin: Option<&'a [E]>,
}

/// Room for the indices of a few columns.
#[derive(Debug, Default)]
pub struct Index<E> {
    /// `[look-ups, columns, lanes]`.
    data: Aligned<E>,
    /// For every kind of tap those positions of every vector that read a column of the source.
    edges: Vec<[u32; COLUMNS]>,
}

impl<E: Element> Index<E> {
    /// Makes the indices of some columns of a block, at most [`COLUMNS`].
    #[inline(always)]
    fn fill<L: SumLane<Element = E>>(&mut self, map: &Dense<'_, E>, block: &Block, columns: Range<usize>) {
        let lanes = L::LANES;
        self.data.resize(map.tables.each * columns.len() * lanes);
        let mut to = self.data.as_mut_ptr();
        let columns = &Columns::new::<L>(map, block, columns, &mut self.edges);
        for unit in &map.tables.units {
            // SAFETY: there is room for the indices of every unit, one after the other.
            unsafe {
                let many = match *unit {
                    Unit::One { tap, group, ref shifts } => {
                        let from = Numbers::new::<L, E>(map, columns, tap, group);
                        match shifts[..] {
                            [a] => from.pieces::<L, 1>(columns, [a], to),
                            [a, b] => from.pieces::<L, 2>(columns, [a, b], to),
                            [a, b, c] => from.pieces::<L, 3>(columns, [a, b, c], to),
                            [a, b, c, d] => from.pieces::<L, 4>(columns, [a, b, c, d], to),
                            _ => {
                                for (i, &shift) in shifts.iter().enumerate() {
                                    from.pieces::<L, 1>(columns, [shift], to.add(i * columns.many * lanes));
                                }
                                shifts.len()
                            }
                        }
                    }
                    Unit::Three { tap, group, sixes } => {
                        let a = Numbers::new::<L, E>(map, columns, tap, group);
                        let b = Numbers::new::<L, E>(map, columns, tap + 1, group);
                        let c = Numbers::new::<L, E>(map, columns, tap + 2, group);
                        match sixes {
                            Sixes::OneAndTwo => three::<L, 1, 2>(columns, [a, b, c], to),
                            Sixes::OneAndFour => three::<L, 1, 4>(columns, [a, b, c], to),
                            Sixes::TwoAndTwo => three::<L, 2, 2>(columns, [a, b, c], to),
                            Sixes::TwoAndFour => three::<L, 2, 4>(columns, [a, b, c], to),
                        }
                    }
                };
                to = to.add(many * columns.many * lanes);
            }
        }
    }
}

/// Some columns of a block, at most [`COLUMNS`]: vectors and their steps.
struct Columns<'a> {
    many: usize,
    /// The first vector's first position, and how many vectors they lie in.
    first: usize,
    vectors: usize,
    /// The first one's step.
    step: usize,
    steps: usize,
    edges: &'a [[u32; COLUMNS]],
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new<L: SumLane>(
        map: &Dense<'_, L::Element>,
        block: &Block,
        columns: Range<usize>,
        edges: &'a mut Vec<[u32; COLUMNS]>,
    ) -> Self {
        let vectors = columns.start / block.steps..columns.end.div_ceil(block.steps);
        let first = block.first + vectors.start * L::LANES;
        edges.resize(map.taps.kinds(), [0; COLUMNS]);
        for v in 0..vectors.len() {
            let x = (first + v * L::LANES) % map.taps.size[1];
            for (kind, edges) in edges.iter_mut().enumerate() {
                edges[v] = map.taps.edge(kind, x);
            }
        }
        let step = columns.start % block.steps;
        Columns { many: columns.len(), first, vectors: vectors.len(), step, steps: block.steps, edges }
    }

    /// The steps of a vector.
    #[inline(always)]
    fn steps_of(&self, vector: usize) -> Range<usize> {
        let from = if vector == 0 { self.step } else { 0 };
        from..self.steps.min(self.step + self.many - vector * self.steps)
    }
}

/// The numbers under some columns of a block at a tap.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    /// From the first vector on.
    planes: *const u16,
    /// Distance of two steps.
    pace: usize,
    edges: &'a [u32; COLUMNS],
}

impl<'a> Numbers<'a> {
    #[inline(always)]
    fn new<L: SumLane, E>(map: &Dense<'a, E>, columns: &'a Columns<'_>, tap: usize, group: usize) -> Self {
        let (phase, distance, kind) = map.taps.tap(tap, map.raster);
        let at = (columns.first + map.flat.reach()).wrapping_add_signed(distance);
        let (planes, pace) = map.flat.steps_of(phase, group);
        let last = (columns.steps - 1) * pace + at + columns.vectors * L::LANES;
        assert!(last <= planes.len(), "numbers under every position");
        Numbers { planes: planes[at..].as_ptr(), pace, edges: &columns.edges[kind] }
    }

    /// Those of a vector at a step.
    ///
    /// # Safety
    /// It is one of the columns.
    #[inline(always)]
    unsafe fn read<L: SumLane>(&self, vector: usize, step: usize) -> L {
        // SAFETY: `new` has seen them.
        unsafe {
            let bits = L::read_bits(self.planes.add(step * self.pace + vector * L::LANES));
            bits.keep(*self.edges.get_unchecked(vector))
        }
    }

    /// Writes the indices of N pieces of channels; returns N.
    ///
    /// # Safety
    /// There is room for them, one piece after the other.
    #[inline(always)]
    unsafe fn pieces<L: SumLane, const N: usize>(
        &self,
        columns: &Columns<'_>,
        shifts: [u32; N],
        mut to: *mut L::Element,
    ) -> usize {
        let line = columns.many * L::LANES;
        for vector in 0..columns.vectors {
            for step in columns.steps_of(vector) {
                // SAFETY: the caller's promise.
                unsafe {
                    let bits: L = self.read(vector, step);
                    for (i, &shift) in shifts.iter().enumerate() {
                        bits.down(shift).write(to.add(i * line));
                    }
                    to = to.add(L::LANES);
                }
            }
        }
        N
    }
}

/// Writes the indices of three taps, so many sixes of each and then what is left, 2 or 4 at most; returns their number. Bits above
/// an index's six count for nothing.
///
/// # Safety
/// There is room for them, one after the other.
#[inline(always)]
unsafe fn three<L: SumLane, const SIXES: usize, const REST: usize>(
    columns: &Columns<'_>,
    [a, b, c]: [Numbers<'_>; 3],
    mut to: *mut L::Element,
) -> usize {
    let (line, left) = (columns.many * L::LANES, 6 * SIXES as u32);
    let zero = L::splat(L::Element::default());
    for vector in 0..columns.vectors {
        for step in columns.steps_of(vector) {
            // SAFETY: the caller's promise.
            unsafe {
                let taps: [L; 3] = [a.read(vector, step), b.read(vector, step), c.read(vector, step)];
                for (i, tap) in taps.iter().enumerate() {
                    tap.write(to.add(i * SIXES * line));
                    if const { SIXES == 2 } {
                        tap.down(6).write(to.add((2 * i + 1) * line));
                    }
                }
                let ([a, b, c], rest) = (taps, to.add(3 * SIXES * line));
                if const { REST == 2 } {
                    let ab = zero.or(a.down(left), 0b11).or(b.down(left - 2), 0b00_1100);
                    ab.or(c.down(left - 4), 0b11_0000).write(rest);
                } else {
                    // four of the first and two of the second, two of the second and four of the third
                    let (mut ab, mut bc) = (a.down(left), b.down(left + 2));
                    if const { SIXES == 1 } {
                        // of 16 channels nothing is above these
                        (ab, bc) = (zero.or(ab, 0b1111), zero.or(bc, 0b11));
                    }
                    ab.or(b.down(left - 4), 0b11_0000).write(rest);
                    bc.or(c.down(left - 2), 0b11_1100).write(rest.add(line));
                }
                to = to.add(L::LANES);
            }
        }
    }
    3 * SIXES + REST / 2
}

/// Adds the sums of a block to `out`, `[channels, vectors, steps, lanes]`, or writes them there; `index` is room to work in.
///
/// # Panics
/// If `out` is too small, the map does not fit the spikes, or was made for another instruction set.
pub fn dense<E: Element>(isa: Isa, map: &Dense<'_, E>, block: Block, index: &mut Index<E>, out: &mut [E]) {
    assert!(isa == map.tables.isa, "tables are made for the instruction set");
    isa.run(DenseBlock { map, index, block, out });
}

struct DenseBlock<'a, 'b, E> {
    map: &'a Dense<'b, E>,
    index: &'a mut Index<E>,
    block: Block,
    out: &'a mut [E],
}

/// Checks that a block's positions lie on the layer, and the planes hold what its taps read.
fn check(flat: &Flat, raster: &Raster, taps: &Taps, block: &Block, lanes: usize) {
    let all = taps.size[0] * taps.size[1];
    let last = block.vectors.saturating_sub(1).checked_mul(lanes).and_then(|n| n.checked_add(block.first));
    assert!(last.is_some_and(|n| n < all) && block.vectors > 0, "a vector begins on the layer");
    assert!(
        flat.steps() == block.steps && flat.size()[1] == taps.size[1] && taps.size[0] <= flat.size()[0],
        "spikes of the map"
    );
    assert!(flat.reach() == raster.reach && raster.reach >= taps.raster.reach, "zeros before and behind");
}

impl<E: Element> Job for DenseBlock<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let DenseBlock { map, index, block, out } = self;
        let Dense { flat, raster, taps, tables, to, begin } = *map;
        let lanes = E::Wide::<V>::LANES;
        check(flat, raster, taps, &block, lanes);
        let groups = flat.groups();
        let group = |u: &Unit| match u {
            Unit::One { group, .. } | Unit::Three { group, .. } => *group,
        };
        assert!(
            taps.len() == tables.taps && tables.units.iter().all(|u| group(u) < groups),
            "tables of the map"
        );
        let (columns, each) = (block.vectors * block.steps, tables.each);
        let number = columns * lanes;
        let outs = tables.outs.next_multiple_of(OUTS);
        assert!(
            to.checked_add(outs).and_then(|n| n.checked_mul(number)).is_some_and(|n| n <= out.len()),
            "room for every sum"
        );
        assert!(begin.is_none_or(|b| b.len() >= outs), "a number for every output");
        let out = &mut out[to * number..];
        for first in (0..columns).step_by(COLUMNS) {
            let some = first..columns.min(first + COLUMNS);
            index.fill::<E::Wide<V>>(map, &block, some.clone());
            let (tables, index, wide) = (&tables.data[..], &index.data[..], some.len());
            let mut sums = Sums { tables, index, each, columns, first, wide, begin, out };
            let mut column = 0;
            while column < wide {
                // SAFETY: indices, tables and `out` are of the sizes that are checked above and in `fill`.
                column += unsafe {
                    match wide - column {
                        8.. => sums.columns::<E::Wide<V>, 8>(column),
                        4.. => sums.columns::<E::Wide<V>, 4>(column),
                        2.. => sums.columns::<E::Wide<V>, 2>(column),
                        _ => sums.columns::<E::Wide<V>, 1>(column),
                    }
                };
            }
        }
    }
}

struct Sums<'a, E> {
    tables: &'a [E],
    index: &'a [E],
    /// Look-ups of an output.
    each: usize,
    /// Columns of the block, the first of those that have indices, and how many these are.
    columns: usize,
    first: usize,
    wide: usize,
    begin: Option<&'a [E]>,
    out: &'a mut [E],
}

impl<E: Element> Sums<'_, E> {
    /// K columns of all outputs, from the `column`th that has indices on; returns K.
    ///
    /// # Safety
    /// There are `each` indices of every such column, tables of as many look-ups of every pair of outputs, and `out` has all columns
    /// of each output.
    #[inline(always)]
    unsafe fn columns<L: SumLane<Element = E>, const K: usize>(&mut self, column: usize) -> usize {
        let (lanes, number) = (L::LANES, self.columns * L::LANES);
        let pairs = self.tables.len() / (self.each * OUTS * 2 * lanes);
        let wide = self.wide * lanes;
        let mut index = self.index[column * lanes..].as_ptr();
        let column = self.first + column;
        let mut table = self.tables.as_ptr();
        for batch in batches(self.each) {
            let mut out = self.out.as_mut_ptr();
            for pair in 0..pairs {
                let mut sums = [[L::splat(E::default()); K]; OUTS];
                for (o, sums) in sums.iter_mut().enumerate() {
                    for (k, sum) in sums.iter_mut().enumerate() {
                        *sum = match self.begin {
                            Some(begin) if batch.start == 0 => L::splat(begin[pair * OUTS + o]),
                            // SAFETY: inside `out`.
                            _ => unsafe { L::read(out.add(o * number + (column + k) * lanes)) },
                        };
                    }
                }
                // SAFETY: inside the tables and the indices.
                unsafe {
                    let mut at = index;
                    for _ in batch.clone() {
                        let mut tables = [[L::splat(E::default()); 2]; OUTS];
                        for (i, tables) in tables.iter_mut().enumerate() {
                            let table = table.add(2 * i * lanes);
                            *tables = [L::read(table), L::read(table.add(lanes))];
                        }
                        for k in 0..K {
                            let index = L::read(at.add(k * lanes));
                            for (sums, table) in sums.iter_mut().zip(tables) {
                                sums[k] = sums[k].plus(L::look(table, index));
                            }
                        }
                        table = table.add(2 * OUTS * lanes);
                        at = at.wrapping_add(wide);
                    }
                    for (o, sums) in sums.into_iter().enumerate() {
                        for (k, sum) in sums.into_iter().enumerate() {
                            sum.write(out.add(o * number + (column + k) * lanes));
                        }
                    }
                    out = out.add(OUTS * number);
                }
            }
            index = index.wrapping_add(batch.len() * wide);
        }
        K
    }
}

/// A map channel by channel over flat spikes.
pub struct Channels<'a, E> {
    /// The spikes.
    pub flat: &'a Flat,
    /// How they are laid out.
    pub raster: &'a Raster,
    /// Where the taps read.
    pub taps: &'a Taps,
    /// `[taps, padded]`.
    pub weights: &'a [E],
    /// Channels of the source.
    pub channels: &'a Range<usize>,
    /// The first output channel.
    pub to: usize,
}

/// Adds the weights of the spikes to `out`, likewise.
///
/// # Panics
/// If `out` is too small, or the map does not fit the spikes.
pub fn channels<E: Element>(isa: Isa, map: &Channels<'_, E>, block: Block, out: &mut [E]) {
    isa.run(ChannelsBlock { map, block, out });
}

struct ChannelsBlock<'a, 'b, E> {
    map: &'a Channels<'b, E>,
    block: Block,
    out: &'a mut [E],
}

impl<E: Element> Job for ChannelsBlock<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let ChannelsBlock { map, block, out } = self;
        let Channels { flat, raster, taps, weights, channels, to } = *map;
        let lanes = E::Wide::<V>::LANES;
        check(flat, raster, taps, &block, lanes);
        let (padded, number) = (weights.len() / taps.len(), block.vectors * block.steps * lanes);
        assert!(channels.len() <= padded && channels.end <= flat.groups() * GROUP, "channels of the map");
        for tap in 0..taps.len() {
            let (weights, (phase, distance, kind)) =
                (&weights[tap * padded..][..padded], taps.tap(tap, raster));
            for group in channels.start / GROUP..channels.end.div_ceil(GROUP) {
                let (begin, end) = (channels.start.max(group * GROUP), channels.end.min((group + 1) * GROUP));
                let (planes, pace) = flat.steps_of(phase, group);
                for v in 0..block.vectors {
                    let p = block.first + v * lanes;
                    let planes = &planes[(p + flat.reach()).wrapping_add_signed(distance)..];
                    let edge = taps.edge(kind, p % taps.size[1]);
                    // a channel after the other: those of many steps lie far from one another
                    let all = out[(to + begin - channels.start) * number..].chunks_exact_mut(number);
                    let weights = &weights[begin - channels.start..end - channels.start];
                    for ((all, &weight), c) in all.zip(weights).zip(begin..) {
                        let weight = E::Wide::<V>::splat(weight);
                        let sums = all[v * block.steps * lanes..].chunks_exact_mut(lanes);
                        for (t, sum) in sums.take(block.steps).enumerate() {
                            let bits = E::Wide::<V>::bits(&planes[t * pace..]);
                            let has = bits.has((c % GROUP) as u32) & edge;
                            E::Wide::<V>::load(sum).plus(weight.keep(has)).store(sum);
                        }
                    }
                }
            }
        }
    }
}

/// Writes a number to all of every channel's.
///
/// # Panics
/// If `out` is too small.
pub fn begin<E: Element>(isa: Isa, numbers: &[E], number: usize, out: &mut [E]) {
    assert!(numbers.len().checked_mul(number).is_some_and(|n| n <= out.len()), "room for every number");
    isa.run(Begin { numbers, number, out });
}

struct Begin<'a, E> {
    numbers: &'a [E],
    number: usize,
    out: &'a mut [E],
}

impl<E: Element> Job for Begin<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        for (out, number) in self.out.chunks_exact_mut(self.number.max(1)).zip(self.numbers) {
            out.fill(*number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Spikes, Window};

    /// Spikes of 70 channels at 6 x 9 positions.
    struct Layer {
        bits: Vec<u64>,
        steps: usize,
    }

    const SIZE: [usize; 2] = [6, 9];

    impl Layer {
        fn new(steps: usize) -> Self {
            let mut state = 11u64;
            let mut bit = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state & state >> 17
            };
            let bits = 0..SIZE[0] * steps * SIZE[1] * 2;
            Layer { bits: bits.map(|i| bit() & if i % 2 == 1 { (1 << 6) - 1 } else { !0 }).collect(), steps }
        }

        fn spikes(&self) -> Spikes<'_> {
            Spikes { bits: &self.bits, steps: self.steps, size: SIZE, words: 2 }
        }

        fn fired(&self, t: usize, y: usize, x: usize, c: usize) -> bool {
            self.bits[((y * self.steps + t) * SIZE[1] + x) * 2 + c / 64] >> (c % 64) & 1 == 1
        }
    }

    fn weight(tap: usize, c: usize, o: usize) -> i32 {
        ((tap * 131 + c * 17 + o * 5) % 401) as i32 - 200
    }

    /// Sums of every output, step and position, and how many spikes were read, as written on paper.
    fn naive(
        layer: &Layer,
        window: &Window,
        size: [usize; 2],
        channels: &Range<usize>,
        outs: usize,
        depthwise: bool,
    ) -> (Vec<i32>, u64) {
        let mut sums = vec![0; outs * layer.steps * size[0] * size[1]];
        let mut count = 0;
        for (t, oy, ox) in (0..layer.steps)
            .flat_map(|t| (0..size[0]).flat_map(move |y| (0..size[1]).map(move |x| (t, y, x))))
        {
            for (ky, kx) in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x))) {
                let y = (oy * window.stride[0] + ky).wrapping_sub(window.padding[0]);
                let x = (ox * window.stride[1] + kx).wrapping_sub(window.padding[1]);
                if y >= SIZE[0] || x >= SIZE[1] {
                    continue;
                }
                for c in channels.clone().filter(|&c| layer.fired(t, y, x, c)) {
                    count += 1;
                    let c = c - channels.start;
                    let outs = if depthwise { c..c + 1 } else { 0..outs };
                    for o in outs {
                        let tap = ky * window.kernel[1] + kx;
                        sums[((o * layer.steps + t) * size[0] + oy) * size[1] + ox] +=
                            weight(tap, if depthwise { 0 } else { c }, o);
                    }
                }
            }
        }
        (sums, count)
    }

    fn agrees<E: Element>(isa: Isa, layer: &Layer, window: &Window, channels: Range<usize>) {
        let size =
            [0, 1].map(|i| (SIZE[i] + 2 * window.padding[i] - window.kernel[i]) / window.stride[i] + 1);
        let taps = Taps::new(window, [1, 1], SIZE, size).expect("a row holds them");
        let mut raster = taps.raster.clone();
        raster.merge(&Raster { reach: raster.reach + 3, ..raster.clone() });
        let mut flat = Flat::default();
        flat.fill(isa, &layer.spikes(), 70, &raster);
        let (outs, lanes, all) = (5, Block::lanes::<E>(isa), size[0] * size[1]);
        let (want, count) = naive(layer, window, size, &channels, outs, false);
        let tables = Tables::new(isa, taps.len(), &channels, outs, |tap, c, o| E::cut(weight(tap, c, o)));
        assert_eq!(taps.count(isa, &flat, &raster, &channels, &(0..size[0])), count);
        let halves = [0..size[0] / 2, size[0] / 2..size[0]];
        let parts = halves.iter().map(|ys| taps.count(isa, &flat, &raster, &channels, ys));
        assert_eq!(parts.sum::<u64>(), count, "each row in one part");

        let check = |out: &[E], want: &[i32], block: &Block, first: usize, what: &str| {
            for (o, v, t, i) in (0..outs).flat_map(|o| {
                (0..block.vectors).flat_map(move |v| {
                    (0..block.steps).flat_map(move |t| (0..lanes).map(move |i| (o, v, t, i)))
                })
            }) {
                let p = block.first + v * lanes + i;
                if p < all {
                    let got =
                        out[((first + o) * block.vectors + v) * block.steps * lanes + t * lanes + i].wide();
                    assert_eq!(
                        got,
                        want[(o * block.steps + t) * all + p],
                        "{} {what} {window:?}",
                        isa.name()
                    );
                }
            }
        };
        for (first, begin) in [(0, None), (lanes.min(all - 1), Some(&[E::cut(7); 6][..]))] {
            let many = Block::vectors(layer.steps).min((all - first).div_ceil(lanes));
            let block = Block { first, vectors: many, steps: layer.steps };
            let mut out = vec![E::cut(3); 8 * block.numbers(lanes)];
            let map = Dense { flat: &flat, raster: &raster, taps: &taps, tables: &tables, to: 1, begin };
            dense(isa, &map, block, &mut Index::default(), &mut out);
            let base = if begin.is_some() { 7 } else { 3 };
            let sums: Vec<i32> = want.iter().map(|x| x + base).collect();
            check(&out, &sums, &block, 1, "dense");
            assert!(
                out[..block.numbers(lanes)].iter().all(|x| x.wide() == 3),
                "channels before are as they were"
            );
        }

        let some = channels.start..channels.start + outs;
        let (want, _) = naive(layer, window, size, &some, outs, true);
        let weights: Vec<E> = (0..taps.len() * 16).map(|i| E::cut(weight(i / 16, 0, i % 16))).collect();
        let block = Block { first: 0, vectors: all.div_ceil(lanes).min(3), steps: layer.steps };
        let mut out = vec![E::cut(0); outs * block.numbers(lanes)];
        let (flat, raster, taps) = (&flat, &raster, &taps);
        let map = Channels { flat, raster, taps, weights: &weights, channels: &some, to: 0 };
        super::channels(isa, &map, block, &mut out);
        check(&out, &want, &block, 0, "channels");
    }

    #[test]
    fn every_version_looks_up_the_sums_of_the_spikes() {
        for isa in Isa::available() {
            for steps in [1, 3, 4, 9] {
                let layer = Layer::new(steps);
                for (kernel, stride, padding) in
                    [(3, 1, 1), (1, 1, 0), (1, 2, 0), (3, 2, 1), (5, 1, 2), (3, 3, 1)]
                {
                    let window = Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] };
                    for channels in [0..70, 16..37, 32..48, 0..14, 16..29, 32..40, 48..58, 0..9, 16..31] {
                        agrees::<i16>(isa, &layer, &window, channels.clone());
                        agrees::<i32>(isa, &layer, &window, channels);
                    }
                }
            }
        }
    }

    #[test]
    fn outputs_that_a_row_cannot_hold_are_refused() {
        let window = |kernel, padding| Window { kernel: [kernel; 2], stride: [1; 2], padding: [padding; 2] };
        assert!(Taps::new(&window(3, 0), [1, 1], [8, 8], [6, 6]).is_none(), "fewer columns");
        assert!(Taps::new(&window(3, 2), [1, 1], [8, 8], [10, 10]).is_none(), "more rows");
        assert!(Taps::new(&window(3, 2), [2, 2], [8, 8], [8, 8]).is_some(), "dilation keeps the size");
    }
}
