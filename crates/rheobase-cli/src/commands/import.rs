//! `rheobase import`: any trained network to one native file.

use clap::Args;
use rheobase::Result;
use rheobase::core::network::shape;
use rheobase::io::{export, import};
use rheobase::options::{DataOptions, ModelOptions};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    model: ModelOptions,
    /// Mean per channel that the network was trained with, kept in the file
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, requires = "std")]
    mean: Vec<f32>,
    /// Standard deviation per channel, kept in the file
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, requires = "mean")]
    std: Vec<f32>,
    /// Class names, one a line in their order, kept in the file
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// Where to write the network
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
}

impl Import {
    pub fn run(&self, text: &mut String) -> Result<()> {
        let mut network = import::open(&self.model.model, &self.model.import())?;
        let data = DataOptions { mean: self.mean.clone(), std: self.std.clone(), ..DataOptions::default() };
        if let Some(n) = data.normalisation()? {
            network.normalisation = Some(n);
        }
        if let Some(path) = &self.class_names {
            let names = std::fs::read_to_string(path).map_err(|e| rheobase::Error::io(path, &e))?;
            network.classes = names.lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect();
        }
        let shapes = shape::infer(&network)?;
        export::native::write(&network, &self.out)?;
        let _ = writeln!(
            text,
            "{}: {} nodes, input {}, {} classes",
            self.out.display(),
            network.nodes.len(),
            shape::text(shapes[0]),
            shapes[network.output][0]
        );
        network.notes.iter().for_each(|note| _ = writeln!(text, "  {note}"));
        Ok(())
    }
}
