//! Chains of steps on each number: collected while nodes follow one another, written down when anything else reads them.
//! In: Mul, Add, Clip, Floor and their kind with constants. Out: activations and per-channel affine maps, or a refusal.

use rheobase_core::network::Op;
use rheobase_core::{Error, Kind, Result};

use super::array::Array;
use super::build::{Builder, Chain, View, dims_text};
use super::node::{Call, Value};
use super::qcfs::recognise;
use super::steps::{Act, Affine, Clipped, Numbers, Step, zip};

/// The longest chain that is looked at as a whole.
const MAX_STEPS: usize = 32;

impl Builder {
    /// The chain that the value is or starts.
    pub fn chain(&mut self, call: &Call<'_>, value: Value) -> Result<Chain> {
        let view = match value {
            Value::Chain(chain) if chain.steps.len() < MAX_STEPS => return Ok(*chain),
            other => self.image_value(&call.label, other)?,
        };
        Ok(Chain { view: self.plain(&call.label, view)?, steps: vec![] })
    }

    /// A constant as one number or one per channel of the chain's value; anything else is refused.
    pub fn numbers(&mut self, call: &Call<'_>, chain: &mut Chain, array: &Array) -> Result<Numbers> {
        let floats = array.to_floats()?;
        let dims = &chain.view.dims;
        let rank = dims.len() + 1;
        let misfit = |why: &str| {
            call.unsupported(format!(
                "{why} is not converted: a constant must be one number or one per channel"
            ))
            .found(format!("{:?} with a value {}", array.shape, dims_text(dims)))
        };
        let skipped =
            rank.checked_sub(array.shape.len()).ok_or_else(|| misfit("a constant of higher rank"))?;
        for (i, &d) in array.shape.iter().enumerate() {
            let own = (i + skipped).checked_sub(1).and_then(|k| dims.get(k)).copied().unwrap_or(1);
            if d != 1 && d != own {
                return Err(misfit("a constant of this shape"));
            }
        }
        let first = floats.first().copied().ok_or_else(|| misfit("an empty constant"))?;
        if floats.iter().all(|&x| x == first) {
            return Ok(vec![first.into()]);
        }
        let by_channel = |(i, &d): (usize, &usize)| d == 1 || i + skipped == 1;
        if !array.shape.iter().enumerate().all(by_channel) {
            return Err(misfit("a constant that differs from pixel to pixel"));
        }
        self.budget.spend(floats.len())?;
        let view = self.by_channel(&call.label, chain.view.clone())?;
        chain.view = view;
        Ok(floats.iter().map(|&x| f64::from(x)).collect())
    }

    /// Appends a step.
    pub fn step(&mut self, call: &Call<'_>, mut chain: Chain, act: Act) -> Result<Value> {
        chain.steps.push(Step { act, node: call.label.clone() });
        Ok(Value::Chain(Box::new(chain)))
    }

    /// Writes the chain down as nodes of the network.
    pub fn written(&mut self, name: &str, chain: Chain) -> Result<View> {
        let Chain { view, steps } = chain;
        self.afford(&steps)?;
        if let Some(map) = affine_only(&steps) {
            return if map.is_identity() {
                Ok(view)
            } else {
                self.affine(last_name(&steps, name), view, &map)
            };
        }
        let is_affine = |s: &&Step| matches!(s.act, Act::Affine(_));
        let leading = steps.iter().take_while(is_affine).count();
        let trailing = steps.iter().rev().take_while(is_affine).count();
        for cut in 0..=leading + trailing {
            for front in 0..=cut.min(leading) {
                let back = cut - front;
                if back > trailing {
                    continue;
                }
                self.afford(&steps)?;
                let end = steps.len() - back;
                if let Some(activation) = steps.get(front..end).and_then(recognise) {
                    let view = self.run(name, view, steps.get(..front).unwrap_or(&[]))?;
                    let label = last_name(steps.get(..end).unwrap_or(&[]), name).to_string();
                    let made = self.push(&label, Op::Activation(activation), view.node)?;
                    let view = View { dims: view.dims, ..made };
                    return self.run(name, view, steps.get(end..).unwrap_or(&[]));
                }
            }
        }
        if let Some(floor) = steps.iter().find(|s| s.act == Act::Floor) {
            return Err(Error::new(
                Kind::Unsupported,
                "Floor is not part of a QCFS activation that is recognised",
            )
            .expected("λ/L · clip(floor(x·L/λ + ½), 0, L) in any equivalent order, with each step read once")
            .node(&floor.node));
        }
        self.run_by_run(name, view, &steps)
    }

    /// Refuses work out of proportion to the file.
    fn afford(&mut self, steps: &[Step]) -> Result<()> {
        let numbers = |s: &Step| match &s.act {
            Act::Affine(a) => a.scale.len().max(a.shift.len()),
            Act::Clip { low, high } => low.len().max(high.len()),
            Act::Floor => 1,
        };
        self.budget.spend(steps.iter().map(numbers).max().unwrap_or(0).saturating_mul(steps.len()))
    }

    /// Steps that only multiply and add.
    fn run(&mut self, name: &str, view: View, steps: &[Step]) -> Result<View> {
        match affine_only(steps) {
            Some(map) if !map.is_identity() => self.affine(last_name(steps, name), view, &map),
            _ => Ok(view),
        }
    }

    /// One node for each run of affine steps and one for each run of clips, in their order.
    fn run_by_run(&mut self, name: &str, mut view: View, steps: &[Step]) -> Result<View> {
        let kind = |s: &Step| matches!(s.act, Act::Affine(_));
        for run in steps.chunk_by(|a, b| kind(a) == kind(b)) {
            if run.first().is_some_and(kind) {
                view = self.run(name, view, run)?;
                continue;
            }
            let label = last_name(run, name);
            let activation = recognise(run).ok_or_else(|| not_a_relu(run).node(label))?;
            let made = self.push(label, Op::Activation(activation), view.node)?;
            view = View { dims: view.dims, ..made };
        }
        Ok(view)
    }
}

fn not_a_relu(run: &[Step]) -> Error {
    let whole = Clipped::of(run);
    let text = |v: &[f64]| match v {
        &[one] => one.to_string(),
        _ => "one per channel".to_string(),
    };
    Error::new(Kind::Unsupported, "Clip is not a ReLU")
        .expected("a lower bound of 0 and one upper bound above it")
        .found(format!("bounds {} and {}", text(&whole.low), text(&whole.high)))
}

/// The affine map that the steps are, if they are nothing else.
fn affine_only(steps: &[Step]) -> Option<Affine> {
    steps.iter().try_fold(Affine::identity(), |map, s| match &s.act {
        Act::Affine(a) => Some(map.then(a)),
        Act::Clip { .. } | Act::Floor => None,
    })
}

fn last_name<'a>(steps: &'a [Step], name: &'a str) -> &'a str {
    steps.last().map_or(name, |s| &s.node)
}

/// The nodes that make or extend chains, a function each.
pub(super) mod ops {
    use super::*;

    fn finite(array: &Array) -> Result<()> {
        array.to_weights().map(|_| ())
    }

    /// `Add`, `Sub`, `Mul`, `Div` with a constant.
    pub fn arithmetic(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let (x, y) = (call.take(0)?, call.take(1)?);
        let (value, array, first) = match (x, y) {
            (Value::Const(array), value) => (value, array, true),
            (value, Value::Const(array)) => (value, array, false),
            _ => {
                return Err(
                    call.unsupported(format!("{} of two computed values is not converted", call.op()))
                );
            }
        };
        finite(&array)?;
        let mut chain = b.chain(call, value)?;
        let n = b.numbers(call, &mut chain, &array)?;
        let negated = zip(&n, &[-1.0], |a, s| a * s);
        let (scale, shift) = match (call.op(), first) {
            ("Add", _) => (vec![1.0], n),
            ("Sub", false) => (vec![1.0], negated),
            ("Sub", true) => (vec![-1.0], n),
            ("Mul", _) => (n, vec![0.0]),
            ("Div", false) if n.iter().all(|&d| d != 0.0) => (zip(&[1.0], &n, |a, d| a / d), vec![0.0]),
            ("Div", false) => return Err(Error::new(Kind::Value, "division by zero").tensor(&*array.name)),
            _ => return Err(call.unsupported("a constant divided by a computed value is not converted")),
        };
        b.step(call, chain, Act::Affine(Affine { scale, shift }))
    }

    /// `Neg`.
    pub fn negate(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let value = call.take(0)?;
        let chain = b.chain(call, value)?;
        b.step(call, chain, Act::Affine(Affine { scale: vec![-1.0], shift: vec![0.0] }))
    }

    /// `Floor`.
    pub fn floor(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let value = call.take(0)?;
        let chain = b.chain(call, value)?;
        b.step(call, chain, Act::Floor)
    }

    /// `Relu`.
    pub fn relu(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let value = call.take(0)?;
        let chain = b.chain(call, value)?;
        b.step(call, chain, Act::Clip { low: vec![0.0], high: vec![f64::INFINITY] })
    }

    /// `Clip`, its bounds attributes or inputs.
    pub fn clip(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let value = call.take(0)?;
        let bound = |name: &str, i: usize, free: f64| -> Result<f64> {
            let given = match call.float(name)? {
                Some(x) => Some(x),
                None => call.constant(i, "bounds")?.map(Array::scalar).transpose()?,
            };
            match given {
                Some(x) if x.is_nan() => Err(Error::new(Kind::Value, "a clip's bound is not a number")),
                // The largest finite floats stand for no bound, as in older operator sets.
                Some(x) if x.abs() < f32::MAX => Ok(x.into()),
                Some(x) if x.is_sign_positive() == (free > 0.0) => Ok(free),
                Some(x) => Err(Error::new(Kind::Value, "a clip's bound leaves nothing").found(x.to_string())),
                None => Ok(free),
            }
        };
        let (low, high) = (bound("min", 1, f64::NEG_INFINITY)?, bound("max", 2, f64::INFINITY)?);
        let chain = b.chain(call, value)?;
        b.step(call, chain, Act::Clip { low: vec![low], high: vec![high] })
    }

    /// `Min` or `Max` of one computed value and constants.
    pub fn extremum(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
        let inputs: Vec<Value> = call.inputs.iter_mut().filter_map(Option::take).collect();
        let (arrays, mut values): (Vec<Value>, Vec<Value>) =
            inputs.into_iter().partition(|v| matches!(v, Value::Const(_)));
        let (Some(value), true) = (values.pop(), values.is_empty()) else {
            return Err(call.unsupported(format!("{} of two computed values is not converted", call.op())));
        };
        let mut chain = b.chain(call, value)?;
        for array in arrays {
            let Value::Const(array) = array else { continue };
            if array.to_floats()?.iter().any(|x| x.is_nan()) {
                return Err(Error::new(Kind::Value, "a clip's bound is not a number").tensor(&*array.name));
            }
            let n = b.numbers(call, &mut chain, &array)?;
            let (low, high) = match call.op() {
                "Max" => (n, vec![f64::INFINITY]),
                _ => (vec![f64::NEG_INFINITY], n),
            };
            chain.steps.push(Step { act: Act::Clip { low, high }, node: call.label.clone() });
        }
        Ok(Value::Chain(Box::new(chain)))
    }
}
