//! Rheobase's own files: one `.safetensors` with the graph as JSON in its metadata.
//! In: a path or bytes. Out: a checked network, equal to the one that was written.
//!
//! The metadata key `rheobase` holds the graph (`schema.rs`); node i's tensors are named `i.weight`, `i.bias`,
//! `i.scale`, `i.shift`, `i.mean`, `i.var`, `i.threshold`, `i.start`. [`crate::export::native`] writes them.

pub(crate) mod container;
pub(crate) mod schema;

use container::{Container, MAX_NUMBERS};
use rheobase_core::network::op::{
    Activation, ActivationKind, BatchNorm, Conv2d, Linear, Op, Pool, PoolKind, Shortcut, Start, Threshold,
};
use rheobase_core::network::{Node, shape, zoo};
use rheobase_core::samples::Normalisation;
use rheobase_core::{Error, Kind, Network, Result, Tensor};
use schema::{Graph, size, sizes};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

/// Reads a native file.
pub fn read(path: impl AsRef<Path>) -> Result<Network> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    read_from(BufReader::new(file), length).map_err(|e| e.file(path))
}

/// Whether a safetensors file carries a graph.
pub(super) fn has_graph(path: &Path) -> Result<bool> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    Ok(Container::open(BufReader::new(file), length)?.text(schema::KEY).is_some())
}

/// Reads a native file that is already in memory; `label` stands for the file's name in errors.
pub fn read_bytes(bytes: &[u8], label: &str) -> Result<Network> {
    read_from(Cursor::new(bytes), bytes.len() as u64).map_err(|e| e.file(label))
}

fn read_from<R: Read + Seek>(reader: R, length: u64) -> Result<Network> {
    let mut container = Container::open(reader, length)?;
    let graph = graph(&container)?;
    let mut unread: BTreeSet<String> = container.names().into_iter().collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    let mut starts = vec![];
    for (index, node) in graph.nodes.into_iter().enumerate() {
        let mut tensors = Tensors { container: &mut container, unread: &mut unread, index };
        let op = op(node.op, &mut tensors, &mut starts).map_err(|e| e.node(&node.name))?;
        nodes.push(Node { name: node.name, inputs: node.inputs.into_iter().map(size).collect(), op });
    }
    if let Some(name) = unread.first() {
        return Err(
            Error::new(Kind::Format, "the file holds a tensor that its graph does not know").tensor(name)
        );
    }
    let numbers = |v: Vec<schema::Exact>| v.into_iter().map(|x| x.0).collect();
    let normalisation =
        graph.normalisation.map(|n| Normalisation::new(numbers(n.mean), numbers(n.std))).transpose()?;
    let network = Network {
        name: graph.name,
        nodes,
        output: size(graph.output),
        classes: graph.classes,
        normalisation,
        notes: graph.notes,
    };
    check(&network, &starts)?;
    Ok(network)
}

/// The graph in the metadata, if it is there and not newer than this program.
fn graph<R: Read + Seek>(container: &Container<R>) -> Result<Graph> {
    let text = container.text(schema::KEY).ok_or_else(|| {
        Error::new(Kind::Format, "a safetensors file without a graph, so not a Rheobase model")
            .hint("if it is a state dict, say which network it belongs to with `--arch`")
    })?;
    let damaged = |e: serde_json::Error| {
        Error::new(Kind::Format, "the graph in the file's metadata is damaged").found(e.to_string())
    };
    let version: schema::Version = serde_json::from_str(text).map_err(damaged)?;
    if version.format != schema::FORMAT {
        return Err(Error::new(Kind::Unsupported, "the file's format is not known to this version")
            .expected(format!("format {}", schema::FORMAT))
            .found(format!("format {}", version.format))
            .hint("read it with the version of Rheobase that wrote it, or a newer one"));
    }
    serde_json::from_str(text).map_err(damaged)
}

/// What the graph alone does not show: sound shapes, a bearable number of classes, v(0) in the right order.
fn check(network: &Network, starts: &[(usize, Vec<usize>)]) -> Result<()> {
    let shapes = shape::infer(network)?;
    bearable(shapes[network.output])?;
    for (index, found) in starts {
        let [c, h, w] = shapes[*index];
        if *found != [h, w, c] {
            return Err(Error::new(Kind::Shape, "initial potentials do not match the neurons")
                .expected(format!("{:?}", [h, w, c]))
                .found(format!("{found:?}"))
                .node(&network.nodes[*index].name));
        }
    }
    Ok(())
}

/// Refuses a number of classes that no classifier has.
pub(crate) fn bearable([classes, _, _]: shape::Shape) -> Result<()> {
    if classes > zoo::MAX_CLASSES {
        return Err(Error::new(Kind::Limit, "too many classes")
            .expected(format!("at most {}", zoo::MAX_CLASSES))
            .found(classes.to_string()));
    }
    Ok(())
}

/// The tensors of one node.
struct Tensors<'a, R> {
    container: &'a mut Container<R>,
    unread: &'a mut BTreeSet<String>,
    index: usize,
}

impl<R: Read + Seek> Tensors<'_, R> {
    fn tensor(&mut self, field: &str) -> Result<Tensor> {
        let name = format!("{}.{field}", self.index);
        let shape = self.container.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
        if let Some(&side) = shape.iter().find(|side| !(1..=MAX_NUMBERS).contains(side)) {
            return Err(Error::new(Kind::Limit, "tensor has an empty or too large dimension")
                .found(side.to_string())
                .tensor(name));
        }
        let data = self.container.floats(&name)?;
        self.unread.remove(&name);
        Tensor::new(shape, data).map_err(|e| e.tensor(name))
    }

    /// A tensor of one dimension.
    fn vector(&mut self, field: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(field)?;
        if tensor.shape.len() != 1 {
            return Err(Error::new(Kind::Shape, "tensor has the wrong number of dimensions")
                .expected("1")
                .found(tensor.shape.len().to_string())
                .tensor(format!("{}.{field}", self.index)));
        }
        Ok(tensor.data)
    }

    fn bias(&mut self, there: bool) -> Result<Option<Vec<f32>>> {
        there.then(|| self.vector("bias")).transpose()
    }
}

fn op<R: Read + Seek>(
    op: schema::Op,
    tensors: &mut Tensors<'_, R>,
    starts: &mut Vec<(usize, Vec<usize>)>,
) -> Result<Op> {
    Ok(match op {
        schema::Op::Input { shape } => Op::Input { shape: sizes(shape) },
        schema::Op::Conv2d { stride, padding, dilation, groups, bias } => Op::Conv2d(Conv2d {
            weight: tensors.tensor("weight")?,
            bias: tensors.bias(bias)?,
            stride: sizes(stride),
            padding: sizes(padding),
            dilation: sizes(dilation),
            groups: size(groups),
        }),
        schema::Op::Linear { bias } => {
            Op::Linear(Linear { weight: tensors.tensor("weight")?, bias: tensors.bias(bias)? })
        }
        schema::Op::BatchNorm { eps } => Op::BatchNorm(BatchNorm {
            scale: tensors.vector("scale")?,
            shift: tensors.vector("shift")?,
            mean: tensors.vector("mean")?,
            var: tensors.vector("var")?,
            eps: eps.0,
        }),
        schema::Op::Activation { function, threshold, start } => {
            Op::Activation(activation(function, threshold, start, tensors, starts)?)
        }
        schema::Op::Pool { window, kernel, stride, padding, ceil } => Op::Pool(Pool {
            kind: match window {
                schema::Window::Average => PoolKind::Average { count_padding: true },
                schema::Window::AverageWithoutPadding => PoolKind::Average { count_padding: false },
                schema::Window::Max => PoolKind::Max,
            },
            kernel: sizes(kernel),
            stride: sizes(stride),
            padding: sizes(padding),
            ceil,
        }),
        schema::Op::GlobalAverage {} => Op::GlobalAverage,
        schema::Op::Add {} => Op::Add,
        schema::Op::Concat {} => Op::Concat,
        schema::Op::Flatten {} => Op::Flatten,
        schema::Op::Shortcut { stride, before, after } => {
            Op::Shortcut(Shortcut { stride: sizes(stride), before: size(before), after: size(after) })
        }
        schema::Op::Identity {} => Op::Identity,
    })
}

fn activation<R: Read + Seek>(
    function: schema::Function,
    threshold: Option<schema::Threshold>,
    start: schema::Start,
    tensors: &mut Tensors<'_, R>,
    starts: &mut Vec<(usize, Vec<usize>)>,
) -> Result<Activation> {
    let threshold = match threshold {
        None => None,
        Some(schema::Threshold::Channel) => Some(Threshold::Channel(tensors.vector("threshold")?)),
        Some(schema::Threshold::Layer) => match tensors.vector("threshold")?.as_slice() {
            &[one] => Some(Threshold::Layer(one)),
            more => {
                return Err(Error::new(Kind::Shape, "a layer has one threshold")
                    .found(more.len().to_string())
                    .tensor(format!("{}.threshold", tensors.index)));
            }
        },
    };
    let start = match start {
        schema::Start::Half => Start::Half,
        schema::Start::Zero => Start::Zero,
        schema::Start::Neuron => {
            let tensor = tensors.tensor("start")?;
            starts.push((tensors.index, tensor.shape));
            Start::Neuron(tensor.data)
        }
    };
    let kind = match function {
        schema::Function::Relu => ActivationKind::Relu,
        schema::Function::Clip { ceiling } => ActivationKind::Clip { ceiling: ceiling.0 },
        schema::Function::Qcfs { levels } => ActivationKind::Qcfs { levels },
    };
    Ok(Activation { kind, threshold, start })
}
