//! Comparing and updating, on a stage that answers from a table.

use super::super::stage::fake::Fake;
use super::*;

const SCRIPT: &str = "\
# 01 — t
@cluster nodes=2

# Kills.
> kill n1
Killed n1 (pid [..], SIGKILL).

> get a
...
a -> 1
# Gone:
> get b
b -> 2

> exit
";

const AS_WRITTEN: [(&str, &str, u8); 4] = [
    ("kill n1", "Killed n1 (pid 4711, SIGKILL).\n", 0),
    ("get a", "n1 is DOWN, trying n2\na -> 1\n\n", 0),
    ("get b", "b -> 2\n", 0),
    ("exit", "", 0),
];

const OTHERWISE: [(&str, &str, u8); 4] = [
    ("kill n1", "Killed n1 (pid 4711, SIGKILL).\n! n1 is gone\ntook 3.5 ms\n", 0),
    ("get a", "a -> 1\n", 0),
    ("get b", "b not found\n", 3),
    ("exit", "", 0),
];

async fn checked(
    text: &str,
    update: bool,
    answers: &[(&'static str, &'static str, u8)],
) -> (String, u8, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.kv");
    std::fs::write(&path, text).unwrap();
    let mut out = Vec::new();
    let code = check_file(&path, update, &Mutex::new(()), &mut Fake::new(answers), &mut out).await;
    let out = String::from_utf8(out).unwrap().replace(&dir.path().display().to_string(), "D");
    (out, code, std::fs::read_to_string(&path).unwrap())
}

#[tokio::test]
async fn as_written() {
    let (out, code, _) = checked(SCRIPT, false, &AS_WRITTEN).await;
    assert_eq!((out.as_str(), code), ("ok t.kv\n", 0));
}

#[tokio::test]
async fn differences_have_place_and_diff() {
    let (out, code, text) = checked(SCRIPT, false, &OTHERWISE).await;
    assert_eq!(code, 6);
    assert_eq!(
        out,
        "\
differs t.kv
D/t.kv:5: > kill n1
   Killed n1 (pid [..], SIGKILL).
  +! n1 is gone
  +took [..] ms
D/t.kv:12: > get b
  ended with 3, expected 0
  -b -> 2
  +b not found
"
    );
    assert_eq!(text, SCRIPT);
}

#[tokio::test]
async fn an_update_keeps_what_fits_and_then_checks() {
    let (out, code, text) = checked(SCRIPT, true, &OTHERWISE).await;
    assert_eq!((out.as_str(), code), ("updated t.kv (2 places)\n", 0));
    let wanted = SCRIPT
        .replace("SIGKILL).\n", "SIGKILL).\n\\! n1 is gone\ntook [..] ms\n")
        .replace("b -> 2\n", "b not found\n! exit 3\n");
    assert_eq!(text, wanted);
    let (out, _, _) = checked(&text, false, &OTHERWISE).await;
    assert_eq!(out, "ok t.kv\n");
    let (_, _, back) = checked(&text, true, &AS_WRITTEN).await;
    assert_eq!(back, SCRIPT);
}

#[tokio::test]
async fn what_was_pasted_from_a_terminal_fits_and_is_masked_when_written_anew() {
    let pasted = SCRIPT.replace("[..], SIGKILL", "99, SIGKILL");
    let (out, code, text) = checked(&pasted, true, &AS_WRITTEN).await;
    assert_eq!((out.as_str(), code), ("ok t.kv\n", 0));
    assert_eq!(text, pasted, "nothing differs, so nothing is written");
    let (_, _, text) = checked(&pasted, true, &OTHERWISE).await;
    assert!(text.contains("Killed n1 (pid [..], SIGKILL).\n\\! n1 is gone\n"), "{text}");
    let emptied = SCRIPT.replace("Killed n1 (pid [..], SIGKILL).\n", "");
    let (_, _, text) = checked(&emptied, true, &AS_WRITTEN).await;
    assert_eq!(text, SCRIPT, "what was deleted is written anew");
}

#[tokio::test]
async fn a_failed_directive_ends_the_script_and_updates_nothing() {
    let text = "# t\n@wait keys n1 1 0ms\n> get a\nold\n";
    let (out, code, after) = checked(text, true, &AS_WRITTEN).await;
    assert_eq!(code, 6);
    assert_eq!(out, "differs t.kv\nD/t.kv:2: waited 0 ms in vain: nobody there\n");
    assert_eq!(after, text);
}

#[tokio::test]
async fn files_are_written_and_named_by_dir() {
    let text = "# t\n@file a.csv\nk,v\n@end\n> load $DIR/a.csv\nno $DIR/a.csv\n";
    let mut stage = Fake::new(&[]);
    let line: &'static str = format!("load {}/a.csv", stage.dir.path().display()).leak();
    let says: &'static str = format!("no {}/a.csv\n", stage.dir.path().display()).leak();
    stage.answers.insert(line, (says, 0));
    let script = parse(text).unwrap();
    let verdict = compare("t.kv", text, &script, &mut stage).await;
    assert!(verdict.differences.is_empty(), "{:?}", verdict.differences);
    assert_eq!(std::fs::read_to_string(stage.dir.path().join("a.csv")).unwrap(), "k,v\n");
}

#[tokio::test]
async fn what_cannot_be_parsed_is_a_usage_error() {
    let (out, code, _) = checked("put a 1\n", false, &[]).await;
    assert_eq!(code, 2);
    assert_eq!(out, "error: D/t.kv:1: the first line must be the title: # NAME — title\n");
}
