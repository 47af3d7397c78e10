//! The programs that people run, unmodified, in an ordinary container: as root and as a user, behind the
//! jail that needs nothing.
//!
//! Each is told what it is to fetch and nothing else, gets it where the policy allows it, and a
//! readable no where it does not.

use std::process::Command;

use crate::clients::{archive, crate_registry, package, repository, wheel};
use crate::world::World;
use crate::world::container::{Container, Kind, toolchain};
use crate::world::needs::{met, needs};

/// Checks a script that fetches something from the host that it is given, and then says this.
#[track_caller]
fn fetches(world: &World, script: &str, says: &str) {
    for is_root in [true, false] {
        let container = Container { kind: Kind::Default, is_root };
        for (host, says, decision) in
            [("allowed.test", says, "allow"), ("denied.test", "403", "deny")]
        {
            let options = ["--jail-type", "landjail", "--allow", "domain=allowed.test"];
            let command = ["sh", "-c", &format!("cd /tmp; {script}"), host];
            let out = world.boundary(&options, &command).contained(container).output();
            let told = format!("{}{}", out.stdout, out.stderr);
            // Some programs tell of the refusal in words of their own.
            let is_told = told.contains(says) || decision == "deny" && told.contains("msg=DENY");
            out.expect(is_told, &format!("root {is_root}: it tells {says}"));
            out.record(&[("decision", decision), ("host", host), ("jail", "landjail")]);
        }
    }
}

#[test]
fn curl_wget_and_git_fetch() {
    needs!(root, runc, curl, wget, git);
    let world = World::new();
    repository(&world);
    for scheme in ["http", "https"] {
        let get = format!("wget -nv -O- {scheme}://$0/ 2>&1");
        fetches(&world, &get, "this is allowed.test");
    }
    fetches(&world, "curl -sS https://$0/", "this is allowed.test");
    let clone = "git clone -q https://$0/files/repo.git cloned 2>&1; cat cloned/file";
    fetches(&world, clone, "content");
}

#[test]
fn python_and_pip_fetch() {
    needs!(root, runc, python3);
    let world = World::new();
    wheel(&world);
    let get = "import sys, urllib.request as r; print(r.urlopen(f'https://{sys.argv[1]}/').read())";
    let get = format!("/usr/bin/python3 -c \"{get}\" $0 2>&1");
    fetches(&world, &get, "this is allowed.test");
    if met(&["requests"]) {
        let get = "import sys, requests as r; a = r.get(f'https://{sys.argv[1]}/'); \
                   print(a.status_code, a.text)";
        let get = format!("/usr/bin/python3 -c \"{get}\" $0 2>&1");
        fetches(&world, &get, "this is allowed.test");
    }
    let pip = "/usr/bin/python3 -m pip download --no-cache-dir --disable-pip-version-check \
               --retries 0 --index-url https://$0/files/simple/ six 2>&1";
    fetches(&world, pip, "Saved");
}

#[test]
fn node_fetches() {
    needs!(root, runc, node);
    let world = World::new();
    let get = "require('https').get(\\\"https://\\\" + process.argv[1], answer => { \
               console.log(answer.statusCode); answer.pipe(process.stdout) })";
    fetches(&world, &format!("node -e \"{get}\" $0"), "this is allowed.test");
    let get = "fetch(\\\"https://\\\" + process.argv[1]).then(async answer => { \
               console.log(answer.status, await answer.text()) })";
    fetches(&world, &format!("node -e \"{get}\" $0"), "this is allowed.test");
}

#[test]
fn npm_looks_up() {
    needs!(root, runc, npm);
    let world = World::new();
    package(&world);
    let npm = "npm view left-pad version --fetch-retries 0 --registry https://$0/files/npm/ \
               --cache /tmp/npm-cache 2>&1";
    fetches(&world, npm, "1.3.0");
}

#[test]
fn cargo_fetches() {
    needs!(root, runc);
    let world = World::new();
    crate_registry(&world);
    let cargo = format!(
        "mkdir -p work/src work/.cargo; cd work; touch src/lib.rs
         printf '[package]\\nname=\"work\"\\nversion=\"0.1.0\"\\nedition=\"2021\"\\n' > Cargo.toml
         printf '[dependencies]\\nleft-pad={{version=\"1\",registry=\"here\"}}\\n' >> Cargo.toml
         printf '[registries.here]\\nindex=\"sparse+https://%s/files/index/\"\\n' $0 > .cargo/config.toml
         PATH={}:$PATH CARGO_HOME=/tmp/home cargo fetch 2>&1; ls /tmp/home/registry/src/*",
        toolchain().join("bin").display()
    );
    fetches(&world, &cargo, "left-pad-1.3.0\n");
}

#[test]
fn apt_downloads() {
    needs!(root, runc, apt_get);
    let world = World::new();
    archive(&world);
    let apt = "mkdir -p apt/lists/partial apt/cache apt/etc; touch apt/status
         echo \"deb [trusted=yes] https://$0/files/debian ./\" > apt/list
         run() { /usr/bin/apt-get -o Dir::Etc::SourceList=/tmp/apt/list \
             -o Dir::Etc::SourceParts=/dev/null -o Dir::State=/tmp/apt \
             -o Dir::State::status=/tmp/apt/status -o Dir::Cache=/tmp/apt/cache \
             -o APT::Sandbox::User=root -o Acquire::Languages=none \
             -o APT::Update::Error-Mode=any \"$@\" 2>&1; }
         run update && run download hostname; ls";
    fetches(&world, apt, "hostname_1_all.deb");
}

/// By the runtime's own client.
const JAVA: &str = "
import java.net.*; import java.net.http.*;
class Fetch {
    public static void main(String[] a) throws Exception {
        var uri = URI.create(\"https://\" + a[0] + \"/\");
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(),
            HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + answer.body());
    }
}";

/// By a socket that is registered for events before it is connected.
const REGISTERED: &str = "
import java.net.*; import java.nio.*; import java.nio.channels.*;
class Registered {
    public static void main(String[] a) throws Exception {
        var selector = Selector.open();
        var channel = SocketChannel.open();
        channel.configureBlocking(false);
        var key = channel.register(selector, SelectionKey.OP_CONNECT);
        channel.connect(new InetSocketAddress(a[0], 80));
        selector.select();
        channel.finishConnect();
        var asked = \"GET / HTTP/1.1\\r\\nHost: \" + a[0] + \"\\r\\nConnection: close\\r\\n\\r\\n\";
        channel.write(ByteBuffer.wrap(asked.getBytes()));
        key.interestOps(SelectionKey.OP_READ);
        var got = ByteBuffer.allocate(4096);
        while (channel.read(got) >= 0) { selector.select(); }
        System.out.println(new String(got.array(), 0, got.position()));
    }
}";

#[test]
fn java_fetches_in_both_ways() {
    needs!(root, runc, javac);
    let world = World::new();
    for (name, program) in [("Fetch.java", JAVA), ("Registered.java", REGISTERED)] {
        let path = world.file(name, program);
        fetches(&world, &format!("java {} $0", path.display()), "this is allowed.test");
    }
}

#[test]
fn a_static_go_program_fetches() {
    needs!(root, runc, go);
    let world = World::new();
    let program = world.file(
        "fetch.go",
        "package main
        import (\"fmt\"; \"io\"; \"net/http\"; \"os\")
        func main() {
            answer, err := http.Get(\"https://\" + os.Args[1] + \"/\")
            if err != nil { fmt.Println(err); os.Exit(1) }
            body, _ := io.ReadAll(answer.Body)
            fmt.Println(answer.StatusCode, string(body))
        }",
    );
    let made = world.folder().join("fetch");
    let cache = world.folder().join("go-cache");
    let done = Command::new("go")
        .args(["build", "-o"])
        .args([&made, &program])
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", &cache)
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .output()
        .expect("it starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fetches(&world, &format!("{} $0", made.display()), "this is allowed.test");
}
