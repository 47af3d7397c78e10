//! What a user can say wrongly, and what is said back: status 125 and one line, before anything runs.

use crate::world::needs::needs;
use crate::world::{Output, World};

/// Runs a command that would leave a trace, with these options, and checks that it did not run.
#[track_caller]
fn is_mistaken(world: &World, options: &[&str], environment: &[(&str, &str)]) -> Output {
    let trace = world.folder().join("it-ran");
    let trace = trace.to_str().expect("our own name");
    let mut run = world.boundary(options, &["touch", trace]);
    for (name, value) in environment {
        run = run.env(name, value);
    }
    let out = run.output();
    out.exits(125);
    out.expect(std::fs::metadata(trace).is_err(), "the command did not run");
    out.expect(out.stderr.starts_with("boundary: "), "it says who speaks");
    out.expect(out.stderr.lines().count() <= 2, "it says what and why, and a hint");
    out
}

#[test]
fn a_mistake_in_a_rule_names_the_flag_and_the_column() {
    needs!(root);
    let world = World::new();
    is_mistaken(&world, &["--allow", "domain=a.test pth=/"], &[])
        .complains("--allow")
        .complains("column 15");
    for rule in ["", "domain=", "path=/a,", "domain=a.test domain=b.test", "domain=a.test:80"] {
        is_mistaken(&world, &["--allow", rule], &[]);
    }
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    needs!(root);
    let world = World::new();
    is_mistaken(&world, &[], &[("BOUNDARY_ALLOW", "nonsense")]).complains("BOUNDARY_ALLOW");
    is_mistaken(&world, &[], &[("BOUNDARY_LOG_LEVEL", "loud")]).complains("BOUNDARY_LOG_LEVEL");
    is_mistaken(&world, &[], &[("PROXY_PORT", "65536")]).complains("PROXY_PORT");
}

#[test]
fn a_mistake_in_the_file_names_line_and_column() {
    needs!(root);
    let world = World::new();
    for (text, line, what) in [
        ("allowlist:\n  - domain=a.test\n  - domain=b.test pth=/\n", 3, "pth"),
        ("allowlist: []\nalow: []\n", 2, "alow"),
        ("proxy_port: many\n", 1, "proxy_port"),
        ("allowlist:\n  - domain=a.test\n bad\n", 3, ""),
        ("allowlist: []\nallowlist: []\n", 2, "allowlist"),
    ] {
        let file = world.file("policy.yaml", text);
        let file = file.to_str().expect("our own name");
        let out = is_mistaken(&world, &["--config", file], &[]);
        out.complains(&format!("{file}:{line}:")).complains(what);
    }
}

#[test]
fn a_named_file_that_cannot_be_read_is_an_error() {
    needs!(root);
    let world = World::new();
    is_mistaken(&world, &["--config", "/nonexistent.yaml"], &[]).complains("/nonexistent.yaml");
    let named = [("BOUNDARY_CONFIG", "/nonexistent.yaml")];
    is_mistaken(&world, &[], &named).complains("/nonexistent.yaml");
}

#[test]
fn flag_environment_and_file_accumulate_rules_and_override_values() {
    needs!(root, bpf, curl);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist:\n  - domain=four.test\nlog_level: error\n");
    let file = file.to_str().expect("our own name");
    for host in ["four.test", "six.test", "allowed.test"] {
        let url = format!("http://{host}/");
        let options = ["--config", file, "--allow", "domain=allowed.test"];
        let run = world.boundary(&options, &["curl", "-sS", &url]);
        let out = run.env("BOUNDARY_ALLOW", "domain=six.test").output();
        out.exits(0).says(&format!("this is {host}"));
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    needs!(root, bpf);
    let world = World::new();
    let mut run = world.boundary(&["--allow", "domain=a.test"], &["true"]);
    for name in ["BOUNDARY_ALLOW", "BOUNDARY_CONFIG", "BOUNDARY_LOG_LEVEL", "PROXY_PORT"] {
        run = run.env(name, "");
    }
    run.output().exits(0);
}

#[test]
fn a_command_that_is_missing_is_an_error_with_a_hint() {
    needs!(root);
    let world = World::new();
    for arguments in [&[][..], &["--"], &["--allow", "domain=a.test"]] {
        world.exact(arguments).output().exits(125).complains("--");
    }
}

#[test]
fn an_unknown_flag_is_an_error_of_boundarys_own() {
    needs!(root);
    let world = World::new();
    world.exact(&["--no-such-flag", "--", "true"]).output().exits(125).complains("no-such-flag");
}

#[test]
fn a_taken_port_that_was_named_is_an_error() {
    needs!(root, ebpf);
    let world = World::new();
    world.loopback_service(9300);
    is_mistaken(&world, &["--proxy-port", "9300"], &[]).complains("9300");
}

#[test]
fn help_and_version_are_for_stdout() {
    needs!(root);
    let world = World::new();
    world.exact(&["--version"]).output().exits(0).says(env!("CARGO_PKG_VERSION"));
    let out = world.exact(&["--help"]).output();
    out.exits(0).says("--allow").says("--audit-log");
}
