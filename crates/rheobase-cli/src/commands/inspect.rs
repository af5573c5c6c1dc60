//! `rheobase inspect`: what is in a network.

use super::{check_json, write_json};
use crate::output::{short, thousands};
use clap::Args;
use rheobase::core::network::{ActivationKind, Op, Threshold, cost, shape};
use rheobase::options::ModelOptions;
use rheobase::{Result, io, json};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelOptions,
    /// Write it as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

impl Inspect {
    pub fn run(&self, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        let network = io::import::open(&self.model.model, &self.model.import())?;
        let shapes = shape::infer(&network)?;
        let costs = cost::costs(&network, &shapes);
        let threshold = |op: &Op| match op {
            Op::Activation(a) => a.threshold.as_ref().map(|t| match t {
                Threshold::Layer(t) => vec![*t],
                Threshold::Channel(t) => t.clone(),
            }),
            _ => None,
        };
        let (parameters, macs) = costs.iter().fold((0, 0), |s, c| (s.0 + c.parameters, s.1 + c.macs));
        let nodes = network.nodes.iter().enumerate().map(|(i, n)| {
            json!({
                "name": n.name, "op": n.op.name(), "details": details(&n.op), "inputs": n.inputs, "shape": shapes[i],
                "parameters": costs[i].parameters, "macs": costs[i].macs, "threshold": threshold(&n.op).map(|t| json::short(&t)),
            })
        });
        let value = json!({
            "model": self.model.model.display().to_string(), "name": network.name, "input": shapes[0], "classes": network.classes,
            "outputs": shapes[network.output][0], "normalisation": network.normalisation.as_ref().map(|n| json!({"mean": json::short(&n.mean), "std": json::short(&n.std)})),
            "notes": network.notes, "parameters": parameters, "macs": macs, "nodes": nodes.collect::<Vec<_>>(),
        });
        if write_json(self.json.as_deref(), &value, text)? {
            return Ok(());
        }
        let width = network.nodes.iter().map(|n| n.name.chars().count()).max().unwrap_or(4).clamp(4, 44);
        let operations: Vec<String> = network
            .nodes
            .iter()
            .map(|n| [n.op.name(), &details(&n.op)].join(" ").trim().to_string())
            .collect();
        let wide = operations.iter().map(|o| o.chars().count()).max().unwrap_or(0).max(13);
        let _ = writeln!(
            text,
            "{}: {}\n\n{:>4}  {:<width$}  {:<wide$} {:>12} {:>11} {:>9}  threshold",
            self.model.model.display(),
            network.name,
            "#",
            "node",
            "operation",
            "shape",
            "parameters",
            "MACs"
        );
        for (i, node) in network.nodes.iter().enumerate() {
            let name: String = node.name.chars().take(width).collect();
            let threshold = threshold(&node.op).map(|t| {
                let (low, high) = t.iter().fold((f32::MAX, f32::MIN), |(l, h), &t| (l.min(t), h.max(t)));
                if t.len() == 1 { format!("{low:.4}") } else { format!("{low:.4} to {high:.4}") }
            });
            let blank = |n: u64, s: String| if n == 0 { String::new() } else { s };
            let line = format!(
                "{i:>4}  {name:<width$}  {:<wide$} {:>12} {:>11} {:>9}  {}",
                operations[i],
                shape::text(shapes[i]),
                blank(costs[i].parameters, thousands(costs[i].parameters)),
                blank(costs[i].macs, short(costs[i].macs as f64)),
                threshold.unwrap_or_default()
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(
            text,
            "\n{} parameters, {} multiply-adds an image",
            thousands(parameters),
            short(macs as f64)
        );
        if let Some(n) = &network.normalisation {
            let _ = writeln!(text, "normalisation: mean {:?}, std {:?}", n.mean, n.std);
        }
        if !network.classes.is_empty() {
            let _ = writeln!(text, "classes: {}", network.classes.join(", "));
        }
        network.notes.iter().for_each(|note| _ = writeln!(text, "note: {note}"));
        Ok(())
    }
}

/// What an operation's name leaves open: `3x3 /2` for a stride of 2, `L = 4`, `at 6`.
fn details(op: &Op) -> String {
    let sides = |[h, w]: [usize; 2]| if h == w { h.to_string() } else { format!("{h}x{w}") };
    let window = |[h, w]: [usize; 2], stride: [usize; 2]| match stride {
        [1, 1] => format!("{h}x{w}"),
        _ => format!("{h}x{w} /{}", sides(stride)),
    };
    match op {
        Op::Conv2d(c) => {
            let mut text = window([c.weight.shape[2], c.weight.shape[3]], c.stride);
            if c.dilation != [1, 1] {
                text += &format!(" dilation {}", sides(c.dilation));
            }
            if c.groups > 1 {
                text += &format!(" groups {}", c.groups);
            }
            text
        }
        Op::Pool(p) => window(p.kernel, p.stride),
        Op::Shortcut(s) => format!("/{}", sides(s.stride)),
        Op::Activation(a) => match a.kind {
            ActivationKind::Relu => String::new(),
            ActivationKind::Clip { ceiling } => format!("at {ceiling}"),
            ActivationKind::Qcfs { levels } => format!("L = {levels}"),
        },
        Op::Input { .. }
        | Op::Linear(_)
        | Op::BatchNorm(_)
        | Op::GlobalAverage
        | Op::Add
        | Op::Concat
        | Op::Flatten
        | Op::Identity => String::new(),
    }
}
