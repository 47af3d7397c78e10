//! The one table of names: a setting's flag, its variables and its key in the file.
//!
//! *Standing*: `config` looks a setting up here, whoever says it, and names its source in errors.

/// The names of one setting: its flag, its variables in order of precedence, its key in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The environment variables; the first that is set and not empty counts.
    pub variables: &'static [&'static str],
    /// The key in the file, if it can stand there.
    pub key: Option<&'static str>,
}

/// A row of the table.
const fn setting(
    flag: &'static str,
    variables: &'static [&'static str],
    key: Option<&'static str>,
) -> Setting {
    Setting { flag, variables, key }
}

macro_rules! table {
    ($($name:ident = $flag:literal [$($variable:literal),+] $key:expr;)+) => {
        $(
            #[doc = concat!("The names of `--", $flag, "`.")]
            pub const $name: Setting = setting($flag, &[$($variable),+], $key);
        )+
        /// The whole table, in the order of the manual.
        pub const ALL: &[Setting] = &[$($name),+];
    };
}

table! {
    CONFIG = "config" ["BOUNDARY_CONFIG", "BOUNDARY_CONFIG_FILE"] None;
    ALLOW = "allow" ["BOUNDARY_ALLOW"] Some("allowlist");
    PRESET = "preset" ["BOUNDARY_PRESETS"] Some("include");
    JAIL_TYPE = "jail-type" ["BOUNDARY_JAIL_TYPE"] Some("jail_type");
    PROXY_PORT = "proxy-port" ["PROXY_PORT"] Some("proxy_port");
    USE_REAL_DNS = "use-real-dns" ["BOUNDARY_USE_REAL_DNS"] Some("use_real_dns");
    NO_USER_NAMESPACE = "no-user-namespace" ["BOUNDARY_NO_USER_NAMESPACE"] Some("no_user_namespace");
    LOG_LEVEL = "log-level" ["BOUNDARY_LOG_LEVEL"] Some("log_level");
    LOG_DIR = "log-dir" ["BOUNDARY_LOG_DIR"] Some("log_dir");
    LOG_FORMAT = "log-format" ["BOUNDARY_LOG_FORMAT"] Some("log_format");
    AUDIT_LOG = "audit-log" ["BOUNDARY_AUDIT_LOG"] Some("audit_log");
    DISABLE_AUDIT_LOGS = "disable-audit-logs" ["DISABLE_AUDIT_LOGS"] Some("disable_audit_logs");
    LOG_PROXY_SOCKET_PATH = "log-proxy-socket-path"
        ["CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH"] Some("log_proxy_socket_path");
    ENABLE_SESSION_CORRELATION = "enable-session-correlation"
        ["BOUNDARY_SESSION_CORRELATION_ENABLED"] Some("session_correlation_enabled");
    SESSION_ID_INJECT_TARGET = "session-id-inject-target"
        ["BOUNDARY_SESSION_ID_INJECT_TARGET"] Some("session_id_inject_targets");
    UPSTREAM_PROXY = "upstream-proxy" ["BOUNDARY_UPSTREAM_PROXY"] Some("upstream_proxy");
    UPSTREAM_CA = "upstream-ca" ["BOUNDARY_UPSTREAM_CA"] Some("upstream_ca");
    LIMIT = "limit" ["BOUNDARY_LIMITS"] Some("limits");
    DOMAIN_MATCH = "domain-match" ["BOUNDARY_DOMAIN_MATCH"] Some("domain_match");
    LEARN = "learn" ["BOUNDARY_LEARN"] None;
    PROMPT = "prompt" ["BOUNDARY_PROMPT"] Some("prompt");
    UNIX_SOCKET = "unix-socket" ["BOUNDARY_UNIX_SOCKETS"] Some("unix_sockets");
    OTLP_ENDPOINT = "otlp-endpoint" ["BOUNDARY_OTLP_ENDPOINT"] Some("otlp_endpoint");
    METRICS_PORT = "metrics-port" ["BOUNDARY_METRICS_PORT"] Some("metrics_port");
    PPROF = "pprof" ["BOUNDARY_PPROF"] Some("pprof_enabled");
    PPROF_PORT = "pprof-port" ["BOUNDARY_PPROF_PORT"] Some("pprof_port");
}
