//! The last spiking layer where its spikes are spread over the first steps.
//! In: a plan, a rule, what was asked for. Out: a [`Spreading`] to run with; then the layer's spikes, all positions at once.

use super::plan::Plan;
use super::run::{RowSpace, Rows, Width};
use crate::error::{Error, Kind, Result};
use crate::integer::head;
use crate::neuron::spread::{self, Layer, Outgoing, Spread};
use crate::neuron::{Currents, NeuronRule, Offsets, Rule, Tile, TileOut};
use crate::outcome::LayerOutcome;

/// A spread rule with what it needs to know of the network.
pub struct Spreading {
    /// Which.
    pub kind: Spread,
    stage: usize,
    outgoing: Option<Outgoing>,
}

impl Plan<'_> {
    /// What to spread by under an exact rule: `want`, or without it what suits the head where T < ρ. `None` for no spreading.
    pub fn spreading(
        &self,
        want: Option<Spread>,
        rule: &dyn NeuronRule,
        steps: usize,
    ) -> Result<Option<Spreading>> {
        let (asked, presim) = (want.is_some_and(|w| w != Spread::None), rule.presim());
        let refuse = |what: &str| {
            let error =
                Err(Error::new(Kind::Usage, what).hint("leave out `--spread`, or take `--spread none`"));
            if asked { error } else { Ok(None) }
        };
        if !rule.is_exact() {
            return refuse("`--spread` goes with `--method cos --iterations exact` only");
        }
        let kind = want.unwrap_or_else(|| if steps < presim { head::form(self.whole) } else { Spread::None });
        let stage = match head::last_spiking(self.whole) {
            Some(stage) if kind != Spread::None => stage,
            _ => return Ok(None),
        };
        if !spread::fits(presim, self.stages[stage].bound) {
            return refuse("so many pre-simulated steps leave no room for a spread in 32 bits");
        }
        let outgoing = if kind == Spread::Weights { head::outgoing(self.whole, presim) } else { None };
        if kind == Spread::Weights && outgoing.is_none() {
            return refuse(
                "the read-out does not read the last spiking layer alone: no weights to spread by",
            );
        }
        Ok(Some(Spreading { kind, stage, outgoing }))
    }
}

impl Spreading {
    /// Whether it is this stage that is spread.
    pub fn is_of(&self, stage: usize) -> bool {
        self.stage == stage
    }
}

impl<E: Width> Rows<'_, '_, E> {
    /// All rows: every current first, then v(0) of every neuron, then the spikes.
    pub fn run_spread(
        &self,
        spreading: &Spreading,
        row: &mut RowSpace<E>,
        spikes: &mut [u64],
    ) -> LayerOutcome {
        let (stage, plan, run) = (&self.plan.network.stages[self.s], &self.plan.stages[self.s], self.run);
        let ([channels, height, width], span, cols) = (stage.shape, run.span(), plan.cols);
        let (line, layer) = (width * cols, height * width * cols);
        let mut out = LayerOutcome { spikes: vec![0; span], ..LayerOutcome::default() };
        let mut currents = std::mem::take(&mut row.layer);
        currents.resize(span * layer, 0);
        for y in 0..height {
            self.sum(y, row, &mut out.synops);
            for t in 0..span {
                let from = &row.tile[if self.steady() { 0 } else { t * line }..][..line];
                let to = &mut currents[t * layer + y * line..][..line];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from.wide());
            }
        }
        let (wide, presim) = (self.wide(), run.rule.presim());
        let mut starts = std::mem::take(&mut row.starts);
        let job = Layer {
            span,
            presim,
            steps: run.steps,
            height,
            width,
            channels,
            cols,
            currents: &currents,
            theta: &plan.theta,
            wide,
            outgoing: spreading.outgoing.as_ref(),
        };
        spread::starts(self.plan.isa, spreading.kind, &job, &mut starts);
        let mut tile = Tile {
            span,
            positions: height * width,
            cols,
            channels,
            currents: Currents::Int(&currents),
            theta: &plan.theta,
            start: &starts,
            steady: false,
            per_neuron: true,
            shorts: None,
            wide,
            most: plan.bound,
        };
        // The rule gives a whole layer step by step, the engine keeps rows of all steps.
        let words = channels.div_ceil(64);
        let stride = height * width * words;
        let mut bits = vec![0; span * stride];
        let mut offsets = run.offsets.then(|| Offsets::new(presim));
        let spikes_of = &mut out.spikes;
        let mut to =
            TileOut { steps: span, bits: &mut bits, stride, spikes: spikes_of, offsets: offsets.as_mut() };
        Started(presim).run_tile(self.plan.isa, &tile, &mut to);
        if let Some(mut after) = offsets {
            // What it was before calibration is counted from the stored v(0).
            let mut before = Offsets::new(presim);
            let (mut bits, mut none) = (vec![0; span * stride], vec![0; span]);
            (tile.start, tile.per_neuron) = (&plan.start, plan.per_neuron);
            let offsets = Some(&mut before);
            let mut to = TileOut { steps: span, bits: &mut bits, stride, spikes: &mut none, offsets };
            run.rule.run_tile(self.plan.isa, &tile, &mut to);
            after.before = before.before;
            out.offsets = Some(after);
        }
        let n = width * words;
        for (i, to) in spikes.chunks_exact_mut(n).take(height * span).enumerate() {
            let (y, t) = (i / span, i % span);
            to.copy_from_slice(&bits[t * stride + y * n..][..n]);
        }
        (row.layer, row.starts) = (currents, starts);
        out
    }
}

/// Neurons that run from the v(0) they are given; offsets are counted over so many steps.
#[derive(Clone)]
struct Started(usize);

impl Rule for Started {
    fn presim(&self) -> usize {
        self.0
    }

    fn keeps_silent(&self) -> bool {
        true
    }

    fn is_watched(&self) -> bool {
        true
    }
}
