//! What was found worth keeping, tried again without a fuzzer, on any toolchain.

use std::panic;
use std::path::Path;

use haulout_fuzz::TARGETS;

/// Goal: whatever once found a way through stays harmless.
/// Method: each target is called with every file of its corpus.
#[test]
fn every_kept_input_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let files = corpus.join(name).read_dir().unwrap_or_else(|error| panic!("{name} has no corpus: {error}"));
        let mut count = 0;
        for file in files.map(|entry| entry.expect("a file").path()) {
            let bytes = std::fs::read(&file).expect("it can be read");
            if let Err(cause) = panic::catch_unwind(|| target(&bytes)) {
                eprintln!("{name} fails with {}", file.display());
                panic::resume_unwind(cause);
            }
            count += 1;
        }
        assert!(count > 0, "{name} has an empty corpus");
    }
}
