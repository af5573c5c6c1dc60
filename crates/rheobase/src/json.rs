//! Results as JSON and CSV: views of an evaluation, so that they cannot disagree with it. Keys are stable.

use crate::jobs::EvalReport;
use rheobase_core::evaluate::SnnResult;
use rheobase_core::neuron::{Offsets, RULES};
use serde_json::{Value, json};
use std::fmt::Write;

/// Number of the JSON's form; it changes when a key changes its meaning.
pub const VERSION: u32 = 1;

fn per_second(images: usize, seconds: f64) -> Value {
    if seconds > 0.0 { json!(images as f64 / seconds) } else { Value::Null }
}

fn shares(correct: &[usize], images: usize) -> Vec<f64> {
    correct.iter().map(|&c| c as f64 / images as f64).collect()
}

/// f32 as the shortest decimals that mean them.
pub fn short(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| x.to_string().parse().unwrap_or(f64::from(*x))).collect()
}

/// Shares of neurons by offset: `{"-1": 0.02, "0": 0.95, ...}`.
fn offsets(histogram: &[u64]) -> Value {
    let (window, total) = (histogram.len() / 2, histogram.iter().sum::<u64>().max(1));
    let share =
        |(i, n): (usize, &u64)| (format!("{}", i as i64 - window as i64), json!(*n as f64 / total as f64));
    histogram.iter().enumerate().filter(|(_, n)| **n > 0).map(share).collect::<serde_json::Map<_, _>>().into()
}

/// Offsets of all layers together, where they were counted.
pub fn all_offsets(snn: &SnnResult) -> Option<Offsets> {
    let mut layers = snn.layers.iter().filter_map(|l| l.offsets.as_ref());
    let mut all = layers.next()?.clone();
    layers.for_each(|l| all.merge(l));
    Some(all)
}

/// An evaluation as JSON.
pub fn eval(report: &EvalReport) -> Value {
    let (e, o) = (&report.evaluation, &report.options);
    let calibrates = RULES.iter().any(|r| r.name == o.method && r.calibrates);
    let n = e.images;
    let ann = e.ann.as_ref().map(|a| {
        json!({
            "correct": a.correct,
            "accuracy": a.correct as f64 / n as f64,
            "seconds": a.seconds,
            "images_per_second": per_second(n, a.seconds),
        })
    });
    let snn = e.snn.first().map(|s| {
        let presim = if calibrates { o.presim } else { 0 };
        let mut out = json!({
            "method": o.method,
            "presim": presim,
            "iterations": match o.iterations {
                _ if o.method != "cos" => Value::Null,
                rheobase_core::neuron::Iterations::Times(n) => json!(n),
                rheobase_core::neuron::Iterations::Exact => json!("exact"),
            },
            "steps": o.steps,
            "presim_plus_steps": presim + o.steps,
            "precision": o.precision.to_string(),
            "spread": s.spread.to_string(),
            "correct": s.correct,
            "accuracy": shares(&s.correct, n),
            "agrees_with_ann": s.agree,
            "spikes_per_image": s.spikes() as f64 / n as f64,
            "synops_per_image": s.synops() as f64 / n as f64,
            "seconds": s.seconds,
            "images_per_second": per_second(n, s.seconds),
            "layers": e.layers.iter().zip(&s.layers).map(|(info, l)| json!({
                "name": info.name,
                "neurons": info.neurons,
                "spikes_per_image": l.spikes.iter().sum::<u64>() as f64 / n as f64,
                "synops_per_image": l.synops as f64 / n as f64,
            })).collect::<Vec<_>>(),
        });
        if let Some(all) = all_offsets(s) {
            out["offset_shares"] = json!({ "before": offsets(&all.before), "after": offsets(&all.after) });
        }
        if let Some(lossless) = s.lossless {
            out["lossless"] = json!(lossless);
        }
        out
    });
    json!({
        "format": VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "model": o.model.model.display().to_string(),
        "data": o.data.data,
        "images": n,
        "normalisation": {
            "mean": short(&report.normalisation.mean),
            "std": short(&report.normalisation.std),
        },
        "ann": ann,
        "snn": snn,
        "seconds": report.seconds,
        "kernel": report.kernel,
        "notes": report.notes,
        "options": o,
    })
}

/// Predictions as CSV: `index,label,ann,t1,t2,...`, classes as numbers; `ann` is empty where the ANN was not run.
pub fn predictions(report: &EvalReport) -> String {
    let e = &report.evaluation;
    let mut out = String::from("index,label,ann");
    (1..=e.steps).for_each(|t| out += &format!(",t{t}"));
    out.push('\n');
    let Some(snn) = e.snn.first() else { return out };
    for (i, (label, steps)) in e.labels.iter().zip(&snn.classes).enumerate() {
        let ann = e.ann.as_ref().map(|a| a.classes[i].to_string()).unwrap_or_default();
        let _ = write!(out, "{i},{label},{ann}");
        steps.iter().for_each(|c| _ = write!(out, ",{c}"));
        out.push('\n');
    }
    out
}
