//! Who makes a request, and what the one may: as the guard found out, and as the routes and the audit lines know it.
//!
//! Invariant: only the guard, and the dashboard behind its own door, put a caller on a request. A client can't.

use axum::http::{Method, StatusCode};

use super::refused::RefusedRequest;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerRight {
    /// Everything.
    All,
    /// Look, and change nothing.
    Look,
}

/// The one who makes a request. A request carries it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The word for an audit line.
    pub(crate) who: String,
    pub(crate) right: CallerRight,
    /// What the configuration hides is hidden from this caller.
    pub(crate) sees_redacted: bool,
    /// The caller is a person in front of a page: what the one sends leaves an audit line, too.
    pub(crate) is_person: bool,
}

impl Caller {
    /// The owner of the secret of the listener, or anybody on this machine if there is no secret.
    pub(crate) fn owner(has_secret: bool) -> Self {
        Self {
            who: if has_secret { "secret" } else { "local" }.to_owned(),
            right: CallerRight::All,
            sees_redacted: false,
            is_person: false,
        }
    }

    /// A caller with the read-only secret.
    pub(crate) fn reader() -> Self {
        Self {
            who: "read-only secret".to_owned(),
            right: CallerRight::Look,
            sees_redacted: true,
            is_person: false,
        }
    }

    /// Refuses a request that may change something, if the caller may only look.
    pub(crate) fn check(&self, method: &Method) -> Result<(), RefusedRequest> {
        match self.right {
            CallerRight::All => Ok(()),
            CallerRight::Look if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => Ok(()),
            CallerRight::Look => Err(RefusedRequest::new(
                StatusCode::FORBIDDEN,
                "the read-only secret may look and change nothing: this needs the secret of the listener",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_may_look_and_change_nothing() {
        let reader = Caller::reader();
        assert_eq!(reader.check(&Method::GET).map_err(|why| why.status()), Ok(()));
        for method in [Method::POST, Method::DELETE, Method::PUT, Method::PATCH] {
            let refused = reader.check(&method).unwrap_err();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method}");
            assert_eq!(
                Caller::owner(true).check(&method).map_err(|why| why.status()),
                Ok(()),
                "{method}"
            );
        }
    }
}
