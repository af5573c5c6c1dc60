//! Spikes as lists of events, row by row, for the gathering kernels.
//! In: packed spikes of a stage. Out: for each step and row the indices x·channels + channel of its spikes, and where each
//! position's begin. Pooling counts here: a window's spikes are listed under the one position they are pooled to.

use crate::integer::{Source, Term, Window};
use crate::network::shape::Shape;
use rheobase_kernels::gather::SLACK;
use std::ops::Range;

/// Which events: some channels of a stage, perhaps pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The stage.
    pub stage: usize,
    channels: Range<usize>,
    pool: Option<Window>,
    /// Rows and columns after pooling.
    pub size: [usize; 2],
}

impl View {
    /// What a term reads.
    pub fn of(term: &Term) -> Option<View> {
        let Source::Stage(stage) = term.source else { return None };
        Some(View {
            stage,
            channels: term.channels.clone(),
            pool: term.pool,
            size: [term.from[1], term.from[2]],
        })
    }
}

/// The events of a view of one image.
#[derive(Debug, Default)]
pub struct Events {
    /// x·channels + channel.
    pub list: Vec<u32>,
    /// `[steps][rows][columns + 1]`: beginning of each position, then the end of the row.
    pub index: Vec<u32>,
}

impl Events {
    /// Lists the spikes of `bits`, `[steps][positions][words]`, of a stage of shape `from`.
    pub fn fill(&mut self, view: &View, bits: &[u64], steps: usize, from: Shape) {
        let words = from[0].div_ceil(64);
        let step = from[1] * from[2] * words;
        let ins = view.channels.len() as u32;
        self.list.clear();
        self.index.clear();
        for t in 0..steps {
            let bits = &bits[t * step..(t + 1) * step];
            for y in 0..view.size[0] {
                for x in 0..view.size[1] {
                    self.index.push(self.list.len() as u32);
                    let base = x as u32 * ins;
                    match view.pool {
                        None => self.push(&bits[(y * from[2] + x) * words..][..words], &view.channels, base),
                        Some(pool) => {
                            let (ys, xs) = (under(&pool, 0, y, from[1]), under(&pool, 1, x, from[2]));
                            for at in ys.flat_map(|y| xs.clone().map(move |x| y * from[2] + x)) {
                                self.push(&bits[at * words..][..words], &view.channels, base);
                            }
                        }
                    }
                }
                self.index.push(self.list.len() as u32);
            }
        }
        self.list.extend([0; SLACK]);
    }

    #[inline]
    fn push(&mut self, words: &[u64], channels: &Range<usize>, base: u32) {
        for w in channels.start / 64..channels.end.div_ceil(64) {
            let mut word = words[w];
            if channels.start > w * 64 {
                word &= !0 << (channels.start - w * 64);
            }
            if channels.end < w * 64 + 64 {
                word &= (1 << (channels.end - w * 64)) - 1;
            }
            let first = base.wrapping_add((w * 64) as u32).wrapping_sub(channels.start as u32);
            while word != 0 {
                self.list.push(first.wrapping_add(word.trailing_zeros()));
                word &= word - 1;
            }
        }
    }
}

/// Rows (axis 0) or columns (1) of the source under window `o`.
fn under(pool: &Window, axis: usize, o: usize, size: usize) -> Range<usize> {
    let begin = o * pool.stride[axis];
    let end = (begin + pool.kernel[axis]).saturating_sub(pool.padding[axis]).min(size);
    begin.saturating_sub(pool.padding[axis]).min(end)..end
}
