//! Every environment variable that Rheobase reads, and the only place that reads them.

use crate::error::{Error, Kind, Result};
use rheobase_kernels::Kernels;

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
    help: "kernels: avx512, avx2, neon or scalar, and what lanes hold: avx512/channels, avx512/positions (default: the fastest; results are the same)",
};

/// All of them.
pub static ALL: &[Variable] = &[KERNEL];

/// The kernels that `RHEOBASE_KERNEL` names, or the best there are.
pub fn kernel() -> Result<Kernels> {
    match std::env::var(KERNEL.name) {
        Err(_) => Ok(Kernels::best()),
        Ok(name) if name.is_empty() => Ok(Kernels::best()),
        Ok(name) => Kernels::named(&name).ok_or_else(|| {
            let have: Vec<_> = Kernels::available().iter().map(Kernels::to_string).collect();
            Error::new(Kind::Usage, format!("{}: this machine has no kernels named `{name}`", KERNEL.name))
                .hint(format!("it has: {}", have.join(", ")))
        }),
    }
}
