//! The command line's shapes.

use std::collections::BTreeSet;

use super::*;

/// The manual's table of names, written out once more by hand.
const MANUAL: &[(&str, &[&str], &str)] = &[
    ("config", &["BOUNDARY_CONFIG", "BOUNDARY_CONFIG_FILE"], ""),
    ("allow", &["BOUNDARY_ALLOW"], "allowlist"),
    ("preset", &["BOUNDARY_PRESETS"], "include"),
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
    ("prompt", &["BOUNDARY_PROMPT"], "prompt"),
    ("unix-socket", &["BOUNDARY_UNIX_SOCKETS"], "unix_sockets"),
    ("otlp-endpoint", &["BOUNDARY_OTLP_ENDPOINT"], "otlp_endpoint"),
    ("metrics-port", &["BOUNDARY_METRICS_PORT"], "metrics_port"),
    ("pprof", &["BOUNDARY_PPROF"], "pprof_enabled"),
    ("pprof-port", &["BOUNDARY_PPROF_PORT"], "pprof_port"),
];

fn read(line: &[&str]) -> Result<Request, Error> {
    parse(std::iter::once("boundary").chain(line.iter().copied()).map(OsString::from))
}

fn args(line: &[&str]) -> Args {
    let Request::Run(args) = read(line).expect("parses") else { panic!("no run") };
    *args
}

fn shown(line: &[&str]) -> String {
    let Request::Show(text) = read(line).expect("parses") else { panic!("no text") };
    text
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
    assert_eq!(args.policy.allow, ["domain=a.b"]);
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
    assert_eq!(args.policy.allow, ["x", "y"]);
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
    assert!(help.starts_with("Run a command"), "{help}");
    // An option is a line: nothing is wrapped.
    let wide = grammar().term_width(100).render_help().to_string();
    let wrapped = wide.lines().find(|line| line.starts_with("          "));
    assert_eq!(wrapped, None, "{wide}");
    assert!(wide.lines().count() <= 52, "{wide}");
}

#[test]
fn a_tool_is_asked_for_in_place_of_a_run() {
    let asked = read(&["completions", "bash"]).expect("parses");
    assert!(matches!(asked, Request::Tool(Tool::Completions(_))), "{asked:?}");
}

#[test]
fn a_command_with_the_name_of_a_tool_is_a_command_behind_the_dashes() {
    assert_eq!(args(&["--", "completions", "bash"]).command, ["completions", "bash"]);
}

#[test]
fn an_option_of_a_run_in_front_of_a_tool_is_refused() {
    let error = read(&["--log-level", "info", "completions", "bash"]).expect_err("means nothing");
    assert!(error.hint().contains("a tool comes first"), "{}", error.hint());
}

#[test]
fn a_tool_without_its_arguments_is_told_them_in_one_line() {
    let error = read(&["completions"]).expect_err("no shell");
    assert!(error.to_string().ends_with("were not provided: <SHELL>"), "{error}");
    assert!(error.hint().starts_with("boundary completions <SHELL>"), "{}", error.hint());
}
