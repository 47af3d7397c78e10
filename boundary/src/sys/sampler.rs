//! Where this process's threads are while they have a processor: looked at many times a second.
//!
//! The kernel interrupts whichever thread runs when the process has used so much processor time
//! (`ITIMER_PROF`), and the thread itself walks up its stack by the tables that panics are unwound by.
//! *Never*: allocates, locks or fails where a thread was interrupted.

#![expect(unsafe_code, reason = "a signal's action, and the standard library's own unwinder")]

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// How much room there is for what is seen: some minutes of two busy processors.
const WORDS: usize = 1 << 20;

/// How far up a stack is walked.
const DEPTH: usize = 64;

/// What the threads have seen. It is made once and stays: a signal may come late.
static SEEN: OnceLock<Seen> = OnceLock::new();

/// Whether somebody has it looked.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Stacks one after the other: how many addresses, and these.
struct Seen {
    is_open: AtomicBool,
    /// How many threads write at the moment.
    busy: AtomicUsize,
    next: AtomicUsize,
    lost: AtomicUsize,
    words: Box<[AtomicUsize]>,
}

impl Seen {
    /// Room that nothing is in.
    fn new() -> Self {
        let words = (0..WORDS).map(|_| AtomicUsize::new(0)).collect();
        let [busy, next, lost] = [0; 3].map(AtomicUsize::new);
        Self { is_open: AtomicBool::new(false), busy, next, lost, words }
    }

    /// Notes a stack, if there is room.
    fn note(&self, stack: &[usize]) {
        let begin = self.next.fetch_add(1 + stack.len(), Ordering::Relaxed);
        let Some(place) = self.words.get(begin..=begin.saturating_add(stack.len())) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (word, value) in place.iter().zip([stack.len()].iter().chain(stack)) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Takes all of them out.
    fn drain(&self) -> Vec<Vec<usize>> {
        let end = self.next.swap(0, Ordering::Relaxed).min(self.words.len());
        let mut words = self.words.iter().take(end).map(|word| word.swap(0, Ordering::Relaxed));
        let mut stacks = Vec::new();
        // What did not fit left nothing.
        while let Some(count) = words.next().filter(|count| *count > 0) {
            stacks.push(words.by_ref().take(count).collect());
        }
        stacks
    }
}

/// What was seen in a while.
#[derive(Debug)]
pub struct Stacks {
    /// Each from the innermost address outwards; of callers where they go on.
    pub all: Vec<Vec<usize>>,
    /// How many found no room.
    pub lost: usize,
}

/// Has it looked until it is dropped; there is one at a time.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sampler;

impl Sampler {
    /// Begins, to look whenever so much processor time was used. None where somebody else has it
    /// looked.
    pub fn start(every: Duration) -> io::Result<Option<Self>> {
        if IS_TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let sampler = Self;
        let seen = SEEN.get_or_init(Seen::new);
        // What the unwinder makes at its first call it makes here.
        let _own = walked();
        let flags = SaFlags::SA_RESTART | SaFlags::SA_SIGINFO;
        let action = SigAction::new(SigHandler::SigAction(look), flags, SigSet::empty());
        // SAFETY: `look` calls nothing that a signal may not interrupt: it reads and writes atomics and
        // its own stack, and the unwinder, which reads tables.
        unsafe { sigaction(Signal::SIGPROF, &action) }?;
        seen.is_open.store(true, Ordering::SeqCst);
        tick(every)?;
        Ok(Some(sampler))
    }

    /// Ends, and says what was seen.
    pub fn finish(self) -> Stacks {
        close();
        let Some(seen) = SEEN.get() else { return Stacks { all: Vec::new(), lost: 0 } };
        while seen.busy.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        Stacks { all: seen.drain(), lost: seen.lost.swap(0, Ordering::Relaxed) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        close();
        IS_TAKEN.store(false, Ordering::SeqCst);
    }
}

/// Has nobody interrupted any more.
fn close() {
    // Nothing can be wrong with no time.
    drop(tick(Duration::ZERO));
    if let Some(seen) = SEEN.get() {
        seen.is_open.store(false, Ordering::SeqCst);
    }
}

/// Has the kernel interrupt whenever so much processor time was used; nothing is never.
fn tick(every: Duration) -> io::Result<()> {
    let micros = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
    let time = *TimeVal::microseconds(micros).as_ref();
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the call reads the structure, which outlives it, and writes nothing.
    Errno::result(unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, null_mut()) })?;
    Ok(())
}

/// What an interrupted thread does.
extern "C" fn look(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    let Some(seen) = SEEN.get() else { return };
    let before = Errno::last_raw();
    seen.busy.fetch_add(1, Ordering::SeqCst);
    if seen.is_open.load(Ordering::SeqCst) {
        let stack = walked();
        // What comes before is what looks.
        let here = interrupted(context);
        let stack = stack.addresses.get(..stack.count).unwrap_or_default();
        let begin = stack.iter().position(|address| *address == here);
        match begin.and_then(|begin| stack.get(begin..)) {
            Some(stack) => seen.note(stack),
            // The tables end before it: where it is is known all the same.
            None => seen.note(&[here]),
        }
    }
    seen.busy.fetch_sub(1, Ordering::SeqCst);
    Errno::set_raw(before);
}

/// Where the thread was, by what the kernel saved of it.
fn interrupted(context: *mut c_void) -> usize {
    let context: *const libc::ucontext_t = context.cast();
    // SAFETY: the kernel hands an action with SA_SIGINFO the context it saved, which is there until the
    // action returns.
    let saved = unsafe { (*context).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    let address = saved.gregs.get(libc::REG_RIP.unsigned_abs() as usize).copied();
    #[cfg(target_arch = "aarch64")]
    let address = Some(saved.pc);
    address.and_then(|address| usize::try_from(address).ok()).unwrap_or(0)
}

/// Addresses of a stack.
struct Walk {
    addresses: [usize; DEPTH],
    count: usize,
}

/// The stack of who calls it.
fn walked() -> Walk {
    let mut walk = Walk { addresses: [0; DEPTH], count: 0 };
    // SAFETY: `step` gets the pointer back that is given here, and the structure outlives the call.
    let _how_it_ended = unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
    walk
}

/// Notes one frame; anything but nothing ends the walk.
extern "C" fn step(frame: *mut c_void, walk: *mut c_void) -> c_int {
    let walk: *mut Walk = walk.cast();
    // SAFETY: it is what `walked` gave, and nobody else has it.
    let walk = unsafe { &mut *walk };
    // SAFETY: the frame is the unwinder's own, for as long as this call takes.
    let address = unsafe { _Unwind_GetIP(frame) };
    match walk.addresses.get_mut(walk.count) {
        Some(place) if address != 0 => {
            *place = address;
            walk.count += 1;
            0
        }
        // `_URC_END_OF_STACK`
        Some(_) | None => 5,
    }
}

// The unwinder that the standard library is linked with (Itanium C++ ABI, "Exception Handling").
unsafe extern "C" {
    /// Calls for each frame, the innermost first, until it is told to end.
    fn _Unwind_Backtrace(
        step: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    /// Where a frame goes on.
    fn _Unwind_GetIP(frame: *mut c_void) -> usize;
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    /// A thread's own work, for as long as it takes until it was seen.
    #[inline(never)]
    fn works(until: &AtomicBool) -> u64 {
        let mut sum = 0_u64;
        while !until.load(Ordering::Relaxed) {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    /// Says to the test that it is to look: signals are no other test's business, so it does so in a
    /// process of its own.
    const INSIDE: &str = "BOUNDARY_TEST_LOOKS";

    #[test]
    fn who_has_the_processor_is_seen_with_its_callers_and_one_looks_at_a_time() {
        if std::env::var_os(INSIDE).is_some() {
            return looks();
        }
        let own = std::env::current_exe().unwrap();
        let name = "sys::sampler::tests::\
                    who_has_the_processor_is_seen_with_its_callers_and_one_looks_at_a_time";
        let inside = Command::new(own).args(["--exact", name]).env(INSIDE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&inside.stdout).into_owned();
        assert!(inside.status.success() && said.contains("1 passed"), "{said}");
    }

    fn looks() {
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        let worker = thread::spawn(|| works(&IS_OVER));
        let begin = works as *const () as usize;
        let is_there = |stack: &Vec<usize>| {
            stack.len() > 3 && stack.iter().any(|it| (begin..begin + 512).contains(it))
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        let start = || Sampler::start(Duration::from_millis(1)).unwrap();
        loop {
            let sampler = start().expect("nobody else looks");
            assert!(start().is_none());
            let seen = SEEN.get().expect("it was made");
            while seen.next.load(Ordering::Relaxed) < 100 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            let stacks = sampler.finish();
            assert_eq!(stacks.lost, 0);
            if stacks.all.iter().any(is_there) {
                break;
            }
            assert!(Instant::now() < deadline, "{:x?} without {begin:x}", stacks.all);
        }
        IS_OVER.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let seen = Seen::new();
        seen.next.store(WORDS - 3, Ordering::Relaxed);
        seen.note(&[1, 2]);
        seen.note(&[3]);
        assert_eq!(seen.lost.load(Ordering::Relaxed), 1);
        seen.drain();
        seen.note(&[4, 5]);
        assert_eq!(seen.drain(), [[4, 5]]);
        assert_eq!(seen.drain(), [[0_usize; 0]; 0]);
    }
}
