//! The record as logs of OpenTelemetry, sent to a collector by OTLP over HTTP.
//!
//! *Standing*: the recorder puts lines into a bounded queue; a thread of its own, with a runtime of
//! its own, sends them. This is boundary's own traffic: no rule is asked about it and none can
//! forbid it. *Never*: waits on the path that it records.

mod client;
mod log;
mod request;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::object::Fields;
use super::queue::{Batch, Lane, Written};
use super::{Collector, Session};
use client::{Client, Content};
use request::Requests;

/// How many lines may wait for a slow collector.
const BOUND: usize = 8192;
/// How many are sent at once at the most: one and a half megabytes. Each request is a connection.
const MOST: usize = 2048;
/// How long lines gather before they are sent.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line as it goes into the queue.
pub(super) trait Line: Fields + Send + 'static {
    /// When it was written.
    fn time(&self) -> jiff::Timestamp;
    /// How important it is.
    fn level(&self) -> tracing::Level;
}

/// The recorder's end of the way to a collector.
#[derive(Debug)]
pub(super) struct Export<T> {
    lane: Lane<T>,
}

impl<T: Line> Export<T> {
    /// Starts the thread that sends. `lost` makes the confession that so many are missing.
    pub(super) fn start(
        to: &Collector,
        session: &Arc<Session>,
        lost: impl Fn(u64) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut sender = Sender::new(to, session, runtime)?;
        let lane = Lane::start("otlp", (BOUND, GATHER), move |batch: &mut Batch<T>| {
            let count = batch.items.len() as u64;
            batch.items.extend((batch.lost > 0).then(|| lost(batch.lost)));
            let sent = sender.send(batch.items.make_contiguous());
            Written { items: sent.min(count), is_told: sent > count }
        })?;
        Ok(Self { lane })
    }

    /// Puts a line in, or counts it as lost.
    pub(super) fn push(&self, line: T) {
        self.lane.push(line);
    }

    /// Waits until everything is sent or given up; says whether it came to that.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        self.lane.flush(patience)
    }

    /// How many lines the collector did not get.
    pub(super) fn lost(&self) -> u64 {
        self.lane.lost_in_all()
    }

    /// The same at the end, when what is still being sent is lost too.
    pub(super) fn missing(&self) -> u64 {
        self.lost().saturating_add(self.lane.unsettled())
    }
}

/// What sends. The library knows whither, how, and how often it is tried; what is sent we write.
struct Sender {
    runtime: Runtime,
    exporter: LogExporter,
    content: Content,
    requests: Requests,
    /// Whether the last try failed, so that a collector that is gone is told of once.
    is_failing: bool,
}

impl Sender {
    /// Prepares what sends to a collector. Nothing is sent yet.
    fn new(to: &Collector, session: &Session, runtime: Runtime) -> io::Result<Self> {
        let content = Content::default();
        let client = Client::new(to.certificate.as_deref(), content.clone())?;
        let exporter = LogExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&to.endpoint)
            .with_timeout(PATIENCE);
        let exporter = exporter.build().map_err(io::Error::other)?;
        let requests = Requests::new(&resource(session));
        Ok(Self { runtime, exporter, content, requests, is_failing: false })
    }

    /// Sends lines; how many of them were taken, from the first on.
    fn send(&mut self, lines: &[impl Line]) -> u64 {
        let mut sent = 0;
        for some in lines.chunks(MOST) {
            self.content.set(self.requests.request(some));
            let outcome = self.runtime.block_on(async {
                // The library's own patience is for trying again alone.
                match timeout(PATIENCE, self.exporter.export(LogBatch::new(&[]))).await {
                    Ok(outcome) => outcome.map_err(|error| error.to_string()),
                    Err(late) => Err(late.to_string()),
                }
            });
            let has_failed = outcome.is_err();
            if let Err(error) = outcome
                && !self.is_failing
            {
                tracing::warn!(error, "the record cannot be sent to the collector");
            }
            self.is_failing = has_failed;
            if has_failed {
                break;
            }
            sent += some.len() as u64;
        }
        sent
    }
}

/// Whose logs these are. What `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say goes before.
fn resource(session: &Session) -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    let text = |key: &'static str, value: String| KeyValue::new(Key::from_static_str(key), value);
    let builder = Resource::builder().with_attributes([
        text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        text("service.instance.id", session.id.to_string()),
    ]);
    if named { builder.build() } else { builder.with_service_name("boundary").build() }
}
