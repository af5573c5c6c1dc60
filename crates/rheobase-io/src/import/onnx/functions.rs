//! A model's own functions, written out where they are called.
//! In: the graph's nodes and the model's functions. Out: nodes without calls; their number and size stay in proportion to the file.

use std::collections::HashMap;

use prost::Message;
use rheobase_core::{Error, Kind, Result};

use super::proto::{AttributeProto, FunctionProto, NodeProto};

/// The most nodes that a graph may have, its functions written out.
pub(super) const MAX_NODES: usize = 1 << 17;

/// How deep functions may call functions.
const MAX_DEPTH: usize = 16;

/// Bytes of nodes that functions may write out beyond those of the file.
const FREE_BYTES: usize = 1 << 24;

/// The default domain goes by two names.
pub(super) fn is_default(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Writes out all calls of `functions` in `nodes`.
pub(super) fn inline(
    nodes: Vec<NodeProto>,
    functions: &[FunctionProto],
    file: usize,
) -> Result<Vec<NodeProto>> {
    let mut inliner =
        Inliner { functions, out: Vec::new(), nodes: 0, bytes: FREE_BYTES.saturating_add(file) };
    for node in nodes {
        inliner.node(node, 0)?;
    }
    Ok(inliner.out)
}

struct Inliner<'a> {
    functions: &'a [FunctionProto],
    out: Vec<NodeProto>,
    nodes: usize,
    bytes: usize,
}

impl Inliner<'_> {
    fn node(&mut self, node: NodeProto, depth: usize) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::new(Kind::Limit, "the graph has too many nodes")
                .expected(format!("at most {MAX_NODES}")));
        }
        let named = |f: &&FunctionProto| {
            f.name() == node.op_type() && f.domain() == node.domain() && f.overload() == node.overload()
        };
        match self.functions.iter().find(named) {
            Some(function) => self.call(&node, function, depth),
            None => {
                self.out.push(node);
                Ok(())
            }
        }
    }

    fn call(&mut self, call: &NodeProto, function: &FunctionProto, depth: usize) -> Result<()> {
        if depth == MAX_DEPTH {
            return Err(Error::new(Kind::Limit, "functions call each other too deeply").node(call.name()));
        }
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(Error::new(Kind::Format, "call does not match its function").node(call.name()));
        }
        let bind = |formal: &'_ [String], actual: &[String]| -> Vec<(String, String)> {
            let given = |i: usize| actual.get(i).cloned().unwrap_or_default();
            formal.iter().enumerate().map(|(i, f)| (f.clone(), given(i))).collect()
        };
        let mut names: HashMap<String, String> = bind(&function.input, &call.input).into_iter().collect();
        names.extend(
            bind(&function.output, &call.output).into_iter().filter(|(_, actual)| !actual.is_empty()),
        );
        // Unique for each call: the number of nodes seen so far is.
        let prefix = format!("{}#{}/", call.name(), self.nodes);
        for inner in &function.node {
            let size = inner.encoded_len();
            self.bytes = self.bytes.checked_sub(size).ok_or_else(|| {
                Error::new(Kind::Limit, "functions written out are far larger than the file")
                    .node(call.name())
            })?;
            let renamed = |name: &String| match names.get(name) {
                Some(actual) => actual.clone(),
                None if name.is_empty() => String::new(),
                None => format!("{prefix}{name}"),
            };
            let mut node = inner.clone();
            node.input = inner.input.iter().map(renamed).collect();
            node.output = inner.output.iter().map(renamed).collect();
            node.name = Some(format!("{prefix}{}", inner.name()));
            node.attribute = attributes(inner, call, function);
            self.node(node, depth + 1)?;
        }
        Ok(())
    }
}

/// The inner node's attributes, those that refer to the call's looked up there or among the function's defaults.
fn attributes(inner: &NodeProto, call: &NodeProto, function: &FunctionProto) -> Vec<AttributeProto> {
    let resolve = |a: &AttributeProto| -> Option<AttributeProto> {
        let Some(refers) = a.ref_attr_name.as_deref().filter(|r| !r.is_empty()) else {
            return Some(a.clone());
        };
        let mut sources = call.attribute.iter().chain(&function.attribute_proto);
        let mut found = sources.find(|s| s.name() == refers)?.clone();
        found.name = a.name.clone();
        Some(found)
    };
    inner.attribute.iter().filter_map(resolve).collect()
}
