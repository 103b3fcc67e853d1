//! Any RPC transport: a small protocol of its own over TCP, as a tower service with a circuit
//! breaker for each server, and without, before three real servers of which one fails for a while.
//!
//! A frame is its length in four bytes and what it carries: a request the number of the call in
//! eight bytes, a reply the same number and one byte of status. Replies come in any order.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    process::ExitCode,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::{Outcome, Rejection};
use outrigger_examples::{Answer, Choice, Chronicle, Health, Report, SERVERS, Scenario, Told};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_util::{
    codec::{Framed, LengthDelimitedCodec},
    sync::PollSender,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

const ABOUT: &str = "Three servers with a protocol of their own over TCP, one of which fails for a \
while: the same load with a circuit breaker and without.";

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "breaker",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(tcp().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn tcp() -> Result<Report, BoxError> {
    let scenario = Scenario::new("length-delimited TCP");
    let chronicle = scenario.chronicle();
    let (mut governed, mut ungoverned) = (Vec::new(), Vec::new());
    for server in 0..SERVERS.len() {
        let address = serve(scenario.health(server)).await?;
        let breaker = breaker(server, &chronicle)?;
        governed.push(
            ServiceBuilder::new()
                .layer(CircuitBreakerLayer::from_handle(breaker).classify(judge))
                .service(Client::connect(address).await?),
        );
        ungoverned.push(Client::connect(address).await?);
    }
    let report = scenario
        .play(
            chronicle,
            |server, number| greet(governed[server].clone(), number),
            |server, number| greet(ungoverned[server].clone(), number),
        )
        .await;
    Ok(report)
}

/// A breaker for one server. It opens when half of at least 20 calls within half a second failed, or
/// took 250 ms; after a pause it lets a probe through, and closes when two in a row do well.
fn breaker(server: usize, chronicle: &Chronicle) -> Result<CircuitBreaker<Chronicle>, BoxError> {
    let policy = CircuitBreakerPolicy::builder()
        .time_window(Duration::from_millis(500))
        .error_rate(0.5, 20)
        .slow_calls(Duration::from_millis(250), 0.5, 20)
        .cool_down(Duration::from_millis(300))
        .probe_interval(Duration::from_millis(100))
        .build()?;
    let breaker = CircuitBreaker::builder(policy).name(SERVERS[server]);
    Ok(breaker.seed(Scenario::SEED).observe(chronicle.clone()).build())
}

/// What an answer says of the server. A reply can be a failure, and not only an error.
fn judge(result: Result<&Reply, &CallError>) -> Outcome {
    match result {
        Ok(Reply::Welcome) => Outcome::Success,
        Ok(Reply::Unavailable) | Err(CallError::Disconnected) => Outcome::Failure,
        Err(CallError::Refused(_)) => Outcome::Ignored,
    }
}

async fn greet<S>(service: S, number: u64) -> Answer
where
    S: Service<Greeting, Response = Reply, Error = CallError>,
{
    match service.oneshot(Greeting { number }).await {
        Ok(Reply::Welcome) => Answer::Succeeded,
        Err(CallError::Refused(refusal)) if !refusal.was_sent() => Answer::Refused,
        Ok(Reply::Unavailable) | Err(_) => Answer::Failed,
    }
}

// ===== the protocol =====

#[derive(Clone, Copy, Debug)]
struct Greeting {
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Welcome,
    Unavailable,
}

/// The client's own error type. One variant is all that the layers ask of it.
#[derive(Debug)]
enum CallError {
    Disconnected,
    Refused(Rejection),
}

impl From<Rejection> for CallError {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

type Frames = Framed<TcpStream, LengthDelimitedCodec>;

fn request_frame(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn reply_frame(number: u64, reply: Reply) -> Bytes {
    let mut frame = BytesMut::with_capacity(9);
    frame.put_u64(number);
    frame.put_u8(u8::from(reply == Reply::Unavailable));
    frame.freeze()
}

fn parse_reply(mut frame: BytesMut) -> io::Result<(u64, Reply)> {
    let number = frame.try_get_u64()?;
    let reply = if frame.try_get_u8()? == 0 { Reply::Welcome } else { Reply::Unavailable };
    Ok((number, reply))
}

// ===== the server =====

/// Starts a server on a port that the system gives.
async fn serve(health: Health) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept_all(listener, health));
    Ok(address)
}

async fn accept_all(listener: TcpListener, health: Health) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let frames = Framed::new(stream, LengthDelimitedCodec::new());
        tokio::spawn(answer_all(frames, health.clone()));
    }
}

/// Answers the requests of one connection until it ends, each as soon as the server can.
async fn answer_all(frames: Frames, health: Health) -> io::Result<()> {
    let (mut out, mut requests) = frames.split();
    let (replies, mut outbox) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(frame) = outbox.recv().await {
            out.send(frame).await?;
        }
        io::Result::Ok(())
    });
    while let Some(frame) = requests.next().await {
        let number = frame?.try_get_u64()?;
        let (health, replies) = (health.clone(), replies.clone());
        tokio::spawn(async move {
            let is_able = health.is_able_to_answer(number).await;
            let reply = if is_able { Reply::Welcome } else { Reply::Unavailable };
            replies.send(reply_frame(number, reply)).await
        });
    }
    Ok(())
}

// ===== the client =====

/// A client of one connection. Its clones share the connection, and its readiness is real: a place
/// in the queue to the connection is taken by `poll_ready` and used by `call`.
#[derive(Clone, Debug)]
struct Client {
    queue: PollSender<Ask>,
}

#[derive(Debug)]
struct Ask {
    number: u64,
    reply_to: oneshot::Sender<Reply>,
}

impl Client {
    async fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (queue, asks) = mpsc::channel(64);
        tokio::spawn(exchange(Framed::new(stream, LengthDelimitedCodec::new()), asks));
        Ok(Self { queue: PollSender::new(queue) })
    }
}

impl Service<Greeting> for Client {
    type Response = Reply;
    type Error = CallError;
    type Future = ReplyFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.queue.poll_reserve(cx).map_err(|_| CallError::Disconnected)
    }

    fn call(&mut self, Greeting { number }: Greeting) -> ReplyFuture {
        let (reply_to, reply) = oneshot::channel();
        // Where the connection is gone, `reply_to` is dropped, and the reply tells.
        let _ = self.queue.send_item(Ask { number, reply_to });
        ReplyFuture { reply }
    }
}

#[derive(Debug)]
struct ReplyFuture {
    reply: oneshot::Receiver<Reply>,
}

impl Future for ReplyFuture {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(std::pin::Pin::new(&mut self.reply).poll(cx));
        Poll::Ready(reply.map_err(|_| CallError::Disconnected))
    }
}

/// Sends what is asked and hands out what is replied, until the connection or its clients are gone.
async fn exchange(frames: Frames, mut asks: mpsc::Receiver<Ask>) -> io::Result<()> {
    let (mut out, mut replies) = frames.split();
    let mut waiting = HashMap::new();
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(Ask { number, reply_to }) = ask else { return Ok(()) };
                waiting.insert(number, reply_to);
                out.send(request_frame(number)).await?;
            }
            frame = replies.next() => {
                let Some(frame) = frame else { return Ok(()) };
                let (number, reply) = parse_reply(frame?)?;
                if let Some(reply_to) = waiting.remove(&number) {
                    // Whoever asked may have gone away.
                    let _ = reply_to.send(reply);
                }
            }
        }
    }
}
