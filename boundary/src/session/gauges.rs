//! What is measured at the moment somebody looks.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::faults;
use crate::audit::{Meters, Recorder, Session};
use crate::jail::Counts;
use crate::proxy::Proxy;
use crate::sys::memory;

/// Everything that is shown of a session.
pub(super) fn registry(
    about: &Session,
    meters: &Arc<Meters>,
    (recorder, proxy): (&Recorder, &Arc<Proxy>),
    counts: Option<Counts>,
) -> Registry {
    let mut registry = Registry::default();
    let labels = vec![
        ("session_id", about.id.to_string()),
        ("jail", about.jail.to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", about.command.clone()),
    ];
    registry.register("boundary_session", "What these figures are about", Info::new(labels));
    meters.register(&mut registry);
    let (recorder, proxy) = (recorder.clone(), Arc::clone(proxy));
    registry.register_collector(Box::new(Now { recorder, proxy, counts }));
    registry
}

/// What is asked when somebody looks.
struct Now {
    recorder: Recorder,
    proxy: Arc<Proxy>,
    /// What the command uses, where the kernel counts that.
    counts: Option<Counts>,
}

impl Now {
    /// Tells what the command uses.
    fn used(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counts) = &self.counts else { return Ok(()) };
        let usage = counts.usage();
        let memory = [
            ("boundary_command_memory_bytes", "Memory of the command", counts.memory()),
            ("boundary_command_memory_peak_bytes", "The most that it was", usage.memory_peak),
        ];
        for (name, help, bytes) in memory {
            let Some(bytes) = bytes else { continue };
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)).encode(gauge)?;
        }
        let Some(spent) = usage.cpu_ms.map(Duration::from_millis) else { return Ok(()) };
        let (name, help) = ("boundary_command_cpu_seconds", "Processor time of the command");
        let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(spent.as_secs_f64()).encode(counter)
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let load = self.proxy.load();
        let tasks = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        let gauges = [
            ("boundary_connections", "Connections of the command", Some(load.connections)),
            ("boundary_tasks", "Tasks of the proxy", Some(tasks)),
            ("boundary_upstream_idle", "Upstream connections that wait", Some(load.idle)),
            (
                "boundary_upstream_shared",
                "Upstream connections of many requests",
                Some(load.shared),
            ),
            ("boundary_leaves", "Certificates in the cache", Some(load.leaves)),
            ("boundary_names", "Names with an address of their own", Some(load.names)),
            ("boundary_hosts_http1", "Hosts known to speak HTTP/1.1 alone", Some(load.plain)),
            ("boundary_answered_addresses", "Addresses of real answers", Some(load.answered)),
            ("boundary_questions", "Questions being asked outside", Some(load.forwarded)),
            ("boundary_rooms", "Sessions inside the session", Some(load.rooms)),
            ("boundary_learned_bytes", "What a session that learns remembers", load.learned),
            ("boundary_descriptors", "Descriptors that the proxy has open", descriptors()),
            ("boundary_memory_bytes", "Memory of the proxy that is resident", memory::resident()),
            ("boundary_flows", "Entries of the kernel's table of flows", load.flows),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(gauge)?;
        }
        let totals = self.recorder.totals();
        let counters = [
            (
                "boundary_records_dropped",
                "Records and lines that a sink could not take",
                totals.dropped,
            ),
            (
                "boundary_records_undelivered",
                "Requests that the workspace agent was not told of",
                totals.undelivered,
            ),
            (
                "boundary_faults",
                "Tasks that ended by a fault of boundary's own, each with one connection",
                faults::count(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(counter)?;
        }
        self.used(&mut encoder)
    }
}

/// How many descriptors this process has open, but for the one that it takes to look.
fn descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
