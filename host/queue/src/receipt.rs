//! Receipts: the names of deliveries.

use std::sync::Arc;

/// The right to extend or settle one delivery. A later receive of the same message makes it stale.
///
/// A receipt is a pair of numbers or a text, whichever its queue chose: a queue that needs to know more of a delivery (its
/// connection, its generation) writes that into the text, or keeps it in a table of its own under the receipt. Clones share
/// the text, so such a table may hold a [`Weak`](std::sync::Weak) of it, which ends with the last clone. A receipt that left
/// the process and came back is equal to the first one and does not share its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(ReceiptForm);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ReceiptForm {
    Numbered { row: u64, delivery: u64 },
    Text(Arc<str>),
}

impl Receipt {
    /// Makes a receipt of a queue that numbers its messages (`row`) and its deliveries (`delivery`).
    pub fn numbered(row: u64, delivery: u64) -> Self {
        Self(ReceiptForm::Numbered { row, delivery })
    }

    /// Makes a receipt of a queue whose server names deliveries by a text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self(ReceiptForm::Text(text.into()))
    }

    /// Returns the numbers of the receipt, `(row, delivery)`, if it has numbers.
    pub fn as_numbered(&self) -> Option<(u64, u64)> {
        match self.0 {
            ReceiptForm::Numbered { row, delivery } => Some((row, delivery)),
            ReceiptForm::Text(_) => None,
        }
    }

    /// Returns the text of the receipt, if it has a text.
    pub fn as_text(&self) -> Option<&str> {
        self.as_shared_text().map(|text| &**text)
    }

    /// Returns the text of the receipt as its clones share it, if it has a text.
    pub fn as_shared_text(&self) -> Option<&Arc<str>> {
        match &self.0 {
            ReceiptForm::Numbered { .. } => None,
            ReceiptForm::Text(text) => Some(text),
        }
    }
}
