//! Every story in `scripts/` is told by real processes exactly as it is written down.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands before a `[..]` in a transcript: process ids, ports, times, identities, checksums.
const VARYING: [&str; 39] = [
    "_ms\":",
    " after ",
    " within ",
    " every ",
    " for ",
    "Paused while copying: ",
    " was; ",
    " s of ",
    "\"coordinator\":\"",
    " synced in ",
    "_us\":",
    " x",
    "\"x",
    ",x",
    "+x",
    "(pid ",
    "127.0.0.1:",
    ", failed 0, ",
    ", at ",
    ", in ",
    "xpires in ",
    " x=",
    " expired ",
    " keys in ",
    " key in ",
    ", data in ",
    " s (",
    "  ",
    "(",
    "\\# ",
    " node=",
    " prev=",
    " c=",
    "\"uuid\":\"",
    " ms (p99), ",
    " t=",
    " coordinator, ",
    " hint, ",
    " anti-entropy, ",
];

/// The ancestor's three workflow examples, word for word, and where they are told.
const WORKFLOWS: [(&str, &str); 3] = [
    (
        "01-put-with-replication.kv",
        r#"> setreplica 2
> put apple 123
Replicas for key apple: n1 n2
[n1] PUT apple = 123 -> {"status":"ok"}
[n2] PUT apple = 123 -> {"status":"ok"}"#,
    ),
    (
        "02-get-with-fallback.kv",
        r"> get apple
apple -> 123
# If n1 is DOWN, coordinator tries n2.",
    ),
    (
        "03-rebalance-after-adding-node.kv",
        r"> addnode n3 5003
Rebalancing after adding node n3...
> rebalance
[Coordinator] Starting rebalance...
[Rebalance] Copied key 'apple' to n3
[Rebalance] Removed key 'banana' from n1
[Coordinator] Rebalance complete.",
    ),
];

fn scripts() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are in the repository")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "kv"))
        .collect();
    files.sort();
    let text = |path: &PathBuf| std::fs::read_to_string(path).expect("a readable script");
    files.iter().map(|path| (path.clone(), text(path))).collect()
}

#[test]
fn every_script_plays_as_written() {
    let scripts = scripts();
    assert!(scripts.len() >= 17, "only {} scripts", scripts.len());
    let files = scripts.iter().map(|(path, _)| path);
    let checked = Command::new(env!("CARGO_BIN_EXE_kv")).arg("check").args(files).output();
    let checked = checked.expect("kv runs");
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{told}{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(told.lines().filter(|line| line.starts_with("ok ")).count(), scripts.len());
}

/// A transcript that accepts anything tests nothing.
#[test]
fn wildcards_stand_only_for_what_varies() {
    for (path, text) in scripts() {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            assert_ne!(line.trim(), "...", "{place}");
            for (at, _) in line.match_indices("[..]") {
                let before = &line[..at];
                assert!(VARYING.iter().any(|v| before.ends_with(v)), "{place}");
            }
        }
    }
}

#[test]
fn the_ancestors_workflows_are_told_word_for_word() {
    let scripts = scripts();
    for (name, workflow) in WORKFLOWS {
        let told = scripts.iter().find(|(path, _)| path.ends_with(name)).map(|(_, text)| text);
        let mut told = told.unwrap_or_else(|| panic!("no {name}")).lines();
        for line in workflow.lines() {
            assert!(told.any(|other| other == line), "{name}: no {line:?} after the lines before");
        }
    }
}
