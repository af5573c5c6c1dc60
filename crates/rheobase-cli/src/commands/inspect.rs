//! `rheobase inspect`: what is in a network.

use super::{check_json, write_json};
use crate::output::{short, thousands};
use clap::Args;
use rheobase::core::network::{Op, Threshold, cost, shape};
use rheobase::options::ModelOptions;
use rheobase::{Result, io};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelOptions,
    /// Write it as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-")]
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
                "name": n.name, "op": n.op.name(), "inputs": n.inputs, "shape": shapes[i],
                "parameters": costs[i].parameters, "macs": costs[i].macs, "threshold": threshold(&n.op),
            })
        });
        let value = json!({
            "model": self.model.model, "name": network.name, "input": shapes[0], "classes": network.classes,
            "outputs": shapes[network.output][0], "normalisation": network.normalisation.as_ref().map(|n| json!({"mean": n.mean, "std": n.std})),
            "notes": network.notes, "parameters": parameters, "macs": macs, "nodes": nodes.collect::<Vec<_>>(),
        });
        if write_json(self.json.as_deref(), &value, text)? {
            return Ok(());
        }
        let width = network.nodes.iter().map(|n| n.name.chars().count()).max().unwrap_or(4).clamp(4, 44);
        let _ = writeln!(
            text,
            "{}: {}\n\n{:>4}  {:<width$}  {:<13} {:>12} {:>11} {:>9}  threshold",
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
                "{i:>4}  {name:<width$}  {:<13} {:>12} {:>11} {:>9}  {}",
                node.op.name(),
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
