//! Every story in `scripts/` is told by real processes exactly as it is written down.

use std::path::Path;
use std::process::Command;

#[test]
fn every_script_plays_as_written() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut files: Vec<_> = std::fs::read_dir(scripts)
        .expect("the scripts are in the repository")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "kv"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "only {} scripts", files.len());
    let checked = Command::new(env!("CARGO_BIN_EXE_kv")).arg("check").args(&files).output();
    let checked = checked.expect("kv runs");
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}
