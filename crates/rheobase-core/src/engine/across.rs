//! Stages whose lanes are positions: a block of positions at a time, every output channel, every step.
//! In: flat spikes. Out: packed spikes of some rows, flat ones, or both.

use super::plan::AcrossKernel;
use super::run::{RowSpace, Rows, Width};
use crate::neuron::{Across, AcrossOut};
use crate::outcome::LayerOutcome;
use rheobase_kernels::events::Spikes;
use rheobase_kernels::flat::{self, GROUP, Packing, Taps};
use rheobase_kernels::lookup::{self, Block, Channels, Dense};
use std::ops::Range;

impl<E: Width> Rows<'_, '_, E> {
    /// Rows `ys`, which `spikes` begins with, if it is not empty, and of which `row.flats` are made, if there are any.
    pub(super) fn run_across(
        &self,
        kernels: &[(usize, Taps, AcrossKernel<E>)],
        ys: Range<usize>,
        row: &mut RowSpace<E>,
        spikes: &mut [u64],
        out: &mut LayerOutcome,
    ) {
        let (stage, plan, isa) =
            (&self.plan.network.stages[self.s], &self.plan.stages[self.s], self.plan.isa);
        let ([channels, height, width], span) = (stage.shape, self.run.span());
        let (first, end) = (ys.start * width, ys.end * width);
        let (lanes, vectors) = (Block::lanes::<E>(isa), Block::vectors(span));
        let groups = channels.div_ceil(GROUP);
        for (flat, form) in row.flats.iter_mut().zip(&plan.flats) {
            flat.begin(span, height, channels, &self.plan.forms.flats[*form].1);
        }
        for at in (first..end).step_by(vectors * lanes) {
            let positions = (vectors * lanes).min(end - at);
            let block = Block { first: at, vectors: positions.div_ceil(lanes), steps: span };
            self.sum_across(kernels, block, row);
            row.numbers.resize(block.vectors * groups * span * 32, 0);
            let block = Across {
                span,
                lanes,
                positions,
                currents: E::currents(&row.tile),
                theta: &plan.theta[..channels],
                start: &plan.start[..channels],
                shorts: plan.shorts.as_ref(),
                wide: self.is_wide(&row.tile).0,
            };
            let (numbers, offsets) = (&mut row.numbers[..], out.offsets.as_mut());
            let mut to = AcrossOut { numbers, offsets };
            self.run.rule.run_across(isa, &block, &mut to);
            let numbers = &row.numbers[..];
            let mut from =
                Packing { numbers, lanes, steps: span, groups, first: at - first, positions, width };
            if !spikes.is_empty() {
                flat::pack(isa, &from, spikes);
            }
            from.first = at;
            for flat in &mut row.flats {
                flat.put(&from);
            }
        }
        match row.flats.first() {
            Some(flat) => flat.count(isa, &(first..end), &mut out.spikes),
            None => {
                let (size, words) = ([ys.len(), width], channels.div_ceil(64));
                Spikes { bits: spikes, steps: span, size, words }.count(isa, &mut out.spikes);
            }
        }
        for ((term, (form, taps, _)), each) in stage.terms.iter().zip(kernels).zip(&plan.fan_out) {
            let (flat, raster) = (&self.space.flats[*form], &self.plan.forms.flats[*form].1);
            out.synops += taps.count(isa, flat, raster, &term.channels, &ys) * each;
        }
    }

    /// The dense maps among the kernels.
    fn dense<'m>(
        &'m self,
        kernels: &'m [(usize, Taps, AcrossKernel<E>)],
    ) -> impl Iterator<Item = Option<Dense<'m, E>>> {
        let terms = &self.plan.network.stages[self.s].terms;
        let begins = self.begins();
        terms.iter().zip(kernels).enumerate().map(move |(i, (term, (form, taps, kernel)))| match kernel {
            AcrossKernel::Lookup(tables) => Some(Dense {
                flat: &self.space.flats[*form],
                raster: &self.plan.forms.flats[*form].1,
                taps,
                tables,
                to: term.to,
                begin: (begins && i == 0).then_some(&self.synapse.bias[..]),
            }),
            AcrossKernel::Channels(_) => None,
        })
    }

    /// Whether the first map writes every current, so that it can begin with the bias.
    fn begins(&self) -> bool {
        let stage = &self.plan.network.stages[self.s];
        stage.terms.first().is_some_and(|term| !term.depthwise && term.outs == stage.shape[0])
    }

    /// Currents of a block into `row.tile`.
    fn sum_across(&self, kernels: &[(usize, Taps, AcrossKernel<E>)], block: Block, row: &mut RowSpace<E>) {
        let (stage, isa) = (&self.plan.network.stages[self.s], self.plan.isa);
        let number = block.numbers(Block::lanes::<E>(isa));
        row.tile.resize(self.plan.stages[self.s].cols * number);
        if !self.begins() {
            lookup::begin(isa, &self.synapse.bias, number, &mut row.tile);
        }
        for (i, map) in self.dense(kernels).enumerate() {
            if let Some(map) = map {
                lookup::dense(isa, &map, block, &mut row.index, &mut row.tile);
                continue;
            }
            let (term, (form, taps, AcrossKernel::Channels(weights))) = (&stage.terms[i], &kernels[i]) else {
                continue;
            };
            let (flat, raster) = (&self.space.flats[*form], &self.plan.forms.flats[*form].1);
            let map = Channels { flat, raster, taps, weights, channels: &term.channels, to: term.to };
            lookup::channels(isa, &map, block, &mut row.tile);
        }
    }
}
