//! What was typed: shapes only.
//!
//! *Standing*: `main` hands the arguments to [`parse`]; [`Args`] go on to `config`, which gives them
//! a meaning. *Never*: reads a file or the environment, decides.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// A run.
    Run(Box<Args>),
    /// Text for stdout, and nothing else: help or the version.
    Show(String),
}

/// Reads a command line, the program's own name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Error> {
    match Args::try_parse_from(arguments) {
        Ok(args) => Ok(Request::Run(Box::new(args))),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            Ok(Request::Show(error.to_string()))
        }
        // The version alone, as the Go tool prints it, for scripts that compare it.
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            Ok(Request::Show(format!("{}\n", env!("CARGO_PKG_VERSION"))))
        }
        Err(error) => Err(Error::new(&error)),
    }
}

/// The command line's grammar, for help, completions and man pages.
pub fn grammar() -> clap::Command {
    Args::command()
}

/// A command line that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    what: String,
    hint: String,
}

impl Error {
    /// Keeps the first line of the parser's message, and its advice where it has some.
    fn new(error: &clap::Error) -> Self {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or("the command line does not parse");
        let what = line.strip_prefix("error: ").unwrap_or(line).to_owned();
        Self { what, hint: advice(error) }
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Names the nearest option; a bare word most often is a command without its `--`.
fn advice(error: &clap::Error) -> String {
    if let Some(ContextValue::String(near)) = error.get(ContextKind::SuggestedArg) {
        return format!("did you mean {near}? see boundary --help");
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => {
            format!("the command follows `--`: {USAGE}")
        }
        _ => format!("{USAGE}; see boundary --help"),
    }
}

/// The one way to call it.
pub const USAGE: &str = "boundary [options] -- command [args…]";

/// Every flag as it was typed: text, without a meaning yet.
///
/// Values stay text so that a flag, a variable and a file key are read by the same code and
/// complained about in the same words.
#[derive(Debug, Default, Clone, clap::Parser)]
#[command(
    name = "boundary",
    version,
    about = "Run a command so that nothing it does reaches the network except what a policy allows",
    // What this type is to the program is not what the program is to a user.
    long_about = None,
    // The last of a flag counts, as in the Go tool, so that a wrapper's flags can be overridden.
    args_override_self = true,
    override_usage = USAGE,
    max_term_width = 100,
    after_help = "Each option has an environment variable and a key in the file as well.\n\
                  Without a rule, everything is denied.\n\
                  Exit status: the command's own; 125 if boundary itself fails."
)]
pub struct Args {
    /// The policy file.
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Policy",
        help = "Policy file [default: ~/.config/coder_boundary/config.yaml, if it exists]"
    )]
    pub config: Option<OsString>,
    /// Permit what RULE describes, e.g. "method=GET domain=github.com" (repeat)
    #[arg(long, value_name = "RULE", help_heading = "Policy")]
    pub allow: Vec<OsString>,
    /// Read domain= with its `subdomains` or as `exact` [default: subdomains]
    #[arg(long, value_name = "READING", help_heading = "Policy")]
    pub domain_match: Option<OsString>,

    /// Jail: auto, ebpf, nsjail, landjail [default: auto]
    #[arg(long, value_name = "TYPE", help_heading = "Jail and proxy")]
    pub jail_type: Option<OsString>,
    /// Port of the proxy on loopback [default: 8080 if free]
    #[arg(long, value_name = "PORT", help_heading = "Jail and proxy")]
    pub proxy_port: Option<OsString>,
    /// Trust the certificates in FILE upstream, besides the system's (repeat)
    #[arg(long, value_name = "FILE", help_heading = "Jail and proxy")]
    pub upstream_ca: Vec<OsString>,
    /// The proxy by which what is allowed leaves.
    #[arg(
        long,
        value_name = "URL",
        help_heading = "Jail and proxy",
        help = "Send what is allowed out by this proxy [default: HTTPS_PROXY and HTTP_PROXY]"
    )]
    pub upstream_proxy: Option<OsString>,
    /// Set a limit of the proxy, e.g. headers=200; docs/limits.md has all (repeat)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Jail and proxy")]
    pub limit: Vec<OsString>,
    /// Ask the host's resolver for names that a rule covers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Jail and proxy")]
    pub use_real_dns: Option<OsString>,

    /// Log error, warn, info or debug [default: warn]
    #[arg(long, value_name = "LEVEL", help_heading = "Record")]
    pub log_level: Option<OsString>,
    /// Write the log and the audit file to DIR, not to stderr
    #[arg(long, value_name = "DIR", help_heading = "Record")]
    pub log_dir: Option<OsString>,
    /// Log as text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Record")]
    pub log_format: Option<OsString>,
    /// Append one JSON line a decision to PATH
    #[arg(long, value_name = "PATH", help_heading = "Record")]
    pub audit_log: Option<OsString>,
    /// Do not forward the record to the workspace agent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Record")]
    pub disable_audit_logs: Option<OsString>,

    // Known for compatibility; `config` refuses a run that needs one of these.
    /// Nsjail without a user namespace.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_user_namespace: Option<OsString>,
    /// The workspace agent's audit socket.
    #[arg(long, hide = true)]
    pub log_proxy_socket_path: Option<OsString>,
    /// Correlation headers towards the workspace's gateway.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_session_correlation: Option<OsString>,
    /// Where correlation headers are put.
    #[arg(long, hide = true)]
    pub session_id_inject_target: Vec<OsString>,
    /// Allow all and write the smallest policy.
    #[arg(long, hide = true)]
    pub learn: Option<OsString>,
    /// A unix socket of the host that the command may use; repeatable
    #[arg(long, value_name = "PATH")]
    pub unix_socket: Vec<OsString>,
    /// A profile endpoint.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub pprof: Option<OsString>,
    /// The profile endpoint's port.
    #[arg(long, hide = true)]
    pub pprof_port: Option<OsString>,

    /// The command and its arguments, after `--`.
    #[arg(last = true, value_name = "command", hide = true)]
    pub command: Vec<OsString>,
}

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

/// Every setting, each by its own name.
pub mod settings {
    use super::{Setting, setting};

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
        UNIX_SOCKET = "unix-socket" ["BOUNDARY_UNIX_SOCKETS"] Some("unix_sockets");
        PPROF = "pprof" ["BOUNDARY_PPROF"] Some("pprof_enabled");
        PPROF_PORT = "pprof-port" ["BOUNDARY_PPROF_PORT"] Some("pprof_port");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The manual's table of names, written out once more by hand.
    const MANUAL: &[(&str, &[&str], &str)] = &[
        ("config", &["BOUNDARY_CONFIG", "BOUNDARY_CONFIG_FILE"], ""),
        ("allow", &["BOUNDARY_ALLOW"], "allowlist"),
        ("jail-type", &["BOUNDARY_JAIL_TYPE"], "jail_type"),
        ("proxy-port", &["PROXY_PORT"], "proxy_port"),
        ("use-real-dns", &["BOUNDARY_USE_REAL_DNS"], "use_real_dns"),
        ("no-user-namespace", &["BOUNDARY_NO_USER_NAMESPACE"], "no_user_namespace"),
        ("log-level", &["BOUNDARY_LOG_LEVEL"], "log_level"),
        ("log-dir", &["BOUNDARY_LOG_DIR"], "log_dir"),
        ("log-format", &["BOUNDARY_LOG_FORMAT"], "log_format"),
        ("audit-log", &["BOUNDARY_AUDIT_LOG"], "audit_log"),
        ("disable-audit-logs", &["DISABLE_AUDIT_LOGS"], "disable_audit_logs"),
        (
            "log-proxy-socket-path",
            &["CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH"],
            "log_proxy_socket_path",
        ),
        (
            "enable-session-correlation",
            &["BOUNDARY_SESSION_CORRELATION_ENABLED"],
            "session_correlation_enabled",
        ),
        (
            "session-id-inject-target",
            &["BOUNDARY_SESSION_ID_INJECT_TARGET"],
            "session_id_inject_targets",
        ),
        ("upstream-proxy", &["BOUNDARY_UPSTREAM_PROXY"], "upstream_proxy"),
        ("upstream-ca", &["BOUNDARY_UPSTREAM_CA"], "upstream_ca"),
        ("limit", &["BOUNDARY_LIMITS"], "limits"),
        ("domain-match", &["BOUNDARY_DOMAIN_MATCH"], "domain_match"),
        ("learn", &["BOUNDARY_LEARN"], ""),
        ("unix-socket", &["BOUNDARY_UNIX_SOCKETS"], "unix_sockets"),
        ("pprof", &["BOUNDARY_PPROF"], "pprof_enabled"),
        ("pprof-port", &["BOUNDARY_PPROF_PORT"], "pprof_port"),
    ];

    fn read(line: &[&str]) -> Result<Request, Error> {
        parse(std::iter::once("boundary").chain(line.iter().copied()).map(OsString::from))
    }

    fn args(line: &[&str]) -> Args {
        match read(line).expect("parses") {
            Request::Run(args) => *args,
            Request::Show(text) => panic!("{text}"),
        }
    }

    fn shown(line: &[&str]) -> String {
        match read(line).expect("parses") {
            Request::Show(text) => text,
            Request::Run(args) => panic!("{args:?}"),
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn the_table_says_what_the_manual_says() {
        let names: Vec<_> = settings::ALL
            .iter()
            .map(|setting| (setting.flag, setting.variables, setting.key.unwrap_or("")))
            .collect();
        assert_eq!(names, MANUAL);
    }

    #[test]
    fn every_flag_is_in_the_table_and_no_other() {
        let grammar = grammar();
        let flags: BTreeSet<_> = grammar.get_arguments().filter_map(clap::Arg::get_long).collect();
        let table = settings::ALL.iter().map(|setting| setting.flag).collect();
        assert_eq!(flags, table);
    }

    #[test]
    fn what_follows_the_dashes_is_the_commands_own() {
        let args = args(&["--allow", "domain=a.b", "--", "curl", "--allow", "x", "--", "-h"]);
        assert_eq!(args.allow, ["domain=a.b"]);
        assert_eq!(args.command, ["curl", "--allow", "x", "--", "-h"]);
    }

    #[test]
    fn a_command_without_its_dashes_is_told_about_them() {
        let error = read(&["curl", "https://a.b"]).expect_err("no dashes");
        assert_eq!(error.to_string(), "unexpected argument 'curl' found");
        assert!(error.hint().contains("boundary [options] -- command"), "{}", error.hint());
    }

    #[test]
    fn a_mistyped_flag_is_told_its_neighbour_in_one_line() {
        let error = read(&["--alow", "x", "--", "true"]).expect_err("no such flag");
        assert_eq!(error.to_string(), "unexpected argument '--alow' found");
        assert_eq!(error.hint(), "did you mean --allow? see boundary --help");
    }

    #[test]
    fn the_last_of_a_flag_counts_and_all_of_a_list() {
        let args = args(&["--log-level=a", "--allow=x", "--log-level=b", "--allow=y", "--", "c"]);
        assert_eq!(args.log_level.expect("typed"), "b");
        assert_eq!(args.allow, ["x", "y"]);
    }

    #[test]
    fn a_bare_switch_is_true_and_never_takes_the_next_word() {
        assert_eq!(args(&["--pprof", "--", "x"]).pprof.expect("typed"), "true");
        assert_eq!(args(&["--pprof=F", "--", "x"]).pprof.expect("typed"), "F");
        assert!(read(&["--pprof", "false", "--", "x"]).is_err());
    }

    #[test]
    fn the_version_is_one_line_and_help_shows_what_this_version_has() {
        assert_eq!(shown(&["--version"]), concat!(env!("CARGO_PKG_VERSION"), "\n"));
        let help = shown(&["--help"]);
        assert!(help.contains("boundary [options] -- command [args…]"), "{help}");
        assert!(help.contains("--jail-type"), "{help}");
        assert!(!help.contains("--pprof"), "{help}");
        assert!(help.starts_with("Run a command"), "{help}");
        assert!(help.lines().count() < 40, "{help}");
    }
}
