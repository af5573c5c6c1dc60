//! Every environment variable that Rheobase reads, and the only place that reads them.

use crate::error::{Error, Kind, Result};
use rheobase_kernels::Isa;

/// An environment variable.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Which kernels to use instead of the best that the machine has.
pub const KERNEL: Variable = Variable {
    name: "RHEOBASE_KERNEL",
    help: "instruction set of the kernels: avx512, avx2 or scalar (default: the best there is; results are the same)",
};

/// All of them.
pub static ALL: &[Variable] = &[KERNEL];

/// The instruction set that `RHEOBASE_KERNEL` names, or the best there is.
pub fn kernel() -> Result<Isa> {
    match std::env::var(KERNEL.name) {
        Err(_) => Ok(Isa::best()),
        Ok(name) if name.is_empty() => Ok(Isa::best()),
        Ok(name) => Isa::named(&name).ok_or_else(|| {
            let have: Vec<_> = Isa::available().iter().map(|i| i.name()).collect();
            Error::new(Kind::Usage, format!("{}: this machine has no kernels named `{name}`", KERNEL.name))
                .hint(format!("it has: {}", have.join(", ")))
        }),
    }
}
