//! A unix socket that changes behind its name while the name is followed.

use std::ffi::CString;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Arguments, sys, usage};

/// How long it may take.
const TIME: Duration = Duration::from_secs(10);

/// An address that another thread changes while it is read.
type Shared = [AtomicU64; 4];

/// `race-unix HOW OWN FOREIGN ROUNDS`: connects to a unix socket of the program itself, while another
/// thread puts a foreign one in its place: `flip` in the address, `exchange` in the folder. Or, by
/// `family`, to an address of another family, in whose place the foreign one is put. Names are short and
/// relative.
pub(crate) fn race(arguments: &Arguments) -> io::Result<Value> {
    let (own, foreign) = (arguments.text(1)?, arguments.text(2)?);
    let server = UnixListener::bind(own)?;
    // It hears everybody out: what is sent to one that has hung up does not go.
    let hear = |client: UnixStream| drop(io::copy(&mut { client }, &mut io::sink()));
    std::thread::spawn(move || server.incoming().flatten().for_each(hear));
    let rounds = arguments.value(3)?;
    let both = [own, foreign].map(packed);
    let address = both[0].map(AtomicU64::new);
    let (made, went) = match arguments.text(0)? {
        "flip" => raced(|| flip(&address, both), rounds, || attempt(&address)),
        "family" => {
            // Whoever looks at it when it is none of the unix family need not judge it.
            let other = [u64::from(libc::AF_INET.cast_unsigned()), 0, 0, 0];
            let change = || flip(&address, [other, both[1]]);
            // From the first attempt on.
            change();
            raced(change, rounds, || attempt(&address))
        }
        "exchange" => {
            let [Ok(one), Ok(other)] = [own, foreign].map(CString::new) else {
                return Err(usage("a name with a zero"));
            };
            let change = || drop(sys::exchange(&one, &other));
            raced(change, rounds, || attempt(&address))
        }
        _ => return Err(usage("not flip, family or exchange")),
    };
    Ok(json!({ "rounds": made, "went": went }))
}

/// Connects, and says something if that goes.
fn attempt(address: &Shared) -> io::Result<()> {
    let socket = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys::connect_shared(&socket, address, size_of_val(address))?;
    sys::send(&socket, b"leaked").map(drop)
}

/// The words that hold the address of a name.
fn packed(name: &str) -> [u64; 4] {
    let mut bytes = sys::unix_sockaddr(name);
    bytes.resize(32, 0);
    let word = |place: usize| bytes.get(place * 8..place * 8 + 8)?.try_into().ok();
    [0, 1, 2, 3].map(|place| word(place).map_or(0, u64::from_ne_bytes))
}

/// Writes one address and then the other.
fn flip(shared: &Shared, both: [[u64; 4]; 2]) {
    for words in &both {
        for (place, word) in shared.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
    }
}

/// Repeats one attempt while another thread repeats a change, longer where that thread has not had its turn
/// yet: every attempt went. Counts the attempts, and those that the kernel took.
fn raced(
    change: impl Fn() + Sync,
    rounds: u64,
    attempt: impl Fn() -> io::Result<()>,
) -> (u64, u64) {
    let over = AtomicBool::new(false);
    let (mut made, mut went) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                change();
            }
        });
        let started = Instant::now();
        while (made < rounds || went == made) && started.elapsed() < TIME {
            went += u64::from(attempt().is_ok());
            made += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    (made, went)
}
