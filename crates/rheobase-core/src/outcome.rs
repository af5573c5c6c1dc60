//! What a run yields, as integers that merge in any order to the same value.

use crate::neuron::Offsets;

/// Counts of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerOutcome {
    /// Spikes of each step, all samples together; empty for a layer that does not spike.
    pub spikes: Vec<u64>,
    /// Synaptic operations: additions of a weight that spikes brought about in this layer's neurons.
    pub synops: u64,
    /// Offset spikes, where asked for.
    pub offsets: Option<Offsets>,
}

impl LayerOutcome {
    /// Adds another's counts.
    pub fn merge(&mut self, more: &LayerOutcome) {
        self.spikes.resize(self.spikes.len().max(more.spikes.len()), 0);
        self.spikes.iter_mut().zip(&more.spikes).for_each(|(a, b)| *a += b);
        self.synops += more.synops;
        if let Some(more) = &more.offsets {
            self.offsets.get_or_insert_default().merge(more);
        }
    }
}

/// What a batch yields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Samples.
    pub samples: usize,
    /// T.
    pub steps: usize,
    /// Running sums of the read-out, `[samples, steps, classes]`, in units of the network's read-out.
    pub logits: Vec<i64>,
    /// Per stage of the integer network, in order.
    pub layers: Vec<LayerOutcome>,
}

impl Outcome {
    /// Appends the outcome of the samples that follow.
    pub fn append(&mut self, next: Outcome) {
        self.samples += next.samples;
        self.steps = next.steps;
        self.logits.extend(next.logits);
        merge_layers(&mut self.layers, &next.layers);
    }

    /// The class of each sample after `step` steps (1-based); the first of equals.
    pub fn classes_after(&self, step: usize) -> Vec<usize> {
        let each = self.logits.len() / self.samples.max(1);
        let classes = each / self.steps.max(1);
        self.logits
            .chunks_exact(each.max(1))
            .map(|l| crate::ann::argmax(&l[(step - 1) * classes..step * classes]))
            .collect()
    }
}

/// Adds the counts of `more` to `layers`, layer by layer.
pub fn merge_layers(layers: &mut Vec<LayerOutcome>, more: &[LayerOutcome]) {
    layers.resize(layers.len().max(more.len()), LayerOutcome::default());
    layers.iter_mut().zip(more).for_each(|(a, b)| a.merge(b));
}
