//! Section E: the leaves that the session's authority signs, shown to the libraries that programs
//! verify them with; and the authority, found by programs that nobody told and by programs that
//! forgot what they were told.

use std::process::Command;

use crate::world::World;
use crate::world::needs::{also, met, needs};

/// A name that no common name can hold.
const LONG: &str =
    "a-label-that-is-rather-long-for-a-host.another-label-that-is-rather-long.allowed.test";

/// The hosts whose leaves differ: a name, a name longer than 64 bytes, an address of each family.
const HOSTS: [&str; 4] = ["allowed.test", LONG, "203.0.113.10", "[2001:db8::10]"];

/// What permits them.
const POLICY: [&str; 4] =
    ["--allow", "domain=allowed.test", "--allow", "host=203.0.113.10,[2001:db8::10]"];

/// A world that knows the long name as well.
fn world() -> World {
    let world = World::new();
    world.name(LONG, &["203.0.113.12", "2001:db8::12"]);
    world
}

/// Checks that a client believes every kind of leaf, told by variables; and by the system's own
/// places, where its environment is empty.
#[track_caller]
fn is_believed(world: &World, client: impl Fn(&str) -> Vec<String>) {
    for host in HOSTS {
        believes(world, &client(host));
    }
    if forgets() {
        let mut forgetful = line(&["/usr/bin/env", "-i"]);
        forgetful.extend(client("allowed.test"));
        believes(world, &forgetful);
    }
}

/// Whether a program that forgot what it was told can believe: where there are no mounts, variables are all
/// that tells it.
fn forgets() -> bool {
    also(&["covers"])
}

/// Checks one client that says what the origin answered.
#[track_caller]
fn believes(world: &World, client: &[String]) {
    let client: Vec<&str> = client.iter().map(String::as_str).collect();
    let out = world.boundary(&POLICY, &client).output();
    out.exits(0).says("this is");
    // Intercepted, and not passed on: the request itself is on record.
    let seen = out.records.iter().any(|record| {
        let url = record["http_url"].as_str().unwrap_or_default();
        url.starts_with("https://") && record["decision"] == "allow"
    });
    out.expect(seen, "the request is on record");
}

/// A command line.
fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A shell's script as a command line.
fn script(text: &str) -> Vec<String> {
    line(&["/bin/sh", "-c", text])
}

#[test]
fn e01_openssl_believes() {
    needs!(root, bpf, openssl, curl);
    let world = world();
    is_believed(&world, |host| line(&["/usr/bin/curl", "-gsS", &format!("https://{host}/")]));
    // By the bundle, and by the directory of hashes alone.
    for store in ["", "-no-CAfile -no-CAstore -CApath /etc/ssl/certs"] {
        if !store.is_empty() && !forgets() {
            continue;
        }
        let client = format!(
            "printf 'GET / HTTP/1.0\\r\\nHost: allowed.test\\r\\n\\r\\n' | /usr/bin/openssl s_client \
             -quiet -verify_return_error -verify_hostname allowed.test -x509_strict {store} \
             -servername allowed.test -connect allowed.test:443"
        );
        believes(&world, &script(&client));
    }
}

#[test]
fn e01_gnutls_believes() {
    if !met(&["root", "bpf", "covers", "gnutls-cli", "wget"]) {
        return;
    }
    let world = world();
    is_believed(&world, |host| line(&["/usr/bin/wget", "-qO-", &format!("https://{host}/")]));
    for host in ["allowed.test", LONG, "203.0.113.10"] {
        let client = ["/usr/bin/gnutls-cli", "--verify-hostname", host, host];
        let out = world.boundary(&POLICY, &client).output();
        out.exits(0).says("The certificate is trusted").says("Handshake was completed");
    }
}

#[test]
fn e01_nss_believes() {
    if !met(&["root", "bpf", "certutil", "tstclnt"]) {
        return;
    }
    let world = world();
    let visit = |trust: &str, host: &str| {
        let text = format!(
            "set -e; rm -rf nss; mkdir nss; certutil -N -d sql:nss --empty-password; {trust}
             tstclnt -d sql:nss -h {host} -p 443 -Q -V tls1.2:tls1.3 < /dev/null"
        );
        world.boundary(&POLICY, &["sh", "-c", &text]).output()
    };
    // NSS reads its own store alone: the authority is added to it as a user would do.
    let trust = "certutil -A -d sql:nss -n boundary -t C,, -a -i \
                 \"$(dirname \"$SSL_CERT_FILE\")/anchors/boundary.pem\"";
    for host in ["allowed.test", LONG] {
        visit(trust, host).exits(0);
        let out = visit("", host);
        out.expect(!out.status.is_some_and(|it| it.success()), "without it NSS refuses");
    }
}

#[test]
fn e01_e03_java_believes() {
    needs!(root, bpf, java);
    let world = world();
    let program = world.file(
        "Fetch.java",
        "import java.net.*; import java.net.http.*;
         class Fetch {
             public static void main(String[] a) throws Exception {
                 var c = new URI(a[0]).toURL().openConnection();
                 c.getInputStream().readAllBytes();
                 var to = HttpRequest.newBuilder(new URI(a[0])).build();
                 var got = HttpClient.newHttpClient().send(to, HttpResponse.BodyHandlers.ofString());
                 System.out.println(got.body());
             }
         }",
    );
    let program = program.to_str().expect("our own name");
    is_believed(&world, |host| line(&["/usr/bin/java", program, &format!("https://{host}/")]));
    // What the user told it stays, a trust store that cannot know us does not count.
    let told = "-Dtold=kept -Djavax.net.ssl.trustStore=/nowhere";
    let java = format!("echo \"$JAVA_TOOL_OPTIONS\"; java {program} https://allowed.test/");
    let out = world.boundary(&POLICY, &["sh", "-c", &java]).env("JAVA_TOOL_OPTIONS", told).output();
    out.exits(0).says("this is allowed.test").says("-Dtold=kept ");
}

#[test]
fn e01_e03_go_believes() {
    needs!(root, bpf, go);
    let world = world();
    let source = world.file(
        "fetch.go",
        "package main
         import (\"fmt\"; \"io\"; \"net/http\"; \"os\")
         func main() {
             answer, err := http.Get(os.Args[1])
             if err != nil { fmt.Println(err); os.Exit(1) }
             body, _ := io.ReadAll(answer.Body)
             fmt.Print(string(body))
         }",
    );
    let program = world.folder().join("fetch");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOCACHE", world.folder().join("go"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "go builds a program of one file");
    let program = program.to_str().expect("our own name");
    is_believed(&world, |host| line(&[program, &format!("https://{host}/")]));
}

#[test]
fn e01_e03_python_believes() {
    needs!(root, bpf, python3);
    let world = world();
    let fetch = |how: &str, host: &str| line(&["/usr/bin/python3", "-c", how, host]);
    let urllib = "import sys, urllib.request as r
print(r.urlopen('https://%s/' % sys.argv[1]).read())";
    is_believed(&world, |host| fetch(urllib, host));
    // Python 3.13 and newer verify by the letter of RFC 5280.
    let strict = "import ssl, sys, urllib.request as r
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
print(r.urlopen('https://%s/' % sys.argv[1], context=context).read())";
    is_believed(&world, |host| fetch(strict, host));
    for (module, get) in [("requests", "requests.get"), ("httpx", "httpx.get")] {
        let file = format!("/usr/lib/python3/dist-packages/{module}/__init__.py");
        if met(&[&file]) {
            let get =
                format!("import sys, {module}\nprint({get}('https://%s/' % sys.argv[1]).text)");
            is_believed(&world, |host| fetch(&get, host));
        }
    }
}

#[test]
fn e03_ruby_php_and_perl_believe() {
    let world = world();
    // Ruby writes an address of version 6 without brackets, which is no `Host`; PHP looks for it in
    // the certificate with them, and Perl asks for it in the greeting so.
    let url = |host: &str| {
        format!("https://{}/", if host.starts_with('[') { "allowed.test" } else { host })
    };
    if met(&["root", "bpf", "ruby"]) {
        let get = "require 'net/http'; puts Net::HTTP.get(URI(ARGV[0]))";
        is_believed(&world, |host| line(&["/usr/bin/ruby", "-e", get, &url(host)]));
    }
    if met(&["root", "bpf", "php"]) {
        let get = "echo file_get_contents($argv[1]) ?: exit(1);";
        is_believed(&world, |host| line(&["/usr/bin/php", "-r", get, &url(host)]));
    }
    if met(&["root", "bpf", "perl", "/usr/share/perl5/IO/Socket/SSL.pm"]) {
        let get = "use HTTP::Tiny; my $answer = HTTP::Tiny->new(verify_SSL => 1)->get($ARGV[0]); \
                   print $answer->{content}; exit !$answer->{success}";
        is_believed(&world, |host| line(&["/usr/bin/perl", "-e", get, &url(host)]));
    }
}

#[test]
fn e03_git_believes_with_either_library() {
    needs!(root, bpf, git);
    let world = world();
    let files = world.folder().join("files");
    std::fs::create_dir_all(&files).expect("the folder is ours");
    let made = Command::new("sh")
        .args(["-ec", "git init -q --bare repo.git; git -C repo.git update-server-info"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(files)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "git makes a repository");
    // Debian's speaks by GnuTLS; one that was built on this machine may speak by OpenSSL.
    for git in ["/usr/bin/git", "/usr/local/bin/git"].iter().filter(|git| met(&[git])) {
        for host in HOSTS {
            let ask = format!("{git} ls-remote https://{host}/files/repo.git && echo this is it");
            believes(&world, &script(&ask));
        }
        if forgets() {
            let ask = "ls-remote https://allowed.test/files/repo.git && echo this is it";
            believes(&world, &script(&format!("env -i {git} {ask}")));
        }
    }
}

#[test]
fn e03_cargo_believes() {
    needs!(root, bpf, cargo);
    let world = world();
    let files = world.folder().join("files");
    let write = |path: &str, text: &str| {
        let path = world.folder().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the folder is ours");
        std::fs::write(path, text).expect("the folder is ours");
    };
    write("files/index/config.json", r#"{"dl":"https://allowed.test/files/crates"}"#);
    write(
        "files/index/le/ft/left-pad",
        "{\"name\":\"left-pad\",\"vers\":\"1.3.0\",\"deps\":[],\"features\":{},\"yanked\":false,\
         \"cksum\":\"0000000000000000000000000000000000000000000000000000000000000000\"}\n",
    );
    write(
        "work/Cargo.toml",
        "[package]\nname = \"work\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\nleft-pad = { version = \"1\", registry = \"here\" }\n",
    );
    write("work/src/lib.rs", "");
    write(
        "work/.cargo/config.toml",
        "[registries.here]\nindex = \"sparse+https://allowed.test/files/index/\"\n",
    );
    assert!(files.is_dir());
    for clear in ["", "env -i HOME=\"$HOME\""] {
        if !clear.is_empty() && !forgets() {
            continue;
        }
        let ask = format!(
            "cd work; rm -rf Cargo.lock home; {clear} CARGO_HOME=\"$PWD/home\" {} \
             generate-lockfile && grep -q left-pad Cargo.lock && echo this is it",
            env!("CARGO")
        );
        believes(&world, &script(&ask));
    }
}

#[test]
fn e03_apt_believes() {
    if !met(&["root", "bpf", "apt-get"]) {
        return;
    }
    let world = world();
    let files = world.folder().join("files/debian");
    std::fs::create_dir_all(&files).expect("the folder is ours");
    std::fs::write(files.join("Packages"), "").expect("the folder is ours");
    let list = "deb [trusted=yes] https://allowed.test/files/debian ./\n";
    let list = world.file("apt.list", list);
    let apt = format!(
        "mkdir -p apt/lists/partial apt/cache; /usr/bin/apt-get -o Dir::Etc::SourceList={} \
         -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$PWD/apt/lists \
         -o Dir::Cache=$PWD/apt/cache -o APT::Sandbox::User=root -o Acquire::Languages=none \
         -o APT::Update::Error-Mode=any update && echo this is it",
        list.display()
    );
    believes(&world, &script(&apt));
    if forgets() {
        believes(&world, &script(&format!("env -i /bin/sh -c '{apt}'")));
    }
}

#[test]
fn e03_node_believes() {
    needs!(root, bpf, node);
    let world = world();
    for host in HOSTS {
        let fetch = format!(
            "fetch('https://{host}/').then(async answer => console.log(await answer.text()))"
        );
        believes(&world, &line(&["/usr/bin/node", "-e", &fetch]));
        let get = format!(
            "require('https').get('https://{host}/', answer => answer.pipe(process.stdout))"
        );
        believes(&world, &line(&["/usr/bin/node", "-e", &get]));
    }
}

#[test]
fn e03_anchors_of_other_distributions_hold_the_authority() {
    needs!(root, bpf, covers);
    let world = world();
    world.host().own("/etc/ca-certificates");
    world.host().run(|| {
        let anchors = "/etc/ca-certificates/trust-source/anchors";
        std::fs::create_dir_all(anchors).expect("the folder is ours");
        std::fs::write(format!("{anchors}/corporate.pem"), "kept").expect("the folder is ours");
        let extracted = "/etc/ca-certificates/extracted";
        std::fs::create_dir_all(extracted).expect("the folder is ours");
        std::fs::write(format!("{extracted}/tls-ca-bundle.pem"), "old")
            .expect("the folder is ours");
    });
    let look = "cd /etc/ca-certificates; cat trust-source/anchors/corporate.pem; \
                cmp trust-source/anchors/boundary.pem \"$(dirname \"$SSL_CERT_FILE\")\"/*.0 && \
                cmp extracted/tls-ca-bundle.pem \"$SSL_CERT_FILE\" && echo same";
    let out = world.boundary(&[], &["sh", "-c", look]).output();
    out.exits(0).says("kept").says("same");
    let outside = ["cat", "/etc/ca-certificates/extracted/tls-ca-bundle.pem"];
    world.bare(&outside).output().exits(0).says("old");
}

#[test]
fn e03_a_callers_umask_hides_nothing_from_the_user() {
    needs!(root, bpf, curl, covers);
    let world = world();
    let curl = ["env", "-i", "/usr/bin/curl", "-sS", "https://allowed.test/"];
    let run = world.boundary(&POLICY, &curl).through_sudo();
    let out = run.under(&["sh", "-c", "umask 077; exec \"$@\"", "sh"]).output();
    out.exits(0).says("this is allowed.test");
}
