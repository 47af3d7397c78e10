//! What goes wrong on the way out: refused after all, or permitted and not working.
//!
//! *Standing*: [`super`] and [`super::dial`] return it; the client is told by `respond`, the record
//! by its account. *Never*: carries a header, a body or a credential.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::CertificateError::UnknownIssuer;
use rustls::Error::InvalidCertificate;

use crate::proxy::gateway::Gateway;
use crate::rules::Denial;

/// Why a permitted request does not get out.
#[derive(Debug)]
pub(in crate::proxy) enum Stop {
    /// The name leads where it must not.
    Denied(Denial),
    /// It could not be reached.
    Failed(Failure),
}

/// An upstream that was permitted and did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::proxy) enum Failure {
    /// The name does not resolve.
    #[error("the name could not be resolved")]
    Unresolved(#[source] io::Error),
    /// No address takes a connection.
    #[error("{address} did not take the connection")]
    Unreachable {
        /// The last one that was tried.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("no connection in time")]
    TimedOut,
    /// The answer did not come in time.
    #[error("no answer in time")]
    Unanswered,
    /// The answer is more than the limits allow.
    #[error("the upstream's answer has too many fields, or too many interim answers before it")]
    Swollen,
    /// The certificate does not hold.
    #[error("the upstream's certificate was not accepted")]
    Certificate(#[source] rustls::Error),
    /// The handshake failed for another reason.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// Something else than TLS is spoken there.
    #[error("the upstream does not speak TLS")]
    NotTls,
    /// The roots to trust could not be read.
    #[error("the certificates to trust could not be read")]
    Roots(#[source] io::Error),
    /// The connection broke before there was an answer, or the answer was none.
    #[error("the upstream broke the connection or its answer is not HTTP")]
    Broken(#[source] hyper::Error),
    /// The proxy on the way cannot be used.
    #[error("the upstream proxy {gateway} could not be used")]
    Gateway {
        /// The proxy.
        gateway: Arc<Gateway>,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// The proxy on the way says no.
    #[error("the upstream proxy {gateway} refused with status {status}")]
    Refused {
        /// The proxy.
        gateway: Arc<Gateway>,
        /// What it answered.
        status: u16,
    },
    /// The upstream switched to a protocol that nobody asked for.
    #[error("the upstream switched protocols unasked")]
    Switched,
    /// The upstream did not switch to the protocol that was asked for.
    #[error("the upstream did not switch protocols")]
    Unswitched,
    /// The canonical request cannot be said in the upstream's words.
    #[error("the request cannot be said in the HTTP that the upstream speaks")]
    Unsayable,
}

impl Failure {
    /// Whether the upstream speaks none of the versions that it was offered.
    pub(in crate::proxy) fn is_about_version(&self) -> bool {
        let Self::Handshake(error) = self else { return false };
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        tls == Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
    }

    /// The failure as a short stable word.
    pub(in crate::proxy) fn code(&self) -> &'static str {
        match self {
            Self::Unresolved(_) => "unresolved",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut | Self::Unanswered => "timed_out",
            Self::Swollen => "over_limit",
            Self::Certificate(_) => "bad_certificate",
            Self::Handshake(_) => "handshake_failed",
            Self::NotTls => "not_tls",
            Self::Roots(_) => "no_roots",
            Self::Broken(_) => "broken",
            Self::Gateway { .. } => "proxy_failed",
            Self::Refused { .. } => "proxy_refused",
            Self::Switched => "switched",
            Self::Unswitched => "unswitched",
            Self::Unsayable => "unsayable",
        }
    }

    /// What the user can do about it, where that is plain.
    pub(in crate::proxy) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Certificate(InvalidCertificate(UnknownIssuer)) => {
                Some("To trust its authority, start boundary with:\n  --upstream-ca FILE\n")
            }
            Self::Refused { status: 407, .. } => Some(
                "It asks who you are. Start boundary with:\n  \
                 --upstream-proxy http://USER:PASSWORD@HOST:PORT\n",
            ),
            Self::Gateway { source, .. } => source.advice(),
            Self::Unresolved(_)
            | Self::Unreachable { .. }
            | Self::TimedOut
            | Self::Unanswered
            | Self::Swollen
            | Self::Certificate(_)
            | Self::Handshake(_)
            | Self::NotTls
            | Self::Roots(_)
            | Self::Broken(_)
            | Self::Refused { .. }
            | Self::Switched
            | Self::Unswitched
            | Self::Unsayable => None,
        }
    }

    /// The status that the client sees.
    pub(in crate::proxy) fn http_status(&self) -> u16 {
        match self {
            Self::TimedOut | Self::Unanswered => 504,
            Self::Unresolved(error) if error.kind() == io::ErrorKind::TimedOut => 504,
            Self::Gateway { source, .. } => source.http_status(),
            Self::Unresolved(_)
            | Self::Unreachable { .. }
            | Self::Swollen
            | Self::Certificate(_)
            | Self::Handshake(_)
            | Self::NotTls
            | Self::Roots(_)
            | Self::Broken(_)
            | Self::Refused { .. }
            | Self::Switched
            | Self::Unswitched
            | Self::Unsayable => 502,
        }
    }
}
