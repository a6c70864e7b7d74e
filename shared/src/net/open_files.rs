//! How many connections the process may have: each is an open file, and of these the system allows so many.
//!
//! Shells start processes with a *soft* limit of mostly 1,024, which a process may raise by itself up to the *hard* one.
//!
//! # Caveats
//!
//! The hard limit is for whoever runs the machine: `ulimit -Hn`, or `LimitNOFILE=` of a service.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open besides the connections of its server: log, snapshots, links to other processes.
const OTHER_FILES: u64 = 512;

/// Makes room for so many connections, as far as the system allows; warns if that is less.
pub fn make_room_for(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    let allowed = raise(wanted);
    if allowed < wanted {
        tracing::warn!(
            connections,
            files = allowed,
            "fewer connections than --max-connections are possible: the system allows the process too few open files \
             (ulimit -Hn)"
        );
    }
}

/// Raises the soft limit to what is wanted or to the hard one; says what it is then.
fn raise(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (current, maximum) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let next = wanted.min(maximum);
    if next <= current {
        return current;
    }
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit { current: Some(next), maximum: (maximum < u64::MAX).then_some(maximum) },
    );
    if raised.is_ok() { next } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_raised_is_and_nothing_is_lowered() {
        let before = getrlimit(Resource::Nofile);
        let current = before.current.unwrap_or(u64::MAX);
        assert_eq!(raise(1), current);
        let maximum = before.maximum.unwrap_or(u64::MAX);
        assert_eq!(raise(u64::MAX), maximum);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), maximum);
    }
}
