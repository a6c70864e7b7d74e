//! A node as a server serves it: which way a line takes, who may ask, and when what was answered may be told.
//!
//! The [methods](crate::api) are the reference; the hot ones have a [way](crate::quick) in front of them, for one connection
//! or for many side by side.

use std::rc::Rc;

use jsonrpsee::Methods;
use ringkv_shared::Failure;
use ringkv_shared::net::{Burst, Mailbox, NODE_METHODS, NodeApiServer as _, Service, takes};
use ringkv_shared::protocol::node::Reign;

use crate::api::Api;
use crate::engine::Engine;
use crate::quick;
use crate::refusals::disobeyed;

/// An engine behind the methods on the wire.
#[derive(Clone)]
pub struct NodeService {
    pub(crate) engine: Engine,
    methods: Rc<Methods>,
}

impl NodeService {
    /// The methods of this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let methods = Rc::new(Api(engine.clone()).into_rpc().into());
        Self { engine, methods }
    }
}

impl Service for NodeService {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    fn admit(&self, method: &str, reign: Option<Reign>) -> Result<(), Failure> {
        let admitted = match (method, reign) {
            // Who asks for these may be a coordinator that does not know yet that it is not obeyed any more.
            ("size" | "cluster" | "claim" | "stats" | "log" | "history" | "compact", _) => Ok(()),
            ("adopt", under) => self.engine.admit_coordinator(under),
            (_, Some(under)) => self.engine.admit_under(under),
            (_, None) => Ok(()),
        };
        admitted.map_err(|why| disobeyed(&self.engine.options().id, reign, why))
    }

    fn quick(&self, lines: &[&[u8]], out: &mut Vec<u8>, _mailbox: &Mailbox) -> usize {
        quick::answer(&self.engine, lines, out)
    }

    const SIDE_BY_SIDE: bool = true;

    fn side_by_side(&self, bursts: &mut [Burst<'_>], out: &mut Vec<u8>) {
        quick::answer_all(&self.engine, bursts, out);
    }

    fn settled(&self) -> u64 {
        self.engine.settled()
    }

    async fn settle_up_to(&self, due: u64) {
        self.engine.settle_up_to(due).await;
    }

    fn settle(&self) -> impl Future<Output = ()> {
        self.engine.settle()
    }

    fn takes(&self, method: &str) -> Option<&'static str> {
        takes(&NODE_METHODS, method)
    }

    fn is_barrier(&self, method: &str) -> bool {
        matches!(method, "compact" | "history" | "release")
    }
}
