//! Losses: logits in, loss and its gradient out.
//! In: logits `[images, classes]` and what they should be. Out: the mean loss over images; the gradient of that mean.

/// Softmax cross-entropy against labels, with label smoothing (0 for none): a share `smoothing` of the target is spread
/// evenly over all classes, as in PyTorch.
pub fn cross_entropy(logits: &[f32], labels: &[usize], smoothing: f32, gradient: &mut Vec<f32>) -> f64 {
    let (n, smoothing) = (labels.len(), f64::from(smoothing));
    let classes = logits.len() / n.max(1);
    gradient.clear();
    let mut total = 0.0;
    for (logits, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|l| f64::from(l - top).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let log_sum = sum.ln();
        for (c, power) in powers.iter().enumerate() {
            let target = smoothing / classes as f64 + if c == label { 1.0 - smoothing } else { 0.0 };
            total -= target * (f64::from(logits[c] - top) - log_sum);
            gradient.push(((power / sum - target) / n as f64) as f32);
        }
    }
    total / n.max(1) as f64
}

/// Squared error of class-centred logits against a teacher's, mean over images, sum over classes.
pub fn centred_squares(logits: &[f32], teacher: &[f32], classes: usize, gradient: &mut Vec<f32>) -> f64 {
    let n = logits.len() / classes.max(1);
    gradient.clear();
    let mut total = 0.0;
    for (a, b) in logits.chunks_exact(classes.max(1)).zip(teacher.chunks_exact(classes.max(1))) {
        let differences = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let mean = differences.clone().sum::<f64>() / classes as f64;
        for d in differences {
            total += (d - mean) * (d - mean);
            gradient.push((2.0 * (d - mean) / n as f64) as f32);
        }
    }
    total / n.max(1) as f64
}

/// Cross-entropy against a teacher's softened distribution (Hinton et al., 2015): temperature² · KL(teacher ‖ student), mean
/// over images.
pub fn softened(
    logits: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f32,
    gradient: &mut Vec<f32>,
) -> f64 {
    let n = logits.len() / classes.max(1);
    let t = f64::from(temperature);
    let soft = |logits: &[f32]| -> Vec<f64> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|l| (f64::from(l - top) / t).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|p| p / sum).collect()
    };
    gradient.clear();
    let mut total = 0.0;
    for (a, b) in logits.chunks_exact(classes.max(1)).zip(teacher.chunks_exact(classes.max(1))) {
        for (p, q) in soft(a).into_iter().zip(soft(b)) {
            if q > 0.0 {
                total += t * t * q * (q.ln() - p.max(f64::MIN_POSITIVE).ln());
            }
            gradient.push((t * (p - q) / n as f64) as f32);
        }
    }
    total / n.max(1) as f64
}

/// How many images have their label's logit on top, the first of equals.
pub fn right(logits: &[f32], labels: &[usize]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    logits
        .chunks_exact(classes.max(1))
        .zip(labels)
        .filter(|(l, y)| rheobase_core::ann::argmax(l) == **y)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slope(loss: impl Fn(&[f32], &mut Vec<f32>) -> f64, logits: &[f32]) {
        let mut gradient = vec![];
        loss(logits, &mut gradient);
        for i in 0..logits.len() {
            let at = |d: f32| {
                let mut moved = logits.to_vec();
                moved[i] += d;
                loss(&moved, &mut vec![])
            };
            let want = (at(0.01) - at(-0.01)) / 0.02;
            assert!((f64::from(gradient[i]) - want).abs() < 1e-3, "{i}: {} {want}", gradient[i]);
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let logits = [0.3, -1.2, 2.0, 0.7, 0.1, -0.4];
        let teacher = [1.0, 0.2, -0.5, 0.3, 0.9, -2.0];
        slope(|l, g| cross_entropy(l, &[2, 0], 0.0, g), &logits);
        slope(|l, g| cross_entropy(l, &[2, 0], 0.1, g), &logits);
        slope(|l, g| centred_squares(l, &teacher, 3, g), &logits);
        slope(|l, g| softened(l, &teacher, 3, 4.0, g), &logits);
    }

    #[test]
    fn cross_entropy_of_even_logits_is_the_logarithm_of_the_classes() {
        assert!((cross_entropy(&[1.0; 8], &[3], 0.0, &mut vec![]) - 8f64.ln()).abs() < 1e-12);
        assert_eq!(right(&[0.0, 1.0, 2.0, 0.0], &[1, 1]), 1);
    }
}
