//! By which proxies what is allowed leaves: named for boundary, or for every program.

use std::ffi::OsStr;
use std::sync::Arc;

use super::Error;
use super::value::{Reader, Source};
use crate::cli::settings;
use crate::proxy::{Exempt, Gateway, Gateways};

/// The variables by which every program learns of a proxy: for plain HTTP, for all the rest, and
/// of what needs none.
const HTTP: &str = "HTTP_PROXY";
const HTTPS: &str = "HTTPS_PROXY";
const EXEMPT: &str = "NO_PROXY";

impl Reader<'_> {
    /// The proxies: boundary's own flag or variable for everything, else what every program is
    /// told, else the file. A flag that is there and empty means none, whatever the variables say.
    pub(super) fn gateways(&self) -> Result<Gateways, Error> {
        let exempt = self.environment.variable(EXEMPT).map(OsStr::to_string_lossy);
        let exempt = exempt.map(|list| Exempt::parse(&list)).unwrap_or_default();
        let setting = settings::UPSTREAM_PROXY;
        let flag = self.args.upstream_proxy.as_ref();
        if let Some((source, url)) = Source::given(setting, flag, self.environment) {
            let gateway = gateway(source, &url)?;
            return Ok(Gateways { http: gateway.clone(), tunnel: gateway, exempt });
        }
        let told = |name: &'static str| match self.environment.variable(name) {
            Some(url) => gateway(Source::Variable(name), url),
            None => Ok(None),
        };
        let (http, tunnel) = (told(HTTP)?, told(HTTPS)?);
        if http.is_some() || tunnel.is_some() {
            return Ok(Gateways { http, tunnel, exempt });
        }
        let url = self.file.values.upstream_proxy.as_deref().unwrap_or_default();
        let gateway = gateway(self.key(setting), OsStr::new(url))?;
        Ok(Gateways { http: gateway.clone(), tunnel: gateway, exempt })
    }
}

/// A proxy, or none where nothing is said. A mistake is told without the text: it may hold a
/// password.
fn gateway(source_name: Source, url: &OsStr) -> Result<Option<Arc<Gateway>>, Error> {
    let url = url.to_str().map(str::trim);
    if url == Some("") {
        return Ok(None);
    }
    match url.map(str::parse::<Gateway>) {
        Some(Ok(gateway)) => Ok(Some(Arc::new(gateway))),
        Some(Err(why)) => Err(Error::Value { source_name, what: why.to_string() }),
        None => Err(Error::Value { source_name, what: "not valid UTF-8".to_owned() }),
    }
}
