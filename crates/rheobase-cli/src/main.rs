//! The rheobase program: arguments in, exit code out (0 done, 1 a check failed, 2 bad input, 130 stopped by Ctrl-C).

mod commands;
mod output;

use clap::Parser;
use rheobase::{Error, Kind};
use std::io::Write;
use std::process::ExitCode;

/// Turns trained convolutional networks into spiking networks that are accurate within a few time-steps
#[derive(Parser)]
#[command(name = "rheobase", version, max_term_width = 110, arg_required_else_help = true)]
struct Arguments {
    /// Threads to use [default: all cores]
    #[arg(long, value_name = "N", global = true, help_heading = "Everywhere")]
    threads: Option<usize>,
    /// Seed of whatever is drawn at random
    #[arg(long, value_name = "N", global = true, default_value_t = 0, help_heading = "Everywhere")]
    seed: u64,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut text = String::new();
    let result = run(&arguments, &mut text);
    let shown = std::io::stdout().lock().write_all(text.as_bytes());
    if let Err(e) = shown
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        return fail(&Error::io("standard output", &e));
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

fn run(arguments: &Arguments, text: &mut String) -> Result<(), Error> {
    if let Some(threads) = arguments.threads {
        if !(1..=1024).contains(&threads) {
            return Err(Error::new(Kind::Usage, "number of threads makes no sense")
                .expected("1 to 1024")
                .found(threads.to_string()));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|e| Error::new(Kind::Usage, format!("threads cannot be started: {e}")))?;
    }
    arguments.command.run(arguments.seed, text)
}

fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}"); // nowhere left to tell
    match error.kind() {
        Kind::Check => ExitCode::from(1),
        Kind::Cancelled => ExitCode::from(130),
        _ => ExitCode::from(2),
    }
}
