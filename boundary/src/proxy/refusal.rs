//! What is refused outside HTTP, and the record of it.
//!
//! *Never*: answers; whoever speaks HTTP is answered by [`super::respond`].

use super::Proxy;
use super::flow::{Call, Target};
use super::identity::Heard;
use crate::rules::{Code, Denial, Intent, Permit, Scheme};

impl Proxy {
    /// Why no rule can permit anything at this target, if none names its host.
    pub(super) fn refuses_host(&self, target: &Target) -> Option<Denial> {
        let (host, port) = target.host()?;
        // Whoever is asked is asked about the request inside.
        if self.prompts() || self.rules.names_host(host) {
            return None;
        }
        let method = hyper::Method::CONNECT;
        match Intent::http(Scheme::Https, method.as_str(), host.clone(), port, "/") {
            Ok(intent) => Some(Denial::of(Code::NoRule, intent)),
            Err(denial) => Some(denial),
        }
    }

    /// The permit for a stream that nobody can name, if anybody gives one when asked.
    pub(super) async fn ask_unclear(&self, call: &Call) -> Result<Permit, Denial> {
        let Some((host, port)) = call.target.host() else {
            return Err(Denial::new(Code::UnclearProtocol));
        };
        let intent = Intent::stream(Scheme::Tcp, host.clone(), port);
        self.decide(call, intent).await.map_err(|denial| {
            let is_unasked = denial.code == Code::NoRule;
            if is_unasked { Denial { code: Code::UnclearProtocol, ..denial } } else { denial }
        })
    }

    /// Refuses a stream outside HTTP: a reset tells the client, which takes no answer of ours.
    pub(super) fn cut_off(&self, call: &Call, denial: Denial) {
        call.cut.mark();
        self.refuse(call, denial);
    }

    /// Records a TLS handshake that had no end. What would have been asked nobody knows; a rule that
    /// passes the host on unopened is what helps a client that pins.
    pub(super) fn refuse_unfinished(&self, call: &Call, heard: &Heard) {
        let denial = match (heard.sni.as_ref(), call.target.host()) {
            (host, Some((target, port))) => {
                let host = host.unwrap_or(target).clone();
                self.learn_pinned(&host, port);
                Denial::of(Code::HandshakeFailed, Intent::stream(Scheme::Tls, host, port))
            }
            (_, None) => Denial::new(Code::HandshakeFailed),
        };
        self.refuse(call, denial);
    }

    /// Records a refusal outside HTTP.
    pub(super) fn refuse(&self, call: &Call, denial: Denial) {
        drop(self.deny(call, denial));
    }

    /// Records a tunnel in which nothing was asked for.
    pub(super) fn refuse_unused(&self, call: &Call) {
        let (Some((host, port)), method) = (call.target.host(), hyper::Method::CONNECT) else {
            return;
        };
        let asked = Intent::http(Scheme::Https, method.as_str(), host.clone(), port, "/");
        self.refuse(
            call,
            match asked {
                Ok(intent) => Denial::of(Code::TunnelUnused, intent),
                Err(denial) => denial,
            },
        );
    }

    /// A permit, unless the record of it would be lost and that was not to happen.
    pub(super) fn recorded(&self, permit: Permit) -> Result<Permit, Denial> {
        if self.recorder.is_refusing() {
            return Err(Denial::of(Code::Unrecorded, permit.intent().clone()));
        }
        Ok(permit)
    }
}
