//! What many records have alike: who is asked, and who asks.
//!
//! The requests of a process to a server differ in their times, numbers and paths, and in little else.
//! What they have alike is most of what is written of them, so it is put together once and kept.
//!
//! *Standing*: whoever writes records keeps it in the form that they write, in a [`Kept`] of their own.
//! *Never*: gives one process or server what is another's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::object::Value;
use super::{Door, Process, Session, Subject};
use crate::rules::{Host, Intent};

/// For how many pairs of a process and a server it is kept. A session has few that take turns.
const PLACES: usize = 64;

/// What the records of a process and a server have alike. All of them are of one session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alike<'a> {
    /// The session.
    pub(super) session: &'a Session,
    /// Who asked.
    pub(super) subject: &'a Subject,
    /// Whom.
    pub(super) intent: &'a Intent,
}

impl<'a> Alike<'a> {
    /// Tells it.
    pub(super) fn fields(&self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        let target = self.subject.target.map(|target| Value::Address(target.ip()));
        let host = Some(self.intent.host().bare().into());
        let place = Place { host, port: Some(self.intent.port()), address: target };
        place.fields((self.session, self.subject), tell);
    }

    /// Where it is kept: most often somewhere else than what others have alike.
    fn place(&self) -> usize {
        let pid = self.subject.process.as_ref().map_or(0, |process| process.pid);
        let server = match self.subject.target.map(|target| target.ip()) {
            Some(IpAddr::V4(address)) => address.to_bits(),
            Some(IpAddr::V6(address)) => {
                let [.., low] = address.segments();
                u32::from(low)
            }
            None => u32::from(self.intent.port()),
        };
        usize::try_from(pid ^ server).unwrap_or(0) % PLACES
    }
}

/// Where something was to go.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The host.
    pub(super) host: Option<Value<'a>>,
    /// The port.
    pub(super) port: Option<u16>,
    /// The address.
    pub(super) address: Option<Value<'a>>,
}

impl<'a> Place<'a> {
    /// Tells it, and who wanted to go there.
    pub(super) fn fields(
        self,
        (session, subject): (&'a Session, &'a Subject),
        tell: &mut dyn FnMut(&'static str, Value<'a>),
    ) {
        let port = self.port.map(|port| u64::from(port).into());
        for (name, value) in [("host", self.host), ("port", port), ("address", self.address)] {
            if let Some(value) = value {
                tell(name, value);
            }
        }
        tell("door", subject.door.as_str().into());
        tell("jail", session.jail.into());
        if let Some(process) = &subject.process {
            process.put(tell);
        }
        session.labels.put(tell);
    }
}

/// What was written last of those that have much alike.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<Option<Written>>);

/// What was written of one of them, and of which.
#[derive(Debug)]
struct Written {
    door: Door,
    process: Option<Arc<Process>>,
    target: Option<SocketAddr>,
    host: Host,
    port: u16,
    bytes: Vec<u8>,
}

impl Kept {
    /// Appends what they have alike, in the form that `write` gives it: the same one for all.
    pub(super) fn write(
        &mut self,
        alike: &Alike<'_>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&Alike<'_>, &mut Vec<u8>),
    ) {
        self.0.resize_with(PLACES, || None);
        let Some(place) = self.0.get_mut(alike.place()) else { return write(alike, out) };
        if let Some(written) = place.as_ref().filter(|written| written.is_of(alike)) {
            return out.extend_from_slice(&written.bytes);
        }
        let start = out.len();
        write(alike, out);
        *place = Some(Written::of(alike, out.get(start..).unwrap_or_default()));
    }
}

impl Written {
    /// Notes what was written, and of whom.
    fn of(alike: &Alike<'_>, bytes: &[u8]) -> Self {
        let Subject { door, process, target } = alike.subject.clone();
        let (host, port) = (alike.intent.host().clone(), alike.intent.port());
        Self { door, process, target, host, port, bytes: bytes.to_vec() }
    }

    /// Whether it is of these.
    fn is_of(&self, alike: &Alike<'_>) -> bool {
        let Subject { door, process, target } = alike.subject;
        (self.door, self.target, self.port) == (*door, *target, alike.intent.port())
            && self.host == *alike.intent.host()
            && match (&self.process, process) {
                (Some(own), Some(other)) => Arc::ptr_eq(own, other) || is_same(own, other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

/// Whether all is the same that is told of two processes.
fn is_same(own: &Process, other: &Process) -> bool {
    let Process { pid, uid, comm, exe, cgroup, room: _, parents } = own;
    // Compared as paths, executables would be taken apart.
    (*pid, *uid, *cgroup) == (other.pid, other.uid, other.cgroup)
        && *comm == other.comm
        && exe.as_deref().map(Path::as_os_str) == other.exe.as_deref().map(Path::as_os_str)
        && *parents == other.parents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Parent;
    use crate::rules::Scheme;

    fn process(pid: u32) -> Process {
        Process { pid, comm: "npm".into(), cgroup: 9, ..Process::default() }
    }

    fn subject(process: Process) -> Subject {
        let target = Some("198.18.0.7:443".parse().expect("an address"));
        Subject { door: Door::Redirect, process: Some(Arc::new(process)), target }
    }

    fn intent(host: &str, port: u16) -> Intent {
        Intent::stream(Scheme::Tls, Host::parse(host).expect("a host"), port)
    }

    /// The form in which it is written here.
    fn write(alike: &Alike<'_>, out: &mut Vec<u8>) {
        alike.fields(&mut |name, value| {
            out.extend_from_slice(name.as_bytes());
            value.write(out);
        });
    }

    /// What is written of them one after another, and how often it was put together.
    fn written(all: &[(Subject, Intent)]) -> (Vec<String>, usize) {
        let (mut kept, session, mut count) = (Kept::default(), Session::default(), 0);
        let mut texts = Vec::new();
        for (subject, intent) in all {
            let mut out = Vec::new();
            kept.write(&Alike { session: &session, subject, intent }, &mut out, |alike, out| {
                count += 1;
                write(alike, out);
            });
            texts.push(String::from_utf8(out).expect("text"));
        }
        (texts, count)
    }

    #[test]
    fn what_two_have_alike_is_put_together_once() {
        let twice = [process(7), process(7)].map(|it| (subject(it), intent("a.test", 443)));
        let (texts, count) = written(&twice);
        assert_eq!(count, 1);
        assert_eq!(texts[0], texts[1]);
    }

    #[test]
    fn who_differs_in_anything_gets_none_of_anothers() {
        // Numbers that are kept in one place, so that only the comparison tells them apart.
        let far = 7 + u32::try_from(PLACES).expect("small");
        let parents: Arc<[Parent]> = Arc::new([Parent { pid: 1, comm: "sh".into() }]);
        let usual = || (subject(process(7)), intent("a.test", 443));
        let whose = |process: Process| (subject(process), intent("a.test", 443));
        let elsewhere = |text: &str| {
            let target = Some(text.parse().expect("an address"));
            (Subject { target, ..usual().0 }, intent("a.test", 443))
        };
        let others = [
            whose(process(far)),
            whose(Process { uid: 1, ..process(7) }),
            whose(Process { comm: "node".into(), ..process(7) }),
            whose(Process { exe: Some("/bin/npm".into()), ..process(7) }),
            whose(Process { cgroup: 10, ..process(7) }),
            whose(Process { parents, ..process(7) }),
            (Subject { process: None, ..usual().0 }, intent("a.test", 443)),
            (Subject { door: Door::Explicit, ..usual().0 }, intent("a.test", 443)),
            (usual().0, intent("b.test", 443)),
            (usual().0, intent("a.test", 444)),
            elsewhere("198.18.0.71:443"),
        ];
        for other in others {
            let alone = written(std::slice::from_ref(&other)).0;
            let (texts, _) = written(&[usual(), other, usual()]);
            assert_eq!((&texts[1], &texts[2]), (&alone[0], &texts[0]));
            assert_ne!(texts[0], texts[1]);
        }
    }
}
