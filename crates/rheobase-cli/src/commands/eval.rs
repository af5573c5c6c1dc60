//! `rheobase eval`: accuracy over time-steps on a data set.

use super::{check_json, write_json};
use crate::output::{Bar, bar, short, thousands};
use clap::Args;
use rheobase::core::neuron::{Iterations, RULES, Spread};
use rheobase::jobs::{self, EvalReport};
use rheobase::options::EvalOptions;
use rheobase::{Error, Kind, Result, files, json};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    options: EvalOptions,
    /// Write all figures as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
    /// Write every image's classes as CSV: index,label,ann,t1,t2,...
    #[arg(long, value_name = "FILE.csv", help_heading = "Results")]
    predictions: Option<PathBuf>,
}

impl Eval {
    pub fn run(&self, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        self.predictions.as_ref().map_or(Ok(()), files::check)?;
        let report = jobs::eval(&self.options, &Bar::new())?;
        if let Some(path) = &self.predictions {
            files::write(path, json::predictions(&report).as_bytes())?;
        }
        if !write_json(self.json.as_deref(), &json::eval(&report), text)? {
            table(&report, text);
        }
        let (images, snn) = (report.evaluation.images, &report.evaluation.snn[0]);
        match snn.lossless {
            Some(n) if n < images => Err(Error::new(
                Kind::Check,
                format!("logits of {} of {images} images differ from the QCFS reading", images - n),
            )),
            _ => Ok(()),
        }
    }
}

/// Steps to show: all up to 8, then powers of two, and the last.
fn shown(steps: usize) -> impl Iterator<Item = usize> {
    (1..=steps).filter(move |t| *t <= 8 || t.is_power_of_two() || *t == steps)
}

/// A rule with its settings; ρ is 0 where it pre-simulates nothing.
pub fn how(method: &str, presim: usize, iterations: Iterations, spread: Spread) -> String {
    match (method, presim) {
        ("cos", _) => {
            let spread = if spread == Spread::None { String::new() } else { format!(", spread: {spread}") };
            format!("cos, rho = {presim}, iterations: {iterations}{spread}")
        }
        (name, 0) => name.to_string(),
        (name, tau) => format!("{name}, tau = {tau}"),
    }
}

fn table(report: &EvalReport, text: &mut String) {
    let (e, o) = (&report.evaluation, &report.options);
    let n = e.images as f64;
    let calibrates = RULES.iter().any(|r| r.name == o.method && r.calibrates);
    let presim = if calibrates { o.presim } else { 0 };
    let _ = writeln!(
        text,
        "{} on {}: {} images",
        o.model.model.display(),
        report.data,
        thousands(e.images as u64)
    );
    for note in &report.notes {
        let _ = writeln!(text, "  {note}");
    }
    if let Some(a) = &e.ann {
        let _ = writeln!(
            text,
            "\nANN  {:>7} right  {:6.2} %   {} images/s",
            thousands(a.correct as u64),
            100.0 * a.correct as f64 / n,
            short(n / a.seconds.max(1e-9))
        );
    }
    let s = &e.snn[0];
    let how = how(&o.method, presim, o.iterations, s.spread);
    let _ = writeln!(
        text,
        "SNN  {how}, {} ({})   {} images/s\n",
        o.precision,
        report.kernel,
        short(n / s.seconds.max(1e-9))
    );
    let _ = writeln!(
        text,
        "{:>5} {:>8} {:>10} {:>13}",
        "T",
        "right",
        "accuracy",
        if e.ann.is_some() { "as the ANN" } else { "" }
    );
    for t in shown(o.steps) {
        let share = s.correct[t - 1] as f64 / n;
        let agree = s.agree.get(t - 1).map(|a| format!("{:.2} %", 100.0 * *a as f64 / n)).unwrap_or_default();
        let _ = writeln!(
            text,
            "{t:>5} {:>8} {:>8.2} % {agree:>13}  {}",
            thousands(s.correct[t - 1] as u64),
            100.0 * share,
            bar(share, 24)
        );
    }
    let span = o.steps.max(presim);
    let _ = writeln!(
        text,
        "\nrho + T = {}; every layer runs {span} step{}: {} spikes, {} synaptic operations an image",
        presim + o.steps,
        if span == 1 { "" } else { "s" },
        short(s.spikes() as f64 / n),
        short(s.synops() as f64 / n)
    );
    if let Some(all) = json::all_offsets(s) {
        let _ = writeln!(text, "neurons with offset spikes: {}", offset_shares(&all.before, &all.after));
    }
    if let Some(lossless) = s.lossless {
        let _ = writeln!(
            text,
            "logits equal to the bit to the QCFS reading of the same integers: {lossless} of {} images",
            e.images
        );
    }
}

/// `5.31 % before, 0.02 % after`.
pub fn offset_shares(before: &[u64], after: &[u64]) -> String {
    let share = |h: &[u64]| {
        let total = h.iter().sum::<u64>().max(1) as f64;
        100.0 * (1.0 - h[h.len() / 2] as f64 / total)
    };
    format!("{:.2} % before, {:.2} % after", share(before), share(after))
}
