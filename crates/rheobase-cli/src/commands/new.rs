//! `rheobase new`: a zoo network with random weights.

use clap::Args;
use rheobase::core::network::{Op, Threshold, zoo};
use rheobase::io::export;
use rheobase::{Result, files, options};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct New {
    /// Architecture (`rheobase list` names them)
    #[arg(long)]
    arch: String,
    /// Number of classes [default: the architecture's usual]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Image shape: channels, height, width [default: the architecture's usual]
    #[arg(long, value_name = "CxHxW", value_parser = options::shape)]
    input: Option<[usize; 3]>,
    /// L of its QCFS activations
    #[arg(long, value_name = "L", default_value_t = 4)]
    levels: u32,
    /// lambda of its QCFS activations: the higher, the fewer spikes
    #[arg(long, default_value_t = 8.0)]
    lambda: f32,
    /// Where to write the network
    #[arg(long, value_name = "MODEL.safetensors", help_heading = "Results")]
    out: PathBuf,
}

impl New {
    pub fn run(&self, seed: u64, text: &mut String) -> Result<()> {
        files::check(&self.out)?;
        let classes = match self.classes {
            Some(n) => n,
            None => zoo::find(&self.arch)?.classes,
        };
        let mut network = zoo::random(&self.arch, classes, self.input, self.levels, seed)?;
        for node in &mut network.nodes {
            if let Op::Activation(a) = &mut node.op {
                a.threshold = Some(Threshold::Layer(self.lambda));
            }
        }
        network.check()?;
        export::native::write(&network, &self.out)?;
        let _ = writeln!(text, "{}: {} with random weights, seed {seed}", self.out.display(), self.arch);
        Ok(())
    }
}
