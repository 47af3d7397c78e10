//! Where names are by what the machine's files said when the session began.
//!
//! *Standing*: the proxy goes by it in a jail where the command could write those files, and so lead an
//! allowed name wherever it likes. *Never*: reads a file, or asks a server that was not named then.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use super::forward::{Failure, Forwarder};
use super::search_domains;

/// How many dots a name has to have to be asked for as it is first, where nothing is said of it.
const DOTS: usize = 1;

/// The files, as they were.
#[derive(Debug)]
pub struct Directory {
    hosts: Vec<(String, IpAddr)>,
    forwarder: Forwarder,
    search: Vec<String>,
    dots: usize,
}

impl Directory {
    /// What a hosts file and a `resolv.conf` say.
    pub fn new(hosts: &str, resolv_conf: &str) -> Self {
        Self {
            hosts: entries(hosts).collect(),
            forwarder: Forwarder::new(resolv_conf),
            search: search_domains(resolv_conf).unwrap_or_default(),
            dots: dots(resolv_conf).unwrap_or(DOTS),
        }
    }

    /// What a `resolv.conf` says but for its servers, in whose place there are these.
    #[cfg(test)]
    pub(super) fn by(resolv_conf: &str, forwarder: Forwarder) -> Self {
        Self { forwarder, ..Self::new("", resolv_conf) }
    }

    /// The addresses of a name: those of the hosts file, else those that a server knows.
    pub async fn ask(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let noted = self.noted(&name);
        if !noted.is_empty() {
            return Ok(noted);
        }
        let mut refused = None;
        for candidate in self.candidates(&name) {
            match self.look_up(&candidate).await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                // Whoever is not responsible for one name may be for the next.
                Err(failure @ Failure::Refused(_)) => refused = Some(failure),
                Err(failure) => return Err(io::Error::other(failure)),
            }
        }
        Err(match refused {
            Some(failure) => io::Error::other(failure),
            None => io::Error::new(io::ErrorKind::NotFound, "there is no such name"),
        })
    }

    /// What the hosts file says.
    fn noted(&self, name: &str) -> Vec<IpAddr> {
        let own = self.hosts.iter().filter(|(known, _)| known == name);
        let own: Vec<IpAddr> = own.map(|(_, address)| *address).collect();
        let is_here = name == "localhost" || name.ends_with(".localhost");
        if own.is_empty() && is_here {
            return vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        own
    }

    /// What may be meant by a name, in the order of resolv.conf(5).
    fn candidates(&self, name: &str) -> Vec<String> {
        let mut all: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}.")).collect();
        let is_whole = name.matches('.').count() >= self.dots;
        let place = if is_whole { 0 } else { all.len() };
        all.insert(place, format!("{name}."));
        all
    }

    /// The addresses of a whole name in both families; none if nobody knows it.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let name =
            Name::from_ascii(name).map_err(|error| Failure::Unanswered(io::Error::other(error)))?;
        let (six, four) = tokio::join!(
            self.forwarder.addresses(&name, RecordType::AAAA),
            self.forwarder.addresses(&name, RecordType::A),
        );
        match (six, four) {
            // Not everybody who has an address of the newer family has a way to others.
            (Ok(six), Ok(four)) => Ok([four, six].concat()),
            // A server that knows nothing of one family need not be asked for the other.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

/// The names and addresses of a hosts file (hosts(5)).
fn entries(text: &str) -> impl Iterator<Item = (String, IpAddr)> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some((words.next()?.parse::<IpAddr>().ok()?, words))
    });
    lines.flat_map(|(address, words)| words.map(move |name| (name.to_ascii_lowercase(), address)))
}

/// How many dots make a name whole, if a `resolv.conf` says so.
fn dots(resolv_conf: &str) -> Option<usize> {
    let lines = resolv_conf.lines().map(str::split_whitespace);
    let options = lines.filter_map(|mut words| (words.next()? == "options").then_some(words));
    options.flatten().filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLV_CONF: &str = "search one.test two.test.\noptions timeout:5 ndots:3\n";

    #[test]
    fn names_are_meant_in_the_order_of_the_list_and_as_they_are() {
        let directory = Directory::new("", RESOLV_CONF);
        assert_eq!(directory.candidates("db"), ["db.one.test.", "db.two.test.", "db."]);
        let whole = directory.candidates("a.b.c.d");
        assert_eq!(whole, ["a.b.c.d.", "a.b.c.d.one.test.", "a.b.c.d.two.test."]);
        assert_eq!(Directory::new("", "").candidates("a.test"), ["a.test."]);
    }

    #[test]
    fn the_hosts_file_counts_whatever_the_letters() {
        let directory =
            Directory::new("192.0.2.1 a.test B.test # c.test\n2001:db8::1 a.test\n", "");
        let found = directory.noted("a.test");
        assert_eq!(found, ["192.0.2.1", "2001:db8::1"].map(|it| it.parse::<IpAddr>().unwrap()));
        assert_eq!(directory.noted("b.test").len(), 1);
        assert!(directory.noted("c.test").is_empty());
        assert!(directory.noted("x.localhost").iter().all(IpAddr::is_loopback));
    }
}
