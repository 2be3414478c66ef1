//! The texts of a request: method, scheme, authority, path. The engine keeps them at any length for as many requests as the
//! guest has handles. So the host refuses a text that is longer than any server takes, before the engine keeps it.

use std::any::Any;

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::http::types::{self as v02, HostOutgoingRequest},
        types::HostOutgoingRequest as Request02,
    },
    p3::{
        Request as Request03,
        bindings::http::types::{self as v03, HostRequest},
    },
};

use crate::policy::Limits;

/// The longest method and the longest scheme.
const MAX_WORD_BYTES: usize = 64;
/// The longest authority: a name of a host has at most 253 bytes.
const MAX_AUTHORITY_BYTES: usize = 1024;
/// The longest path with its query.
const MAX_PATH_BYTES: usize = 8 * 1024;
/// The most bytes of the texts of one request.
pub(crate) const MAX_TEXT_BYTES: usize = 2 * MAX_WORD_BYTES + MAX_AUTHORITY_BYTES + MAX_PATH_BYTES;

/// The interfaces as the engine links them. Another version would be another interface, and leave the engine's without bounds.
const V02: &str = "wasi:http/types@0.2.12";
const V03: &str = "wasi:http/types@0.3.0";

/// The number of times that each text may be set, for as many requests as an attempt may make.
const TIMES: u64 = 2;

/// Counts the bytes of texts that one attempt may still set. A text that is set again is not given back: a request may keep
/// it.
#[derive(Debug)]
pub(crate) struct TextAccount {
    left: u64,
}

impl TextAccount {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            left: texts_of(limits.http_requests),
        }
    }

    /// Counts a text of this length. Returns `false`, and counts nothing, if it is longer than `most` or the account is used up.
    fn take(&mut self, len: usize, most: usize) -> bool {
        if len > most {
            return false;
        }
        let left = self.left.checked_sub(u64::try_from(len).unwrap_or(u64::MAX));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// Returns the most bytes of texts that an attempt can make the host hold: those of as many requests as it has handles, and of
/// as many that are on their way.
pub(crate) fn worst_case(limits: &Limits) -> u64 {
    texts_of(limits.http_requests.min(limits.handles))
}

fn texts_of(requests: u64) -> u64 {
    let each = u64::try_from(MAX_TEXT_BYTES).unwrap_or(u64::MAX);
    requests.saturating_mul(each).saturating_mul(TIMES)
}

/// Returns whether a guest's resource is a request that was not sent.
pub(crate) fn is_request(resource: &dyn Any) -> bool {
    resource.is::<Request02>() || resource.is::<Request03>()
}

/// The answer of the setters.
type Answer = wasmtime::Result<(Result<(), ()>,)>;

/// Links bounded setters in the place of the engine's, which must be linked already.
pub(crate) fn add_to_linker<T: WasiHttpView + 'static>(
    linker: &mut Linker<T>,
    account: fn(&mut T) -> &mut TextAccount,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let added =
        bound_02(&mut linker.instance(V02)?, account).and_then(|()| bound_03(&mut linker.instance(V03)?, account));
    linker.allow_shadowing(false);
    added
}

/// Defines a setter that refuses a text, if there is one, that is longer than `$most`.
macro_rules! setter {
    ($types:ident, $account:ident, $request:ty, $name:literal, $value:ty, $set:path, $text:expr, $most:expr) => {
        $types.func_wrap(
            $name,
            move |mut store, (request, value): (Resource<$request>, $value)| -> Answer {
                let text: fn(&$value) -> Option<&String> = $text;
                let len = text(&value).map_or(0, String::len);
                if !$account(store.data_mut()).take(len, $most) {
                    return Ok((Err(()),));
                }
                Ok(($set(&mut store.data_mut().http(), request, value)?,))
            },
        )?
    };
}

/// The text of a variant's last case.
macro_rules! other {
    ($variant:path) => {
        |value| match value {
            $variant(text) => Some(text),
            _ => None,
        }
    };
}

#[rustfmt::skip]
fn bound_02<T: WasiHttpView + 'static>(types: &mut LinkerInstance<'_, T>, account: fn(&mut T) -> &mut TextAccount) -> wasmtime::Result<()> {
    setter!(types, account, Request02, "[method]outgoing-request.set-method", v02::Method, HostOutgoingRequest::set_method,
        other!(v02::Method::Other), MAX_WORD_BYTES);
    setter!(types, account, Request02, "[method]outgoing-request.set-scheme", Option<v02::Scheme>, HostOutgoingRequest::set_scheme,
        |value| value.as_ref().and_then(other!(v02::Scheme::Other)), MAX_WORD_BYTES);
    setter!(types, account, Request02, "[method]outgoing-request.set-authority", Option<String>, HostOutgoingRequest::set_authority,
        Option::as_ref, MAX_AUTHORITY_BYTES);
    setter!(types, account, Request02, "[method]outgoing-request.set-path-with-query", Option<String>, HostOutgoingRequest::set_path_with_query,
        Option::as_ref, MAX_PATH_BYTES);
    Ok(())
}

#[rustfmt::skip]
fn bound_03<T: WasiHttpView + 'static>(types: &mut LinkerInstance<'_, T>, account: fn(&mut T) -> &mut TextAccount) -> wasmtime::Result<()> {
    setter!(types, account, Request03, "[method]request.set-method", v03::Method, HostRequest::set_method,
        other!(v03::Method::Other), MAX_WORD_BYTES);
    setter!(types, account, Request03, "[method]request.set-scheme", Option<v03::Scheme>, HostRequest::set_scheme,
        |value| value.as_ref().and_then(other!(v03::Scheme::Other)), MAX_WORD_BYTES);
    setter!(types, account, Request03, "[method]request.set-authority", Option<String>, HostRequest::set_authority,
        Option::as_ref, MAX_AUTHORITY_BYTES);
    setter!(types, account, Request03, "[method]request.set-path-with-query", Option<String>, HostRequest::set_path_with_query,
        Option::as_ref, MAX_PATH_BYTES);
    Ok(())
}
