//! Where answers come in: who asks several nodes gets what each of them says, as it comes.
//!
//! Each who asks has a place, and each answer finds it by the token that its call had: the place, and the how-manieth
//! that was asked from there. There is no task or channel for a call.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use ringkv_shared::net::Router;
use slab::Slab;

/// The most nodes that are asked from one place.
pub(crate) const ASKED_MAX: usize = 64;

/// An answer: who was asked how-manieth, and the line, or nothing: the connection was lost.
pub(crate) type Answer = (usize, Option<Box<[u8]>>);

/// All places.
#[derive(Default)]
pub(crate) struct Pending(Mutex<Slab<Place>>);

#[derive(Default)]
struct Place {
    answers: VecDeque<Answer>,
    /// How many answers are still to come.
    waiting: usize,
    waker: Option<Waker>,
    /// Nobody wants the answers any more.
    is_left: bool,
}

/// Who asks; the place is given up when it is dropped.
pub(crate) struct Asking {
    pending: Arc<Pending>,
    at: usize,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Slab<Place>> {
        self.0.lock().expect("no panic while the lock is held")
    }

    pub(crate) fn open(self: &Arc<Self>) -> Asking {
        let at = self.lock().insert(Place::default());
        Asking { pending: Arc::clone(self), at }
    }
}

impl Router for Pending {
    fn answered(&self, token: u64, answer: Option<&[u8]>) {
        let (at, place) = (token as usize / ASKED_MAX, token as usize % ASKED_MAX);
        let mut places = self.lock();
        let Some(who) = places.get_mut(at) else { return };
        who.waiting = who.waiting.saturating_sub(1);
        if who.is_left {
            if who.waiting == 0 {
                places.remove(at);
            }
            return;
        }
        who.answers.push_back((place, answer.map(Into::into)));
        let waker = who.waker.take();
        drop(places);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Asking {
    /// The token of a call that is about to be made; it counts as made.
    pub(crate) fn token(&self, place: usize) -> u64 {
        self.pending.lock()[self.at].waiting += 1;
        (self.at * ASKED_MAX + place) as u64
    }

    /// A call was not made after all.
    pub(crate) fn unsent(&self) {
        self.pending.lock()[self.at].waiting -= 1;
    }

    /// The next answer.
    pub(crate) async fn next(&mut self) -> Answer {
        poll_fn(|context| {
            let place = &mut self.pending.lock()[self.at];
            if let Some(answer) = place.answers.pop_front() {
                return Poll::Ready(answer);
            }
            if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                place.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut places = self.pending.lock();
        let place = &mut places[self.at];
        if place.waiting == 0 {
            places.remove(self.at);
        } else {
            // Its number must not be another's while answers to it are under way.
            place.is_left = true;
            place.answers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_place_is_free_when_the_last_answer_is_in() {
        let pending = Arc::<Pending>::default();
        let mut asking = pending.open();
        let (first, second) = (asking.token(0), asking.token(1));
        pending.answered(second, Some(b"yes"));
        assert_eq!(asking.next().await, (1, Some(b"yes".as_slice().into())));
        drop(asking);
        assert_eq!(pending.lock().len(), 1, "one answer is to come");
        let other = pending.open();
        assert_ne!(other.token(0), first);
        pending.answered(first, None);
        assert_eq!(pending.lock().len(), 1);
        other.unsent();
        drop(other);
        assert!(pending.lock().is_empty());
    }
}
