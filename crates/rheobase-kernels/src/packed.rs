//! Weights of dense maps for kernels that add the rows of spikes.
//! In: `[rows, outs]`, row (tap, input). Out: blocks of columns, each with its rows in the order in which they are read.

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::events::Order;
use crate::lanes::{Element, SumLane};
use std::hint::black_box;

/// Columns of weight matrices and lengths of rows are multiples of this.
pub const COLS: usize = 16;

/// Weights of a dense map, cut into blocks of columns.
#[derive(Debug)]
pub struct Packed<E> {
    isa: Isa,
    data: Aligned<E>,
    blocks: Vec<Block>,
    order: Order,
    slots: usize,
    together: usize,
    ins: usize,
    cols: usize,
}

/// Some columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// First column.
    pub first: usize,
    /// Registers; 0 for 16 columns in narrow lanes.
    pub registers: usize,
    /// Columns.
    pub width: usize,
    /// Where its weights begin.
    at: usize,
}

/// What rows stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Rows and columns of the convolution's kernel.
    pub kernel: [usize; 2],
    /// Inputs.
    pub ins: usize,
    /// How events are listed for them; other than by rows the columns of the kernel are read together, as [`crate::sweep`] does.
    pub order: Order,
}

impl<E: Element> Packed<E> {
    /// Packs `[kernel rows · kernel columns · ins, outs]`; columns are filled up to a multiple of [`COLS`].
    pub fn new(isa: Isa, rows: Rows, outs: usize, weight: impl Fn(usize, usize) -> E) -> Self {
        let Rows { kernel: [kh, kw], ins, order } = rows;
        let swept = order != Order::Rows;
        let together = if swept { kw } else { 1 };
        let cols = outs.next_multiple_of(COLS);
        let slots = kh * kw / together * ins;
        let (lanes, narrow) = isa.run(Widths::<E>(std::marker::PhantomData));
        let mut data = Aligned::zeros((slots + 1) * together * cols);
        let (mut blocks, mut first, mut at) = (vec![], 0, 0);
        while first < cols {
            let fits = |n: usize| {
                let bytes = n * lanes * size_of::<E>();
                let least = bytes <= UNIT.max(lanes * size_of::<E>());
                // slots of a block are counted in 16 bits of 8 bytes, if they can be; those that are not counted stay near
                let places = reach(slots, together * bytes);
                n * lanes <= cols - first && (least || places <= if swept { NEAR } else { SHORT })
            };
            // sums of trains are open at all their steps
            let some = if order == Order::Trains { &[2, 1][..] } else { &[4, 2, 1] };
            let registers = some.iter().copied().find(|&n| fits(n)).unwrap_or(0);
            let width = if registers > 0 { registers * lanes } else { narrow.max(1) };
            blocks.push(Block { first, registers, width, at });
            for row in 0..slots * together {
                // row (ky, kx, input); slot (ky, input) where the columns are together
                let place = match (row / ins / together, row / ins % together, row % ins) {
                    (tap, kx, input) if swept => (tap * ins + input) * together + kx,
                    _ => row,
                };
                for c in (first..first + width).take_while(|&c| c < outs) {
                    data[at + place * width + c - first] = weight(row, c);
                }
            }
            at += (slots + 1) * together * width;
            first += width;
        }
        Packed { isa, data, blocks, order, slots, together, ins, cols }
    }

    /// The instruction set they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How events are to be listed for them.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Columns, a multiple of [`COLS`].
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows that an event has, which lie one after the other: a slot.
    pub fn together(&self) -> usize {
        self.together
    }

    /// Slots, that of the zeros behind them not counted.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Inputs.
    pub fn ins(&self) -> usize {
        self.ins
    }

    /// Blocks of columns.
    pub fn many(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<E>()
    }

    /// Whether places in 16 bits are enough for all slots.
    pub fn is_short(&self) -> bool {
        self.blocks.iter().all(|b| reach(self.slots, self.together * b.width * size_of::<E>()) <= SHORT)
    }

    /// Reads a block from its first line to its last: in this order it comes out of memory several times as fast as in that of spikes.
    pub fn fetch(&self, block: usize) {
        for line in self.of(&self.blocks[block]).chunks(64 / size_of::<E>()) {
            black_box(line[0]);
        }
    }

    /// The blocks.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The weights of a block, `[slots + 1, together, columns]`.
    pub(crate) fn of(&self, block: &Block) -> &[E] {
        &self.data[block.at..][..(self.slots + 1) * self.together * block.width]
    }
}

/// Places of slots are counted in so many bytes, which an address can multiply with.
pub(crate) const UNIT: usize = 8;
/// Places that 16 bits tell apart.
const SHORT: usize = 1 << 16;
/// Places of a block that the second cache holds beside other things: 320 kB.
const NEAR: usize = 320 * 1024 / UNIT;

/// How many places a block of slots of so many bytes has, that of the zeros included.
pub(crate) fn reach(slots: usize, bytes: usize) -> usize {
    (slots + 1).saturating_mul(bytes) / UNIT
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
