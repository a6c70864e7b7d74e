//! Tells the nodes what the cluster is from now on.

use ringkv_shared::Failure;

use crate::cluster::Cluster;

impl Cluster {
    /// Waits until no request works from an older view.
    pub(crate) async fn adopted(&self) -> Result<(), Failure> {
        self.older_views_unused().await;
        Ok(())
    }
}
