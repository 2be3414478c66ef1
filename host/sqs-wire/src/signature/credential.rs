//! The parts of a signature, as a header or a URL carries them.

use std::time::Duration;

use super::{ALGORITHM, SignedRequest, canonical::decode, timestamp::Timestamp};
use crate::error::{SqsError, SqsErrorCode};

/// The most headers that a signature may name.
const MAX_SIGNED_HEADERS: usize = 100;

/// What a client says about its signature.
#[derive(Debug)]
pub(super) struct SignatureParts {
    pub(super) access_key: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) terminator: String,
    /// The names of the headers that are signed, in lower case.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: String,
    pub(super) time: Timestamp,
    /// How long a presigned request is good. A request with a header is good for the time that clocks may be apart.
    pub(super) expiry: Option<Duration>,
}

fn incomplete(message: impl Into<String>) -> SqsError {
    SqsError::new(SqsErrorCode::IncompleteSignature, message)
}

impl SignatureParts {
    /// Reads the parts from the header, or from the URL if there is no header.
    pub(super) fn of(request: &SignedRequest<'_>) -> Result<Self, SqsError> {
        match header(request, "authorization") {
            Some(authorization) => Self::of_header(request, authorization),
            None if claims_signature(request) => Self::of_url(request.query),
            None => Err(missing()),
        }
    }

    fn of_header(request: &SignedRequest<'_>, authorization: &str) -> Result<Self, SqsError> {
        let (algorithm, rest) = authorization.trim().split_once(' ').ok_or_else(missing)?;
        if algorithm != ALGORITHM {
            return Err(if algorithm.starts_with("AWS") {
                incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'."))
            } else {
                missing()
            });
        }
        let find = |name: &str| {
            let pairs = rest.split(',').filter_map(|pair| pair.trim().split_once('='));
            pairs
                .into_iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let found = ["Credential", "Signature", "SignedHeaders"].map(|name| (name, find(name)));
        let lacking: Vec<_> = found
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| format!("Authorization header requires '{name}' parameter."))
            .collect();
        let [(_, Some(credential)), (_, Some(signature)), (_, Some(signed))] = found else {
            return Err(incomplete(lacking.join(" ")));
        };
        let time = header(request, "x-amz-date")
            .and_then(Timestamp::parse)
            .ok_or_else(|| {
                incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
            })?;
        Self::assemble(&credential, &signed, signature, time)
    }

    fn of_url(query: &str) -> Result<Self, SqsError> {
        let find = |name: &str| {
            parameter(query, name)
                .ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{name}'.")))
        };
        let algorithm = find("X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'.")));
        }
        let time = Timestamp::parse(&find("X-Amz-Date")?)
            .ok_or_else(|| incomplete("X-Amz-Date must be in ISO8601 Basic Format"))?;
        let mut parts = Self::assemble(
            &find("X-Amz-Credential")?,
            &find("X-Amz-SignedHeaders")?,
            find("X-Amz-Signature")?,
            time,
        )?;
        // Without an expiry a URL is good for as long as clocks may be apart.
        parts.expiry = match parameter(query, "X-Amz-Expires") {
            None => None,
            Some(text) => {
                let seconds = text
                    .parse()
                    .map_err(|_| incomplete("X-Amz-Expires should be a number"))?;
                Some(Duration::from_secs(seconds))
            }
        };
        Ok(parts)
    }

    fn assemble(credential: &str, signed: &str, signature: String, time: Timestamp) -> Result<Self, SqsError> {
        let scope: Vec<_> = credential.split('/').collect();
        let [access_key, date, region, service, terminator] = scope.as_slice() else {
            return Err(incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got \
                 '{credential}'"
            )));
        };
        let signed_headers: Vec<_> = signed.split(';').map(str::to_ascii_lowercase).collect();
        if signed_headers.len() > MAX_SIGNED_HEADERS {
            return Err(incomplete("Too many signed headers."));
        }
        Ok(Self {
            access_key: (*access_key).to_owned(),
            date: (*date).to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
            terminator: (*terminator).to_owned(),
            signed_headers,
            signature,
            time,
            expiry: None,
        })
    }
}

/// Returns whether the header or the URL has any part of a signature.
pub(super) fn claims_signature(request: &SignedRequest<'_>) -> bool {
    let in_header = header(request, "authorization").is_some_and(|value| value.trim_start().starts_with("AWS4-"));
    let names = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"];
    in_header || names.iter().any(|name| parameter(request.query, name).is_some())
}

fn missing() -> SqsError {
    SqsError::new(
        SqsErrorCode::MissingAuthenticationToken,
        "Request is missing Authentication Token",
    )
}

fn header<'a>(request: &SignedRequest<'a>, name: &str) -> Option<&'a str> {
    let found = request
        .headers
        .iter()
        .find(|(there, _)| there.eq_ignore_ascii_case(name));
    found.map(|(_, value)| *value)
}

/// Returns a parameter of the URL, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    Some(decode(value))
}
