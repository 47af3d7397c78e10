//! boundary seen from outside: the table of contents.
//!
//! Everything runs the built binary (`BOUNDARY_BIN`, else the one beside the tests) in a simulated
//! internet. What needs root or BPF says so and skips, unless `BOUNDARY_TEST_PROMISE` names it.

/// The workspace agent: it gets every request, and nothing from the command.
#[cfg(test)]
mod agent;
/// The record: every decision once, in order, and nothing that is secret.
#[cfg(test)]
mod audit;
/// What a crowd makes the proxy hold, and no more.
#[cfg(test)]
mod bounds;
/// The programs that people run, unmodified and untold.
#[cfg(test)]
mod clients;
/// What a user can say wrongly, and what is said back.
#[cfg(test)]
mod config;
/// The programs that people run, in an ordinary container.
#[cfg(test)]
mod contained;
/// Containers: which jail there is in each kind of them.
#[cfg(test)]
mod containers;
/// A running session is told something: by its user, and never by its command.
#[cfg(test)]
mod ctl;
/// The dashboard is one by Grafana's schema.
#[cfg(test)]
mod dashboard;
/// What is given to operators speaks of what there is.
#[cfg(test)]
mod deploy;
/// Names: answered inside, never asked outside for what is denied.
#[cfg(test)]
mod dns;
/// What is written for people works as it is written.
#[cfg(test)]
mod documents;
/// Every known way out, one test each, named for the technique.
#[cfg(test)]
mod escape;
/// The record as logs of OpenTelemetry.
#[cfg(test)]
mod export;
/// What fails around a session, and what comes of it.
#[cfg(test)]
mod faults;
/// By way of a proxy upstream.
#[cfg(test)]
mod gateway;
/// HTTP through every door: what is allowed arrives, what is not never leaves.
#[cfg(test)]
mod http;
/// HTTP/2, gRPC and what streams, with clients that nobody here wrote.
#[cfg(test)]
mod http2;
/// The installer: what is whole, and signed where that is asked, is installed, and nothing else.
#[cfg(test)]
mod installing;
/// Which jail there is, and what is said where there is none.
#[cfg(test)]
mod jails;
/// The kernel half: every program loads, every hook steers as `steer` says, and nothing opens it.
#[cfg(test)]
mod kernel;
/// The jail that needs nothing.
#[cfg(test)]
mod landjail;
/// Exit codes, signals, nothing left behind.
#[cfg(test)]
mod lifecycle;
/// Servers and clients of the command's own on loopback.
#[cfg(test)]
mod loopback;
/// What operators see while a session runs.
#[cfg(test)]
mod metrics;
/// boundary inside boundary: the inner policy can only be narrower.
#[cfg(test)]
mod nested;
/// The jail that needs no privilege.
#[cfg(test)]
mod nsjail;
/// Requests that mean two things, or nothing.
#[cfg(test)]
mod parsing;
/// The pipelines that bring the record to Loki, on lines of a session.
#[cfg(test)]
mod pipeline;
/// Where agents run: the files for it speak of what there is, and run.
#[cfg(test)]
mod places;
/// Writing a policy: what it says beforehand is what it does.
#[cfg(test)]
mod policy;
/// A person is asked where no rule permits a request.
#[cfg(test)]
mod prompt;
/// What was asked is what every sink has, or says that it lost.
#[cfg(test)]
mod reconcile;
/// Every library that resolves names in a way of its own, and real answers.
#[cfg(test)]
mod resolvers;
/// Reading the record, at a terminal and in a browser.
#[cfg(test)]
mod review;
/// Signals in the jail without a process namespace.
#[cfg(test)]
mod signals;
/// The sinks and the command: what it is on record for it cannot change.
#[cfg(test)]
mod sinks;
/// Every client at once, for long, with faults in between.
#[cfg(test)]
mod soak;
/// The stage itself: what arrives without boundary, so that nothing arriving means something.
#[cfg(test)]
mod stage;
/// Streams that are not opened: ssh, databases, clients that pin.
#[cfg(test)]
mod streams;
/// A person at a terminal: job control, Ctrl-C, the window's size.
#[cfg(test)]
mod terminal;
/// Interception that every program trusts, verification towards the internet.
#[cfg(test)]
mod tls;
/// Leaves that every library believes, and an authority that every program finds.
#[cfg(test)]
mod trust;
/// Through sudo and as root: whose command it is.
#[cfg(test)]
mod user;
/// The simulated internet, the host, and the runs in them.
#[cfg(test)]
mod world;
