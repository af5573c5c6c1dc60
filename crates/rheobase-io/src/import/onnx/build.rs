//! The network under construction: its nodes, the shapes of their values, and values not yet written down.
//! In: operations with the values they read. Out: nodes of a [`Network`], each checked as it is added.

use std::rc::Rc;

use rheobase_core::network::{Conv2d, Linear, Op, Shortcut, Sides, shape};
use rheobase_core::{Error, Kind, Network, Result};

use super::array::product;
use super::node::Value;
use super::steps::{Affine, Step};

/// Numbers that may be computed beyond those a file holds: 64 MB of floats.
const FREE: usize = 1 << 24;

/// How many numbers may be computed for each byte of the file.
const PER_BYTE: usize = 4;

/// How many numbers may still be computed, so that a small file cannot ask for much memory or time.
pub(super) struct Budget(usize);

impl Budget {
    /// A budget for a file of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Budget(FREE.saturating_add(bytes.saturating_mul(PER_BYTE)))
    }

    /// Adds what `bytes` more of external data justify.
    pub fn grow(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.0 = self.0.saturating_add(bytes.saturating_mul(PER_BYTE));
    }

    /// Takes `n` numbers.
    pub fn spend(&mut self, n: usize) -> Result<()> {
        self.0 = self.0.checked_sub(n).ok_or_else(|| {
            Error::new(Kind::Limit, "the file asks for far more computed numbers than it holds")
        })?;
        Ok(())
    }

    /// Takes as many numbers as the shape has, and says how many.
    pub fn spend_shape(&mut self, shape: &[usize]) -> Result<usize> {
        let n = product(shape).unwrap_or(usize::MAX);
        self.spend(n)?;
        Ok(n)
    }
}

/// A value of the network as ONNX sees it: a node's value, read with other sizes or with zeros around it.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The node that makes it.
    pub node: usize,
    /// Its ONNX sizes without the batch, all that follows included. The numbers' order never changes.
    pub dims: Vec<usize>,
    /// Pixels taken and channels added that are not yet a node of their own.
    pub shortcut: Shortcut,
    /// Zeros around it that are not yet part of a convolution or pool.
    pub pad: Sides,
    /// The node in the file that the pending shortcut is made of.
    pub maker: Rc<str>,
    /// Whether nothing else reads the node.
    pub sole: bool,
}

/// A view with steps on each number that are not yet written down.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// What the steps start from; nothing pending.
    pub view: View,
    /// In order.
    pub steps: Vec<Step>,
}

/// Nothing taken, nothing added.
pub(super) const NO_SHORTCUT: Shortcut = Shortcut { stride: [1, 1], before: 0, after: 0 };

/// A network under construction.
pub(super) struct Builder {
    pub network: Network,
    pub shapes: Vec<shape::Shape>,
    pub budget: Budget,
    /// The batch size where the file fixes it.
    pub batch: Option<usize>,
}

impl Builder {
    /// A network that is only an input so far.
    pub fn new(name: &str, input: [usize; 3], batch: Option<usize>, budget: Budget) -> Result<Self> {
        let network = Network::new(name, input);
        if product(&input).is_none_or(|n| n == 0 || n > shape::MAX_VALUE) {
            return Err(Error::new(Kind::Limit, "the image is empty or too large").found(shape::text(input)));
        }
        Ok(Builder { network, shapes: vec![input], budget, batch })
    }

    /// The image.
    pub fn input(&self) -> View {
        self.view(0)
    }

    /// The value of a node as it is.
    pub fn view(&self, node: usize) -> View {
        let dims = self.shape(node).to_vec();
        View { node, dims, shortcut: NO_SHORTCUT, pad: [0; 4], maker: "".into(), sole: true }
    }

    /// Channels, height, width of a node's value.
    pub fn shape(&self, node: usize) -> shape::Shape {
        self.shapes.get(node).copied().unwrap_or([0; 3])
    }

    /// Appends a node with one input and returns its value.
    pub fn push(&mut self, name: &str, op: Op, input: usize) -> Result<View> {
        let (op, shape) = checked(op, self.shape(input))?;
        Ok(self.append(name, op, &[input], shape))
    }

    /// Appends `Add` or `Concat`.
    pub fn join(&mut self, name: &str, op: Op, inputs: &[usize]) -> Result<View> {
        let shapes: Vec<shape::Shape> = inputs.iter().map(|&i| self.shape(i)).collect();
        let Some((first, rest)) = shapes.split_first() else {
            return Err(Error::new(Kind::Format, "nothing to join"));
        };
        let concat = matches!(op, Op::Concat);
        let mut joined = *first;
        for other in rest {
            let fits = if concat { other[1..] == first[1..] } else { other == first };
            if !fits {
                return Err(Error::new(Kind::Shape, "values to join differ in shape")
                    .expected(shape::text(*first))
                    .found(shape::text(*other)));
            }
            if concat {
                joined[0] = joined[0].saturating_add(other[0]);
            }
        }
        if product(&joined).is_none_or(|n| n > shape::MAX_VALUE) {
            return Err(Error::new(Kind::Limit, "value is too large").found(shape::text(joined)));
        }
        Ok(self.append(name, op, inputs, joined))
    }

    fn append(&mut self, name: &str, op: Op, inputs: &[usize], shape: shape::Shape) -> View {
        let node = self.network.push(name, op, inputs);
        self.shapes.push(shape);
        self.view(node)
    }

    /// Writes down pixels taken and channels added; zeros around may stay pending.
    pub fn settled(&mut self, name: &str, view: View) -> Result<View> {
        if view.shortcut == NO_SHORTCUT {
            return Ok(view);
        }
        let name = if view.maker.is_empty() { name } else { &view.maker };
        let made = self.push(name, Op::Shortcut(view.shortcut), view.node)?;
        Ok(View { dims: view.dims, pad: view.pad, ..made })
    }

    /// A view with nothing pending, its sizes as they are.
    pub fn plain(&mut self, name: &str, view: View) -> Result<View> {
        if view.pad != [0; 4] {
            return Err(Error::new(
                Kind::Unsupported,
                "zero padding is converted only before a convolution or pool",
            ));
        }
        self.settled(name, view)
    }

    /// The node of a value [N, C, H, W], and the zeros around it that are pending.
    pub fn padded_image(&mut self, name: &str, view: View) -> Result<(usize, Sides)> {
        let view = self.settled(name, view)?;
        let [c, h, w] = self.shape(view.node);
        let [top, left, bottom, right] = view.pad;
        if view.dims == [c, h + top + bottom, w + left + right] {
            return Ok((view.node, view.pad));
        }
        if view.dims == [c.saturating_mul(h).saturating_mul(w), 1, 1] && view.pad == [0; 4] {
            return Ok((self.push(name, Op::Flatten, view.node)?.node, view.pad));
        }
        Err(self.reshaped(&view, "[N, channels, height, width]"))
    }

    /// The node of a value [N, C, H, W] with nothing pending.
    pub fn image(&mut self, name: &str, view: View) -> Result<usize> {
        let view = self.plain(name, view)?;
        Ok(self.padded_image(name, view)?.0)
    }

    /// The node of a value [N, features].
    pub fn flat(&mut self, name: &str, view: View) -> Result<usize> {
        let view = self.plain(name, view)?;
        if view.dims.len() != 1 {
            return Err(self.reshaped(&view, "[N, features]"));
        }
        match self.shape(view.node) {
            [_, 1, 1] => Ok(view.node),
            _ => Ok(self.push(name, Op::Flatten, view.node)?.node),
        }
    }

    /// The view lined up so that its first size is the network's channels; flat values are flattened.
    pub fn by_channel(&mut self, name: &str, view: View) -> Result<View> {
        let view = self.plain(name, view)?;
        if view.dims.first() == self.shape(view.node).first() {
            return Ok(view);
        }
        match view.dims.len() {
            1 => {
                let dims = view.dims.clone();
                let node = self.flat(name, view)?;
                Ok(View { dims, ..self.view(node) })
            }
            3 => {
                let node = self.image(name, view)?;
                Ok(self.view(node))
            }
            _ => Err(self.reshaped(&view, "[N, channels, ...]")),
        }
    }

    fn reshaped(&self, view: &View, expected: &str) -> Error {
        Error::new(Kind::Unsupported, "reads a value that was reshaped in a way that is not converted")
            .expected(expected)
            .found(format!("{} read as {}", shape::text(self.shape(view.node)), dims_text(&view.dims)))
    }

    /// A value of the network with all its steps written down; constants are refused.
    pub fn image_value(&mut self, name: &str, value: Value) -> Result<View> {
        match value {
            Value::Image(view) => Ok(view),
            Value::Chain(chain) => self.written(name, *chain),
            Value::Const(_) | Value::Zeros(_) | Value::Refused => Err(Error::new(
                Kind::Unsupported,
                "reads a constant where a value of the network is expected",
            )),
        }
    }

    /// Appends per-channel multiplication and addition, as the bias of the layer before where that is enough.
    pub fn affine(&mut self, name: &str, view: View, map: &Affine) -> Result<View> {
        let channels = self.shape(view.node)[0];
        self.budget.spend(channels.saturating_mul(4))?;
        let shift = map.shift_of(channels);
        if map.is_addition()
            && view.sole
            && let Some(
                Op::Conv2d(Conv2d { bias: bias @ None, .. }) | Op::Linear(Linear { bias: bias @ None, .. }),
            ) = self.network.nodes.get_mut(view.node).map(|n| &mut n.op)
        {
            *bias = Some(shift);
            return Ok(view);
        }
        let made = self.push(name, map.op(channels, shift), view.node)?;
        Ok(View { dims: view.dims, ..made })
    }
}

/// `[N, 3, 32, 32]`, as errors show ONNX sizes.
pub(super) fn dims_text(dims: &[usize]) -> String {
    let sizes: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("[N, {}]", sizes.join(", "))
}

/// The shape that an operation with one input makes, every parameter checked by the network's own rules.
fn checked(op: Op, input: shape::Shape) -> Result<(Op, shape::Shape)> {
    // A whole network is what the rules check, so the operation gets one to itself; the pool makes it end in one number a class.
    let mut alone = Network::new("", input);
    let node = alone.push("", op, &[0]);
    alone.push("", Op::GlobalAverage, &[node]);
    let shapes = shape::infer(&alone).map_err(|e| unplaced(&e))?;
    let op = alone.nodes.swap_remove(node).op;
    shapes.get(node).copied().map(|s| (op, s)).ok_or_else(|| Error::new(Kind::Format, "node without a shape"))
}

/// The error without the name of the helper network's node, so that the real one can be named.
fn unplaced(e: &Error) -> Error {
    let text = e.to_string();
    Error::new(e.kind(), text.strip_prefix("node ``: ").unwrap_or(&text))
}
