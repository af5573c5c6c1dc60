//! Running a plan.
//! In: normalised images, a rule, T. Out: the running sums of the read-out after every step, and counts.

use super::chain::{self, Currents};
use super::events::Events;
use super::plan::{Kernel, Plan, StagePlan, TermPlan};
use crate::integer::{FRACTION, Role, Source, Stage, Term};
use crate::neuron::{NeuronRule, Offsets, Tile, TileOut};
use crate::outcome::{LayerOutcome, Outcome, merge_layers};
use rayon::prelude::*;
use rheobase_kernels::depthwise::{self, Masked};
use rheobase_kernels::{chain as rounding, first, gather};

/// What to run.
pub struct Run<'a> {
    /// How currents become spikes.
    pub rule: &'a dyn NeuronRule,
    /// T: steps read out.
    pub steps: usize,
    /// Whether to count offset spikes.
    pub offsets: bool,
}

impl Run<'_> {
    /// Steps that every hidden layer is simulated for: max(T, ρ).
    pub fn span(&self) -> usize {
        self.steps.max(self.rule.presim())
    }
}

/// What one image leaves behind on its way, reused by the next.
#[derive(Default)]
pub struct Workspace {
    /// Per stage: packed spikes `[span][positions][words]`.
    spikes: Vec<Vec<u64>>,
    /// Per stage: currents `[span][positions][channels]` that a later linear map reads.
    currents: Vec<Vec<i32>>,
    /// Per view.
    events: Vec<Events>,
    filled: Vec<bool>,
    free_spikes: Vec<Vec<u64>>,
    free_currents: Vec<Vec<i32>>,
    row: RowSpace,
}

/// Buffers of one row.
#[derive(Default)]
struct RowSpace {
    tile: Vec<i32>,
    exact: Vec<f64>,
    running: Vec<i64>,
    patches: Vec<f64>,
    pixels: Vec<f32>,
    rows: Vec<u32>,
    sums: Vec<f32>,
    scales: Vec<f32>,
    units: Vec<i32>,
    taps: Vec<(u32, u32)>,
    list: Vec<u32>,
}

impl Plan<'_> {
    /// Runs normalised images, `[images, height, width, channels]`, on the threads of the current pool.
    ///
    /// # Panics
    /// If `images` is not whole images, or no steps are asked for.
    pub fn run(&self, run: &Run<'_>, images: &[f32]) -> Outcome {
        let pixels: usize = self.network.input.iter().product();
        assert!(images.len().is_multiple_of(pixels) && run.steps > 0, "whole images, one step or more");
        let one = |image| {
            let mut space = self.idle.lock().map(|mut idle| idle.pop()).ok().flatten().unwrap_or_default();
            let outcome = self.image(run, image, &mut space);
            if let Ok(mut idle) = self.idle.lock() {
                idle.push(space);
            }
            outcome
        };
        let each: Vec<_> = images.par_chunks_exact(pixels).map(one).collect();
        let mut outcome = Outcome { samples: each.len(), steps: run.steps, ..Outcome::default() };
        for (logits, layers) in each {
            outcome.logits.extend(logits);
            merge_layers(&mut outcome.layers, &layers);
        }
        outcome
    }

    fn image(&self, run: &Run<'_>, image: &[f32], space: &mut Workspace) -> (Vec<i64>, Vec<LayerOutcome>) {
        let n = self.stages.len();
        space.spikes.resize_with(n, Vec::new);
        space.currents.resize_with(n, Vec::new);
        space.events.resize_with(self.views.len(), Events::default);
        space.filled.clear();
        space.filled.resize(self.views.len(), false);
        let mut layers = Vec::with_capacity(n);
        let mut logits = vec![];
        for s in 0..n {
            layers.push(self.stage(s, run, image, space, &mut logits));
            // what no later stage reads is free for the next
            for i in 0..=s {
                if self.last[i] <= s && i < n - 1 {
                    if !space.spikes[i].is_empty() {
                        space.free_spikes.push(std::mem::take(&mut space.spikes[i]));
                    }
                    if !space.currents[i].is_empty() {
                        space.free_currents.push(std::mem::take(&mut space.currents[i]));
                    }
                }
            }
        }
        (logits, layers)
    }

    fn stage(
        &self,
        s: usize,
        run: &Run<'_>,
        image: &[f32],
        space: &mut Workspace,
        logits: &mut Vec<i64>,
    ) -> LayerOutcome {
        let (stage, plan) = (&self.network.stages[s], &self.stages[s]);
        let [channels, height, width] = stage.shape;
        let (span, cols, words) = (run.span(), plan.cols, channels.div_ceil(64));
        let spiking = matches!(stage.role, Role::Spiking { .. });
        let mut out =
            LayerOutcome { spikes: vec![0; if spiking { span } else { 0 }], ..LayerOutcome::default() };
        let window = if run.rule.presim() == 0 { run.steps } else { run.rule.presim() };
        out.offsets = (run.offsets && spiking).then(|| Offsets::new(window));
        self.list_events(plan, span, space);

        let mut spikes = space.free_spikes.pop().unwrap_or_default();
        let mut currents = space.free_currents.pop().unwrap_or_default();
        spikes.clear();
        currents.clear();
        match stage.role {
            Role::Spiking { .. } => spikes.resize(span * height * width * words, 0),
            Role::Linear => currents.resize(span * height * width * channels, 0),
            Role::Readout => {}
        }
        // potentials and breakpoints stay below (2·span + 3) times the largest current or threshold
        let wide = (2 * span as i64 + 3) * plan.bound >= 1 << 31;
        let mut row = std::mem::take(&mut space.row);
        for y in 0..height {
            self.row(s, y, span, image, space, &mut row, &mut out.synops);
            match stage.role {
                Role::Spiking { .. } => {
                    let start = if plan.per_neuron {
                        &plan.start[y * width * cols..][..width * cols]
                    } else {
                        &plan.start
                    };
                    let tile = Tile {
                        span,
                        positions: width,
                        cols,
                        channels,
                        currents: &row.tile,
                        theta: &plan.theta,
                        start,
                        per_neuron: plan.per_neuron,
                        wide,
                    };
                    let bits = &mut spikes[y * width * words..];
                    let stride = height * width * words;
                    let offsets = out.offsets.as_mut();
                    let mut to = TileOut { steps: span, bits, stride, spikes: &mut out.spikes, offsets };
                    run.rule.run_tile(self.isa, &tile, &mut to);
                }
                Role::Linear => {
                    for (i, x) in row.tile.chunks_exact(cols).enumerate() {
                        let at = (i / width * height + y) * width + i % width;
                        currents[at * channels..][..channels].copy_from_slice(&x[..channels]);
                    }
                }
                Role::Readout => {
                    let mut sum = vec![0i64; channels];
                    for step in row.tile.chunks_exact(cols).take(run.steps) {
                        sum.iter_mut().zip(step).for_each(|(s, &x)| *s += i64::from(x));
                        logits.extend(&sum);
                    }
                }
            }
        }
        space.row = row;
        space.spikes[s] = spikes;
        space.currents[s] = currents;
        out
    }

    /// Lists the events of every view that the stage reads and that has not been listed yet.
    fn list_events(&self, plan: &StagePlan<'_>, span: usize, space: &mut Workspace) {
        for term in &plan.terms {
            if let Kernel::Gather { view, .. } = term.kernel
                && !space.filled[view]
            {
                let v = &self.views[view];
                let from = self.network.stages[v.stage].shape;
                space.events[view].fill(v, &space.spikes[v.stage], span, from);
                space.filled[view] = true;
            }
        }
    }

    /// Currents of all steps of one row of positions, into `row.tile`, `[span][width][cols]`.
    #[allow(clippy::too_many_arguments)] // what a row reads and writes
    fn row(
        &self,
        s: usize,
        y: usize,
        span: usize,
        image: &[f32],
        space: &Workspace,
        row: &mut RowSpace,
        synops: &mut u64,
    ) {
        let (stage, plan) = (&self.network.stages[s], &self.stages[s]);
        let (width, cols) = (stage.shape[2], plan.cols);
        row.tile.resize(span * width * cols, 0);
        row.tile.chunks_exact_mut(cols).for_each(|p| p.copy_from_slice(&plan.bias));
        if plan.chained {
            row.exact.clear();
            row.exact.resize(span * width * cols, 0.0);
        }
        for TermPlan { term, kernel } in &plan.terms {
            let term: &Term = term;
            match kernel {
                Kernel::Image(weights) => self.image_row(stage, cols, term, weights, image, y, span, row),
                Kernel::Gather { view, cols: n, weights } => {
                    let events = &space.events[*view];
                    let [rows, columns] = self.views[*view].size;
                    for t in 0..span {
                        row.taps.clear();
                        for ky in 0..term.window.kernel[0] {
                            if let Some(sy) = term.source_of(0, y, ky) {
                                let first = ky * term.window.kernel[1] * term.from[0];
                                row.taps.push((((t * rows + sy) * (columns + 1)) as u32, first as u32));
                            }
                        }
                        let job = gather::Row {
                            taps: &row.taps,
                            index: &events.index,
                            events: &events.list,
                            width: columns,
                            ins: term.from[0],
                            kernel: [
                                term.window.kernel[1],
                                term.window.stride[1],
                                term.dilation[1],
                                term.window.padding[1],
                            ],
                            weights,
                            cols: *n,
                            stride: cols,
                        };
                        let out = &mut row.tile[t * width * cols + term.to..(t + 1) * width * cols];
                        *synops +=
                            gather::gather_row(self.isa, &job, width, &mut row.list, out) * term.outs as u64;
                    }
                }
                Kernel::Masked { cols: n, weights } => {
                    self.masked_row(term, *n, weights, space, [y, span, width, cols], &mut row.tile, synops);
                }
                Kernel::Matmul(weights) => {
                    let source = self.currents(term, space);
                    chain::matmul_row(
                        term,
                        weights,
                        &source,
                        y,
                        span,
                        width,
                        cols,
                        &mut row.patches,
                        &mut row.exact,
                    );
                }
                Kernel::Channels(weights) => {
                    let source = self.currents(term, space);
                    chain::channels_row(term, weights, &source, y, span, width, cols, &mut row.exact);
                }
            }
        }
        if plan.chained {
            rounding::round_steps(
                self.isa,
                &row.exact,
                width * cols,
                FRACTION,
                &mut row.running,
                &mut row.tile,
            );
        }
    }

    fn currents<'w>(&self, term: &Term, space: &'w Workspace) -> Currents<'w> {
        let Source::Stage(s) = term.source else {
            return Currents { numbers: &[], channels: 0, positions: 0 };
        };
        let [channels, h, w] = self.network.stages[s].shape;
        Currents { numbers: &space.currents[s], channels, positions: h * w }
    }

    /// The image's part: computed once, the same at every step.
    #[allow(clippy::too_many_arguments)] // as above
    fn image_row(
        &self,
        stage: &Stage,
        cols: usize,
        term: &Term,
        weights: &[f32],
        image: &[f32],
        y: usize,
        span: usize,
        row: &mut RowSpace,
    ) {
        let [channels, _, iw] = self.network.input;
        let n = term.channels.len();
        let limit = (1u32 << self.network.precision.bits()) as f32;
        let width = stage.shape[2];
        row.scales.clear();
        row.scales.extend(stage.unit[term.to..term.to + term.outs].iter().map(|&u| 2f32.powi(-u)));
        for x in 0..width {
            row.sums.clear();
            row.sums.resize(term.outs, 0.0);
            row.pixels.clear();
            row.rows.clear();
            if term.only.as_ref().is_some_and(|only| !only[y * width + x]) {
                continue;
            }
            for tap in 0..term.taps() {
                let (ky, kx) = (tap / term.window.kernel[1], tap % term.window.kernel[1]);
                if let (Some(sy), Some(sx)) = (term.source_of(0, y, ky), term.source_of(1, x, kx)) {
                    let pixel = &image[(sy * iw + sx) * channels..][term.channels.clone()];
                    if term.depthwise {
                        let sums = row.sums.iter_mut().zip(pixel).zip(&weights[tap * n..]);
                        sums.for_each(|((s, p), w)| *s += p * w);
                    } else {
                        row.pixels.extend(pixel);
                        row.rows.extend((tap * n) as u32..((tap + 1) * n) as u32);
                    }
                }
            }
            first::dense(self.isa, &row.pixels, &row.rows, weights, term.outs, &mut row.sums);
            row.units.resize(term.outs, 0);
            first::round(self.isa, &row.sums, &row.scales, limit, &mut row.units);
            for t in 0..span {
                let to = &mut row.tile[(t * width + x) * cols + term.to..][..term.outs];
                to.iter_mut().zip(&row.units).for_each(|(to, u)| *to += u);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // as above
    fn masked_row(
        &self,
        term: &Term,
        n: usize,
        weights: &[i32],
        space: &Workspace,
        [y, span, width, cols]: [usize; 4],
        tile: &mut [i32],
        synops: &mut u64,
    ) {
        let Source::Stage(s) = term.source else { return };
        let [channels, h, w] = self.network.stages[s].shape;
        let words = channels.div_ceil(64);
        for ky in 0..term.window.kernel[0] {
            let Some(sy) = term.source_of(0, y, ky) else { continue };
            for x in 0..width {
                if term.only.as_ref().is_some_and(|only| !only[y * width + x]) {
                    continue;
                }
                for kx in 0..term.window.kernel[1] {
                    let Some(sx) = term.source_of(1, x, kx) else { continue };
                    let tap = ky * term.window.kernel[1] + kx;
                    let weights = &weights[tap * n..(tap + 1) * n];
                    let masked = Masked {
                        bits: &space.spikes[s][(sy * w + sx) * words..],
                        bits_stride: h * w * words,
                        first: term.channels.start,
                        channels: term.outs,
                        weights,
                        out_stride: width * cols,
                        steps: span,
                    };
                    *synops += depthwise::masked_add(self.isa, &masked, &mut tile[x * cols + term.to..]);
                }
            }
        }
    }
}
