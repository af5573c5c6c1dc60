//! Running a plan.
//! In: normalised images, a rule, T. Out: the running sums of the read-out after every step, and counts.

use super::chain::{self, Source as Numbers};
use super::plan::{Kernel, Maps, Plan, Synapse, Synapses};
use super::spread::Spreading;
use crate::integer::{Role, Source, Term};
use crate::neuron::{Currents, NeuronRule, Offsets, Tile, TileOut};
use crate::outcome::{LayerOutcome, Outcome, merge_layers};
use crate::timing::Laps;
use rayon::prelude::*;
use rheobase_kernels::aligned::Aligned;
use rheobase_kernels::events::{Events, Plane, Spikes};
use rheobase_kernels::flat::Flat;
use rheobase_kernels::lanes::Element;
use rheobase_kernels::largest::largest;
use rheobase_kernels::lookup::Index;
use rheobase_kernels::packed::Packed;
use rheobase_kernels::team::Leader;
use rheobase_kernels::{chain as rounding, depthwise, fill, first, gather, packed, table};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What to run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// How currents become spikes.
    pub rule: &'a dyn NeuronRule,
    /// T: steps read out.
    pub steps: usize,
    /// Whether to count offset spikes.
    pub offsets: bool,
    /// How the last spiking layer's spikes are spread, if they are.
    pub spread: Option<&'a Spreading>,
    /// Where the time of every stage goes, if it is measured.
    pub laps: Option<&'a Laps>,
}

impl Run<'_> {
    /// Steps that every hidden layer is simulated for: max(T, ρ).
    pub fn span(&self) -> usize {
        self.steps.max(self.rule.presim())
    }

    /// Does a stage's work, and adds the time it takes if that is measured.
    fn timed<T>(&self, stage: usize, work: impl FnOnce() -> T) -> T {
        match self.laps {
            Some(laps) => laps.measure(stage, work),
            None => work(),
        }
    }
}

/// What one image leaves behind on its way, reused by the next.
#[derive(Default)]
pub struct Workspace {
    /// Per stage: packed spikes `[rows][span][width][words]`.
    spikes: Vec<Vec<u64>>,
    /// Per stage: currents `[rows][span][width][channels]` that a later linear map reads.
    currents: Vec<Vec<i32>>,
    /// Per list, plane and raster of the plan, and whether they hold this image's spikes.
    events: Vec<Events>,
    planes: Vec<Plane>,
    pub(super) flats: Vec<Flat>,
    filled: [Vec<bool>; 3],
    /// Synaptic operations of the stage that is next, if its currents are summed already.
    summed: Option<u64>,
    /// Per term of the stage: the image with zeros around.
    framed: Vec<Vec<f32>>,
    free_spikes: Vec<Vec<u64>>,
    free_currents: Vec<Vec<i32>>,
    free_flats: Vec<Flat>,
    short: Vec<RowSpace<i16>>,
    int: Vec<RowSpace<i32>>,
}

/// Buffers of one row.
#[derive(Default)]
pub struct RowSpace<E> {
    pub(super) tile: Aligned<E>,
    /// Of a layer that is spread: its currents and v(0).
    pub(super) layer: Vec<i32>,
    pub(super) starts: Vec<i32>,
    exact: Vec<f64>,
    running: Vec<i64>,
    patches: Vec<f64>,
    short_patches: Vec<i16>,
    sums: Vec<f32>,
    units: Vec<i32>,
    taps: Vec<(usize, usize)>,
    lists: gather::Lists,
    pub(super) index: Index<E>,
    pub(super) numbers: Vec<u16>,
    /// Where spikes go that are read flat.
    pub(super) flats: Vec<Flat>,
}

/// A width of currents: where its buffers are, and how a rule sees them.
pub trait Width: Element {
    fn rows(space: &mut Workspace) -> &mut Vec<RowSpace<Self>>;
    fn currents(numbers: &[Self]) -> Currents<'_>;
}
impl Width for i32 {
    fn rows(space: &mut Workspace) -> &mut Vec<RowSpace<i32>> {
        &mut space.int
    }
    fn currents(numbers: &[i32]) -> Currents<'_> {
        Currents::Int(numbers)
    }
}
impl Width for i16 {
    fn rows(space: &mut Workspace) -> &mut Vec<RowSpace<i16>> {
        &mut space.short
    }
    fn currents(numbers: &[i16]) -> Currents<'_> {
        Currents::Short(numbers)
    }
}

impl Plan<'_> {
    /// Runs normalised images, `[images, height, width, channels]`, on the threads of the current pool: groups of images side
    /// by side, or, where there are fewer images than threads, parts of each image.
    ///
    /// # Panics
    /// If `images` is not whole images, or no steps are asked for.
    pub fn run(&self, run: &Run<'_>, images: &[f32]) -> Outcome {
        self.of_run(run).run_all(run, images)
    }

    fn run_all(&self, run: &Run<'_>, images: &[f32]) -> Outcome {
        let pixels: usize = self.network.input.iter().product();
        assert!(images.len().is_multiple_of(pixels) && run.steps > 0, "whole images, one step or more");
        let (count, threads) = (images.len() / pixels, rayon::current_num_threads());
        let parts = threads / count.clamp(1, threads);
        let next = AtomicUsize::new(0);
        // Every thread takes the next images until there are none. The last groups are small, so that nobody waits long for another.
        let most = self.images_together(run.span());
        let many =
            |left: usize| if threads == 1 { most } else { (left / (2 * threads)).clamp(1, most) }.min(left);
        let take = || {
            let at = next.fetch_update(Relaxed, Relaxed, |at| (at < count).then(|| at + many(count - at)));
            at.ok().map(|at| (at, many(count - at)))
        };
        let some = |team: Option<&Helped<'_>>| {
            let mut done = vec![];
            while let Some((first, many)) = take() {
                let spaces = self.idle.lock().map(|mut idle| {
                    let left = idle.len().saturating_sub(many);
                    idle.split_off(left)
                });
                let images = &images[first * pixels..(first + many) * pixels];
                let (results, spaces) = self.group(run, images, spaces.unwrap_or_default(), team);
                if let Ok(mut idle) = self.idle.lock() {
                    idle.extend(spaces);
                }
                done.push((first, results));
            }
            done
        };
        let mut each: Vec<_> = match threads / parts {
            1 => Helped::with(self, parts, some),
            many => {
                let all = (0..many).into_par_iter().with_max_len(1);
                all.flat_map_iter(|_| Helped::with(self, parts, some)).collect()
            }
        };
        each.sort_unstable_by_key(|(first, _)| *first);
        let mut outcome = Outcome { samples: count, steps: run.steps, ..Outcome::default() };
        for (_, (logits, layers)) in each {
            outcome.logits.extend(logits);
            merge_layers(&mut outcome.layers, &layers);
        }
        outcome
    }

    /// Some images, layer by layer: their logits and counts, and the workspaces back.
    #[allow(clippy::type_complexity)] // a pair of pairs
    fn group(
        &self,
        run: &Run<'_>,
        images: &[f32],
        mut spaces: Vec<Workspace>,
        team: Option<&Helped<'_>>,
    ) -> ((Vec<i64>, Vec<LayerOutcome>), Vec<Workspace>) {
        let (n, pixels) = (self.stages.len(), self.network.input.iter().product());
        let images: Vec<&[f32]> = images.chunks_exact(pixels).collect();
        spaces.resize_with(images.len(), Workspace::default);
        spaces.iter_mut().for_each(|space| self.reset(space));
        let mut layers = vec![LayerOutcome::default(); n];
        let mut logits = Vec::with_capacity(images.len() * run.steps * self.network.classes());
        for (s, layer) in layers.iter_mut().enumerate() {
            if team.is_none() {
                run.timed(s, || self.sum_heavy(s, run, &mut spaces));
            }
            for (image, space) in images.iter().zip(&mut spaces) {
                layer.merge(&run.timed(s, || self.stage(s, run, image, space, team, &mut logits)));
                self.release(s, space);
            }
        }
        ((logits, layers), spaces)
    }

    fn reset(&self, space: &mut Workspace) {
        space.spikes.resize_with(self.stages.len(), Vec::new);
        space.currents.resize_with(self.stages.len(), Vec::new);
        space.events.resize_with(self.forms.lists.len(), Events::default);
        space.planes.resize_with(self.forms.planes.len(), Plane::default);
        space.flats.resize_with(self.forms.flats.len(), Flat::default);
        let forms = [self.forms.lists.len(), self.forms.planes.len(), self.forms.flats.len()];
        for (filled, n) in space.filled.iter_mut().zip(forms) {
            filled.clear();
            filled.resize(n, false);
        }
    }

    /// The currents of a stage of one map whose weights are read from far away, of all images: block by block of columns, so that
    /// a block is fetched once for all.
    fn sum_heavy(&self, s: usize, run: &Run<'_>, spaces: &mut [Workspace]) {
        match &self.stages[s].synapse {
            Synapses::Int(synapse) => self.sum_heavy_in(s, synapse, run, spaces),
            Synapses::Short(synapse) => self.sum_heavy_in(s, synapse, run, spaces),
        }
    }

    fn sum_heavy_in<E: Width>(
        &self,
        s: usize,
        synapse: &Synapse<E>,
        run: &Run<'_>,
        spaces: &mut [Workspace],
    ) {
        let Some((list, weights)) = self.heavy(s, synapse, run) else { return };
        for space in &mut *spaces {
            self.prepare(s, synapse, &[], run.span(), space);
        }
        let events = spaces.iter().map(|space| space.events[list].many()).sum();
        for block in 0..weights.many() {
            fetch(weights, block, events);
            for space in &mut *spaces {
                let mut rows = std::mem::take(E::rows(space));
                rows.resize_with(rows.len().max(1), RowSpace::default);
                let job = Rows { plan: self, s, synapse, run, space };
                let ys = 0..self.network.stages[s].shape[1];
                let added = job.sum_block(list, weights, block, ys, &mut rows[0]);
                *E::rows(space) = rows;
                space.summed = Some(added);
            }
        }
    }

    /// The list and the weights of the only map of a stage, if it is better summed block by block of columns.
    fn heavy<'s, E: Width>(
        &self,
        s: usize,
        synapse: &'s Synapse<E>,
        run: &Run<'_>,
    ) -> Option<(usize, &'s Packed<E>)> {
        let stage = &self.network.stages[s];
        let numbers = stage.shape[1] * stage.shape[2] * self.stages[s].cols * run.span();
        let is_near = numbers.saturating_mul(size_of::<E>()) <= NEAR;
        let is_spread = run.spread.is_some_and(|spread| spread.is_of(s));
        let is_spiking = matches!(stage.role, Role::Spiking { .. });
        synapse.heavy().filter(|_| is_near && is_spiking && !is_spread)
    }

    /// What no stage after `s` reads is free for the next.
    fn release(&self, s: usize, space: &mut Workspace) {
        for (flat, _) in space.flats.iter_mut().zip(&self.last_flat).filter(|(_, last)| **last == s) {
            space.free_flats.push(std::mem::take(flat));
        }
        for i in 0..=s {
            if self.last[i] <= s {
                if !space.spikes[i].is_empty() {
                    space.free_spikes.push(std::mem::take(&mut space.spikes[i]));
                }
                if !space.currents[i].is_empty() {
                    space.free_currents.push(std::mem::take(&mut space.currents[i]));
                }
            }
        }
    }

    fn stage(
        &self,
        s: usize,
        run: &Run<'_>,
        image: &[f32],
        space: &mut Workspace,
        team: Option<&Helped<'_>>,
        logits: &mut Vec<i64>,
    ) -> LayerOutcome {
        match &self.stages[s].synapse {
            Synapses::Int(synapse) => self.stage_in(s, synapse, run, image, space, team, logits),
            Synapses::Short(synapse) => self.stage_in(s, synapse, run, image, space, team, logits),
        }
    }

    #[allow(clippy::too_many_arguments)] // a stage, a run, an image and where things go
    fn stage_in<E: Width>(
        &self,
        s: usize,
        synapse: &Synapse<E>,
        run: &Run<'_>,
        image: &[f32],
        space: &mut Workspace,
        team: Option<&Helped<'_>>,
        logits: &mut Vec<i64>,
    ) -> LayerOutcome {
        let stage = &self.network.stages[s];
        let [channels, height, width] = stage.shape;
        let (span, words) = (run.span(), channels.div_ceil(64));
        self.prepare(s, synapse, image, span, space);

        // A read-out is one position; time is measured on one thread; little work is done before a second thread has begun.
        let little = self.stages[s].work.saturating_mul(span) < self.split;
        let is_spread = run.spread.is_some_and(|spread| spread.is_of(s));
        let whole = stage.role == Role::Readout || run.laps.is_some() || little || is_spread;
        let team = team.filter(|_| !whole);
        let parts = team.map_or(1, |team| team.threads.min(height));
        let (mut spikes, mut currents) = (vec![], vec![]);
        let across = matches!(synapse.maps, Maps::Across(_));
        let (line, numbers) = match stage.role {
            Role::Spiking { .. } if across && !self.stages[s].packed => (0, 0),
            Role::Spiking { .. } => {
                spikes = space.free_spikes.pop().unwrap_or_default();
                (span * width * words, 0)
            }
            Role::Linear => {
                currents = space.free_currents.pop().unwrap_or_default();
                (0, span * width * channels)
            }
            Role::Readout => (0, 0),
        };
        // Every word is written by its row.
        spikes.resize(height * line, 0);
        currents.resize(height * numbers, 0);
        let mut rows = std::mem::take(E::rows(space));
        rows.resize_with(rows.len().max(parts), RowSpace::default);
        for row in rows.iter_mut().take(if across { parts } else { 0 }) {
            let free = self.stages[s].flats.iter().map(|_| space.free_flats.pop().unwrap_or_default());
            row.flats.extend(free);
        }
        let each = height.div_ceil(parts);
        let job = Rows { plan: self, s, synapse, run, space };
        let mut out = if let Some(spread) = run.spread.filter(|_| is_spread) {
            job.run_spread(spread, &mut rows[0], &mut spikes)
        } else if let Some(team) = team {
            // A part of no numbers still is a part.
            let mut spikes = spikes.chunks_mut((each * line).max(1));
            let mut currents = currents.chunks_mut((each * numbers).max(1));
            let parts = (0..height).step_by(each).map(|y| y..(y + each).min(height)).zip(&mut rows);
            let parts = parts.map(|(ys, row)| {
                (ys, row, spikes.next().unwrap_or_default(), currents.next().unwrap_or_default())
            });
            let parts = parts.collect();
            let outs = team
                .leader
                .map(parts, |(ys, row, spikes, currents)| job.run(ys, row, spikes, currents, &mut vec![]));
            let mut out = LayerOutcome::default();
            outs.iter().for_each(|o| out.merge(o));
            out
        } else {
            job.run(0..height, &mut rows[0], &mut spikes, &mut currents, logits)
        };
        if let Some(offsets) = &mut out.offsets {
            offsets.add_silent(self.stages[s].silent * height * width);
        }
        if let ([first, others @ ..], true) = (&mut rows[..], across) {
            for (i, row) in others.iter_mut().enumerate().take(parts - 1) {
                let positions = (i + 1) * each * width..((i + 2) * each).min(height) * width;
                for (flat, other) in first.flats.iter_mut().zip(row.flats.drain(..)) {
                    if !positions.is_empty() {
                        flat.join(&other, &positions);
                    }
                    space.free_flats.push(other);
                }
            }
            let fired = out.spikes.iter().sum();
            first.flats.iter_mut().for_each(|flat| flat.end(fired));
        }
        for (flat, &form) in rows[0].flats.drain(..).zip(&self.stages[s].flats) {
            space.flats[form] = flat;
            space.filled[2][form] = true;
        }
        *E::rows(space) = rows;
        space.summed = None;
        space.spikes[s] = spikes;
        space.currents[s] = currents;
        out
    }

    /// Brings what the stage reads into the forms that its kernels want.
    fn prepare<E: Width>(
        &self,
        s: usize,
        synapse: &Synapse<E>,
        image: &[f32],
        span: usize,
        space: &mut Workspace,
    ) {
        let stage = &self.network.stages[s];
        let kernels = match &synapse.maps {
            Maps::Along(kernels) => kernels,
            Maps::Across(kernels) => {
                for &(flat, ..) in kernels {
                    if !space.filled[2][flat] {
                        let (source, raster) = &self.forms.flats[flat];
                        let channels = self.network.stages[*source].shape[0];
                        let from = self.spikes(*source, span, &space.spikes);
                        space.flats[flat] = space.free_flats.pop().unwrap_or_default();
                        space.flats[flat].fill(self.isa, &from, channels, raster);
                        space.filled[2][flat] = true;
                    }
                }
                return;
            }
        };
        for (i, (kernel, term)) in kernels.iter().zip(&stage.terms).enumerate() {
            match kernel {
                Kernel::Gather { list, .. } if !space.filled[0][*list] => {
                    let view = &self.forms.lists[*list];
                    let from = self.spikes(view.stage, span, &space.spikes);
                    space.events[*list].fill(self.isa, &from, &view.listing);
                    space.filled[0][*list] = true;
                }
                Kernel::Table { plane, .. } if !space.filled[1][*plane] => {
                    let (source, frame) = &self.forms.planes[*plane];
                    space.planes[*plane].fill(self.isa, &self.spikes(*source, span, &space.spikes), frame);
                    space.filled[1][*plane] = true;
                }
                Kernel::Image(map) => {
                    space.framed.resize_with(space.framed.len().max(i + 1), Vec::new);
                    map.frame(term, image, self.network.input, &mut space.framed[i]);
                }
                Kernel::Gather { .. }
                | Kernel::Table { .. }
                | Kernel::Masked { .. }
                | Kernel::Matmul(_)
                | Kernel::Channels(_)
                | Kernel::Product(_)
                | Kernel::Times(_) => {}
            }
        }
    }

    fn spikes<'w>(&self, stage: usize, steps: usize, all: &'w [Vec<u64>]) -> Spikes<'w> {
        let [channels, h, w] = self.network.stages[stage].shape;
        Spikes { bits: &all[stage], steps, size: [h, w], words: channels.div_ceil(64) }
    }
}

/// A thread that runs images with the help of others.
struct Helped<'a> {
    leader: &'a Leader<'a>,
    /// All of them.
    threads: usize,
}

impl Helped<'_> {
    /// Runs `work` with so many threads of the current pool, those of them that have nothing else to do.
    fn with<R>(plan: &Plan<'_>, threads: usize, work: impl FnOnce(Option<&Helped<'_>>) -> R) -> R {
        if threads == 1 {
            return work(None);
        }
        let team = plan.teams.lock().ok().and_then(|mut teams| teams.pop()).unwrap_or_default();
        for _ in 0..team.missing(threads - 1) {
            let team = Arc::clone(&team);
            rayon::spawn(move || team.help());
        }
        let result = team.lead(|leader| work(Some(&Helped { leader, threads })));
        if let Ok(mut teams) = plan.teams.lock() {
            teams.push(team);
        }
        result
    }
}

/// Brings a block of weights near if so many events will read a good part of it.
fn fetch<E: Element>(weights: &Packed<E>, block: usize, events: usize) {
    if events >= weights.ins() / 2 {
        weights.fetch(block);
    }
}

/// Bytes of an image's currents that stay near.
const NEAR: usize = 1 << 18;

/// Kernel rows that lie on the source of a row of positions: the source's row and the kernel's.
fn taps(term: &Term, y: usize, to: &mut Vec<(usize, usize)>) {
    to.clear();
    for ky in 0..term.window.kernel[0] {
        if let Some(sy) = term.source_of(0, y, ky) {
            to.push((sy, ky));
        }
    }
}

/// Kernel width, stride, dilation, padding on the left.
fn kernel_row(term: &Term) -> [usize; 4] {
    let window = &term.window;
    [window.kernel[1], window.stride[1], term.dilation[1], window.padding[1]]
}

/// The rows of one stage of one image.
pub struct Rows<'a, 'p, E> {
    pub(super) plan: &'a Plan<'p>,
    pub(super) s: usize,
    pub(super) synapse: &'a Synapse<E>,
    pub(super) run: &'a Run<'a>,
    pub(super) space: &'a Workspace,
}

impl<E: Width> Rows<'_, '_, E> {
    /// Rows `ys`, which `spikes` and `currents` begin with.
    fn run(
        &self,
        ys: Range<usize>,
        row: &mut RowSpace<E>,
        spikes: &mut [u64],
        currents: &mut [i32],
        logits: &mut Vec<i64>,
    ) -> LayerOutcome {
        let (stage, plan, run) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s], self.run);
        let [channels, _, width] = stage.shape;
        let (span, cols, words) = (run.span(), plan.cols, channels.div_ceil(64));
        let spiking = matches!(stage.role, Role::Spiking { .. });
        let mut out =
            LayerOutcome { spikes: vec![0; if spiking { span } else { 0 }], ..LayerOutcome::default() };
        let window = if run.rule.presim() == 0 { run.steps } else { run.rule.presim() };
        out.offsets = (run.offsets && spiking).then(|| Offsets::new(window));
        if let Maps::Across(kernels) = &self.synapse.maps {
            self.run_across(kernels, ys, row, spikes, &mut out);
            return out;
        }
        let summed = self.space.summed.or_else(|| self.sum_heavy(&ys, row));
        for (i, y) in ys.enumerate() {
            let mut first = 0;
            match summed {
                Some(synops) => {
                    first = i * span * width * cols;
                    out.synops = synops;
                }
                None => self.sum(y, row, &mut out.synops),
            }
            match stage.role {
                Role::Spiking { .. } => {
                    let numbers = if plan.steady { 1 } else { span } * width * cols;
                    let bits = &mut spikes[i * span * width * words..][..span * width * words];
                    self.fire(y, &row.tile[first..first + numbers], bits, &mut out);
                }
                Role::Linear => {
                    let to = currents[i * span * width * channels..].chunks_exact_mut(channels);
                    for (to, from) in to.zip(row.tile.chunks_exact(cols)) {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.wide());
                    }
                }
                Role::Readout => {
                    let mut sum = vec![0i64; channels];
                    for step in row.tile.chunks_exact(cols).take(run.steps) {
                        sum.iter_mut().zip(step).for_each(|(s, &x)| *s += i64::from(x.wide()));
                        logits.extend(&sum);
                    }
                }
            }
        }
        out
    }

    /// Lets the neurons of row `y` fire on their currents; `bits` is the row's spikes.
    fn fire(&self, y: usize, numbers: &[E], bits: &mut [u64], out: &mut LayerOutcome) {
        let (stage, plan, run) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s], self.run);
        let ([channels, _, width], cols, span) = (stage.shape, plan.cols, run.span());
        let start =
            if plan.per_neuron { &plan.start[y * width * cols..][..width * cols] } else { &plan.start };
        let (wide, most) = self.is_wide(numbers);
        let tile = Tile {
            span,
            positions: width,
            cols,
            channels,
            currents: E::currents(numbers),
            theta: &plan.theta,
            start,
            steady: plan.steady,
            per_neuron: plan.per_neuron,
            shorts: plan.shorts.as_ref(),
            wide,
            most,
        };
        let stride = width * channels.div_ceil(64);
        let (spikes, offsets) = (&mut out.spikes[..], out.offsets.as_mut());
        run.rule.run_tile(self.plan.isa, &tile, &mut TileOut { steps: span, bits, stride, spikes, offsets });
    }

    /// Whether potentials may need 64 bits.
    pub(super) fn wide(&self) -> bool {
        self.needs_wide(self.plan.stages[self.s].bound)
    }

    /// Whether those of these currents may, which are seldom as large as they could be, and a bound of them and all else.
    pub(super) fn is_wide(&self, currents: &[E]) -> (bool, i64) {
        if !self.wide() {
            return (false, self.plan.stages[self.s].bound);
        }
        let most = i64::from(largest(self.plan.isa, currents)).max(self.plan.stages[self.s].fixed);
        (self.needs_wide(most), most)
    }

    /// Whether potentials may need 64 bits that come from numbers up to `most`.
    fn needs_wide(&self, most: i64) -> bool {
        (self.run.rule.reach(self.run.span()) as i64).saturating_mul(most) >= 1 << 31
    }

    /// Whether a row's currents are those of one step, which every step has.
    pub(super) fn steady(&self) -> bool {
        self.plan.stages[self.s].steady
    }

    /// The currents of rows `ys`, block by block of columns, if that is better.
    fn sum_heavy(&self, ys: &Range<usize>, row: &mut RowSpace<E>) -> Option<u64> {
        let (list, weights) = self.plan.heavy(self.s, self.synapse, self.run)?;
        let mut added = 0;
        for block in 0..weights.many() {
            fetch(weights, block, self.space.events[list].many());
            added = self.sum_block(list, weights, block, ys.clone(), row);
        }
        Some(added)
    }

    /// Adds a block of columns of a layer's only map at rows `ys`, one after the other; returns how many additions all blocks are.
    fn sum_block(
        &self,
        list: usize,
        weights: &Packed<E>,
        block: usize,
        ys: Range<usize>,
        row: &mut RowSpace<E>,
    ) -> u64 {
        let (stage, plan) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s]);
        let ([.., width], cols, isa) = (stage.shape, plan.cols, self.plan.isa);
        let (line, begins, term) = (self.run.span() * width * cols, self.begins_along(), &stage.terms[0]);
        if block == 0 {
            row.tile.resize(ys.len() * line);
            if !begins {
                fill::fill(isa, &self.synapse.bias, &mut row.tile);
            }
        }
        let mut added = 0;
        for (y, tile) in ys.zip(row.tile.chunks_exact_mut(line)) {
            taps(term, y, &mut row.taps);
            let job = self.gather(term, &row.taps, list, weights, begins, Some(block));
            added += gather::gather_row(isa, &job, &mut row.lists, tile);
        }
        added * plan.fan_out[0]
    }

    /// A row of a dense map over lists of events, of all columns or a block of them.
    fn gather<'r>(
        &'r self,
        term: &Term,
        taps: &'r [(usize, usize)],
        list: usize,
        weights: &'r Packed<E>,
        begins: bool,
        block: Option<usize>,
    ) -> gather::Row<'r, E> {
        gather::Row {
            taps,
            events: &self.space.events[list],
            kernel: kernel_row(term),
            weights,
            positions: self.plan.network.stages[self.s].shape[2],
            stride: self.plan.stages[self.s].cols,
            to: term.to,
            begin: begins.then_some(&self.synapse.bias[..]),
            block,
        }
    }

    /// Whether the first kernel writes every number, so that it can begin with the bias; before others that is written first.
    fn begins_along(&self) -> bool {
        let Maps::Along(kernels) = &self.synapse.maps else { return false };
        let (stage, plan) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s]);
        stage.terms.first().zip(kernels.first()).is_some_and(|(term, kernel)| {
            let dense = matches!(kernel, Kernel::Gather { .. } | Kernel::Table { .. });
            dense && term.to == 0 && term.outs.next_multiple_of(packed::COLS) == plan.cols
        })
    }

    /// Currents of all steps of a row, into `row.tile`, `[span][width][cols]`, or `[width][cols]` where they are the same.
    pub(super) fn sum(&self, y: usize, row: &mut RowSpace<E>, synops: &mut u64) {
        let (stage, plan) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s]);
        let (span, width, cols, isa) = (self.run.span(), stage.shape[2], plan.cols, self.plan.isa);
        let size = width * cols;
        row.tile.resize(if self.steady() { 1 } else { span } * size);
        let Maps::Along(kernels) = &self.synapse.maps else {
            unreachable!("rows of a stage that goes along them")
        };
        let begins = self.begins_along();
        if !begins {
            fill::fill(isa, &self.synapse.bias, &mut row.tile);
        }
        if self.synapse.rounded.is_some() {
            row.exact.clear();
            row.exact.resize(span * size, 0.0);
        }
        for (i, (term, kernel)) in stage.terms.iter().zip(kernels).enumerate() {
            taps(term, y, &mut row.taps);
            let of_numbers = || chain::Row { term, source: self.numbers(term), y, width, cols };
            match kernel {
                Kernel::Image(map) => {
                    row.units.resize(width * map.cols(), 0);
                    map.row(isa, term, &self.space.framed[i], y, &mut row.sums, &mut row.units);
                    let only = term.only.as_ref().map(|only| &only[y * width..][..width]);
                    first::add_steps(
                        isa,
                        &row.units,
                        [map.cols(), term.outs, cols, term.to],
                        only,
                        &mut row.tile,
                    );
                }
                Kernel::Table { plane, tables } => {
                    let mut added = 0; // each block counts the same
                    for (block, tables) in tables.iter().enumerate() {
                        let first = block * table::COLS;
                        let job = table::Row {
                            taps: &row.taps,
                            plane: &self.space.planes[*plane],
                            tables,
                            positions: width,
                            cols,
                            to: term.to + first,
                            begin: (begins && i == 0).then(|| &self.synapse.bias[first..]),
                        };
                        added = table::table_row(isa, &job, &mut row.tile);
                    }
                    *synops += added * plan.fan_out[i];
                }
                Kernel::Gather { list, weights } => {
                    let job = self.gather(term, &row.taps, *list, weights, begins && i == 0, None);
                    *synops += gather::gather_row(isa, &job, &mut row.lists, &mut row.tile) * plan.fan_out[i];
                }
                Kernel::Masked { source, weights } => {
                    let job = depthwise::Row {
                        taps: &row.taps,
                        spikes: self.plan.spikes(*source, span, &self.space.spikes),
                        first: term.channels.start,
                        channels: term.outs,
                        weights,
                        kernel: kernel_row(term),
                        only: term.only.as_ref().map(|only| &only[y * width..][..width]),
                        positions: width,
                        stride: cols,
                        to: term.to,
                    };
                    *synops += depthwise::masked_row(isa, &job, &mut row.tile);
                }
                Kernel::Matmul(weights) => {
                    chain::matmul_row(&of_numbers(), weights, &mut row.patches, &mut row.exact);
                }
                Kernel::Channels(weights) => chain::channels_row(&of_numbers(), weights, &mut row.exact),
                Kernel::Product(weights) => {
                    if let Some(tile) = E::ints(&mut row.tile) {
                        chain::product_row(isa, &of_numbers(), weights, &mut row.short_patches, tile);
                    }
                }
                Kernel::Times(weights) => {
                    if let Some(tile) = E::ints(&mut row.tile) {
                        chain::times_row(&of_numbers(), weights, tile);
                    }
                }
            }
        }
        if let (Some(fraction), Some(tile)) = (self.synapse.rounded, E::ints(&mut row.tile)) {
            rounding::round_steps(isa, &row.exact, size, fraction, &mut row.running, tile);
        }
    }

    fn numbers(&self, term: &Term) -> Numbers<'_> {
        let Source::Stage(s) = term.source else {
            return Numbers { numbers: &[], channels: 0, steps: 0, width: 0 };
        };
        let [channels, _, width] = self.plan.network.stages[s].shape;
        Numbers { numbers: &self.space.currents[s], channels, steps: self.run.span(), width }
    }
}
