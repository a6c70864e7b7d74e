//! A walk over a keyspace in *stretches*, some thousand keys each, of which the nodes count what they hold.
//!
//! ```text
//!   keys     a ─────────── k ─────────── s ───────────── z
//!   lead     census, reached k │ census, reached s │ …        whose keys lie densest
//!   others            census a to k │   census k to s │ …
//! ```
//!
//! Of each stretch it is told what each node holds of each sort of keys (see [`Sorts`]), in a few numbers: where all
//! holders have the same nothing has to be read. While the others count a stretch, the lead counts the next one. Arcs are
//! told to a node once and named from then on, see [`told`](ringkv_shared::told).
//!
//! # Caveats
//!
//! Only where all nodes answer, and only of a keyspace of which a node has [`FEW`] keys: what is less is walked key
//! by key, which tells more. If a node does not answer on the way, the rest has to be walked so, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::future::{FutureExt as _, join, join_all};
use ringkv_shared::arcs::Arcs;
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::plan::Held;
use ringkv_shared::protocol::node::{CensusReply, ShedReply, SortCount, Stretch};
use ringkv_shared::told::Told;
use ringkv_shared::topology::{Placement, Sort, Sorts};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName};

use crate::cluster::{Cluster, Node, View};
use crate::plan::everything;
use crate::walk::Range;

/// With fewer keys at every node a keyspace is walked key by key.
pub(crate) const FEW: usize = 1000;
/// Keys that the lead looks at in a stretch. What a node does with them at once takes about a millisecond, which is as
/// long as requests of others wait behind it.
const STRETCH_KEYS: usize = 2048;
/// How many cuts of the arcs are kept, of each kind.
const CUTS_MAX: usize = 64;

/// The walk.
pub(crate) struct Survey<'a> {
    pub(crate) ground: Arc<Ground<'a>>,
    next: Next,
}

/// What is surveyed, and by whom.
pub(crate) struct Ground<'a> {
    cluster: &'a Cluster,
    pub(crate) view: &'a View,
    pub(crate) space: &'a KeyspaceName,
    sorts: Sorts,
    /// Where some of the sorts are, under their numbers and as one: what one stretch asks for, mostly the next does, too.
    cuts: Mutex<[BTreeMap<BTreeSet<u16>, Arcs>; 2]>,
    nodes: Vec<Arc<Node>>,
    /// Whose keys lie densest: one of `nodes`.
    lead: usize,
}

/// Where the next stretch begins, and what the lead has counted of it.
enum Next {
    Stretch(Option<Blob>, CensusReply),
    /// The lead did not answer.
    Rest(Option<Blob>),
    End,
}

/// Some keys of the keyspace, and who holds what of them, by the numbers of their sorts.
pub(crate) struct Surveyed {
    pub(crate) span: Span,
    pub(crate) held: BTreeMap<u16, Held>,
}

/// Keys after one up to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) after: Option<Blob>,
    pub(crate) until: Option<Blob>,
}

/// What owners hold, as a stray is told of it.
pub(crate) enum Owned {
    /// The marks of all keys.
    Marks(String),
    /// Of each sort what all of it comes to.
    Sorts(Vec<SortCount>),
}

/// How it goes on.
pub(crate) enum Step {
    Stretch(Surveyed),
    /// All keys after this one have to be walked.
    Rest(Option<Blob>),
}

impl<'a> Survey<'a> {
    /// A survey by what becomes of keys between two placements; `None`: all has to be walked.
    pub(crate) async fn begin(
        cluster: &'a Cluster,
        view: &'a View,
        space: &'a KeyspaceName,
        (now, then): (&Placement, &Placement),
    ) -> Option<Self> {
        let nodes: Vec<Arc<Node>> = view.everybody().into_values().collect();
        if now.ring.members().is_empty() || nodes.iter().any(|node| node.is_down()) {
            return None;
        }
        let (all, none) = (Span::default(), Arcs::new([]));
        let first = nodes.iter().map(|node| {
            let stretch = all.stretch(space, Told::Arcs(none.clone()));
            cluster.census(node, stretch, Some(FEW), false)
        });
        let mut dense: Option<(Blob, usize)> = None;
        for (number, answer) in join_all(first).await.into_iter().enumerate() {
            let reached = answer.ok()?.reached.map(|key| (key, number));
            dense = [dense, reached].into_iter().flatten().min();
        }
        let (_, lead) = dense?;
        let sorts = Sorts::between(now, then, space)?;
        let cuts = Mutex::default();
        let ground = Ground { cluster, view, space, sorts, cuts, nodes, lead };
        let next = ground.lead_from(None).await;
        Some(Self { ground: Arc::new(ground), next })
    }

    /// The next stretch; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        let (after, census) = match std::mem::replace(&mut self.next, Next::End) {
            Next::Stretch(after, census) => (after, census),
            Next::Rest(after) => return Some(Step::Rest(after)),
            Next::End => return None,
        };
        let ground = &self.ground;
        let span = Span { after, until: census.reached.clone() };
        let others = ground.nodes.iter().enumerate().filter(|(number, _)| *number != ground.lead);
        let others = ground.count(others.map(|(_, node)| node), &span, &ground.sorts.arcs);
        let following = async {
            match &span.until {
                Some(until) => ground.lead_from(Some(until.clone())).await,
                None => Next::End,
            }
        };
        let (held, following) = join(others, following).await;
        let Some(mut held) = held else { return Some(Step::Rest(span.after)) };
        ground.add(&mut held, &ground.nodes[ground.lead], census);
        self.next = following;
        Some(Step::Stretch(Surveyed { span, held }))
    }
}

impl Ground<'_> {
    async fn lead_from(&self, after: Option<Blob>) -> Next {
        let span = Span { after: after.clone(), until: None };
        let lead = &self.nodes[self.lead];
        match self.census(lead, &span, &self.sorts.arcs, Some(STRETCH_KEYS), false).await {
            Ok(census) => Next::Stretch(after, census),
            Err(_) => Next::Rest(after),
        }
    }

    async fn census(
        &self,
        node: &Node,
        span: &Span,
        arcs: &Arcs,
        limit: Option<usize>,
        marks: bool,
    ) -> Result<CensusReply, Failure> {
        let ask = |told| self.cluster.census(node, span.stretch(self.space, told), limit, marks);
        by_name(arcs, ask).await
    }

    /// What these nodes hold; `None` if one does not answer, or has too many keys there.
    async fn count(
        &self,
        nodes: impl Iterator<Item = &Arc<Node>>,
        span: &Span,
        arcs: &Arcs,
    ) -> Option<BTreeMap<u16, Held>> {
        let asked = nodes.map(|node| {
            let census = self.census(node, span, arcs, None, false);
            census.map(move |census| (node, census))
        });
        let mut held = BTreeMap::new();
        for (node, census) in join_all(asked).await {
            let census = census.ok().filter(|census| census.reached.is_none())?;
            self.add(&mut held, node, census);
        }
        Some(held)
    }

    fn add(&self, held: &mut BTreeMap<u16, Held>, node: &Node, census: CensusReply) {
        for count in census.sorts {
            let held = held.entry(count.sort).or_default();
            let at = held.partition_point(|(other, _)| *other < node.id);
            held.insert(at, (node.id.clone(), count));
        }
    }

    /// What all nodes hold of these sorts by now.
    pub(crate) async fn again(
        &self,
        span: &Span,
        sorts: &BTreeSet<u16>,
    ) -> Option<BTreeMap<u16, Held>> {
        self.count(self.nodes.iter(), span, &self.arcs(sorts)).await
    }

    /// Where these sorts are, under their numbers.
    fn arcs(&self, sorts: &BTreeSet<u16>) -> Arcs {
        self.cut(sorts, false)
    }

    /// These sorts and all others that are so, but for those of which something else is held here: mostly the same
    /// for all stretches, so that nodes know where they are.
    pub(crate) fn along(
        &self,
        these: &BTreeSet<u16>,
        but: &BTreeSet<u16>,
        are_so: impl Fn(&Sort) -> bool,
    ) -> BTreeSet<u16> {
        let others = (1..).zip(&self.sorts.sorts).filter(|(_, sort)| are_so(sort));
        let others = others.map(|(number, _)| number).filter(|number| !but.contains(number));
        others.chain(these.iter().copied()).collect()
    }

    /// Where these sorts are, as one.
    pub(crate) fn area(&self, sorts: &BTreeSet<u16>) -> Arcs {
        self.cut(sorts, true)
    }

    fn cut(&self, sorts: &BTreeSet<u16>, as_one: bool) -> Arcs {
        let mut cuts = self.cuts.lock().expect("no panic while the lock is held");
        let known = &mut cuts[usize::from(as_one)];
        if let Some(arcs) = known.get(sorts) {
            return arcs.clone();
        }
        let number = |sort: u16| if as_one { 1 } else { sort };
        let cut = |sort: u16| if sorts.contains(&sort) { number(sort) } else { 0 };
        let arcs = self.sorts.arcs.sorted(cut);
        if known.len() == CUTS_MAX {
            known.clear();
        }
        known.insert(sorts.clone(), arcs.clone());
        arcs
    }

    /// A walk over these sorts, if there are any.
    pub(crate) fn rest(&self, span: &Span, sorts: &BTreeSet<u16>) -> Option<Range> {
        let Span { after, until } = span.clone();
        let arcs = (!sorts.is_empty()).then(|| self.area(sorts))?;
        Some(Range { after, until, arcs: Some(arcs), ..everything(self.space) })
    }

    /// What the keys of a sort have in common.
    pub(crate) fn sort(&self, number: u16) -> &Sort {
        &self.sorts.sorts[usize::from(number) - 1]
    }

    /// What a node holds of these sorts, if it is what it was, with the mark of each key.
    pub(crate) async fn marks(
        &self,
        node: &Node,
        span: &Span,
        seen: &BTreeMap<u16, SortCount>,
    ) -> Option<String> {
        let sorts = seen.keys().copied().collect();
        let census = self.census(node, span, &self.arcs(&sorts), None, true).await.ok()?;
        let is_same = |now: &SortCount| seen[&now.sort].digest == now.digest;
        let same = census.sorts.len() == seen.len() && census.sorts.iter().all(is_same);
        census.marks.filter(|_| same && census.reached.is_none())
    }

    /// Has a node forget what it holds of these sorts as their owners do.
    pub(crate) async fn shed(
        &self,
        node: &Node,
        span: &Span,
        sorts: &BTreeSet<u16>,
        owned: Owned,
    ) -> Result<ShedReply, Failure> {
        let (arcs, marks, counts) = match owned {
            Owned::Marks(marks) => (self.area(sorts), Some(marks), None),
            Owned::Sorts(counts) => (self.arcs(sorts), None, Some(counts)),
        };
        let shed = |told| {
            let stretch = span.stretch(self.space, told);
            let (marks, counts) = (marks.clone(), counts.clone());
            let call = async move |client: &Client| {
                NodeApiClient::shed(client, stretch, marks, counts).await
            };
            self.cluster.batch(node, call)
        };
        by_name(&arcs, shed).await
    }
}

impl Span {
    fn stretch(&self, space: &KeyspaceName, arcs: Told) -> Stretch {
        let Self { after, until } = self.clone();
        Stretch { keyspace: space.clone(), after, until, arcs }
    }
}

/// Asks a node by the name of arcs; if it does not know them by that, once more with all of them.
pub(crate) async fn by_name<T, F>(arcs: &Arcs, ask: impl Fn(Told) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let told = Told::short(arcs);
    let may_know = matches!(told, Told::Name(_));
    match ask(told).await {
        Err(failure) if may_know && failure.name == ErrorName::NotApplied => {
            ask(Told::Arcs(arcs.clone())).await
        }
        answer => answer,
    }
}

impl Surveyed {
    /// How many keys there are, about: of each sort what the node has that has most.
    pub(crate) fn keys(&self) -> u64 {
        let most = |held: &Held| held.iter().map(|(_, count)| count.keys).max().unwrap_or(0);
        self.held.values().map(most).sum()
    }
}

impl Cluster {
    /// What a node holds of a stretch, of which it looks at so many keys.
    pub(crate) async fn census(
        &self,
        node: &Node,
        stretch: Stretch,
        limit: Option<usize>,
        marks: bool,
    ) -> Result<CensusReply, Failure> {
        let call = async move |client: &Client| {
            NodeApiClient::census(client, stretch, limit, Some(marks)).await
        };
        self.batch(node, call).await
    }
}
