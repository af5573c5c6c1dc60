//! How many messages a file holds, counted before they are decoded.
//! In: the bytes. Out: nothing, or an error where messages are so many and so small that decoding would take far more memory than the file.

use rheobase_core::{Error, Kind, Result};

/// Messages that any file may have.
const FREE: usize = 1 << 12;

/// Bytes that a message must have on average beyond those: the smallest useful attribute has more.
const BYTES_PER_MESSAGE: usize = 8;

/// The messages whose fields are looked at.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Leaf,
}

/// The message in field `number`, by onnx.proto.
fn child(parent: Message, number: u64) -> Option<Message> {
    use Message::*;
    Some(match (parent, number) {
        (Model, 7) => Graph,
        (Model, 25) => Function,
        (Model, 8 | 14) => Leaf,
        (Graph, 1) | (Function, 7) => Node,
        (Graph, 5) | (Attribute, 5) => Tensor,
        (Graph, 15) => Leaf,
        (Graph, 11 | 12) => Value,
        (Function, 9) => Leaf,
        (Function, 11) | (Node, 5) => Attribute,
        (Tensor, 13) => Leaf,
        (Value, 2) => Type,
        (Type, 1) => TensorType,
        (TensorType, 2) => Shape,
        (Shape, 1) => Leaf,
        _ => return None,
    })
}

/// Refuses files whose messages are too many for their size; damage is left to the decoder to report.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let allowed = FREE.saturating_add(bytes.len() / BYTES_PER_MESSAGE);
    let mut left = allowed;
    if count(bytes, Message::Model, &mut left) {
        return Ok(());
    }
    Err(Error::new(Kind::Limit, "the file holds too many empty parts").expected(format!("at most {allowed}")))
}

/// Takes the messages in `bytes` off `left`; false where there are more.
fn count(mut bytes: &[u8], message: Message, left: &mut usize) -> bool {
    while let Some(tag) = varint(&mut bytes) {
        let size = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes),
            5 => Some(4),
            _ => None,
        };
        let Some((body, rest)) =
            size.and_then(|n| usize::try_from(n).ok()).and_then(|n| bytes.split_at_checked(n))
        else {
            return true;
        };
        bytes = rest;
        if let (2, Some(inner)) = (tag & 7, child(message, tag >> 3)) {
            let Some(fewer) = left.checked_sub(1) else { return false };
            *left = fewer;
            if !count(body, inner, left) {
                return false;
            }
        }
    }
    true
}

/// A variable-length number, taken off the front; `None` at the end or where it is damaged.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_empty_nodes_are_refused_before_they_are_decoded() {
        let graph = [0x0a, 0x00].repeat(100_000);
        let mut file = vec![0x3a];
        prost::encoding::encode_varint(graph.len() as u64, &mut file);
        file.extend(graph);
        assert!(check(&file).unwrap_err().to_string().contains("too many empty parts"));
        assert!(check(&[0x3a, 0xff]).is_ok());
    }
}
