//! A network prepared for this machine: weights packed for the kernels, forms of spikes to make, buffers to reuse.
//! In: an integer network and an instruction set. Out: a [`Plan`]; never saved, its results depend on nothing in it.

use super::image::ImageMap;
use super::live;
use super::run::{Run, Workspace};
use crate::integer::{IntegerNetwork, Role, Source, Stage, Term, Weights, head};
use crate::neuron::Shorts;
use rheobase_kernels::choice::Lanes;
use rheobase_kernels::events::{Frame, Listing, Order};
use rheobase_kernels::flat::{Raster, Taps};
use rheobase_kernels::lanes::Element;
use rheobase_kernels::packed::{self, Packed};
use rheobase_kernels::table::Tables;
use rheobase_kernels::team::Team;
use rheobase_kernels::{Isa, Kernels, gather, lookup, product, sweep, table};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock};

/// An integer network, ready to run.
pub struct Plan<'a> {
    /// What it was made of.
    pub(super) whole: &'a IntegerNetwork,
    /// What it runs: the same, without channels that never fire.
    pub(super) network: Cow<'a, IntegerNetwork>,
    /// The plan of the whole network, for runs that want it.
    complete: OnceLock<Box<Plan<'a>>>,
    pub(super) isa: Isa,
    kernels: Kernels,
    pub(super) stages: Vec<StagePlan>,
    pub(super) forms: Forms,
    /// The last stage that reads each stage.
    pub(super) last: Vec<usize>,
    /// The last stage that reads each raster.
    pub(super) last_flat: Vec<usize>,
    /// Whether there are weights that come from far away, block by block.
    is_heavy: bool,
    /// Products of a stage, all steps, that are worth a second thread.
    pub(super) split: usize,
    pub(super) idle: Mutex<Vec<Workspace>>,
    /// Threads that share an image.
    pub(super) teams: Mutex<Vec<Arc<Team>>>,
}

/// The forms in which spikes are read.
#[derive(Default)]
pub struct Forms {
    pub lists: Vec<View>,
    pub planes: Vec<(usize, Frame)>,
    pub flats: Vec<(usize, Raster)>,
}

/// Which events, and of what stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub stage: usize,
    pub listing: Listing,
}

/// A stage as the kernels want it.
pub struct StagePlan {
    /// Channels padded to a multiple of 16, room for every term's padding included.
    pub cols: usize,
    pub theta: Vec<i32>,
    pub start: Vec<i32>,
    pub per_neuron: bool,
    pub shorts: Option<Shorts>,
    /// Whether its currents are the image's alone, the same at every step.
    pub steady: bool,
    /// Largest current, threshold or initial potential there can be.
    pub bound: i64,
    /// Largest threshold or initial potential.
    pub fixed: i64,
    pub synapse: Synapses,
    /// Products of its maps, for one step.
    pub work: usize,
    /// Channels that are left out, which never fire.
    pub silent: usize,
    /// Per term: additions that a spike stands for at a tap, of what is left out, too.
    pub fan_out: Vec<u64>,
    /// The forms of its spikes that are the layer as it is, row by row: a stage that goes across positions makes them itself.
    pub flats: Vec<usize>,
    /// Whether anything reads its spikes otherwise.
    pub packed: bool,
}

impl StagePlan {
    /// What lanes hold.
    pub fn lanes(&self) -> Lanes {
        let across = match &self.synapse {
            Synapses::Int(s) => matches!(s.maps, Maps::Across(_)),
            Synapses::Short(s) => matches!(s.maps, Maps::Across(_)),
        };
        if across { Lanes::Positions } else { Lanes::Channels }
    }

    /// The rasters that it reads.
    fn reads_flat(&self) -> Vec<usize> {
        match &self.synapse {
            Synapses::Int(s) => s.flats(),
            Synapses::Short(s) => s.flats(),
        }
    }
}

/// A synapse of one of two widths.
pub enum Synapses {
    Int(Synapse<i32>),
    Short(Synapse<i16>),
}

/// Where a stage's currents come from.
pub struct Synapse<E> {
    pub bias: Vec<E>,
    pub maps: Maps<E>,
    /// Fraction bits of what is summed exactly in f64 and rounded, if some terms are.
    pub rounded: Option<u32>,
}

/// The kernels of a stage, one per term.
pub enum Maps<E> {
    /// A row of positions at a time, lanes being channels.
    Along(Vec<Kernel<E>>),
    /// A block of positions at a time, lanes being positions; the flat spikes that each reads.
    Across(Vec<(usize, Taps, AcrossKernel<E>)>),
}

/// The kernel of a term over flat spikes, and its weights.
pub enum AcrossKernel<E> {
    /// Dense map, looked up.
    Lookup(lookup::Tables<E>),
    /// Channel by channel: `[tap, padded]`.
    Channels(Vec<E>),
}

impl<E: Element> Synapse<E> {
    fn flats(&self) -> Vec<usize> {
        match &self.maps {
            Maps::Along(_) => vec![],
            Maps::Across(kernels) => kernels.iter().map(|(flat, ..)| *flat).collect(),
        }
    }

    /// The list and the weights of its only map, if these are more than the nearer caches hold beside other things.
    pub fn heavy(&self) -> Option<(usize, &Packed<E>)> {
        match &self.maps {
            Maps::Along(kernels) => match &kernels[..] {
                [Kernel::Gather { list, weights }] if weights.bytes() > FAR => Some((*list, weights)),
                _ => None,
            },
            Maps::Across(_) => None,
        }
    }

    /// The kernels as `bench` names them.
    pub fn names(&self) -> Vec<&'static str> {
        match &self.maps {
            Maps::Along(kernels) => kernels.iter().map(Kernel::name).collect(),
            Maps::Across(kernels) => kernels
                .iter()
                .map(|(_, _, kernel)| match kernel {
                    AcrossKernel::Lookup(_) => "lookup",
                    AcrossKernel::Channels(_) => "masked",
                })
                .collect(),
        }
    }
}

/// The kernel of a term and its packed weights.
pub enum Kernel<E> {
    /// Image, f32 in order.
    Image(ImageMap),
    /// Spikes, dense map to few outputs; the plane that it reads, tables of 16 outputs each.
    Table { plane: usize, tables: Vec<Tables<E>> },
    /// Spikes, dense map, swept where the weights are packed so; the view whose events it reads.
    Gather { list: usize, weights: Packed<E> },
    /// Spikes of a stage, channel by channel: `[tap, padded]`.
    Masked { source: usize, weights: Vec<E> },
    /// Currents, dense map, summed exactly: `[tap · in, outs]`.
    Matmul(Vec<f64>),
    /// Currents, channel by channel, summed exactly: `[tap, channels]`.
    Channels(Vec<f64>),
    /// Currents of 16 bits, dense map.
    Product(product::Weights),
    /// Currents of 16 bits, channel by channel: `[tap, channels]`.
    Times(Vec<i32>),
}

impl<E: Element> Kernel<E> {
    /// As `bench` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Image(_) => "image",
            Kernel::Table { .. } => "table",
            Kernel::Gather { weights, .. } if weights.together() > 1 => "sweep",
            Kernel::Gather { .. } => "gather",
            Kernel::Masked { .. } => "masked",
            Kernel::Matmul(_) => "matmul",
            Kernel::Channels(_) | Kernel::Times(_) => "channels",
            Kernel::Product(_) => "product",
        }
    }
}

/// So many images that a layer's weights are worth fetching into the nearer caches; where they come from memory block by block,
/// more, as long as what the images leave between layers is not too large.
const GROUP: usize = 4;
const LARGE_GROUP: usize = 32;
const BETWEEN: usize = 1 << 24;

/// So many: a few microseconds.
const SPLIT: usize = 1 << 20;

/// θ of padding: no current reaches it, and multiples of it stay in range.
const NEVER: i32 = 1 << 26;

/// Bytes of weights that the nearer caches do not hold beside other things.
const FAR: usize = 1 << 19;

/// The most memory that the tables of a term may take.
const TABLES: usize = 1 << 20;

/// The most memory that the tables of a term across positions may take, which are read from the second cache for every block of
/// positions: the usual, and for layers of so many positions that it is worth while to fetch more from the third.
const LOOKUPS: usize = 1 << 18;
const LARGE_LOOKUPS: (usize, usize) = (1 << 20, 1024);

impl<'a> Plan<'a> {
    /// Packs the weights for some kernels.
    pub fn new(network: &'a IntegerNetwork, kernels: impl Into<Kernels>) -> Self {
        let kernels = kernels.into();
        Plan::with(network, kernels, |_| kernels.lanes)
    }

    /// The same; what lanes hold is said for each stage.
    pub(super) fn with(
        whole: &'a IntegerNetwork,
        kernels: Kernels,
        lanes: impl Fn(usize) -> Option<Lanes>,
    ) -> Self {
        let network = live::without_silent(whole).map_or(Cow::Borrowed(whole), Cow::Owned);
        Plan::of(whole, network, kernels, lanes)
    }

    /// The plan that does a run: this one, or that of the whole network where channels that are left out might fire.
    pub fn of_run(&self, run: &Run<'_>) -> &Plan<'a> {
        let is_sure = run.span() <= live::STEPS && run.rule.keeps_silent();
        if is_sure || matches!(self.network, Cow::Borrowed(_)) {
            return self;
        }
        self.complete.get_or_init(|| {
            let lanes = |s: usize| Some(self.stages[s].lanes());
            let plan = Plan::of(self.whole, Cow::Borrowed(self.whole), self.kernels, lanes);
            Box::new(Plan { split: self.split, ..plan })
        })
    }

    fn of(
        whole: &'a IntegerNetwork,
        mut network: Cow<'a, IntegerNetwork>,
        kernels: Kernels,
        lanes: impl Fn(usize) -> Option<Lanes>,
    ) -> Self {
        let isa = kernels.isa;
        let mut forms = Forms::default();
        // spikes that are spread need the currents of whole rows
        let spread = head::last_spiking(whole);
        let mut stages: Vec<_> = (network.stages.iter().zip(&whole.stages).enumerate())
            .map(|(i, (s, whole))| {
                let lanes = if spread == Some(i) { Some(Lanes::Channels) } else { lanes(i) };
                stage(s, whole, &network, isa, lanes, &mut forms)
            })
            .collect();
        for (i, (stage, raster)) in forms.flats.iter().enumerate() {
            let as_it_is = raster.stride == [1, 1] && raster.width == network.stages[*stage].shape[2];
            if as_it_is {
                stages[*stage].flats.push(i);
            } else {
                stages[*stage].packed = true;
            }
        }
        for (i, stage) in network.stages.iter().enumerate() {
            let along = stages[i].lanes() == Lanes::Channels;
            for term in stage.terms.iter().filter(|_| along) {
                if let Source::Stage(s) = term.source {
                    stages[s].packed = true;
                }
            }
        }
        let mut last_flat = vec![0; forms.flats.len()];
        for (i, stage) in stages.iter().enumerate() {
            for flat in stage.reads_flat() {
                last_flat[flat] = i;
            }
        }
        let mut last = vec![0; stages.len()];
        for (i, stage) in network.stages.iter().enumerate() {
            for term in &stage.terms {
                if let Source::Stage(s) = term.source {
                    last[s] = i;
                }
            }
        }
        let is_heavy = |stage: &StagePlan| match &stage.synapse {
            Synapses::Int(s) => s.heavy().is_some(),
            Synapses::Short(s) => s.heavy().is_some(),
        };
        if let Cow::Owned(network) = &mut network {
            // they are packed
            let terms = network.stages.iter_mut().flat_map(|stage| &mut stage.terms);
            terms
                .filter(|t| matches!(t.weights, Weights::Spikes(_)))
                .for_each(|t| t.weights = Weights::Spikes(vec![]));
        }
        Plan {
            whole,
            network,
            complete: OnceLock::new(),
            isa,
            kernels,
            is_heavy: stages.iter().any(is_heavy),
            stages,
            forms,
            last,
            last_flat,
            split: SPLIT,
            idle: Mutex::default(),
            teams: Mutex::default(),
        }
    }

    /// The network it was made of.
    pub fn network(&self) -> &'a IntegerNetwork {
        self.whole
    }

    /// The most images that go through a layer one after the other.
    pub(super) fn images_together(&self, span: usize) -> usize {
        let bytes = |stage: &Stage| {
            let [channels, h, w] = stage.shape;
            h * w * if stage.role == Role::Linear { 4 * channels } else { 8 * channels.div_ceil(64) }
        };
        let most = self.network.stages.iter().map(bytes).max().unwrap_or(1);
        let many = BETWEEN / span.saturating_mul(most).max(1);
        if self.is_heavy { many.clamp(GROUP, LARGE_GROUP) } else { GROUP }
    }

    /// What it was made for.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The kernels of a stage, one per term, and the bits of its currents.
    pub fn kernels_of(&self, stage: usize) -> (Vec<&'static str>, u32) {
        match &self.stages[stage].synapse {
            Synapses::Int(s) => (s.names(), 32),
            Synapses::Short(s) => (s.names(), 16),
        }
    }
}

/// `whole` is the stage with the channels that are left out.
fn stage(
    stage: &Stage,
    whole: &Stage,
    network: &IntegerNetwork,
    isa: Isa,
    lanes: Option<Lanes>,
    forms: &mut Forms,
) -> StagePlan {
    let channels = stage.shape[0];
    // kernels write whole blocks of columns
    let reach = stage.terms.iter().map(|t| t.to + t.outs.next_multiple_of(packed::COLS));
    let cols = reach.max().unwrap_or(0).max(channels).next_multiple_of(packed::COLS);
    let pad = |x: &[i32], fill: i32| -> Vec<i32> {
        x.chunks_exact(channels)
            .flat_map(|x| x.iter().copied().chain(std::iter::repeat_n(fill, cols - channels)))
            .collect()
    };
    let (theta, start) = match &stage.role {
        Role::Spiking { theta, start } => (pad(theta, NEVER), pad(start, 0)),
        Role::Linear | Role::Readout => (vec![], vec![]),
    };
    let largest = stage.bound.iter().copied().max().unwrap_or(0);
    let fixed = theta.iter().chain(&start).map(|&x| i64::from(x).abs()).max().unwrap_or(0);
    let reads_currents = stage.terms.iter().any(|t| matches!(t.weights, Weights::Currents(_)));
    let rounded = (reads_currents && stage.fraction > 0).then_some(stage.fraction);
    let short = stage.role != Role::Readout && !reads_currents && largest <= i16::MAX.into();
    let bias = pad(&stage.bias, 0);
    let per_neuron = start.len() > cols;
    let either = !per_neuron && matches!(stage.role, Role::Spiking { .. });
    let lanes = if either { lanes } else { Some(Lanes::Channels) };
    let products = |t: &Term| t.taps() * t.outs * if t.depthwise { 1 } else { t.channels.len() };
    let positions = stage.shape[1] * stage.shape[2];
    let is_image = |t: &Term| matches!(t.weights, Weights::Image(_));
    StagePlan {
        cols,
        per_neuron,
        shorts: Shorts::new(&theta, &start),
        steady: matches!(stage.role, Role::Spiking { .. }) && stage.terms.iter().all(is_image),
        bound: largest.max(fixed),
        fixed,
        theta,
        start,
        synapse: if short {
            Synapses::Short(synapse(stage, network, isa, forms, bias, rounded, lanes))
        } else {
            Synapses::Int(synapse(stage, network, isa, forms, bias, rounded, lanes))
        },
        work: stage.terms.iter().map(products).fold(0, usize::saturating_add).saturating_mul(positions),
        flats: vec![],
        packed: false,
        silent: whole.shape[0] - channels,
        fan_out: whole.terms.iter().map(|t| if t.depthwise { 1 } else { t.outs as u64 }).collect(),
    }
}

fn synapse<E: Element>(
    stage: &Stage,
    network: &IntegerNetwork,
    isa: Isa,
    forms: &mut Forms,
    bias: Vec<i32>,
    rounded: Option<u32>,
    lanes: Option<Lanes>,
) -> Synapse<E> {
    let bias = bias.into_iter().map(E::cut).collect();
    let taps = across::<E>(stage, network, isa, lanes);
    let maps = match taps {
        Some(taps) => {
            let kernels = stage.terms.iter().zip(taps);
            Maps::Across(kernels.map(|(term, taps)| across_kernel(term, taps, isa, forms)).collect())
        }
        None => Maps::Along(stage.terms.iter().map(|t| kernel(t, stage, network, isa, forms)).collect()),
    };
    Synapse { bias, maps, rounded }
}

/// The taps of every term, if the stage can go across positions and is faster so.
fn across<E: Element>(
    stage: &Stage,
    network: &IntegerNetwork,
    isa: Isa,
    lanes: Option<Lanes>,
) -> Option<Vec<Taps>> {
    let is_wanted = match lanes {
        Some(lanes) => lanes == Lanes::Positions,
        None => lookup::is_fast::<E>(isa),
    };
    if !is_wanted {
        return None;
    }
    let [_, height, width] = stage.shape;
    let taps = |term: &Term| {
        let Source::Stage(source) = term.source else { return None };
        let [_, h, w] = network.stages[source].shape;
        let plain = term.pool.is_none() && term.only.is_none() && matches!(term.weights, Weights::Spikes(_));
        let taps = plain.then(|| Taps::new(&term.window, term.dilation, [h, w], [height, width]))??;
        let bytes = lookup::Tables::<E>::bytes(isa, taps.len(), &term.channels, term.outs);
        let is_large = height * width >= LARGE_LOOKUPS.1;
        let most = if is_large { LARGE_LOOKUPS.0 } else { LOOKUPS };
        (term.depthwise || bytes <= most).then_some(taps)
    };
    stage.terms.iter().map(taps).collect()
}

fn across_kernel<E: Element>(
    term: &Term,
    taps: Taps,
    isa: Isa,
    forms: &mut Forms,
) -> (usize, Taps, AcrossKernel<E>) {
    let (Source::Stage(source), Weights::Spikes(w)) = (term.source, &term.weights) else {
        unreachable!("spikes of a stage")
    };
    let (ins, outs) = (term.channels.len(), term.outs);
    let kernel = if term.depthwise {
        AcrossKernel::Channels(w.iter().map(|&w| E::cut(w)).collect())
    } else {
        let weight = |tap: usize, c: usize, o: usize| E::cut(w[(tap * ins + c) * outs + o]);
        AcrossKernel::Lookup(lookup::Tables::new(isa, taps.len(), &term.channels, outs, weight))
    };
    (forms.flat(source, &taps.raster), taps, kernel)
}

fn kernel<E: Element>(
    term: &Term,
    stage: &Stage,
    network: &IntegerNetwork,
    isa: Isa,
    forms: &mut Forms,
) -> Kernel<E> {
    let (ins, outs) = (term.channels.len(), term.outs);
    match &term.weights {
        Weights::Image(w) => Kernel::Image(ImageMap::new(term, w, stage, network.input)),
        Weights::Spikes(w) => {
            let Source::Stage(source) = term.source else { unreachable!("spikes come from a stage") };
            if term.depthwise {
                let padded = outs.next_multiple_of(packed::COLS);
                let rows = w.chunks_exact(outs).map(|w| w.iter().copied());
                let pad = || std::iter::repeat_n(0, padded - outs);
                return Kernel::Masked {
                    source,
                    weights: rows.flat_map(|w| w.chain(pad())).map(E::cut).collect(),
                };
            }
            debug_assert!(matches!(network.stages[source].role, Role::Spiking { .. }));
            if tabled::<E>(term) {
                let block = |first: usize| {
                    let weight = |tap: usize, c: usize, o: usize| {
                        if first + o < outs { w[(tap * ins + c) * outs + first + o] } else { 0 }
                    };
                    Tables::new(table_map(term), weight)
                };
                let tables = (0..outs).step_by(table::COLS).map(block).collect();
                return Kernel::Table { plane: forms.plane(source, frame(term, stage.shape[2])), tables };
            }
            let one = term.window.stride[1] == 1 && term.dilation == [1, 1];
            let swept = one && sweep::takes(term.window.kernel[1], term.window.padding[1]);
            let order = match swept {
                true => sweep::order::<E>(isa, [term.window.kernel[0], ins, outs]),
                false => Order::Rows,
            };
            let rows = packed::Rows { kernel: term.window.kernel, ins, order };
            let weights = Packed::new(isa, rows, outs, |row, o| E::cut(w[row * outs + o]));
            let size = [term.from[1], term.from[2]];
            let listing = Listing {
                channels: term.channels.clone(),
                pool: term.pool,
                size,
                short: gather::takes_short(&weights, size[0]),
                order,
            };
            let view = View { stage: source, listing };
            Kernel::Gather { list: forms.list(view), weights }
        }
        Weights::Currents(w) if stage.fraction == 0 && term.depthwise => Kernel::Times(w.clone()),
        Weights::Currents(w) if stage.fraction == 0 => {
            let weight = |i: usize, o: usize| w[i * outs + o] as i16;
            Kernel::Product(product::Weights::new(isa, term.taps() * ins, outs, weight))
        }
        Weights::Currents(w) if term.depthwise => Kernel::Channels(w.iter().map(|&w| w.into()).collect()),
        Weights::Currents(w) => Kernel::Matmul(w.iter().map(|&w| w.into()).collect()),
    }
}

/// Whether sums of a dense map are looked up: few outputs, whose tables are small.
fn tabled<E: Element>(term: &Term) -> bool {
    // strided maps cannot be swept, and short lists are dear
    let few = if term.window.stride[1] == 1 { table::COLS } else { 2 * table::COLS };
    term.outs <= few
        && term.pool.is_none()
        && term.dilation[1] == 1
        && term.channels.start.is_multiple_of(8)
        && table_map(term).bytes::<E>() <= TABLES
}

fn table_map(term: &Term) -> table::Map {
    table::Map { kernel: term.window.kernel, stride: term.window.stride[1], ins: term.channels.len() }
}

/// The plane under a map: zeros for its padding, and how often each column is read by `width` outputs.
fn frame(term: &Term, width: usize) -> Frame {
    let ([_, kernel], [_, stride], [_, left]) = (term.window.kernel, term.window.stride, term.window.padding);
    let columns = term.from[2];
    let mut reach = vec![0; columns];
    for at in (0..width).flat_map(|o| (0..kernel).map(move |k| (o * stride + k).wrapping_sub(left))) {
        if let Some(n) = reach.get_mut(at) {
            *n += 1;
        }
    }
    Frame {
        channels: term.channels.clone(),
        left,
        width: (left + columns).max((width - 1) * stride + kernel),
        reach,
    }
}

impl Forms {
    fn list(&mut self, view: View) -> usize {
        self.lists.iter().position(|v| *v == view).unwrap_or_else(|| {
            self.lists.push(view);
            self.lists.len() - 1
        })
    }

    /// One that is enough for each.
    fn flat(&mut self, stage: usize, raster: &Raster) -> usize {
        let same =
            |(s, r): &(usize, Raster)| *s == stage && (r.width, r.stride) == (raster.width, raster.stride);
        let found = self.flats.iter().position(same).unwrap_or_else(|| {
            self.flats.push((stage, raster.clone()));
            self.flats.len() - 1
        });
        self.flats[found].1.merge(raster);
        found
    }

    fn plane(&mut self, stage: usize, frame: Frame) -> usize {
        let new = (stage, frame);
        self.planes.iter().position(|p| *p == new).unwrap_or_else(|| {
            self.planes.push(new);
            self.planes.len() - 1
        })
    }
}
