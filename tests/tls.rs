//! TLS: intercepted with an authority that every program trusts, verified towards the internet.

use std::fs;

use crate::world::World;
use crate::world::needs::needs;
use crate::world::processes::eventually;

/// What lets programs find the session's authority.
const VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "BUNDLE_SSL_CA_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "HEX_CACERTS_PATH",
    "npm_config_cafile",
];

#[test]
fn a_program_without_any_variables_trusts_the_session() {
    needs!(root, bpf, curl, covers);
    let world = World::new();
    let curl = ["env", "-i", "/usr/bin/curl", "-sS", "https://allowed.test/"];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    out.exits(0).says("this is allowed.test");
    let curl = ["env", "-i", "/usr/bin/curl", "-sS", "https://denied.test/"];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    out.exits(0).says("Request Blocked by Boundary").nothing_left();
}

#[test]
fn every_variable_points_at_a_bundle_that_the_command_may_read() {
    needs!(root, bpf);
    let world = World::new();
    for variable in VARIABLES {
        let script = format!("grep -c 'BEGIN CERTIFICATE' \"${variable}\"");
        let out = world.boundary(&[], &["sh", "-c", &script]).through_sudo().output();
        let count: u32 = out.stdout.trim().parse().unwrap_or(0);
        // The system's roots and the session's own; NODE_EXTRA_CA_CERTS may hold the latter alone.
        out.exits(0).expect(count > 0, &format!("{variable} names a bundle"));
    }
}

#[test]
fn no_private_key_can_be_read_from_inside() {
    needs!(root, bpf);
    let world = World::new();
    let script = "cat \"$SSL_CERT_FILE\"; cat \"$(dirname \"$SSL_CERT_FILE\")\"/* 2>/dev/null";
    let out = world.boundary(&[], &["sh", "-c", script]).output();
    out.says("BEGIN CERTIFICATE");
    out.expect(!out.stdout.contains("PRIVATE KEY"), "no key is among them");
}

#[test]
fn the_bundle_outside_is_untouched() {
    needs!(root, bpf, curl);
    let world = World::new();
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let before = fs::read(bundle).ok();
    let session = world.boundary(&[], &[world.attack(), "signals", "1"]).start();
    session.wait_for("ready");
    let during = world.bare(&["cat", bundle]).output().stdout;
    session.signal(nix::sys::signal::Signal::SIGTERM);
    let out = session.finish();
    out.expect(before.as_deref() == Some(during.as_bytes()), "nobody else sees the session's");
    out.expect(before == fs::read(bundle).ok(), "and nothing of it stays");
}

#[test]
fn an_upstream_that_cannot_prove_itself_is_a_502_and_gets_no_request() {
    needs!(root, bpf, curl);
    let world = World::new();
    for host in ["expired.test", "selfsigned.test", "wrong.test"] {
        let rule = format!("domain={host}");
        let url = format!("https://{host}/");
        let curl = ["curl", "-sS", "-i", "-H", "Authorization: secret", url.as_str()];
        let out = world.boundary(&["--allow", &rule], &curl).output();
        out.exits(0).says(" 502").says("certificate");
        out.expect(out.requests.is_empty(), "no request arrives");
    }
}

#[test]
fn an_sni_that_disagrees_with_the_host_is_refused() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    // C-1: the name of the handshake allowed, the name inside not.
    let curl = ["curl", "-sS", "-H", "Host: denied.test", "https://allowed.test/"];
    let out = world.boundary(&options, &curl).output();
    out.record(&[("decision", "deny"), ("code", "host_mismatch")]);
    out.expect(out.requests.is_empty(), "no request arrives");
}

#[test]
fn python_needs_no_telling() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "import urllib.request as r; print(r.urlopen('https://allowed.test/').read())";
    let python = ["/usr/bin/python3", "-c", script];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &python).output();
    out.exits(0).says("this is allowed.test");
    let out = world.boundary(&[], &python).output();
    out.exits(1).complains("403").nothing_left();
}

#[test]
fn wget_needs_no_telling() {
    needs!(root, bpf, wget);
    let world = World::new();
    let wget = ["wget", "-qO-", "https://allowed.test/"];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &wget).output();
    out.exits(0).says("this is allowed.test");
    world.boundary(&[], &wget).output().exits(8).nothing_left();
}

/// Makes an authority and leaves for `weak.test`: a good one, one signed with SHA-1, one with a short
/// key.
const OLD_CERTIFICATES: &str = "set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=old -days 2
echo subjectAltName=DNS:weak.test > names
for kind in good:2048:sha256 sha1:2048:sha1 short:1024:sha256; do
    IFS=: read name bits hash <<END
$kind
END
    openssl req -newkey rsa:$bits -nodes -keyout $name.key -out request -subj /CN=weak.test
    openssl x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -$hash -days 2 \
        -extfile names -out $name.crt
done";

/// A server that somebody else wrote, in the internet until the test ends.
struct Yesterday(std::process::Child);

impl Yesterday {
    fn start(world: &World, folder: &std::path::Path, line: &str) -> Self {
        let (folder, line) = (folder.to_owned(), line.to_owned());
        let child = world.internet().run(move || {
            let mut server = std::process::Command::new("openssl");
            server.args(line.split(' ')).current_dir(folder).stdin(std::process::Stdio::null());
            server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            server.spawn().expect("openssl starts")
        });
        Self(child)
    }
}

impl Drop for Yesterday {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_upstream_of_yesterday_is_a_502_that_says_why() {
    needs!(root, bpf, curl, openssl, nc);
    let world = World::new();
    world.name("weak.test", &["203.0.113.30"]);
    let folder = world.folder().join("old");
    fs::create_dir(&folder).expect("the folder is ours");
    let made = std::process::Command::new("sh")
        .args(["-c", OLD_CERTIFICATES])
        .current_dir(&folder)
        .output()
        .expect("there is a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let root = folder.join("ca.crt").display().to_string();
    // (certificate, how the server is told to speak, what the client reads)
    let rows = [
        ("good", "-tls1_2", ""),
        ("good", "-tls1_3", ""),
        ("sha1", "-tls1_2", "bad_certificate"),
        ("short", "-tls1_2", "bad_certificate"),
        ("good", "-tls1_1", "ProtocolVersion"),
        ("good", "-tls1", "ProtocolVersion"),
        ("good", "-tls1_2 -cipher AES256-SHA:@SECLEVEL=0", "HandshakeFailure"),
    ];
    for (port, (certificate, speech, says)) in (44300..).zip(rows) {
        let level = if speech.contains("-cipher") { "" } else { " -cipher DEFAULT:@SECLEVEL=0" };
        let line = format!(
            "s_server -4 -accept {port} -www -cert {certificate}.crt -key {certificate}.key \
             {speech}{level}"
        );
        let _server = Yesterday::start(&world, &folder, &line);
        let number = port.to_string();
        eventually("the server listens", || {
            let look = world.bare(&["nc", "-z", "203.0.113.30", &number]).output();
            look.status.is_some_and(|status| status.success())
        });
        let url = format!("https://weak.test:{port}/");
        let options = ["--allow", "domain=weak.test", "--upstream-ca", &root];
        let out = world.boundary(&options, &["curl", "-sSi", &url]).output();
        if says.is_empty() {
            out.exits(0).says(" 200 ");
        } else {
            out.exits(0).says(" 502 ").says(says);
        }
    }
}

#[test]
fn a_root_that_was_named_is_read_before_the_command_starts() {
    needs!(root, curl);
    let world = World::new();
    let go = world.folder().join("go");
    let script = format!(
        "echo ready; until [ -e {} ]; do sleep 0.05; done; \
         curl -sS -o /dev/null -w '%{{http_code}}\n' https://allowed.test/",
        go.display()
    );
    let session =
        world.boundary(&["--allow", "domain=allowed.test"], &["sh", "-c", &script]).start();
    session.wait_for("ready");
    fs::remove_file(world.folder().join("ca.pem")).expect("it is there");
    fs::write(&go, "").expect("written");
    session.finish().exits(0).says("200");
}
