//! What a run is told: every option of `boundary [options] -- command`.
//!
//! *Standing*: [`super::parse`] fills it; `config` gives it a meaning.

use std::ffi::OsString;

use super::PolicyArgs;

/// Every flag as it was typed: text, without a meaning yet.
///
/// Values stay text so that a flag, a variable and a file key are read by the same code and
/// complained about in the same words.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Args {
    /// Where rules come from.
    #[command(flatten)]
    pub policy: PolicyArgs,

    /// Deny guarded addresses alone; write a policy to FILE
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    pub learn: Option<OsString>,
    /// Ask where no rule permits, here or through PROGRAM
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true,
          default_missing_value = "terminal", help_heading = "Policy")]
    pub prompt: Option<OsString>,

    /// Jail: auto, ebpf, nsjail, landjail [default: auto]
    #[arg(long, value_name = "TYPE", help_heading = "Jail and proxy")]
    pub jail_type: Option<OsString>,
    /// Port of the proxy on loopback [default: 8080 if free]
    #[arg(long, value_name = "PORT", help_heading = "Jail and proxy")]
    pub proxy_port: Option<OsString>,
    /// Also trust the certificates in FILE upstream (repeat)
    #[arg(long, value_name = "FILE", help_heading = "Jail and proxy")]
    pub upstream_ca: Vec<OsString>,
    /// The proxy by which what is allowed leaves.
    #[arg(
        long,
        value_name = "URL",
        help_heading = "Jail and proxy",
        help = "Leave by this proxy [default: HTTPS_PROXY and HTTP_PROXY]"
    )]
    pub upstream_proxy: Option<OsString>,
    /// Let the command use the host's unix socket at PATH (repeat)
    #[arg(long, value_name = "PATH", help_heading = "Jail and proxy")]
    pub unix_socket: Vec<OsString>,
    /// Set a limit, e.g. headers=200; docs/limits.md has all (repeat)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Jail and proxy")]
    pub limit: Vec<OsString>,
    /// Ask the host's resolver for names that a rule covers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Jail and proxy")]
    pub use_real_dns: Option<OsString>,
    /// Raise nsjail without a user namespace, which takes root
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Jail and proxy")]
    pub no_user_namespace: Option<OsString>,

    /// error, warn, info or debug [default: warn]
    #[arg(long, value_name = "LEVEL", help_heading = "Record")]
    pub log_level: Option<OsString>,
    /// Log and audit files go to DIR, not to stderr
    #[arg(long, value_name = "DIR", help_heading = "Record")]
    pub log_dir: Option<OsString>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Record")]
    pub log_format: Option<OsString>,
    /// Append one JSON line a decision to PATH
    #[arg(long, value_name = "PATH", help_heading = "Record")]
    pub audit_log: Option<OsString>,
    /// Do not forward the record to the workspace agent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Record")]
    pub disable_audit_logs: Option<OsString>,

    /// The workspace agent's audit socket
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Record",
        help = "Agent's socket [default: $TMPDIR/boundary-audit.sock]"
    )]
    pub log_proxy_socket_path: Option<OsString>,

    /// Put the session's id into requests to the gateway
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Record")]
    pub enable_session_correlation: Option<OsString>,
    /// Session's id into requests RULE describes (repeat)
    #[arg(long, value_name = "RULE", help_heading = "Record")]
    pub session_id_inject_target: Vec<OsString>,

    /// Send the record to URL by OTLP; default: OTEL_*
    #[arg(long, value_name = "URL", help_heading = "Record")]
    pub otlp_endpoint: Option<OsString>,
    /// Metrics for Prometheus at 127.0.0.1:PORT/metrics
    #[arg(long, value_name = "PORT", help_heading = "Record")]
    pub metrics_port: Option<OsString>,
    /// CPU profiles of boundary at 127.0.0.1:PORT
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Record")]
    pub pprof: Option<OsString>,
    /// Port of the CPU profiles [default: 6060]
    #[arg(long, value_name = "PORT", help_heading = "Record")]
    pub pprof_port: Option<OsString>,

    /// The command and its arguments, after `--`.
    #[arg(last = true, value_name = "command", hide = true)]
    pub command: Vec<OsString>,
}
