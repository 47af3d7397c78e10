//! Memory when a crowd of connections has gone.
//!
//! *Standing*: beside the proxy's service, for as long as that lasts. A C library keeps what was freed,
//! and what ten thousand connections needed for a moment a session would hold to its end. *Never*:
//! asks for it while as many come as go.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::proxy::Proxy;
use crate::sys::memory;

/// How often it is looked.
const BEAT: Duration = Duration::from_secs(1);

/// How many make a crowd.
const CROWD: usize = 256;

/// Gives memory back whenever a crowd has gone, and as long as more is held than may be.
pub(super) async fn keep(proxy: Arc<Proxy>) {
    let mut tide = Tide::default();
    let mut beats = interval(BEAT);
    loop {
        beats.tick().await;
        let is_due = tide.has_gone(proxy.held()) || proxy.is_overweight();
        if is_due && spawn_blocking(memory::give_back).await.is_err() {
            return;
        }
    }
}

/// How many there were, since it was last low.
#[derive(Debug, Default)]
struct Tide {
    most: usize,
    before: usize,
}

impl Tide {
    /// Whether a crowd has gone, and no more are going.
    fn has_gone(&mut self, now: usize) -> bool {
        let is_ebbing = now < std::mem::replace(&mut self.before, now);
        self.most = self.most.max(now);
        let has_gone = !is_ebbing && self.most.saturating_sub(now) >= CROWD;
        if has_gone {
            self.most = now;
        }
        has_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_gone_when_no_more_of_it_go() {
        let mut tide = Tide::default();
        for (now, has_gone) in [
            (0, false),
            (CROWD - 1, false),
            (0, false),
            (0, false),
            (10 * CROWD, false),
            (5 * CROWD, false),
            (100, false),
            (100, true),
            (100, false),
            (0, false),
            (0, false),
            (CROWD + 1, false),
            (0, false),
            (1, true),
        ] {
            assert_eq!(tide.has_gone(now), has_gone, "{now}");
        }
    }
}
