//! How long a picture of the cluster holds, and how it is renewed.
//!
//! A lease is renewed by use: a request that finds it half over has it renewed in the background, and only one
//! that finds it over has to wait. A client that is asked nothing asks nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::net::{Client as Connection, ClusterApiClient, Peer};
use ringkv_shared::protocol::lease::LeaseReply;
use ringkv_shared::{ErrorName, Failure, NodeId};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::pending::Pending;
use crate::view::View;
use crate::{DEADLINE, coordinator_at};

/// A picture, for a while.
pub(crate) struct Lease {
    pub(crate) view: Arc<View>,
    /// Nodes that are DOWN.
    pub(crate) down: BTreeSet<NodeId>,
    /// How long a request may take.
    pub(crate) timeout: Duration,
    /// After how long a read asks one more.
    pub(crate) hedge: Duration,
    /// When to renew it.
    half: Instant,
    /// When it is over.
    until: Instant,
}

/// The lease of a client.
#[derive(Clone)]
pub(crate) struct Leases(Arc<Inner>);

struct Inner {
    coordinator: Arc<Peer>,
    addr: String,
    pending: Arc<Pending>,
    held: Mutex<Option<Held>>,
    /// One at a time renews.
    renewing: Arc<tokio::sync::Mutex<()>>,
}

/// The last lease.
#[derive(Clone)]
struct Held {
    lease: Arc<Lease>,
    /// Whether it is known to be over before its time.
    is_over: bool,
}

impl Held {
    fn is_good(&self, now: Instant, until: impl Fn(&Lease) -> Instant) -> bool {
        !self.is_over && now < until(&self.lease)
    }
}

impl Leases {
    pub(crate) fn new(coordinator: Arc<Peer>, addr: &str, pending: Arc<Pending>) -> Self {
        let (addr, held, renewing) = (addr.to_owned(), Mutex::default(), Arc::default());
        Self(Arc::new(Inner { coordinator, addr, pending, held, renewing }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.held.lock().expect("no panic while the lock is held")
    }

    /// The lease that holds, renewed if it is over.
    ///
    /// # Errors
    ///
    /// The coordinator does not answer, or was replaced.
    pub(crate) async fn current(&self) -> Result<Arc<Lease>, Failure> {
        let now = Instant::now();
        let held = self.lock().clone().filter(|held| held.is_good(now, |lease| lease.until));
        let Some(Held { lease, .. }) = held else {
            let one = self.0.renewing.clone().lock_owned().await;
            return self.renew(one, |lease| lease.until).await;
        };
        if now >= lease.half
            && let Ok(one) = self.0.renewing.clone().try_lock_owned()
        {
            let leases = self.clone();
            tokio::spawn(async move {
                if let Err(failure) = leases.renew(one, |lease| lease.half).await {
                    tracing::debug!("the lease is not renewed: {failure}");
                }
            });
        }
        Ok(lease)
    }

    /// Whether what was asked under a lease still holds: the picture is in force.
    ///
    /// # Errors
    ///
    /// Those of [`Leases::current`].
    pub(crate) async fn holds(&self, lease: &Lease) -> Result<bool, Failure> {
        self.current().await.map(|current| Arc::ptr_eq(&current.view, &lease.view))
    }

    /// Somebody said that a picture is not in force any more: another is asked for.
    pub(crate) fn end(&self, lease: &Lease) {
        if let Some(held) = &mut *self.lock() {
            held.is_over |= Arc::ptr_eq(&held.lease.view, &lease.view);
        }
    }

    /// Asks for another lease, unless somebody has meanwhile: one that is good until later than now.
    async fn renew(
        &self,
        _one: OwnedMutexGuard<()>,
        good: impl Fn(&Lease) -> Instant,
    ) -> Result<Arc<Lease>, Failure> {
        let asked = Instant::now();
        let before = self.lock().clone();
        if let Some(held) = before.as_ref().filter(|held| held.is_good(asked, good)) {
            return Ok(Arc::clone(&held.lease));
        }
        let before = before.map(|held| Arc::clone(&held.lease.view));
        let known = before.as_ref().map(|view| view.id);
        let ask = async move |c: &Connection| ClusterApiClient::lease(c, known).await;
        let reply = self.0.coordinator.call(DEADLINE, ask).await;
        let reply = reply.map_err(|error| error.into_failure(&coordinator_at(&self.0.addr)))?;
        let lease = Arc::new(self.lease_of(reply, asked, before.as_ref())?);
        *self.lock() = Some(Held { lease: Arc::clone(&lease), is_over: false });
        Ok(lease)
    }

    fn lease_of(
        &self,
        reply: LeaseReply,
        asked: Instant,
        before: Option<&Arc<View>>,
    ) -> Result<Lease, Failure> {
        let view = match (&reply.map, before) {
            (Some(map), _) => {
                Arc::new(View::of(reply.view, map, before.map(|view| &**view), &self.0.pending))
            }
            (None, Some(before)) if before.id == reply.view => Arc::clone(before),
            (None, _) => {
                let message = format!("{} lent a picture and did not send it", self.0.addr);
                return Err(Failure::new(ErrorName::NotReady, message));
            }
        };
        let lasts = Duration::from_millis(reply.lasts_ms);
        Ok(Lease {
            view,
            down: reply.down.into_iter().collect(),
            timeout: Duration::from_millis(reply.timeout_ms),
            hedge: Duration::from_millis(reply.hedge_ms),
            half: asked + lasts / 2,
            until: asked + lasts,
        })
    }
}
