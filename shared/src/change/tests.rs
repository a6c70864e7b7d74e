//! What follows what, as tables.

use super::*;
use RebalanceState::{Cancelled, Complete, Failed};

fn told(task: Task) -> String {
    match task {
        Task::Log(mark) => mark.to_string(),
        Task::End(state) => format!("{state:?}"),
        task => format!("{task:?}").to_lowercase(),
    }
}

fn stage(word: &str) -> (Stage, bool) {
    match word {
        "staged" => (Stage::Staged, false),
        "copying" => (Stage::Copying, false),
        "resting" => (Stage::Copying, true),
        "clearing" => (Stage::Clearing, false),
        _ => (Stage::Idle, false),
    }
}

/// Carries a run out until it rests or ends; a word of `script` (`copy:fail`, `copy:pause`, `copy:cancel`) is
/// followed when its task is the next, once.
fn carried_out(from: &str, script: &str) -> String {
    let (at, paused) = stage(from);
    let mut run = Run::begin(at, paused);
    let mut words: Vec<&str> = script.split_whitespace().collect();
    let mut log = Vec::new();
    loop {
        let task = run.next();
        log.push(told(task));
        let word = words.first().and_then(|word| word.split_once(':'));
        let word = word.filter(|(name, _)| *name == told(task)).map(|(_, what)| what);
        if word.is_some() {
            words.remove(0);
        }
        match word {
            Some("pause") => assert_eq!(run.pause(), Ok(())),
            Some("resume") => assert_eq!(run.resume(), Ok(())),
            Some("cancel") => assert_eq!(run.cancel(), Ok(())),
            Some("late") => {
                assert!(run.pause().is_err() && run.cancel().is_err() && run.resume().is_err());
            }
            _ if matches!(task, Task::Rest | Task::End(_)) => break,
            word => run.did(task, word != Some("fail")),
        }
    }
    assert!(words.is_empty(), "{from} {script}: {words:?} in {log:?}");
    log.join(" ")
}

#[test]
fn what_follows_what() {
    let back = "CANCEL tell copy drop release DONE Cancelled";
    let on = "tell copy FINAL tell drop release DONE Complete";
    let table = [
        ("idle", "", "count tell copy tell drop Complete".to_owned()),
        ("staged", "", format!("count COMMIT {on}")),
        ("copying", "", format!("count {on}")),
        ("resting", "", "rest".into()),
        ("resting", "rest:resume", format!("rest RESUME count {on}")),
        ("resting", "rest:cancel", format!("rest {back}")),
        ("clearing", "", "tell copy drop release DONE Complete".into()),
        // It fails.
        ("staged", "count:fail", "count Failed".into()),
        ("staged", "COMMIT:fail", "count COMMIT Failed".into()),
        ("staged", "tell:fail", "count COMMIT tell Failed".into()),
        ("staged", "copy:fail", "count COMMIT tell copy Failed".into()),
        ("staged", "FINAL:fail", "count COMMIT tell copy FINAL Failed".into()),
        ("clearing", "tell:fail", "tell Failed".into()),
        (
            "clearing",
            "copy:fail drop:fail release:fail",
            "tell copy drop release DONE Complete".into(),
        ),
        ("clearing", "DONE:fail", "tell copy drop release DONE Failed".into()),
        // Somebody says so.
        ("idle", "copy:pause", "count tell copy rest".into()),
        ("idle", "copy:cancel", "count tell copy Cancelled".into()),
        ("staged", "count:pause", "count rest".into()),
        ("staged", "count:cancel", "count Cancelled".into()),
        ("staged", "COMMIT:cancel", "count COMMIT Cancelled".into()),
        ("staged", "tell:pause", "count COMMIT tell PAUSE rest".into()),
        (
            "staged",
            "copy:pause rest:resume",
            format!("count COMMIT tell copy PAUSE rest RESUME {}", &on[5..]),
        ),
        ("staged", "copy:pause PAUSE:fail", format!("count COMMIT tell copy PAUSE {}", &on[5..])),
        (
            "staged",
            "copy:pause rest:resume RESUME:fail",
            "count COMMIT tell copy PAUSE rest RESUME rest".into(),
        ),
        ("staged", "copy:pause rest:cancel", format!("count COMMIT tell copy PAUSE rest {back}")),
        ("staged", "tell:cancel", format!("count COMMIT tell {back}")),
        ("staged", "copy:cancel", format!("count COMMIT tell copy {back}")),
        ("staged", "FINAL:cancel", format!("count COMMIT tell copy FINAL {back}")),
        ("staged", "copy:cancel CANCEL:fail", format!("count COMMIT tell copy CANCEL {on}")),
        ("copying", "count:cancel tell:fail", "count CANCEL tell Failed".into()),
        ("copying", "count:cancel copy:fail drop:fail", format!("count {back}")),
        // It is too late.
        (
            "clearing",
            "tell:late drop:late release:late DONE:late Complete:late",
            format!("{0} Complete", "tell tell copy drop drop release release DONE DONE Complete"),
        ),
        (
            "copying",
            "count:cancel CANCEL:late tell:late copy:late drop:late",
            "count CANCEL CANCEL tell tell copy copy drop drop release DONE Cancelled".into(),
        ),
    ];
    for (from, script, expected) in table {
        assert_eq!(carried_out(from, script), expected, "{from} {script:?}");
    }
}

/// Wherever the coordinator stops, one that is begun from what its log says by then comes to the same end.
#[test]
fn a_run_that_stops_anywhere_goes_on_from_the_log() {
    for (cancel_at, end) in [(None, "new"), (Some(Task::Copy), "old")] {
        for stop in 0..12 {
            let (mut log, mut at) = (Vec::new(), Stage::Staged);
            let mut run = Run::begin(at, false);
            for turn in 0.. {
                if turn == stop {
                    run = Run::begin(at, false);
                }
                let task = run.next();
                if Some(task) == cancel_at && at == Stage::Copying {
                    assert_eq!(run.cancel(), Ok(()));
                    continue;
                }
                match task {
                    Task::Log(mark) => {
                        log.push(mark);
                        at = match mark {
                            Mark::Commit => Stage::Copying,
                            Mark::Cancel | Mark::Final => Stage::Clearing,
                            _ => Stage::Idle,
                        };
                    }
                    Task::End(state) => {
                        assert!([Complete, Cancelled].contains(&state), "{log:?}");
                        break;
                    }
                    _ => {}
                }
                run.did(task, true);
            }
            let ring = if log.contains(&Mark::Final) { "new" } else { "old" };
            assert_eq!((ring, at), (end, Stage::Idle), "stopped after {stop}: {log:?}");
            assert_eq!(log.iter().filter(|mark| **mark == Mark::Done).count(), 1, "{log:?}");
        }
    }
}

#[test]
fn what_was_left_is_not_taken_for_what_is_to_be_done() {
    let mut run = Run::begin(Stage::Copying, false);
    run.did(Task::Count, true);
    run.did(Task::Tell, true);
    run.cancel().unwrap();
    assert!(run.has_left(Task::Copy));
    run.did(Task::Copy, true);
    assert_eq!(run.next(), Task::Log(Mark::Cancel));
    assert_eq!(Run::ended(Failed).next(), Task::End(Failed));
}
