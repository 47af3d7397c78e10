//! Names that the machine's files lead to guarded addresses, or to several.

use super::*;
use crate::dns::Directory;

/// The name.
const NAME: &str = "db.test";

/// A stage whose machine knows the name at these addresses of loopback.
fn stage(port: u16, addresses: &[&str], rules: &[String]) -> Stage {
    let hosts: Vec<_> = addresses.iter().map(|address| format!("{address} {NAME}\n")).collect();
    let directory = Some(Arc::new(Directory::new(&hosts.concat(), "")));
    let egress = Egress { directory, ..Egress::default() };
    Setting { egress, ..Setting::to_name(NAME, port, rules) }.start()
}

#[tokio::test]
async fn what_a_request_passes_for_has_to_be_permitted_at_the_address_too() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = [
        format!("method=GET host={NAME},127.0.0.1 port={port}"),
        format!("method=PUT host={NAME} port={port}"),
        format!("method=POST host={NAME},127.0.0.1 port={port}"),
    ];
    let stage = stage(port, &["127.0.0.1"], &rules);
    // A connection that is kept and one that is dialled.
    for _ in 0..2 {
        for (method, status) in [("PUT", 403), ("POST", 200), ("DELETE", 403)] {
            let field = format!("X-HTTP-Method-Override: {method}");
            let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\n{field}\r\n\r\n");
            assert_eq!(stage.connect().await.ask(request).await.status, status, "{method}");
        }
    }
    let decisions = stage.decisions().await;
    let refused = decisions.iter().filter(|it| it.starts_with("deny address_refused "));
    assert_eq!(refused.count(), 2, "{decisions:?}");
}
