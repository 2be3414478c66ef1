//! A form with a file, read piece by piece: first the token, then the file.
//!
//! Invariant: no byte of the file is taken before the token is that of the caller. At most [`UNREAD`] bytes and a piece are in memory; a
//! client has [`TIME`] for all of it and [`SILENCE`] for each part. The name that the client gives the file is not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Body as _;
use multer::{Field, Multipart};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{form::TOKEN, sessions::UiCaller};
use crate::{
    admin::refused::RefusedRequest,
    deploy_desk::{DeployDesk, DeskRefused, StoredComponent},
};
use sandhog_executor::MAX_WASM_BYTES;
use sandhog_queue::printable::chain;

/// The name of the field with the component.
pub(super) const COMPONENT: &str = "component";
/// The longest time for a form.
pub(super) const TIME: Duration = Duration::from_mins(5);
/// The longest time for a part of it.
const SILENCE: Duration = Duration::from_secs(30);
/// The most bytes of a form in which no part begins or ends.
const UNREAD: usize = 256 * 1024;
/// The most bytes that the reader of a form is given at a time, however many come.
const PIECE: usize = 32 * 1024;
/// The most bytes of what is around the file.
const AROUND: usize = 16 * 1024;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 256;
/// How long the rest of a form is read whose answer is there already: most browsers read no answer before they have sent all.
const REST_TIME: Duration = Duration::from_secs(10);

/// Reads a form, and keeps its file.
///
/// # Errors
///
/// The form is not one of the caller, its file is too large or can't be kept, or the client is too slow.
///
/// # Cancel safety
///
/// Dropping the future keeps nothing.
pub(super) async fn take_in(
    request: Request,
    caller: &UiCaller,
    desk: &DeployDesk,
) -> Result<StoredComponent, RefusedRequest> {
    let (parts, body) = request.into_parts();
    let told = body.size_hint().lower();
    let pieces = FormPieces::new(body);
    let taken = timeout(TIME, read(&pieces, &parts.headers, caller, (desk, told))).await;
    let taken = taken.unwrap_or_else(|_elapsed| Err(late(TIME)));
    if taken.is_err() {
        pieces.pass_over_the_rest().await;
    }
    taken
}

async fn read(
    pieces: &FormPieces,
    headers: &HeaderMap,
    caller: &UiCaller,
    (desk, told): (&DeployDesk, u64),
) -> Result<StoredComponent, RefusedRequest> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| {
        let why = "the form has to be multipart/form-data: choose the file on the page of the handler";
        RefusedRequest::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
    })?;
    let mut form = Multipart::new(pieces.clone(), boundary);
    let mut first = field(&mut form, TOKEN).await?;
    let mut token = Vec::new();
    while let Some(piece) = next(first.chunk()).await? {
        if token.len() + piece.len() > MAX_TOKEN_BYTES {
            break;
        }
        token.extend_from_slice(&piece);
    }
    drop(first);
    caller.check_token(&String::from_utf8_lossy(&token))?;
    if told > u64::try_from(MAX_WASM_BYTES + AROUND).unwrap_or(u64::MAX) {
        return Err(DeskRefused::TooLarge.into());
    }
    let mut file = field(&mut form, COMPONENT).await?;
    pieces.went_on();
    let mut incoming = desk.begin().await?;
    while let Some(piece) = next(file.chunk()).await? {
        pieces.went_on();
        incoming.write(&piece).await?;
    }
    drop(file);
    // Behind the file is the end.
    if next(form.next_field()).await?.is_some() {
        return Err(RefusedRequest::bad("the form has more fields than a token and a file"));
    }
    Ok(incoming.finish().await?)
}

async fn field<'f>(form: &mut Multipart<'f>, name: &str) -> Result<Field<'f>, RefusedRequest> {
    let field = next(form.next_field()).await?;
    let expected = field.filter(|field| field.name() == Some(name));
    expected.ok_or_else(|| RefusedRequest::bad(format!("the form has no field {name} at its place")))
}

/// Waits for a part of the form.
async fn next<T>(part: impl Future<Output = multer::Result<T>>) -> Result<T, RefusedRequest> {
    let part = timeout(SILENCE, part).await.map_err(|_elapsed| late(SILENCE))?;
    part.map_err(|error| RefusedRequest::bad(format!("the form did not come to its end: {}", chain(&error))))
}

fn late(limit: Duration) -> RefusedRequest {
    let why = format!("the file was not there within {}", humantime::format_duration(limit));
    RefusedRequest::new(StatusCode::REQUEST_TIMEOUT, why)
}

impl From<DeskRefused> for RefusedRequest {
    fn from(refused: DeskRefused) -> Self {
        let status = match &refused {
            DeskRefused::NoHandler(_) | DeskRefused::Gone => StatusCode::NOT_FOUND,
            DeskRefused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            DeskRefused::Empty => StatusCode::BAD_REQUEST,
            DeskRefused::Link(_)
            | DeskRefused::ReadOnly
            | DeskRefused::NoRight
            | DeskRefused::Manifest(_)
            | DeskRefused::Refused
            | DeskRefused::InPlace
            | DeskRefused::Changed(_) => StatusCode::CONFLICT,
            DeskRefused::Kept(_) | DeskRefused::Staging(_) => StatusCode::INSUFFICIENT_STORAGE,
            DeskRefused::Unread { .. } | DeskRefused::Busy | DeskRefused::Trial(_) | DeskRefused::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, chain(&refused))
    }
}

/// The pieces of a body, which come one at a time: whoever asks for more is told to ask again, so that the reader of the form makes
/// something of each before it takes the next.
#[derive(Clone)]
struct FormPieces(Arc<Mutex<PieceSource>>);

struct PieceSource {
    body: BodyDataStream,
    /// What came, and was not given.
    rest: Bytes,
    /// The last answer was a piece.
    gave: bool,
    /// The bytes since a part of the form began or ended.
    unread: usize,
}

impl FormPieces {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(PieceSource {
            body: body.into_data_stream(),
            rest: Bytes::new(),
            gave: false,
            unread: 0,
        })))
    }

    /// The reader has made something of what came.
    fn went_on(&self) {
        self.0.lock().unread = 0;
    }

    /// Reads what else comes, and drops it.
    async fn pass_over_the_rest(&self) {
        let rest = async {
            let (mut pieces, mut left) = (self.clone(), 2 * MAX_WASM_BYTES);
            while let Some(Ok(piece)) = pieces.next().await {
                self.went_on();
                left = left.saturating_sub(piece.len());
                if left == 0 {
                    return;
                }
            }
        };
        // Whoever sends for longer sees a broken connection.
        drop(timeout(REST_TIME, rest).await);
    }
}

impl Stream for FormPieces {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut source = self.0.lock();
        if std::mem::take(&mut source.gave) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if source.unread > UNREAD {
            return Poll::Ready(Some(Err(io::Error::other("it has a part without an end"))));
        }
        if source.rest.is_empty() {
            match source.body.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(piece))) => source.rest = piece,
                other @ (Poll::Ready(_) | Poll::Pending) => {
                    return other.map(|end| end.map(|piece| piece.map_err(io::Error::other)));
                }
            }
        }
        let bytes = source.rest.len().min(PIECE);
        let piece = source.rest.split_to(bytes);
        source.gave = true;
        source.unread = source.unread.saturating_add(bytes);
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, fs};

    use futures_util::stream;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{admin::ui::sessions::UiSessions, plugin_dir::PluginDir};

    const HEAD: &str = "--edge\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nTOKEN\r\n\
         --edge\r\nContent-Disposition: form-data; name=\"component\"; filename=\"x\"\r\n\r\n";

    /// Sends a form: its beginning with the token of the caller, and then what comes one after the other. Returns the status of the
    /// refusal, if it was one, and the number of files that are left.
    async fn sent(begin: &str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> (Option<u16>, usize) {
        let data = tempfile::tempdir().unwrap();
        let plugins = PluginDir::new(data.path().join("plugins"));
        let desk = DeployDesk::new(plugins, data.path(), CancellationToken::new());
        let caller = UiSessions::default().local(None);
        let begin = Bytes::from(begin.replace("TOKEN", &caller.token));
        let pieces = stream::iter([begin]).chain(pieces).map(Ok::<_, Infallible>);
        let request = Request::builder()
            .header("content-type", "multipart/form-data; boundary=edge")
            .body(Body::from_stream(pieces))
            .unwrap();
        let taken = take_in(request, &caller, &desk).await;
        let status = taken.as_ref().err().map(|refused| refused.status().as_u16());
        drop(taken);
        let files = data.path().join("uploads.tmp");
        (status, fs::read_dir(files).map_or(0, Iterator::count))
    }

    /// So many bytes after each pause, for ever.
    fn every(pause: Duration, bytes: usize) -> impl Stream<Item = Bytes> {
        let piece = Bytes::from(vec![b'x'; bytes]);
        stream::unfold(piece, move |piece| async move {
            sleep(pause).await;
            Some((piece.clone(), piece))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_comes_to_its_end_is_taken() {
        let end = stream::iter([Bytes::from_static(b"bytes"), Bytes::from_static(b"\r\n--edge--\r\n")]);
        assert_eq!(sent(HEAD, end).await, (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_refused_wherever_it_does() {
        for begin in [
            HEAD,
            "",
            "--edge\r\nContent-Dis",
            "--edge\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nTO",
        ] {
            assert_eq!(sent(begin, stream::pending()).await, (Some(408), 0), "{begin}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_for_ever_is_refused() {
        let slow = every(SILENCE.saturating_sub(Duration::from_secs(1)), 1);
        assert_eq!(sent(HEAD, slow).await, (Some(408), 0));
        let fast = every(Duration::ZERO, 1024 * 1024);
        assert_eq!(sent(HEAD, fast).await, (Some(413), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_end_besides_the_file_is_refused_soon() {
        for begin in [
            "",
            "--edge\r\nX-Header: ",
            "--edge\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n",
        ] {
            let (status, files) = sent(begin, every(Duration::ZERO, 16 * 1024)).await;
            assert!(status == Some(400) || status == Some(403), "{begin}: {status:?}");
            assert_eq!(files, 0);
        }
        let half = stream::iter([Bytes::from_static(b"bytes")]);
        assert_eq!(sent(HEAD, half).await, (Some(400), 0), "the form breaks off");
    }
}
