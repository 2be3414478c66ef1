//! `sqs-server 127.0.0.1:0`: an Amazon SQS server in memory, of the crates of Rustack. It speaks the protocol of all current
//! SDKs, takes any credentials, and keeps nothing.
//!
//! The first line that it prints is `listening on ADDRESS`.

#![expect(clippy::print_stdout, reason = "whoever started it reads the address there")]

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rustack_sqs_core::{config::SqsConfig, handler::RustackSqsHandler, provider::RustackSqs};
use rustack_sqs_http::service::{SqsHttpConfig, SqsHttpService};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// After a failure to accept, which may well be one that lasts: no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An Amazon SQS server in memory, for tests and for trying things out without an account.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen. Port 0 takes a free one.
    #[arg(default_value = "127.0.0.1:9325")]
    address: SocketAddr,
    /// End when the standard input ends, so that the server never outlives the process that holds the other end.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.address)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.address))?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    std::io::stdout().flush()?;

    let stdin_closed = arguments.until_stdin_closes.then(watch_stdin);
    let until = async {
        match stdin_closed {
            // It makes no difference whether it was closed or broke.
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serve(listener, service(address)) => {}
        () = until => {}
    }
    Ok(())
}

/// Tells when the standard input ends. A thread reads it, since a blocking read of the runtime would hold up its end.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (ended, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 1024];
        while stdin.read(&mut ignored).is_ok_and(|length| length > 0) {}
        drop(ended);
    });
    receiver
}

fn service(address: SocketAddr) -> SqsHttpService<RustackSqsHandler> {
    let provider = RustackSqs::new(SqsConfig {
        host: address.ip().to_string(),
        port: address.port(),
        ..SqsConfig::default()
    });
    let handler = RustackSqsHandler::new(Arc::new(provider));
    SqsHttpService::new(Arc::new(handler), SqsHttpConfig::default())
}

/// Serves until it is dropped, and ends all connections then.
async fn serve(listener: TcpListener, service: SqsHttpService<RustackSqsHandler>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                drop(stream.set_nodelay(true));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(async { drop(connection.await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
