//! Which kernels an engine uses.
//! In: an instruction set, or a name. Out: [`Kernels`]; results never depend on it.

use crate::Isa;
use std::fmt;

/// An instruction set, and what its lanes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    /// What lanes hold in stages that can have it either way; without it whatever is faster.
    pub lanes: Option<Lanes>,
}

/// What lanes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Channels of a position: sums of weights for each spike.
    Channels,
    /// Positions of a channel: sums looked up by the spikes under them.
    Positions,
}

impl Lanes {
    /// Both.
    pub const ALL: [Lanes; 2] = [Lanes::Channels, Lanes::Positions];

    /// The one that it is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Lanes::Channels => Lanes::Positions,
            Lanes::Positions => Lanes::Channels,
        }
    }

    /// `channels` or `positions`.
    pub fn name(self) -> &'static str {
        match self {
            Lanes::Channels => "channels",
            Lanes::Positions => "positions",
        }
    }
}

impl From<Isa> for Kernels {
    fn from(isa: Isa) -> Self {
        Kernels { isa, lanes: None }
    }
}

impl Kernels {
    /// The best that this machine has.
    pub fn best() -> Self {
        Isa::best().into()
    }

    /// `avx512`, `avx2`, `neon` or `scalar`, and after a `/` what lanes hold, if it is not for the engine to choose; `None` where
    /// this machine has no such kernels.
    pub fn named(name: &str) -> Option<Self> {
        let (isa, lanes) = name.split_once('/').map_or((name, None), |(isa, lanes)| (isa, Some(lanes)));
        let lanes = match lanes {
            None => None,
            Some(name) => Some(Lanes::ALL.into_iter().find(|l| l.name() == name)?),
        };
        Some(Kernels { isa: Isa::named(isa)?, lanes })
    }

    /// Every one that this machine has.
    pub fn available() -> Vec<Self> {
        let choices = [None, Some(Lanes::Channels), Some(Lanes::Positions)];
        Isa::available().into_iter().flat_map(|isa| choices.map(|lanes| Kernels { isa, lanes })).collect()
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.isa.name())?;
        self.lanes.map_or(Ok(()), |lanes| write!(f, "/{}", lanes.name()))
    }
}
