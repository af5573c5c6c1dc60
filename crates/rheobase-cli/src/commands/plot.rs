//! `rheobase plot`: accuracy over time-steps of several evaluations as one picture.

use clap::Args;
use rheobase::{Error, Kind, Result, files, plot};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Plot {
    /// Files that `rheobase eval --json` wrote
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where to write the picture
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
}

impl Plot {
    pub fn run(&self, text: &mut String) -> Result<()> {
        let mut runs = vec![];
        for path in &self.runs {
            let json = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
            let value = serde_json::from_slice(&json)
                .map_err(|e| Error::new(Kind::Format, format!("not JSON: {e}")).file(path))?;
            runs.push((path.display().to_string(), value));
        }
        files::write(&self.out, plot::accuracy(&runs)?.as_bytes())?;
        let _ = writeln!(text, "{}", self.out.display());
        Ok(())
    }
}
