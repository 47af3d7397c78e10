//! What the settings of the record say: who gets it, and what ties it to what others record.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::value::{Reader, Source, parse_bool, read, utf8};
use super::{DomainMatch, Error, Forward, Labels, RuleSet, Warning};
use crate::audit::{OnError, Rotation, Size};
use crate::cli::settings;
use crate::rules::Rule;

/// How many audit files there are at the most, if nobody says otherwise.
const FILES: u32 = 5;

impl Reader<'_> {
    /// When the audit file is set aside for a new one.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        let values = &self.file.values;
        let files = values.audit_files.map_or(FILES, NonZeroU32::get);
        read(values.audit_max_size).map(|Size(size)| Rotation { size, files })
    }

    /// What happens to requests when the audit file cannot be written, where there is one.
    pub(super) fn audit_on_error(&self, has_file: bool) -> Result<OnError, Error> {
        let on_error = read(self.file.values.audit_on_error).unwrap_or_default();
        if on_error == OnError::Deny && !has_file {
            let source_name = Source::Key("audit_on_error", self.file.path.clone());
            let what = "`deny` needs an audit file: audit_log or log_dir".to_owned();
            return Err(Error::Value { source_name, what });
        }
        Ok(on_error)
    }

    /// Keys of rotation that say nothing where there is nothing to rotate.
    pub(super) fn idle(&self, has_file: bool) -> Vec<Warning> {
        let values = &self.file.values;
        let is_sized = values.audit_max_size.is_some();
        let keys = [
            ("audit_max_size", "audit_log or log_dir", is_sized && !has_file),
            ("audit_files", "audit_max_size", values.audit_files.is_some() && !is_sized),
        ];
        let idle = keys.into_iter().filter(|(_, _, is_idle)| *is_idle);
        idle.map(|(key, needs, _)| Warning::Idle { key, needs }).collect()
    }

    /// The workspace agent that gets the record, unless that is switched off.
    pub(super) fn forward(&self) -> Result<Option<Forward>, Error> {
        let (socket, source) = self.agent_socket()?;
        let is_on = !self.disable_audit_logs()?;
        Ok(is_on.then_some(Forward { socket, is_named: source.is_some() }))
    }

    /// The workspace agent's socket, and who named it if anybody did.
    fn agent_socket(&self) -> Result<(PathBuf, Option<Source>), Error> {
        let setting = settings::LOG_PROXY_SOCKET_PATH;
        let flag = self.args.log_proxy_socket_path.as_ref();
        let named = self.file.values.log_proxy_socket_path.as_ref();
        if let Some(path) = self.path(setting, flag, named)? {
            let source = Source::given(setting, flag, self.environment).map(|(source, _)| source);
            return Ok((path, source.or_else(|| Some(self.key(setting)))));
        }
        let temporary = self.environment.variable("TMPDIR").unwrap_or_else(|| OsStr::new("/tmp"));
        Ok((PathBuf::from(temporary).join("boundary-audit.sock"), None))
    }

    /// Whether forwarding to the workspace agent is off.
    fn disable_audit_logs(&self) -> Result<bool, Error> {
        let flag = self.args.disable_audit_logs.as_ref();
        let given = self.word(settings::DISABLE_AUDIT_LOGS, flag, parse_bool)?;
        Ok(given.or(self.file.values.disable_audit_logs).unwrap_or(false))
    }

    /// Which requests carry the number of their record: those that are named, else the workspace's
    /// own gateway for models. None unless that is asked for.
    pub(super) fn correlated(&self, reading: DomainMatch) -> Result<RuleSet, Error> {
        let (values, setting) = (&self.file.values, settings::ENABLE_SESSION_CORRELATION);
        let flag = self.args.enable_session_correlation.as_ref();
        let given = self.word(setting, flag, parse_bool)?;
        if !given.or(values.session_correlation_enabled).unwrap_or(false) {
            return Ok(RuleSet::default());
        }
        let mut targets = self.targets()?;
        if targets.is_empty() {
            targets = self.own_gateway()?;
        }
        Ok(RuleSet::new(targets, reading))
    }

    /// The targets that are named: the file's, the environment's, the flags'.
    fn targets(&self) -> Result<Vec<Rule>, Error> {
        let setting = settings::SESSION_ID_INJECT_TARGET;
        let mut targets = Vec::new();
        for text in self.file.values.session_id_inject_targets.iter().flatten() {
            let key = setting.key.unwrap_or(setting.flag);
            let target = parse_target(self.key(setting), text);
            targets.push(target.map_err(|error| self.file.locating(key, text.trim(), error))?);
        }
        let mut named: Vec<(Source, String)> = Vec::new();
        if let Some((source, text)) = Source::variable(setting, self.environment) {
            let lines = utf8(&source, &text)?.lines().map(str::to_owned);
            named.extend(lines.map(|line| (source.clone(), line)));
        }
        for text in &self.args.session_id_inject_target {
            let source = Source::Flag(setting.flag);
            named.push((source.clone(), utf8(&source, text)?.to_owned()));
        }
        for (source, text) in named {
            targets.push(parse_target(source, &text)?);
        }
        Ok(targets)
    }

    /// Where the workspace's own gateway for models is, by its old path and its new one. On that host
    /// alone: below it are the applications of whoever uses the deployment.
    fn own_gateway(&self) -> Result<Vec<Rule>, Error> {
        let source_name = Source::Variable("CODER_AGENT_URL");
        let url = self.environment.variable("CODER_AGENT_URL").and_then(OsStr::to_str);
        let host = url.and_then(|url| {
            let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
            let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
            let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
            let parts = place.rsplit_once(':').filter(|(_, port)| is_port(port));
            let host = parts.map_or(place, |(host, _)| host);
            (!host.is_empty()).then_some(host)
        });
        let Some(host) = host else {
            let what = "session correlation needs this workspace's URL, or a target".to_owned();
            return Err(Error::Value { source_name, what });
        };
        ["ai-gateway", "aibridge"]
            .map(|name| format!("host={host} path=/api/v2/{name}/*"))
            .iter()
            .map(|text| parse_rule(&source_name, text))
            .collect()
    }

    /// What the workspace says of itself.
    pub(super) fn labels(&self) -> Labels {
        let text = |names: &[&str]| {
            let value = names.iter().find_map(|name| self.environment.variable(name));
            value.map(|value| value.to_string_lossy().into_owned())
        };
        Labels {
            workspace_id: text(&["CODER_WORKSPACE_ID"]),
            workspace_name: text(&["CODER_WORKSPACE_NAME"]),
            owner: text(&["CODER_WORKSPACE_OWNER_NAME", "CODER_WORKSPACE_OWNER"]),
            template_id: text(&["CODER_WORKSPACE_TEMPLATE_ID"]),
            template_version_id: text(&["CODER_WORKSPACE_TEMPLATE_VERSION_ID"]),
        }
    }
}

/// A target: a rule that says which hosts it is about.
fn parse_target(source_name: Source, text: &str) -> Result<Rule, Error> {
    let rule = parse_rule(&source_name, text.trim())?;
    if rule.names_hosts() {
        return Ok(rule);
    }
    let what = format!("`{}`: a target needs a domain", text.escape_debug());
    Err(Error::Value { source_name, what })
}

/// A rule, or where it stops making sense.
fn parse_rule(source: &Source, text: &str) -> Result<Rule, Error> {
    text.parse().map_err(|mistake| Error::Rule {
        source_name: source.clone(),
        text: text.to_owned(),
        mistake,
    })
}
