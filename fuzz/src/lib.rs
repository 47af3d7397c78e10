//! What the targets share: an origin that reads strictly, by a parser that is not boundary's.

pub mod answers;
mod origin;
pub mod protobuf;

use std::net::SocketAddr;
use std::sync::Arc;

use boundary::audit::Door;
use boundary::proxy::fuzzing::Scene;
use boundary::rules::{DomainMatch, Host, Intent, Rule, RuleSet, Scheme};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

pub use origin::Heard;

/// A runtime with one thread.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The rules of a policy that permits a part of the origin.
pub fn rules() -> RuleSet {
    RuleSet::new(
        RULES.iter().map(|rule| rule.parse::<Rule>().expect("a rule")).collect(),
        DomainMatch::Subdomains,
    )
}

/// What of the origin is permitted.
const RULES: [&str; 1] = ["method=GET,POST,PUT host=127.0.0.1 path=/a/*"];

/// A proxy before an origin of which a part is permitted.
pub struct Stage {
    /// The proxy.
    pub scene: Scene,
    /// What the origin hears.
    pub heard: Arc<Heard>,
    rules: RuleSet,
}

impl Stage {
    /// Opens it.
    pub fn open() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a listener");
        let target = listener.local_addr().expect("an address");
        let heard = Arc::new(Heard::default());
        runtime.spawn(origin::serve(listener, Arc::clone(&heard)));
        let stage = Self { scene: Scene::open(runtime, target, &RULES), heard, rules: rules() };
        stage.rehearse();
        stage
    }

    /// What is permitted arrives: a stage on which nothing happens would find nothing.
    fn rehearse(&self) {
        let host = self.scene.target();
        self.scene
            .say(Door::Redirect, format!("GET /a/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(self.heard.take().len(), 1, "what is permitted arrives");
        self.scene
            .say(Door::Redirect, format!("GET /b HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert!(self.heard.take().is_empty(), "what is not does not");
    }

    /// Holds everything that arrived against the rules: what a second reader finds at the origin is
    /// permitted, each request of it.
    pub fn judge(&self) {
        let target = self.scene.target();
        for request in self.heard.take() {
            let request = request.unwrap_or_else(|why| panic!("the origin cannot read {why:?}"));
            assert_eq!(request.host, target.to_string(), "sent to another's name: {request:?}");
            let intent = read(&request, target);
            assert_eq!(intent.path_and_query().as_deref(), Some(&*request.target), "{request:?}");
            assert!(self.rules.decide(intent).is_ok(), "nobody permits {request:?}");
        }
    }
}

/// What a request at the origin means.
fn read(request: &origin::Request, target: SocketAddr) -> Intent {
    let host = Host::Address(target.ip());
    let intent = Intent::http(Scheme::Http, &request.method, host, target.port(), &request.target);
    intent.unwrap_or_else(|denial| panic!("{denial:?}: {request:?}"))
}
