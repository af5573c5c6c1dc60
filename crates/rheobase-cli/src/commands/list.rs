//! `rheobase list`: everything that has a name.

use clap::Args;
use rheobase::Result;
use rheobase::core::{Isa, env, network::zoo, neuron};
use rheobase::io::data;
use std::fmt::Write;

#[derive(Args)]
pub struct List {}

impl List {
    pub fn run(&self, text: &mut String) -> Result<()> {
        let _ = writeln!(text, "architectures (--arch)");
        for a in zoo::ZOO {
            let _ = writeln!(text, "  {:<14} {}", a.name, a.about);
        }
        let _ = writeln!(text, "\nneuron rules (--method)");
        for r in neuron::RULES {
            let _ = writeln!(text, "  {:<14} {} ({})", r.name, r.help, r.source);
        }
        let _ = writeln!(text, "\ndata sets (--data)");
        for d in data::DATASETS {
            let _ = writeln!(text, "  {:<16} {}", d.usage, d.help);
        }
        let _ = writeln!(text, "\nkernels of this machine, best first");
        let have: Vec<_> = Isa::available().iter().map(|i| i.name()).collect();
        let _ = writeln!(text, "  {}", have.join(", "));
        let _ = writeln!(text, "\nenvironment variables");
        for v in env::ALL {
            let _ = writeln!(text, "  {:<16} {}", v.name, v.help);
        }
        Ok(())
    }
}
