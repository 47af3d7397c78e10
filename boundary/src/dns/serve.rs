//! Questions in, answers out: datagrams and streams.

use std::convert::Infallible;
use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::datagram::{self, Datagram};
use super::forward::{Errand, Transport};
use super::{HEADER, Resolver};
use crate::audit::Process;

/// The longest message there is.
const LONGEST: usize = u16::MAX as usize;

/// How long a stream may be idle, and how long one message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many questions one stream may carry; a client that has more opens another.
const QUESTIONS: usize = 4096;

/// The pause after a socket failed, so that a lasting failure does not turn into a loop.
const PAUSE: Duration = Duration::from_millis(20);

impl Resolver {
    /// Answers datagrams for as long as the session lasts; ends only if the socket cannot be used.
    ///
    /// `asker` is asked once for every datagram who sent it. What the session did not send is not
    /// answered: others on this machine have no business with its names.
    /// A socket that tells which address was asked (`IP_PKTINFO`) answers from that address.
    pub async fn serve_udp(
        self: &Arc<Self>,
        socket: StdUdpSocket,
        asker: impl Fn(SocketAddr, Option<IpAddr>) -> Option<Process>,
    ) -> io::Result<Infallible> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let mut errands = JoinSet::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            while errands.try_join_next().is_some() {}
            let received =
                socket.async_io(Interest::READABLE, || datagram::receive(&socket, &mut buffer));
            let Ok(Datagram { length, client, asked }) = received.await else {
                // An earlier answer's client is gone, or the system is short of something.
                sleep(PAUSE).await;
                continue;
            };
            let query = buffer.get(..length).unwrap_or_default();
            let Some(process) = asker(client, asked) else { continue };
            let client = (client, asked);
            match self.errand(query, Some(&process)) {
                Some(errand) => {
                    let back = (Arc::clone(&socket), client);
                    errands.spawn(Arc::clone(self).run_for(back, errand, process));
                }
                None => reply(&socket, self.answer(query, Some(process)), client).await,
            }
        }
    }

    /// Runs the errand of a datagram, whose answer nobody here waits for.
    async fn run_for(
        self: Arc<Self>,
        (socket, client): (Arc<UdpSocket>, Client),
        errand: Errand,
        process: Process,
    ) {
        let answer = self.run(errand, Some(process), Transport::Datagram).await;
        reply(&socket, answer, client).await;
    }

    /// Answers a stream's questions until the client closes it, is idle for too long, or has asked
    /// as many as one stream may. What is no question ends it with an error, and is on record; so is
    /// one that was begun and not ended.
    pub async fn serve_stream<S>(&self, mut stream: S, process: Option<Process>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for _ in 0..QUESTIONS {
            let until = Instant::now() + PATIENCE;
            let Some(first) = timeout_at(until, begin(&mut stream)).await?? else { break };
            let read = timeout_at(until, read_on(&mut stream, first)).await;
            let query = match read.map_err(io::Error::from).flatten() {
                Ok(query) => query,
                Err(error) => {
                    self.note_unclear(process);
                    return Err(error);
                }
            };
            let answer = match self.errand(&query, process.as_ref()) {
                Some(errand) => self.run(errand, process.clone(), Transport::Stream).await,
                None => self.answer(&query, process.clone()),
            };
            let Some(answer) = answer else { break };
            timeout(PATIENCE, write(&mut stream, &answer)).await??;
        }
        stream.shutdown().await
    }
}

/// Who asked, and which address, where the socket tells.
type Client = (SocketAddr, Option<IpAddr>);

/// Sends an answer, if there is one. One that cannot be sent is lost, as datagrams are.
async fn reply(socket: &UdpSocket, answer: Option<Vec<u8>>, client: Client) {
    let Some(answer) = answer else { return };
    let send = || datagram::send(socket, &answer, client);
    if let Err(error) = socket.async_io(Interest::WRITABLE, send).await {
        tracing::debug!(client = %client.0, %error, "an answer was not sent");
    }
}

/// One message behind its length; `None` at the end of the stream.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    match begin(stream).await? {
        Some(first) => read_on(stream, first).await.map(Some),
        None => Ok(None),
    }
}

/// The first byte of a message; `None` at the end of the stream.
async fn begin(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u8>> {
    match stream.read_u8().await {
        Ok(first) => Ok(Some(first)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The message that a byte begins. Who speaks something else at the port of questions is found by the
/// first bytes, and need not wait for as many as they would be.
async fn read_on(stream: &mut (impl AsyncRead + Unpin), first: u8) -> io::Result<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([first, stream.read_u8().await?]));
    let mut message = vec![0; HEADER];
    stream.read_exact(&mut message).await?;
    if length < HEADER || !asks_or_answers_one(&message) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    stream.read_exact(message.get_mut(HEADER..).unwrap_or_default()).await?;
    Ok(message)
}

/// Whether a message's header counts one question, as all do that we ask or answer.
fn asks_or_answers_one(header: &[u8]) -> bool {
    header.get(4..6) == Some(&[0, 1])
}

/// One message behind its length, in one write.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    // An answer is a few hundred bytes; one that did not fit would be a mistake of ours.
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    stream.flush().await
}
