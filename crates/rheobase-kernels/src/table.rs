//! Sums looked up: a byte of spikes says which of 256 partial sums of eight inputs is added.
//! In: a [`Plane`] of spikes, tables of 16 columns for every tap and group of eight channels. Out: `out[16] +=` (or `=`) the sum of
//! every step and position of an output row. For layers of few outputs: no lists, no branches, whatever the spikes are.

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::events::Plane;
use crate::lanes::{Element, SumLane};

/// Columns of a table.
pub const COLS: usize = 16;
/// Numbers of a table: its 256 sums for so many kernel columns, and some room, so that tables do not begin in the same cache sets.
const fn size(together: usize) -> usize {
    256 * COLS * together + 64
}
const SIZE: usize = size(1);
/// Kernel columns that lie together where a row is swept.
const SWEPT: usize = 3;

/// What tables are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Columns of the source from one output position to the next.
    pub stride: usize,
    /// Inputs.
    pub ins: usize,
}

impl Map {
    /// Whether a byte is added to three output columns at once, which stay in registers until no further byte reaches them.
    fn is_swept(&self) -> bool {
        self.kernel[0] <= 3 && self.kernel[1] == SWEPT && self.stride == 1 && self.ins.div_ceil(8) == 2
    }

    /// Bytes that the tables take.
    pub fn bytes<E>(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.ins.div_ceil(8) * SIZE * size_of::<E>()
    }
}

/// The tables of a dense map: for every kernel row, column and group of eight channels the sums of 256 bytes. Where it is swept,
/// the sums of the three columns follow one another.
#[derive(Debug)]
pub struct Tables<E> {
    data: Aligned<E>,
    map: Map,
    groups: usize,
}

impl<E: Element> Tables<E> {
    /// Sums the weights of a map; `weight(tap, channel, column)` is 0 beyond it.
    pub fn new(map: Map, weight: impl Fn(usize, usize, usize) -> i32) -> Self {
        let Map { kernel: [kh, kw], ins, .. } = map;
        let groups = ins.div_ceil(8);
        let together = if map.is_swept() { SWEPT } else { 1 };
        let mut data = Aligned::zeros(kh * kw / together * groups * size(together));
        for (i, table) in data.chunks_exact_mut(size(together)).enumerate() {
            let (first, group) = (i / groups * together, i % groups);
            let mut rows = vec![[[0; COLS]; 8]; together];
            for (k, rows) in rows.iter_mut().enumerate() {
                for (bit, row) in rows.iter_mut().enumerate() {
                    let c = group * 8 + bit;
                    *row = std::array::from_fn(|o| if c < ins { weight(first + k, c, o) } else { 0 });
                }
            }
            for (n, sums) in table.chunks_exact_mut(COLS).take(256 * together).enumerate() {
                let (byte, k) = (n / together, n % together);
                for (o, sum) in sums.iter_mut().enumerate() {
                    let set = (0..8).filter(|bit| byte >> bit & 1 == 1);
                    *sum = E::cut(set.fold(0, |s: i32, bit| s.wrapping_add(rows[k][bit][o])));
                }
            }
        }
        Tables { data, map, groups }
    }

    /// Tables of a kernel row, or bytes of its columns.
    fn line(&self) -> usize {
        self.map.kernel[1] * self.groups
    }
}

/// One row of output positions, at every step.
pub struct Row<'a, E> {
    /// Kernel rows that lie on the source: the source's row and the kernel row.
    pub taps: &'a [(usize, usize)],
    /// Spikes of the source, framed for the kernel's padding.
    pub plane: &'a Plane,
    /// Tables.
    pub tables: &'a Tables<E>,
    /// Output positions.
    pub positions: usize,
    /// Numbers of an output position; steps lie `positions · cols` apart.
    pub cols: usize,
    /// First column.
    pub to: usize,
    /// What every position begins with, `[16]`, in place of what `out` holds.
    pub begin: Option<&'a [E]>,
}

/// Adds the sums to `out`, `[steps, positions, cols]`, or writes them there where a row has its own beginning; returns how many
/// spikes were read, each as often as it was.
///
/// # Panics
/// If plane, tables or `out` are too small for what the row describes.
pub fn table_row<E: Element>(isa: Isa, row: &Row<'_, E>, out: &mut [E]) -> u64 {
    isa.run(TableRow { row, out })
}

struct TableRow<'a, 'b, E> {
    row: &'a Row<'b, E>,
    out: &'a mut [E],
}

impl<E: Element> Job for TableRow<'_, '_, E> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let TableRow { row, out } = self;
        let (plane, tables, line) = (row.plane, row.tables, row.tables.line());
        let last = (row.positions.max(1) - 1)
            .checked_mul(tables.map.stride)
            .and_then(|n| n.checked_mul(tables.groups));
        let end = last.and_then(|n| n.checked_add(line));
        assert!(end.is_some_and(|n| n <= plane.line()), "the plane is framed for the kernel");
        let line_out = row.positions.checked_mul(row.cols);
        let whole = line_out.and_then(|n| n.checked_mul(plane.steps()));
        let fits = row.cols.checked_sub(row.to).is_some_and(|n| COLS <= n);
        assert!(fits && whole.is_some_and(|n| n <= out.len()), "room for every sum");
        assert!(row.begin.is_none_or(|b| b.len() >= COLS), "a number for every column");
        assert!(row.taps.iter().all(|&(_, ky)| ky < tables.map.kernel[0]), "kernel rows that exist");
        let neighbours = row.taps.windows(2).all(|taps| taps[0].1 + 1 == taps[1].1);
        assert!(neighbours || !tables.map.is_swept(), "kernel rows next to each other");
        if row.positions == 0 {
            return 0;
        }
        let mut read = 0;
        for t in 0..plane.steps() {
            let out = &mut out[t * row.positions * row.cols..][..row.positions * row.cols];
            for &(y, _) in row.taps {
                read += u64::from(plane.count(y, t));
            }
            // SAFETY: all of it is checked above.
            unsafe {
                if tables.map.is_swept() {
                    match *row.taps {
                        [a, b, c] => sweep::<E::Narrow<V>, 3>(row, [a, b, c], t, out),
                        [a, b] => sweep::<E::Narrow<V>, 2>(row, [a, b], t, out),
                        [a] => sweep::<E::Narrow<V>, 1>(row, [a], t, out),
                        _ => sweep::<E::Narrow<V>, 0>(row, [], t, out),
                    }
                    continue;
                }
                match (row.taps, line) {
                    (&[a, b, c], 6) => step::<E::Narrow<V>, 3, 6>(row, [a, b, c], t, out),
                    (&[a, b], 6) => step::<E::Narrow<V>, 2, 6>(row, [a, b], t, out),
                    (&[a], 6) => step::<E::Narrow<V>, 1, 6>(row, [a], t, out),
                    (&[a], 2) => step::<E::Narrow<V>, 1, 2>(row, [a], t, out),
                    (taps, _) => {
                        if let Some(begin) = row.begin {
                            for out in out.chunks_exact_mut(row.cols) {
                                out[row.to..row.to + COLS].copy_from_slice(&begin[..COLS]);
                            }
                        }
                        for &tap in taps {
                            any::<E::Narrow<V>>(row, tap, line, t, out);
                        }
                    }
                }
            }
        }
        read
    }
}

/// Where in a table the sum for a byte lies, the plane's number being 8 times the byte.
#[inline(always)]
fn place<E>(number: u16) -> usize {
    usize::from(number) * (COLS * size_of::<E>() / 8)
}

/// One step of a kernel of K rows of N bytes each; N is even.
///
/// # Safety
/// The plane's rows are long enough for all positions, and the tables are there.
#[inline(always)]
unsafe fn step<L: SumLane, const K: usize, const N: usize>(
    row: &Row<'_, L::Element>,
    taps: [(usize, usize); K],
    t: usize,
    out: &mut [L::Element],
) {
    const { assert!(N.is_multiple_of(2), "whole loads") };
    let mut lines = [row.plane.row(0, t).as_ptr(); K];
    let mut tables = [row.tables.data.as_ptr(); K];
    for k in 0..K {
        lines[k] = row.plane.row(taps[k].0, t).as_ptr();
        // SAFETY: the kernel row is there.
        tables[k] = unsafe { tables[k].add(taps[k].1 * N * SIZE) };
    }
    let pace = row.tables.map.stride * row.tables.groups;
    // 16 columns are so many registers, the rest of the arrays is never made
    let mut begin = [L::splat(L::Element::default()); COLS];
    if let Some(numbers) = row.begin {
        for (r, lane) in begin.iter_mut().enumerate().take(COLS / L::LANES) {
            *lane = L::load(&numbers[r * L::LANES..]);
        }
    }
    for x in 0..row.positions {
        let out = &mut out[x * row.cols + row.to..][..COLS];
        let mut sums = begin;
        if row.begin.is_none() {
            for (r, sum) in sums.iter_mut().enumerate().take(COLS / L::LANES) {
                *sum = L::load(&out[r * L::LANES..]);
            }
        }
        for k in 0..K {
            // SAFETY: the kernel's bytes lie on the plane; a table has a sum for every byte.
            unsafe {
                let bytes = lines[k].add(x * pace);
                let mut some = 0u64;
                for n in 0..N {
                    // Several numbers are loaded at once: loads are what this loop waits for.
                    if n % 4 == 0 {
                        some = if N - n >= 4 {
                            u64::from_le(bytes.add(n).cast::<u64>().read_unaligned())
                        } else {
                            u32::from_le(bytes.add(n).cast::<u32>().read_unaligned()).into()
                        };
                    }
                    let number = (some >> (16 * (n % 4))) as u16;
                    let sum = tables[k].add(n * SIZE).byte_add(place::<L::Element>(number));
                    for (r, to) in sums.iter_mut().enumerate().take(COLS / L::LANES) {
                        *to = to.plus(L::read(sum.add(r * L::LANES)));
                    }
                }
            }
        }
        for (r, sum) in sums.iter().enumerate().take(COLS / L::LANES) {
            sum.store(&mut out[r * L::LANES..]);
        }
    }
}

/// One step of a kernel of K rows of three columns of two bytes each, walking along the row.
///
/// # Safety
/// The plane's rows are long enough for all positions, the tables are there, laid out for this, and so is the room for every sum.
/// The taps are neighbouring kernel rows.
#[inline(always)]
unsafe fn sweep<L: SumLane, const K: usize>(
    row: &Row<'_, L::Element>,
    taps: [(usize, usize); K],
    t: usize,
    out: &mut [L::Element],
) {
    const TABLE: usize = size(SWEPT);
    let mut lines = [std::ptr::null::<u16>(); K];
    for (line, tap) in lines.iter_mut().zip(taps) {
        *line = row.plane.row(tap.0, t).as_ptr();
    }
    // SAFETY: the kernel rows are there.
    let tables = unsafe { row.tables.data.as_ptr().add(taps.first().map_or(0, |tap| tap.1) * 2 * TABLE) };
    let zeros = [[L::splat(L::Element::default()); COLS]; SWEPT];
    let (out, cols, positions) = (out[row.to..].as_mut_ptr(), row.cols, row.positions);
    let (begin, next) = row.begin.map_or((out.cast_const(), cols), |begin| (begin.as_ptr(), 0));
    // The sums of output x - k are open[k]. Those of outputs that are none are read and written with some other's place, which
    // is written again later.
    let mut open = zeros;
    for x in 0..positions + SWEPT - 1 {
        open[2] = open[1];
        open[1] = open[0];
        // SAFETY: a position.
        unsafe {
            let from = begin.add(x.min(positions - 1) * next);
            for (r, sum) in open[0].iter_mut().enumerate().take(COLS / L::LANES) {
                *sum = L::read(from.add(r * L::LANES));
            }
        }
        // Added up before they are added to the sums, which would wait for one another.
        let mut parts = zeros;
        for (k, line) in lines.iter().enumerate() {
            // SAFETY: the column lies on the plane; a table has sums for every byte.
            unsafe {
                let both = u32::from_le(line.add(2 * x).cast::<u32>().read_unaligned());
                for (n, number) in [both as u16, (both >> 16) as u16].into_iter().enumerate() {
                    let from = tables.byte_add(SWEPT * place::<L::Element>(number));
                    for (o, part) in parts.iter_mut().enumerate() {
                        for (r, to) in part.iter_mut().enumerate().take(COLS / L::LANES) {
                            let sum = L::read(from.add((2 * k + n) * TABLE + o * COLS + r * L::LANES));
                            *to = if (k, n) == (0, 0) { sum } else { to.plus(sum) };
                        }
                    }
                }
            }
        }
        for (open, parts) in open.iter_mut().zip(&parts) {
            for (to, part) in open.iter_mut().zip(parts).take(COLS / L::LANES) {
                *to = to.plus(*part);
            }
        }
        // SAFETY: a position.
        unsafe {
            let to = out.add(x.saturating_sub(SWEPT - 1) * cols);
            for (r, sum) in open[SWEPT - 1].iter().enumerate().take(COLS / L::LANES) {
                sum.write(to.add(r * L::LANES));
            }
        }
    }
}

/// One step of one kernel row of any length.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn any<L: SumLane>(
    row: &Row<'_, L::Element>,
    (y, ky): (usize, usize),
    line: usize,
    t: usize,
    out: &mut [L::Element],
) {
    let bytes = row.plane.row(y, t);
    let tables = &row.tables.data[ky * line * SIZE..][..line * SIZE];
    let pace = row.tables.map.stride * row.tables.groups;
    for x in 0..row.positions {
        let out = &mut out[x * row.cols + row.to..][..COLS];
        let mut sums = [L::splat(L::Element::default()); COLS];
        for (r, sum) in sums.iter_mut().enumerate().take(COLS / L::LANES) {
            *sum = L::load(&out[r * L::LANES..]);
        }
        for (n, &byte) in bytes[x * pace..][..line].iter().enumerate() {
            // SAFETY: a table has a sum for every byte.
            unsafe {
                let sum = tables.as_ptr().add(n * SIZE).byte_add(place::<L::Element>(byte));
                for (r, to) in sums.iter_mut().enumerate().take(COLS / L::LANES) {
                    *to = to.plus(L::read(sum.add(r * L::LANES)));
                }
            }
        }
        for (r, sum) in sums.iter().enumerate().take(COLS / L::LANES) {
            sum.store(&mut out[r * L::LANES..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Frame, Spikes};

    /// Kernels of all shapes over 3 rows of 7 positions of 21 channels, 2 steps, against the sum written out.
    #[test]
    fn every_version_looks_up_the_sums_of_the_spikes() {
        let mut state = 5u64;
        let bits: Vec<u64> = (0..3 * 2 * 7)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state & state >> 17
            })
            .collect();
        let spikes = Spikes { bits: &bits, steps: 2, size: [3, 7], words: 1 };
        let weight = |tap: usize, c: usize, o: usize| ((tap * 131 + c * 17 + o * 5) % 401) as i32 - 200;
        for isa in Isa::available() {
            for (kernel, channels, stride, left) in
                [([3, 3], 0..16, 1, 1), ([3, 3], 8..24, 2, 1), ([1, 1], 0..16, 2, 0), ([2, 5], 8..29, 1, 2)]
            {
                let ins = channels.len();
                let positions = (7 + 2 * left - kernel[1]) / stride + 1;
                let reach = (0..7)
                    .map(|x| {
                        let read = |o: usize| (o * stride..o * stride + kernel[1]).contains(&(x + left));
                        (0..positions).filter(|&o| read(o)).count() as u32
                    })
                    .collect();
                let width = (7 + left).max((positions - 1) * stride + kernel[1]);
                let mut plane = Plane::default();
                plane.fill(isa, &spikes, &Frame { channels: channels.clone(), left, width, reach });
                let tables = Tables::<i16>::new(Map { kernel, stride, ins }, weight);
                for taps in [vec![(0, 0), (1, 1), (2, 2)], vec![(2, 1)], vec![(0, 0), (2, 1)], vec![]] {
                    let taps: Vec<_> = taps.into_iter().filter(|t| t.1 < kernel[0]).collect();
                    for begin in [None, Some(&[7i16; 16][..])] {
                        let (cols, to) = (32, 16);
                        let (plane, tables, taps) = (&plane, &tables, &taps[..]);
                        let row = Row { taps, plane, tables, positions, cols, to, begin };
                        let mut out = vec![3i16; 2 * positions * cols];
                        let read = table_row(isa, &row, &mut out);
                        let mut count = 0;
                        for (i, &got) in out.iter().enumerate() {
                            let (t, x, o) = (i / cols / positions, i / cols % positions, i % cols);
                            let mut want = if o < to { 3 } else { begin.map_or(3, |b| i32::from(b[0])) };
                            for (&(y, ky), kx) in
                                taps.iter().flat_map(|t| (0..kernel[1]).map(move |k| (t, k)))
                            {
                                let at = (x * stride + kx).wrapping_sub(left);
                                let fired = |c: usize| {
                                    at < 7 && bits[(y * 2 + t) * 7 + at] >> (channels.start + c) & 1 == 1
                                };
                                for c in (0..ins).filter(|&c| fired(c)) {
                                    count += u64::from(o == 0);
                                    want += if o < to { 0 } else { weight(ky * kernel[1] + kx, c, o - to) };
                                }
                            }
                            assert_eq!(i32::from(got), want, "{} {kernel:?}", isa.name());
                        }
                        assert_eq!(read, count);
                    }
                }
            }
        }
    }
}
