//! The graph as it is read: its one image, its one output, and the nodes that matter for it.
//! In: a `GraphProto`. Out: names, sizes and live nodes, all of them checked.

use std::collections::{HashMap, HashSet};

use rheobase_core::{Error, Kind, Result};

use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::dimension;
use super::proto::{GraphProto, NodeProto, ValueInfoProto, type_proto};

/// The image that the network reads.
pub(super) struct Image {
    pub name: String,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// The batch size where the file fixes it.
    pub batch: Option<usize>,
}

/// The graph's inputs that are not weights: there must be one, an image [N, C, H, W] of float32.
pub(super) fn image(graph: &GraphProto) -> Result<Image> {
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !weights.contains(i.name())).collect();
    let &[input] = inputs.as_slice() else {
        return Err(Error::new(Kind::Unsupported, "the network must read one image")
            .found(listed(inputs.iter().map(|i| i.name()), "no input")));
    };
    sizes(input).map_err(|e| e.node(input.name()))
}

fn sizes(input: &ValueInfoProto) -> Result<Image> {
    let tensor =
        input.r#type.as_ref().and_then(|t| t.value.as_ref()).map(|type_proto::Value::TensorType(t)| t);
    let tensor = tensor.ok_or_else(|| Error::new(Kind::Unsupported, "the input is not a tensor"))?;
    if tensor.elem_type() != DataType::Float as i32 {
        let kind = DataType::try_from(tensor.elem_type()).map_or("unknown", |t| t.as_str_name());
        return Err(Error::new(Kind::Unsupported, "the image must be float32")
            .found(kind)
            .hint("export the model in float32"));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim);
    let text = || {
        let one = |d: &dimension::Value| match d {
            dimension::Value::DimValue(n) => n.to_string(),
            dimension::Value::DimParam(name) => name.clone(),
        };
        let sizes: Vec<String> =
            dims.iter().take(8).map(|d| d.value.as_ref().map_or("?".into(), one)).collect();
        format!("[{}]", sizes.join(", "))
    };
    let [batch, rest @ ..] = dims else { return Err(not_an_image(text())) };
    let known = |d: &super::proto::tensor_shape_proto::Dimension| match d.value {
        Some(dimension::Value::DimValue(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    };
    if rest.len() != 3 {
        return Err(not_an_image(text()));
    }
    let [Some(c), Some(h), Some(w)] = [rest.first(), rest.get(1), rest.get(2)].map(|d| d.and_then(known))
    else {
        return Err(Error::new(Kind::Unsupported, "the image's size is not fixed")
            .expected("channels, height and width as numbers")
            .found(text())
            .hint("export with a dummy image of the real size and only the batch as a dynamic axis"));
    };
    if (1..=4).contains(&w) && c > 4 && h > 4 {
        return Err(Error::new(Kind::Unsupported, "the image's channels come last")
            .expected("[N, C, H, W]")
            .found(text())
            .hint("export the model channels first"));
    }
    Ok(Image { name: input.name().to_string(), shape: [c, h, w], batch: known(batch) })
}

fn not_an_image(found: String) -> Error {
    Error::new(Kind::Unsupported, "the network must read an image").expected("[N, C, H, W]").found(found)
}

/// The name of the one output.
pub(super) fn output(graph: &GraphProto) -> Result<&str> {
    match graph.output.as_slice() {
        [one] => Ok(one.name()),
        many => Err(Error::new(Kind::Unsupported, "the network must have one output, its logits")
            .found(listed(many.iter().map(|o| o.name()), "no output"))
            .hint("export the model without auxiliary outputs")),
    }
}

fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>, none: &str) -> String {
    if names.len() == 0 {
        return none.to_string();
    }
    names.take(8).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// The nodes that the output depends on, in the file's order, and how often each value is read.
pub(super) struct Live<'a> {
    pub nodes: Vec<&'a NodeProto>,
    pub readers: HashMap<&'a str, usize>,
}

/// Follows the output back to the image. Every value has one maker, which comes before its readers.
pub(super) fn live<'a>(nodes: &'a [NodeProto], given: &HashSet<&str>, output: &'a str) -> Result<Live<'a>> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if given.contains(name.as_str()) || makers.insert(name, i).is_some() {
                return Err(
                    Error::new(Kind::Format, format!("value `{name}` is made twice")).node(label(node))
                );
            }
        }
    }
    let mut wanted = vec![false; nodes.len()];
    let mut readers: HashMap<&str, usize> = HashMap::from([(output, 1)]);
    if let Some(slot) = makers.get(output).and_then(|&i| wanted.get_mut(i)) {
        *slot = true;
    }
    for (i, node) in nodes.iter().enumerate().rev() {
        if wanted.get(i) != Some(&true) {
            continue;
        }
        for name in node.input.iter().filter(|n| !n.is_empty()) {
            *readers.entry(name).or_insert(0) += 1;
            match makers.get(name.as_str()) {
                Some(&maker) if maker >= i => {
                    return Err(Error::new(Kind::Format, format!("reads `{name}` before it is made"))
                        .node(label(node)));
                }
                Some(&maker) => {
                    if let Some(slot) = wanted.get_mut(maker) {
                        *slot = true;
                    }
                }
                None if given.contains(name.as_str()) => {}
                None => {
                    return Err(Error::new(Kind::Format, format!("reads `{name}`, which nothing makes"))
                        .node(label(node)));
                }
            }
        }
    }
    let alive = nodes.iter().zip(&wanted).filter(|(_, w)| **w).map(|(n, _)| n).collect();
    Ok(Live { nodes: alive, readers })
}

/// A node's name, or its output's where it has none.
pub(super) fn label(node: &NodeProto) -> String {
    match node.name() {
        "" => node.output.first().cloned().unwrap_or_default(),
        name => name.to_string(),
    }
}
