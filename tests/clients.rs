//! The programs that people run, unmodified, with no flag or variable set for boundary's sake.
//!
//! Each fetches from a registry or a repository of the simulated internet, and is told a readable
//! no where its host is not allowed. That the registry is there is shown without boundary first.

use std::path::PathBuf;
use std::process::Command;

use crate::world::World;
use crate::world::needs::needs;

/// The policy that permits the simulated registries.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// The folder that the world serves below `/files`, with something in it that a command makes.
fn serving(world: &World, script: &str) -> PathBuf {
    let files = world.folder().join("files");
    std::fs::create_dir_all(&files).expect("the folder is ours");
    let made = Command::new("sh").args(["-ec", script]).current_dir(&files).output();
    let made = made.expect("there is a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

/// Checks a client bare, allowed and denied.
#[track_caller]
fn is_at_home(world: &World, client: &[&str], says: &str) {
    world.bare(client).by_the_same_user().output().exits(0).says(says);
    let out = world.boundary(&ALLOW, client).output();
    out.exits(0).says(says).record(&[("decision", "allow"), ("host", "allowed.test")]);
    let out = world.boundary(&["--allow", "domain=elsewhere.test"], client).output();
    out.expect(out.status.is_some_and(|status| !status.success()), "the client fails");
    out.nothing_left().record(&[("decision", "deny"), ("code", "no_rule")]);
    let told = format!("{}{}", out.stdout, out.stderr);
    let readable = told.contains("403") || told.contains("msg=DENY");
    out.expect(readable, "the user is told");
}

#[test]
fn curl_and_wget_fetch() {
    needs!(root, bpf, curl, wget);
    let world = World::new();
    for url in ["http://allowed.test/", "https://allowed.test/"] {
        is_at_home(&world, &["curl", "-fsS", url], "this is allowed.test");
    }
    let wget = ["wget", "-nv", "-O-", "http://allowed.test/"];
    is_at_home(&world, &wget, "this is allowed.test");
}

/// Has the world serve a repository.
pub(crate) fn repository(world: &World) {
    serving(
        world,
        "export GIT_CONFIG_GLOBAL=/dev/null
         git init -q work; cd work; echo content > file; git add file
         git -c user.name=a -c user.email=a@a.test commit -qm one
         cd ..; git clone -q --bare work repo.git; git -C repo.git update-server-info",
    );
}

#[test]
fn git_clones() {
    needs!(root, bpf, git);
    let world = World::new();
    repository(&world);
    let clone = "rm -rf cloned; git clone -q https://allowed.test/files/repo.git cloned 2>&1; \
                 cat cloned/file";
    is_at_home(&world, &["sh", "-c", clone], "content");
}

/// Has the world serve a package of Python.
pub(crate) fn wheel(world: &World) {
    serving(
        world,
        "mkdir -p simple/six; cd simple/six
         echo '<a href=\"six-1.0-py3-none-any.whl\">six</a>' > index.html
         python3 - <<'END'
import zipfile
wheel = zipfile.ZipFile('six-1.0-py3-none-any.whl', 'w')
wheel.writestr('six.py', '')
info = 'six-1.0.dist-info/'
wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: six\\nVersion: 1.0\\n')
wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
wheel.writestr(info + 'RECORD', '')
wheel.close()
END",
    );
}

#[test]
fn pip_downloads() {
    needs!(root, bpf, python3);
    let world = World::new();
    wheel(&world);
    let pip = "/usr/bin/python3 -m pip download --no-cache-dir --disable-pip-version-check \
               --retries 0 --index-url https://allowed.test/files/simple/ six 2>&1";
    let pip = format!("{pip} && rm six-1.0-py3-none-any.whl");
    is_at_home(&world, &["sh", "-c", &pip], "Saved");
}

/// Has the world serve what npm is told of a package.
pub(crate) fn package(world: &World) {
    let package = r#"{"name":"left-pad","dist-tags":{"latest":"1.3.0"},"versions":{"1.3.0":
        {"name":"left-pad","version":"1.3.0","dist":{"tarball":"https://allowed.test/x"}}}}"#;
    std::fs::write(serving(world, "mkdir npm").join("npm/left-pad"), package).expect("ours");
}

/// Has the world serve a registry of crates, with one in it.
pub(crate) fn crate_registry(world: &World) {
    serving(
        world,
        "mkdir -p left-pad-1.3.0/src crates/left-pad/1.3.0 index/le/ft
         printf '[package]\\nname=\"left-pad\"\\nversion=\"1.3.0\"\\n' > left-pad-1.3.0/Cargo.toml
         touch left-pad-1.3.0/src/lib.rs
         tar -czf crates/left-pad/1.3.0/download left-pad-1.3.0
         echo '{\"dl\":\"https://allowed.test/files/crates\"}' > index/config.json
         sum=$(sha256sum < crates/left-pad/1.3.0/download | cut -c1-64)
         printf '{\"name\":\"left-pad\",\"vers\":\"1.3.0\",\"deps\":[],\"features\":{},' > index/le/ft/left-pad
         printf '\"yanked\":false,\"cksum\":\"%s\"}\\n' $sum >> index/le/ft/left-pad",
    );
}

/// Has the world serve an archive of Debian packages, with something that is called one in it.
pub(crate) fn archive(world: &World) {
    serving(
        world,
        "mkdir debian; cd debian; echo content > hostname.deb
         printf 'Package: hostname\\nVersion: 1\\nArchitecture: all\\nFilename: ./hostname.deb\\n' > Packages
         printf 'Size: 8\\nSHA256: %s\\n\\n' $(sha256sum < hostname.deb | cut -c1-64) >> Packages",
    );
}

#[test]
fn npm_looks_up() {
    needs!(root, bpf, npm);
    let world = World::new();
    package(&world);
    let npm = "npm view left-pad version --fetch-retries 0 \
               --registry https://allowed.test/files/npm/ --cache \"$PWD/npm-cache\" 2>&1";
    is_at_home(&world, &["sh", "-c", &format!("{npm}; e=$?; rm -rf npm-cache; exit $e")], "1.3.0");
}

#[test]
fn node_fetches() {
    needs!(root, bpf, node);
    let world = World::new();
    let script = "fetch('https://allowed.test/').then(async answer => { \
                  console.log(answer.status, await answer.text()); \
                  process.exit(answer.ok ? 0 : 1) })";
    is_at_home(&world, &["node", "-e", script], "this is allowed.test");
}

#[test]
fn python_fetches() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "import urllib.request as r; print(r.urlopen('https://allowed.test/').read())";
    is_at_home(&world, &["/usr/bin/python3", "-c", script], "this is allowed.test");
}

/// Checks a program of one file in Java.
#[track_caller]
fn java_is_at_home(world: &World, body: &str) {
    let program = format!(
        "import java.net.*; import java.net.http.*; import java.nio.*; import java.nio.channels.*;
         class Fetch {{ public static void main(String[] a) throws Exception {{ {body} }} }}"
    );
    let program = world.file("Fetch.java", &program);
    let program = program.to_str().expect("our own name");
    is_at_home(world, &["java", program], "this is allowed.test");
}

#[test]
fn java_fetches() {
    needs!(root, bpf, java);
    let world = World::new();
    java_is_at_home(
        &world,
        "var c = (HttpURLConnection) new URI(\"http://allowed.test/\").toURL().openConnection();
         System.out.println(c.getResponseCode());
         System.out.println(new String(c.getInputStream().readAllBytes()));",
    );
    // Its newer client has selectors and threads of its own.
    java_is_at_home(
        &world,
        "var to = HttpRequest.newBuilder(new URI(\"http://allowed.test/\")).version(HttpClient.Version.HTTP_1_1).build();
         var got = HttpClient.newHttpClient().send(to, HttpResponse.BodyHandlers.ofString());
         System.out.println(got.statusCode() + got.body());
         if (got.statusCode() != 200) System.exit(1);",
    );
    // A channel connects without waiting, and a selector tells when it is there.
    java_is_at_home(
        &world,
        "var s = Selector.open(); var c = SocketChannel.open(); c.configureBlocking(false);
         var key = c.register(s, SelectionKey.OP_CONNECT);
         if (!c.connect(new InetSocketAddress(\"allowed.test\", 80))) {
             s.select(); s.selectedKeys().clear(); c.finishConnect();
         }
         var ask = \"GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n\";
         c.write(ByteBuffer.wrap(ask.getBytes()));
         key.interestOps(SelectionKey.OP_READ);
         var all = new StringBuilder(); var some = ByteBuffer.allocate(4096);
         while (!all.toString().contains(\"this is\")) {
             s.select(); s.selectedKeys().clear(); some.clear();
             int count = c.read(some);
             if (count < 0) break;
             all.append(new String(some.array(), 0, count));
         }
         System.out.println(all);
         if (!all.toString().startsWith(\"HTTP/1.1 200\")) System.exit(1);",
    );
}

#[test]
fn docker_asks_its_daemon() {
    needs!(root, bpf, docker);
    let world = World::new();
    serving(
        &world,
        "mkdir v1.46; echo ping > _ping
         echo '{\"Version\":\"27.0.0\",\"ApiVersion\":\"1.46\",\"Os\":\"linux\"}' > v1.46/version",
    );
    // It takes no authority but those that it is told.
    let docker = "DOCKER_API_VERSION=1.46 docker -H tcp://allowed.test:443/files --tlsverify \
                  --tlscacert \"${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}\" version 2>&1";
    is_at_home(&world, &["sh", "-c", docker], "27.0.0");
}
