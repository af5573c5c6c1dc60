//! What cannot be converted, all of it, in one line.
//! In: nodes and why each is refused. Out: one error that names every one of them.

use rheobase_core::{Error, Kind, Result};

use super::graph::label;
use super::proto::NodeProto;

/// The most nodes that are named.
const MAX_NAMED: usize = 12;

/// The refused nodes so far.
#[derive(Default)]
pub(super) struct Refusals {
    first: Option<Error>,
    /// Operator, names of nodes.
    nodes: Vec<(String, Vec<String>)>,
    count: usize,
}

impl Refusals {
    /// A node that is refused for this reason.
    pub fn add(&mut self, node: &NodeProto, why: &str) {
        self.push(node, Error::new(Kind::Unsupported, why));
    }

    /// A node that is refused with this error.
    pub fn push(&mut self, node: &NodeProto, error: Error) {
        self.count += 1;
        // A chain of steps names the node that is to blame, which is not the one that reads the chain.
        let text = error.to_string();
        let blamed =
            text.strip_prefix("node `").and_then(|t| t.split_once("`: ")).map(|(name, _)| name.to_string());
        let (op, name) = match blamed {
            Some(name) => (error.what().split(' ').next().unwrap_or("").to_string(), name),
            None => (node.op_type().to_string(), label(node)),
        };
        if self.first.is_none() {
            let placed = text.starts_with("node `");
            self.first = Some(if placed {
                error
            } else {
                Error::new(Kind::Unsupported, format!("{op}: {text}")).node(&*name)
            });
        }
        if let Some((_, names)) = self.nodes.iter_mut().find(|(known, _)| *known == op) {
            if names.len() < MAX_NAMED {
                names.push(name);
            }
        } else if self.nodes.len() < MAX_NAMED {
            self.nodes.push((op, vec![name]));
        }
    }

    /// An error if anything was refused: the one refusal in full, or the list of all.
    pub fn result(&mut self) -> Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        if self.count == 1 {
            return Err(first);
        }
        let group = |(op, names): &(String, Vec<String>)| {
            let names: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
            format!("{op} {}", names.join(", "))
        };
        let list: Vec<String> = self.nodes.iter().map(group).collect();
        Err(Error::new(Kind::Unsupported, format!("{} nodes cannot be converted", self.count))
            .found(list.join("; "))
            .hint(format!("the first: {first}")))
    }
}
