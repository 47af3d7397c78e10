//! A request to a collector: whose logs these are, and the logs (`ExportLogsServiceRequest`).

use opentelemetry_sdk::Resource;

use super::wire::Message;
use super::{Line, log};

/// Writes requests. What all have in common is written once.
#[derive(Debug)]
pub(super) struct Requests {
    /// The `resource` of a `ResourceLogs`.
    resource: Message,
    /// The `scope` of a `ScopeLogs`.
    scope: Message,
    /// Room for one log.
    log: Message,
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
        let mut scope = Message::default();
        scope.text(1, "boundary");
        scope.text(2, env!("CARGO_PKG_VERSION"));
        Self { resource: attributes, scope, log: Message::default() }
    }

    /// The request with these lines.
    pub(super) fn request(&mut self, lines: &[impl Line]) -> Vec<u8> {
        let mut of_scope = Message::default();
        of_scope.message(1, self.scope.bytes());
        for line in lines {
            self.log.clear();
            log::write(&mut self.log, line);
            of_scope.message(2, self.log.bytes());
        }
        let mut of_resource = Message::default();
        of_resource.message(1, self.resource.bytes());
        of_resource.message(2, of_scope.bytes());
        let mut request = Message::default();
        request.message(1, of_resource.bytes());
        request.into_bytes()
    }
}
