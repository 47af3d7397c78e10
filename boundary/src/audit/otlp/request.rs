//! A request to a collector: whose logs these are, and the logs (`ExportLogsServiceRequest`).

use opentelemetry_sdk::Resource;

use super::Line;
use super::log::Logs;
use crate::audit::wire::{Message, field_length};

/// Writes requests. What all have in common is written once.
#[derive(Debug)]
pub(super) struct Requests {
    /// What a `ResourceLogs` begins with: its `resource`.
    resource: Message,
    /// What a `ScopeLogs` begins with: its `scope`.
    scope: Message,
    logs: Logs,
}

impl Requests {
    /// Requests about one session.
    pub(super) fn new(resource: &Resource) -> Self {
        let mut attributes = Message::default();
        for (key, value) in resource {
            let (mut attribute, mut held) = (Message::default(), Message::default());
            held.text(1, &value.as_str());
            attribute.text(1, key.as_str());
            attribute.message(2, held.bytes());
            attributes.message(1, attribute.bytes());
        }
        let mut named = Message::default();
        named.text(1, "boundary");
        named.text(2, env!("CARGO_PKG_VERSION"));
        let (mut resource, mut scope) = (Message::default(), Message::default());
        resource.message(1, attributes.bytes());
        scope.message(1, named.bytes());
        Self { resource, scope, logs: Logs::default() }
    }

    /// The request with these lines.
    pub(super) fn request(&mut self, lines: &[impl Line]) -> Vec<u8> {
        let logs = self.logs.write(lines);
        let (resource, scope) = (self.resource.bytes(), self.scope.bytes());
        let of_scope = scope.len() + logs.len();
        let of_resource = resource.len() + field_length(of_scope);
        let mut request = Message::default();
        request.raw().reserve_exact(field_length(of_resource));
        request.head(1, of_resource);
        request.raw().extend_from_slice(resource);
        request.head(2, of_scope);
        request.raw().extend_from_slice(scope);
        request.raw().extend_from_slice(logs);
        request.into_bytes()
    }
}
