//! Which instruction sets this machine has.
//! In: nothing, or a name. Out: an [`Isa`], a token that exists only where the machine has that instruction set.

/// An instruction set that this machine has; holding one proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Work to be compiled for an instruction set: `run` must be `#[inline(always)]`, so that it takes on the features of
/// the function that calls it.
pub trait Job {
    /// What it yields.
    type Out;
    /// Does it with the lanes of one instruction set.
    fn run<V: Vectors>(self) -> Self::Out;
}

/// The lane types of one instruction set.
pub trait Vectors {
    /// As many i32 as a register holds.
    type I32: crate::lanes::IntLane<Element = i32>;
    /// i64 for long runs.
    type I64: crate::lanes::IntLane<Element = i64>;
    /// f32 for training.
    type F32: crate::lanes::FloatLane;
}

/// One lane: the definition.
pub struct Scalar;
impl Vectors for Scalar {
    type I32 = i32;
    type I64 = i64;
    type F32 = f32;
}

/// 8 lanes.
#[cfg(target_arch = "x86_64")]
struct Avx2;
#[cfg(target_arch = "x86_64")]
impl Vectors for Avx2 {
    type I32 = crate::lanes::avx2::I32x8;
    type I64 = i64;
    type F32 = crate::lanes::avx2::F32x8;
}

/// 16 lanes.
#[cfg(target_arch = "x86_64")]
struct Avx512;
#[cfg(target_arch = "x86_64")]
impl Vectors for Avx512 {
    type I32 = crate::lanes::avx512::I32x16;
    type I64 = crate::lanes::avx512::I64x8;
    type F32 = crate::lanes::avx512::F32x16;
}

impl Isa {
    /// Every name there is, best first.
    pub const NAMES: [&'static str; 3] = ["avx512", "avx2", "scalar"];

    /// The best that this machine has.
    pub fn best() -> Isa {
        Self::NAMES.iter().find_map(|n| Isa::named(n)).unwrap_or(Isa::scalar())
    }

    /// One lane; every machine has it.
    pub fn scalar() -> Isa {
        Isa(Level::Scalar)
    }

    /// The instruction set of this name, if it is known and this machine has it.
    pub fn named(name: &str) -> Option<Isa> {
        match name {
            "scalar" => Some(Isa::scalar()),
            #[cfg(target_arch = "x86_64")]
            "avx2" => (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("lzcnt"))
            .then_some(Isa(Level::Avx2)),
            #[cfg(target_arch = "x86_64")]
            "avx512" => (Isa::named("avx2").is_some()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"))
            .then_some(Isa(Level::Avx512)),
            _ => None,
        }
    }

    /// Every instruction set that this machine has, best first.
    pub fn available() -> Vec<Isa> {
        Self::NAMES.iter().filter_map(|n| Isa::named(n)).collect()
    }

    /// `avx512`, `avx2` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Runs a job compiled for this instruction set. The result never depends on which one it is.
    pub fn run<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            Level::Scalar => job.run::<Scalar>(),
            // SAFETY: these levels exist only where `named` has seen the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(job) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(job) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx2<J: Job>(job: J) -> J::Out {
    job.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx512<J: Job>(job: J) -> J::Out {
    job.run::<Avx512>()
}
