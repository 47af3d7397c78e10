//! Streams that boundary does not open: any bytes to a permitted name and port, TLS of a client that
//! pins, and the programs that speak so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::world::needs::needs;
use crate::world::{Output, World};

/// Runs a script of Python's with `s` for `socket`.
#[track_caller]
fn python(world: &World, options: &[&str], script: &str) -> Output {
    let script = format!("import socket as s, ssl, time, sys\n{script}");
    world.boundary(options, &["/usr/bin/python3", "-c", &script]).output()
}

/// The closing record of the first record that has these fields.
#[track_caller]
fn closing<'o>(out: &'o Output, fields: &[(&str, &str)]) -> &'o serde_json::Value {
    let number = &out.record(fields)["sequence"];
    let closing = out
        .records
        .iter()
        .find(|record| &record["sequence"] == number && !record["duration_ms"].is_null());
    out.expect(closing.is_some(), "it has a closing record");
    closing.expect("just checked")
}

#[test]
fn a_server_that_speaks_first_is_not_delayed() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "
for name in ('allowed.test', 'six.test', '203.0.113.10', '2001:db8::10'):
    began = time.monotonic()
    c = s.create_connection((name, 22))
    assert c.recv(99) == b'SSH-2.0-simulated\\r\\n'
    assert time.monotonic() - began < 2, name
    c.sendall(b'echo')
    assert c.recv(99) == b'echo', name
print('fine')";
    // Whoever waited for the client to speak would wait for longer than is asserted.
    let options = [
        &["--limit", "silence=30s", "--limit", "head_time=30s"][..],
        &["--allow", "proto=tcp domain=allowed.test,six.test port=22"],
        &["--allow", "proto=tcp host=203.0.113.10,[2001:db8::10] port=22"],
    ];
    let out = python(&world, &options.concat(), script);
    out.exits(0).says("fine");
    for host in ["allowed.test", "six.test", "203.0.113.10", "2001:db8::10"] {
        let end = closing(&out, &[("decision", "allow"), ("proto", "tcp"), ("host", host)]);
        out.expect(end["bytes_up"] == 4 && end["bytes_down"] == 23, "both ways are counted");
    }
}

#[test]
fn a_stream_that_no_rule_permits_is_an_error_at_once() {
    needs!(root, bpf, python3);
    let world = World::new();
    // Waiting for a banner; PostgreSQL's wish for TLS; Redis; MySQL's client waits as well.
    let script = "
for name, port, says in (('denied.test', 22, b''), ('denied.test', 5432, b'\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f'),
                         ('denied.test', 6379, b'*1\\r\\n$4\\r\\nPING\\r\\n'), ('allowed.test', 22, b''),
                         ('203.0.113.66', 22, b''), ('2001:db8::66', 3306, b'')):
    began = time.monotonic()
    c = s.create_connection((name, port))
    c.sendall(says)
    try:
        print('got', c.recv(99))
    except ConnectionResetError:
        took = time.monotonic() - began
        assert took < (1 if says else 4), (name, port, took)
        print('refused', name, port)";
    let out = python(&world, &["--allow", "domain=allowed.test"], script);
    out.exits(0).nothing_left();
    out.expect(out.stdout.matches("refused").count() == 6, "every one is refused");
    for (host, port) in [("denied.test", "5432"), ("denied.test", "22"), ("203.0.113.66", "22")] {
        let fields = [("decision", "deny"), ("code", "unclear_protocol"), ("proto", "tcp")];
        out.record(&[&fields[..], &[("host", host), ("port", port)]].concat());
    }
}

#[test]
fn a_rule_for_one_port_of_a_name_is_none_for_another_nor_for_another_name() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "
for name, port in (('allowed.test', 5432), ('sub.allowed.test', 7), ('denied.test', 7), ('allowed.test', 7)):
    c = s.create_connection((name, port))
    c.sendall(b'\\0hello')
    try:
        print(name, port, c.recv(99))
    except ConnectionResetError:
        print(name, port, 'refused')";
    let out = python(&world, &["--allow", "proto=tcp host=allowed.test port=7"], script);
    out.exits(0).says("allowed.test 5432 refused").says("sub.allowed.test 7 refused");
    out.says("denied.test 7 refused").says("allowed.test 7 b'\\x00hello'");
}

#[test]
fn each_half_of_a_stream_closes_by_itself_and_much_arrives_whole() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "
import threading, hashlib
c = s.create_connection(('allowed.test', 7))
block = bytes(range(256)) * 4096
def send():
    for _ in range(32): c.sendall(block)
    c.shutdown(s.SHUT_WR)
threading.Thread(target=send).start()
got, count = hashlib.sha256(), 0
while part := c.recv(1 << 16):
    got.update(part); count += len(part)
print(count == 32 << 20, got.digest() == hashlib.sha256(block * 32).digest())";
    let out = python(&world, &["--allow", "proto=tcp domain=allowed.test port=7"], script);
    out.exits(0).says("True True");
    let end = closing(&out, &[("proto", "tcp"), ("host", "allowed.test")]);
    out.expect(end["bytes_up"] == 32 << 20 && end["bytes_down"] == 32 << 20, "every byte counts");
}

#[test]
fn names_of_the_hosts_file_are_names_to_a_stream() {
    needs!(root, bpf, python3);
    let world = World::new();
    let hosts = world.file("hosts", "127.0.0.1 localhost\n203.0.113.10 db.corp db\n");
    world.host().cover(&hosts, "/etc/hosts");
    let script = "
c = s.create_connection(('db.corp', 7))
c.sendall(b'\\0hello')
print(c.recv(99))";
    let out = python(&world, &["--allow", "proto=tcp host=db.corp port=7"], script);
    out.exits(0).says("hello").record(&[("decision", "allow"), ("host", "db.corp")]);
    out.expect(out.questions.is_empty(), "nobody is asked for it");
    let out = python(&world, &["--allow", "proto=tcp host=other.corp port=7"], script);
    out.exits(1).complains("ConnectionResetError").nothing_left();
}

/// Speaks TLS to a name, greeting another or none, and trusts the simulated internet alone.
fn greeting(world: &World, greeted: &str) -> String {
    format!(
        "
trust = ssl.create_default_context(cafile='{ca}')
trust.check_hostname = {greeted} is not None
c = trust.wrap_socket(s.create_connection(('allowed.test', 443)), server_hostname={greeted})
issuer = dict(pair for part in c.getpeercert()['issuer'] for pair in part)
print(issuer['commonName'])
c.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n')
print(c.recv(999))",
        ca = world.folder().join("ca.pem").display()
    )
}

#[test]
fn a_tls_rule_leaves_the_client_the_servers_own_certificate() {
    needs!(root, bpf, python3);
    let world = World::new();
    let rule = ["--allow", "proto=tls host=allowed.test port=443"];
    for greeted in ["'allowed.test'", "None"] {
        let out = python(&world, &rule, &greeting(&world, greeted));
        out.exits(0).says("the simulated internet").says("this is allowed.test");
        let fields = [("decision", "allow"), ("proto", "tls"), ("host", "allowed.test")];
        let end = closing(&out, &fields);
        out.expect(end["bytes_up"].as_u64() > Some(100), "it is counted");
        out.expect(
            out.records.iter().all(|record| record["proto"] != "http"),
            "nothing was opened",
        );
    }
    // What the same client says to boundary's own certificate.
    let opened = ["--allow", "domain=allowed.test"];
    let out = python(&world, &opened, &greeting(&world, "'allowed.test'"));
    out.exits(1).complains("CERTIFICATE_VERIFY_FAILED");
}

#[test]
fn a_tls_rule_is_for_greetings_of_that_name_alone() {
    needs!(root, bpf, python3);
    let world = World::new();
    let rules = ["--allow", "proto=tls domain=allowed.test,sub.allowed.test port=443"];
    for greeted in ["'denied.test'", "'sub.allowed.test'"] {
        let out = python(&world, &rules, &greeting(&world, greeted));
        out.exits(1).complains("ConnectionResetError").nothing_left();
        out.record(&[("decision", "deny"), ("code", "host_mismatch"), ("proto", "tls")]);
    }
    // What is no TLS has no greeting to go by.
    let script = "
c = s.create_connection(('allowed.test', 443))
c.sendall(b'SSH-2.0-x\\r\\n')
c.recv(99)";
    let out = python(&world, &rules, script);
    out.exits(1).complains("ConnectionResetError").nothing_left();
}

#[test]
fn git_clones_over_ssh() {
    needs!(root, bpf, privilege, git, ssh, sshd);
    let world = World::new();
    world.internet().own("/run");
    let made = "mkdir -p /run/sshd; ssh-keygen -qt ed25519 -N '' -f key; ssh-keygen -qt ed25519 -N '' -f hostkey
        export GIT_CONFIG_GLOBAL=/dev/null
        git init -q work; cd work; echo content > file; git add file
        git -c user.name=a -c user.email=a@a.test commit -qm one
        cd ..; git clone -q --bare work repo.git";
    let folder = world.folder().to_owned();
    let status = world.internet().run(move || {
        Command::new("sh").args(["-ec", made]).current_dir(folder).status().expect("a shell")
    });
    assert!(status.success());
    let here = world.folder().display();
    let config = format!(
        "Port 2222\nHostKey {here}/hostkey\nAuthorizedKeysFile {here}/key.pub\nStrictModes no\n\
         PidFile none\nUsePAM no\nPermitRootLogin prohibit-password\n"
    );
    let config = world.file("sshd_config", &config);
    let config = config.to_str().expect("our own name");
    let _sshd = world.daemon(&["/usr/sbin/sshd", "-D", "-q", "-f", config], 2222);
    let clone = format!(
        "export GIT_SSH_COMMAND='ssh -F none -i {here}/key -o UserKnownHostsFile=known -o StrictHostKeyChecking=accept-new'
         rm -rf cloned; git clone -q ssh://allowed.test:2222{here}/repo.git cloned && cat cloned/file"
    );
    let clone = ["sh", "-c", &clone];
    world.bare(&clone).output().exits(0).says("content");
    let out =
        world.boundary(&["--allow", "proto=tcp host=allowed.test port=2222"], &clone).output();
    out.exits(0).says("content").record(&[("decision", "allow"), ("proto", "tcp")]);
    let out = world.boundary(&["--allow", "domain=allowed.test"], &clone).output();
    out.exits(128).complains("reset").nothing_left();
}

#[test]
fn redis_answers_by_name() {
    needs!(root, bpf, redis_server, redis_cli);
    let world = World::new();
    let _redis = world.daemon(
        &[
            "redis-server",
            "--port",
            "6379",
            "--save",
            "",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--logfile",
            "/dev/null",
        ],
        6379,
    );
    let script = "redis-cli -h allowed.test set key value; redis-cli -h allowed.test get key";
    let rule = ["--allow", "proto=tcp domain=allowed.test port=6379"];
    let out = world.boundary(&rule, &["sh", "-c", script]).output();
    out.exits(0).says("OK").says("value");
    let out = world.boundary(&["--allow", "domain=allowed.test"], &["sh", "-c", script]).output();
    out.nothing_left().record(&[("decision", "deny"), ("port", "6379")]);
    out.expect(out.stdout.contains("reset") || out.stderr.contains("reset"), "the user is told");
}

#[test]
fn psql_asks_by_name() {
    // Its folder is of a user of its own.
    needs!(root, privilege, bpf, psql, initdb, postgres);
    let world = World::new();
    let data = world.folder().join("data");
    fs::create_dir(&data).expect("the folder is ours");
    // Whoever the machine's own server runs as; it refuses to be root.
    let made = "chown postgres: \"$1\" && chmod 700 \"$1\" && exec setpriv --reuid=postgres --regid=postgres \
                --clear-groups initdb -A trust -N -U postgres -D \"$1\"";
    let data = data.to_str().expect("our own name").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:{}", crate::world::needs::folders().join(":"));
    let status = Command::new("sh").args(["-c", made, "sh", &data]).env("PATH", &path).output();
    let status = status.expect("a shell");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let hba = world.folder().join("data/pg_hba.conf");
    fs::write(&hba, "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n").expect("ours");
    fs::set_permissions(&hba, fs::Permissions::from_mode(0o644)).expect("ours");
    let start = format!(
        "PATH='{path}' exec setpriv --reuid=postgres --regid=postgres --clear-groups \
         postgres -D {data} -p 5433 -k '' -c listen_addresses=0.0.0.0 -c fsync=off 2>/dev/null"
    );
    let _postgres = world.daemon(&["sh", "-c", &start], 5433);
    let ask =
        ["psql", "-h", "allowed.test", "-p", "5433", "-U", "postgres", "-Atc", "select 6 * 7"];
    let out = world.boundary(&["--allow", "proto=tcp host=allowed.test port=5433"], &ask).output();
    out.exits(0).says("42").record(&[("decision", "allow"), ("proto", "tcp")]);
    let out = world.boundary(&["--allow", "domain=allowed.test"], &ask).output();
    out.exits(2).complains("allowed.test").nothing_left();
}

#[test]
fn ftp_reaches_its_server_again_on_the_port_that_it_is_told() {
    needs!(root, bpf, curl, python3);
    let world = World::new();
    let server = world.file(
        "ftp.py",
        "
import socket as s
control = s.create_server(('::', 2121), family=s.AF_INET6, dualstack_ipv6=True)
data = s.create_server(('::', 30000), family=s.AF_INET6, dualstack_ipv6=True)
answers = {'USER': '331 go on', 'PASS': '230 in', 'PWD': '257 \"/\"', 'TYPE': '200 fine',
           'EPSV': '229 at (|||30000|)', 'SIZE': '213 6', 'RETR': '150 coming', 'QUIT': '221 bye'}
while True:
    c, _ = control.accept()
    try:
        c.sendall(b'220 ready\\r\\n')
        for line in c.makefile():
            word = line.split()[0].upper()
            c.sendall((answers.get(word, '500 what') + '\\r\\n').encode())
            if word == 'RETR':
                d, _ = data.accept()
                d.sendall(b'a file')
                d.close()
                c.sendall(b'226 done\\r\\n')
    except OSError:
        pass  # Whoever only looked whether it listens has gone.
    c.close()
",
    );
    let server = server.to_str().expect("our own name");
    let _ftp = world.daemon(&["/usr/bin/python3", server], 2121);
    let fetch = ["curl", "-sS", "-m", "20", "ftp://allowed.test:2121/file"];
    world.bare(&fetch).output().exits(0).says("a file");
    let both = ["--allow", "proto=tcp host=allowed.test port=2121,30000-30010"];
    let out = world.boundary(&both, &fetch).output();
    out.exits(0).says("a file").record(&[("decision", "allow"), ("port", "30000")]);
    let one = ["--allow", "proto=tcp host=allowed.test port=2121"];
    let out = world.boundary(&one, &fetch).output();
    out.record(&[("decision", "deny"), ("host", "allowed.test"), ("port", "30000")]);
    out.expect(!out.stdout.contains("a file"), "the other port is another decision");
}

#[test]
fn netcat_is_told_no() {
    needs!(root, bpf, nc);
    let world = World::new();
    let rule = ["--allow", "proto=tcp host=allowed.test port=22"];
    let out = world.boundary(&rule, &["nc", "-N", "allowed.test", "22"]).input("").output();
    out.exits(0).says("SSH-2.0-simulated");
    let nc = ["timeout", "20", "nc", "-d", "denied.test", "22"];
    let out = world.boundary(&rule, &nc).output();
    out.nothing_left().record(&[("decision", "deny"), ("host", "denied.test"), ("port", "22")]);
    let ended = out.status.and_then(|status| status.code());
    out.expect(ended != Some(124), "it is not left waiting");
}
