//! The coordinator: routes requests to storage nodes, watches them, and owns the ring.
//!
//! | module | what |
//! |---|---|
//! | `state` `log` | members, placements and epoch: a pure machine, and the text log it is replayed from |
//! | `cluster` `view` `node` | what all parts share: log, counters; the picture a request works from; a member with its connections |
//! | `fence` `herald` `recover` | one coordinator a cluster; what nodes are told; a lost one rebuilt from that |
//! | `put` `sending` `get` `batch` | writes and reads, carrying out what the machines of `quorum` decide |
//! | `writes` `requests` | the numbers of writes: given, asked for again |
//! | `leases` | clients that go straight to the nodes: views lent, writes numbered |
//! | `conditions` `checks` `replies` | only if …; what may be asked; what was answered, in words |
//! | `explain` `feed` `lag` | how a request was done; writes for who watches; how far replicas are behind |
//! | `keyspace` | what holds for all keys of a keyspace: how long values live |
//! | `changes` `staging` `plan` | addnode and all else that is wished for; when that may be; what it would do |
//! | `rebalance` `job` `latency` | a change carried out, how far it is, and whom it holds up |
//! | `survey` `bulk` | what nodes hold, counted in stretches; keys that are alike moved many at a time |
//! | `walk` `moving` | keys one by one; those that are not alike moved |
//! | `handoff` | what nodes have missed, given to them when they are back |
//! | `entropy` `collect` `sync` | replicas compared and mended; tombstones forgotten; what is remembered of both |
//! | `transfer` | copies from one node to another |
//! | `why` `lineage` `written` | where a key comes from; lines of logs in words; when numbers were given |
//! | `heartbeat` `why_down` `events` | who is alive, why that is thought, and telling it |
//! | `autoheal` | a node that is gone for long, taken off the ring if that was asked for |
//! | `picture` | the cluster at one moment, for a backup |
//! | `observe` `settings` | show, stats, where, ring, scan, config |
//! | `doctor` `what_if` | what is wrong, and what would be if |
//! | `api` `args` `server` | the methods, the settings, and the process around them |
//!
//! # Caveats
//!
//! One coordinator a cluster. It keeps no keys: while it is down, nodes keep their data and
//! nobody routes.

mod api;
mod args;
mod autoheal;
mod batch;
mod bulk;
mod changes;
mod checks;
mod clock;
mod cluster;
mod collect;
mod conditions;
mod doctor;
mod dropped;
mod entropy;
mod events;
mod explain;
mod express;
mod feed;
mod fence;
mod get;
mod handoff;
mod heartbeat;
mod herald;
mod job;
mod keyspace;
mod lag;
mod latency;
mod leases;
mod lineage;
mod log;
mod moving;
mod node;
mod observe;
mod picture;
mod plan;
mod put;
mod rebalance;
mod recover;
mod replies;
mod requests;
mod sending;
mod server;
mod settings;
mod staging;
mod state;

mod survey;
mod sync;
mod transfer;
mod view;
mod walk;
mod what_if;
mod why;
mod why_down;
mod writes;
mod written;

pub use args::CoordinatorArgs;
pub use server::main_with;
