//! Spikes across positions: 16 channels of a position in one number, the positions of a layer one after the other.
//! In: packed spikes. Out: [`Flat`], planes with zeros before and behind, so that a tap of a convolution is a distance: the
//! numbers under all outputs, `LANES` at a time, are one load.
//!
//! Rows have the length of the *output's*. Where a convolution has a stride, every phase (row and column modulo the stride)
//! has a plane of its own; then its taps, too, are distances.

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::events::{Spikes, Window};
use std::ops::Range;

/// Channels of a number.
pub const GROUP: usize = 16;
/// Numbers behind the last plane that a load may take along.
const SLACK: usize = 64;

/// How spikes are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Columns of the output, and of a row here.
    pub width: usize,
    /// Vertical, horizontal steps of the output over the source.
    pub stride: [usize; 2],
    /// The phases there are, `[row, column]` modulo the stride.
    pub phases: Vec<[usize; 2]>,
    /// The largest distance of a tap.
    pub reach: usize,
}

impl Raster {
    /// Makes it enough for another of the same width and stride.
    pub fn merge(&mut self, other: &Raster) {
        let new = other.phases.iter().filter(|p| !self.phases.contains(p)).copied();
        let new: Vec<_> = new.collect();
        self.phases.extend(new);
        self.reach = self.reach.max(other.reach);
    }
}

/// The spikes of one image laid out.
#[derive(Debug, Default)]
pub struct Flat {
    /// `[steps, phases, groups, plane]`.
    numbers: Aligned<u16>,
    steps: usize,
    phases: usize,
    groups: usize,
    plane: usize,
    reach: usize,
    size: [usize; 2],
    channels: usize,
    /// Spikes of all steps, where they were counted.
    spikes: Option<u64>,
}

impl Flat {
    /// Lays the spikes of `channels` out.
    ///
    /// # Panics
    /// If there are not so many, or a row of the raster is shorter than one of a phase.
    pub fn fill(&mut self, isa: Isa, from: &Spikes<'_>, channels: usize, raster: &Raster) {
        let [height, width] = from.size;
        let [down, right] = raster.stride;
        assert!(width.div_ceil(right) <= raster.width, "a row holds every column of a phase");
        assert!(from.bits.len() >= height * width * from.steps * from.words, "spikes of every position");
        assert!(channels <= from.words * 64, "channels that exist");
        self.resize(from.steps, height.div_ceil(down), channels, raster);
        isa.run(Fill { to: self, from, raster });
    }

    fn resize(&mut self, steps: usize, rows: usize, channels: usize, raster: &Raster) {
        (self.steps, self.phases, self.groups) = (steps, raster.phases.len(), channels.div_ceil(GROUP));
        (self.reach, self.size) = (raster.reach, [rows, raster.width]);
        (self.channels, self.spikes) = (channels, None);
        // as many zeros behind, and what the last load of an output of any height takes along
        self.plane = (2 * raster.reach + rows * raster.width + SLACK).next_multiple_of(SLACK / 2);
        self.numbers.resize(self.steps * self.phases * self.groups * self.plane);
    }

    /// Makes room for spikes that are put in block by block, on a raster of one phase.
    ///
    /// # Panics
    /// If it has others.
    pub fn begin(&mut self, steps: usize, rows: usize, channels: usize, raster: &Raster) {
        assert!(raster.phases == [[0, 0]] && raster.stride == [1, 1], "the layer as it is");
        self.resize(steps, rows, channels, raster);
        let end = self.reach + rows * raster.width;
        for plane in self.numbers.chunks_exact_mut(self.plane) {
            plane[..self.reach].fill(0);
            plane[end..].fill(0);
        }
    }

    /// Puts in the spikes of some positions, those of the layer in order. What lies beyond the last one must be 0.
    ///
    /// # Panics
    /// If they are not on the layer.
    pub fn put(&mut self, from: &Packing<'_>) {
        let Packing { numbers, lanes, steps, groups, first, positions, .. } = *from;
        assert!(lanes <= 32 && steps == self.steps && groups == self.groups, "spikes of the layer");
        let mut numbers = numbers.chunks_exact(32);
        for v in 0..positions.div_ceil(lanes) {
            let at = self.reach + first + v * lanes;
            for (group, t) in (0..groups).flat_map(|g| (0..steps).map(move |t| (g, t))) {
                let plane = (t * groups + group) * self.plane;
                let to = &mut self.numbers[plane..plane + self.plane][at..][..lanes];
                let from = numbers.next().expect("spikes of every position");
                match (<&mut [u16; 32]>::try_from(&mut *to), <&[u16; 32]>::try_from(from)) {
                    (Ok(to), Ok(from)) => *to = *from,
                    _ => to.copy_from_slice(&from[..lanes]),
                }
            }
        }
    }

    /// Takes over some positions of another of the same spikes.
    ///
    /// # Panics
    /// If it is laid out otherwise, or they are not on the layer.
    pub fn join(&mut self, other: &Flat, positions: &Range<usize>) {
        let same = (self.steps, self.groups, self.plane, self.reach)
            == (other.steps, other.groups, other.plane, other.reach);
        assert!(same && positions.end <= self.size[0] * self.size[1], "positions of the layer");
        let at = self.reach + positions.start..self.reach + positions.end;
        let planes = self.numbers.chunks_exact_mut(self.plane).zip(other.numbers.chunks_exact(self.plane));
        for (to, from) in planes {
            to[at.clone()].copy_from_slice(&from[at.clone()]);
        }
    }

    /// Says how many spikes were put in, so that they need not be counted again.
    pub fn end(&mut self, spikes: u64) {
        self.spikes = Some(spikes);
    }

    /// Adds the spikes of some positions at every step to `to`; on a raster of one phase.
    ///
    /// # Panics
    /// If they are not on the layer.
    pub fn count(&self, isa: Isa, positions: &Range<usize>, to: &mut [u64]) {
        assert!(self.phases == 1 && positions.end <= self.size[0] * self.size[1], "positions of the layer");
        isa.run(CountSteps { flat: self, positions, to });
    }

    /// Numbers of channels `16·group ..` at a step, from `reach` before position 0 on.
    #[inline(always)]
    pub fn plane(&self, step: usize, phase: usize, group: usize) -> &[u16] {
        let at = (step * self.phases + phase) * self.groups + group;
        &self.numbers[at * self.plane..][..self.plane]
    }

    /// The same of every step: where that of step 0 begins, and how far apart they are.
    #[inline(always)]
    pub fn steps_of(&self, phase: usize, group: usize) -> (&[u16], usize) {
        let at = phase * self.groups + group;
        (&self.numbers[at * self.plane..], self.phases * self.groups * self.plane)
    }

    /// Steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Rows and columns of a plane.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Groups of 16 channels.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Zeros before position 0.
    pub fn reach(&self) -> usize {
        self.reach
    }
}

struct CountSteps<'a> {
    flat: &'a Flat,
    positions: &'a Range<usize>,
    to: &'a mut [u64],
}

impl Job for CountSteps<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let CountSteps { flat, positions, to } = self;
        let at = flat.reach + positions.start..flat.reach + positions.end;
        for (step, count) in to.iter_mut().enumerate().take(flat.steps) {
            for group in 0..flat.groups {
                *count += spikes(&flat.plane(step, 0, group)[at.clone()], u16::MAX);
            }
        }
    }
}

struct Fill<'a, 'b> {
    to: &'a mut Flat,
    from: &'a Spikes<'b>,
    raster: &'a Raster,
}

impl Job for Fill<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Fill { to, from, raster } = self;
        let (words, columns, plane) = (from.words, to.size[1], to.plane);
        let ([height, width], [down, right]) = (from.size, raster.stride);
        for step in 0..to.steps {
            for (i, &[py, px]) in raster.phases.iter().enumerate() {
                for group in 0..to.groups {
                    let (word, shift) = (group / 4, group % 4 * 16);
                    let at = ((step * to.phases + i) * to.groups + group) * plane;
                    let line = &mut to.numbers[at..at + plane];
                    line[..to.reach].fill(0);
                    let real = width.saturating_sub(px).div_ceil(right).min(columns);
                    for (i, row) in line[to.reach..].chunks_exact_mut(columns).take(to.size[0]).enumerate() {
                        let y = py + i * down;
                        row[real..].fill(0);
                        let row = &mut row[..real];
                        if y >= height {
                            row.fill(0);
                        } else if words == 1 && right == 1 {
                            let bits = &from.row(y, step)[px..];
                            // in pieces, so that no call is made for a row
                            let ((some, left), (bits, last)) =
                                (row.as_chunks_mut::<8>(), bits.as_chunks::<8>());
                            for (to, bits) in some.iter_mut().zip(bits) {
                                *to = bits.map(|bits| (bits >> shift) as u16);
                            }
                            for (to, bits) in left.iter_mut().zip(last) {
                                *to = (bits >> shift) as u16;
                            }
                        } else {
                            let bits = from.row(y, step);
                            for (x, to) in row.iter_mut().enumerate() {
                                *to = (bits[(px + x * right) * words + word] >> shift) as u16;
                            }
                        }
                    }
                    line[to.reach + to.size[0] * columns..].fill(0);
                }
            }
        }
    }
}

/// The taps of a convolution as distances on a raster.
#[derive(Debug, Clone)]
pub struct Taps {
    /// Rows and columns of the output.
    pub size: [usize; 2],
    /// The raster that they need.
    pub raster: Raster,
    taps: Vec<Tap>,
    /// For every kind of tap and the columns of a row and some beyond, which begin anew, whether they read one of the source.
    edges: Vec<Vec<u64>>,
    /// Phase of every kernel row, and how many rows further down it reads.
    rows: Vec<(usize, isize)>,
    reads: Vec<Reads>,
    /// Rows of a phase.
    height: usize,
    /// For every phase of rows how often all rows of the output read each of its rows.
    runs: Vec<Vec<Run>>,
}

/// Rows of a phase that follow one another, and how often they are read.
type Run = (Range<usize>, u64);

/// How often the columns of a phase are read by a row of the output.
#[derive(Debug, Clone)]
struct Reads {
    most: u32,
    /// Columns that are read less often, and how much less.
    less: Vec<(usize, u32)>,
}

#[derive(Debug, Clone)]
struct Tap {
    phase: [usize; 2],
    distance: isize,
    edge: usize,
}

impl Taps {
    /// The taps of a kernel over a source of `[height, width]` with an output of `size`, in order; `None` where the output has
    /// fewer columns or more rows than the source has (divided by the stride), so that a row cannot hold them.
    pub fn new(window: &Window, dilation: [usize; 2], source: [usize; 2], size: [usize; 2]) -> Option<Taps> {
        let ([height, width], stride) = (source, window.stride);
        let fits = width.div_ceil(stride[1]) <= size[1] && size[0] <= height.div_ceil(stride[0]);
        if !fits || size.contains(&0) {
            return None;
        }
        let place = |axis: usize, k: usize| -> Option<(usize, isize)> {
            let at =
                isize::try_from(k * dilation[axis]).ok()? - isize::try_from(window.padding[axis]).ok()?;
            let stride = isize::try_from(stride[axis]).ok()?;
            Some((at.rem_euclid(stride) as usize, at.div_euclid(stride)))
        };
        let columns = |px: usize| width.saturating_sub(px).div_ceil(stride[1]) as isize;
        let (mut taps, mut kinds, mut phases, mut rows) = (vec![], vec![], vec![], vec![]);
        let mut reads = vec![vec![0; size[1]]; stride[1]];
        for (ky, kx) in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x))) {
            let ((py, down), (px, right)) = (place(0, ky)?, place(1, kx)?);
            let kind = (right, columns(px));
            let edge = kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            if !phases.contains(&[py, px]) {
                phases.push([py, px]);
            }
            if ky == 0 {
                for x in (0..size[1] as isize).map(|x| x + right).filter(|&x| x >= 0 && x < kind.1) {
                    reads[px][x as usize] += 1;
                }
            }
            let distance = down.checked_mul(size[1] as isize)?.checked_add(right)?;
            if kx == 0 {
                rows.push((py, down));
            }
            taps.push(Tap { phase: [py, px], distance, edge });
        }
        let edges = kinds.iter().map(|&(right, columns)| {
            let mut bits = vec![0u64; size[1].div_ceil(64) + 2];
            for p in 0..64 * bits.len() {
                let x = (p % size[1]) as isize + right;
                bits[p / 64] |= u64::from(x >= 0 && x < columns) << (p % 64);
            }
            bits
        });
        let edges = edges.collect();
        let reads = reads.into_iter().map(|reads| {
            let most = reads.iter().copied().max().unwrap_or(0);
            let less = reads.iter().map(|r| most - r).enumerate().filter(|(_, less)| *less > 0);
            Reads { most, less: less.collect() }
        });
        let reads = reads.collect();
        let reach = taps.iter().map(|t| t.distance.unsigned_abs()).max().unwrap_or(0);
        let height = height.div_ceil(stride[0]);
        let runs = (0..stride[0]).map(|py| runs(&rows, py, height, &(0..size[0]))).collect();
        let raster = Raster { width: size[1], stride, phases, reach };
        Some(Taps { size, raster, taps, edges, rows, reads, height, runs })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// A tap's phase, which `raster` must have, its distance and the kind of its column.
    #[inline(always)]
    pub(crate) fn tap(&self, tap: usize, raster: &Raster) -> (usize, isize, usize) {
        let Tap { phase, distance, edge } = self.taps[tap];
        let phase = raster.phases.iter().position(|p| *p == phase).expect("a plane of every phase");
        (phase, distance, edge)
    }

    /// How many kinds of columns they have.
    pub(crate) fn kinds(&self) -> usize {
        self.edges.len()
    }

    /// Which of the positions from column `x` on read a column of the source.
    #[inline(always)]
    pub(crate) fn edge(&self, kind: usize, x: usize) -> u32 {
        let bits = &self.edges[kind];
        let (low, high) = (bits[x / 64], bits[x / 64 + 1]);
        ((u128::from(high) << 64 | u128::from(low)) >> (x % 64)) as u32
    }

    /// Spikes of some channels that rows `ys` of the output read, each as often as it is read.
    pub fn count(
        &self,
        isa: Isa,
        flat: &Flat,
        raster: &Raster,
        channels: &Range<usize>,
        ys: &Range<usize>,
    ) -> u64 {
        isa.run(Count { taps: self, flat, raster, channels, ys })
    }
}

struct Count<'a> {
    taps: &'a Taps,
    flat: &'a Flat,
    raster: &'a Raster,
    channels: &'a Range<usize>,
    ys: &'a Range<usize>,
}

impl Job for Count<'_> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let Count { taps, flat, raster, channels, ys } = self;
        let columns = flat.size[1];
        let mut count = 0;
        for (i, &[py, px]) in raster.phases.iter().enumerate() {
            let Reads { most, less } = &taps.reads[px];
            let some;
            let runs = if flat.size[0] == taps.height && *ys == (0..taps.size[0]) {
                &taps.runs[py]
            } else {
                some = runs(&taps.rows, py, flat.size[0], ys);
                &some
            };
            // Where all spikes are counted already, it is enough to look at rows that are read less often than others.
            let all = flat.spikes.filter(|_| flat.phases == 1 && *channels == (0..flat.channels));
            let often = all.map_or(0, |_| runs.iter().map(|run| run.1).max().unwrap_or(0));
            let mut reads = all.unwrap_or(0) * often * u64::from(*most);
            for (ys, n) in runs {
                let n = *n;
                if n == 0 && often == 0 || *most == 0 {
                    continue;
                }
                let (mut rows_spikes, mut seldom) = (0u64, 0u64);
                for group in channels.start / GROUP..channels.end.div_ceil(GROUP) {
                    let keep = kept(channels, group);
                    for step in 0..flat.steps {
                        let plane = &flat.plane(step, i, group)[flat.reach..];
                        let rows = &plane[ys.start * columns..ys.end * columns];
                        if n != often {
                            rows_spikes += spikes(rows, keep);
                        }
                        for &(x, less) in less {
                            let column = rows[x..].iter().step_by(columns);
                            let spikes = column.map(|x| (x & keep).count_ones()).sum::<u32>();
                            seldom += u64::from(spikes) * u64::from(less);
                        }
                    }
                }
                // the sum of these is not negative
                reads =
                    reads.wrapping_add(n.wrapping_sub(often).wrapping_mul(rows_spikes * u64::from(*most)));
                reads = reads.wrapping_sub(n * seldom);
            }
            count += reads;
        }
        count
    }
}

/// The rows of a phase by how often rows `ys` of the output read them.
fn runs(rows: &[(usize, isize)], py: usize, height: usize, ys: &Range<usize>) -> Vec<Run> {
    let times = |y: usize| {
        let of =
            |r: &&(usize, isize)| r.0 == py && y.checked_add_signed(-r.1).is_some_and(|y| ys.contains(&y));
        rows.iter().filter(of).count() as u64
    };
    let mut runs: Vec<Run> = vec![];
    for y in 0..height {
        match (runs.last_mut(), times(y)) {
            (Some((run, n)), times) if *n == times => run.end = y + 1,
            (_, times) => runs.push((y..y + 1, times)),
        }
    }
    runs
}

/// Spikes of the channels in `keep`, four numbers at a time.
#[inline(always)]
pub fn spikes(numbers: &[u16], keep: u16) -> u64 {
    let (four, rest) = numbers.as_chunks::<4>();
    let keep_four = u64::from(keep) * 0x0001_0001_0001_0001;
    let mut count = 0;
    for four in four {
        // SAFETY: as many bytes, and any of them make a number.
        let four = unsafe { std::mem::transmute::<[u16; 4], u64>(*four) };
        count += u64::from((four & keep_four).count_ones());
    }
    for number in rest {
        count += u64::from((number & keep).count_ones());
    }
    count
}

/// Bits of a group that are channels of a range.
pub(crate) fn kept(channels: &Range<usize>, group: usize) -> u16 {
    let bits = |n: usize| if n >= GROUP { u16::MAX } else { (1 << n) - 1 };
    let begin = group * GROUP;
    bits(channels.end.saturating_sub(begin)) & !bits(channels.start.saturating_sub(begin))
}

/// The spikes of some positions and where they go.
pub struct Packing<'a> {
    /// `[vectors, groups, steps, 32]`, channel c of a position in bit c % 16 of the number of group c / 16.
    pub numbers: &'a [u16],
    /// Positions of a vector.
    pub lanes: usize,
    /// Steps.
    pub steps: usize,
    /// Groups of 16 channels.
    pub groups: usize,
    /// The first position, counted from the first row of where they go.
    pub first: usize,
    /// Positions that exist.
    pub positions: usize,
    /// Columns of the layer.
    pub width: usize,
}

/// Writes spikes packed, `[rows, steps, width, words]`; every word of the positions is written.
///
/// # Panics
/// If numbers or `bits` are too few.
pub fn pack(isa: Isa, from: &Packing<'_>, bits: &mut [u64]) {
    isa.run(Pack { from, bits });
}

struct Pack<'a, 'b> {
    from: &'a Packing<'b>,
    bits: &'a mut [u64],
}

impl Job for Pack<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Pack { from, bits } = self;
        let Packing { numbers, lanes, steps, groups, first, positions, width } = *from;
        let words = groups.div_ceil(4);
        let (mut p, end) = (0, first + positions);
        let mut at = first;
        while at < end {
            // positions of a vector that lie in one row
            let (y, x, lane) = (at / width, at % width, p % lanes);
            let n = (width - x).min(lanes - lane).min(end - at);
            let vector = &numbers[p / lanes * groups * steps * 32..][..groups * steps * 32];
            for t in 0..steps {
                let to = &mut bits[((y * steps + t) * width + x) * words..][..n * words];
                let group = |g: usize| &vector[(g * steps + t) * 32 + lane..][..n];
                if words == 1 {
                    match groups {
                        1 => join([group(0)], to),
                        2 => join([group(0), group(1)], to),
                        3 => join([group(0), group(1), group(2)], to),
                        _ => join([group(0), group(1), group(2), group(3)], to),
                    }
                } else {
                    to.fill(0);
                    for g in 0..groups {
                        for (to, &number) in to[g / 4..].iter_mut().step_by(words).zip(group(g)) {
                            *to |= u64::from(number) << (g % 4 * GROUP);
                        }
                    }
                }
            }
            (p, at) = (p + n, at + n);
        }
    }
}

/// Words of N groups.
#[inline(always)]
fn join<const N: usize>(groups: [&[u16]; N], to: &mut [u64]) {
    let word = |i: usize| {
        let mut word = 0;
        for (g, group) in groups.iter().enumerate() {
            word |= u64::from(group[i]) << (g * GROUP);
        }
        word
    };
    let n = to.len();
    assert!(groups.iter().all(|g| g.len() == n), "a number for every word");
    for (i, to) in to.iter_mut().enumerate() {
        *to = word(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_spikes_are_those_that_were_laid_out() {
        let (height, width, steps) = (5, 7, 3);
        let mut state = 3u64;
        for channels in [5usize, 16, 37, 64, 90] {
            let words = channels.div_ceil(64);
            let mut bits = vec![0u64; height * steps * width * words];
            for (i, bits) in bits.iter_mut().enumerate() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let real = (channels - i % words * 64).min(64);
                *bits = state & state >> 13 & u64::MAX >> (64 - real);
            }
            for isa in Isa::available() {
                let spikes = Spikes { bits: &bits, steps, size: [height, width], words };
                let raster = Raster { width, stride: [1, 1], phases: vec![[0, 0]], reach: 8 };
                let (mut laid, mut put) = (Flat::default(), Flat::default());
                laid.fill(isa, &spikes, channels, &raster);
                put.begin(steps, height, channels, &raster);
                let (lanes, groups) = (16, channels.div_ceil(GROUP));
                let mut back = vec![u64::MAX; bits.len()];
                for first in (0..height * width).step_by(2 * lanes) {
                    let positions = (height * width - first).min(2 * lanes);
                    let vectors = positions.div_ceil(lanes);
                    let mut numbers = vec![0; vectors * groups * steps * 32];
                    for (i, to) in numbers.chunks_exact_mut(32).enumerate() {
                        let (v, g, t) = (i / steps / groups, i / steps % groups, i % steps);
                        let at = 8 + first + v * lanes;
                        let n = lanes.min(positions - v * lanes);
                        to[..n].copy_from_slice(&laid.plane(t, 0, g)[at..][..n]);
                    }
                    let from = Packing { numbers: &numbers, lanes, steps, groups, first, positions, width };
                    pack(isa, &from, &mut back);
                    put.put(&from);
                }
                assert_eq!(back, bits, "{} {channels}", isa.name());
                let (mut counts, mut parts) = (vec![0; steps], vec![0; steps]);
                spikes.count(isa, &mut counts);
                for positions in [0..17, 17..height * width] {
                    put.count(isa, &positions, &mut parts);
                }
                let of_step = |t: usize| bits.chunks_exact(width * words).skip(t).step_by(steps).flatten();
                let want =
                    (0..steps).map(|t| of_step(t).map(|word| u64::from(word.count_ones())).sum::<u64>());
                assert_eq!(counts, want.collect::<Vec<_>>(), "{} {channels}", isa.name());
                assert_eq!(parts, counts, "{} {channels}", isa.name());
                for (t, g) in (0..steps).flat_map(|t| (0..groups).map(move |g| (t, g))) {
                    assert_eq!(put.plane(t, 0, g), laid.plane(t, 0, g), "{} {channels}", isa.name());
                }
            }
        }
    }
}
