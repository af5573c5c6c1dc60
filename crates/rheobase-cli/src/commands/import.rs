//! `rheobase import`: any trained network to one native file.

use clap::Args;
use rheobase::core::network::shape;
use rheobase::io::{export, import};
use rheobase::options::{DataOptions, ModelOptions};
use rheobase::{Error, Kind, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    model: ModelOptions,
    /// Mean per channel that the network was trained with
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "std",
        help_heading = "Kept in the file"
    )]
    mean: Vec<f32>,
    /// Standard deviation per channel
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "mean",
        help_heading = "Kept in the file"
    )]
    std: Vec<f32>,
    /// Class names, one a line in their order
    #[arg(long, value_name = "FILE", help_heading = "Kept in the file")]
    class_names: Option<PathBuf>,
    /// Where to write the network
    #[arg(long, value_name = "MODEL.safetensors", help_heading = "Results")]
    out: PathBuf,
}

impl Import {
    pub fn run(&self, text: &mut String) -> Result<()> {
        super::check_out(&self.out, &self.model.model)?;
        let mut network = import::open(&self.model.model, &self.model.import())?;
        let data = DataOptions { mean: self.mean.clone(), std: self.std.clone(), ..DataOptions::default() };
        if let Some(n) = data.normalisation()? {
            network.normalisation = Some(n);
        }
        let shapes = shape::infer(&network)?;
        if let Some(path) = &self.class_names {
            network.classes = class_names(path, shapes[network.output][0])?;
        }
        export::native::write(&network, &self.out)?;
        let _ = writeln!(
            text,
            "{}: {} nodes, input {}, {} classes",
            self.out.display(),
            network.nodes.len(),
            shape::text(shapes[0]),
            shapes[network.output][0]
        );
        if network.normalisation.is_none() {
            let _ = writeln!(text, "  normalisation unknown: `--mean` and `--std` keep it in the file");
        }
        network.notes.iter().for_each(|note| _ = writeln!(text, "  {note}"));
        Ok(())
    }
}

/// A name for each class, one a line; only the file's end may be blank.
fn class_names(path: &Path, classes: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    let names: Vec<String> = text.trim_end().lines().map(|l| l.trim().to_string()).collect();
    let blank = names.iter().filter(|n| n.is_empty()).count();
    if names.len() != classes || blank > 0 {
        let found = match blank {
            0 => names.len().to_string(),
            _ => format!("{} and {blank} blank lines", names.len() - blank),
        };
        return Err(Error::new(Kind::Usage, "the class names do not fit the network")
            .file(path)
            .expected(format!("{classes} names, one a line"))
            .found(found));
    }
    Ok(names)
}
