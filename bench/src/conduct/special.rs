//! What is measured once, not in turns: memory, and very many connections.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Plan;
use super::contestants::{self, Contestant, Who};
use super::table::line;
use crate::load::Task;
use crate::say;

/// How many connections are held to learn what one costs.
const HELD: usize = 1000;

/// How many events, a second apart, are waited for.
const BEATS: usize = 5;

/// How many of boundary's are held idle.
const MANY: usize = 10_000;

/// How many of those are used.
const ACTIVE: usize = 1000;

/// How long boundary may take to let everything go: kept upstream connections have their time.
const UNTIL_GONE: Duration = Duration::from_secs(100);

/// How long after they are gone memory is looked at.
const UNTIL_GIVEN_BACK: Duration = Duration::from_secs(3);

/// Memory: for each idle connection, and the most in a large download.
pub(super) fn of_memory(contestants: &mut [Contestant]) -> Result<String> {
    let measured = |one: &&mut Contestant| !matches!(one.who, Who::Direct | Who::Recording);
    let (mut names, mut idle, mut peak) = (Vec::new(), Vec::new(), Vec::new());
    for contestant in contestants.iter_mut().filter(measured) {
        let name = contestant.who.name();
        say(&format!("bench: memory of {name}"));
        names.push(name.to_owned());
        peak.push(told(name, peak_of(contestant)));
        idle.push(told(name, idle_of(contestant)));
    }
    let mut text = String::from("\n");
    text.push_str(&line("memory", &names)?);
    writeln!(text, "|---|{}", "---|".repeat(names.len()))?;
    let held = format!("for an idle connection (of {HELD}), KiB");
    text.push_str(&line(&held, &idle)?);
    text.push_str(&line("most in a download of 100 MiB, MiB", &peak)?);
    writeln!(
        text,
        "\nOf all processes of a proxy, what they share counted once; an idle connection has had one request."
    )?;
    Ok(text)
}

/// How late the latest of a few events is that are sent a second apart.
pub(super) fn of_events(contestants: &mut [Contestant]) -> Result<String> {
    let (mut names, mut late) = (Vec::new(), Vec::new());
    for contestant in contestants.iter_mut().filter(|one| one.who != Who::Recording) {
        let name = contestant.who.name();
        say(&format!("bench: an event a second by {name}"));
        names.push(name.to_owned());
        let outcome = contestant.perform(&Task::Beats { events: BEATS });
        late.push(told(name, outcome.map(|outcome| outcome.median / 1000.0)));
    }
    let mut text = String::from("\n");
    text.push_str(&line("an event a second", &names)?);
    writeln!(text, "|---|{}", "---|".repeat(names.len()))?;
    text.push_str(&line(&format!("the latest of {BEATS} behind its sending, ms"), &late)?);
    Ok(text)
}

/// A number, or a dash where it could not be had.
fn told(name: &str, result: Result<f64>) -> String {
    match result {
        Ok(number) => format!("{number:.1}"),
        Err(error) => {
            say(&format!("bench: {name}: memory: {error:#}"));
            "–".to_owned()
        }
    }
}

/// The most memory in a download, in MiB.
fn peak_of(contestant: &mut Contestant) -> Result<f64> {
    contestant.forget_peak()?;
    contestant.perform(&Task::Download { bytes: 100 << 20, streams: 1, millis: 0 })?;
    let usage = contestant.usage()?.context("there is a proxy")?;
    Ok(f64::from(u32::try_from(usage.peak)?) / 1024.0)
}

/// What an idle connection holds, in KiB.
fn idle_of(contestant: &mut Contestant) -> Result<f64> {
    let before = contestant.usage()?.context("there is a proxy")?.now;
    contestant.perform(&Task::Hold { connections: HELD })?;
    let after = contestant.usage()?.context("there is a proxy")?.now;
    contestant.perform(&Task::Release)?;
    let each = f64::from(u32::try_from(after.saturating_sub(before))?);
    Ok(each / f64::from(u32::try_from(HELD)?))
}

/// Very many connections in a session of boundary's own: what they hold, how used ones fare beside
/// them, and that nothing is left.
pub(super) fn of_many(plan: &Plan, folder: &Path) -> Result<String> {
    say(&format!("bench: {MANY} idle connections"));
    let mut session = contestants::boundary(plan, folder, Who::Boundary)?;
    let usage = |session: &Contestant| session.usage()?.context("there is a proxy");
    let active = Task::Use { connections: ACTIVE, millis: 2000 };
    session.perform(&Task::Requests { connections: 1, millis: 100 })?;
    session.perform(&Task::Hold { connections: ACTIVE })?;
    let alone = session.perform(&active)?;
    session.perform(&Task::Release)?;
    let before = gone(&session, 0)?;
    let held = session.perform(&Task::Hold { connections: MANY })?;
    let idle = usage(&session)?;
    let beside = session.perform(&active)?;
    let busy = usage(&session)?;
    session.perform(&Task::Release)?;
    let descriptors = gone(&session, before.descriptors)?.descriptors;
    thread::sleep(UNTIL_GIVEN_BACK);
    let after = usage(&session)?;
    #[expect(clippy::cast_precision_loss, reason = "KiB and requests of a second fit")]
    let (each, rates) = (
        idle.now.saturating_sub(before.now) as f64 / MANY as f64,
        (alone.count as f64 / alone.seconds, beside.count as f64 / beside.seconds),
    );
    let mut text = format!("\n| boundary, {MANY} connections | |\n|---|---|\n");
    writeln!(text, "| opened in, s | {:.1} |", held.seconds)?;
    writeln!(text, "| memory of each, idle, KiB | {each:.1} |")?;
    writeln!(text, "| {ACTIVE} active beside them, req/s | {:.0} |", rates.1)?;
    writeln!(text, "| the same without them, req/s | {:.0} |", rates.0)?;
    writeln!(text, "| memory in all with {ACTIVE} active, MiB | {:.1} |", mebibytes(busy.now))?;
    writeln!(
        text,
        "| descriptors before, with {MANY}, after | {}, {}, {} |",
        before.descriptors, idle.descriptors, descriptors
    )?;
    writeln!(
        text,
        "| memory {} s after, MiB | {:.1} |",
        UNTIL_GIVEN_BACK.as_secs(),
        mebibytes(after.now)
    )?;
    Ok(text)
}

/// KiB as MiB.
fn mebibytes(kibibytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no machine has as much")]
    let number = kibibytes as f64;
    number / 1024.0
}

/// What a session holds when no more descriptors go: at most `most`, or those that stay.
fn gone(session: &Contestant, most: usize) -> Result<super::memory::Usage> {
    let deadline = Instant::now() + UNTIL_GONE;
    let mut least = usize::MAX;
    let mut since = Instant::now();
    loop {
        let usage = session.usage()?.context("there is a proxy")?;
        let settled = most == 0 && since.elapsed() > Duration::from_secs(3);
        if usage.descriptors <= most || settled || Instant::now() > deadline {
            return Ok(usage);
        }
        if usage.descriptors < least {
            (least, since) = (usage.descriptors, Instant::now());
        }
        thread::sleep(Duration::from_millis(200));
    }
}
