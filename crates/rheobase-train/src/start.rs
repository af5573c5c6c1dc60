//! Where training starts: random weights, or a trained network whose activations become QCFS.
//! In: an architecture or a network. Out: a network whose every activation is a QCFS with a λ to train.

use rheobase_core::convert::{self, ThresholdOptions, ThresholdRule};
use rheobase_core::network::{ActivationKind, Network, Op, shape, spec, zoo};
use rheobase_core::prepared::Prepared;
use rheobase_core::progress::Progress;
use rheobase_core::{Error, Kind, Result};

/// λ of a network trained from scratch (the paper's).
pub const LAMBDA: f32 = 8.0;
/// λ of a trained ReLU network's activations: this percentile of them.
pub const PERCENTILE: f64 = 99.0;

/// A zoo network with random weights (uniform, Kaiming) and λ = 8.
pub fn scratch(arch: &str, classes: usize, input: [usize; 3], levels: u32, seed: u64) -> Result<Network> {
    let mut network = zoo::random(arch, classes, Some(input), levels, seed)?;
    network.notes.clear();
    Ok(network)
}

/// A trained network with QCFS of `levels` steps: activations that are QCFS already keep their λ, the others get the 99th
/// percentile of their values over `images`. What was changed is noted.
pub fn from_trained(
    network: &Network,
    levels: u32,
    images: &Prepared<'_>,
    progress: &dyn Progress,
) -> Result<Network> {
    if levels == 0 {
        return Err(Error::new(Kind::Usage, "QCFS needs 1 or more levels").found("0").hint("`--levels`"));
    }
    spec::no_max_pools(network)?;
    let rule = ThresholdRule::Percentile(PERCENTILE);
    let how = ThresholdOptions { rule, per_channel: false, levels };
    let mut network = convert::thresholds(network, images, &how, progress)?;
    let mut replaced = vec![];
    for node in &mut network.nodes {
        if let Op::Activation(a) = &mut node.op
            && a.kind != (ActivationKind::Qcfs { levels })
        {
            replaced.push(node.name.clone());
            a.kind = ActivationKind::Qcfs { levels };
        }
    }
    if !replaced.is_empty() {
        network.notes.push(format!(
            "{} activations became QCFS with L = {levels}: {}",
            replaced.len(),
            rheobase_core::error::few(&replaced)
        ));
    }
    network.check()?;
    Ok(network)
}

/// Refuses a network that does not give one logit for each of the data's classes.
pub fn check_classes(network: &Network, classes: usize) -> Result<()> {
    let have = shape::infer(network)?[network.output][0];
    if have == classes {
        return Ok(());
    }
    Err(Error::new(Kind::Data, "the classes of the data do not fit the network")
        .expected(format!("{have} classes"))
        .found(classes.to_string()))
}
