//! Answers to calls that were taken over by a service and end later, outside of the connection's own task.
//!
//! The service keeps a [`Ticket`] for each. What is answered gathers here, and the connection's task, woken once
//! for all that comes in a turn of the event loop, sends it with one write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Where answers gather; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Mailbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// There was a ticket: until then there is nothing to look at, as in most connections of a node.
    used: AtomicBool,
    /// Calls that have a ticket.
    due: AtomicUsize,
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    answers: Vec<u8>,
    /// A ticket has ended since this was last looked at.
    news: bool,
    waker: Option<Waker>,
}

/// One answer that is to come.
#[derive(Debug)]
pub struct Ticket(Option<Mailbox>);

impl Mailbox {
    /// One more answer is going to come.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.0.used.store(true, Ordering::Relaxed);
        self.0.due.fetch_add(1, Ordering::Relaxed);
        Ticket(Some(self.clone()))
    }

    /// How many are to come.
    pub(super) fn due(&self) -> usize {
        self.0.due.load(Ordering::Relaxed)
    }

    /// Whether there was ever a ticket. Only who serves the connection makes them.
    fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Ready when a ticket has ended since the last time.
    pub(super) fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_used() {
            return Poll::Pending;
        }
        let mut mail = self.lock();
        if std::mem::take(&mut mail.news) {
            return Poll::Ready(());
        }
        match &mut mail.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            other => *other = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Moves what has gathered behind what is in `out`.
    pub(super) fn empty_into(&self, out: &mut Vec<u8>) {
        if !self.is_used() {
            return;
        }
        let mut mail = self.lock();
        if out.is_empty() {
            std::mem::swap(out, &mut mail.answers);
        } else {
            out.append(&mut mail.answers);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.0.mail.lock().expect("no panic while the lock is held")
    }

    fn ended(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut mail = self.lock();
        write(&mut mail.answers);
        self.0.due.fetch_sub(1, Ordering::Relaxed);
        let was_news = std::mem::replace(&mut mail.news, true);
        if !was_news && let Some(waker) = &mail.waker {
            waker.wake_by_ref();
        }
    }
}

impl Ticket {
    /// Answers with what `write` appends: one JSON text, to which the end of the line is added.
    pub fn answer(mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(mailbox) = self.0.take() else { return };
        mailbox.ended(|out| {
            write(out);
            out.push(b'\n');
        });
    }
}

impl Drop for Ticket {
    /// Whoever was to answer is gone: nobody waits for it any more.
    fn drop(&mut self) {
        if let Some(mailbox) = &self.0 {
            mailbox.ended(|_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_gathers_and_wakes_once() {
        let mailbox = Mailbox::default();
        let mut cx = Context::from_waker(Waker::noop());
        let (first, second, lost) = (mailbox.ticket(), mailbox.ticket(), mailbox.ticket());
        assert_eq!((mailbox.due(), mailbox.poll_news(&mut cx)), (3, Poll::Pending));
        first.answer(|out| out.extend_from_slice(b"1"));
        second.answer(|out| out.extend_from_slice(b"2"));
        drop(lost);
        assert_eq!((mailbox.due(), mailbox.poll_news(&mut cx)), (0, Poll::Ready(())));
        assert_eq!(mailbox.poll_news(&mut cx), Poll::Pending);
        let mut out = b"0\n".to_vec();
        mailbox.empty_into(&mut out);
        mailbox.empty_into(&mut out);
        assert_eq!(out, b"0\n1\n2\n");
    }
}
