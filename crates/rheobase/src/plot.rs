//! Accuracy over time-steps as a picture.
//! In: evaluations as JSON. Out: an SVG: a curve each, the ANN's accuracy as a dashed line.

use rheobase_core::{Error, Kind, Result};
use serde_json::Value;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// Told apart by people who do not see all colours (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555"];

/// One evaluation.
struct Curve {
    label: String,
    model: String,
    data: String,
    accuracy: Vec<f64>,
    ann: Option<f64>,
}

fn curve(value: &Value, name: &str) -> Result<Curve> {
    let not = || {
        Error::new(Kind::Format, "not the JSON of an evaluation")
            .file(name)
            .hint("`rheobase eval --json` writes it")
    };
    let snn = &value["snn"];
    let text = |v: &Value| v.as_str().map(str::to_string);
    let accuracy: Option<Vec<f64>> =
        snn["accuracy"].as_array().and_then(|a| a.iter().map(Value::as_f64).collect());
    let accuracy =
        accuracy.filter(|a| !a.is_empty() && a.iter().all(|x| (0.0..=1.0).contains(x))).ok_or_else(not)?;
    let method = text(&snn["method"]).ok_or_else(not)?;
    let label = match (method.as_str(), snn["presim"].as_u64().unwrap_or(0), &snn["iterations"]) {
        (_, 0, _) => method,
        ("cos", rho, Value::String(how)) => format!("cos {how}, ρ={rho}"),
        ("cos", rho, Value::Number(n)) if n.as_u64() != Some(1) => format!("cos ×{n}, ρ={rho}"),
        (_, rho, _) => format!("{method}, ρ={rho}"),
    };
    let model = text(&value["model"]).ok_or_else(not)?;
    let model = model.rsplit('/').next().unwrap_or_default().to_string();
    let data = text(&value["data"]).unwrap_or_default();
    let data = data.split(':').next().unwrap_or_default().to_string();
    Ok(Curve { label, model, data, accuracy, ann: value["ann"]["accuracy"].as_f64() })
}

/// Draws evaluations, `(name, JSON)` each, as one SVG.
pub fn accuracy(runs: &[(String, Value)]) -> Result<String> {
    let mut curves = runs.iter().map(|(name, v)| curve(v, name)).collect::<Result<Vec<_>>>()?;
    let Some(first) = curves.first() else {
        return Err(Error::new(Kind::Usage, "nothing to draw"));
    };
    let title = format!("{} on {}", first.model, first.data);
    let (model, data) = (first.model.clone(), first.data.clone());
    if curves.iter().any(|c| c.model != model || c.data != data) {
        curves.iter_mut().for_each(|c| c.label = format!("{} ({})", c.label, c.model));
    }
    let steps = curves.iter().map(|c| c.accuracy.len()).max().unwrap_or(1);
    let all = || curves.iter().flat_map(|c| c.accuracy.iter().copied().chain(c.ann));
    let (low, high) = all().fold((1.0f64, 0.0f64), |(l, h), a| (l.min(a), h.max(a)));
    let (low, high) = ((low * 10.0).floor() / 10.0, ((high * 10.0).ceil() / 10.0).min(1.0));
    let span = (high - low).max(0.1);
    // up to 16 steps side by side, more of them by powers of two
    let place = |t: usize| if steps <= 16 { (t - 1) as f64 } else { (t as f64).log2() };
    let x = |t: usize| LEFT + place(t) / place(steps).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let y = |a: f64| HEIGHT - BOTTOM - (a - low) / span * (HEIGHT - TOP - BOTTOM);
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"15\" fill=\"#222\">{}</text>\n",
        escape(&title)
    );
    let tick = if span > 0.5 { 0.1 } else { 0.05 };
    for i in 0..=(span / tick).round() as usize {
        let a = low + i as f64 * tick;
        let _ = writeln!(
            s,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/><text x=\"{1:.1}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#444\">{4:.0} %</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(a),
            y(a) + 4.5,
            100.0 * a
        );
    }
    for t in (1..=steps).filter(|t| steps <= 16 || t.is_power_of_two()) {
        let _ = writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{t}</text>",
            x(t),
            HEIGHT - BOTTOM + 20.0
        );
    }
    let _ = writeln!(
        s,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222\">time-steps T</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 12.0
    );
    let mut labels = vec![];
    let mut anns: Vec<f64> = curves.iter().filter_map(|c| c.ann).collect();
    anns.sort_by(f64::total_cmp);
    anns.dedup();
    for ann in anns {
        let _ = writeln!(
            s,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#222\" stroke-dasharray=\"6 4\"/>",
            WIDTH - RIGHT,
            y(ann)
        );
        labels.push((y(ann), format!("ANN {:.2} %", 100.0 * ann), "#222"));
    }
    for (c, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> =
            c.accuracy.iter().enumerate().map(|(t, &a)| format!("{:.1},{:.1}", x(t + 1), y(a))).collect();
        let _ = writeln!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\"/>",
            points.join(" ")
        );
        for p in points.iter().filter(|_| steps <= 32) {
            let (px, py) = p.split_once(',').unwrap_or_default();
            let _ = writeln!(s, "<circle cx=\"{px}\" cy=\"{py}\" r=\"3.2\" fill=\"{colour}\"/>");
        }
        let last = c.accuracy.last().copied().unwrap_or_default();
        labels.push((y(last), format!("{} {:.2} %", c.label, 100.0 * last), colour));
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::NEG_INFINITY; // labels do not lie on each other
    for (at, label, colour) in labels {
        free = at.max(free + 17.0);
        let _ = writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            WIDTH - RIGHT + 10.0,
            free + 4.5,
            escape(&label)
        );
    }
    s.push_str("</svg>\n");
    Ok(s)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn curves_and_labels_are_drawn() {
        let run = |method: &str| {
            json!({"model": "a/m<1>.onnx", "data": "cifar10:x", "ann": {"accuracy": 0.9},
                   "snn": {"method": method, "presim": 4, "iterations": "exact", "accuracy": [0.5, 0.8]}})
        };
        let svg = accuracy(&[("a".into(), run("cos")), ("b".into(), run("srp"))]).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(
            svg.contains("m&lt;1&gt;.onnx on cifar10")
                && svg.contains("cos exact, ρ=4 80.00 %")
                && svg.contains("ANN 90.00 %")
        );
        let error = accuracy(&[("x.json".into(), json!({}))]).err().unwrap();
        assert!(error.to_string().starts_with("x.json: not the JSON of an evaluation"));
    }
}
