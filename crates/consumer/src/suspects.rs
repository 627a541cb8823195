use std::sync::Arc;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Messages that may have crashed the process. A message that was marked at a crash is attempted
/// while no other marked message is, so that another crash identifies it.
///
/// A crash ends every subscription of a process, so they share this: see
/// [`Consumer::suspects`](crate::Consumer::suspects). Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Suspects(Arc<RwLock<()>>);

impl Suspects {
    /// Waits until no suspect runs alone.
    pub(crate) async fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().await
    }

    /// Waits until no other marked message runs.
    pub(crate) async fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_suspect_is_alone_among_all_that_share_them() {
        let suspects = Suspects::default();
        let of_another_subscription = suspects.clone();
        let alone = suspects.exclusive().now_or_never().unwrap();
        assert!(of_another_subscription.exclusive().now_or_never().is_none());
        assert!(of_another_subscription.shared().now_or_never().is_none());
        drop(alone);
        assert!(of_another_subscription.shared().now_or_never().is_some());
    }
}
