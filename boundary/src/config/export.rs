//! Where the record is sent besides: the collector of OpenTelemetry.

use std::path::PathBuf;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::value::{Reader, utf8};
use super::{Error, Source};
use crate::audit::Collector;
use crate::cli::settings;

/// The word that leaves it to the standard variables.
const STANDARD: &str = "default";
/// Where a collector listens that nobody named.
const USUAL: &str = "http://localhost:4318";
/// What is posted there is logs.
const PATH: &str = "v1/logs";

impl Reader<'_> {
    /// The collector, if somebody asked for one. Variables of the standard alone switch nothing on:
    /// they may be the command's.
    pub(super) fn collector(&self) -> Result<Option<Collector>, Error> {
        let setting = settings::OTLP_ENDPOINT;
        let given = Source::given(setting, self.args.otlp_endpoint.as_ref(), self.environment);
        let (source_name, text) = match (given, &self.file.values.otlp_endpoint) {
            (Some((source, text)), _) => {
                let text = utf8(&source, &text)?.to_owned();
                (source, text)
            }
            (None, Some(text)) => (self.key(setting), text.clone()),
            (None, None) => return Ok(None),
        };
        let standard = |name: &str| {
            let value = self.environment.variable(name)?;
            Some(value.to_string_lossy().into_owned())
        };
        let endpoint = match text.as_str() {
            "" => return Ok(None),
            STANDARD => standard("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT").unwrap_or_else(|| {
                let base = standard("OTEL_EXPORTER_OTLP_ENDPOINT");
                below(base.as_deref().unwrap_or(USUAL))
            }),
            named if has_path(named) => named.to_owned(),
            base => below(base),
        };
        if let Some(what) = wrong(&endpoint) {
            return Err(Error::Value { source_name, what: what.to_owned() });
        }
        self.collector_headers()?;
        let certificate = standard("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE")
            .or_else(|| standard("OTEL_EXPORTER_OTLP_CERTIFICATE"));
        Ok(Some(Collector { endpoint, certificate: certificate.map(PathBuf::from) }))
    }

    /// The library leaves out what it cannot read of the headers that are to go with the record. What
    /// they hold is not repeated: it is a secret most often.
    fn collector_headers(&self) -> Result<(), Error> {
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"] {
            let value = self.environment.variable(name).unwrap_or_default().to_string_lossy();
            let pairs = value.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let is_header = |pair: &str| {
                let (name, value) = pair.split_once('=')?;
                HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                HeaderValue::from_str(value.trim()).ok()
            };
            if pairs.map(is_header).any(|header| header.is_none()) {
                let what = "not a list of headers, as name=value,other=value".to_owned();
                return Err(Error::Value { source_name: Source::Variable(name), what });
            }
        }
        Ok(())
    }
}

/// The place for logs below a collector's own address.
fn below(base: &str) -> String {
    format!("{}/{PATH}", base.trim_end_matches('/'))
}

/// Whether a URL says more than where the collector is.
fn has_path(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.path() != "/")
}

/// Why a URL cannot be posted to, if it cannot. A password in it would be shown wherever the URL is.
fn wrong(url: &str) -> Option<&'static str> {
    let uri = url.parse::<Uri>().ok();
    let web = uri.as_ref().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match web.and_then(|uri| uri.authority()) {
        None => Some("not a URL of a collector, as http://127.0.0.1:4318"),
        Some(place) if place.as_str().contains('@') => Some(
            "a URL with a user's name in it is shown in places; \
             OTEL_EXPORTER_OTLP_HEADERS=Authorization=... is not",
        ),
        Some(_) => None,
    }
}
