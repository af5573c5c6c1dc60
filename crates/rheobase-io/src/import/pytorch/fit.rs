//! Fits a state dict's keys to a zoo network.
//! In: named tensors, a network's name. Out: the network with their numbers, or an error that lists what does not
//! fit and names the zoo network that would.

use super::dict::StateDict;
use crate::import::{DEFAULT_LEVELS, Options, other_classes};
use rheobase_core::network::op::{ActivationKind, Op, Threshold};
use rheobase_core::network::shape;
use rheobase_core::network::zoo::{self, Arch, Blueprint, Field, MAX_CLASSES, Parameter, ZOO};
use rheobase_core::{Error, Kind, Network, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Shapes = BTreeMap<String, Vec<usize>>;

/// The network that `options` name, with the state dict's numbers.
pub(super) fn network(dict: &mut dyn StateDict, options: &Options) -> Result<Network> {
    let Some(name) = &options.arch else {
        return Err(Error::new(Kind::Usage, "a state dict does not say which network it belongs to")
            .hint(advice(dict.shapes(), options)));
    };
    let arch = zoo::find(name)?;
    let candidates = candidates(arch, dict.shapes(), options)?;
    let (whole, partial): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.fit.is_whole());
    match whole.into_iter().next() {
        Some(best) => fill(dict, best, options),
        None => Err(misfit(arch, &partial, dict.shapes(), options)),
    }
}

/// A blueprint and how well the state dict fits it.
struct Candidate {
    blueprint: Blueprint,
    fit: Fit,
}

/// What fits and what does not.
#[derive(Default)]
struct Fit {
    /// What stands before the keys, such as `state_dict.module.`.
    prefix: String,
    /// The key of every parameter; `None` where there is none.
    keys: Vec<Option<String>>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    misshapen: Vec<String>,
}

impl Fit {
    fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    fn faults(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }
}

/// The network at every image shape in question, with the state dict's number of classes.
fn candidates(arch: &Arch, shapes: &Shapes, options: &Options) -> Result<Vec<Candidate>> {
    let usual: Vec<_> = options.input.map_or_else(|| arch.inputs.to_vec(), |input| vec![input]);
    let sketch = zoo::blueprint(arch.name, arch.classes, Some(usual[0]))?;
    let prefix = prefix(&sketch.parameters, shapes);
    let classes = match (head(&sketch.parameters, &prefix, shapes), options.classes) {
        (Some(found), Some(wanted)) if found != wanted => return Err(other_classes(wanted, found)),
        (Some(found), _) => found,
        (None, wanted) => wanted.unwrap_or(arch.classes),
    };
    usual
        .into_iter()
        .map(|input| {
            let blueprint = zoo::blueprint(arch.name, classes, Some(input))?;
            let fit = compare(&blueprint.parameters, prefix.clone(), shapes);
            Ok(Candidate { blueprint, fit })
        })
        .collect()
}

/// What stands before most of the parameters' names; `state_dict` before other names where several do equally well.
fn prefix(parameters: &[Parameter], shapes: &Shapes) -> String {
    let index: HashMap<&str, usize> = parameters
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.names.iter().map(move |name| (name.as_str(), i)))
        .collect();
    let mut found: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for key in shapes.keys() {
        let starts = std::iter::once(0).chain(key.match_indices('.').map(|(at, _)| at + 1));
        for start in starts {
            if let Some(&i) = index.get(&key[start..]) {
                found.entry(&key[..start]).or_default().insert(i);
            }
        }
    }
    let best = found.into_iter().max_by_key(|(prefix, hits)| {
        let usual = prefix.is_empty() || prefix.contains("state_dict");
        (hits.len(), usual, std::cmp::Reverse(prefix.to_string()))
    });
    best.map(|(prefix, _)| prefix.to_string()).unwrap_or_default()
}

/// The number of classes: rows of the last weights.
fn head(parameters: &[Parameter], prefix: &str, shapes: &Shapes) -> Option<usize> {
    let last = parameters.iter().rev().find(|p| p.field == Field::Weight)?;
    let shape = last.names.iter().find_map(|name| shapes.get(&format!("{prefix}{name}")))?;
    shape.first().copied()
}

fn compare(parameters: &[Parameter], prefix: String, shapes: &Shapes) -> Fit {
    let mut fit = Fit { prefix, ..Fit::default() };
    let mut used = BTreeSet::new();
    for p in parameters {
        let key = p.names.iter().map(|name| format!("{}{name}", fit.prefix)).find(|k| shapes.contains_key(k));
        if let Some(key) = &key {
            let shape = &shapes[key];
            let fits = if p.field == Field::Threshold {
                // One per layer, or one per channel: which is checked with the network.
                shape.len() <= 1 && shape.first().is_none_or(|n| (1..=MAX_CLASSES).contains(n))
            } else {
                *shape == p.shape
            };
            if !fits {
                fit.misshapen.push(format!("`{key}` is {shape:?}, not {:?}", p.shape));
            }
            used.insert(key.clone());
        }
        fit.keys.push(key);
    }
    // A network has λ at every activation or at none.
    let thresholds = || parameters.iter().zip(&fit.keys).filter(|(p, _)| p.field == Field::Threshold);
    let quantised = thresholds().any(|(_, key)| key.is_some());
    fit.missing = parameters
        .iter()
        .zip(&fit.keys)
        .filter(|(p, key)| key.is_none() && (quantised || p.field != Field::Threshold))
        .map(|(p, _)| format!("`{}`", p.names[0]))
        .collect();
    fit.unexpected = shapes
        .keys()
        .filter(|key| key.starts_with(&fit.prefix) && !used.contains(*key))
        .filter(|key| !key.ends_with("num_batches_tracked"))
        .map(|key| format!("`{key}`"))
        .collect();
    fit
}

/// Moves the numbers into the network and checks it.
fn fill(dict: &mut dyn StateDict, candidate: Candidate, options: &Options) -> Result<Network> {
    let Candidate { blueprint, fit } = candidate;
    let mut network = blueprint.network;
    let extras = dict.extras();
    let is_lambda = |(p, key): (&Parameter, &Option<String>)| p.field == Field::Threshold && key.is_some();
    let quantised = blueprint.parameters.iter().zip(&fit.keys).any(is_lambda);
    if options.levels.is_some() && !quantised {
        return Err(Error::new(Kind::Usage, "`--levels` is for QCFS networks, and this state dict has no λ")
            .hint("leave out `--levels`"));
    }
    let levels = options.levels.or(extras.levels).unwrap_or(DEFAULT_LEVELS);
    for (parameter, key) in blueprint.parameters.iter().zip(&fit.keys) {
        let Some(key) = key else { continue };
        let numbers = dict.read(key)?;
        place(&mut network, parameter, numbers, levels).map_err(|e| e.tensor(key))?;
    }
    if quantised && options.levels.is_none() {
        let source =
            if extras.levels.is_some() { "said by the checkpoint" } else { "assumed: `--levels` changes it" };
        network.notes.push(format!("QCFS with {levels} levels, {source}"));
    }
    if options.input.is_none() && zoo::find(&network.name)?.inputs.len() > 1 {
        let input = shape::text(network.input_shape());
        network.notes.push(format!("images of {input} assumed: `--input` changes it"));
    }
    let others: Vec<_> = dict.shapes().keys().filter(|key| !key.starts_with(&fit.prefix)).collect();
    if let Some(first) = others.first() {
        network.notes.push(format!(
            "weights under `{}`; {} other tensors of the checkpoint left out (`{first}`, ...)",
            fit.prefix,
            others.len()
        ));
    }
    let shapes = shape::infer(&network)?;
    if extras.classes.len() == shapes[network.output][0] {
        network.classes = extras.classes;
    }
    network.normalisation = extras.normalisation.filter(|n| n.mean.len() == shapes[0][0]);
    Ok(network)
}

fn place(network: &mut Network, parameter: &Parameter, numbers: Vec<f32>, levels: u32) -> Result<()> {
    let wrong = || Error::new(Kind::Shape, "tensor does not fit the network");
    if parameter.field != Field::Threshold {
        let target = parameter.numbers(network).ok_or_else(wrong)?;
        if target.len() != numbers.len() {
            return Err(wrong().expected(target.len().to_string()).found(numbers.len().to_string()));
        }
        *target = numbers;
        return Ok(());
    }
    let Some(Op::Activation(a)) = network.nodes.get_mut(parameter.node).map(|n| &mut n.op) else {
        return Err(wrong());
    };
    a.kind = ActivationKind::Qcfs { levels };
    a.threshold = Some(match numbers.as_slice() {
        &[one] => Threshold::Layer(one),
        _ => Threshold::Channel(numbers),
    });
    Ok(())
}

/// What does not fit, a few of each, and which network would.
fn misfit(arch: &Arch, candidates: &[Candidate], shapes: &Shapes, options: &Options) -> Error {
    let Some(nearest) = candidates.iter().min_by_key(|c| c.fit.faults()) else {
        return Error::new(Kind::Usage, "no image shape to try");
    };
    let few = |what: &str, items: &[String]| {
        let shown = items.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = if items.len() > 3 { ", ..." } else { "" };
        (!items.is_empty()).then(|| format!("{} {what} ({shown}{more})", items.len()))
    };
    let fit = &nearest.fit;
    let faults = [
        few("missing", &fit.missing),
        few("unexpected", &fit.unexpected),
        few("of another shape", &fit.misshapen),
    ];
    let faults: Vec<_> = faults.into_iter().flatten().collect();
    Error::new(Kind::Shape, format!("the state dict does not fit `{}`", arch.name))
        .found(format!("of its keys {}", faults.join(", ")))
        .hint(advice(shapes, options))
}

/// The networks that a state dict fits, for a hint.
fn advice(shapes: &Shapes, options: &Options) -> String {
    let free = Options { classes: None, input: None, ..options.clone() };
    let fitting: Vec<String> = ZOO
        .iter()
        .filter_map(|arch| {
            let all = candidates(arch, shapes, &free).ok()?;
            let best = all.iter().find(|c| c.fit.is_whole())?;
            let input = best.blueprint.network.input_shape();
            let wrong = options.input.is_some_and(|given| given != input);
            let input = if wrong { format!(" with `--input {}`", shape::text(input)) } else { String::new() };
            Some(format!("`{}`{input}", arch.name))
        })
        .collect();
    if fitting.is_empty() {
        format!("known networks: {}", zoo::known())
    } else {
        let unnamed = if options.arch.is_none() { ": give `--arch`" } else { "" };
        format!("it fits {}{unnamed}", fitting.join(", "))
    }
}
