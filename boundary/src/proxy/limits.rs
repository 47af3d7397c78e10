//! How much and how long: every bound of the proxy, by name.
//!
//! *Standing*: the table below is the one place where a limit is named, given its default and its
//! range; configuration reads it, `docs/limits.md` is held against it. *Never*: enforces one.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

/// The shortest and the longest time that a limit can be set to.
const TIMES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_hours(24 * 7));
/// What a time takes, in words.
const TIME: &str = "a time from 10ms to 7 days, e.g. 30s";

/// Writes the struct, its defaults and the table from one list. A row is
/// `name: type by scale = default, (least, most), "what it takes"`.
macro_rules! limits {
    ($($(#[doc = $meaning:literal])+
       $name:ident: $kind:ty as $scale:ident = $default:expr, $range:expr, $takes:expr;)+) => {
        /// The proxy's bounds. Over one of them, that client alone gets a clear error.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $meaning])+ pub $name: $kind,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit, in the order of the manual.
            pub const BOUNDS: &[Bound] = &[$(Bound {
                name: stringify!($name),
                takes: $takes,
                read: |limits, text| {
                    let (least, most) = $range;
                    let value = $scale::read(text).filter(|it| *it >= least && *it <= most);
                    value.map(|value| limits.$name = value).is_some()
                },
                show: |limits| $scale::show(limits.$name),
            },)+];
        }
    };
}

limits! {
    /// Connections of the command carried at once.
    connections: usize as count = 16_384, (1, 1_000_000), "a number from 1 to 1000000";
    /// Resident memory of the whole proxy, above which no further connection or stream is carried.
    memory: usize as size = 2 << 30, (32 << 20, 1 << 40), "a size from 32MiB to 1024GiB";
    /// Bytes of a request's first line.
    target_bytes: usize as size = 32 << 10, (256, 60 << 10), "a size from 256 to 60KiB";
    /// Bytes of one request head, or of a response head.
    head_bytes: usize as size = 64 << 10, (1 << 10, 1 << 20), "a size from 1KiB to 1MiB";
    /// Header fields of one message.
    headers: usize as count = 100, (8, 10_000), "a number from 8 to 10000";
    /// From the first byte of a request head (or a TLS greeting) to its last.
    head_time: Duration as time = Duration::from_secs(30), TIMES, TIME;
    /// From a whole TLS greeting to the end of the handshake.
    handshake_time: Duration as time = Duration::from_secs(30), TIMES, TIME;
    /// A kept-alive connection without a request; a body or an upgraded stream without a byte.
    idle: Duration as time = Duration::from_mins(10), TIMES, TIME;
    /// A stream passed on unopened, without a byte: a shell may be left alone for hours.
    stream_idle: Duration as time = Duration::from_hours(24), TIMES, TIME;
    /// A client that has shut its side and waits for an answer: longer, and it is taken for gone.
    half_closed: Duration as time = Duration::from_secs(30), TIMES, TIME;
    /// A client that says nothing on a port where HTTP is not usual: it waits for the server to
    /// speak first, and is refused soon.
    silence: Duration as time = Duration::from_secs(1), TIMES, TIME;
    /// Resolving a name, and making one connection to the upstream, TLS included.
    dial: Duration as time = Duration::from_secs(30), TIMES, TIME;
    /// One address of several, before the next is tried.
    attempt: Duration as time = Duration::from_secs(5), TIMES, TIME;
    /// From a request to the head of its answer. None by default: a long poll may wait for hours.
    answer_time: Option<Duration> as patience =
        None, (None, Some(TIMES.1)), "a time up to 7 days, e.g. 5m, or `none`";
    /// A request that waits for the answer of whoever is asked (`--prompt`).
    prompt_time: Duration as time = Duration::from_mins(1), TIMES, TIME;
    /// Interim answers (1xx) before the real one.
    interim: usize as count = 100, (1, 10_000), "a number from 1 to 10000";
    /// Idle upstream connections kept for one host.
    idle_per_host: usize as count = 1024, (0, 10_000), "a number up to 10000";
    /// Idle upstream connections kept in all.
    idle_upstream: usize as count = 1024, (0, 100_000), "a number up to 100000";
    /// How long an upstream connection is kept idle. The default is below the 60 s after which
    /// common servers and balancers close one.
    idle_upstream_time: Duration as time = Duration::from_secs(50), TIMES, TIME;
    /// Streams of one HTTP/2 connection open at once.
    h2_streams: usize as count = 256, (1, 10_000), "a number from 1 to 10000";
    /// Streams of one HTTP/2 connection reset in a burst; so many are forgiven every 30 s.
    h2_resets: usize as count = 1000, (1, 1_000_000), "a number from 1 to 1000000";
    /// Frames of one HTTP/2 connection that carry nothing (PING, SETTINGS, PRIORITY, empty ones)
    /// in a burst; so many are forgiven every 30 s, and some for the data that goes both ways.
    h2_frames: usize as count = 10_000, (100, 10_000_000), "a number from 100 to 10000000";
    /// Bytes of a refused request's body that are read away before the connection is given up.
    linger_bytes: usize as size = 1 << 20, (0, 1 << 30), "a size up to 1GiB";
    /// How long that may take.
    linger: Duration as time = Duration::from_secs(2), TIMES, TIME;
    /// How long open connections may go on after the session's end.
    drain: Duration as time = Duration::from_secs(5), TIMES, TIME;
}

/// One limit: its name, what it takes, how it is read and shown.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// The name in `--limit NAME=VALUE` and under `limits` in the file.
    pub name: &'static str,
    /// What it takes, in words.
    pub takes: &'static str,
    /// Sets it. False for what is no value, or out of range.
    read: fn(&mut Limits, &str) -> bool,
    /// Its value in the spelling that is read.
    show: fn(&Limits) -> String,
}

impl Bound {
    /// The limit's value, in the spelling that is read.
    pub fn show(&self, limits: &Limits) -> String {
        (self.show)(limits)
    }
}

/// A limit that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLimit {
    /// There is none of that name.
    #[error("no limit is called `{}`", .0.escape_debug())]
    Unknown(String),
    /// The value is none, or out of range.
    #[error("`{}`: {name} takes {takes}", .value.escape_debug())]
    Value {
        /// The limit.
        name: &'static str,
        /// What was said.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A name without a value.
    #[error("`{}` is not NAME=VALUE", .0.escape_debug())]
    Shape(String),
}

impl Limits {
    /// By when the answer to a request that is asked now has to begin.
    pub(super) fn answer_by(&self) -> Option<Instant> {
        self.answer_time.map(|longest| Instant::now() + longest)
    }

    /// Sets one limit, by its name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadLimit> {
        let bound = Self::BOUNDS.iter().find(|bound| bound.name == name);
        let bound = bound.ok_or_else(|| BadLimit::Unknown(name.to_owned()))?;
        if (bound.read)(self, value) {
            return Ok(());
        }
        let (name, takes) = (bound.name, bound.takes);
        Err(BadLimit::Value { name, value: value.to_owned(), takes })
    }

    /// Sets one limit as it stands on the command line: `NAME=VALUE`.
    pub fn set_pair(&mut self, pair: &str) -> Result<(), BadLimit> {
        let (name, value) = pair.split_once('=').ok_or_else(|| BadLimit::Shape(pair.to_owned()))?;
        self.set(name.trim(), value.trim())
    }
}

/// Numbers.
mod count {
    /// Decimal digits alone: `parse` would take a sign.
    pub(super) fn read(text: &str) -> Option<usize> {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_digits)
    }

    pub(super) fn show(value: usize) -> String {
        value.to_string()
    }
}

/// Sizes: bytes, or so many `KiB`, `MiB`, `GiB`.
mod size {
    use super::count;

    /// The units, the largest first, so that a value is shown in the largest that divides it.
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

    pub(super) fn read(text: &str) -> Option<usize> {
        let scaled = UNITS.iter().find_map(|(unit, shift)| {
            text.strip_suffix(unit).map(|number| (number.trim_end(), *shift))
        });
        let (number, shift) = scaled.unwrap_or((text, 0));
        count::read(number)?.checked_mul(1_usize.checked_shl(shift)?)
    }

    pub(super) fn show(value: usize) -> String {
        let whole = UNITS.iter().find(|(_, shift)| value != 0 && value.trailing_zeros() >= *shift);
        match whole {
            Some((unit, shift)) => format!("{}{unit}", value >> shift),
            None => value.to_string(),
        }
    }
}

/// Times: a number with its unit.
mod time {
    use super::{Duration, SignedDuration};

    pub(super) fn read(text: &str) -> Option<Duration> {
        text.parse::<SignedDuration>().ok()?.try_into().ok()
    }

    pub(super) fn show(value: Duration) -> String {
        SignedDuration::try_from(value)
            .map_or_else(|_| format!("{value:?}"), |value| format!("{value:#}").replace(' ', ""))
    }
}

/// Times that may be without an end.
#[expect(clippy::option_option, reason = "no value, and the value that there is no end")]
mod patience {
    use super::{Duration, time};

    pub(super) fn read(text: &str) -> Option<Option<Duration>> {
        if text == "none" {
            return Some(None);
        }
        time::read(text).filter(|it| !it.is_zero()).map(Some)
    }

    pub(super) fn show(value: Option<Duration>) -> String {
        value.map_or_else(|| "none".to_owned(), time::show)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table for users.
    const DOCUMENT: &str = include_str!("../../../docs/limits.md");

    #[test]
    fn the_document_has_every_limit_with_its_default_in_order() {
        let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows: Vec<(&str, &str)> = rows
            .filter_map(|row| {
                let (name, rest) = row.split_once("` | `")?;
                Some((name, rest.split_once("` |")?.0))
            })
            .collect();
        let defaults = Limits::default();
        let shown: Vec<(&str, String)> =
            Limits::BOUNDS.iter().map(|bound| (bound.name, bound.show(&defaults))).collect();
        let shown: Vec<(&str, &str)> =
            shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(rows, shown);
    }

    #[test]
    fn every_limit_is_read_as_it_is_shown_and_stays_in_its_range() {
        let defaults = Limits::default();
        for bound in Limits::BOUNDS {
            let mut limits = Limits::default();
            let shown = bound.show(&defaults);
            assert_eq!(limits.set(bound.name, &shown), Ok(()), "{} = {shown}", bound.name);
            assert_eq!(limits, defaults, "{}", bound.name);
            for wrong in ["", "-1", "+5", "x", "99999999999999999999", "9e9", "1000 years"] {
                let told = limits.set(bound.name, wrong).expect_err(wrong).to_string();
                assert!(told.contains(bound.name) && told.contains(bound.takes), "{told}");
            }
            assert_eq!(limits, defaults, "a mistake changes nothing");
        }
    }

    #[test]
    fn values_are_written_with_their_units() {
        let mut limits = Limits::default();
        for (pair, name, shown) in [
            ("head_bytes=128KiB", "head_bytes", "128KiB"),
            ("head_bytes = 2000", "head_bytes", "2000"),
            ("linger_bytes=3 MiB", "linger_bytes", "3MiB"),
            ("linger_bytes=0", "linger_bytes", "0"),
            ("idle=90s", "idle", "1m30s"),
            ("idle=1h 30m", "idle", "1h30m"),
            ("silence=250ms", "silence", "250ms"),
            ("answer_time=5m", "answer_time", "5m"),
            ("answer_time=none", "answer_time", "none"),
            ("connections=7", "connections", "7"),
        ] {
            assert_eq!(limits.set_pair(pair), Ok(()), "{pair}");
            let bound = Limits::BOUNDS.iter().find(|bound| bound.name == name).unwrap();
            assert_eq!(bound.show(&limits), shown, "{pair}");
        }
    }

    #[test]
    fn what_is_no_limit_is_said_so() {
        let told = |pair: &str| Limits::default().set_pair(pair).unwrap_err().to_string();
        assert_eq!(told("idel=1s"), "no limit is called `idel`");
        assert_eq!(told("idle"), "`idle` is not NAME=VALUE");
        assert_eq!(told("idle=30"), format!("`30`: idle takes {TIME}"));
        assert_eq!(told("idle=8 days"), format!("`8 days`: idle takes {TIME}"));
        assert_eq!(told("idle=-1s"), format!("`-1s`: idle takes {TIME}"));
        assert_eq!(told("answer_time=0s").split(':').next(), Some("`0s`"));
    }
}
