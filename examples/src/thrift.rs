//! A small Thrift service, written by hand on Volo's building blocks: no compiler is needed.
//!
//! It is what `volo-build` would generate of this:
//!
//! ```thrift
//! service Greeter {
//!   string Greet(1: i64 number)
//! }
//! ```

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use pilota::thrift::{
    TAsyncInputProtocol, TInputProtocol, TLengthProtocol, TMessageIdentifier, TOutputProtocol,
    TStructIdentifier, TType, ThriftException,
};
use tokio::net::TcpListener;
use volo::{
    Layer, Service,
    client::MkClient,
    net::incoming::DefaultIncoming,
    service::{BoxCloneService, BoxService},
};
use volo_thrift::{
    ClientError, EntryMessage, ServerError,
    client::ClientBuilder,
    context::{ClientContext, ServerContext},
    server::Server,
};

/// The callee's name: what policies call the service.
pub const GREETER: &str = "outrigger.examples.Greeter";
const GREET: &str = "Greet";

/// What a caller says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The number of the call.
    pub number: i64,
}

/// What the greeter says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Some kind words.
    pub words: String,
}

/// A message of one field, as Thrift's structs are written and read.
macro_rules! message {
    ($type:ident { $field:ident, $id:literal, $ttype:ident, $read:ident, $write:ident($($by:tt)?), $len:ident }) => {
        impl EntryMessage for $type {
            fn encode<T: TOutputProtocol>(&self, to: &mut T) -> Result<(), ThriftException> {
                to.write_struct_begin(&TStructIdentifier { name: stringify!($type) })?;
                to.write_field_begin(TType::$ttype, $id)?;
                to.$write($($by)? self.$field)?;
                to.write_field_end()?;
                to.write_field_stop()?;
                to.write_struct_end()
            }

            fn decode<T: TInputProtocol>(
                from: &mut T,
                _: &TMessageIdentifier,
            ) -> Result<Self, ThriftException> {
                let mut message = Self::default();
                from.read_struct_begin()?;
                loop {
                    let field = from.read_field_begin()?;
                    match (field.field_type, field.id) {
                        (TType::Stop, _) => break,
                        (TType::$ttype, Some($id)) => message.$field = from.$read()?,
                        (other, _) => drop(from.skip(other)?),
                    }
                    from.read_field_end()?;
                }
                from.read_struct_end()?;
                Ok(message)
            }

            async fn decode_async<T: TAsyncInputProtocol>(
                from: &mut T,
                _: &TMessageIdentifier,
            ) -> Result<Self, ThriftException> {
                let mut message = Self::default();
                from.read_struct_begin().await?;
                loop {
                    let field = from.read_field_begin().await?;
                    match (field.field_type, field.id) {
                        (TType::Stop, _) => break,
                        (TType::$ttype, Some($id)) => message.$field = from.$read().await?,
                        (other, _) => from.skip(other).await?,
                    }
                    from.read_field_end().await?;
                }
                from.read_struct_end().await?;
                Ok(message)
            }

            fn size<T: TLengthProtocol>(&self, of: &mut T) -> usize {
                of.struct_begin_len(&TStructIdentifier { name: stringify!($type) })
                    + of.field_begin_len(TType::$ttype, Some($id))
                    + of.$len($($by)? self.$field)
                    + of.field_end_len()
                    + of.field_stop_len()
                    + of.struct_end_len()
            }
        }
    };
}

message!(Greeting { number, 1, I64, read_i64, write_i64(), i64_len });
message!(Reply { words, 0, Binary, read_string, write_string(&), string_len });

type Transport = BoxCloneService<ClientContext, Greeting, Option<Reply>, ClientError>;

/// Asks a greeter.
#[derive(Clone)]
pub struct GreeterClient {
    client: volo_thrift::Client<Transport>,
}

/// Makes a [`GreeterClient`] of what Volo's builder builds.
#[derive(Clone, Copy, Debug)]
pub struct MkGreeter;

impl MkClient<volo_thrift::Client<Transport>> for MkGreeter {
    type Target = GreeterClient;

    fn mk_client(&self, client: volo_thrift::Client<Transport>) -> GreeterClient {
        GreeterClient { client }
    }
}

impl std::fmt::Debug for GreeterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GreeterClient").finish_non_exhaustive()
    }
}

impl GreeterClient {
    /// Greets.
    ///
    /// # Errors
    ///
    /// What the greeter answered, or why it was not asked.
    pub async fn greet(&self, number: i64) -> Result<String, ClientError> {
        let mut cx = self.client.make_cx(GREET, false);
        let reply = self.client.call(&mut cx, Greeting { number }).await?;
        Ok(reply.unwrap_or_default().words)
    }
}

/// A client of the greeter at `address`, with `layer` around its calls.
pub fn client<L>(address: SocketAddr, layer: L) -> GreeterClient
where
    L: Layer<Transport>,
    L::Service: Service<ClientContext, Greeting, Response = Option<Reply>, Error = ClientError>
        + Clone
        + Send
        + Sync
        + 'static,
{
    ClientBuilder::new(GREETER, MkGreeter).address(address).layer_outer(layer).build()
}

/// What a greeter does with a call, as Volo's server wants it.
#[derive(Clone, Debug)]
struct Greeter<F> {
    attend: F,
}

impl<F, Fut> Service<ServerContext, Greeting> for Greeter<F>
where
    F: Fn(i64) -> Fut + Sync,
    Fut: Future<Output = Result<String, ServerError>> + Send,
{
    type Response = Reply;
    type Error = ServerError;

    async fn call(&self, _: &mut ServerContext, asked: Greeting) -> Result<Reply, ServerError> {
        Ok(Reply { words: (self.attend)(asked.number).await? })
    }
}

/// Starts a greeter that answers with `attend`, behind `layer`, on a port that the system gives.
///
/// # Errors
///
/// When the system gives none.
pub async fn serve<F, Fut, L>(attend: F, layer: L) -> io::Result<SocketAddr>
where
    F: Fn(i64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, ServerError>> + Send + 'static,
    L: Layer<BoxService<ServerContext, Greeting, Reply, ServerError>> + Send + 'static,
    L::Service: Service<ServerContext, Greeting, Response = Reply, Error = ServerError>
        + Send
        + Sync
        + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = Server::new(Greeter { attend }).layer_front(layer);
    tokio::spawn(async move { server.run(DefaultIncoming::from(listener)).await });
    Ok(address)
}
