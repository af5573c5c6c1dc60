//! Tests of the importer over models built in code.
//! In: nodes and weights, a line each. Out: networks, or the one line that refuses them.

mod damage;
mod folds;
mod forms;
mod orders;
mod refused;

use prost::Message;
use rheobase_core::{Network, Result};

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::*;

/// An attribute's value.
#[derive(Clone)]
pub enum Attr {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
    Tensor(Box<TensorProto>),
}

/// A model under construction.
pub struct Model(pub ModelProto);

impl Model {
    /// A model that reads `x` of shape [N, C, H, W] and gives `y`.
    pub fn new(shape: [i64; 3], opset: i64) -> Self {
        let dim = |n: i64| Dimension { value: Some(dimension::Value::DimValue(n)) };
        let batch = Dimension { value: Some(dimension::Value::DimParam("N".into())) };
        let dims = std::iter::once(batch).chain(shape.map(dim)).collect();
        let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: dims }) };
        let x = ValueInfoProto {
            name: Some("x".into()),
            r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
        };
        let y = ValueInfoProto { name: Some("y".into()), r#type: None };
        let graph = GraphProto { input: vec![x], output: vec![y], ..Default::default() };
        let version = OperatorSetIdProto { domain: None, version: Some(opset) };
        Model(ModelProto { graph: Some(graph), opset_import: vec![version], ..Default::default() })
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    pub fn floats(mut self, name: &str, dims: &[i64], data: &[f32]) -> Self {
        let tensor = floats(name, dims, data);
        self.graph().initializer.push(tensor);
        self
    }

    pub fn ints(mut self, name: &str, data: &[i64]) -> Self {
        let tensor = ints(name, &[data.len() as i64], data);
        self.graph().initializer.push(tensor);
        self
    }

    pub fn scalar(self, name: &str, x: f32) -> Self {
        self.floats(name, &[], &[x])
    }

    /// A node named like its output; inputs separated by spaces, `-` for one left out.
    pub fn node(mut self, op: &str, inputs: &str, output: &str, attributes: &[(&str, Attr)]) -> Self {
        let node = node(op, inputs, output, attributes);
        self.graph().node.push(node);
        self
    }

    /// A global average pool and a flattening from `from` to `y`.
    pub fn head(self, from: &str) -> Self {
        self.node("GlobalAveragePool", from, "head", &[]).node("Flatten", "head", "y", &[])
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    pub fn read(&self) -> Result<Network> {
        super::read_bytes(&self.bytes(), None, "model.onnx")
    }

    pub fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }

    /// Names of the network's operations after the input.
    pub fn ops(&self) -> Vec<&'static str> {
        self.read().unwrap().nodes.iter().skip(1).map(|n| n.op.name()).collect()
    }
}

pub fn node(op: &str, inputs: &str, output: &str, attributes: &[(&str, Attr)]) -> NodeProto {
    let name = |n: &str| if n == "-" { String::new() } else { n.to_string() };
    NodeProto {
        op_type: Some(op.into()),
        name: Some(output.into()),
        input: inputs.split_whitespace().map(name).collect(),
        output: vec![output.into()],
        attribute: attributes.iter().map(|(n, a)| attribute(n, a)).collect(),
        ..Default::default()
    }
}

pub fn attribute(name: &str, value: &Attr) -> AttributeProto {
    let mut a = AttributeProto { name: Some(name.into()), ..Default::default() };
    match value {
        Attr::Int(i) => {
            a.i = Some(*i);
            a.set_type(AttributeType::Int);
        }
        Attr::Ints(v) => {
            a.ints = v.clone();
            a.set_type(AttributeType::Ints);
        }
        Attr::Float(x) => {
            a.f = Some(*x);
            a.set_type(AttributeType::Float);
        }
        Attr::Text(s) => {
            a.s = Some(s.as_bytes().to_vec());
            a.set_type(AttributeType::String);
        }
        Attr::Tensor(t) => {
            a.t = Some((**t).clone());
            a.set_type(AttributeType::Tensor);
        }
    }
    a
}

pub fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        raw_data: Some(data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..Default::default()
    }
}

pub fn ints(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Int64 as i32),
        int64_data: data.to_vec(),
        ..Default::default()
    }
}

/// 0.1, 0.2, ...
pub fn ramp(n: usize) -> Vec<f32> {
    (1..=n).map(|i| i as f32 * 0.1).collect()
}
