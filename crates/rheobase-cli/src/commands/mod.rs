//! One file per subcommand.

mod bench;
mod convert;
mod eval;
mod import;
mod inspect;
mod list;
mod new;
mod plot;
mod predict;
mod quantize;
mod quickstart;
mod reproduce;
mod train;

use clap::Subcommand;
use rheobase::{Error, Kind, Result};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Show the method at work on handwritten digits: offline, in seconds
    Quickstart(quickstart::Quickstart),
    /// Read a trained network and write it as one Rheobase file
    Import(import::Import),
    /// Give a ReLU network its firing thresholds once and for all
    Convert(convert::Convert),
    /// Train a QCFS network, from scratch or from any network
    Train(train::Train),
    /// Turn a ReLU network into a QCFS network of few levels, without labels
    Quantize(quantize::Quantize),
    /// Show a network's layers, shapes, thresholds, parameters and multiply-adds
    Inspect(inspect::Inspect),
    /// Classify image files, ANN beside SNN
    Predict(predict::Predict),
    /// Accuracy over time-steps on a data set, ANN beside SNN
    Eval(eval::Eval),
    /// Speed of a network: images a second, time and share of the machine's limit of every layer
    Bench(bench::Bench),
    /// The paper's tables, our figures beside them
    Reproduce(reproduce::Reproduce),
    /// Draw accuracy over time-steps of evaluations as one SVG
    Plot(plot::Plot),
    /// Write a zoo network with random weights, for trials of memory and speed
    New(new::New),
    /// List architectures, neuron rules, data sets and environment variables
    List(list::List),
}

impl Command {
    /// Runs it; what a person or script reads goes to `text`.
    pub fn run(&self, seed: u64, text: &mut String) -> Result<()> {
        match self {
            Command::Quickstart(c) => c.run(text),
            Command::Import(c) => c.run(text),
            Command::Convert(c) => c.run(text),
            Command::Train(c) => c.run(seed, text),
            Command::Quantize(c) => c.run(seed, text),
            Command::Inspect(c) => c.run(text),
            Command::Predict(c) => c.run(text),
            Command::Eval(c) => c.run(text),
            Command::Bench(c) => c.run(text),
            Command::Reproduce(c) => c.run(seed, text),
            Command::Plot(c) => c.run(text),
            Command::New(c) => c.run(seed, text),
            Command::List(c) => c.run(text),
        }
    }
}

/// Refuses, before any work is done, a file that its result could not be written to.
fn check_json(to: Option<&std::path::Path>) -> Result<()> {
    to.filter(|path| path.as_os_str() != "-").map_or(Ok(()), rheobase::files::check)
}

/// The same for a network's file, which must not be the one that it is made from.
fn check_out(out: &std::path::Path, model: &std::path::Path) -> Result<()> {
    rheobase::files::check(out)?;
    if let (Ok(a), Ok(b)) = (out.canonicalize(), model.canonicalize())
        && a == b
    {
        return Err(Error::new(Kind::Usage, "the network would be written over the file it is read from")
            .file(out)
            .hint("give `--out` another name"));
    }
    Ok(())
}

/// Writes JSON where `--json` says: a file, or standard output for `-`. Returns whether standard output is taken.
fn write_json(to: Option<&std::path::Path>, value: &serde_json::Value, text: &mut String) -> Result<bool> {
    let Some(path) = to else { return Ok(false) };
    let mut json = format!("{value:#}");
    json.push('\n');
    if path.as_os_str() == "-" {
        text.push_str(&json);
        return Ok(true);
    }
    rheobase::files::write(path, json.as_bytes())?;
    Ok(false)
}
