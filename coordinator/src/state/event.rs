//! What happens to a cluster, one line each.
//!
//! | event line | meaning |
//! |---|---|
//! | `RING <vnodes>` | the ring is new: virtual nodes for each unit of weight, once and for all |
//! | `BOOT <epoch>` | a coordinator started; versions are numbered under this epoch from now on |
//! | `COORDINATOR <uuid>` | the identity of this log's directory: whom nodes obey |
//! | `AFTER <uuid>` | it was rebuilt from what nodes knew, and takes over from the coordinator of that directory |
//! | `ADD <id> <addr> <weight> <uuid> [<zone>]` | a member, staged onto the ring |
//! | `REPLACE <old> <id> <addr> <uuid>` | a member, staged into the seat of another, which is staged off |
//! | `MOVE <id> <addr>` | a member answers at another address |
//! | `REMOVE <id>` | staged off the ring |
//! | `WEIGHT <id> <weight>` | staged: another weight |
//! | `ZONE <id> <zone>` | staged: another zone; `-`: none |
//! | `REPLICAS <n>` | staged: keep n copies of what is in `default` |
//! | `REPLICAS <keyspace> <n>` | the same for another keyspace |
//! | `TOKENS <id> <name>` | in a log that was rewritten, staged: a member has the tokens of that name, whom it replaced |
//! | `CLEAR` | nothing is staged any more |
//! | `COMMIT` | what is staged is pending: writes go to both placements |
//! | `PAUSE` `RESUME` | copying rests, goes on |
//! | `CANCEL` | nothing is pending any more: back to the ring as it was |
//! | `FINAL` | what is pending, or staged with nothing to copy, is in force |
//! | `CLEARING` | in a log that was rewritten: a change has ended, and old copies may be left |
//! | `LEFT <id> <addr> <uuid>` | a node that is on no ring any more may have old copies |
//! | `DONE` | old copies are dropped, as far as they can be |
//! | `EPOCH <n>` | of the ring, in a log that was rewritten |
//! | `CHANGES <n>` | in a log that was rewritten: how many events there have been; of two maps the one with more is newer |
//! | `KEYSPACE <name> n=… r=… w=… policy=… sloppy=… ttl=…` | what holds for a keyspace; a new one has n copies at once, of one that is there only `REPLICAS` changes n |
//! | `KEYSPACE default <ttl>` | as logs had it when there was one keyspace: only its time to live |
//! | `DROPPED <name>` | a keyspace is there no more; its nodes are to forget it |
//! | `FORGOTTEN <name> <id>` | a node has |
//! | `CLOCK <ms>` | stamps of `lww` keyspaces may have been given up to this unix millisecond, without it |

use std::fmt;
use std::str::FromStr;

use ringkv_shared::{Keyspace, KeyspaceName, NodeId, Zone};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// `host:port`.
    pub(crate) addr: String,
    /// The identity of its data directory.
    pub(crate) uuid: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Ring { vnodes: u32 },
    Boot { epoch: u32 },
    Coordinator { uuid: String },
    After { uuid: String },
    Add { id: NodeId, member: Member, weight: u32, zone: Option<Zone> },
    Replace { old: NodeId, id: NodeId, member: Member },
    Move { id: NodeId, addr: String },
    Remove { id: NodeId },
    Weight { id: NodeId, weight: u32 },
    Zone { id: NodeId, zone: Option<Zone> },
    Replicas { name: KeyspaceName, n: usize },
    Tokens { id: NodeId, of: NodeId },
    Clear,
    Commit,
    Pause,
    Resume,
    Cancel,
    Final,
    Clearing,
    Left { id: NodeId, member: Member },
    Done,
    Epoch { epoch: u64 },
    Changes { count: u64 },
    Keyspace(Keyspace),
    DefaultTtl { ttl_ms: u64 },
    Dropped { name: KeyspaceName },
    Forgotten { name: KeyspaceName, id: NodeId },
    Clock { ms: u64 },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring { vnodes } => write!(f, "RING {vnodes}"),
            Self::Boot { epoch } => write!(f, "BOOT {epoch}"),
            Self::Coordinator { uuid } => write!(f, "COORDINATOR {uuid}"),
            Self::After { uuid } => write!(f, "AFTER {uuid}"),
            Self::Add { id, member: Member { addr, uuid }, weight, zone } => {
                write!(f, "ADD {id} {addr} {weight} {uuid}")?;
                zone.as_ref().map_or(Ok(()), |zone| write!(f, " {zone}"))
            }
            Self::Replace { old, id, member: Member { addr, uuid } } => {
                write!(f, "REPLACE {old} {id} {addr} {uuid}")
            }
            Self::Move { id, addr } => write!(f, "MOVE {id} {addr}"),
            Self::Remove { id } => write!(f, "REMOVE {id}"),
            Self::Replicas { name, n } if name.is_default() => write!(f, "REPLICAS {n}"),
            Self::Replicas { name, n } => write!(f, "REPLICAS {name} {n}"),
            Self::Weight { id, weight } => write!(f, "WEIGHT {id} {weight}"),
            Self::Zone { id, zone } => {
                write!(f, "ZONE {id} {}", zone.as_ref().map_or("-", Zone::as_str))
            }
            Self::Tokens { id, of } => write!(f, "TOKENS {id} {of}"),
            Self::Clear => write!(f, "CLEAR"),
            Self::Commit => write!(f, "COMMIT"),
            Self::Pause => write!(f, "PAUSE"),
            Self::Resume => write!(f, "RESUME"),
            Self::Cancel => write!(f, "CANCEL"),
            Self::Final => write!(f, "FINAL"),
            Self::Clearing => write!(f, "CLEARING"),
            Self::Left { id, member: Member { addr, uuid } } => {
                write!(f, "LEFT {id} {addr} {uuid}")
            }
            Self::Done => write!(f, "DONE"),
            Self::Epoch { epoch } => write!(f, "EPOCH {epoch}"),
            Self::Changes { count } => write!(f, "CHANGES {count}"),
            Self::Keyspace(Keyspace { name, n, r, w, policy, sloppy, ttl_ms }) => {
                let sloppy = if *sloppy { "on" } else { "off" };
                let ttl = ttl_ms.unwrap_or(0);
                write!(
                    f,
                    "KEYSPACE {name} n={n} r={r} w={w} policy={policy} sloppy={sloppy} ttl={ttl}"
                )
            }
            Self::DefaultTtl { ttl_ms } => write!(f, "KEYSPACE default {ttl_ms}"),
            Self::Dropped { name } => write!(f, "DROPPED {name}"),
            Self::Forgotten { name, id } => write!(f, "FORGOTTEN {name} {id}"),
            Self::Clock { ms } => write!(f, "CLOCK {ms}"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no event");
        let words: Vec<&str> = text.split(' ').collect();
        let event = match words[..] {
            ["RING", vnodes] => Self::Ring { vnodes: vnodes.parse().map_err(|_| bad())? },
            ["BOOT", epoch] => Self::Boot { epoch: epoch.parse().map_err(|_| bad())? },
            ["COORDINATOR", uuid] => Self::Coordinator { uuid: uuid.to_owned() },
            ["AFTER", uuid] => Self::After { uuid: uuid.to_owned() },
            ["ADD", id, addr, weight, uuid, ref zone @ ..] if zone.len() <= 1 => Self::Add {
                id: id.parse().map_err(|_| bad())?,
                member: member(addr, uuid),
                weight: weight.parse().map_err(|_| bad())?,
                zone: zone.first().map(|zone| zone.parse()).transpose().map_err(|_| bad())?,
            },
            ["REPLACE", old, id, addr, uuid] => Self::Replace {
                old: old.parse().map_err(|_| bad())?,
                id: id.parse().map_err(|_| bad())?,
                member: member(addr, uuid),
            },
            ["WEIGHT", id, weight] => Self::Weight {
                id: id.parse().map_err(|_| bad())?,
                weight: weight.parse().map_err(|_| bad())?,
            },
            ["ZONE", id, zone] => {
                let zone = Some(zone).filter(|zone| *zone != "-").map(str::parse).transpose();
                Self::Zone { id: id.parse().map_err(|_| bad())?, zone: zone.map_err(|_| bad())? }
            }
            ["TOKENS", id, of] => Self::Tokens {
                id: id.parse().map_err(|_| bad())?,
                of: of.parse().map_err(|_| bad())?,
            },
            ["CLEAR"] => Self::Clear,
            ["COMMIT"] => Self::Commit,
            ["PAUSE"] => Self::Pause,
            ["RESUME"] => Self::Resume,
            ["CANCEL"] => Self::Cancel,
            ["CLEARING"] => Self::Clearing,
            ["LEFT", id, addr, uuid] => {
                Self::Left { id: id.parse().map_err(|_| bad())?, member: member(addr, uuid) }
            }
            ["DONE"] => Self::Done,
            ["EPOCH", epoch] => Self::Epoch { epoch: epoch.parse().map_err(|_| bad())? },
            ["CHANGES", count] => Self::Changes { count: count.parse().map_err(|_| bad())? },
            ["MOVE", id, addr] => {
                Self::Move { id: id.parse().map_err(|_| bad())?, addr: addr.to_owned() }
            }
            ["REMOVE", id] => Self::Remove { id: id.parse().map_err(|_| bad())? },
            ["REPLICAS", n] => {
                let name = KeyspaceName::default();
                Self::Replicas { name, n: n.parse().map_err(|_| bad())? }
            }
            ["REPLICAS", name, n] => Self::Replicas {
                name: name.parse().map_err(|_| bad())?,
                n: n.parse().map_err(|_| bad())?,
            },
            ["FINAL"] => Self::Final,
            ["KEYSPACE", "default", ttl_ms] => {
                Self::DefaultTtl { ttl_ms: ttl_ms.parse().map_err(|_| bad())? }
            }
            ["KEYSPACE", name, ref rest @ ..] => {
                Self::Keyspace(parse_keyspace(name, rest).ok_or_else(bad)?)
            }
            ["DROPPED", name] if name != "default" => {
                Self::Dropped { name: name.parse().map_err(|_| bad())? }
            }
            ["FORGOTTEN", name, id] => Self::Forgotten {
                name: name.parse().map_err(|_| bad())?,
                id: id.parse().map_err(|_| bad())?,
            },
            ["CLOCK", ms] => Self::Clock { ms: ms.parse().map_err(|_| bad())? },
            _ => return Err(bad()),
        };
        if event.to_string() == text { Ok(event) } else { Err(bad()) }
    }
}

fn member(addr: &str, uuid: &str) -> Member {
    Member { addr: addr.to_owned(), uuid: uuid.to_owned() }
}

/// What holds for a keyspace, from `n=3`, `r=2` and so on.
fn parse_keyspace(name: &str, words: &[&str]) -> Option<Keyspace> {
    let [n, r, w, policy, sloppy, ttl] = words else { return None };
    let number = |word: &str, name: &str| word.strip_prefix(name)?.parse::<usize>().ok();
    let (n, r, w) = (number(n, "n=")?, number(r, "r=")?, number(w, "w=")?);
    let policy = policy.strip_prefix("policy=")?.parse().ok()?;
    let sloppy = match sloppy.strip_prefix("sloppy=")? {
        "on" => true,
        "off" => false,
        _ => return None,
    };
    let ttl_ms: u64 = ttl.strip_prefix("ttl=")?.parse().ok()?;
    let ttl_ms = Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
    Some(Keyspace { name: name.parse().ok()?, n, r, w, policy, sloppy, ttl_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_canonical() {
        for bad in [
            "KEYSPACE other 1",
            "KEYSPACE other n=1 r=1 w=1 policy=siblings sloppy=off",
            "KEYSPACE other n=01 r=1 w=1 policy=siblings sloppy=off ttl=0",
            "KEYSPACE other n=1 r=1 w=1 policy=last sloppy=off ttl=0",
            "KEYSPACE other n=1 r=1 w=1 policy=lww sloppy=no ttl=0",
            "KEYSPACE other n=1 w=1 r=1 policy=lww sloppy=on ttl=0",
            "KEYSPACE Other n=1 r=1 w=1 policy=lww sloppy=on ttl=0",
            "REPLICAS default 2",
            "REPLICAS other",
            "DROPPED",
            "DROPPED default",
            "FORGOTTEN other",
            "CLOCK",
            "CLOCK -1",
            "KEYSPACE default",
            "KEYSPACE default 01",
            "",
            "ADD n1",
            "ADD N1 a:1 1 u",
            "BOOT 01",
            "REMOVE n1 ",
            "BOOT -1",
            "final",
        ] {
            assert!(bad.parse::<Event>().is_err(), "{bad:?}");
        }
    }
}
