//! The shell's own settings, and `source`.
//!
//! # Caveats
//!
//! Settings last as long as the session; there is no file of them.

use std::path::Path;

use ringkv_shared::{ErrorName, Failure};
use serde_json::json;

use crate::grammar::{Client, Switch};
use crate::report::Report;
use crate::session::{SOURCE_DEPTH_MAX, Session};

/// Applies a setting.
pub(crate) fn run(s: &mut Session, client: Client) -> Report {
    match client {
        Client::Timing { switch } => set("timing", switch, |on| s.settings.timing = on),
        Client::Brief { switch } => set("brief", switch, |on| s.settings.brief = Some(on)),
        Client::Trace { switch } => set("trace", switch, |on| {
            s.settings.trace = on;
            s.trace.switch(on);
        }),
        Client::Output { format } => {
            s.settings.format = format;
            Report::new(&json!({ "output": format!("{format:?}").to_lowercase() }))
        }
        Client::History => {
            let report = Report::new(&json!({ "lines": s.history }));
            s.history.iter().fold(report, |report, line| report.say(line.as_str()))
        }
        Client::Clear => {
            if s.out.is_terminal() {
                s.out.result(b"\x1b[H\x1b[2J");
            }
            Report::new(&json!({}))
        }
        Client::Exit => Report::new(&json!({})),
    }
}

fn set(name: &str, switch: Switch, apply: impl FnOnce(bool)) -> Report {
    apply(switch.is_on());
    Report::new(&json!({ name: switch.is_on() }))
}

/// Runs the lines of a file in this session, up to the first that fails.
pub(super) async fn source(s: &mut Session, file: &Path) -> Result<Report, Failure> {
    let bad = |message: String| Failure::new(ErrorName::BadArgument, message);
    if s.depth >= SOURCE_DEPTH_MAX {
        return Err(bad(format!("{}: more than {SOURCE_DEPTH_MAX} files deep", file.display())));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| bad(format!("{}: {error}", file.display())))?;
    let outer = s.place.clone();
    s.depth += 1;
    let exit = crate::feed::feed(
        s,
        &file.display().to_string(),
        crate::feed::Given(text.lines().map(str::to_owned)),
    )
    .await;
    s.depth -= 1;
    s.place = outer;
    let report = Report::new(&json!({ "file": file }));
    Ok(Report { exit, ..report })
}
