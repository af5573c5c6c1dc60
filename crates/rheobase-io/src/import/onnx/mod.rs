//! ONNX files, operator set 11 to the newest, as PyTorch's exporters write them.
//! In: a file and, where its weights lie outside, its folder. Out: a [`Network`], or one error that lists all that is in the way.
//! The nodes are gone through once: constants are folded, everything else becomes a node of the network or waits for the one it is part of.

mod array;
mod build;
mod chain;
mod classes;
mod consts;
mod functions;
mod graph;
mod lower;
mod node;
mod prescan;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all)]
mod proto;
mod qcfs;
mod refusals;
mod steps;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;
use rheobase_core::{Error, Kind, Network, Result};

use build::{Budget, Builder};
use functions::is_default;
use node::{Call, Value};
use proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use refusals::Refusals;
use tensors::External;

/// The oldest operator set that is read.
pub const OLDEST_OPSET: i64 = 11;

/// The newest operator set that this importer was checked against; newer files are read with a note.
pub const NEWEST_OPSET: i64 = 28;

/// The largest file, as protocol buffers allow; larger models keep their weights in files beside it.
pub const MAX_FILE: u64 = 1 << 31;

/// Reads an ONNX file; weights in other files must lie in the same folder.
///
/// ```no_run
/// let network = rheobase_io::import::onnx::read("resnet20.onnx".as_ref())?;
/// println!("{} nodes, {:?}", network.nodes.len(), network.classes);
/// # Ok::<(), rheobase_core::Error>(())
/// ```
pub fn read(path: &Path) -> Result<Network> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if meta.is_dir() {
        return Err(Error::new(Kind::Io, "is a folder, not a file").file(path));
    }
    if meta.len() > MAX_FILE {
        return Err(Error::new(Kind::Limit, "the file is too large for ONNX")
            .expected(format!("at most {MAX_FILE} bytes"))
            .found(meta.len().to_string())
            .file(path));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    read_bytes(&bytes, Some(folder), &path.display().to_string())
}

/// Reads an ONNX file from memory; without a folder, weights in other files are refused. `label` is the file's name in errors.
pub fn read_bytes(bytes: &[u8], folder: Option<&Path>, label: &str) -> Result<Network> {
    model(bytes, folder, label).map_err(|e| e.file(label))
}

fn model(bytes: &[u8], folder: Option<&Path>, label: &str) -> Result<Network> {
    prescan::check(bytes)?;
    let model = ModelProto::decode(bytes)
        .map_err(|e| Error::new(Kind::Format, "not an ONNX file, or damaged").found(e.to_string()))?;
    let opset = opset(&model)?;
    let ModelProto { graph, functions, metadata_props, .. } = model;
    let Some(mut graph) = graph else {
        let what = if bytes.is_empty() { "the file is empty" } else { "the file holds no ONNX graph" };
        return Err(Error::new(Kind::Format, what));
    };
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::new(Kind::Unsupported, "sparse weights are not converted"));
    }
    let nodes = functions::inline(std::mem::take(&mut graph.node), &functions, bytes.len())?;
    let name = Path::new(label).file_stem().map_or("network".into(), |s| s.to_string_lossy().into_owned());
    let mut network = Reader::new(&graph, &name, opset, bytes.len(), folder)?.read(&nodes)?;
    if opset > NEWEST_OPSET {
        let text = format!(
            "operator set {opset} is newer than {NEWEST_OPSET}, the newest this importer was checked against"
        );
        network.notes.push(text);
    }
    name_classes(&mut network, classes::classes(&metadata_props));
    network.check()?;
    Ok(network)
}

/// The version of the default operator set.
fn opset(model: &ModelProto) -> Result<i64> {
    if model.graph.is_none() {
        return Ok(NEWEST_OPSET); // the missing graph is the error to show
    }
    let version = model.opset_import.iter().find(|o| is_default(o.domain())).map(|o| o.version());
    let version = version.ok_or_else(|| Error::new(Kind::Format, "the file names no operator set"))?;
    if version < OLDEST_OPSET {
        return Err(Error::new(Kind::Unsupported, "the operator set is too old")
            .expected(format!("{OLDEST_OPSET} or newer"))
            .found(version.to_string())
            .hint("export again with a newer `opset_version`"));
    }
    Ok(version)
}

fn name_classes(network: &mut Network, names: Vec<String>) {
    let outputs = rheobase_core::network::shape::infer(network)
        .ok()
        .and_then(|shapes| shapes.get(network.output).map(|s| s[0]));
    match outputs {
        Some(n) if n == names.len() => network.classes = names,
        Some(n) if !names.is_empty() => {
            network.notes.push(format!(
                "left out {} class names of the file: the network has {n} outputs",
                names.len()
            ));
        }
        _ => {}
    }
}

/// Goes through a graph's nodes.
struct Reader<'a> {
    opset: i64,
    external: External,
    weights: HashMap<&'a str, &'a TensorProto>,
    values: HashMap<&'a str, Value>,
    output: &'a str,
    given: HashSet<&'a str>,
    builder: Builder,
    refusals: Refusals,
    /// External bytes that the budget knows of.
    credited: u64,
}

impl<'a> Reader<'a> {
    fn new(
        graph: &'a GraphProto,
        name: &str,
        opset: i64,
        bytes: usize,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let image = graph::image(graph)?;
        let output = graph::output(graph)?;
        let mut weights = HashMap::new();
        for tensor in &graph.initializer {
            if weights.insert(tensor.name(), tensor).is_some() {
                return Err(Error::new(Kind::Format, "weights are given twice").tensor(tensor.name()));
            }
        }
        let builder = Builder::new(name, image.shape, image.batch, Budget::new(bytes))?;
        let mut given: HashSet<&str> = weights.keys().copied().collect();
        let input = graph.input.iter().map(|i| i.name()).find(|n| *n == image.name).unwrap_or("");
        given.insert(input);
        let values = HashMap::from([(input, Value::Image(builder.input()))]);
        Ok(Reader {
            opset,
            external: External::new(folder),
            weights,
            values,
            output,
            given,
            builder,
            refusals: Refusals::default(),
            credited: 0,
        })
    }

    fn read(mut self, nodes: &'a [NodeProto]) -> Result<Network> {
        let live = graph::live(nodes, &self.given, self.output)?;
        for node in &live.nodes {
            self.node(node, &live)?;
        }
        self.refusals.result()?;
        let no_output =
            || Error::new(Kind::Format, format!("the output `{}` is not made from the image", self.output));
        let value = self.values.remove(self.output).ok_or_else(no_output)?;
        let view = match value {
            Value::Image(_) | Value::Chain(_) => self.builder.image_value(self.output, value)?,
            Value::Const(_) | Value::Zeros(_) | Value::Refused => return Err(no_output()),
        };
        let view = self.builder.plain(self.output, view)?;
        let node = match view.dims.len() {
            1 => self.builder.flat(self.output, view)?,
            _ => self.builder.image(self.output, view)?,
        };
        let mut network = self.builder.network;
        network.output = node;
        Ok(network)
    }

    /// One node: folded, converted or refused.
    fn node(&mut self, node: &'a NodeProto, live: &graph::Live<'a>) -> Result<()> {
        let label = graph::label(node);
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.value(name, live)?) });
        }
        let last = node.output.first().is_some_and(|o| o == self.output);
        let call = Call { node, label, opset: self.opset, last, inputs };
        let value = self.converted(call)?;
        for (i, name) in node.output.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
            let count = live.readers.get(name.as_str()).copied().unwrap_or(0);
            if count == 0 && !live.measured.contains(name.as_str()) {
                continue;
            }
            if i > 0 {
                self.refusals.add(node, &format!("its output {i} is not converted"));
                self.values.insert(name, Value::Refused);
                continue;
            }
            let value = self.shared(value.clone(), count, node)?;
            self.values.insert(name, value);
        }
        Ok(())
    }

    /// A value as many nodes read it: written down once.
    fn shared(&mut self, value: Value, readers: usize, node: &NodeProto) -> Result<Value> {
        let label = graph::label(node);
        if readers < 2 {
            return Ok(value);
        }
        let view = match value {
            Value::Chain(chain) => self.builder.written(&label, *chain),
            Value::Image(view) => self.builder.settled(&label, view),
            Value::Const(_) | Value::Zeros(_) | Value::Refused => return Ok(value),
        };
        match view {
            Ok(view) => Ok(Value::Image(build::View { sole: false, ..view })),
            Err(e) if e.kind() == Kind::Unsupported => {
                self.refusals.push(node, e);
                Ok(Value::Refused)
            }
            Err(e) => Err(e.node(label)),
        }
    }

    /// What the node makes; a refusal is kept for the list of all of them.
    fn converted(&mut self, mut call: Call<'a>) -> Result<Value> {
        let node = call.node;
        let foreign = !is_default(node.domain());
        if foreign || call.inputs.iter().any(|v| matches!(v, Some(Value::Refused))) {
            if foreign {
                self.refusals.add(node, &format!("domain `{}` is not known", node.domain()));
            } else if !lower::known(call.op()) && !consts::known(call.op()) {
                self.refusals.add(node, lower::reason(call.op()).unwrap_or("the operator is not converted"));
            }
            return Ok(Value::Refused);
        }
        let result = match consts::fold(&call, &mut self.builder.budget, &mut self.external) {
            Ok(Some(Value::Const(array))) => Ok(Value::Const(array.named(&call.label))),
            Ok(Some(value)) => Ok(value),
            Ok(None) => lower::lower(&mut self.builder, &mut call),
            Err(e) => Err(e),
        };
        match result {
            Err(e) if e.kind() == Kind::Unsupported => {
                self.refusals.push(node, e);
                Ok(Value::Refused)
            }
            other => other.map_err(|e| e.node(call.label)),
        }
    }

    /// The value of this name: moved out where its only reader asks and nobody asks for its sizes later.
    fn value(&mut self, name: &'a str, live: &graph::Live<'a>) -> Result<Value> {
        if let Some(tensor) = self.weights.remove(name) {
            let array = tensors::decode(tensor, &mut self.external)?;
            self.builder.budget.grow(self.external.bytes_read() - self.credited);
            self.credited = self.external.bytes_read();
            self.values.insert(name, Value::Const(array));
        }
        let only = live.readers.get(name) == Some(&1) && !live.measured.contains(name);
        let value = if only { self.values.remove(name) } else { self.values.get(name).cloned() };
        value.ok_or_else(|| Error::new(Kind::Format, format!("value `{name}` is missing")))
    }
}
