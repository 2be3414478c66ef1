//! How long a page may take to be made: a queue that does not answer ends with a sentence, and not with a page that loads for ever.
//!
//! Invariant: what is looked at has a bound, on a page that updates itself, too. An action has none here: cut off, it would be done or not, and
//! nobody would know. The bound of every request holds for it.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::timeout;

use crate::admin::refused::RefusedRequest;

/// The time of most pages.
pub(super) const PAGE: Duration = Duration::from_secs(20);
/// The time of a page of one message, which is looked for in the queue.
pub(super) const MESSAGE_PAGE: Duration = Duration::from_secs(45);

/// Gives a page so much time.
pub(super) async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    timeout(limit, next.run(request)).await.unwrap_or_else(|_elapsed| {
        let why = format!(
            "the page was not ready within {}: a queue, or the server that has it, does not answer in time; load it again",
            humantime::format_duration(limit)
        );
        RefusedRequest::new(StatusCode::GATEWAY_TIMEOUT, why).into_response()
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::{Router, body::Body, middleware, routing::get};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_never_ready_ends_with_a_sentence_and_an_action_goes_on() {
        let slow = async || {
            tokio::time::sleep(2 * PAGE).await;
            "done"
        };
        let pages = Router::new()
            .route("/never", get(async || pending::<String>().await).post(slow))
            .layer(middleware::from_fn_with_state(PAGE, in_time));
        let pages = TowerToHyperService::new(pages);
        let ask = |method| {
            let request = Request::builder().method(method).uri("/never");
            pages.call(request.body(Body::empty()).unwrap())
        };
        let answer = ask(Method::GET).await.unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        assert!(
            String::from_utf8_lossy(&body).contains("not ready within 20s"),
            "{body:?}"
        );
        assert_eq!(ask(Method::POST).await.unwrap().status(), StatusCode::OK);
    }
}
