//! What operators look at while a session runs, where they want to: its metrics, and profiles of its
//! proxy.
//!
//! *Standing*: the proxy's process opens them while it may, and serves them beside the doors.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::audit::Meters;
use crate::config::Config;
use crate::watch::{Closed, Window};

/// Open windows, with nothing to be seen yet.
#[derive(Debug)]
pub(super) struct Windows {
    metrics: Option<Window>,
    profiles: Option<Window>,
}

/// What is to be seen, and where.
#[derive(Debug)]
pub(super) struct Shown {
    metrics: Option<(Window, Registry)>,
    profiles: Option<Window>,
}

impl Windows {
    /// Opens those that are wanted.
    pub(super) fn open(config: &Config) -> Result<Self, Closed> {
        let open =
            |port: Option<u16>, option| port.map(|port| Window::open(port, option)).transpose();
        let metrics = open(config.metrics_port, "--metrics-port")?;
        Ok(Self { metrics, profiles: open(config.pprof_port, "--pprof-port")? })
    }

    /// What counts, if anybody wants to know.
    pub(super) fn meters(&self) -> Option<Arc<Meters>> {
        self.metrics.is_some().then(|| Arc::new(Meters::default()))
    }

    /// Puts what was counted into its window.
    pub(super) fn showing(self, registry: Option<Registry>) -> Shown {
        Shown { metrics: self.metrics.zip(registry), profiles: self.profiles }
    }
}

impl Shown {
    /// Shows it for as long as the runtime lasts.
    pub(super) fn serve(self) {
        if let Some((window, registry)) = self.metrics {
            tokio::spawn(async move {
                let error = window.show_metrics(registry).await;
                tracing::error!(%error, "metrics cannot be told");
            });
        }
        if let Some(window) = self.profiles {
            tokio::spawn(async move {
                let error = window.show_profiles().await;
                tracing::error!(%error, "profiles cannot be told");
            });
        }
    }
}
