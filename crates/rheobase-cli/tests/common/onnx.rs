//! ONNX files, byte by byte: fields of protocol buffers, numbered as in onnx.proto.

/// A message that grows field by field.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Message::default()
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 128 {
            self.0.push(n as u8 | 128);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub fn each<T>(self, items: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, add)
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A tensor's name, sizes and type (1: f32, 7: i64), without its numbers.
pub fn tensor(name: &str, dims: &[i64], kind: i64) -> Message {
    Message::new().each(dims, |m, &d| m.int(1, d)).int(2, kind).bytes(8, name)
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, 1).bytes(9, raw)
}

/// Weights that lie in another file.
pub fn external(name: &str, dims: &[i64], location: &str) -> Message {
    let entry = |key: &str, value: &str| Message::new().bytes(1, key).bytes(2, value);
    tensor(name, dims, 1).bytes(13, entry("location", location)).int(14, 1)
}

pub fn node(op: &str, inputs: &[&str], output: &str, ints: &[(&str, &[i64])]) -> Message {
    let attribute = |m: Message, (name, values): &(&str, &[i64])| {
        let a = Message::new().bytes(1, name).int(20, 7).each(*values, |a, &v| a.int(8, v));
        m.bytes(5, a)
    };
    Message::new()
        .each(inputs, |m, i| m.bytes(1, i))
        .bytes(2, output)
        .bytes(3, output)
        .bytes(4, op)
        .each(ints, attribute)
}

fn value(name: &str, dims: &[i64]) -> Message {
    let shape = Message::new().each(dims, |m, &d| m.bytes(1, Message::new().int(1, d)));
    let tensor = Message::new().int(1, 1).bytes(2, shape);
    Message::new().bytes(1, name).bytes(2, Message::new().bytes(1, tensor))
}

/// A file: one grey image of 8x8 in, `output` out.
pub fn model(opset: i64, nodes: &[Message], weights: &[Message], output: &str) -> Vec<u8> {
    let graph = Message::new()
        .each(nodes, |m, n| m.bytes(1, n))
        .bytes(2, "g")
        .each(weights, |m, w| m.bytes(5, w))
        .bytes(11, value("image", &[1, 1, 8, 8]))
        .bytes(12, value(output, &[1, 10]));
    Message::new().int(1, 8).bytes(7, graph).bytes(8, Message::new().int(2, opset)).0
}

/// Two kernels of 3x3.
pub fn kernels() -> Message {
    floats("w", &[2, 1, 3, 3], &(0..18).map(|i| (i % 5) as f32 / 4.0 - 0.5).collect::<Vec<_>>())
}

/// Two convolutions with the nodes `between` (which make `a` of `c1`), then ten classes.
pub fn small(opset: i64, between: &[Message], kernels: Message) -> Vec<u8> {
    let mut nodes = vec![node("Conv", &["image", "w"], "c1", &[("pads", &[1, 1, 1, 1])])];
    nodes.extend_from_slice(between);
    nodes.push(node("GlobalAveragePool", &["a"], "g", &[]));
    nodes.push(node("Flatten", &["g"], "f", &[]));
    nodes.push(node("Gemm", &["f", "w2"], "y", &[]));
    let head = floats("w2", &[2, 10], &(0..20).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>());
    model(opset, &nodes, &[kernels, head], "y")
}

/// A ReLU network for the digits.
pub fn relu() -> Vec<u8> {
    small(17, &[node("Relu", &["c1"], "a", &[])], kernels())
}

/// The same with a max-pool.
pub fn max_pool() -> Vec<u8> {
    let pool = node("MaxPool", &["r"], "a", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]);
    small(17, &[node("Relu", &["c1"], "r", &[]), pool], kernels())
}
