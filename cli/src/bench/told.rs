//! What is told of a run: a table for people, one object for programs, and the exit code.
//!
//! # Caveats
//!
//! Little's law must hold in a closed loop: requests under way = rate × mean latency. Where it is off by twice,
//! something stood still or was not counted, and the figures are not to be believed; that is said.

use std::time::Duration;

use serde_json::{Value, json};

use super::Killed;
use super::args::{BenchArgs, Distribution};
use super::run::Outcome;
use super::tally::Tally;
use super::target::Target;
use crate::exit;
use crate::report::{Report, counted};
use crate::table::Table;

/// Cores that others may use before a run is called disturbed.
const FOREIGN_MAX: f64 = 0.15;

/// All of it.
pub(super) fn report(
    args: &BenchArgs,
    target: &Target,
    outcome: &Outcome,
    killed: Option<&Killed>,
) -> Report {
    let mut report = Report::new(&members(args, target, outcome, killed));
    let table = Table {
        header: &["", ""],
        rows: rows(args, target, outcome),
        dispensable: &[],
        prose: false,
    };
    for line in table.draw(None).lines() {
        report = report.say(line);
    }
    for line in sentences(outcome, killed) {
        report = report.say(line);
    }
    for line in warnings(args, outcome) {
        report = report.warn(line);
    }
    for line in faults(outcome) {
        report = report.warn(line);
    }
    Report { exit: exit_code(outcome, killed), ..report }
}

fn rows(args: &BenchArgs, target: &Target, outcome: &Outcome) -> Vec<Vec<String>> {
    let Outcome { measured, costs, idle, .. } = outcome;
    let ms = |percentile| format!("{:.3}", measured.percentile_ms(percentile));
    let each = |time: Duration| {
        let per_op = time.as_secs_f64() * 1e6 / measured.ops().max(1) as f64;
        format!("{per_op:.2} µs/op ({:.0} % of a core)", 100.0 * cores(time, measured))
    };
    let mut rows = vec![
        ("target", target.name.clone()),
        ("load", shape(args)),
        ("keys", keys(args)),
        ("ops/s", format!("{:.0}", measured.ops_per_second())),
        ("p50 p95 p99 p99.9", format!("{} {} {} {} ms", ms(50.0), ms(95.0), ms(99.0), ms(99.9))),
        ("longest", format!("{:.3} ms", measured.max_ms())),
        ("puts gets missing", format!("{} {} {}", measured.puts, measured.gets, measured.missing)),
        ("errors", measured.errors_in_words()),
        ("client CPU", each(costs.client)),
    ];
    let total: Duration = costs.servers.iter().map(|(_, time)| *time).sum();
    if !costs.servers.is_empty() {
        rows.push(("server CPU", each(total)));
    }
    if costs.servers.len() > 1 {
        rows.extend(costs.servers.iter().map(|(name, time)| (name.as_str(), each(*time))));
    }
    rows.push(("foreign CPU", format!("{:.2} cores", costs.foreign)));
    if costs.stolen > 0.005 {
        rows.push(("stolen by the host", format!("{:.2} cores", costs.stolen)));
    }
    if let Some(idle) = idle {
        let each = idle.bytes_each.map(|bytes| format!(", {bytes:.0} bytes of the server each"));
        rows.push(("idle connections", format!("{}{}", idle.opened, each.unwrap_or_default())));
    }
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn cores(time: Duration, measured: &Tally) -> f64 {
    time.as_secs_f64() / measured.lasted.as_secs_f64().max(1e-9)
}

fn shape(args: &BenchArgs) -> String {
    let connections = counted(args.connections, "connection");
    match args.rate {
        Some(rate) => format!("open loop, {rate} requests/s, {connections}"),
        None => format!("closed loop, {connections}, {} at once", args.pipeline),
    }
}

fn keys(args: &BenchArgs) -> String {
    let how = match args.keys {
        Distribution::Uniform => "uniform",
        Distribution::Zipf => "zipf",
    };
    let size = args.value_size;
    format!("{} ({how}), values of {size} bytes, {} % reads", args.key_count, args.reads)
}

fn sentences(outcome: &Outcome, killed: Option<&Killed>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((keys, took)) = outcome.loaded {
        let rate = keys as f64 / took.as_secs_f64().max(1e-9);
        lines.push(format!("Put {} first, {rate:.0} a second.", counted(keys, "key")));
    }
    if let Some(killed) = killed {
        lines.extend(told_of_kill(killed, &outcome.measured));
    }
    if let Some(verified) = &outcome.verified
        && verified.gets > 0
        && verified.wrong + verified.stale + verified.lost == 0
    {
        let right = counted(verified.gets, "key");
        lines.push(format!("Read {right} back: each has a value that it may have."));
    }
    lines
}

fn told_of_kill(killed: &Killed, measured: &Tally) -> Vec<String> {
    let at = killed.at.as_secs_f64();
    let mut lines = match &killed.told {
        Ok(sentence) => vec![format!("At {at:.2} s: {sentence}")],
        Err(why) => vec![format!("At {at:.2} s {} was to be killed: {why}", killed.node)],
    };
    if let Some((first, last)) = measured.errors_between {
        let (count, first, last) =
            (counted(measured.failures(), "error"), first.as_secs_f64(), last.as_secs_f64());
        lines.push(format!("{count} between {first:.3} s and {last:.3} s."));
    }
    let (silence, since) = measured.silence;
    lines.push(format!(
        "The longest time without an answer: {:.3} s, from {:.3} s on.",
        silence.as_secs_f64(),
        since.as_secs_f64()
    ));
    lines
}

/// Requests under way by rate and latency, over those that there were; `None` in an open loop.
fn littles_law(args: &BenchArgs, measured: &Tally) -> Option<f64> {
    let under_way = f64::from(args.connections) * f64::from(args.pipeline);
    let found = measured.ops_per_second() * measured.percentile_ms(50.0) / 1e3;
    (args.rate.is_none() && measured.ops() > 0).then(|| found / under_way)
}

fn warnings(args: &BenchArgs, outcome: &Outcome) -> Vec<String> {
    let Outcome { measured, costs, idle, .. } = outcome;
    let mut lines = Vec::new();
    if costs.foreign > FOREIGN_MAX {
        let foreign = costs.foreign;
        lines.push(format!("warning: others used {foreign:.2} cores meanwhile: measure again"));
    }
    if let Some(ratio) = littles_law(args, measured).filter(|ratio| !(0.5..=2.0).contains(ratio)) {
        lines.push(format!(
            "warning: rate × p50 is {ratio:.2} of the requests under way: something stood still, or most were fast and few very slow"
        ));
    }
    if let Some(rate) = args.rate.filter(|rate| measured.ops_per_second() < 0.9 * f64::from(*rate))
    {
        let reached = measured.ops_per_second();
        lines.push(format!("warning: {reached:.0} of {rate} requests a second were answered"));
    }
    if let Some(idle) = idle.as_ref().filter(|idle| idle.closed > 0) {
        let closed = counted(idle.closed as u64, "idle connection");
        lines.push(format!("warning: the server has closed {closed}"));
    }
    if measured.stale > 0 {
        let stale = counted(measured.stale, "get");
        lines.push(format!(
            "warning: {stale} gave a value that had been replaced, as a store with R+W<=N may"
        ));
    }
    lines
}

/// What is not as it was promised.
fn faults(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let phases =
        [("in the load", Some(&outcome.measured)), ("read back", outcome.verified.as_ref())];
    for (when, tally) in phases.into_iter().filter_map(|(when, tally)| Some((when, tally?))) {
        let Tally { wrong, stale, lost, .. } = tally;
        if is_faulty(tally, when == "read back") {
            lines.push(format!(
                "error: {when}: {wrong} wrong, {lost} lost, {stale} replaced values"
            ));
            lines.extend(tally.named.iter().map(|key| format!("  {key}")));
        }
    }
    if let Some(verified) = outcome.verified.as_ref().filter(|verified| verified.failures() > 0) {
        let keys = counted(verified.failures(), "key");
        lines.push(format!("error: {keys} could not be read back: {}", verified.errors_in_words()));
    }
    lines
}

fn is_faulty(tally: &Tally, at_rest: bool) -> bool {
    tally.wrong > 0 || tally.lost > 0 || at_rest && tally.stale > 0
}

fn exit_code(outcome: &Outcome, killed: Option<&Killed>) -> u8 {
    let Outcome { measured, verified, .. } = outcome;
    if is_faulty(measured, false) || verified.as_ref().is_some_and(|tally| is_faulty(tally, true)) {
        return exit::DIFFERS;
    }
    let unread = verified.as_ref().is_some_and(|verified| verified.failures() > 0);
    let not_killed = killed.is_some_and(|killed| killed.told.is_err());
    // Errors are what a kill is for.
    let failed = killed.is_none() && measured.failures() > 0;
    if unread || not_killed || failed { exit::PARTIAL } else { exit::OK }
}

fn members(args: &BenchArgs, target: &Target, outcome: &Outcome, killed: Option<&Killed>) -> Value {
    let Outcome { loaded, measured, costs, verified, idle } = outcome;
    let ops = measured.ops().max(1) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / ops;
    let total: Duration = costs.servers.iter().map(|(_, time)| *time).sum();
    let servers: Vec<Value> = costs
        .servers
        .iter()
        .map(|(name, time)| json!({"name": name, "cpu_us_per_op": each(*time)}))
        .collect();
    let mut members = json!({
        "target": target.name,
        "connections": args.connections, "pipeline": args.pipeline, "rate": args.rate,
        "value_size": args.value_size, "key_count": args.key_count, "reads": args.reads,
        "keys": match args.keys { Distribution::Uniform => "uniform", Distribution::Zipf => "zipf" },
        "seed": args.seed,
        "seconds": measured.lasted.as_secs_f64(),
        "ops": measured.ops(), "ops_per_s": measured.ops_per_second(),
        "puts": measured.puts, "gets": measured.gets, "missing": measured.missing,
        "wrong": measured.wrong, "lost": measured.lost, "stale": measured.stale,
        "p50_ms": measured.percentile_ms(50.0), "p95_ms": measured.percentile_ms(95.0),
        "p99_ms": measured.percentile_ms(99.0), "p99_9_ms": measured.percentile_ms(99.9),
        "max_ms": measured.max_ms(), "mean_ms": measured.mean_ms(),
        "silence_ms": measured.silence.0.as_secs_f64() * 1e3,
        "errors": measured.errors,
        "client_cpu_us_per_op": each(costs.client),
        "server_cpu_us_per_op": if costs.servers.is_empty() { Value::Null } else { each(total).into() },
        "servers": servers,
        "foreign_cores": costs.foreign, "stolen_cores": costs.stolen,
        "rate_times_p50": littles_law(args, measured),
    });
    if let Some((keys, took)) = loaded {
        members["loaded"] = json!({"keys": keys, "ms": took.as_secs_f64() * 1e3});
    }
    if let Some(idle) = idle {
        let (opened, closed) = (idle.opened, idle.closed);
        members["idle"] =
            json!({"opened": opened, "closed": closed, "bytes_each": idle.bytes_each});
    }
    if let Some(killed) = killed {
        members["killed"] = json!({
            "node": killed.node, "at_ms": killed.at.as_secs_f64() * 1e3,
            "message": killed.told.as_ref().unwrap_or_else(|why| why), "ok": killed.told.is_ok(),
            "errors_from_ms": measured.errors_between.map(|(first, _)| first.as_secs_f64() * 1e3),
            "errors_to_ms": measured.errors_between.map(|(_, last)| last.as_secs_f64() * 1e3),
        });
    }
    if let Some(verified) = verified {
        members["verified"] = json!({
            "read": verified.gets, "wrong": verified.wrong, "lost": verified.lost,
            "stale": verified.stale, "errors": verified.errors, "keys": verified.named,
        });
    }
    members
}

#[cfg(test)]
mod tests {
    use super::super::book::Verdict;
    use super::*;
    use crate::bench::meter::Costs;

    fn outcome(change: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = Outcome {
            loaded: None,
            measured: Tally::default(),
            costs: Costs::default(),
            verified: Some(Tally::default()),
            idle: None,
        };
        change(&mut outcome);
        outcome
    }

    fn killed(told: Result<String, String>) -> Killed {
        Killed { node: "n2".parse().unwrap(), at: Duration::from_secs(1), told }
    }

    #[test]
    fn the_exit_code_is_that_of_the_gravest() {
        let code =
            |killed: Option<&Killed>, change: fn(&mut Outcome)| exit_code(&outcome(change), killed);
        let failed = |outcome: &mut Outcome| outcome.measured.failed("BUSY", 1, Duration::ZERO);
        let stale = |outcome: &mut Outcome| outcome.measured.got(0, true, Verdict::Stale);
        assert_eq!(code(None, |_| {}), 0);
        assert_eq!(code(None, failed), 5);
        assert_eq!(code(Some(&killed(Ok(String::new()))), failed), 0, "that is what it was for");
        assert_eq!(code(Some(&killed(Err(String::new()))), |_| {}), 5);
        assert_eq!(code(None, stale), 0);
        let verified = |outcome: &mut Outcome, verdict| {
            outcome.verified.as_mut().unwrap().got(0, true, verdict);
        };
        assert_eq!(exit_code(&outcome(|o| verified(o, Verdict::Right)), None), 0);
        for verdict in [Verdict::Stale, Verdict::Lost, Verdict::Wrong] {
            assert_eq!(exit_code(&outcome(|o| verified(o, verdict)), None), 6, "{verdict:?}");
        }
        let unread = |outcome: &mut Outcome| {
            outcome.verified.as_mut().unwrap().failed("UNREACHABLE", 3, Duration::ZERO);
        };
        assert_eq!(exit_code(&outcome(unread), None), 5);
        assert_eq!(
            faults(&outcome(unread)),
            ["error: 3 keys could not be read back: UNREACHABLE 3"]
        );
    }

    #[test]
    fn a_kill_is_told_with_what_it_did() {
        let mut measured = Tally::default();
        let at = Duration::from_millis;
        measured.good(at(1000), 1);
        measured.failed("OUTCOME_UNKNOWN", 7, at(1100));
        measured.failed("UNREACHABLE", 3, at(1500));
        measured.good(at(1750), 1);
        measured.end(at(2000));
        assert_eq!(
            told_of_kill(&killed(Ok("Killed n2 (pid 7, SIGKILL).".into())), &measured),
            [
                "At 1.00 s: Killed n2 (pid 7, SIGKILL).",
                "10 errors between 1.100 s and 1.500 s.",
                "The longest time without an answer: 1.000 s, from 0.000 s on.",
            ]
        );
    }
}
