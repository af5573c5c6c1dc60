//! Recipes: every number that decides what training makes of a network and a data set.
//! In: the kind of data set and what the user changed. Out: a recipe, checked; a learning rate for each step.

use crate::augment::Augment;
use rheobase_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Learning rate at the start of the cosine.
    pub lr: f32,
    /// Momentum of SGD.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Epochs over which the learning rate rises from 0 first.
    pub warmup: usize,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f32,
    /// The largest norm that a step's gradient may have, all parameters together; 0 for any. Networks without BatchNorm need it.
    pub clip: f32,
    /// What the average of the weights keeps of itself at a step: the network that is judged and saved is that average of the
    /// steps' weights. 0 for the weights themselves.
    #[serde(default)]
    pub average: f32,
    /// What happens to the images, as [`Augment`] is written.
    pub augment: String,
    /// Share of the loss that comes from a teacher, the rest comes from the labels.
    pub distill: f32,
    /// Temperature of the teacher's distribution.
    pub temperature: f32,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
}

/// What differs between data sets.
struct Preset {
    data: &'static str,
    epochs: usize,
    batch: usize,
    lr: f32,
    weight_decay: f32,
    augment: &'static str,
}

/// The paper's recipe (Hao et al., ICLR 2023, and its code) for its data sets; chosen by trial for digits.
const PRESETS: &[Preset] = &[
    Preset { data: "cifar10", epochs: 300, batch: 128, lr: 0.02, weight_decay: 5e-4, augment: "auto" },
    Preset { data: "cifar100", epochs: 300, batch: 128, lr: 0.02, weight_decay: 5e-4, augment: "auto" },
    Preset {
        data: "imagefolder",
        epochs: 120,
        batch: 128,
        lr: 0.02,
        weight_decay: 5e-4,
        augment: "imagenet",
    },
    Preset { data: "mnist", epochs: 20, batch: 128, lr: 0.05, weight_decay: 5e-4, augment: "shift" },
    Preset { data: "digits", epochs: 60, batch: 64, lr: 0.1, weight_decay: 1e-3, augment: "shift" },
];

impl Recipe {
    /// The defaults for a data set as `--data` names it.
    pub fn of(data: &str, seed: u64) -> Recipe {
        let kind = data.split(':').next().unwrap_or(data);
        let preset = PRESETS.iter().find(|p| p.data == kind).unwrap_or(&PRESETS[0]);
        Recipe {
            epochs: preset.epochs,
            batch: preset.batch,
            lr: preset.lr,
            momentum: 0.9,
            weight_decay: preset.weight_decay,
            warmup: 0,
            label_smoothing: 0.0,
            clip: 0.0,
            average: 0.0,
            augment: preset.augment.into(),
            distill: 0.5,
            temperature: 4.0,
            seed,
        }
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, expected: &str, found: String| {
            Err(Error::new(Kind::Usage, format!("{what} makes no sense")).expected(expected).found(found))
        };
        match self {
            r if !(1..=1_000_000).contains(&r.epochs) => {
                bad("the number of epochs", "1 to 1,000,000", r.epochs.to_string())
            }
            r if !(1..=65_536).contains(&r.batch) => bad("the batch", "1 to 65,536", r.batch.to_string()),
            r if !(r.lr > 0.0 && r.lr <= 100.0) => {
                bad("the learning rate", "above 0 and up to 100", r.lr.to_string())
            }
            r if !(0.0..1.0).contains(&r.momentum) => {
                bad("the momentum", "0 or more and below 1", r.momentum.to_string())
            }
            r if !(0.0..1.0).contains(&r.weight_decay) => {
                bad("the weight decay", "0 or more and below 1", r.weight_decay.to_string())
            }
            r if r.warmup >= r.epochs && r.warmup > 0 => {
                bad("the warm-up", &format!("fewer than {} epochs", r.epochs), r.warmup.to_string())
            }
            r if !(0.0..1.0).contains(&r.label_smoothing) => {
                bad("label smoothing", "0 or more and below 1", r.label_smoothing.to_string())
            }
            r if !(r.clip >= 0.0 && r.clip.is_finite()) => {
                bad("the largest norm of a gradient", "0 or more", r.clip.to_string())
            }
            r if !(0.0..1.0).contains(&r.average) => bad(
                "the share that the average keeps",
                "0 or more and below 1, such as 0.999",
                r.average.to_string(),
            ),
            r if !(0.0..=1.0).contains(&r.distill) => {
                bad("the teacher's share", "0 to 1", r.distill.to_string())
            }
            r if !(r.temperature > 0.0 && r.temperature.is_finite()) => {
                bad("the temperature", "above 0", r.temperature.to_string())
            }
            _ => Ok(()),
        }
    }

    /// What happens to the images, for so many classes.
    pub fn augmentation(&self, classes: usize) -> Result<Augment> {
        Augment::named(&self.augment, classes)
    }

    /// The learning rate of a step: a line up during warm-up, then half a cosine down to 0.
    pub fn rate(&self, step: usize, steps_per_epoch: usize) -> f32 {
        let (warm, all) = (self.warmup * steps_per_epoch, self.epochs * steps_per_epoch);
        if step < warm {
            return self.lr * (step + 1) as f32 / warm as f32;
        }
        let share = (step - warm) as f64 / (all - warm).max(1) as f64;
        (f64::from(self.lr) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())) as f32
    }

    /// The first setting in which two recipes differ: its name, here and there.
    pub fn difference(&self, other: &Recipe) -> Option<(String, String, String)> {
        let map = |r: &Recipe| serde_json::to_value(r).ok().and_then(|v| v.as_object().cloned());
        let (here, there) = (map(self)?, map(other)?);
        here.iter().find(|(k, v)| there.get(*k) != Some(v)).map(|(k, v)| {
            let other = there.get(k).map_or("nothing".to_string(), ToString::to_string);
            (k.replace('_', "-"), v.to_string(), other)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_then_falls_to_nothing() {
        let recipe = Recipe { epochs: 10, warmup: 2, lr: 0.1, ..Recipe::of("digits", 0) };
        assert!((recipe.rate(9, 10) - 0.05).abs() < 1e-7);
        assert!((recipe.rate(20, 10) - 0.1).abs() < 1e-7);
        assert!((recipe.rate(60, 10) - 0.05).abs() < 1e-7);
        assert!(recipe.rate(99, 10) < 1e-4);
    }

    #[test]
    fn recipes_say_where_they_differ() {
        let a = Recipe::of("cifar10:x", 1);
        assert_eq!(a.difference(&a), None);
        let b = Recipe { weight_decay: 0.5, ..a.clone() };
        assert_eq!(a.difference(&b).map(|d| d.0), Some("weight-decay".into()));
        assert!(Recipe { epochs: 0, ..a }.check().is_err());
    }
}
