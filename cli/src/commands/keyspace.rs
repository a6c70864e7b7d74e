//! `keyspace`, `setquorum`, `use`: sets of keys and what holds for them.
//!
//! ```text
//! kv> keyspace create orders --n 3 --r 2 --w 2
//! orders: N=3 R=2 W=2, siblings, values live for ever
//!   R+W>N (2+2>3): a read meets the last acknowledged write; not linearizable. Reads and writes …
//! kv> use orders
//! ```
//!
//! # Caveats
//!
//! A time to live is for what is put from then on; what is there already stays as it is. So it is
//! with R and W: what was acknowledged by fewer stays where it is.

use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::{
    DroppedKeyspace, KeyspaceChange, KeyspaceReply, KeyspaceRow,
};
use ringkv_shared::{ErrorName, Failure, Keyspace, KeyspaceName, NodeId};

use super::expiry;
use crate::grammar::{KeyspaceAction, KeyspaceArgs, QuorumWord};
use crate::report::Report;
use crate::session::Session;

/// Shows keyspaces, or changes one.
pub(super) async fn run(s: &mut Session, args: KeyspaceArgs) -> Result<Report, Failure> {
    if args.action.is_some_and(KeyspaceAction::changes) {
        // Another N is a staged change like every other.
        s.planned = None;
    }
    let action = args.action.unwrap_or_default();
    let change = change(&args);
    let name = args.name;
    let (name, change) = match action {
        KeyspaceAction::List if name.is_none() && change == KeyspaceChange::default() => {
            return Ok(list_report(&ask(s, None, None).await?));
        }
        KeyspaceAction::Show if change == KeyspaceChange::default() => {
            return Ok(show_report(&ask(s, name, None).await?));
        }
        KeyspaceAction::Create if name.is_some() => {
            (name, KeyspaceChange { create: true, ..change })
        }
        KeyspaceAction::Set if name.is_some() && change != KeyspaceChange::default() => {
            (name, change)
        }
        KeyspaceAction::Drop if name.is_some() && change == KeyspaceChange::default() => {
            return drop_keyspace(s, name.unwrap_or_default()).await;
        }
        action => return Err(misused(action)),
    };
    Ok(show_report(&ask(s, name, Some(change)).await?))
}

fn change(args: &KeyspaceArgs) -> KeyspaceChange {
    KeyspaceChange {
        n: args.n,
        r: args.r,
        w: args.w,
        policy: args.policy,
        sloppy: args.sloppy.map(|switch| switch.is_on()),
        ttl_ms: args.ttl.map(|ttl| ttl.ms()),
        ..KeyspaceChange::default()
    }
}

fn misused(action: KeyspaceAction) -> Failure {
    let (message, hint) = match action {
        KeyspaceAction::List => ("keyspace list takes no more words", "keyspace list"),
        KeyspaceAction::Show => ("keyspace show changes nothing", "keyspace show orders"),
        KeyspaceAction::Create => {
            ("a new keyspace needs a name", "keyspace create orders --n 3 --r 2 --w 2")
        }
        KeyspaceAction::Set => (
            "a keyspace is set by its name and what is to hold for it",
            "keyspace set default --ttl 1h",
        ),
        KeyspaceAction::Drop => ("a keyspace is dropped by its name alone", "keyspace drop orders"),
    };
    Failure::new(ErrorName::BadArgument, message).hint(hint)
}

async fn drop_keyspace(s: &mut Session, name: KeyspaceName) -> Result<Report, Failure> {
    let change = KeyspaceChange { drop: true, ..KeyspaceChange::default() };
    let reply = ask(s, Some(name.clone()), Some(change)).await?;
    let mut report = Report::new(&reply).say(format!("Dropped keyspace {name} and all in it."));
    for dropped in reply.dropped.iter().filter(|dropped| dropped.name == name) {
        report = report.warn(unheard(dropped));
    }
    if s.keyspace() == name {
        s.use_keyspace(KeyspaceName::default());
        report = report.say("Using keyspace default.");
    }
    Ok(report)
}

/// Sets R and W of the current keyspace.
pub(super) async fn set_quorum(
    s: &mut Session,
    r: QuorumWord,
    w: Option<usize>,
) -> Result<Report, Failure> {
    let name = s.keyspace();
    let change = match (r, w) {
        (QuorumWord::R(r), Some(w)) => {
            KeyspaceChange { r: Some(r), w: Some(w), ..KeyspaceChange::default() }
        }
        (QuorumWord::Preset(preset), None) => {
            let reply = ask(s, Some(name.clone()), None).await?;
            let n = reply.keyspaces.first().map_or(1, |row| row.keyspace.n);
            let (r, w, sloppy) = preset.quorums(n);
            let (r, w, sloppy) = (Some(r), Some(w), Some(sloppy));
            KeyspaceChange { r, w, sloppy, ..KeyspaceChange::default() }
        }
        _ => {
            let message = "setquorum takes R and W, or the name of a preset";
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint("setquorum 2 2        setquorum strong-read"));
        }
    };
    Ok(show_report(&ask(s, Some(name), Some(change)).await?))
}

/// Works in a keyspace from now on, when there is one of that name.
pub(super) async fn enter(s: &mut Session, name: KeyspaceName) -> Result<Report, Failure> {
    let reply = ask(s, Some(name.clone()), None).await?;
    s.use_keyspace(name.clone());
    Ok(Report::new(&reply).say(format!("Using keyspace {name}.")))
}

/// What is said of the keyspace when its R and W are no longer what they were against N.
pub(super) async fn guarantee(s: &Session) -> Result<Option<String>, Failure> {
    let reply = ask(s, Some(s.keyspace()), None).await?;
    let row = reply.keyspaces.into_iter().next();
    Ok(row.filter(|row| row.keyspace.r > 1 || row.keyspace.w > 1).map(|row| row.guarantee))
}

/// The copies that are in force for the session's keyspace.
pub(super) async fn copies(s: &Session) -> Result<usize, Failure> {
    let reply = ask(s, Some(s.keyspace()), None).await?;
    Ok(reply.keyspaces.first().map_or(1, |row| row.n_now.unwrap_or(row.keyspace.n)))
}

async fn ask(
    s: &Session,
    name: Option<KeyspaceName>,
    change: Option<KeyspaceChange>,
) -> Result<KeyspaceReply, Failure> {
    s.call(async |c: &Client| ClusterApiClient::keyspace(c, name, change).await).await
}

/// A line a keyspace.
fn list_report(reply: &KeyspaceReply) -> Report {
    let report = reply.keyspaces.iter().map(line).fold(Report::new(reply), Report::say);
    reply.dropped.iter().map(unheard).fold(report, Report::say)
}

/// The same, and what each promises.
fn show_report(reply: &KeyspaceReply) -> Report {
    let promised = |report: Report, row: &KeyspaceRow| {
        report.say(line(row)).say(format!("  {}", row.guarantee))
    };
    let report = reply.keyspaces.iter().fold(Report::new(reply), promised);
    reply.dropped.iter().map(unheard).fold(report, Report::say)
}

/// A keyspace in a line.
pub(super) fn line(KeyspaceRow { keyspace, n_now, .. }: &KeyspaceRow) -> String {
    let Keyspace { name, n, r, w, policy, sloppy, ttl_ms } = keyspace;
    let pending = n_now.map(|now| format!(" ({now} until rebalance)")).unwrap_or_default();
    let sloppy = if *sloppy { ", sloppy" } else { "" };
    let lives = ttl_ms.map_or_else(|| "ever".to_owned(), expiry::span);
    format!("{name}: N={n}{pending} R={r} W={w}, {policy}{sloppy}, values live for {lives}")
}

fn unheard(DroppedKeyspace { name, unheard }: &DroppedKeyspace) -> String {
    let names: Vec<&str> = unheard.iter().map(NodeId::as_str).collect();
    let has = if names.len() == 1 { "has" } else { "have" };
    format!("{name} was dropped; {} {has} not heard of it yet", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use ringkv_shared::Policy;
    use ringkv_shared::protocol::Status;

    #[test]
    fn a_keyspace_is_a_line_and_a_promise() {
        let said = |keyspace: Keyspace, n_now| {
            let row = KeyspaceRow { keyspace, n_now, guarantee: "Mostly.".to_owned() };
            let gone = DroppedKeyspace {
                name: "clicks".parse().unwrap(),
                unheard: vec!["n1".parse().unwrap(), "n3".parse().unwrap()],
            };
            let reply =
                KeyspaceReply { status: Status::Ok, keyspaces: vec![row], dropped: vec![gone] };
            text(&show_report(&reply).narrated)
        };
        let default = Keyspace::new(KeyspaceName::default());
        let gone = "clicks was dropped; n1 n3 have not heard of it yet";
        assert_eq!(
            said(default.clone(), None),
            format!("default: N=1 R=1 W=1, siblings, values live for ever\n  Mostly.\n{gone}")
        );
        let other = Keyspace {
            n: 3,
            policy: Policy::Lww,
            sloppy: true,
            ttl_ms: Some(5_400_000),
            ..Keyspace::new("orders".parse().unwrap())
        };
        assert_eq!(
            said(other, Some(2)),
            format!(
                "orders: N=3 (2 until rebalance) R=1 W=1, lww, sloppy, values live for 1h 30m\n  Mostly.\n{gone}"
            )
        );
    }

    #[test]
    fn a_silent_word_is_a_mistake() {
        for (action, hint) in [
            (KeyspaceAction::Create, "keyspace create orders --n 3 --r 2 --w 2"),
            (KeyspaceAction::Drop, "keyspace drop orders"),
        ] {
            let failure = misused(action);
            assert_eq!(failure.name, ErrorName::BadArgument);
            assert_eq!(failure.hint.as_deref(), Some(hint));
        }
    }
}
