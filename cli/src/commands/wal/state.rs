//! What `wal verify` tells.
//!
//! # Caveats
//!
//! What is torn is a finding like damage is, and ends with exit code 6; only a last line without its
//! end is not, for a node that runs is just writing it.

use ringkv_node::inspect::{Checked, FileReport, Finding, Harm, LogFiles};
use serde_json::{Value, json};

use crate::commands::observe::bytes;
use crate::exit;
use crate::report::{Report, counted};
use crate::table::Table;

/// The report of `verify`.
pub(super) fn report(log: &LogFiles, checked: &Checked, width: Option<usize>) -> Report {
    let report = Report::new(&members(checked)).say(format!("# {}", log.path.display()));
    let cells = |file: &FileReport| {
        let state = match (file.harm, file.needed) {
            (None, true) => "whole",
            (None, false) => "whole, old",
            (Some(harm), _) => harm_name(harm),
        };
        let numbers = [file.lines.to_string(), file.records.to_string(), bytes(file.bytes)];
        let [lines, records, size] = numbers;
        vec![file.name.clone(), lines, records, size, state.to_owned()]
    };
    let table = Table {
        header: &["FILE", "LINES", "RECORDS", "SIZE", "STATE"],
        rows: checked.files.iter().map(cells).collect(),
        dispensable: &["SIZE"],
        prose: false,
    };
    let report = report.say(table.draw(width));
    let report = checked.findings.iter().fold(report, say_finding);
    if checked.is_good() {
        return report.say(good_sentence(checked));
    }
    let damaged = checked.is_damaged();
    let count = counted(checked.findings.len() as u64, "finding");
    let message = match damaged {
        true => format!("{count}; a node does not start on this"),
        false => format!("{count}; a node starts on this"),
    };
    let report = report.say(message.clone());
    let report = match damaged && log.is_dir {
        true => report.say(format!("  rescue what is good: salvage {}", log.path.display())),
        false => report,
    };
    differs(report, &message)
}

fn members(checked: &Checked) -> Value {
    let file = |file: &FileReport| {
        json!({
            "file": file.name, "lines": file.lines, "records": file.records, "bytes": file.bytes,
            "old": !file.needed, "state": file.harm.map_or("whole", harm_name),
        })
    };
    let finding = |finding: &Finding| {
        json!({
            "file": finding.file, "line": finding.line, "offset": finding.offset,
            "reason": finding.reason, "harm": harm_name(finding.harm),
            "later_fine": finding.later_fine,
        })
    };
    json!({
        "status": "ok",
        "files": checked.files.iter().map(file).collect::<Vec<_>>(),
        "findings": checked.findings.iter().map(finding).collect::<Vec<_>>(),
        "sequence": checked.last, "durable": checked.durable,
        "stopped_well": checked.stopped_well,
    })
}

const fn harm_name(harm: Harm) -> &'static str {
    match harm {
        Harm::Unfinished => "unfinished",
        Harm::Old => "damaged, old",
        Harm::Torn => "torn",
        Harm::Durable => "damaged",
    }
}

fn say_finding(report: Report, finding: &Finding) -> Report {
    let name = finding.file.file_name().unwrap_or_default().to_string_lossy();
    let place = match finding.line {
        Some(line) => format!("{name}:{line}: offset {}", finding.offset),
        None => name.into_owned(),
    };
    let what = match finding.harm {
        Harm::Unfinished => {
            "a running node is just writing it; a dead one cuts it off when it starts"
        }
        Harm::Old => "a newer snapshot stands for this file",
        Harm::Torn => {
            "torn: nobody was told that it is safe; the next start cuts it off and keeps it aside"
        }
        Harm::Durable => "acknowledged data is damaged",
    };
    let later = match finding.later_fine {
        0 => String::new(),
        1 => "; 1 later line looks fine".to_owned(),
        lines => format!("; {lines} later lines look fine"),
    };
    report.say(format!("{place}: {}", finding.reason)).say(format!("  {what}{later}"))
}

fn good_sentence(checked: &Checked) -> String {
    let Checked { last, durable, .. } = checked;
    let stop = match checked.stopped_well {
        true => "stopped in good order",
        false => "no stop in good order at its end: the node runs, or it was killed",
    };
    format!("Nothing is damaged: last line s={last}, durable up to s={durable}; {stop}.")
}

/// A check that did not find what should be there.
fn differs(mut report: Report, message: &str) -> Report {
    let error = json!({ "name": "DAMAGED", "message": message, "hint": null });
    report.members.insert("error".into(), error);
    Report { exit: exit::DIFFERS, ..report }
}

#[cfg(test)]
mod tests {
    use super::super::tests::log;
    use super::*;
    use crate::report::text;

    fn file(name: &str, needed: bool, harm: Option<Harm>) -> FileReport {
        FileReport { name: name.to_owned(), needed, lines: 4, records: 2, bytes: 231, harm }
    }

    fn finding(line: Option<u64>, harm: Harm, later_fine: u64) -> Finding {
        let (file, reason) = ("/d/n1/data.log".into(), "no checksum at the end of the line".into());
        Finding { file, line, offset: 165, reason, harm, later_fine }
    }

    #[test]
    fn a_whole_log_is_said_to_be_whole() {
        let files = vec![file("snap-000002.log", true, None), file("data.log", true, None)];
        let mut checked = Checked { files, last: 7, durable: 6, ..Checked::default() };
        let told = report(&log(), &checked, None);
        assert_eq!(
            text(&told.narrated),
            "# /d/n1\n\
             FILE             LINES  RECORDS  SIZE   STATE\n\
             snap-000002.log  4      2        231 B  whole\n\
             data.log         4      2        231 B  whole\n\
             Nothing is damaged: last line s=7, durable up to s=6; no stop in good order at its end: the node runs, or it was killed."
        );
        assert_eq!(told.exit, exit::OK);
        checked.stopped_well = true;
        checked.findings.push(finding(Some(5), Harm::Unfinished, 0));
        let told = report(&log(), &checked, None);
        assert!(text(&told.narrated).ends_with(
            "data.log:5: offset 165: no checksum at the end of the line\n\
             \x20 a running node is just writing it; a dead one cuts it off when it starts\n\
             Nothing is damaged: last line s=7, durable up to s=6; stopped in good order."
        ));
        assert_eq!(told.exit, exit::OK);
    }

    #[test]
    fn damage_is_said_exactly() {
        let findings = vec![
            finding(Some(3), Harm::Old, 1),
            finding(Some(4), Harm::Torn, 0),
            finding(Some(5), Harm::Durable, 2),
            finding(None, Harm::Durable, 0),
        ];
        let files = vec![file("data.log", true, Some(Harm::Durable))];
        let checked = Checked { files, findings, ..Checked::default() };
        let told = report(&log(), &checked, None);
        assert_eq!(
            text(&told.narrated),
            "# /d/n1\n\
             FILE      LINES  RECORDS  SIZE   STATE\n\
             data.log  4      2        231 B  damaged\n\
             data.log:3: offset 165: no checksum at the end of the line\n\
             \x20 a newer snapshot stands for this file; 1 later line looks fine\n\
             data.log:4: offset 165: no checksum at the end of the line\n\
             \x20 torn: nobody was told that it is safe; the next start cuts it off and keeps it aside\n\
             data.log:5: offset 165: no checksum at the end of the line\n\
             \x20 acknowledged data is damaged; 2 later lines look fine\n\
             data.log: no checksum at the end of the line\n\
             \x20 acknowledged data is damaged\n\
             4 findings; a node does not start on this\n\
             \x20 rescue what is good: salvage /d/n1"
        );
        assert_eq!(told.exit, exit::DIFFERS);
        assert_eq!(told.members["error"]["name"], "DAMAGED");
    }
}
