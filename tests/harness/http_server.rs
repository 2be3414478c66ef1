//! A small HTTP/1.1 server whose answers are asked for by path, the bad ones too, and which tells what it saw.
//!
//! | path | what is answered |
//! | --- | --- |
//! | `/bytes/N` | N bytes |
//! | `/chunked/N` | the same, in pieces of at most 1000 bytes |
//! | `/length` | the number of bytes of the request's body |
//! | `/redirect/URL` | a redirect there |
//! | `/status/N` | that status and no body |
//! | `/busy/N` | 429, and to come again after N seconds |
//! | `/close` | a body, and the end of the connection, which the head announces |
//! | `/head/N` | a head of one field with N bytes |
//! | `/fields/N` | a head of N fields |
//! | `/early` | the answer before the request's body was read |
//! | `/silent` | nothing, ever |
//! | `/pool/N` | `hello` after 20 ms; 503 at once while N others wait for that |
//! | `/stall/N` | a body of N bytes, and then no more of what was announced |
//! | `/drip` | a byte every 10 ms, for ever |
//! | `/endless` | bytes for ever |
//! | `/broken` | what is not HTTP |
//! | anything else | `hello` |

use std::{
    borrow::Cow,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::repository;

/// How long `/pool/N` takes.
const POOL_WORKS_FOR: Duration = Duration::from_millis(20);

/// A server; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Requests that wait for an answer of `/pool/N`.
    pooled: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// Bodies that came to their end.
    bodies: Mutex<Vec<Body>>,
}

#[derive(Debug, Default)]
struct Body {
    length: usize,
    /// Its first bytes; what tests look at is short.
    beginning: Vec<u8>,
}

impl Body {
    const BEGINNING_BYTES_MAX: usize = 1024;

    fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let room = Self::BEGINNING_BYTES_MAX - self.beginning.len();
        self.beginning.extend(bytes.iter().take(room));
    }
}

impl HttpServer {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap()).await.unwrap()
    }

    pub async fn on(address: SocketAddr) -> io::Result<Self> {
        Self::listen(address, None).await
    }

    /// Speaks TLS on a free port of 127.0.0.1, as `localhost`, for those who trust [`authority`].
    pub async fn start_secure() -> Self {
        let pem = |file: &str| fs::read(tls_directory().join(file)).unwrap();
        let chain = CertificateDer::from_pem_slice(&pem("localhost.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem("localhost.key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen("127.0.0.1:0".parse().unwrap(), Some(acceptor))
            .await
            .unwrap()
    }

    async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Seen>::default();
        let task = tokio::runtime::Handle::current().spawn(accept(listener, Arc::clone(&seen), tls));
        Ok(Self {
            address,
            seen,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// The URL of a path on the address itself.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of a path on a name.
    pub fn url_on(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// The heads of all requests.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The lengths of the requests' bodies that were read to their end.
    pub fn bodies(&self) -> Vec<usize> {
        let bodies = self.seen.bodies.lock().unwrap();
        bodies.iter().map(|body| body.length).collect()
    }

    /// The first KiB of each of these.
    pub fn texts(&self) -> Vec<String> {
        let bodies = self.seen.bodies.lock().unwrap();
        let texts = bodies.iter().map(|body| String::from_utf8_lossy(&body.beginning));
        texts.map(Cow::into_owned).collect()
    }
}

/// The file of the certificate that vouches for the secure server. It was made once and expires in a hundred years.
pub fn authority() -> PathBuf {
    tls_directory().join("authority.pem")
}

fn tls_directory() -> PathBuf {
    repository().join("tests/harness/tls")
}

async fn accept(listener: TcpListener, seen: Arc<Seen>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        seen.accepted.fetch_add(1, Ordering::SeqCst);
        seen.open.fetch_add(1, Ordering::SeqCst);
        let (seen, tls) = (Arc::clone(&seen), tls.clone());
        connections.spawn(async move {
            // A connection that the other side cuts is one that has ended.
            match tls {
                None => drop(serve(socket, &seen).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(socket).await {
                        drop(serve(stream, &seen).await);
                    }
                }
            }
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(socket);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.requests.lock().unwrap().push(head.clone());
        let early = path == "/early";
        let mut length = 0;
        if !early {
            let body = body(&mut stream, &head).await?;
            length = body.length;
            seen.bodies.lock().unwrap().push(body);
        }
        if let Some(limit) = path.strip_prefix("/pool/") {
            pool(&mut stream, limit.parse().unwrap(), &seen.pooled).await?;
            continue;
        }
        answer(&mut stream, &path, length).await?;
        if early || path == "/close" {
            return Ok(());
        }
    }
}

async fn body(stream: &mut (impl AsyncBufRead + Unpin), head: &str) -> io::Result<Body> {
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = Body::default();
    if field("transfer-encoding:") != Some("chunked") {
        let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        body.push(&bytes);
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        stream.read_exact(&mut [0; 2]).await?;
        if length == 0 {
            return Ok(body);
        }
        body.push(&bytes);
    }
}

/// As a service that has so many workers and no queue.
async fn pool(stream: &mut (impl AsyncWrite + Unpin), limit: usize, pooled: &AtomicUsize) -> io::Result<()> {
    let is_full = pooled.fetch_add(1, Ordering::SeqCst) >= limit;
    let answer: &[u8] = if is_full {
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    } else {
        tokio::time::sleep(POOL_WORKS_FOR).await;
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    };
    pooled.fetch_sub(1, Ordering::SeqCst);
    stream.write_all(answer).await?;
    stream.flush().await
}

async fn answer(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin), path: &str, received: usize) -> io::Result<()> {
    let (kind, rest) = path.get(1..).unwrap_or_default().split_once('/').unwrap_or((path, ""));
    let number = || rest.parse::<usize>().unwrap();
    let plain = |body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let bytes = match kind {
        "bytes" => plain(&vec![b'b'; number()]),
        "/length" => plain(received.to_string().as_bytes()),
        "chunked" => {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in vec![b'c'; number()].chunks(1000) {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes
        }
        "redirect" => format!("HTTP/1.1 302 Found\r\nLocation: {rest}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        "status" => format!("HTTP/1.1 {rest} Some\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        "busy" => format!("HTTP/1.1 429 Busy\r\nRetry-After: {rest}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        "head" => {
            let field = "f".repeat(number());
            format!("HTTP/1.1 200 OK\r\nX-Field: {field}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }
        "fields" => {
            let fields: Vec<_> = (0..number()).map(|count| format!("X-{count}: f\r\n")).collect();
            let fields = fields.concat();
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").into_bytes()
        }
        "stall" => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}",
            "s".repeat(number())
        )
        .into_bytes(),
        "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        "/silent" => Vec::new(),
        "/drip" | "/endless" => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        "/broken" => b"220 mail.example ESMTP\r\n\r\n".to_vec(),
        _ => plain(b"hello"),
    };
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    match kind {
        "/drip" => loop {
            stream.write_all(b"d").await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        },
        "/endless" => loop {
            stream.write_all(&[b'e'; 8 * 1024]).await?;
        },
        "/silent" | "stall" => {
            // Until the other side goes away.
            while stream.read(&mut [0; 1024]).await? > 0 {}
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        _ => Ok(()),
    }
}
