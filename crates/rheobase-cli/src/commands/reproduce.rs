//! `rheobase reproduce`: the paper's tables, its figures beside ours.

use super::train::Train;
use super::{check_json, write_json};
use crate::output::{Bar, thousands};
use clap::{Args, Parser};
use rheobase::jobs;
use rheobase::options::EvalOptions;
use rheobase::{Error, Kind, Result, json};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A row of the paper's tables (Hao et al., ICLR 2023): top-1 in percent, as its authors' repository gives them.
struct Row {
    name: &'static str,
    title: &'static str,
    arch: &'static str,
    data: &'static str,
    input: &'static str,
    levels: u32,
    presim: usize,
    ann: f64,
    snn: [f64; 4],
}

/// The steps that the paper's tables show.
const STEPS: [usize; 4] = [1, 2, 4, 8];

const ROWS: &[Row] = &[
    Row {
        name: "cifar100-resnet20",
        title: "CIFAR-100, ResNet-20",
        arch: "resnet20",
        data: "cifar100",
        input: "3x32x32",
        levels: 4,
        presim: 4,
        ann: 69.97,
        snn: [59.22, 64.21, 65.18, 67.17],
    },
    Row {
        name: "cifar100-vgg16",
        title: "CIFAR-100, VGG-16",
        arch: "vgg16",
        data: "cifar100",
        input: "3x32x32",
        levels: 4,
        presim: 4,
        ann: 76.28,
        snn: [74.24, 76.03, 76.26, 76.52],
    },
    Row {
        name: "imagenet-resnet34",
        title: "ImageNet, ResNet-34",
        arch: "resnet34",
        data: "imagefolder",
        input: "3x224x224",
        levels: 8,
        presim: 8,
        ann: 74.22,
        snn: [69.11, 72.66, 73.81, 74.17],
    },
    Row {
        name: "imagenet-vgg16",
        title: "ImageNet, VGG-16",
        arch: "vgg16",
        data: "imagefolder",
        input: "3x224x224",
        levels: 16,
        presim: 8,
        ann: 74.19,
        snn: [63.84, 70.59, 72.94, 73.82],
    },
];

#[derive(Args)]
pub struct Reproduce {
    /// Rows: cifar100-resnet20, cifar100-vgg16, imagenet-resnet34, imagenet-vgg16 [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    table: Vec<String>,
    /// Data sets, as often as there are: cifar100:DIR, imagefolder:DIR
    #[arg(long, value_name = "KIND:DIR")]
    data: Vec<String>,
    /// Folder of the trained networks, NAME-lL.safetensors
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Train the networks that are missing, with the paper's recipe (hours to days); goes on from a checkpoint
    #[arg(long)]
    train: bool,
    /// Epochs of that training [default: the paper's]
    #[arg(long, value_name = "N", requires = "train")]
    epochs: Option<usize>,
    /// Use the first N test images only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write all figures as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

/// `train` as its own command line would be read.
#[derive(Parser)]
struct TrainLine {
    #[command(flatten)]
    train: Train,
}

impl Reproduce {
    pub fn run(&self, seed: u64, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        let unknown = self.table.iter().find(|t| ROWS.iter().all(|r| r.name != *t));
        let names = || ROWS.iter().map(|r| r.name).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = unknown {
            return Err(Error::new(Kind::Usage, format!("the paper has no table `{unknown}` here"))
                .hint(format!("known: {}", names())));
        }
        let kind = |data: &str| data.split(':').next().unwrap_or_default().to_string();
        if let Some(other) = self.data.iter().find(|d| ROWS.iter().all(|r| r.data != kind(d))) {
            return Err(Error::new(Kind::Usage, format!("no row of the paper uses `{other}`"))
                .hint("known: cifar100:DIR, imagefolder:DIR"));
        }
        let mut rows = vec![];
        for row in ROWS.iter().filter(|r| self.table.is_empty() || self.table.iter().any(|t| t == r.name)) {
            let data = self.data.iter().find(|d| kind(d) == row.data);
            rows.push(self.row(row, data.map(String::as_str), seed, text)?);
        }
        let value = json!({"rows": rows});
        let mut document = String::new();
        if write_json(self.json.as_deref(), &value, &mut document)? {
            *text = document;
        }
        Ok(())
    }

    fn row(&self, row: &Row, data: Option<&str>, seed: u64, text: &mut String) -> Result<Value> {
        let model = self.models.join(format!("{}-{}-l{}.safetensors", row.arch, row.kind(), row.levels));
        let paper = json!({"ann": row.ann, "steps": STEPS, "snn": row.snn});
        let _ = writeln!(text, "{}, L = {}, rho = {}", row.title, row.levels, row.presim);
        let _ = writeln!(
            text,
            "{:>9} {:>7}  {}",
            "",
            "ANN",
            STEPS.map(|t| format!("{:>7}", format!("T={t}"))).join(" ")
        );
        let line = |who: &str, ann: f64, snn: [f64; 4]| {
            format!("{who:>9} {ann:>7.2}  {}", snn.map(|x| format!("{x:>7.2}")).join(" "))
        };
        let _ = writeln!(text, "{}", line("paper", row.ann, row.snn));
        let mut missing = vec![];
        let trains = self.train && data.is_some();
        if !(model.exists() || trains) {
            missing.push(format!(
                "no network at {}; it is made by\n            {}",
                model.display(),
                row.command(&model, seed)
            ));
        }
        if data.is_none() {
            missing.push(format!("no data; give it by `--data {}:DIR`", row.data));
        }
        let Some(data) = data.filter(|_| missing.is_empty()) else {
            missing.iter().for_each(|m| _ = writeln!(text, "     ours  {m}"));
            text.push('\n');
            let why: Vec<&str> = missing.iter().map(String::as_str).collect();
            return Ok(
                json!({"table": row.name, "paper": paper, "missing": why, "command": row.command(&model, seed)}),
            );
        };
        if !model.exists() {
            self.train(row, data, &model, seed)?;
        }
        let mut options = EvalOptions::new(&model, data);
        options.presim = row.presim;
        options.steps = STEPS[3];
        options.data.limit = self.limit;
        let report = jobs::eval(&options, &Bar::new())?;
        let e = &report.evaluation;
        let percent = |n: usize| 100.0 * n as f64 / e.images as f64;
        let ann = percent(e.ann.as_ref().map_or(0, |a| a.correct));
        let snn = STEPS.map(|t| percent(e.snn[0].correct[t - 1]));
        let _ = writeln!(text, "{}", line("ours", ann, snn));
        let _ = writeln!(
            text,
            "           {}, {} images; `rheobase eval {} --data {} --method cos --presim {} --steps 8`\n",
            model.display(),
            thousands(e.images as u64),
            model.display(),
            data,
            row.presim
        );
        Ok(
            json!({"table": row.name, "paper": paper, "model": model.display().to_string(), "eval": json::eval(&report)}),
        )
    }

    fn train(&self, row: &Row, data: &str, model: &Path, seed: u64) -> Result<()> {
        let (levels, out) = (row.levels.to_string(), model.display().to_string());
        let mut line =
            vec!["train", "--arch", row.arch, "--data", data, "--levels", &levels, "--input", row.input];
        line.extend(["--resume", "--out", &out]);
        let epochs = self.epochs.map(|n| n.to_string());
        if let Some(n) = &epochs {
            line.extend(["--epochs", n]);
        }
        let parsed = TrainLine::try_parse_from(line).map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
        parsed.train.run(seed, &mut String::new())
    }
}

impl Row {
    /// The data set in a file's name.
    fn kind(&self) -> &str {
        if self.data == "imagefolder" { "imagenet" } else { self.data }
    }

    /// What makes the network.
    fn command(&self, model: &Path, seed: u64) -> String {
        let input = if self.input == "3x32x32" { String::new() } else { format!(" --input {}", self.input) };
        format!(
            "rheobase train --arch {} --data {}:DIR --levels {}{input} --seed {seed} --out {}",
            self.arch,
            self.data,
            self.levels,
            model.display()
        )
    }
}
