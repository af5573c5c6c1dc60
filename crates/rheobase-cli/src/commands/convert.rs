//! `rheobase convert`: thresholds of a ReLU network, kept in the file.

use crate::output::Bar;
use clap::Args;
use rheobase::io::export;
use rheobase::jobs;
use rheobase::options::{ConvertOptions, DataOptions, ModelOptions};
use rheobase::{Error, Kind, Result};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Convert {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    convert: ConvertOptions,
    /// Time-steps that thresholds by `mse` are fitted for
    #[arg(long, value_name = "STEPS", default_value_t = 8, help_heading = "Conversion")]
    steps: u32,
    /// Where to write the network
    #[arg(long, value_name = "MODEL.safetensors", help_heading = "Results")]
    out: PathBuf,
}

impl Convert {
    pub fn run(&self, text: &mut String) -> Result<()> {
        super::check_out(&self.out, &self.model.model)?;
        if self.steps == 0 {
            return Err(
                Error::new(Kind::Usage, "thresholds are fitted for 1 or more time-steps").hint("`--steps`")
            );
        }
        let network = jobs::open(&self.model)?;
        let before = network.clone();
        let mut network = jobs::convert(network, &self.convert, &self.data, self.steps, &Bar::new())
            .map_err(jobs::blame(&self.model))?;
        if network == before {
            return Err(Error::new(
                Kind::Usage,
                "nothing to convert: every activation has its threshold already",
            )
            .file(&self.model.model));
        }
        if let Some(n) = self.data.normalisation()? {
            network.normalisation = Some(n);
        }
        export::native::write(&network, &self.out)?;
        let _ = writeln!(text, "{}", self.out.display());
        network.notes.iter().for_each(|note| _ = writeln!(text, "  {note}"));
        Ok(())
    }
}
