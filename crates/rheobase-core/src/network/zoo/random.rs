//! Zoo networks with random weights, for trials of memory and speed.
//! In: a name, classes, image shape, levels, a seed. Out: a QCFS network that fires.

use super::{Field, blueprint};
use crate::error::{Error, Kind, Result};
use crate::network::Network;
use crate::network::op::{ActivationKind, Op, Threshold};
use crate::random::Stream;

/// A zoo network with weights uniform in ±sqrt(6 / fan-in) (Kaiming), biases 0, BatchNorm at identity, and QCFS
/// activations of `levels` steps with λ = 8. The same numbers for the same seed on every machine.
pub fn random(
    name: &str,
    classes: usize,
    input: Option<[usize; 3]>,
    levels: u32,
    seed: u64,
) -> Result<Network> {
    if levels == 0 {
        return Err(Error::new(Kind::Usage, "QCFS needs 1 or more levels").found("0"));
    }
    let blueprint = blueprint(name, classes, input)?;
    let mut network = blueprint.network;
    for (index, parameter) in blueprint.parameters.iter().enumerate() {
        match parameter.field {
            Field::Threshold => {
                if let Op::Activation(a) = &mut network.nodes[parameter.node].op {
                    a.kind = ActivationKind::Qcfs { levels };
                    a.threshold = Some(Threshold::Layer(8.0));
                }
            }
            Field::Weight => {
                let fan_in: usize = parameter.shape[1..].iter().product();
                let bound = (6.0 / fan_in as f64).sqrt();
                let mut stream = Stream::new(seed, index as u64);
                if let Some(numbers) = parameter.numbers(&mut network) {
                    numbers.fill_with(|| ((2.0 * stream.uniform() - 1.0) * bound) as f32);
                }
            }
            Field::Scale | Field::Var => {
                if let Some(numbers) = parameter.numbers(&mut network) {
                    numbers.fill(1.0);
                }
            }
            Field::Bias | Field::Shift | Field::Mean => {}
        }
    }
    network.notes.push(format!("random weights, seed {seed}"));
    network.check()?;
    Ok(network)
}
