//! Verifying signatures of AWS, version 4: in the header `Authorization`, and in the URL of a presigned request.
//!
//! A verifier must follow the headers that the client signed, which no signer does, so that this is no work for the signer of
//! the SDK; the tests verify what that one signed. The text to sign is in `signature/canonical.rs`, times are in
//! `signature/timestamp.rs`.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use self::{
    canonical::{PlusReading, canonical_request, hex, sha256},
    timestamp::Timestamp,
};
use crate::error::{SqsError, SqsErrorCode};

mod canonical;
mod credential;
mod timestamp;

use credential::SignatureParts;

/// How far the clocks of client and server may be apart.
const MAX_SKEW: Duration = Duration::from_mins(15);
/// How long a presigned request may be good.
const MAX_EXPIRY: Duration = Duration::from_hours(7 * 24);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "sqs";
const TERMINATOR: &str = "aws4_request";
/// Headers that say what a request does or when: whoever sends them must have signed them.
const MUST_BE_SIGNED: [&str; 4] = ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];

/// What of a request a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The method, such as `POST`.
    pub method: &'a str,
    /// The path, as the client sent it.
    pub path: &'a str,
    /// What comes after `?` in the URL, as the client sent it.
    pub query: &'a str,
    /// The headers. Their names may be of any case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Whose signature a request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCaller {
    /// The access key.
    pub access_key: String,
    /// The region that the client signed for. Any is taken.
    pub region: String,
}

/// Returns whether a request claims to have a signature of AWS, right or wrong, whole or in parts.
pub fn is_signed(request: &SignedRequest<'_>) -> bool {
    credential::claims_signature(request)
}

/// Verifies the signature of a request. `secret_of` returns the secret of an access key, `now` is the time of the server.
///
/// # Errors
///
/// The error that AWS answers: `MissingAuthenticationToken`, `IncompleteSignature`, `InvalidClientTokenId` for a key that is
/// not known, `SignatureDoesNotMatch` for a signature that is not that of the request, that is of more than 15 minutes ago
/// or ahead, or that is for another service, and `RequestExpired` for a presigned request whose time is over.
pub fn verify(
    request: &SignedRequest<'_>,
    now: SystemTime,
    secret_of: impl FnOnce(&str) -> Option<String>,
) -> Result<VerifiedCaller, SqsError> {
    let parts = SignatureParts::of(request)?;
    check_signed_headers(request, &parts)?;
    check_scope(&parts)?;
    check_time(&parts, now)?;
    let secret = secret_of(&parts.access_key).ok_or_else(|| {
        SqsError::new(
            SqsErrorCode::InvalidClientTokenId,
            "The security token included in the request is invalid.",
        )
    })?;
    let key = signing_key(&secret, &parts);
    let is_signature = |reading| {
        let expected = signature(&key, request, &parts, reading);
        bool::from(expected.as_bytes().ct_eq(parts.signature.as_bytes()))
    };
    // Clients disagree on whether a plus in a URL is one or is a space.
    let matches = is_signature(PlusReading::Space) || (request.query.contains('+') && is_signature(PlusReading::Plus));
    if !matches {
        return Err(mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
             and signing method. Consult the service documentation for details.",
        ));
    }
    Ok(VerifiedCaller {
        access_key: parts.access_key,
        region: parts.region,
    })
}

fn mismatch(message: impl Into<String>) -> SqsError {
    SqsError::new(SqsErrorCode::SignatureDoesNotMatch, message)
}

fn check_signed_headers(request: &SignedRequest<'_>, parts: &SignatureParts) -> Result<(), SqsError> {
    let is_there = |name: &str| {
        request
            .headers
            .iter()
            .any(|(there, _)| there.eq_ignore_ascii_case(name))
    };
    for name in MUST_BE_SIGNED {
        let is_signed = parts.signed_headers.iter().any(|signed| signed == name);
        if !is_signed && (name == "host" || is_there(name)) {
            return Err(mismatch(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    Ok(())
}

fn check_scope(parts: &SignatureParts) -> Result<(), SqsError> {
    if parts.service != SERVICE {
        return Err(mismatch(format!(
            "Credential should be scoped to correct service: '{SERVICE}'. "
        )));
    }
    if parts.terminator != TERMINATOR {
        return Err(mismatch(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
            parts.terminator
        )));
    }
    let time = &parts.time;
    if parts.date != time.date() {
        return Err(mismatch(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from \
             '{time}'.",
            parts.date,
            time.date(),
        )));
    }
    Ok(())
}

fn check_time(parts: &SignatureParts, now: SystemTime) -> Result<(), SqsError> {
    let now = Timestamp::of(now);
    let time = &parts.time;
    let earliest = now.minus(MAX_SKEW);
    let latest = now.plus(MAX_SKEW);
    if *time > latest {
        return Err(mismatch(format!(
            "Signature not yet current: {time} is still later than {latest} ({now} + 15 min.)"
        )));
    }
    match parts.expiry {
        Some(expiry) if time.plus(expiry.min(MAX_EXPIRY)) < now => {
            Err(SqsError::new(SqsErrorCode::RequestExpired, "Request has expired."))
        }
        None if *time < earliest => Err(mismatch(format!(
            "Signature expired: {time} is now earlier than {earliest} ({now} - 15 min.)"
        ))),
        _ => Ok(()),
    }
}

/// Returns the keyed hash of a message. A key of this kind may be of any length.
fn keyed_hash(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    hash.update(message);
    hash.finalize().into_bytes().to_vec()
}

fn signing_key(secret: &str, parts: &SignatureParts) -> Vec<u8> {
    let scope = [&parts.date, &parts.region, &parts.service, &parts.terminator];
    let start = format!("AWS4{secret}").into_bytes();
    scope.iter().fold(start, |key, part| keyed_hash(&key, part.as_bytes()))
}

fn signature(key: &[u8], request: &SignedRequest<'_>, parts: &SignatureParts, reading: PlusReading) -> String {
    let canonical = canonical_request(request, &parts.signed_headers, reading);
    let SignatureParts {
        time,
        date,
        region,
        service,
        terminator,
        ..
    } = parts;
    let hash = sha256(canonical.as_bytes());
    let text = format!("{ALGORITHM}\n{time}\n{date}/{region}/{service}/{terminator}\n{hash}");
    hex(&keyed_hash(key, text.as_bytes()))
}

#[cfg(test)]
mod tests;
