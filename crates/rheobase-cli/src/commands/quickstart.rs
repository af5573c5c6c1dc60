//! `rheobase quickstart`: the main job end to end on data that is in the program.

use super::eval::offset_shares;
use super::{check_json, write_json};
use crate::output::{Bar, short};
use clap::Args;
use rheobase::core::env;
use rheobase::core::evaluate::{Evaluation, Options, evaluate};
use rheobase::core::integer::Precision;
use rheobase::core::network::fold::fold;
use rheobase::core::neuron::{Cos, Iterations, NeuronRule, Qcfs};
use rheobase::core::prepared::Prepared;
use rheobase::io::{data, import};
use rheobase::{Error, Kind, Result, json};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// A network that this project trained on the digits; models/digits-l4.md has its card.
static MODEL: &[u8] = include_bytes!("../../../../models/digits-l4.safetensors");
/// L of that network; ρ of the calibrated runs.
const LEVELS: usize = 4;
/// T of the longest run.
const STEPS: usize = 8;

#[derive(Args)]
pub struct Quickstart {
    /// Write the figures as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

impl Quickstart {
    pub fn run(&self, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        let network = fold(&import::native::read_bytes(MODEL, "digits-l4.safetensors")?)?;
        let digits = data::open("digits", &data::Options::default())?;
        let images = Prepared::new(&*digits, &network, None, None)?;
        let cos = |iterations| Cos { presim: LEVELS, iterations };
        let (once, exact) = (cos(Iterations::Times(1)), cos(Iterations::Exact));
        let rules: [(&str, &dyn NeuronRule); 3] = [("qcfs", &Qcfs), ("cos", &once), ("cos exact", &exact)];
        let kernels = env::kernel()?;
        let options = |steps, verify| Options {
            rules: &[],
            steps,
            batch: 100,
            precision: Precision::default(),
            spread: None,
            ann: true,
            offsets: true,
            verify,
            kernels,
        };
        let run = |rules: &[&dyn NeuronRule], steps, verify| {
            evaluate(&network, &images, &Options { rules, ..options(steps, verify) }, &Bar::new())
        };
        let e = run(&rules.map(|r| r.1), STEPS, false)?;
        let lossless = run(&[&exact], LEVELS, true)?;
        let proof = Proof {
            images: e.images,
            agree: lossless.snn[0].agree[LEVELS - 1],
            lossless: lossless.snn[0].lossless.unwrap_or(0),
        };
        if !write_json(self.json.as_deref(), &value(&e, &rules, &proof), text)? {
            table(&e, &rules, &proof, text);
        }
        if proof.agree < e.images || proof.lossless < e.images {
            return Err(Error::new(Kind::Check, "exact calibration lost an image to the ANN"));
        }
        Ok(())
    }
}

/// What exact calibration with T = ρ = L promises, counted.
struct Proof {
    images: usize,
    agree: usize,
    lossless: usize,
}

fn table(e: &Evaluation, rules: &[(&str, &dyn NeuronRule)], proof: &Proof, text: &mut String) {
    let n = e.images as f64;
    let percent = |correct: usize| format!("{:.1}", 100.0 * correct as f64 / n);
    let ann = e.ann.as_ref().map_or(0, |a| a.correct);
    let _ = writeln!(
        text,
        "A network trained with QCFS (L = {LEVELS}) reads 360 handwritten digits that it has never seen."
    );
    let _ =
        writeln!(text, "ANN: {} % right. As a spiking network, % right after T time-steps:\n", percent(ann));
    let _ = writeln!(
        text,
        "{:<11} {:>6} {:>6} {:>6} {:>6}   {:>8} {:>9}   neurons with offset spikes",
        "method", "T=1", "T=2", "T=4", "T=8", "spikes", "synops"
    );
    for ((name, _), s) in rules.iter().zip(&e.snn) {
        let at = |t: usize| percent(s.correct[t - 1]);
        let offsets = json::all_offsets(s).map(|o| match *name {
            "qcfs" => {
                offset_shares(&o.before, &o.after).split(" before").next().unwrap_or_default().to_string()
            }
            _ => offset_shares(&o.before, &o.after),
        });
        let _ = writeln!(
            text,
            "{name:<11} {:>6} {:>6} {:>6} {:>6}   {:>8} {:>9}   {}",
            at(1),
            at(2),
            at(4),
            at(8),
            short(s.spikes() as f64 / n),
            short(s.synops() as f64 / n),
            offsets.unwrap_or_default()
        );
    }
    let _ = writeln!(
        text,
        "\nspikes and synaptic operations an image over T = {STEPS} steps; cos pre-simulates rho = {LEVELS} steps of each layer first"
    );
    let _ = writeln!(
        text,
        "exact calibration, T = rho = L = {LEVELS}: the ANN's class for {} of {} digits, logits equal to the bit for {}",
        proof.agree, proof.images, proof.lossless
    );
    let _ = writeln!(text, "\nnext: rheobase eval MODEL --data KIND:DIR   (rheobase list names the kinds)");
}

fn value(e: &Evaluation, rules: &[(&str, &dyn NeuronRule)], proof: &Proof) -> serde_json::Value {
    let n = e.images as f64;
    let methods = rules.iter().zip(&e.snn).map(|((name, rule), s)| {
        json!({
            "method": name, "presim": rule.presim(), "correct": s.correct,
            "accuracy": s.correct.iter().map(|&c| c as f64 / n).collect::<Vec<_>>(),
            "spikes_per_image": s.spikes() as f64 / n, "synops_per_image": s.synops() as f64 / n,
        })
    });
    json!({
        "images": e.images, "ann_correct": e.ann.as_ref().map(|a| a.correct), "methods": methods.collect::<Vec<_>>(),
        "exact_at_levels": { "agree_with_ann": proof.agree, "lossless": proof.lossless },
    })
}
