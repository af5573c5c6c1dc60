//! One node of an ONNX graph as its reader sees it: attributes by name, inputs as values.
//! In: a `NodeProto` and the values it reads. Out: typed access with errors for what is missing or of another type.

use std::rc::Rc;

use rheobase_core::{Error, Kind, Result};

use super::array::Array;
use super::build::{Chain, View};
use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, NodeProto};

/// What a name in the graph stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Numbers that do not depend on the image.
    Const(Array),
    /// Zeros of shape [batch, ...].
    Zeros(Rc<[usize]>),
    /// A value of the network.
    Image(View),
    /// A value of the network with steps on each number that are not yet written down.
    Chain(Box<Chain>),
    /// What a refused node would have made.
    Refused,
}

/// A node with the values of its inputs.
pub(super) struct Call<'a> {
    pub node: &'a NodeProto,
    /// The node's name, or its output's where it has none.
    pub label: String,
    /// The version of the operator set.
    pub opset: i64,
    /// Whether the node's value is the graph's output.
    pub last: bool,
    /// Inputs in order; those left out are `None`, and so are those taken.
    pub inputs: Vec<Option<Value>>,
}

impl<'a> Call<'a> {
    /// The operator's name.
    pub fn op(&self) -> &'a str {
        self.node.op_type()
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name() == name)
    }

    /// Refuses attributes whose meaning is not known here.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.node.attribute.iter().find(|a| !known.contains(&a.name())) {
            None => Ok(()),
            Some(a) => Err(self.unsupported(format!("attribute `{}` is not known", a.name()))),
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        let of_type = [AttributeType::Int, AttributeType::Undefined].contains(&a.r#type());
        a.i.or((of_type && a.f.is_none()).then_some(0))
            .filter(|_| of_type)
            .map(Some)
            .ok_or_else(|| self.bad(name, "a whole number"))
    }

    /// A flag, off where it is missing.
    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.int(name)?.unwrap_or(0) != 0)
    }

    /// A float.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        let of_type = [AttributeType::Float, AttributeType::Undefined].contains(&a.r#type());
        a.f.or((of_type && a.i.is_none()).then_some(0.0))
            .filter(|_| of_type)
            .map(Some)
            .ok_or_else(|| self.bad(name, "a float"))
    }

    /// Whole numbers.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        match a.r#type() {
            AttributeType::Ints | AttributeType::Undefined => Ok(Some(&a.ints)),
            _ => Err(self.bad(name, "a list of whole numbers")),
        }
    }

    /// Text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        let text = a.s.as_deref().and_then(|s| std::str::from_utf8(s).ok());
        text.map(Some).ok_or_else(|| self.bad(name, "text"))
    }

    /// The attribute itself, for those that hold tensors.
    pub fn raw(&self, name: &str) -> Option<&'a AttributeProto> {
        self.attribute(name)
    }

    /// Takes input `i`, which must be given.
    pub fn take(&mut self, i: usize) -> Result<Value> {
        self.inputs
            .get_mut(i)
            .and_then(Option::take)
            .ok_or_else(|| Error::new(Kind::Format, format!("{} lacks its input {i}", self.op())))
    }

    /// Input `i` where it is given and a constant; anything else that is given is refused.
    pub fn constant(&self, i: usize, what: &str) -> Result<Option<&Array>> {
        match self.inputs.get(i).and_then(Option::as_ref) {
            None => Ok(None),
            Some(Value::Const(array)) => Ok(Some(array)),
            Some(_) => Err(self.unsupported(format!("{what} are computed from the image"))),
        }
    }

    /// Input `i`, which must be given and a constant.
    pub fn needed(&self, i: usize, what: &str) -> Result<&Array> {
        self.constant(i, what)?
            .ok_or_else(|| Error::new(Kind::Format, format!("{} lacks its {what}", self.op())))
    }

    /// Whole numbers from an attribute (older operator sets) or from input `i`.
    pub fn ints_or_input(&self, name: &str, i: usize) -> Result<Option<Vec<i64>>> {
        match self.ints(name)? {
            Some(ints) => Ok(Some(ints.to_vec())),
            None => self.constant(i, name)?.map(Array::to_ints).transpose(),
        }
    }

    /// An error about this node: it is sound, but not converted.
    pub fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::new(Kind::Unsupported, why)
    }

    fn bad(&self, name: &str, expected: &str) -> Error {
        Error::new(Kind::Format, format!("attribute `{name}` is of another type")).expected(expected)
    }
}
