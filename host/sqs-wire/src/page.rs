//! The tokens with which a client asks for the next page of a list. A token has the key at which the page before ended.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::error::SqsError;

/// Returns the token for what comes after `key`.
pub fn encode_token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Returns the key of a token.
///
/// # Errors
///
/// `InvalidParameterValue` for a token that this server did not make.
pub fn decode_token(token: &str) -> Result<String, SqsError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| SqsError::invalid_value(token, "NextToken", "The token is not valid."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_key_and_others_are_refused() {
        assert_eq!(decode_token(&encode_token("orders.fifo")).unwrap(), "orders.fifo");
        for token in ["!", "a", "_w"] {
            assert!(decode_token(token).is_err(), "{token}");
        }
    }
}
