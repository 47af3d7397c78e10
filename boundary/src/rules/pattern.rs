//! Host labels and path segments: what a rule's patterns match.
//!
//! *Standing*: the grammar makes patterns, the index asks them. *Never*: sees text that was not
//! brought to its one spelling.

use std::net::IpAddr;

use super::host::is_below;
use super::{DomainMatch, Host, Name, path};

/// One pattern of `domain=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Domain {
    /// `*`: every host but the guarded ones.
    Any,
    /// An address, itself alone.
    Address(IpAddr),
    /// A name without a wildcard, read as the policy's [`DomainMatch`] says.
    Plain(Name),
    /// `*.name`: everything below the name.
    Below(Name),
    /// A wildcard label elsewhere.
    Shape(Shape),
}

impl Domain {
    /// Whether the pattern covers a host.
    pub(super) fn covers(&self, host: &Host, reading: DomainMatch) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Address(own), Host::Address(address)) => own == address,
            (Self::Plain(own), Host::Name(name)) => {
                own == name || (reading == DomainMatch::Subdomains && is_below(name, own))
            }
            (Self::Below(own), Host::Name(name)) => is_below(name, own),
            (Self::Shape(shape), Host::Name(name)) => shape.covers(name),
            (Self::Address(_), Host::Name(_))
            | (Self::Plain(_) | Self::Below(_) | Self::Shape(_), Host::Address(_)) => false,
        }
    }
}

/// Labels with wildcards between them: `api.*.com`, `*.*.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Left to right; none is a wildcard, which is exactly one label.
    labels: Box<[Option<Box<str>>]>,
    /// What stands right of the last wildcard.
    tail: Box<str>,
}

impl Shape {
    /// A shape of these labels, the last of which is no wildcard.
    pub(super) fn new(labels: Vec<Option<Box<str>>>) -> Self {
        let literal: Vec<&str> = labels.iter().rev().map_while(Option::as_deref).collect();
        let tail: Vec<&str> = literal.into_iter().rev().collect();
        Self { tail: tail.join(".").into(), labels: labels.into() }
    }

    /// What every host of this shape ends in.
    pub(super) fn tail(&self) -> &str {
        &self.tail
    }

    /// Aligned to the right. A leading wildcard is one label or more.
    pub(super) fn covers(&self, name: &Name) -> bool {
        let mut ours = self.labels.iter().rev();
        let mut theirs = name.rsplit('.');
        let fits = ours.all(|own| {
            theirs.next().is_some_and(|label| own.as_deref().is_none_or(|own| own == label))
        });
        let is_open = self.labels.first().is_some_and(Option::is_none);
        fits && (is_open || theirs.next().is_none())
    }
}

/// One pattern of `path=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    /// `*` alone: every path, and the `*` of OPTIONS.
    Any,
    /// Segment by segment.
    Segments {
        /// None is a wildcard: one segment, which may be empty.
        segments: Box<[Option<Box<str>>]>,
        /// Whether a slash may follow: the pattern was written with one.
        slash: bool,
    },
}

impl Path {
    /// Whether the pattern covers a canonical path.
    pub(super) fn covers(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Segments { segments, slash } => {
                path.strip_prefix('/').is_some_and(|path| cover(segments, *slash, path))
            }
        }
    }
}

/// Whether a pattern takes whatever follows: `/a/*`, but not `/a/*/`.
pub(super) fn is_open(pattern: &[Option<Box<str>>], slash: bool) -> bool {
    !slash && pattern.last().is_some_and(Option::is_none)
}

/// Every pattern segment takes one of the path; a wildcard at the very end takes the rest too.
fn cover(pattern: &[Option<Box<str>>], slash: bool, path: &str) -> bool {
    let mut path = path.split('/');
    let fits = pattern.iter().all(|own| {
        path.next().is_some_and(|segment| {
            own.as_deref().is_none_or(|own| path::is_same_segment(own, segment))
        })
    });
    fits && (is_open(pattern, slash)
        || match path.next() {
            None => true,
            Some(segment) => slash && segment.is_empty() && path.next().is_none(),
        })
}
