//! `salvage`: what is good of a damaged data directory, as a new one.
//!
//! # Caveats
//!
//! The cluster sees the new directory as another node with the same name: the old one has to be taken
//! off the ring first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringkv_node::disk::{Disk, RealDisk};
use ringkv_node::inspect::{Loss, NotSalvaged, Salvaged, salvage};
use ringkv_shared::{Blob, ErrorName, Failure, NodeId};
use serde_json::{Value, json};

use super::place::Place;
use crate::exit;
use crate::report::{Report, counted};
use crate::session::Session;

/// Salvages.
pub(super) async fn run(
    s: &mut Session,
    target: &str,
    into: Option<PathBuf>,
    id: Option<NodeId>,
) -> Result<Report, Failure> {
    let place = Place::of(s, target).await?;
    let dir = place.path()?;
    let into = into.unwrap_or_else(|| beside(dir));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let salvaged = salvage(&disk, dir, &into, id).map_err(|why| refused(&why, target))?;
    Ok(report(dir, &salvaged))
}

/// `n1` → `n1-salvaged`.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.components().as_path().as_os_str().to_owned();
    name.push("-salvaged");
    name.into()
}

fn refused(why: &NotSalvaged, target: &str) -> Failure {
    let hint = match why {
        NotSalvaged::InUse(_) => format!("stop the node first: stop {target}"),
        NotSalvaged::Exists(path) if path.to_string_lossy().ends_with(".unfinished") => {
            "an earlier salvage did not end: delete it, then salvage again".to_owned()
        }
        NotSalvaged::Exists(_) => "name another with --into, or delete it".to_owned(),
        NotSalvaged::NoLog(_) => "a data directory has a data.log in it".to_owned(),
        NotSalvaged::Nobody(_) => "say it: salvage DIR --id n1".to_owned(),
        NotSalvaged::Storage(_) => "the damaged directory is as it was".to_owned(),
    };
    Failure::new(ErrorName::NotApplied, format!("nothing was salvaged: {why}")).hint(hint)
}

fn report(dir: &Path, salvaged: &Salvaged) -> Report {
    let Salvaged { into, identity, keys, tombstones, losses } = salvaged;
    let members = json!({
        "status": "ok", "from": dir, "into": into, "id": identity.id,
        "uuid": identity.uuid.to_string(), "keys": keys, "tombstones": tombstones,
        "losses": losses.iter().map(members).collect::<Vec<_>>(),
    });
    let (keys, tombstones) = (counted(*keys, "key"), counted(*tombstones, "tombstone"));
    let mut report = Report::new(&members).say(format!(
        "Salvaged {keys} and {tombstones} from {} to {}.",
        dir.display(),
        into.display()
    ));
    report = losses.iter().fold(report, say_loss);
    if losses.is_empty() {
        report = report.say("Nothing is lost.");
    }
    let id = &identity.id;
    report = report.say(format!(
        "{} is as it was. The new directory is a node of its own, which the cluster has to meet:",
        dir.display()
    ));
    report = report.say(format!(
        "  removenode {id}; kv node --id {id} --data {} --listen HOST:PORT; addnode {id} HOST:PORT; rebalance",
        into.display()
    ));
    let durable = losses.iter().any(|loss| !loss.torn);
    Report { exit: if durable { exit::PARTIAL } else { exit::OK }, ..report }
}

fn members(loss: &Loss) -> Value {
    let range = |range: &std::ops::RangeInclusive<u64>| json!([range.start(), range.end()]);
    let keys: Vec<Blob> = loss.keys.iter().cloned().map(Blob::from).collect();
    json!({
        "file": loss.file, "lines": loss.lines.as_ref().map(range),
        "offset": loss.bytes.start, "bytes": loss.bytes.end - loss.bytes.start,
        "sequence": loss.sequence.as_ref().map(range), "reason": loss.reason,
        "torn": loss.torn, "keys": keys,
    })
}

fn say_loss(report: Report, loss: &Loss) -> Report {
    let mut place = loss.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(lines) = &loss.lines {
        place += &format!(" {}, offset {}", spanned("line", lines), loss.bytes.start);
    }
    if let Some(sequence) = &loss.sequence {
        place += &format!(", {}", spanned("s", sequence));
    }
    let torn = if loss.torn { " (nobody was told that it is safe)" } else { "" };
    let report = report.say(format!("lost: {place}: {}{torn}", loss.reason));
    if loss.keys.is_empty() {
        return report;
    }
    let keys: Vec<String> =
        loss.keys.iter().cloned().map(|key| Blob::from(key).to_string()).collect();
    report.say(format!("  what can be read of its keys: {}", keys.join(" ")))
}

/// `line 3`, `lines 3 to 5`; `s=3`, `s=3 to 5`.
fn spanned(noun: &str, range: &std::ops::RangeInclusive<u64>) -> String {
    let (first, last) = (range.start(), range.end());
    match (noun, first == last) {
        ("s", true) => format!("s={first}"),
        ("s", false) => format!("s={first} to {last}"),
        (noun, true) => format!("{noun} {first}"),
        (noun, false) => format!("{noun}s {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use ringkv_node::inspect::Identity;

    #[test]
    fn what_is_lost_is_told_line_by_line() {
        let uuid = "00000000-0000-0000-0000-0000000000ab".parse().unwrap();
        let identity = Identity { uuid, id: "n1".parse().unwrap() };
        let loss = |file: &str, lines, sequence, torn, keys: &[&'static str]| Loss {
            file: file.into(),
            lines,
            bytes: 165..311,
            sequence,
            reason: "no checksum at the end of the line".into(),
            torn,
            keys: keys.iter().map(|key| (*key).into()).collect(),
        };
        let losses = vec![
            loss("/d/n1/snap-000001.log", Some(3..=3), None, false, &["a", "b c"]),
            loss("/d/n1/data.log", Some(4..=5), Some(9..=10), true, &[]),
            loss("/d/n1/data.log", None, Some(11..=11), false, &[]),
        ];
        let into = "/d/n1-salvaged".into();
        let salvaged = Salvaged { into, identity, keys: 2, tombstones: 1, losses };
        let report = report(Path::new("/d/n1"), &salvaged);
        assert_eq!(
            text(&report.narrated),
            "Salvaged 2 keys and 1 tombstone from /d/n1 to /d/n1-salvaged.\n\
             lost: snap-000001.log line 3, offset 165: no checksum at the end of the line\n\
             \x20 what can be read of its keys: a b c\n\
             lost: data.log lines 4 to 5, offset 165, s=9 to 10: no checksum at the end of the line (nobody was told that it is safe)\n\
             lost: data.log, s=11: no checksum at the end of the line\n\
             /d/n1 is as it was. The new directory is a node of its own, which the cluster has to meet:\n\
             \x20 removenode n1; kv node --id n1 --data /d/n1-salvaged --listen HOST:PORT; addnode n1 HOST:PORT; rebalance"
        );
        assert_eq!(report.exit, exit::PARTIAL);
    }

    #[test]
    fn the_new_directory_stands_beside_the_old_one() {
        assert_eq!(beside(Path::new("data/n1/")), Path::new("data/n1-salvaged"));
    }
}
