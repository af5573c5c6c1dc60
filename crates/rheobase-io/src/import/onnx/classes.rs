//! Class names from a model's metadata.
//! In: key-value pairs as exporters write them. Out: names in the order of the outputs, or none.

use std::collections::BTreeMap;

use super::proto::StringStringEntryProto;

/// Keys that hold class names.
const KEYS: &[&str] = &["classes", "names", "class_names", "labels"];

/// The longest text that is looked at.
const MAX_TEXT: usize = 1 << 20;

/// The names under the first key that holds some.
pub(super) fn classes(metadata: &[StringStringEntryProto]) -> Vec<String> {
    let mut found = KEYS.iter().filter_map(|key| {
        let entry =
            metadata.iter().find(|e| e.key().eq_ignore_ascii_case(key) && e.value().len() <= MAX_TEXT)?;
        Some(parse(entry.value())).filter(|names| !names.is_empty())
    });
    found.next().unwrap_or_default()
}

/// A JSON list or object, the same as Python prints them, or names between commas or line ends.
fn parse(text: &str) -> Vec<String> {
    let text = text.trim();
    if let Some(names) = from_json(text) {
        return names;
    }
    let inside = |open: char, close: char| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
    if let Some(list) = inside('[', ']').or_else(|| inside('(', ')')) {
        return pieces(list).into_iter().map(|p| unquoted(&p)).filter(|n| !n.is_empty()).collect();
    }
    if let Some(dict) = inside('{', '}') {
        let entries = pieces(dict).into_iter().filter_map(|p| {
            let (key, name) = p.split_once(':')?;
            Some((unquoted(key).parse::<usize>().ok()?, unquoted(name)))
        });
        return in_order(entries.collect());
    }
    let by = if text.contains('\n') { '\n' } else { ',' };
    text.split(by).map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect()
}

fn from_json(text: &str) -> Option<Vec<String>> {
    let name = |v: &serde_json::Value| v.as_str().map(str::to_string);
    match serde_json::from_str(text).ok()? {
        serde_json::Value::Array(list) => list.iter().map(name).collect(),
        serde_json::Value::Object(object) => {
            let entry = |(k, v): (&String, &serde_json::Value)| Some((k.parse().ok()?, name(v)?));
            Some(in_order(object.iter().map(entry).collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    }
}

/// Names by index, where the indices are 0, 1, 2, ...
fn in_order(entries: Vec<(usize, String)>) -> Vec<String> {
    let n = entries.len();
    let sorted: BTreeMap<usize, String> = entries.into_iter().collect();
    let complete = sorted.len() == n && sorted.keys().copied().eq(0..n);
    if complete { sorted.into_values().collect() } else { vec![] }
}

/// Splits at commas outside quotes.
fn pieces(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quote = None;
    let mut escaped = false;
    for c in text.chars() {
        match (quote, c) {
            (None, ',') => {
                out.push(String::new());
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if c == q && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
        if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out.retain(|p| !p.trim().is_empty());
    out
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inside = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
    match inside('\'').or_else(|| inside('"')) {
        Some(inner) => inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_json_as_python_prints_them_and_plain() {
        for text in [
            r#"["cat", "dog's"]"#,
            r#"{"1": "dog's", "0": "cat"}"#,
            r#"['cat', "dog's"]"#,
            r"('cat', 'dog\'s')",
            r#"{0: 'cat', 1: "dog's"}"#,
            "cat\ndog's\n",
            " cat, dog's ",
        ] {
            assert_eq!(parse(text), ["cat", "dog's"], "{text}");
        }
        assert_eq!(parse("{0: 'cat', 2: 'dog'}"), Vec::<String>::new());
        assert_eq!(parse(r#"["a, b", "c"]"#), ["a, b", "c"]);
    }
}
