//! HTTP/2, gRPC and what streams, with clients that nobody here wrote.
//!
//! Each is told nothing of boundary. The origin at 9443 speaks HTTP/2 alone, those at 443 and 80
//! HTTP/1.1 alone, the one at 50051 HTTP/2 without TLS.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::escape::is_long;
use crate::escape::stalled::of_boundary;
use crate::world::World;
use crate::world::needs::needs;

/// The policy.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];
/// What a client is told when it is refused.
const BLOCKED: &str = "Request Blocked by Boundary";

#[test]
fn curl_speaks_either_version_to_either() {
    needs!(root, bpf, curl);
    let world = World::new();
    let rows = [
        ("--http2", "https://allowed.test:9443/a", "2"),
        ("--http2", "https://allowed.test/a", "2"),
        ("--http1.1", "https://allowed.test/a", "1.1"),
        // The origin takes HTTP/2 alone.
        ("--http1.1", "https://allowed.test:9443/a", "1.1"),
        ("--http2-prior-knowledge", "http://allowed.test:50051/a", "2"),
        ("--http2", "http://allowed.test/a", "1.1"),
    ];
    for (version, url, spoken) in rows {
        let curl = ["curl", "-sS", version, "-w", "spoke %{http_version}", url];
        let out = world.boundary(&ALLOW, &curl).output();
        out.exits(0).says("this is allowed.test").says(&format!("spoke {spoken}"));
        let denied = url.replace("allowed", "denied");
        let curl = ["curl", "-sS", version, "-w", "spoke %{http_version}", &denied];
        let out = world.boundary(&ALLOW, &curl).output();
        out.says(BLOCKED).says(&format!("spoke {spoken}")).nothing_left();
        out.record(&[("decision", "deny"), ("code", "no_rule"), ("http_url", &denied)]);
    }
}

#[test]
fn a_large_body_passes_in_both_directions() {
    needs!(root, bpf, curl);
    let world = World::new();
    let size = 32 << 20;
    let file = world.file("large", &"0123456789abcdef".repeat(size / 16));
    let body = format!("@{}", file.display());
    for version in ["--http2", "--http1.1"] {
        let up = "https://allowed.test:9443/count";
        let curl = ["curl", "-sS", version, "--data-binary", &body, up];
        world.boundary(&ALLOW, &curl).output().exits(0).says(&format!("{size} bytes"));
        let down = format!("https://allowed.test:9443/size/{size}");
        let curl = ["curl", "-sS", version, "-o", "/dev/null", "-w", "%{size_download}", &down];
        let out = world.boundary(&ALLOW, &curl).output();
        out.exits(0).says(&size.to_string());
        let closed = out.records.iter().find(|record| record["bytes_down"] == size);
        out.expect(closed.is_some(), "the record says how much it was");
    }
}

/// What the proxy may hold while it carries whatever size, in KiB.
const MOST_HELD: u64 = 64 * 1024;

/// How long one of them may take: two GiB on a machine that has other things to do.
const LONGEST: Duration = Duration::from_mins(10);

#[test]
fn very_large_bodies_pass_in_little_memory() {
    needs!(root, bpf, curl);
    let world = World::new();
    // `BOUNDARY_TEST_LONG=1` carries two GiB each way.
    let size = if is_long() { 2_usize << 30 } else { 96 << 20 };
    let script = format!(
        "set -e
        curl -sS --http1.1 -o /dev/null -w 'short %{{size_download}}\\n' https://allowed.test/size/{size}
        curl -sS --http2 -o /dev/null -w 'down %{{size_download}}\\n' https://allowed.test:9443/size/{size}
        head -c {size} /dev/zero | curl -sS --http2 -T - https://allowed.test:9443/count
        echo carried
        curl -sS https://allowed.test/hang/measured"
    );
    let session = world.boundary(&ALLOW, &["sh", "-c", &script]).start();
    for word in [&format!("short {size}"), &format!("down {size}"), "carried"] {
        session.wait_within(word, LONGEST);
    }
    let status = format!("/proc/{}/status", of_boundary(&world, "boundary-proxy"));
    let status = fs::read_to_string(status).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: Option<u64> = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    world.open("measured");
    let out = session.finish();
    out.exits(0).says(&format!("{size} bytes"));
    eprintln!("{size} bytes each way: {peak:?} KiB at most");
    out.expect(peak.is_some_and(|peak| peak < MOST_HELD), &format!("{peak:?} KiB are too much"));
}

#[test]
fn a_stream_is_shown_as_it_comes() {
    needs!(root, bpf, curl);
    let world = World::new();
    for (gate, version, port) in
        [("a", "--http2", 9443), ("b", "--http2", 443), ("c", "--http1.1", 9443)]
    {
        let url = format!("https://allowed.test:{port}/stream/{gate}");
        let session = world.boundary(&ALLOW, &["curl", "-sSN", version, &url]).start();
        session.wait_for("first");
        world.open(gate);
        session.finish().exits(0).says("second");
    }
}

#[test]
fn many_streams_of_h2load_share_their_connections() {
    needs!(root, bpf, h2load);
    let world = World::new();
    for url in ["https://allowed.test:9443/", "https://allowed.test/"] {
        let load = ["h2load", "-n", "300", "-c", "3", "-m", "20", url];
        let out = world.boundary(&ALLOW, &load).output();
        out.exits(0).says("300 succeeded, 0 failed").says("300 2xx");
        let mut connections: Vec<_> = out.requests.iter().map(|it| it.connection.number).collect();
        connections.sort_unstable();
        connections.dedup();
        out.expect(out.requests.len() == 300, "every request arrives once");
        let most = if url.contains("9443") { 1 } else { 60 };
        out.expect(connections.len() <= most, "connections upstream are shared");
    }
    let load = ["h2load", "-n", "30", "-c", "1", "-m", "10", "https://denied.test/"];
    world.boundary(&ALLOW, &load).output().says("30 4xx").nothing_left();
}

#[test]
fn nghttp_gets_a_refusal_and_an_answer_on_one_connection() {
    needs!(root, bpf, nghttp);
    let world = World::new();
    let allow = ["--allow", "domain=allowed.test path=/yes,/yes/too"];
    let base = "https://allowed.test:9443";
    let urls = ["/yes", "/no", "/yes/too"].map(|path| format!("{base}{path}"));
    let nghttp = ["nghttp", "-v", "--no-dep", &urls[0], &urls[1], &urls[2]];
    let out = world.boundary(&allow, &nghttp).output();
    out.exits(0).says("this is allowed.test:9443 /yes/too").says(":status: 403").says(BLOCKED);
    let paths: Vec<_> = out.requests.iter().map(|request| request.target.as_str()).collect();
    out.expect(paths.len() == 2 && !paths.contains(&"/no"), "the refused one does not arrive");
}

/// Every kind of gRPC call, by a client that knows no messages but bytes.
const CALLS: &str = r"
import sys, grpc
target, secure = sys.argv[1], sys.argv[2] == 'tls'
channel = grpc.secure_channel(target, grpc.ssl_channel_credentials()) if secure \
    else grpc.insecure_channel(target)
same = dict(request_serializer=bytes, response_deserializer=bytes)
say = channel.unary_unary('/echo.Echo/Say', **same)
try:
    print('unary', say(b'hello', timeout=20))
    print('client', channel.stream_unary('/echo.Echo/Collect', **same)(
        iter([b'a', b'b', b'c']), timeout=20))
    print('server', list(channel.unary_stream('/echo.Echo/Expand', **same)(b'x', timeout=20)))
    import queue
    questions = queue.SimpleQueue()
    answers = channel.stream_stream('/echo.Echo/Chat', **same)(iter(questions.get, None), timeout=20)
    for number in range(3):
        questions.put(b'%d' % number)
        print('bidi', next(answers))
    questions.put(None)
    print('end', list(answers), answers.code())
    print('large', len(say(b'x' * 3000000, timeout=20)))
except grpc.RpcError as error:
    print('error', error.code(), error.details())
";

#[test]
fn every_kind_of_grpc_call_works_and_a_refused_one_has_a_status() {
    needs!(root, bpf, python3, grpcio);
    let world = World::new();
    let call = |target: &str, kind: &str| {
        let python = ["/usr/bin/python3", "-c", CALLS, target, kind];
        world.boundary(&ALLOW, &python).output()
    };
    for (port, kind) in [(9443, "tls"), (50051, "plain")] {
        let out = call(&format!("allowed.test:{port}"), kind);
        out.exits(0).says("unary b'hello'").says("client b'3 messages'");
        out.says("server [b'x', b'x', b'x']").says("bidi b'2'").says("end [] StatusCode.OK");
        out.says("large 3000000");
        let out = call(&format!("denied.test:{port}"), kind);
        out.says("error StatusCode.PERMISSION_DENIED").says(BLOCKED).says("--allow").nothing_left();
    }
}

#[test]
fn httpx_speaks_http2() {
    needs!(root, bpf, python3, httpx);
    let world = World::new();
    let script = "
import httpx, os
client = httpx.Client(http2=True, verify=os.environ['SSL_CERT_FILE'])
for url in ['https://allowed.test:9443/', 'https://allowed.test/', 'https://denied.test/']:
    answer = client.get(url)
    print(answer.http_version, answer.status_code, answer.text)
answer = client.post('https://allowed.test:9443/count', content=b'x' * 3000000)
print(answer.text)
";
    let out = world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0)
        .says("HTTP/2 200 this is allowed.test:9443")
        .says("HTTP/2 200 this is allowed.test /");
    out.says("HTTP/2 403").says(BLOCKED).says("3000000 bytes");
}

#[test]
fn node_speaks_http2_and_its_resets_are_felt() {
    needs!(root, bpf, node);
    let world = World::new();
    let script = "
const http2 = require('node:http2');
const session = http2.connect('https://allowed.test:9443');
const ask = (fields, end) => new Promise((done, failed) => {
    const stream = session.request(fields);
    let text = '', status;
    stream.on('response', head => status = head[':status']);
    stream.on('data', piece => { text += piece; if (end) stream.close(http2.constants.NGHTTP2_CANCEL); });
    stream.on('close', () => done(status + ' ' + text));
    stream.on('error', failed);
    stream.end();
});
(async () => {
    console.log(...await Promise.all([
        ask({ ':path': '/one' }),
        ask({ ':path': '/two', ':authority': 'denied.test' }),
        ask({ ':path': '/three' }),
    ]));
    console.log('cut', await ask({ ':path': '/stream/never' }, true));
    console.log(await ask({ ':path': '/after' }));
    session.close();
})().catch(error => { console.log(error); process.exit(1) });
";
    let out = world.boundary(&ALLOW, &["node", "-e", script]).output();
    out.exits(0).says("200 this is allowed.test:9443 /one").says("421 ").says("/three");
    out.says("cut 200 first").says("200 this is allowed.test:9443 /after");
    out.record(&[("decision", "deny"), ("code", "host_mismatch")]);
}

/// A server of `WebSocket`s that sends back what it gets, and one that speaks first.
const SOCKETS: &str = "
import asyncio, websockets
async def talk(socket, path):
    await socket.send('welcome to ' + path)
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(talk, '0.0.0.0', 8765, max_size=None):
        print('ready', flush=True)
        await asyncio.Future()
asyncio.run(main())
";

/// The server, in the internet, as long as the test.
struct Server(Child);

impl Server {
    /// Starts it and waits until it takes connections.
    fn start(world: &World) -> Self {
        let mut server = world.internet().run(|| {
            let mut python = Command::new("/usr/bin/python3");
            python.args(["-c", SOCKETS]).stdin(Stdio::null()).stdout(Stdio::piped());
            python.spawn().expect("python starts")
        });
        let mut said = [0; 6];
        let stdout = server.stdout.as_mut().expect("a pipe was asked for");
        stdout.read_exact(&mut said).expect("it says that it is ready");
        Self(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn websockets_converse() {
    needs!(root, bpf, python3, websockets);
    let world = World::new();
    let _server = Server::start(&world);
    let script = "
import asyncio, sys, websockets
async def main():
    try:
        async with websockets.connect(sys.argv[1], max_size=None) as socket:
            print(await socket.recv())
            for message in ['hello', 'x' * 1000000, b'bytes']:
                await socket.send(message)
                assert await socket.recv() == message
            await socket.ping()
            print('all came back')
    except websockets.InvalidStatusCode as error:
        print('refused', error.status_code)
asyncio.run(main())
";
    let converse =
        |url: &str| world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script, url]).output();
    let out = converse("ws://allowed.test:8765/chat");
    out.exits(0).says("welcome to /chat").says("all came back");
    out.record(&[("decision", "allow"), ("http_url", "http://allowed.test:8765/chat")]);
    converse("ws://denied.test:8765/chat").says("refused 403").nothing_left();
}
