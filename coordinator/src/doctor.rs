//! doctor: gathers what is known, and lets [`ringkv_shared::doctor`] say what is wrong.

use std::collections::BTreeMap;

use ringkv_shared::doctor::{Checkup, Vitals, examine};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{DoctorReply, RebalanceState};
use ringkv_shared::protocol::node::{Debt, DiskState, SizeReply};

use crate::cluster::{Cluster, Node};

impl Cluster {
    pub(crate) async fn doctor(&self) -> DoctorReply {
        let view = self.view();
        let sizes = self.sizes(&view).await;
        let now_ms = self.now_ms();
        let debts: Vec<&Debt> = sizes.iter().flatten().flat_map(|size| &size.debts).collect();
        let rows = view.nodes.values().zip(&sizes);
        let nodes: BTreeMap<_, _> = rows
            .map(|(node, size)| (node.id.clone(), self.vitals(node, size.as_ref(), &debts, now_ms)))
            .collect();
        let anti_entropy = self.settings().anti_entropy();
        let verified_ms = self.sync.verified_ms(&view).unwrap_or(now_ms);
        let diagnosis = examine(&Checkup {
            topology: &view.topology,
            keyspaces: &view.keyspaces,
            deposed: self.deposed().map(|deposed| deposed.sentence()),
            nodes: &nodes,
            stage: view.stage,
            paused: view.paused,
            running: self.lock_job().report.state == RebalanceState::Running,
            unverified_ms: now_ms.saturating_sub(verified_ms),
            anti_entropy_ms: anti_entropy
                .map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        });
        DoctorReply { status: Status::Ok, now: diagnosis.now, next: diagnosis.next }
    }

    fn vitals(
        &self,
        node: &Node,
        size: Option<&SizeReply>,
        debts: &[&Debt],
        now_ms: u64,
    ) -> Vitals {
        let opinion = node.opinion(now_ms);
        let told = size.or(opinion.last.as_ref());
        let owed = || debts.iter().filter(|debt| debt.to == node.id);
        Vitals {
            health: opinion.health,
            for_ms: now_ms.saturating_sub(opinion.since_ms),
            stranger: opinion.stranger,
            disk: told.map_or(DiskState::Ok, |size| size.state),
            ring_epoch: size.and_then(|size| self.behind(size)),
            owed: owed().map(|debt| debt.keys).sum(),
            overflown: owed().any(|debt| debt.overflow),
            keys: told.map(|size| size.size),
        }
    }
}
