//! `rheobase bench`: how fast a network runs here, and where its time goes.

use super::eval::how;
use super::{check_json, write_json};
use crate::output::{Bar, peak_memory, short, thousands};
use clap::Args;
use rheobase::core::engine::{Plan, Run, additions_per_second, images_to_try};
use rheobase::core::env;
use rheobase::core::evaluate::check;
use rheobase::core::integer::{IntegerNetwork, Precision};
use rheobase::core::network::SpikingNetwork;
use rheobase::core::neuron::{self, Iterations, NeuronRule, Params, Spread};
use rheobase::core::outcome::Outcome;
use rheobase::core::prepared::Prepared;
use rheobase::core::progress::Progress;
use rheobase::core::timing::{Laps, Timing};
use rheobase::options::{ConvertOptions, DataOptions, ModelOptions};
use rheobase::{Error, Kind, Result, jobs};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    convert: ConvertOptions,
    /// Neuron rule (`rheobase list` names them)
    #[arg(long, default_value = "cos", help_heading = "Spiking")]
    method: String,
    /// ρ: steps that are pre-simulated
    #[arg(long, default_value_t = 4, help_heading = "Spiking")]
    presim: usize,
    /// Rounds of calibration, or `exact`
    #[arg(long, value_name = "N|exact", default_value_t = Iterations::Times(1), help_heading = "Spiking")]
    iterations: Iterations,
    /// With exact calibration: how the last spiking layer's spikes are spread
    #[arg(long, value_name = "RULE", help_heading = "Spiking")]
    spread: Option<Spread>,
    /// T: steps read out
    #[arg(long, default_value_t = 4, help_heading = "Spiking")]
    steps: usize,
    /// Integers that the engine computes in: int32, int16 or int8
    #[arg(long, default_value_t = Precision::Int32, help_heading = "Spiking")]
    precision: Precision,
    /// Images that are run at once, again and again
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Seconds that each of the three measurements takes at least
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Write all figures as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

/// One layer.
struct Layer {
    name: String,
    kernels: Vec<&'static str>,
    bits: u32,
    /// Seconds of one core an image.
    seconds: f64,
    /// Spikes per neuron and step.
    density: Option<f64>,
    /// Synaptic operations an image.
    synops: f64,
    /// Of the additions that loads from the nearest cache allow.
    share: Option<f64>,
}

impl Bench {
    pub fn run(&self, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            return Err(Error::new(Kind::Usage, "the time to measure makes no sense")
                .expected("above 0 and up to 3600 seconds")
                .hint("`--seconds`"));
        }
        let rule = neuron::rule(&self.method, &Params { presim: self.presim, iterations: self.iterations })?;
        check(self.steps, rule.presim(), self.batch)?;
        let blame = jobs::blame(&self.model);
        self.measure(&*rule, text).map_err(blame)
    }

    fn measure(&self, rule: &dyn NeuronRule, text: &mut String) -> Result<()> {
        let network = jobs::open(&self.model)?;
        let test = jobs::samples(&self.data, self.data.split, &network)?;
        let many = self.data.limit.unwrap_or(self.batch).min(self.batch);
        let images = Prepared::new(&*test, &network, self.data.normalisation()?, Some(many))?;
        let span = self.steps.max(rule.presim());
        let progress = Bar::new();
        let converted = jobs::convert(network, &self.convert, &self.data, span as u32, &progress)?;
        let integers =
            IntegerNetwork::new(&SpikingNetwork::new(converted)?, images.normalisation(), self.precision)?;
        let (mut pixels, mut labels) = (vec![], vec![]);
        images.batch(0..images.len(), &mut pixels, &mut labels)?;
        let size = pixels.len() / images.len();
        let mut run = Run { rule, steps: self.steps, offsets: false, spread: None, laps: None };
        let few = images_to_try(usize::MAX).min(images.len());
        let plan = Plan::new(&integers, env::kernel()?).tried(&run, &pixels[..few * size]);
        let spread = plan.spreading(self.spread, rule, self.steps)?;
        run.spread = spread.as_ref();
        let laps = Laps::new(integers.stages.len());

        let (outcome, whole) = self.repeat("all images at once", &progress, || plan.run(&run, &pixels))?;
        let mut at = 0;
        let (_, single) = self.repeat("image by image", &progress, || {
            at = (at + 1) % images.len();
            plan.run(&run, &pixels[at * size..][..size])
        })?;
        run.laps = Some(&laps);
        let (_, lapped) = self.repeat("layer by layer", &progress, || plan.run(&run, &pixels))?;
        let runs = (lapped.len() + 1) * images.len();
        let limits = additions_per_second(plan.kernels().isa);
        let layers: Vec<Layer> = integers
            .stages
            .iter()
            .zip(&outcome.layers)
            .enumerate()
            .map(|(s, (stage, counts))| {
                let (kernels, bits) = plan.of_run(&run).kernels_of(s);
                let seconds = laps.seconds(s) / runs as f64;
                let synops = counts.synops as f64 / images.len() as f64;
                let sites = stage.shape.iter().product::<usize>() * images.len();
                let spikes: u64 = counts.spikes.iter().sum();
                Layer {
                    name: stage.name.clone(),
                    kernels,
                    bits,
                    seconds,
                    density: (!counts.spikes.is_empty())
                        .then(|| spikes as f64 / (sites * counts.spikes.len()) as f64),
                    synops,
                    share: (synops > 0.0).then(|| synops / seconds / limits[usize::from(bits == 32)]),
                }
            })
            .collect();
        let (kind, memory) = (spread.as_ref().map_or(Spread::None, |s| s.kind), peak_memory());
        let (per_second, latency) = (images.len() as f64 / median(&whole), median(&single));
        let synops: f64 = layers.iter().map(|l| l.synops).sum();
        let value = json!({
            "model": self.model.model.display().to_string(),
            "method": self.method, "presim": rule.presim(), "iterations": self.iterations.to_string(),
            "steps": self.steps, "precision": self.precision.to_string(),
            "spread": kind.to_string(),
            "kernel": plan.kernels().to_string(), "threads": rayon::current_num_threads(), "batch": images.len(),
            "images_per_second": per_second,
            "images_per_second_all": whole.iter().map(|s| images.len() as f64 / s).collect::<Vec<_>>(),
            "seconds_per_image_alone": latency,
            "synops_per_image": synops,
            "synops_per_second": synops * per_second,
            "limit_additions_per_second": { "int16": limits[0], "int32": limits[1] },
            "peak_memory_bytes": memory,
            "layers": layers.iter().map(|l| json!({
                "name": l.name, "kernels": l.kernels, "bits": l.bits, "core_seconds_per_image": l.seconds,
                "density": l.density, "synops_per_image": l.synops, "share_of_limit": l.share,
            })).collect::<Vec<_>>(),
        });
        if !write_json(self.json.as_deref(), &value, text)? {
            let method = how(&self.method, rule.presim(), self.iterations, kind);
            let _ = writeln!(
                text,
                "{}: {method}, T = {}, {} ({}), {} threads\n",
                self.model.model.display(),
                self.steps,
                self.precision,
                plan.kernels(),
                rayon::current_num_threads()
            );
            let _ = writeln!(
                text,
                "{:>12} images/s, {} at once\n{:>12} µs for one image alone\n{:>12} synaptic operations/s",
                short(per_second),
                images.len(),
                thousands((latency * 1e6).round() as u64),
                short(synops * per_second)
            );
            if let Some(bytes) = memory {
                let _ = writeln!(text, "{:>12} MB of memory at most", thousands(bytes / 1_000_000));
            }
            table(&layers, limits, text);
        }
        Ok(())
    }

    /// Runs once unmeasured, then again and again; the first outcome and the seconds of every run.
    fn repeat(
        &self,
        what: &str,
        progress: &dyn Progress,
        mut run: impl FnMut() -> Outcome,
    ) -> Result<(Outcome, Vec<f64>)> {
        let first = run();
        let (mut all, mut seconds) = (0.0, vec![]);
        while all < self.seconds || seconds.len() < 3 {
            let mut time = Timing::default();
            time.measure(&mut run);
            seconds.push(time.seconds());
            all += time.seconds();
            progress.tick(what, (100.0 * all / self.seconds).min(100.0) as usize, 100);
            if progress.cancelled() {
                return Err(Error::new(Kind::Cancelled, "stopped"));
            }
        }
        Ok((first, seconds))
    }
}

fn table(layers: &[Layer], limits: [f64; 2], text: &mut String) {
    let all: f64 = layers.iter().map(|l| l.seconds).sum();
    let width = layers.iter().map(|l| l.name.len()).max().unwrap_or(0).max(5);
    let _ = writeln!(
        text,
        "\n{:width$} {:>8} {:>6} {:>8} {:>9} {:>8}  kernels",
        "layer", "core µs", "", "density", "synops", "of limit"
    );
    for l in layers {
        let percent = |x: Option<f64>| x.map_or(String::new(), |x| format!("{:.1} %", 100.0 * x));
        let _ = writeln!(
            text,
            "{:width$} {:>8.1} {:>4.0} % {:>8} {:>9} {:>8}  {} (int{})",
            l.name,
            l.seconds * 1e6,
            100.0 * l.seconds / all,
            percent(l.density),
            short(l.synops),
            percent(l.share),
            l.kernels.join(" + "),
            l.bits
        );
    }
    let _ = writeln!(
        text,
        "\nlimit: additions of weights loaded from the nearest cache, {} (int16) and {} (int32) a second and core; \
         looked-up sums do more with each",
        short(limits[0]),
        short(limits[1])
    );
}

fn median(x: &[f64]) -> f64 {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
