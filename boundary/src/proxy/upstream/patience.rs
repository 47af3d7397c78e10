//! How long an answer is waited for.
//!
//! *Standing*: [`super::Upstream`] sends a request and waits for whichever comes first, the head of its
//! answer or the end of this. *Never*: hears of anything behind the head.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request;
use hyper::ext::on_informational;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Failure;
use crate::proxy::body::Upload;

/// How long an answer is waited for, and past how many interim ones.
pub(super) struct Patience {
    late: Option<Instant>,
    exceeded: Arc<Notify>,
}

impl Patience {
    /// Patience with the answer to a request. Interim answers are heard of in HTTP/1 alone.
    pub(super) fn new(late: Option<Instant>, most: usize, request: &mut Request<Upload>) -> Self {
        let exceeded = Arc::new(Notify::new());
        let (tell, heard) = (Arc::clone(&exceeded), AtomicUsize::new(0));
        on_informational(request, move |_| {
            if heard.fetch_add(1, Ordering::Relaxed) >= most {
                tell.notify_one();
            }
        });
        Self { late, exceeded }
    }

    /// Resolves when it is at its end.
    pub(super) async fn end(&self) -> Failure {
        let late = async {
            match self.late {
                Some(late) => sleep_until(late).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = late => Failure::Unanswered,
            () = self.exceeded.notified() => Failure::Swollen,
        }
    }
}
