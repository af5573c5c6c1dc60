#[test]
fn probe() {
    for f in std::env::var("PROBE").unwrap_or_default().split(':').filter(|s| !s.is_empty()) {
        let t = std::time::Instant::now();
        match rheobase_io::import::onnx::read(f.as_ref()) {
            Ok(n) => {
                println!(
                    "{f}: {} nodes {:?} {:?} {:?}",
                    n.nodes.len(),
                    n.classes.len(),
                    n.notes,
                    t.elapsed()
                );
                if std::env::var("VERBOSE").is_ok() {
                    for (i, x) in n.nodes.iter().enumerate() {
                        let mut d = match &x.op {
                            rheobase_core::network::Op::Activation(a) => format!("{a:?}"),
                            rheobase_core::network::Op::Pool(a) => format!("{a:?}"),
                            o => o.name().to_string(),
                        };
                        d.truncate(200);
                        println!("  {i} {} {:?} {}", x.name, x.inputs, d);
                    }
                }
            }
            Err(e) => println!("{f}: ERR {e}"),
        }
    }
}
