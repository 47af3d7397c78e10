//! Precedence, places of mistakes, and refusals, on a machine made of a few strings.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::*;
use crate::audit::{Format, Forward};
use crate::ca::Authority;
use crate::cli::{self, Request};
use crate::proxy::{self, Exempt};
use crate::rules::{Host as RuleHost, Intent, Scheme};

/// The default file of the machine's only user.
const DEFAULT: &str = "/home/ann/.config/coder_boundary/config.yaml";

/// A machine with a few files and one user, ann.
#[derive(Default, Clone)]
struct Machine {
    files: HashMap<PathBuf, Vec<u8>>,
    variables: Vec<(OsString, OsString)>,
    uid: u32,
    flags: Vec<OsString>,
}

impl System for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.starts_with("/locked") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.files.get(&self.name(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&self, path: &Path) -> PathBuf {
        path.components().fold(PathBuf::new(), |mut name, part| {
            match part {
                Component::ParentDir => drop(name.pop()),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::Normal(_) => name.push(part),
            }
            name
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn account(&self, uid: u32) -> Option<Account> {
        let account = |name: &str, home: &str| {
            let shell = format!("/bin/{name}sh").into();
            Account { name: name.into(), gid: uid, home: home.into(), shell }
        };
        match uid {
            0 => Some(account("root", "/root")),
            1000 => Some(account("ann", "/home/ann")),
            _ => None,
        }
    }
}

impl Machine {
    fn new() -> Self {
        Self { uid: 1000, ..Self::default() }
    }

    fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn at(mut self, path: &str, content: &str) -> Self {
        self.files.insert(self.name(Path::new(path)), content.into());
        self
    }

    fn yaml(self, content: &str) -> Self {
        self.at(DEFAULT, content)
    }

    fn with_uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    fn resolve(&self) -> Result<Config, Error> {
        let line = ["boundary".into()].into_iter().chain(self.flags.iter().cloned());
        let line = line.chain(["--".into(), "true".into()]);
        let Request::Run(args) = cli::parse(line).expect("parses") else { panic!("no run") };
        let environment =
            Environment { variables: self.variables.clone(), uid: self.uid, gid: self.uid };
        Config::resolve(*args, &environment, self)
    }

    fn config(&self) -> Config {
        self.resolve().expect("a configuration")
    }

    fn error(&self) -> String {
        let error = self.resolve().expect_err("a mistake");
        assert!(!error.hint().is_empty());
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }
}

#[test]
fn without_a_word_everything_is_denied_and_said_so_once() {
    let config = Machine::new().config();
    assert_eq!(config.command, ["true"]);
    assert_eq!(config.jail, Choice::Auto);
    assert!(config.rules.is_empty() && config.policy.rules.is_empty());
    assert_eq!(config.proxy_port, None);
    assert_eq!(
        config.log,
        Log { level: Level::WARN, is_asked: false, format: Format::Text, dir: None }
    );
    assert_eq!((config.audit_log, config.audit_query), (None, true));
    assert_eq!(
        config.warnings,
        [
            Warning::NoAgent { socket: "/tmp/boundary-audit.sock".into(), named: false },
            Warning::DeniesAll,
        ]
    );
}

/// One row a setting: what the file, the environment and the flag say, and what is read.
macro_rules! precedence {
    ($($name:ident: $yaml:literal, $variable:literal = $env:literal, $flag:literal,
        $read:expr => $default:expr, $from_file:expr, $from_env:expr, $from_flag:expr;)+) => {
        mod precedence {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let read = $read;
                    let machine = Machine::new();
                    assert_eq!(read(machine.config()), $default, "default");
                    let machine = machine.yaml($yaml);
                    assert_eq!(read(machine.config()), $from_file, "file");
                    assert_eq!(read(machine.clone().env($variable, "").config()), $from_file, "empty");
                    let machine = machine.env($variable, $env);
                    assert_eq!(read(machine.config()), $from_env, "environment");
                    assert_eq!(read(machine.flag($flag).config()), $from_flag, "flag");
                }
            )+
        }
    };
}

precedence! {
    jail_type: "jail_type: landjail", "BOUNDARY_JAIL_TYPE" = "nsjail", "--jail-type=ebpf",
        |config: Config| config.jail
        => Choice::Auto, Choice::Landjail, Choice::Nsjail, Choice::Ebpf;
    proxy_port: "proxy_port: 1", "PROXY_PORT" = "2", "--proxy-port=65535",
        |config: Config| config.proxy_port
        => None, Some(1), Some(2), Some(65_535);
    log_level: "log_level: Error", "BOUNDARY_LOG_LEVEL" = "INFO", "--log-level=debug",
        |config: Config| config.log.level
        => Level::WARN, Level::ERROR, Level::INFO, Level::DEBUG;
    log_format: "log_format: json", "BOUNDARY_LOG_FORMAT" = "text", "--log-format=json",
        |config: Config| config.log.format
        => Format::Text, Format::Json, Format::Text, Format::Json;
    log_dir: "log_dir: /f", "BOUNDARY_LOG_DIR" = "/e", "--log-dir=/g",
        |config: Config| config.log.dir
        => None, Some("/f".into()), Some("/e".into()), Some(PathBuf::from("/g"));
    audit_log: "audit_log: /f", "BOUNDARY_AUDIT_LOG" = "/e", "--audit-log=/g",
        |config: Config| config.audit_log
        => None, Some("/f".into()), Some("/e".into()), Some(PathBuf::from("/g"));
    disable_audit_logs: "disable_audit_logs: true", "DISABLE_AUDIT_LOGS" = "f", "--disable-audit-logs",
        |config: Config| config.warnings.contains(&Warning::ForwardingDisabled)
        => false, true, false, true;
    log_proxy_socket_path: "log_proxy_socket_path: /f",
        "CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH" = "/e", "--log-proxy-socket-path=/g",
        |config: Config| {
            let Warning::NoAgent { socket, named } = &config.warnings[0] else { panic!("{config:?}") };
            (socket.to_str().map(str::to_owned), *named)
        }
        => (Some("/tmp/boundary-audit.sock".into()), false), (Some("/f".into()), true),
           (Some("/e".into()), true), (Some("/g".into()), true);
    limit: "limits: {headers: 20}", "BOUNDARY_LIMITS" = "headers=30", "--limit=headers=40",
        |config: Config| config.limits.headers
        => 100, 20, 30, 40;
    domain_match: "{domain_match: exact, allowlist: [domain=a.b]}", "BOUNDARY_DOMAIN_MATCH" = "subdomains",
        "--domain-match=exact",
        |config: Config| {
            let host = RuleHost::parse("sub.a.b").expect("a host");
            let intent = Intent::http(Scheme::Https, "GET", host, 443, "/").expect("an intent");
            config.rules.decide(intent).is_ok()
        }
        => false, false, true, false;
}

#[test]
fn a_named_file_stands_in_place_of_the_default_one() {
    let machine = Machine::new()
        .yaml("jail_type: ebpf")
        .at("/a", "jail_type: nsjail")
        .at("/b", "jail_type: landjail");
    let second = machine.clone().env("BOUNDARY_CONFIG_FILE", "/b");
    assert_eq!(second.config().jail, Choice::Landjail);
    assert_eq!(second.env("BOUNDARY_CONFIG", "/a").config().jail, Choice::Nsjail);
    assert_eq!(
        machine.env("BOUNDARY_CONFIG", "/a").flag("--config=/b").config().jail,
        Choice::Landjail
    );
}

#[test]
fn rules_accumulate_from_file_to_environment_to_flags() {
    let config = Machine::new()
        .yaml("allowlist:\n  - domain=a.b\n  - method=GET,POST domain=c.d\n")
        .env("BOUNDARY_ALLOW", "domain=e.f\n\n  domain=g.h path=/x,/y\n")
        .flag("--allow=domain=i.j")
        .flag("--allow=domain=k.l")
        .config();
    let expected = [
        "domain=a.b",
        "method=GET,POST domain=c.d",
        "domain=e.f",
        "domain=g.h path=/x,/y",
        "domain=i.j",
        "domain=k.l",
    ];
    let texts: Vec<_> = config.policy.rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(texts, expected);
    assert!(!config.warnings.contains(&Warning::DeniesAll));
}

#[test]
fn certificates_accumulate_and_must_be_there() {
    let [a, b, c] = [(); 3].map(|()| Authority::new().unwrap().certificate_pem().to_owned());
    let machine = Machine::new()
        .at("/a", &format!("# ours\n{a}"))
        .at("/b", &b)
        .at("/c", &c)
        .at("/empty", "")
        .at("/garbled", &c.replace('M', "="))
        .at("/cut", c.split_at(c.len() / 2).0)
        .yaml("upstream_ca: [/a]")
        .env("BOUNDARY_UPSTREAM_CA", "/b\n");
    let config = machine.clone().flag("--upstream-ca=/c").config();
    let all = format!("{a}{b}{c}");
    assert_eq!(config.egress.roots, proxy::roots_in(all.as_bytes()).unwrap());
    let error = machine.clone().flag("--upstream-ca=/empty").error();
    assert_eq!(error, "--upstream-ca: /empty: no PEM certificate in it");
    for wrong in ["/garbled", "/cut"] {
        let error = machine.clone().flag(&format!("--upstream-ca={wrong}")).error();
        assert!(error.starts_with(&format!("--upstream-ca: {wrong}: ")), "{error}");
    }
    let error = machine.flag("--upstream-ca=/gone").error();
    assert_eq!(error, "--upstream-ca: cannot read /gone: entity not found");
}

/// One row: a file's content, and the complaint with its place.
macro_rules! mistakes {
    ($($name:ident: $yaml:expr => $place:literal, $says:expr;)+) => {
        mod mistakes {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let error = Machine::new().yaml($yaml).error();
                    let place = concat!("/home/ann/.config/coder_boundary/config.yaml:", $place, ": ");
                    let what = error.strip_prefix(place).unwrap_or_else(|| panic!("{error}"));
                    assert!(what.contains($says), "{what}");
                }
            )+
        }
    };
}

mistakes! {
    an_unknown_key: "jail_type: ebpf\nallow: []\n" => "2:1", "unknown field `allow`";
    a_wrong_type: "proxy_port: 80\nuse_real_dns: maybe\n" => "2:15", "expected a boolean";
    a_scalar_in_place_of_a_list: "allowlist: domain=a.b\n" => "1:12", "expected a sequence";
    a_duplicate_key: "log_dir: /a\njail_type: ebpf\nlog_dir: /b\n" => "3:1", "duplicate";
    a_bad_rule: "allowlist:\n  - domain=a.b\n  - domain=a.b foo=x\n" => "3:5", "column 12";
    a_bad_jail: "jail_type: Ebpf" => "1:12", "`Ebpf`: not a jail: one of auto, ebpf";
    a_bad_level: "log_level: loud" => "1:12", "not a level";
    a_bad_format: "log_format: xml" => "1:13", "not a log format";
    a_bad_reading: "domain_match: some" => "1:15", "not a reading";
    port_zero: "pprof_port: 0" => "1:13", "a nonzero u16";
    a_port_beyond_the_last: "proxy_port: 65536" => "1:13", "65536";
    broken_yaml: "allowlist: [\n" => "2:1", "did not find expected node";
    a_dangling_reference: "log_dir: *nowhere\n" => "1:10", "unknown anchor";
    a_list_at_the_top: "- domain=a.b\n" => "1:1", "expected struct";
    an_escape_sequence_in_a_key: "\"a\\e[2Jb\": 1\n" => "1:1", "a\\u{1b}[2Jb";
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    let marked = |text: &str| Machine::new().yaml(&format!("\u{feff}{text}"));
    assert_eq!(marked("log_dir: /a\n").config().log.dir, Some("/a".into()));
    assert!(marked("").config().rules.is_empty());
    let error = marked("jail_type: Ebpf\n").error();
    assert!(error.contains("config.yaml:1:12: "), "{error}");
    let error = marked("allowlist: [domain=a.b foo=x]\n").error();
    assert!(error.contains("config.yaml:1:13: "), "{error}");
    let including = marked("include: [/more.yaml]\n");
    let included = including.at("/more.yaml", "\u{feff}allowlist: [host=a.b]");
    assert!(!included.config().rules.is_empty());
}

#[test]
fn a_second_document_is_a_mistake() {
    let error = Machine::new().yaml("log_dir: /a\n---\nlog_dir: /b\n").error();
    assert!(error.contains("more than one document"), "{error}");
}

#[test]
fn an_empty_file_and_an_empty_list_say_nothing() {
    for yaml in ["", "# nothing\n", "---\n", "~\n", "allowlist:\n", "allowlist: []\nlog_dir:\n"] {
        let config = Machine::new().yaml(yaml).config();
        assert!(config.rules.is_empty(), "{yaml:?}");
        assert!(config.warnings.contains(&Warning::DeniesAll), "{yaml:?}");
    }
}

#[test]
fn every_key_of_the_table_may_stand_in_the_file() {
    for setting in settings::ALL {
        if let Some(key) = setting.key {
            Machine::new().yaml(&format!("{key}: ~\n")).config();
        }
    }
    assert!(!Machine::new().yaml("audit_query: false").config().audit_query);
}

/// One row: a flag and what is said about it.
macro_rules! refused {
    ($($name:ident: $machine:expr => $error:expr;)+) => {
        mod refused {
            use super::*;
            $(
                #[test]
                fn $name() {
                    assert_eq!($machine.error(), $error);
                }
            )+
        }
    };
}

refused! {
    a_jail_in_another_case: Machine::new().flag("--jail-type=NsJail")
        => "--jail-type: `NsJail`: not a jail: one of auto, ebpf, nsjail, landjail";
    a_level_that_is_none: Machine::new().env("BOUNDARY_LOG_LEVEL", "loud")
        => "BOUNDARY_LOG_LEVEL: `loud`: not a level: one of error, warn, info, debug";
    a_port_that_is_none: Machine::new().env("PROXY_PORT", "0")
        => "PROXY_PORT: `0`: a port is a number from 1 to 65535";
    a_truth_that_is_none: Machine::new().flag("--pprof=yes")
        => "--pprof: `yes`: not a truth value: one of true, false, 1, 0";
    an_escape_sequence_in_a_flag: Machine::new().flag("--proxy-port=\u{1b}[2J")
        => "--proxy-port: `\\u{1b}[2J`: a port is a number from 1 to 65535";
    an_empty_path: Machine::new().flag("--audit-log=") => "--audit-log: an empty path";
    an_empty_path_in_the_file: Machine::new().yaml("audit_log: ''")
        => "/home/ann/.config/coder_boundary/config.yaml:1:1: audit_log: an empty path";
    a_file_that_is_not_there: Machine::new().flag("--config=/gone")
        => "--config: cannot read /gone: entity not found";
    a_default_file_that_cannot_be_read: Machine::new().env("XDG_CONFIG_HOME", "/locked")
        => "the default file: cannot read /locked/coder_boundary/config.yaml: permission denied";
    a_user_id_that_is_none: Machine::new().with_uid(0).env("SUDO_UID", "4294967295")
        => "SUDO_UID: not a user or group id";
    a_foreign_user_id: Machine::new().with_uid(0).env("SUDO_UID", "ann")
        => "SUDO_UID: not a user or group id";
    session_correlation_with_nobody: Machine::new().flag("--enable-session-correlation")
        => "CODER_AGENT_URL: session correlation needs this workspace's URL, or a target";
    session_correlation_without_a_host: correlated("https:///path")
        => "CODER_AGENT_URL: session correlation needs this workspace's URL, or a target";
    a_target_without_a_domain: correlated("https://a.b").flag("--session-id-inject-target=path=/x")
        => "--session-id-inject-target: `path=/x`: a target needs a domain";
    a_blank_target: correlated("https://a.b").env("BOUNDARY_SESSION_ID_INJECT_TARGET", " \n")
        => "BOUNDARY_SESSION_ID_INJECT_TARGET: rule ``: column 1: an empty rule would permit everything; write `domain=*` if that is meant";
    a_profile_at_no_port: Machine::new().env("BOUNDARY_PPROF_PORT", "0")
        => "BOUNDARY_PPROF_PORT: `0`: a port is a number from 1 to 65535";
    headers_of_a_collector: Machine::new().flag("--otlp-endpoint=default")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "a=b, Bearer hunter2")
        => "OTEL_EXPORTER_OTLP_HEADERS: not a list of headers, as name=value,other=value";
    a_collectors_password: Machine::new().flag("--otlp-endpoint=http://ann:hunter2@127.0.0.1:4318")
        => "--otlp-endpoint: a URL with a user's name in it is shown in places; \
            OTEL_EXPORTER_OTLP_HEADERS=Authorization=... is not";
    unix_sockets: Machine::new().yaml("unix_sockets: [docker.sock]")
        => "/home/ann/.config/coder_boundary/config.yaml:1:1: unix_sockets: docker.sock: not a path that begins with /";
    a_value_by_its_line: Machine::new().yaml("# a comment\nallowlist: []\nupstream_proxy: 'ftp://x'\n")
        => "/home/ann/.config/coder_boundary/config.yaml:3:1: upstream_proxy: not the URL of an http or https proxy";
    a_file_that_a_key_names: Machine::new().yaml("proxy_port: 9\nupstream_ca: [/gone]\n")
        => "/home/ann/.config/coder_boundary/config.yaml:2:1: upstream_ca: cannot read /gone: entity not found";
    a_refusal_that_nothing_can_cause: Machine::new().yaml("audit_on_error: deny\n")
        => "/home/ann/.config/coder_boundary/config.yaml:1:1: audit_on_error: `deny` needs an audit file: audit_log or log_dir";
}

#[test]
fn sockets_are_listed_by_file_environment_and_flag() {
    let config = Machine::new()
        .yaml("unix_sockets: [/run/a]")
        .env("BOUNDARY_UNIX_SOCKETS", "/run/b\n/run/c")
        .flag("--unix-socket=/run/d")
        .config();
    assert_eq!(config.unix_sockets, ["/run/a", "/run/b", "/run/c", "/run/d"].map(Path::new));
}

#[test]
fn a_bad_rule_names_who_said_it_and_the_column() {
    for (machine, source) in [
        (Machine::new().flag("--allow=domain=a.b foo=x"), "--allow"),
        (Machine::new().env("BOUNDARY_ALLOW", "domain=c.d\ndomain=a.b foo=x"), "BOUNDARY_ALLOW"),
    ] {
        let error = machine.error();
        let head = format!("{source}: rule `domain=a.b foo=x`: column 12: ");
        assert!(error.starts_with(&head), "{error}");
    }
    assert!(Machine::new().flag("--allow=").error().starts_with("--allow: rule ``: column 1"));
}

#[test]
fn the_hosts_resolver_is_asked_only_where_somebody_says_so_and_that_is_told() {
    let quiet = Machine::new().config();
    assert!(!quiet.real_dns && !quiet.warnings.contains(&Warning::RealDns));
    for machine in [
        Machine::new().flag("--use-real-dns"),
        Machine::new().env("BOUNDARY_USE_REAL_DNS", "1"),
        Machine::new().yaml("use_real_dns: true"),
    ] {
        let config = machine.config();
        assert!(config.real_dns && config.warnings.contains(&Warning::RealDns));
    }
    let overruled = Machine::new().yaml("use_real_dns: true").flag("--use-real-dns=false");
    assert!(!overruled.config().real_dns);
}

#[test]
fn what_is_switched_off_or_empty_asks_for_nothing() {
    let config = Machine::new()
        .yaml("use_real_dns: false\nupstream_proxy: ' '\nunix_sockets: []\nsession_id_inject_targets: [a]\n")
        .env("BOUNDARY_PPROF", "0")
        .env("BOUNDARY_LEARN", "")
        .flag("--pprof-port=6061")
        .flag("--no-user-namespace=false")
        .config();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert_eq!((config.pprof_port, config.egress.own.len()), (None, 0));
}

#[test]
fn profiles_are_to_be_had_where_somebody_says_so_at_a_port_that_nobody_else_reaches() {
    let port = |machine: Machine| {
        let config = machine.config();
        assert_eq!(config.egress.own, Vec::from_iter(config.pprof_port));
        config.pprof_port
    };
    assert_eq!(port(Machine::new()), None);
    assert_eq!(port(Machine::new().flag("--pprof")), Some(6060));
    assert_eq!(port(Machine::new().yaml("pprof_enabled: true\npprof_port: 7")), Some(7));
    assert_eq!(port(Machine::new().yaml("pprof_port: 7").env("BOUNDARY_PPROF", "1")), Some(7));
    let overruled = Machine::new().yaml("pprof_enabled: true").env("BOUNDARY_PPROF", "false");
    assert_eq!(port(overruled), None);
}

/// A workspace with correlation, at that URL.
fn correlated(url: &str) -> Machine {
    Machine::new().env("CODER_AGENT_URL", url).flag("--enable-session-correlation")
}

/// Which of some URLs' requests are correlated.
fn carrying(machine: &Machine, urls: &[(&str, &str)]) -> Vec<bool> {
    let correlated = machine.config().egress.correlated;
    let asked = urls.iter().map(|(host, path)| {
        let host = RuleHost::parse(host).expect("a host");
        Intent::http(Scheme::Https, "POST", host, 443, path).expect("an intent")
    });
    asked.map(|intent| correlated.targets(&intent)).collect()
}

#[test]
fn correlation_is_with_the_workspaces_own_gateway_unless_targets_are_named() {
    let urls = [
        ("dev.coder.com", "/api/v2/aibridge/anthropic/v1/messages"),
        ("dev.coder.com", "/api/v2/ai-gateway/x"),
        ("dev.coder.com", "/api/v2/users/me"),
        ("other.example", "/api/v2/aibridge/x"),
        ("app.dev.coder.com", "/api/v2/aibridge/x"),
    ];
    let machine = correlated("https://dev.coder.com:8443/prefix");
    assert_eq!(carrying(&machine, &urls), [true, true, false, false, false]);
    assert_eq!(
        carrying(&machine.clone().flag("--enable-session-correlation=false"), &urls),
        [false; 5]
    );
    let named = machine
        .yaml("session_id_inject_targets: [domain=other.example]")
        .env("BOUNDARY_SESSION_ID_INJECT_TARGET", "domain=dev.coder.com path=/api/v2/users/*");
    assert_eq!(carrying(&named, &urls), [false, false, true, true, false]);
    let by_method =
        correlated("https://x.y").flag("--session-id-inject-target=method=POST domain=*");
    assert_eq!(carrying(&by_method, &urls), [false; 5], "no method is asked of a target");
    let any = correlated("https://x.y").flag("--session-id-inject-target=method=* domain=*");
    assert_eq!(carrying(&any, &urls), [true; 5]);
    let address = correlated("http://[2001:db8::1]:3000/");
    assert_eq!(carrying(&address, &[("[2001:db8::1]", "/api/v2/aibridge/x")]), [true]);
}

#[test]
fn a_bad_target_in_the_file_is_told_by_line_and_column_where_it_is_read() {
    let yaml = "allowlist:\n  - path=/x\nsession_id_inject_targets:\n  - domain=a.b\n";
    for (target, place, says) in [
        ("domain=c.d foo=x", "5:16", "rule `domain=c.d foo=x`: "),
        ("path=/x", "5:5", "`path=/x`: a target needs a domain"),
    ] {
        let yaml = format!("{yaml}  - {target}\n");
        let error = correlated("https://x.y").yaml(&yaml).error();
        let (_, what) = error.split_once(&format!("config.yaml:{place}: ")).expect(&error);
        assert!(what.starts_with(says), "{what}");
        // Nobody reads it where nothing is to be correlated.
        Machine::new().yaml(&yaml).config();
    }
    let yaml = "session_id_inject_targets: [\"domain=c.d \\x66oo=x\"]\n";
    let error = correlated("https://x.y").yaml(yaml).error();
    assert!(error.starts_with("session_id_inject_targets in /home/ann"), "{error}");
}

#[test]
fn an_agent_gets_the_record_unless_that_is_switched_off() {
    let machine = Machine::new().at("/tmp/boundary-audit.sock", "");
    let config = machine.clone().config();
    let socket = PathBuf::from("/tmp/boundary-audit.sock");
    assert_eq!(config.forward, Some(Forward { socket, is_named: false }));
    assert_eq!(config.warnings, [Warning::DeniesAll]);
    let off = machine.flag("--disable-audit-logs").config();
    assert_eq!((off.forward, &off.warnings[0]), (None, &Warning::ForwardingDisabled));
}

/// The proxies of a configuration, as `plain other`.
fn gateways(machine: &Machine) -> String {
    let Gateways { http, tunnel, .. } = machine.config().egress.gateways;
    let shown = |gateway: Option<Arc<proxy::Gateway>>| {
        gateway.map_or("-".to_owned(), |gateway| gateway.to_string())
    };
    format!("{} {}", shown(http), shown(tunnel))
}

#[test]
fn a_proxy_is_boundarys_own_or_everybodys_or_the_files() {
    let machine = Machine::new();
    assert_eq!(gateways(&machine), "- -");
    let machine = machine.yaml("upstream_proxy: http://file:1\n");
    assert_eq!(gateways(&machine), "http://file:1 http://file:1");
    // Each of everybody's variables is for its own scheme, in either case.
    let machine = machine.env("https_proxy", "http://all:2");
    assert_eq!(gateways(&machine), "- http://all:2");
    let machine = machine.env("HTTP_PROXY", "plain:3");
    assert_eq!(gateways(&machine), "http://plain:3 http://all:2");
    let machine = machine.env("BOUNDARY_UPSTREAM_PROXY", "https://own:4");
    assert_eq!(gateways(&machine), "https://own:4 https://own:4");
    assert_eq!(gateways(&machine.clone().flag("--upstream-proxy=b:5")), "http://b:5 http://b:5");
    assert_eq!(gateways(&machine.flag("--upstream-proxy=")), "- -");
}

#[test]
fn hosts_without_a_proxy_are_everybodys() {
    let exempt = |machine: &Machine| machine.config().egress.gateways.exempt;
    let machine = Machine::new().env("no_proxy", "a.test,10.0.0.0/8").flag("--upstream-proxy=b");
    assert_eq!(exempt(&machine), Exempt::parse("a.test 10.0.0.0/8"));
    assert_eq!(exempt(&Machine::new()), Exempt::default());
}

#[test]
fn a_mistake_in_a_proxy_is_told_without_its_password() {
    for url in ["socks5://u:hush@p:1", "http://u:hush@p:0", "http://u:hu/sh@p", "http://u:hush@"] {
        for machine in [
            Machine::new().env("HTTPS_PROXY", url),
            Machine::new().env("BOUNDARY_UPSTREAM_PROXY", url),
            Machine::new().flag(&format!("--upstream-proxy={url}")),
            Machine::new().yaml(&format!("upstream_proxy: \"{url}\"\n")),
        ] {
            let error = machine.error();
            assert!(error.contains("proxy") && !error.contains("hu"), "{error}");
        }
    }
    let machine = Machine::new().flag("--upstream-proxy=http://u:hush@p:1");
    assert!(!format!("{:?}", machine.config()).contains("hush"), "nor is a good one");
}

#[test]
fn the_audit_file_stands_beside_the_log_unless_it_is_named() {
    let machine = Machine::new().flag("--log-dir=/logs");
    assert_eq!(machine.config().audit_log, Some("/logs/audit.jsonl".into()));
    assert_eq!(machine.flag("--audit-log=/a").config().audit_log, Some("/a".into()));
}

#[test]
fn a_variable_in_another_case_counts_and_the_exact_one_before_it() {
    let machine = Machine::new().env("boundary_jail_type", "nsjail");
    assert_eq!(machine.config().jail, Choice::Nsjail);
    assert_eq!(machine.env("BOUNDARY_JAIL_TYPE", "ebpf").config().jail, Choice::Ebpf);
}

#[test]
fn behind_sudo_the_command_and_the_file_are_the_callers() {
    let machine = Machine::new()
        .with_uid(0)
        .env("HOME", "/root")
        .env("SUDO_UID", "1000")
        .env("SUDO_GID", "100")
        .yaml("jail_type: ebpf");
    let config = machine.config();
    assert_eq!(config.jail, Choice::Ebpf);
    let name = Some("ann".to_owned());
    let (home, shell) = ("/home/ann".into(), Some("/bin/annsh".into()));
    let expected = Invoker { uid: 1000, gid: 100, name, home, shell, sudo: true };
    assert_eq!(config.user, expected);
}

#[test]
fn sudos_variables_mean_nothing_without_sudo() {
    let user = Machine::new().env("SUDO_UID", "0").env("HOME", "/elsewhere").config().user;
    let name = Some("ann".to_owned());
    let (home, shell) = ("/elsewhere".into(), Some("/bin/annsh".into()));
    assert_eq!(user, Invoker { uid: 1000, gid: 1000, name, home, shell, sudo: false });
}

#[test]
fn an_xdg_folder_comes_before_the_home_if_it_is_absolute() {
    let machine = Machine::new()
        .at("/xdg/coder_boundary/config.yaml", "jail_type: nsjail")
        .yaml("jail_type: ebpf");
    assert_eq!(machine.clone().env("XDG_CONFIG_HOME", "/xdg").config().jail, Choice::Nsjail);
    assert_eq!(machine.env("XDG_CONFIG_HOME", "xdg").config().jail, Choice::Ebpf);
}

#[test]
fn without_a_command_the_mistake_in_the_policy_comes_first() {
    let resolve = |args: Args| {
        Config::resolve(args, &Environment { uid: 1000, ..Environment::default() }, &Machine::new())
            .expect_err("a mistake")
    };
    let error = resolve(Args {
        policy: PolicyArgs { allow: vec!["x".into()], ..PolicyArgs::default() },
        ..Args::default()
    });
    assert!(matches!(error, Error::Rule { .. }), "{error}");
    let error = resolve(Args::default());
    assert_eq!(error.to_string(), "no command was given");
    assert!(error.hint().contains("boundary [options] -- command"), "{}", error.hint());
}

#[test]
fn the_machine_itself_is_asked_the_same_way() {
    let root = Host.account(0).expect("root");
    assert_eq!((root.name.as_str(), root.gid), ("root", 0));
    assert!(Host.exists(Path::new("/proc/self/exe")) && !Host.exists(Path::new("/gone")));
    assert_eq!(Host.read(Path::new("/dev/null")).expect("readable"), b"");
    let error = Host.read(Path::new("/gone")).expect_err("not there");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_workspaces_labels_come_from_its_variables() {
    let labels = Machine::new()
        .env("CODER_WORKSPACE_ID", "w-1")
        .env("CODER_WORKSPACE_OWNER", "ann")
        .config()
        .labels;
    let expected =
        Labels { workspace_id: Some("w-1".into()), owner: Some("ann".into()), ..Labels::default() };
    assert_eq!(labels, expected);
}

#[test]
fn limits_come_from_all_three_places_one_by_one() {
    let machine = Machine::new()
        .yaml("limits:\n  headers: 20\n  idle: 5m\n  head_bytes: 32KiB\n")
        .env("BOUNDARY_LIMITS", "idle=6m\n\nsilence=2s\n")
        .flag("--limit=silence=3s")
        .flag("--limit=answer_time=1m");
    let limits = machine.config().limits;
    let expected = Limits {
        headers: 20,
        idle: Duration::from_mins(6),
        head_bytes: 32 << 10,
        silence: Duration::from_secs(3),
        answer_time: Some(Duration::from_mins(1)),
        ..Limits::default()
    };
    assert_eq!(limits, expected);
}

#[test]
fn a_wrong_limit_is_named_with_its_place() {
    let yaml = |text: &str| Machine::new().yaml(text).error();
    assert_eq!(
        yaml("limits:\n  headers: 20\n  idel: 5m\n"),
        format!("{DEFAULT}:3:9: limits.idel: no limit is called `idel`")
    );
    assert!(yaml("limits:\n  idle: 5\n").contains(":2:9: limits.idle: `5`: idle takes a time"));
    assert!(yaml("limits: 5").contains("limits by their names"));
    assert!(yaml("limits:\n  headers: 20\n  headers: 30\n").contains("headers"));
    let flag = Machine::new().flag("--limit=headers=1").error();
    assert_eq!(flag, "--limit: `1`: headers takes a number from 8 to 10000");
    let variable = Machine::new().env("BOUNDARY_LIMITS", "headers").error();
    assert_eq!(variable, "BOUNDARY_LIMITS: `headers` is not NAME=VALUE");
}

#[test]
fn a_file_includes_others_beside_it_and_each_once() {
    let config = Machine::new()
        .yaml("include: [team/all.yaml]\nallowlist: [domain=own.test]\n")
        .at(
            "/home/ann/.config/coder_boundary/team/all.yaml",
            "include: [more.yml, ../config.yaml.d/x.yaml, ./all.yaml]\nallowlist:\n  # one\n  - domain=all.test\n",
        )
        .at("/home/ann/.config/coder_boundary/team/more.yml", "include: [all.yaml]\nallowlist: [domain=more.test]")
        .at("/home/ann/.config/coder_boundary/team/../config.yaml.d/x.yaml", "")
        .config();
    let texts: Vec<_> = config.policy.rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(texts[..3], ["domain=own.test", "domain=all.test", "domain=more.test"]);
    let place = config.policy.rules[1].place();
    assert_eq!(place, "/home/ann/.config/coder_boundary/team/all.yaml:4");
}

#[test]
fn presets_come_from_the_file_the_environment_and_flags() {
    let machine = Machine::new().yaml("include: [github-readonly]");
    let one = machine.config().policy.rules.len();
    let all =
        machine.env("BOUNDARY_PRESETS", "codex\ngithub-readonly").flag("--preset=claude-code");
    let all = all.config();
    assert!(all.policy.rules.len() > one);
    let sources: std::collections::BTreeSet<_> =
        all.policy.rules.iter().map(Written::place).collect();
    assert_eq!(sources.len(), 3, "{sources:?}");
}

#[test]
fn every_shipped_preset_is_described_has_sources_and_no_fault() {
    for preset in preset::ALL {
        let rules = preset.rules(&Machine::new(), &Machine::new().config().user);
        let Ok(rules) = rules else { continue };
        assert!(!preset.description().is_empty(), "{}", preset.name);
        assert!(!preset.sources().is_empty(), "{}", preset.name);
        // A page by its title, and where it is.
        let is_page = |source: &String| source.contains(", ") && source.contains(": https://");
        assert!(preset.sources().iter().all(is_page), "{}", preset.name);
        for reading in [DomainMatch::Subdomains, DomainMatch::Exact] {
            let rules: Vec<_> = rules.iter().collect();
            assert_eq!(crate::rules::lint(&rules, reading), [], "{}", preset.name);
        }
    }
}

#[test]
fn what_two_ways_lead_to_is_included_once() {
    let base = "/home/ann/.config/coder_boundary";
    let machine = Machine::new()
        .yaml("include: [one/x.yaml, two/y.yaml]")
        .at(&format!("{base}/one/x.yaml"), "include: [../common/base.yaml]")
        .at(&format!("{base}/two/y.yaml"), "include: [../common/base.yaml]")
        .at(
            &format!("{base}/common/base.yaml"),
            "allowlist: [domain=base.test]\ninclude: [../one/x.yaml]",
        );
    assert_eq!(machine.config().policy.rules.len(), 1);
}

#[test]
fn what_cannot_be_included_is_told_with_who_asked_for_it() {
    let unknown = Machine::new().yaml("include: [gihub]").error();
    assert!(
        unknown.contains("config.yaml:1:1: include: ") && unknown.contains("no preset"),
        "{unknown}"
    );
    let alone = Machine::new().yaml("log_level: info\ninclude: [gihub]");
    let environment = Environment { variables: Vec::new(), uid: alone.uid, gid: alone.uid };
    let alone = Policy::resolve(&PolicyArgs::default(), &environment, &alone);
    let alone = alone.expect_err("a mistake").to_string();
    assert!(alone.contains("config.yaml:2:1: include: "), "{alone}");
    let missing = Machine::new().flag("--preset=./none.yaml").error();
    assert!(missing.starts_with("--preset: cannot read ./none.yaml"), "{missing}");
    let wrong = Machine::new().yaml("include: [x.yaml]").at(
        "/home/ann/.config/coder_boundary/x.yaml",
        "allowlist:\n  - domain=a.test\njail_type: ebpf\n",
    );
    assert!(wrong.error().contains("x.yaml:3:1: unknown field"), "{}", wrong.error());
}

#[test]
fn every_rule_that_does_not_parse_is_found_in_the_file() {
    let machine =
        Machine::new().yaml("allowlist:\n  - domain=a.test\n  - domian=b.test\n  - \"path=/a,\"\n");
    let error = machine.resolve().expect_err("a mistake");
    let all = Policy::mistakes(error, &machine);
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("config.yaml:3:5: rule `domian=b.test`"), "{all:?}");
    assert!(all[1].contains("config.yaml:4:14: rule `path=/a,`"), "{all:?}");
    // What it is part of, and what only looks like it, is no mistake.
    let machine = Machine::new().yaml(
        "# path=/v1,\nallowlist:\n  - domain=x.com path=/v1,/v2\n  # path=/v1,\n  - path=/v1,\n",
    );
    let error = machine.resolve().expect_err("a mistake");
    let all: Vec<_> = Policy::mistakes(error, &machine).iter().map(ToString::to_string).collect();
    assert!(all.len() == 1 && all[0].contains("config.yaml:5:14: "), "{all:?}");
}

#[test]
fn a_policy_of_a_hundred_and_eighty_domains_has_no_fault_in_either_reading() {
    let shapes = [
        "domain={n}.example",
        "method=GET,HEAD domain=cdn{n}.example.com",
        "domain=*.tenant{n}.example.net",
        "method=POST domain=api{n}.example.org path=/v1/*,/v2/models",
        "host=db{n}.corp.internal port=8443",
        "domain=one{n}.example.io,two{n}.example.io",
    ];
    let rules: Vec<String> = (0..180)
        .map(|n| format!("  - {}\n", shapes[n % shapes.len()].replace("{n}", &format!("site{n}"))))
        .collect();
    let rules = rules.concat();
    for reading in [DomainMatch::Subdomains, DomainMatch::Exact] {
        let policy = Machine::new().yaml(&format!("allowlist:\n{rules}")).config().policy;
        assert_eq!(policy.rules.len(), 180);
        let rules: Vec<_> = policy.rules.iter().map(|written| &written.rule).collect();
        assert_eq!(crate::rules::lint(&rules, reading), []);
    }
}

#[test]
fn a_session_that_learns_permits_everything_behind_its_own_rules() {
    let config = Machine::new().flag("--allow=domain=a.b").env("BOUNDARY_LEARN", "/tmp/p").config();
    assert_eq!(config.learn, Some("/tmp/p".into()));
    assert_eq!(config.policy.texts(), ["domain=a.b", "domain=*"]);
}
