//! Turns a network file into a native one: `to_native IN OUT [--arch NAME] [--classes N] [--levels L] [--input CxHxW]`.
#![allow(clippy::print_stdout, reason = "a program")]

use rheobase_core::network::shape;
use rheobase_core::{Error, Kind, Result};
use rheobase_io::export;
use rheobase_io::import::{self, Options};

fn main() -> Result<()> {
    let mut options = Options::default();
    let mut files = vec![];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            files.push(argument);
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--arch" => options.arch = Some(value),
            "--classes" => options.classes = value.parse().ok(),
            "--levels" => options.levels = value.parse().ok(),
            "--input" => {
                let sides: Vec<usize> = value.split('x').filter_map(|side| side.parse().ok()).collect();
                options.input = sides.try_into().ok();
            }
            _ => return Err(Error::new(Kind::Usage, format!("unknown option: `{argument}`"))),
        }
    }
    let [from, to] = files.as_slice() else {
        return Err(Error::new(Kind::Usage, "give a file to read and a file to write"));
    };
    let network = import::open(from, &options)?;
    export::native::write(&network, to)?;
    let shapes = shape::infer(&network)?;
    println!("{}: {} to {} classes", network.name, shape::text(shapes[0]), shapes[network.output][0]);
    for note in &network.notes {
        println!("note: {note}");
    }
    Ok(())
}
