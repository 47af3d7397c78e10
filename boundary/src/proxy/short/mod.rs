//! The short way: plain requests and plain answers, carried without a parser's library on either side.
//!
//! What a connection costs is what its usual requests cost, and most are as plain as can be: a path,
//! a `Host`, a body that is there already; an answer with a length or in chunks. Everything else, and
//! everything that goes wrong, is the long way's, which takes over at any moment before the answer
//! begins: with the bytes of the request, and with what was decided and sent of it already.
//!
//! *Standing*: [`super::http1`] begins here and goes on the long way from the first request that is not
//! plain. *Never*: says no, or decides otherwise than the long way: both ask [`identity`] and the rules.

mod answer;
mod client;
mod request;

use std::pin::{Pin, pin};

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use self::answer::Answer;
use self::client::{Client, Left, News, READ};
use self::request::{Read, Request};
use super::body::Account;
use super::flow::Call;
use super::identity::{self, Heard};
use super::peek::Speech;
use super::pool::Kept;
use super::upstream::{Bare, Failure, Near, Order, Stop, Way};
use super::{Proxy, Stream};
use crate::audit::Stopwatch;
use crate::rules::{Denial, Permit};

/// What the long way takes over.
pub(super) struct Rest<S> {
    /// The client's stream.
    pub(super) stream: S,
    /// What was read of it and is not answered, and since when.
    pub(super) held: (Vec<u8>, Instant),
    /// What was done for the first request already.
    pub(super) begun: Option<Box<Begun>>,
}

/// What the short way did for a request.
#[derive(Debug)]
pub(super) enum Begun {
    /// The rules permit it, and nothing was done.
    Judged(Permit),
    /// It is permitted and on record, and perhaps sent. Its answer has to begin by then.
    Permitted(Permit, Box<Errand>, Option<Instant>),
    /// Its name leads where it must not. Looked up once more, it might lead elsewhere.
    Denied(Denial),
}

/// A permitted request on its way.
#[derive(Debug)]
pub(super) struct Errand {
    /// Its place in the record.
    pub(super) account: Account,
    /// How it gets out, and since when an upstream is asked.
    pub(super) way: Result<(Way, Stopwatch), Failure>,
}

/// Something for the long way.
#[derive(Debug)]
struct Odd;

/// How a turn ended.
enum Turn {
    /// The next may come.
    Next,
    /// The long way goes on.
    Long(Option<Box<Begun>>),
    /// The connection ends in order.
    Over,
    /// It breaks off.
    Broken,
}

impl Turn {
    /// The long way goes on with what was begun.
    fn begun(begun: Begun) -> Self {
        Self::Long(Some(Box::new(begun)))
    }
}

/// A request that is on record.
struct Open {
    account: Account,
    /// Since when an upstream is asked.
    time: Stopwatch,
}

/// An answer on its way to the client.
struct Delivery<'a> {
    answer: Answer,
    account: Account,
    /// What has come of the body.
    first: &'a [u8],
    /// The connection that it comes on.
    bare: Bare,
    /// Whether nothing came on it that is not the answer's.
    is_clean: bool,
    /// Whether the client's connection ends with it.
    is_last: bool,
}

/// A plain request that was permitted.
struct Question {
    permit: Permit,
    /// As it is sent.
    said: Vec<u8>,
    /// How much of what is held it is.
    length: usize,
    /// How much of that is its body.
    body: usize,
    is_head: bool,
    is_last: bool,
    /// By when its answer has to begin.
    late: Option<Instant>,
}

impl Question {
    /// The long way goes on with it; it is on record.
    fn long(self, account: Account, way: Result<(Way, Stopwatch), Failure>) -> Turn {
        let errand = Box::new(Errand { account, way });
        Turn::begun(Begun::Permitted(self.permit, errand, self.late))
    }

    /// An upstream was asked, and does not answer it.
    fn unanswered(self, open: Open, failure: Failure) -> Turn {
        open.time.answered();
        self.long(open.account, Err(failure))
    }
}

/// A connection on which a question is asked.
struct Outing {
    bare: Bare,
    /// Whether it carried others before.
    is_kept: bool,
    open: Open,
}

/// Carries the plain requests of a stream. What is left for the long way, if anything is.
pub(super) async fn serve<S: Stream>(
    proxy: &Proxy,
    stream: S,
    call: &Call,
    heard: &Heard,
) -> Option<Rest<S>> {
    let mut closing = pin!(proxy.closing());
    let mut talk = Talk { proxy, call, heard, client: Client::new(stream) };
    loop {
        match talk.turn(closing.as_mut()).await {
            Turn::Next => {}
            Turn::Long(begun) => {
                let (stream, mut held) = talk.client.parted();
                if begun.is_some() {
                    request::smooth(&mut held.0);
                }
                return Some(Rest { stream, held, begun });
            }
            Turn::Over => {
                // A client that does not wait for the end is gone.
                drop(timeout(proxy.limits.linger, talk.client.end(&proxy.limits)).await);
                return None;
            }
            Turn::Broken => return None,
        }
    }
}

/// One client connection on the short way.
struct Talk<'a, S> {
    proxy: &'a Proxy,
    call: &'a Call,
    heard: &'a Heard,
    client: Client<S>,
}

impl<S: Stream> Talk<'_, S> {
    /// One request and its answer.
    async fn turn(&mut self, mut closing: Pin<&mut impl Future<Output = ()>>) -> Turn {
        let question = match self.listen(closing.as_mut()).await {
            Ok(question) => question,
            Err(turn) => return turn,
        };
        let (proxy, permit, late) = (self.proxy, &question.permit, question.late);
        let (speech, meant) = (Speech::Http1, proxy.meant(&self.heard.target, permit));
        let order = Order { permit, speech, switch: None, correlation: None, late, meant };
        let promise = proxy.promise(self.call, permit);
        let found = proxy.upstream.near(&order);
        let found = match self.client.attend(found, late, &proxy.limits).await {
            Ok(found) => found,
            Err(Left::Late) => Err(Stop::Failed(Failure::Unanswered)),
            Err(Left::Gone) => return Turn::Broken,
        };
        promise.taken_over();
        let near = match found {
            Ok(Near::Far) => return Turn::begun(Begun::Judged(question.permit)),
            Ok(near) => Ok(near),
            Err(Stop::Denied(denial)) => return Turn::begun(Begun::Denied(denial)),
            Err(Stop::Failed(failure)) => Err(failure),
        };
        let account = Account::new(proxy.allow(self.call, permit));
        let mut open = Open { account, time: proxy.recorder.time() };
        let (bare, is_kept) = match near {
            Ok(Near::Kept(bare)) => (bare, true),
            Ok(Near::Fresh(route)) => {
                let made = proxy.upstream.bare(&order, &route);
                match self.client.attend(made, late, &proxy.limits).await {
                    Ok(Ok(bare)) => (bare, false),
                    // The long way knows which other version may be spoken there.
                    Ok(Err(failure)) if failure.is_about_version() => {
                        return question.long(open.account, Ok((Way::Fresh(route), open.time)));
                    }
                    Ok(Err(failure)) => return question.unanswered(open, failure),
                    Err(Left::Late) => return question.unanswered(open, Failure::Unanswered),
                    Err(Left::Gone) => return Turn::Broken,
                }
            }
            Ok(Near::Far) => return Turn::Long(None),
            Err(failure) => return question.long(open.account, Err(failure)),
        };
        open.account.dialled(bare.address);
        self.exchange(question, Outing { bare, is_kept, open }, closing).await
    }

    /// Waits for a plain request, and asks the rules. What they do not permit the long way refuses.
    async fn listen(
        &mut self,
        mut closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Question, Turn> {
        let limits = &self.proxy.limits;
        loop {
            if let Some(question) = self.asked().map_err(|Odd| Turn::Long(None))? {
                self.client.asks(question.length);
                return Ok(question);
            }
            match self.client.hear(limits, closing.as_mut()).await {
                News::More => {}
                News::Over => return Err(Turn::Over),
                News::Odd | News::Late => return Err(Turn::Long(None)),
                News::Gone => return Err(Turn::Broken),
            }
        }
    }

    /// The question that what is held begins with, once it is whole.
    fn asked(&mut self) -> Result<Option<Question>, Odd> {
        if !self.client.is_worth_reading() {
            return Ok(None);
        }
        match request::read(&self.client.held, &self.proxy.limits)? {
            Read::Head => Ok(None),
            Read::Body(wanted) => {
                self.client.await_body(wanted);
                Ok(None)
            }
            Read::Whole(request) => self.question(&request).map(Some),
        }
    }

    /// The question that a request is, if the rules permit it.
    fn question(&self, request: &Request<'_>) -> Result<Question, Odd> {
        let (host, target) = (request.host, request.target);
        let time = self.proxy.recorder.time();
        let permit = identity::plain(self.heard, request.method, host, target)
            .and_then(|intent| self.proxy.rules_of(self.call).decide(intent))
            .and_then(|permit| self.proxy.recorded(permit))
            .ok()
            .filter(|permit| !self.proxy.upstream.correlates(permit.intent()))
            .ok_or(Odd)?;
        time.decided();
        let intent = permit.intent();
        let said = request.said(intent).ok_or(Odd)?;
        let is_head = intent.method().is_some_and(|method| method.as_str() == "HEAD");
        let (length, body) = (request.length, request.body.len());
        let (is_last, late) = (request.is_last, self.proxy.limits.answer_by());
        Ok(Question { permit, said, length, body, is_head, is_last, late })
    }

    /// Sends a question and brings the answer back.
    async fn exchange(
        &mut self,
        question: Question,
        mut outing: Outing,
        mut closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Turn {
        let wire = &mut outing.bare.wire;
        let sent = async {
            wire.write_all(&question.said).await?;
            wire.flush().await
        };
        let mut told = Vec::new();
        let head = match self.client.attend(sent, question.late, &self.proxy.limits).await {
            Ok(Ok(())) => {
                let until = (question.late, closing.as_mut());
                self.await_head(&mut outing.bare, &mut told, question.is_head, until).await
            }
            // What is wrong with the connection the long way finds out once more, and says.
            Ok(Err(_)) => Err(News::Odd),
            Err(Left::Late) => Err(News::Late),
            Err(Left::Gone) => Err(News::Gone),
        };
        let begun = head.and_then(|mut answer| {
            // The first part of the body, too, may be one for the long way.
            let after = told.get(answer.length..).ok_or(News::Odd)?;
            let (here, content) = answer.body.advance(after).ok_or(News::Odd)?;
            Ok((answer, after.get(..here).unwrap_or_default(), content, here == after.len()))
        });
        let (answer, first, content, is_clean) = match begun {
            Ok(begun) => begun,
            Err(News::Gone) => return Turn::Broken,
            Err(News::Late) => return question.unanswered(outing.open, Failure::Unanswered),
            Err(News::Odd | News::Over | News::More) => {
                return self.give_over(question, outing, told).await;
            }
        };
        let Outing { bare, open: Open { mut account, time }, .. } = outing;
        time.answered();
        account.status = Some(answer.status);
        account.carried(question.body as u64, content);
        self.client.answered();
        let is_last = question.is_last || self.proxy.is_closing();
        self.bring(Delivery { answer, account, first, bare, is_clean, is_last }, closing).await
    }

    /// Waits for the head of an answer.
    async fn await_head(
        &mut self,
        bare: &mut Bare,
        told: &mut Vec<u8>,
        is_head: bool,
        (late, mut closing): (Option<Instant>, Pin<&mut impl Future<Output = ()>>),
    ) -> Result<Answer, News> {
        let limits = &self.proxy.limits;
        let mut looked = 0;
        loop {
            let until = (late, closing.as_mut());
            let news = self.client.await_bytes(&mut bare.wire, told, limits, until).await;
            if news != News::More {
                return Err(news);
            }
            if told.len() > limits.head_bytes.saturating_add(READ) {
                return Err(News::Odd);
            }
            // Only a line's end can make it whole.
            let fresh = told.get(looked..).unwrap_or_default();
            let read =
                if fresh.contains(&b'\n') { answer::read(told, is_head, limits) } else { Ok(None) };
            if let Some(answer) = read.map_err(|Odd| News::Odd)? {
                return Ok(answer);
            }
            looked = told.len();
        }
    }

    /// Brings an answer back, and the connection to where it waits for the next.
    async fn bring(
        &mut self,
        delivery: Delivery<'_>,
        closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Turn {
        let Delivery { answer, account, first, mut bare, is_clean, is_last } = delivery;
        let Answer { mut said, mut body, is_last: upstream_ends, .. } = answer;
        if is_last {
            said.extend_from_slice(b"Connection: close\r\n");
        }
        said.extend_from_slice(b"\r\n");
        said.extend_from_slice(first);
        let pool = self.proxy.upstream.pool();
        if body.is_over() {
            // Others need not wait until this client has read.
            if is_clean && !upstream_ends {
                pool.keep(Kept::Bare(bare));
            }
            if self.client.say(&said).await.is_err() {
                return Turn::Broken;
            }
        } else {
            if self.client.say(&said).await.is_err() {
                return Turn::Broken;
            }
            let until = (&self.proxy.limits, closing);
            match self.client.relay(&mut bare.wire, &mut body, &account, until).await {
                Some(true) if !upstream_ends => pool.keep(Kept::Bare(bare)),
                Some(_) => {}
                None => return Turn::Broken,
            }
        }
        if is_last { Turn::Over } else { Turn::Next }
    }

    /// Has the long way read an answer from its beginning.
    async fn give_over(&mut self, question: Question, outing: Outing, told: Vec<u8>) -> Turn {
        let Outing { bare, is_kept, open } = outing;
        match self.proxy.upstream.begun(bare, told).await {
            Ok(connection) => {
                let way = if is_kept { Way::Kept } else { Way::Begun };
                question.long(open.account, Ok((way(connection), open.time)))
            }
            Err(error) => question.unanswered(open, Failure::Broken(error)),
        }
    }
}
