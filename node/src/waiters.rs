//! Who waits for lines of the log to be safe.
//!
//! Each waits for one line, and is woken once, when that is safe. Who asks again before, because something else woke
//! its task, keeps its place.
//!
//! # Caveats
//!
//! Who stops waiting stays in the list until its line is safe, and its task is then woken for nothing.

use std::task::{Context, Waker};

/// When a line is safe to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safe {
    /// By the policy: its replies may leave.
    Acknowledged(u64),
    /// On the disk, whatever the policy.
    Durable(u64),
}

impl Safe {
    /// Whether it is, when the log is safe up to these lines.
    pub(crate) const fn is_reached(self, acknowledged: u64, durable: u64) -> bool {
        match self {
            Self::Acknowledged(seq) => acknowledged >= seq,
            Self::Durable(seq) => durable >= seq,
        }
    }
}

/// Who waits, in no order.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<(Safe, Waker)>);

impl Waiters {
    /// The task of `cx` waits, too; `place` is its own, to be kept while it waits.
    pub(crate) fn join(&mut self, until: Safe, place: &mut Option<Waker>, cx: &Context<'_>) {
        if !place.as_ref().is_some_and(|place| place.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
            self.0.push((until, cx.waker().clone()));
        }
    }

    /// Takes out whom to wake when it is safe up to these lines.
    pub(crate) fn take(&mut self, acknowledged: u64, durable: u64) -> Vec<Waker> {
        let reached = self.0.extract_if(.., |(until, _)| until.is_reached(acknowledged, durable));
        reached.map(|(_, waker)| waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn each_waits_once_and_for_its_own_line() {
        let (first, second) = (Waker::from(Arc::new(Task)), Waker::from(Arc::new(Task)));
        let (mut waiters, mut places) = (Waiters::default(), [None, None]);
        for _ in 0..2 {
            waiters.join(Safe::Acknowledged(7), &mut places[0], &Context::from_waker(&first));
            waiters.join(Safe::Durable(7), &mut places[1], &Context::from_waker(&second));
        }
        assert_eq!(waiters.0.len(), 2);
        assert!(waiters.take(6, 6).is_empty());
        let woken = waiters.take(7, 6);
        assert!(woken.len() == 1 && woken[0].will_wake(&first));
        // A task may be polled by way of another waker; the one that it gave last is woken.
        waiters.join(Safe::Durable(7), &mut places[1], &Context::from_waker(&first));
        assert_eq!(waiters.take(7, 7).len(), 2);
    }
}
