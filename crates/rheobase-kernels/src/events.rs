//! Spikes in the forms that the kernels read: lists of events, and planes of bytes.
//! In: packed spikes of a layer, `[rows, steps, width, words]`, channel c in bit c % 64 of word c / 64. Out: [`Events`], for
//! every step and row the indices x·channels + channel of its spikes; [`Plane`], the same spikes with zeros around.
//!
//! Only this file makes events, so that their ranges hold by construction and the gathering loop need not check them.
//! Pooling counts here: a window's spikes are listed under the one position that they are pooled to.

use crate::cpu::{Isa, Job, Vectors};
use std::ops::Range;

/// Event lists end with so many entries that no position owns: runs are copied in blocks of this size.
pub const SLACK: usize = 32;

/// Packed spikes of one image.
#[derive(Clone, Copy)]
pub struct Spikes<'a> {
    /// `[rows, steps, width, words]`.
    pub bits: &'a [u64],
    /// Steps.
    pub steps: usize,
    /// Rows and columns.
    pub size: [usize; 2],
    /// Words of a position.
    pub words: usize,
}

impl Spikes<'_> {
    /// Adds the spikes of every step to `to`.
    pub fn count(&self, isa: Isa, to: &mut [u64]) {
        isa.run(Count { spikes: self, to });
    }

    /// Spikes of `many` channels, at most 64, of a position at [`TOGETHER`] steps, or as many as there are.
    #[inline(always)]
    fn train(&self, [y, x]: [usize; 2], step: usize, first: usize, many: usize) -> [u64; TOGETHER] {
        let (Spikes { bits, steps, size: [_, width], words }, mut train) = (*self, [0; TOGETHER]);
        let at = ((y * steps + step) * width + x) * words;
        for (s, train) in train.iter_mut().enumerate().take(steps - step) {
            let words = &bits[at + s * width * words..][..words];
            *train = some(words, first, many);
        }
        train
    }

    /// The words of one row at one step.
    #[inline(always)]
    pub(crate) fn row(&self, y: usize, t: usize) -> &[u64] {
        let n = self.size[1] * self.words;
        &self.bits[(y * self.steps + t) * n..][..n]
    }
}

/// Bits of `many` channels of a position, at most 64.
#[inline(always)]
fn some(words: &[u64], first: usize, many: usize) -> u64 {
    let mut bits = words[first / 64] >> (first % 64);
    if first % 64 + many > 64 {
        bits |= words[first / 64 + 1] << (64 - first % 64);
    }
    bits & u64::MAX >> (64 - many)
}

struct Count<'a, 'b> {
    spikes: &'a Spikes<'b>,
    to: &'a mut [u64],
}

impl Job for Count<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Spikes { bits, steps, size: [height, width], words } = *self.spikes;
        let row = (width * words).max(1);
        for (i, row) in bits.chunks_exact(row).enumerate().take(height * steps) {
            self.to[i % steps] += row.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        }
    }
}

/// Windows whose spikes are counted before the synapse sees them (average pooling, its divisor being in the weights), or a
/// kernel and its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal.
    pub stride: [usize; 2],
    /// Top, left.
    pub padding: [usize; 2],
}

impl Window {
    /// Rows (axis 0) or columns (1) of the source under window `o`.
    fn under(&self, axis: usize, o: usize, size: usize) -> Range<usize> {
        let begin = o * self.stride[axis];
        let end = (begin + self.kernel[axis]).saturating_sub(self.padding[axis]).min(size);
        begin.saturating_sub(self.padding[axis]).min(end)..end
    }
}

/// A number that events are listed in. Short ones are cut to 16 bits: enough for maps of that many rows, since what is added to
/// them is cut likewise.
pub trait Entry: Copy + Default + 'static {
    /// The number, cut.
    fn cut(x: u32) -> Self;
    /// (self + offset) · times, cut.
    fn place(self, offset: u32, times: u32) -> Self;
    /// The number.
    fn number(self) -> usize;
    /// Writes the places of bits, `Vectors::places` or `Vectors::places_short`.
    ///
    /// # Safety
    /// 16 numbers can be written.
    unsafe fn places<V: Vectors>(bits: u16, base: u32, to: *mut Self);
    /// The same for 32 bits.
    ///
    /// # Safety
    /// 32 numbers can be written.
    unsafe fn places_wide<V: Vectors>(bits: u32, base: u32, to: *mut Self);
    /// The steps that a number of [`Order::Trains`] names, and the number without them.
    #[inline(always)]
    fn train(self) -> (usize, usize) {
        (self.number() % (1 << TOGETHER), self.number() >> TOGETHER)
    }
    /// The list of such numbers.
    fn list(events: &Events) -> &Vec<Self>;
    /// The same, to write.
    fn list_mut(events: &mut Events) -> &mut Vec<Self>;
}

impl Entry for u32 {
    #[inline(always)]
    fn cut(x: u32) -> Self {
        x
    }
    #[inline(always)]
    fn place(self, offset: u32, times: u32) -> Self {
        self.wrapping_add(offset).wrapping_mul(times)
    }
    #[inline(always)]
    fn number(self) -> usize {
        self as usize
    }
    #[inline(always)]
    unsafe fn places<V: Vectors>(bits: u16, base: u32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { V::places(bits, base, to) }
    }
    #[inline(always)]
    unsafe fn places_wide<V: Vectors>(bits: u32, base: u32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { halves::<u32, V>(bits, base, to) }
    }
    #[inline(always)]
    fn list(events: &Events) -> &Vec<u32> {
        &events.long
    }
    #[inline(always)]
    fn list_mut(events: &mut Events) -> &mut Vec<u32> {
        &mut events.long
    }
}

impl Entry for u16 {
    #[inline(always)]
    fn cut(x: u32) -> Self {
        x as u16
    }
    #[inline(always)]
    fn place(self, offset: u32, times: u32) -> Self {
        self.wrapping_add(offset as u16).wrapping_mul(times as u16)
    }
    #[inline(always)]
    fn number(self) -> usize {
        self.into()
    }
    #[inline(always)]
    unsafe fn places<V: Vectors>(bits: u16, base: u32, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { V::places_short(bits, base as u16, to) }
    }
    #[inline(always)]
    unsafe fn places_wide<V: Vectors>(bits: u32, base: u32, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { V::places_wide(bits, base as u16, to) }
    }
    #[inline(always)]
    fn list(events: &Events) -> &Vec<u16> {
        &events.short
    }
    #[inline(always)]
    fn list_mut(events: &mut Events) -> &mut Vec<u16> {
        &mut events.short
    }
}

/// Writes the places of 32 bits, one half after the other.
///
/// # Safety
/// 32 numbers can be written.
#[inline(always)]
pub(crate) unsafe fn halves<T: Entry, V: Vectors>(bits: u32, base: u32, to: *mut T) {
    let low = bits as u16;
    // SAFETY: at most 16 numbers lie before the last 16.
    unsafe {
        T::places::<V>(low, base, to);
        T::places::<V>((bits >> 16) as u16, base.wrapping_add(16), to.add(low.count_ones() as usize));
    }
}

/// Steps of a train.
pub const TOGETHER: usize = 4;

/// Lists of a group of steps in a column of trains: a step each, and one of what fires at several steps.
const CLASSES: usize = TOGETHER + 1;

/// In what order events are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Step by step and row by row.
    Rows,
    /// Step by step and column by column: the events of neighbouring rows lie together.
    Columns,
    /// Column by column, [`TOGETHER`] steps at a time, every neuron that fires once: those that fire at one step only step by step, then
    /// those that fire at several, with the steps.
    Trains,
}

/// Which spikes are listed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Channels of the source.
    pub channels: Range<usize>,
    /// Windows that are listed as one position.
    pub pool: Option<Window>,
    /// Rows and columns, after pooling.
    pub size: [usize; 2],
    /// Whether to list them in 16 bits.
    pub short: bool,
    /// In what order.
    pub order: Order,
}

/// The events of one image, in one of two widths.
#[derive(Debug, Default)]
pub struct Events {
    short: Vec<u16>,
    long: Vec<u32>,
    is_short: bool,
    order: Option<Order>,
    index: Vec<u32>,
    trains: Vec<Train>,
    used: usize,
    steps: usize,
    size: [usize; 2],
    ins: usize,
    most: usize,
}

impl Events {
    /// Lists spikes.
    ///
    /// # Panics
    /// If there are fewer words than the shape says, or more events than 2^32.
    pub fn fill(&mut self, isa: Isa, from: &Spikes<'_>, listing: &Listing) {
        let Listing { channels, pool, size, short, order } = listing;
        assert!(channels.end <= from.words * 64 && channels.start < channels.end, "channels that exist");
        assert!(pool.is_some() || *size == from.size, "without a pool the size stays");
        // Whatever happens below: no index that belongs to another list.
        self.index.clear();
        (self.steps, self.size, self.ins) = (from.steps, *size, channels.len());
        let window = |axis: usize| pool.map_or(1, |p| p.kernel[axis].min(from.size[axis]));
        let most = window(0).checked_mul(window(1)).and_then(|n| n.checked_mul(self.ins));
        self.most = most.expect("events of a position fit the memory");
        (self.used, self.is_short, self.order) = (0, *short, Some(*order));
        let fill = Fill { to: self, from, channels: channels.clone(), pool: *pool };
        isa.run_newer(fill);
        if u32::try_from(self.used).is_err() {
            self.index.clear();
            panic!("events are counted in 32 bits");
        }
        // steps are read together, as long as the longest has events
        let more = if *order == Order::Columns { size[0] * self.most } else { 0 };
        if *short { self.room::<u16>(more) } else { self.room::<u32>(more) }
    }

    /// Room for `more` events and the slack behind them.
    #[inline(always)]
    fn room<T: Entry>(&mut self, more: usize) {
        let need = self.used + more + SLACK;
        let list = T::list_mut(self);
        if list.len() < need {
            list.resize(need.max(2 * list.len()), T::default());
        }
    }

    /// Whether they are listed in 16 bits.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// In what order they are listed, if they are.
    pub fn order(&self) -> Option<Order> {
        self.order
    }

    /// Steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Channels.
    pub fn ins(&self) -> usize {
        self.ins
    }

    /// How many there are; trains count once.
    pub fn many(&self) -> usize {
        self.used
    }

    /// The most events one position can have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// All events, in the width they were listed in. Row by row, those of step t of row y at positions `a..b` are `list[bounds[a]..bounds[b]]`,
    /// `bounds` being `bounds(y, t)`; each is position·ins + channel. Column by column it is the same with `column(x, t)` and rows; for trains
    /// there is [`trains`](Self::trains). [`SLACK`] more entries can be read behind any of them, and as many as a column can have where
    /// they are listed by columns.
    #[inline(always)]
    pub fn list<T: Entry>(&self) -> &[T] {
        T::list(self)
    }

    /// Where the positions of a row begin in the list, and the end of the last.
    #[inline(always)]
    pub fn bounds(&self, y: usize, t: usize) -> &[u32] {
        self.line(y * self.steps + t, self.size[1] + 1)
    }

    /// Where the rows of a column begin in the list, and the end of the last; those of the next column follow.
    #[inline(always)]
    pub fn column(&self, x: usize, t: usize) -> &[u32] {
        self.line(t * self.size[1] + x, self.size[0] + 1)
    }

    /// Where the events of rows `ys` of a column begin and end in the list: for every `s` of what fires at step `TOGETHER · group + s`
    /// alone, then of what fires at several of these steps, whose entries are `(row·ins + channel) << TOGETHER | steps`; and how many
    /// spikes the latter are.
    #[inline(always)]
    pub fn trains(&self, x: usize, group: usize, ys: Range<usize>) -> ([Range<usize>; CLASSES], usize) {
        let bounds = self.line(group * self.size[1] + x, (CLASSES + 1) * (self.size[0] + 1));
        assert!(ys.start <= ys.end && ys.end <= self.size[0], "rows of the source");
        let at = |class: usize, y: usize| {
            // SAFETY: a row, or the end of the last, of one of the lines.
            unsafe { *bounds.get_unchecked(class * (self.size[0] + 1) + y) as usize }
        };
        let of = |class| at(class, ys.start)..at(class, ys.end);
        ([of(0), of(1), of(2), of(3), of(4)], at(CLASSES, ys.end) - at(CLASSES, ys.start))
    }

    #[inline(always)]
    fn line(&self, i: usize, bounds: usize) -> &[u32] {
        &self.index[i * bounds..][..bounds]
    }
}

struct Fill<'a, 'b> {
    to: &'a mut Events,
    from: &'a Spikes<'b>,
    channels: Range<usize>,
    pool: Option<Window>,
}

impl Job for Fill<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        match (self.to.order, self.to.is_short) {
            (Some(Order::Trains), true) => self.trains::<V, u16>(),
            (Some(Order::Trains), false) => self.trains::<V, u32>(),
            (_, true) => self.list::<V, u16>(),
            (_, false) => self.list::<V, u32>(),
        }
    }
}

impl Fill<'_, '_> {
    #[inline(always)]
    fn list<V: Vectors, T: Entry>(self) {
        let Fill { to, from, channels, pool } = self;
        let ([rows, columns], words, steps) = (to.size, from.words, to.steps);
        let by_columns = to.order == Some(Order::Columns);
        let (lines, positions) = if by_columns { (columns, rows) } else { (rows, columns) };
        to.index.resize(lines * steps * (positions + 1), 0);
        let mut index = std::mem::take(&mut to.index);
        for (i, index) in index.chunks_exact_mut(positions + 1).enumerate() {
            // 16 or 32 entries are written at a time, whatever there is of them; the slack takes what is beyond.
            to.room::<T>(positions * to.most);
            let ins = to.ins as u32;
            let mut list = Writer { at: to.used, list: T::list_mut(to) };
            let mut base = 0;
            if let Some(pool) = pool {
                for (p, index) in index[..positions].iter_mut().enumerate() {
                    *index = list.at as u32;
                    let (t, y, x) =
                        if by_columns { (i / columns, p, i % columns) } else { (i % steps, i / steps, p) };
                    for sy in pool.under(0, y, from.size[0]) {
                        let row = from.row(sy, t);
                        for sx in pool.under(1, x, from.size[1]) {
                            list.position::<V>(&row[sx * words..][..words], &channels, base);
                        }
                    }
                    base += ins;
                }
            } else {
                // a row of a step, or a column of one
                let (at, pace) = if by_columns {
                    (i, steps * columns)
                } else {
                    (i / steps * steps * columns + i % steps * columns, 1)
                };
                let bits = from.bits[at * words..].chunks_exact(words).step_by(pace);
                if channels.start == 0 && words == 1 {
                    let many = channels.end;
                    let keep = u64::MAX >> (64 - many);
                    for (index, bits) in index[..positions].iter_mut().zip(bits) {
                        *index = list.at as u32;
                        list.bits::<V>(bits[0] & keep, many, base);
                        base += ins;
                    }
                } else {
                    for (index, bits) in index[..positions].iter_mut().zip(bits) {
                        *index = list.at as u32;
                        list.position::<V>(bits, &channels, base);
                        base += ins;
                    }
                }
            }
            index[positions] = list.at as u32;
            to.used = list.at;
        }
        to.index = index;
    }
}

/// Spikes of at most 64 channels of a row at [`TOGETHER`] steps, one a channel and step at most.
#[derive(Debug, Default, Clone, Copy)]
struct Train {
    steps: [u64; TOGETHER],
    /// What fires at several of them.
    several: u64,
    /// The first channel's number, how many channels, and the row.
    base: u32,
    many: u32,
    y: usize,
}

impl Train {
    /// Takes up the trains of another position that fire at no step at which its own do; returns the others.
    #[inline(always)]
    fn join(&mut self, more: [u64; TOGETHER]) -> [u64; TOGETHER] {
        let mut both = 0;
        for (own, more) in self.steps.iter().zip(more) {
            both |= own & more;
        }
        let mut others = more;
        for (own, more) in self.steps.iter_mut().zip(&mut others) {
            *own |= *more & !both;
            *more &= both;
        }
        others
    }
}

impl Fill<'_, '_> {
    #[inline(always)]
    fn trains<V: Vectors, T: Entry>(self) {
        let Fill { to, from, channels, pool } = self;
        let ([rows, columns], steps, ins) = (to.size, to.steps, to.ins);
        let bounds = rows + 1;
        to.index.resize(steps.div_ceil(TOGETHER) * columns * (CLASSES + 1) * bounds, 0);
        let (mut index, mut trains) = (std::mem::take(&mut to.index), std::mem::take(&mut to.trains));
        for (i, lines) in index.chunks_exact_mut((CLASSES + 1) * bounds).enumerate() {
            let (step, x) = (i / columns * TOGETHER, i % columns);
            trains.clear();
            for y in 0..rows {
                let (ys, xs) = match pool {
                    Some(pool) => (pool.under(0, y, from.size[0]), pool.under(1, x, from.size[1])),
                    None => (y..y + 1, x..x + 1),
                };
                for first in channels.clone().step_by(64) {
                    let many = (channels.end - first).min(64);
                    // Pooled positions have the same weights: one entry for trains that do not meet.
                    let begin = trains.len();
                    for sy in ys.clone() {
                        for sx in xs.clone() {
                            let mut train = from.train([sy, sx], step, first, many);
                            for other in &mut trains[begin..] {
                                train = other.join(train);
                            }
                            if train != [0; TOGETHER] {
                                let base = (y * ins + first - channels.start) as u32;
                                trains.push(Train { steps: train, several: 0, base, many: many as u32, y });
                            }
                        }
                    }
                }
            }
            // every neuron has one entry at most
            to.room::<T>((rows + 1) * to.most);
            let mut list = Writer { at: to.used, list: T::list_mut(to) };
            let (lines, counts) = lines.split_at_mut(CLASSES * bounds);
            counts.fill(0);
            for train in &mut trains {
                let [a, b, c, d] = train.steps;
                train.several = a & b | c & d | (a | b) & (c | d);
                for steps in train.steps {
                    counts[train.y + 1] += (steps & train.several).count_ones();
                }
            }
            for y in 0..rows {
                counts[y + 1] += counts[y];
            }
            for (class, line) in lines.chunks_exact_mut(bounds).enumerate() {
                let mut y = 0;
                for train in &trains {
                    line[y..=train.y].fill(list.at as u32);
                    y = train.y + 1;
                    if let Some(steps) = train.steps.get(class) {
                        list.bits::<V>(steps & !train.several, train.many as usize, train.base);
                    } else {
                        list.train::<V>(train);
                    }
                }
                line[y..].fill(list.at as u32);
            }
            to.used = list.at;
        }
        (to.index, to.trains) = (index, trains);
    }
}

/// A list being written.
struct Writer<'a, T> {
    list: &'a mut [T],
    at: usize,
}

impl<T: Entry> Writer<'_, T> {
    /// Lists the spikes of one position.
    #[inline(always)]
    fn position<V: Vectors>(&mut self, words: &[u64], channels: &Range<usize>, base: u32) {
        let mut first = channels.start;
        while first < channels.end {
            let many = (channels.end - first).min(64);
            self.bits::<V>(some(words, first, many), many, base + (first - channels.start) as u32);
            first += many;
        }
    }

    /// Lists what fires at several steps.
    #[inline(always)]
    fn train<V: Vectors>(&mut self, train: &Train) {
        let (Train { steps: [a, b, c, d], several, base, .. }, many) = (*train, train.many as usize);
        assert!(self.at + many + 32 <= self.list.len(), "room for the row");
        for i in (0..many).step_by(16) {
            let steps = [(a >> i) as u16, (b >> i) as u16, (c >> i) as u16, (d >> i) as u16];
            let bits = (several >> i) as u16;
            // SAFETY: 16 numbers can be written: no more than `many` lie before them.
            unsafe { V::trains(bits, steps, base + i as u32, self.list.as_mut_ptr().add(self.at)) };
            self.at += bits.count_ones() as usize;
        }
    }

    /// Lists the bits of a word, of which there are so `many`.
    #[inline(always)]
    fn bits<V: Vectors>(&mut self, mut bits: u64, many: usize, mut base: u32) {
        assert!(self.at + many + 32 <= self.list.len(), "room for the row");
        let mut left = many;
        while left > 16 {
            let some = bits as u32;
            // SAFETY: 32 numbers can be written: no more than `many` lie before them.
            unsafe { T::places_wide::<V>(some, base, self.list.as_mut_ptr().add(self.at)) };
            self.at += some.count_ones() as usize;
            bits >>= 32;
            base += 32;
            left = left.saturating_sub(32);
        }
        if left > 0 {
            let some = bits as u16;
            // SAFETY: as above.
            unsafe { T::places::<V>(some, base, self.list.as_mut_ptr().add(self.at)) };
            self.at += some.count_ones() as usize;
        }
    }
}

/// Spikes of one image as bytes of eight channels, each times 8 (what an address needs), with columns of zeros on both sides,
/// for kernels that look sums up.
#[derive(Debug, Default)]
pub struct Plane {
    bytes: Vec<u16>,
    counts: Vec<u32>,
    steps: usize,
    rows: usize,
    line: usize,
}

/// What a plane is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Channels; the first is a multiple of 8.
    pub channels: Range<usize>,
    /// Columns of zeros on the left.
    pub left: usize,
    /// Columns in all.
    pub width: usize,
    /// How many output positions of a row read each column of the source.
    pub reach: Vec<u32>,
}

impl Plane {
    /// Copies the spikes.
    ///
    /// # Panics
    /// If the frame does not fit the spikes.
    pub fn fill(&mut self, isa: Isa, from: &Spikes<'_>, frame: &Frame) {
        let Range { start, end } = frame.channels;
        assert!(start.is_multiple_of(8) && start < end && end <= from.words * 64, "channels that exist");
        assert!(
            frame.width >= frame.left + from.size[1] && frame.reach.len() == from.size[1],
            "room for a row"
        );
        let groups = (end - start).div_ceil(8);
        (self.steps, self.rows, self.line) = (from.steps, from.size[0], frame.width * groups);
        self.bytes.resize(self.rows * self.steps * self.line, 0);
        self.counts.clear();
        isa.run(FillPlane { to: self, from, frame, groups });
    }

    /// One row at one step, `[width, groups]`; every number is 8 times a byte.
    #[inline(always)]
    pub fn row(&self, y: usize, t: usize) -> &[u16] {
        &self.bytes[(y * self.steps + t) * self.line..][..self.line]
    }

    /// Spikes of a row at a step, each as often as an output position of a row reads it.
    #[inline(always)]
    pub fn count(&self, y: usize, t: usize) -> u32 {
        self.counts[y * self.steps + t]
    }

    /// Numbers of a row.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Steps.
    pub fn steps(&self) -> usize {
        self.steps
    }
}

struct FillPlane<'a, 'b> {
    to: &'a mut Plane,
    from: &'a Spikes<'b>,
    frame: &'a Frame,
    groups: usize,
}

impl Job for FillPlane<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let FillPlane { to, from, frame, groups } = self;
        let (words, many) = (from.words, frame.channels.len());
        let begin = frame.left * groups;
        let end = begin + from.size[1] * groups;
        // bits of the last byte that are channels
        let last = 0xff >> ((8 - many % 8) % 8);
        for (i, line) in to.bytes.chunks_exact_mut(to.line).take(to.rows * to.steps).enumerate() {
            let row = from.row(i / to.steps, i % to.steps);
            line[..begin].fill(0);
            line[end..].fill(0);
            let line = &mut line[begin..end];
            let (first, shift) = (frame.channels.start / 64, frame.channels.start % 64);
            let mut count = 0;
            if words == 1 && groups == 2 {
                // the case worth a loop of its own: 16 channels
                let keep = last << 8 | 0xff;
                for ((to, &bits), reach) in line.chunks_exact_mut(2).zip(row).zip(&frame.reach) {
                    let bits = (bits >> shift) as u16 & keep;
                    to[0] = (bits & 0xff) << 3;
                    to[1] = bits >> 8 << 3;
                    count += bits.count_ones() * reach;
                }
            } else {
                for ((to, bits), reach) in
                    line.chunks_exact_mut(groups).zip(row.chunks_exact(words)).zip(&frame.reach)
                {
                    for (g, to) in to.iter_mut().enumerate() {
                        let bit = shift + 8 * g;
                        let byte = (bits[first + bit / 64] >> (bit % 64)) as u16 & 0xff;
                        *to = if g + 1 == groups { byte & last } else { byte } << 3;
                        count += to.count_ones() * reach;
                    }
                }
            }
            to.counts.push(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps of 4x5 positions of 100 channels.
    fn bits() -> Vec<u64> {
        let mut state = 7u64;
        (0..4 * 3 * 5 * 2)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state & state >> 17) & if i % 2 == 1 { (1 << 36) - 1 } else { !0 }
            })
            .collect()
    }

    fn spike(bits: &[u64], y: usize, t: usize, x: usize, c: usize) -> bool {
        bits[((y * 3 + t) * 5 + x) * 2 + c / 64] >> (c % 64) & 1 == 1
    }

    #[test]
    fn events_are_the_spikes() {
        let bits = bits();
        let spikes = Spikes { bits: &bits, steps: 3, size: [4, 5], words: 2 };
        let mut events = Events::default();
        for isa in Isa::available() {
            for channels in [0..100, 3..9, 60..75, 64..100, 8..72, 99..100] {
                let mut listing = listing(channels.clone(), None, [4, 5]);
                events.fill(isa, &spikes, &Listing { short: true, ..listing.clone() });
                let short: Vec<u32> = events.list::<u16>()[..events.used].iter().map(|&e| e.into()).collect();
                events.fill(isa, &spikes, &listing);
                assert_eq!(short, events.list::<u32>()[..events.used]);
                for (y, t, x) in all(4, 5) {
                    let want: Vec<u32> = (channels.clone())
                        .filter(|&c| spike(&bits, y, t, x, c))
                        .map(|c| (x * channels.len() + c - channels.start) as u32)
                        .collect();
                    let bounds = events.bounds(y, t);
                    let got = &events.list::<u32>()[bounds[x] as usize..bounds[x + 1] as usize];
                    assert_eq!(got, want, "{} {channels:?}", isa.name());
                }
                listing.order = Order::Columns;
                events.fill(isa, &spikes, &listing);
                for (t, x) in (0..3).flat_map(|t| (0..5).map(move |x| (t, x))) {
                    let bounds = events.column(x, t);
                    for (from, to) in (0..4).flat_map(|a| (a..=4).map(move |b| (a, b))) {
                        let want: Vec<u32> = (from..to)
                            .flat_map(|y| channels.clone().map(move |c| (y, c)))
                            .filter(|&(y, c)| spike(&bits, y, t, x, c))
                            .map(|(y, c)| (y * channels.len() + c - channels.start) as u32)
                            .collect();
                        let got = &events.list::<u32>()[bounds[from] as usize..bounds[to] as usize];
                        assert_eq!(got, want, "{} {channels:?}", isa.name());
                    }
                }
            }
        }
    }

    /// The spikes of the trains of a column, `(row, channel, step)`.
    fn spikes_of<T: Entry>(events: &Events, x: usize) -> Vec<(usize, usize, usize)> {
        let ([rows, _], ins, mut all) = (events.size(), events.ins(), vec![]);
        for group in 0..events.steps().div_ceil(TOGETHER) {
            for y in 0..rows {
                let (lists, count) = events.trains(x, group, y..y + 1);
                let list = |class: usize| &events.list::<T>()[lists[class].clone()];
                for s in 0..TOGETHER {
                    let numbers = list(s).iter().map(|e| e.number());
                    all.extend(numbers.map(|n| (n / ins, n % ins, group * TOGETHER + s)));
                    assert!(list(s).iter().all(|e| e.number() / ins == y));
                }
                let before = all.len();
                for (train, n) in list(TOGETHER).iter().map(|e| e.train()) {
                    assert!(n / ins == y && train.count_ones() > 1);
                    let fires = (0..TOGETHER).filter(|s| train >> s & 1 == 1);
                    all.extend(fires.map(|s| (y, n % ins, group * TOGETHER + s)));
                }
                assert_eq!(count, all.len() - before);
            }
            let (all_rows, _) = events.trains(x, group, 0..rows);
            let (last, _) = events.trains(x, group, rows - 1..rows);
            assert!(all_rows.iter().zip(last).all(|(all, last)| all.end == last.end));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn trains_are_the_spikes() {
        let mut state = 9u64;
        for (steps, some) in [(1, 1), (3, 2), (4, 1), (6, 2), (9, 3)] {
            let bits: Vec<u64> = (0..4 * steps * 5 * 2)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if some == 1 { state & state >> 17 & state >> 31 } else { state | state >> some }
                })
                .collect();
            let spikes = Spikes { bits: &bits, steps, size: [4, 5], words: 2 };
            let pool = Window { kernel: [2, 3], stride: [2, 2], padding: [0, 1] };
            let mut events = Events::default();
            for isa in Isa::available() {
                for channels in [0..100, 3..9, 60..75, 64..100, 8..72, 99..100, 0..128] {
                    for (pool, size) in [(None, [4, 5]), (Some(pool), [2, 3])] {
                        let listing =
                            Listing { order: Order::Trains, ..listing(channels.clone(), pool, size) };
                        for x in 0..size[1] {
                            let mut want = vec![];
                            for y in 0..size[0] {
                                let (ys, xs) = match pool {
                                    Some(pool) => (pool.under(0, y, 4), pool.under(1, x, 5)),
                                    None => (y..y + 1, x..x + 1),
                                };
                                for (sy, sx) in ys.flat_map(|sy| xs.clone().map(move |sx| (sy, sx))) {
                                    for (t, c) in
                                        (0..steps).flat_map(|t| channels.clone().map(move |c| (t, c)))
                                    {
                                        let word = bits[((sy * steps + t) * 5 + sx) * 2 + c / 64];
                                        if word >> (c % 64) & 1 == 1 {
                                            want.push((y, c - channels.start, t));
                                        }
                                    }
                                }
                            }
                            want.sort_unstable();
                            events.fill(isa, &spikes, &listing);
                            assert_eq!(spikes_of::<u32>(&events, x), want, "{} {channels:?}", isa.name());
                            events.fill(isa, &spikes, &Listing { short: true, ..listing.clone() });
                            assert_eq!(spikes_of::<u16>(&events, x), want, "{} {channels:?}", isa.name());
                        }
                    }
                }
            }
        }
    }

    fn listing(channels: Range<usize>, pool: Option<Window>, size: [usize; 2]) -> Listing {
        Listing { channels, pool, size, short: false, order: Order::Rows }
    }

    #[test]
    fn pooled_events_are_those_of_the_window() {
        let bits = bits();
        let spikes = Spikes { bits: &bits, steps: 3, size: [4, 5], words: 2 };
        let pool = Window { kernel: [2, 3], stride: [2, 2], padding: [0, 1] };
        let mut events = Events::default();
        let listing = listing(10..90, Some(pool), [2, 3]);
        let mut by_columns = Events::default();
        by_columns.fill(Isa::best(), &spikes, &Listing { order: Order::Columns, ..listing.clone() });
        events.fill(Isa::best(), &spikes, &listing);
        for (y, t, x) in all(2, 3) {
            let mut want = vec![];
            for sy in 2 * y..2 * y + 2 {
                for sx in (2 * x).saturating_sub(1)..(2 * x + 2).min(5) {
                    want.extend(
                        (10..90).filter(|&c| spike(&bits, sy, t, sx, c)).map(|c| (x * 80 + c - 10) as u32),
                    );
                }
            }
            let bounds = events.bounds(y, t);
            assert_eq!(events.list::<u32>()[bounds[x] as usize..bounds[x + 1] as usize], want);
            let bounds = by_columns.column(x, t);
            let got = &by_columns.list::<u32>()[bounds[y] as usize..bounds[y + 1] as usize];
            assert!(got.iter().zip(&want).all(|(a, b)| a + 80 * x as u32 == b + 80 * y as u32));
            assert_eq!(got.len(), want.len());
        }
    }

    #[test]
    fn planes_are_the_spikes_with_zeros_around() {
        let bits = bits();
        let spikes = Spikes { bits: &bits, steps: 3, size: [4, 5], words: 2 };
        let mut plane = Plane::default();
        for isa in Isa::available() {
            for channels in [0..100, 0..16, 8..21, 56..80, 64..80] {
                let reach: Vec<u32> = vec![1, 2, 3, 0, 5];
                let frame = Frame { channels: channels.clone(), left: 2, width: 9, reach: reach.clone() };
                plane.fill(isa, &spikes, &frame);
                let groups = channels.len().div_ceil(8);
                for (y, t) in (0..4).flat_map(|y| (0..3).map(move |t| (y, t))) {
                    let mut count = 0;
                    for (i, &byte) in plane.row(y, t).iter().enumerate() {
                        for bit in 0..8 {
                            let (x, c) = (i / groups, channels.start + i % groups * 8 + bit);
                            let inside = (2..7).contains(&x) && c < channels.end;
                            let want = inside && spike(&bits, y, t, x - 2, c);
                            assert_eq!(byte >> 3 >> bit & 1 == 1, want, "{} {channels:?}", isa.name());
                            count += if want { reach[x - 2] } else { 0 };
                        }
                    }
                    assert_eq!(plane.count(y, t), count);
                }
            }
        }
    }

    fn all(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..rows).flat_map(move |y| (0..3).flat_map(move |t| (0..columns).map(move |x| (y, t, x))))
    }
}
