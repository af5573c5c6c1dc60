//! A network prepared for this machine: weights packed for the kernels, views to list events of, buffers to reuse.
//! In: an integer network and an instruction set. Out: a [`Plan`]; never saved, its results depend on nothing in it.

use super::events::View;
use super::run::Workspace;
use crate::integer::{IntegerNetwork, Role, Source, Stage, Term, Weights};
use rheobase_kernels::Isa;
use std::borrow::Cow;
use std::sync::Mutex;

/// An integer network, ready to run.
pub struct Plan<'a> {
    pub(super) network: &'a IntegerNetwork,
    pub(super) isa: Isa,
    pub(super) stages: Vec<StagePlan<'a>>,
    pub(super) views: Vec<View>,
    /// The last stage that reads each stage.
    pub(super) last: Vec<usize>,
    pub(super) idle: Mutex<Vec<Workspace>>,
}

/// A stage as the kernels want it.
pub struct StagePlan<'a> {
    /// Channels padded to a multiple of 16, room for every term's padding included.
    pub cols: usize,
    pub bias: Vec<i32>,
    pub theta: Vec<i32>,
    pub start: Vec<i32>,
    pub per_neuron: bool,
    /// Largest current or threshold.
    pub bound: i64,
    pub terms: Vec<TermPlan<'a>>,
    /// Whether some terms are summed exactly in f64 and rounded.
    pub chained: bool,
}

/// How a term is computed.
pub struct TermPlan<'a> {
    pub term: &'a Term,
    pub kernel: Kernel<'a>,
}

/// The kernel of a term and its packed weights.
pub enum Kernel<'a> {
    /// Image, dense, f32 in order: `[tap · in, outs]`.
    Image(&'a [f32]),
    /// Spikes, dense map: `[tap · in, cols]`; the view whose events it reads.
    Gather { view: usize, cols: usize, weights: Cow<'a, [i32]> },
    /// Spikes, channel by channel: `[tap, cols]`.
    Masked { cols: usize, weights: Vec<i32> },
    /// Currents, dense map: `[tap · in, outs]`.
    Matmul(Vec<f64>),
    /// Currents, channel by channel: `[tap, channels]`.
    Channels(Vec<f64>),
}

/// θ of padding: no current reaches it, and multiples of it stay in range.
const NEVER: i32 = 1 << 26;

impl<'a> Plan<'a> {
    /// Packs the weights for an instruction set.
    pub fn new(network: &'a IntegerNetwork, isa: Isa) -> Self {
        let mut views = vec![];
        let stages: Vec<_> = network.stages.iter().map(|s| stage(s, &network.stages, &mut views)).collect();
        let mut last = vec![0; stages.len()];
        for (i, stage) in network.stages.iter().enumerate() {
            for term in &stage.terms {
                if let Source::Stage(s) = term.source {
                    last[s] = i;
                }
            }
        }
        Plan { network, isa, stages, views, last, idle: Mutex::default() }
    }

    /// The network it was made of.
    pub fn network(&self) -> &'a IntegerNetwork {
        self.network
    }

    /// The instruction set it was made for.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

fn stage<'a>(stage: &'a Stage, all: &'a [Stage], views: &mut Vec<View>) -> StagePlan<'a> {
    let channels = stage.shape[0];
    let terms: Vec<_> =
        stage.terms.iter().map(|t| TermPlan { term: t, kernel: kernel(t, all, views) }).collect();
    let reach = terms.iter().map(|t| match &t.kernel {
        Kernel::Gather { cols, .. } | Kernel::Masked { cols, .. } => t.term.to + cols,
        Kernel::Image(_) | Kernel::Matmul(_) | Kernel::Channels(_) => t.term.to + t.term.outs,
    });
    let cols = reach.max().unwrap_or(0).max(channels).next_multiple_of(16);
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
    let chained = terms.iter().any(|t| matches!(t.kernel, Kernel::Matmul(_) | Kernel::Channels(_)));
    StagePlan {
        cols,
        bias: pad(&stage.bias, 0),
        per_neuron: start.len() > cols,
        bound: largest.max(theta.iter().copied().max().unwrap_or(0).into()),
        theta,
        start,
        terms,
        chained,
    }
}

fn kernel<'a>(term: &'a Term, all: &[Stage], views: &mut Vec<View>) -> Kernel<'a> {
    let cols = term.outs.next_multiple_of(16);
    match &term.weights {
        Weights::Image(w) => Kernel::Image(w),
        Weights::Spikes(w) if term.depthwise => {
            Kernel::Masked { cols, weights: padded(w, term.outs, cols).into_owned() }
        }
        Weights::Spikes(w) => {
            let view = View::of(term).expect("spikes come from a stage");
            debug_assert!(matches!(all[view.stage].role, Role::Spiking { .. }));
            let at = views.iter().position(|v| *v == view).unwrap_or_else(|| {
                views.push(view);
                views.len() - 1
            });
            Kernel::Gather { view: at, cols, weights: padded(w, term.outs, cols) }
        }
        Weights::Currents(w) if term.depthwise => Kernel::Channels(w.iter().map(|&w| w.into()).collect()),
        Weights::Currents(w) => Kernel::Matmul(w.iter().map(|&w| w.into()).collect()),
    }
}

/// Rows of `n` numbers as rows of `cols`.
fn padded(rows: &[i32], n: usize, cols: usize) -> Cow<'_, [i32]> {
    if n == cols {
        return rows.into();
    }
    let pad = || std::iter::repeat_n(0, cols - n);
    rows.chunks_exact(n).flat_map(|row| row.iter().copied().chain(pad())).collect()
}
